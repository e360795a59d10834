"""Message bodies in an S3 bucket, Amazon's or a compatible server's (STO-3). Apart, because boto3 costs memory and
time that a process with a local store need not spend."""

from __future__ import annotations

import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from io import SEEK_END
from typing import Any, BinaryIO, cast

from botocore.config import Config
from botocore.exceptions import ClientError
from django.conf import settings
from django.utils.deconstruct import deconstructible
from storages.backends.s3 import S3Storage

from delivery import packs
from delivery.draft import UNKNOWN_SIZE, Incomplete
from delivery.submission import Body

PARALLEL = 16
"""Uploads of one batch that run at once; each waits for the network most of the time."""
IN_MEMORY = 1024 * 1024
CHUNK = 1024 * 1024


@deconstructible(path="delivery.storage_s3.MessageS3Storage")
class MessageS3Storage(S3Storage):
    """One object per message. A missing object is FileNotFoundError; a missing bucket is not, since that is a fault
    of ours that must not look like lost mail. Credentials come from AWS's standard chain.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._client_lock = threading.Lock()
        self._shared: Any = None

    def get_default_settings(self) -> dict[str, Any]:
        wait = float(settings.STORAGE_TIMEOUT)
        return {
            **super().get_default_settings(),
            "file_overwrite": True,
            "default_acl": None,
            "gzip": False,
            "client_config": Config(
                connect_timeout=min(5.0, wait),
                read_timeout=wait,
                retries={"mode": "standard", "total_max_attempts": 3},
                max_pool_connections=50,
                # Servers that are not Amazon's often know no checksums but the ones they were asked for.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        }

    @property
    def client(self) -> Any:
        """The S3 client of this process: clients may be shared by threads, and making one takes half a second."""
        with self._client_lock:
            if self._shared is None:
                self._shared = self.connection.meta.client
            return self._shared

    def keys_for(self, messages: Sequence[tuple[uuid.UUID, int]]) -> list[str]:
        """An object for each: uploads side by side cost no more than one."""
        return [packs.key_for(message_id) for message_id, _ in messages]

    def save_many(self, items: Sequence[tuple[str, Body]]) -> list[Exception | None]:
        """Upload bodies side by side; None for each that the service has confirmed."""
        if len(items) == 1:
            return [self._upload(*items[0])]
        with ThreadPoolExecutor(min(PARALLEL, len(items)), "store-upload") as pool:
            return list(pool.map(lambda item: self._upload(*item), items))

    def _upload(self, key: str, body: Body) -> Exception | None:
        try:
            with body.open() as stream:
                if stream.seekable():
                    self._upload_file(key, stream, body.size)
                else:
                    with tempfile.SpooledTemporaryFile(IN_MEMORY) as copy:
                        shutil.copyfileobj(stream, copy, CHUNK)
                        copy.seek(0)
                        self._upload_file(key, cast(BinaryIO, copy), body.size)
        except Exception as error:  # noqa: BLE001 - each body has its own outcome
            return error
        return None

    def _upload_file(self, key: str, file: BinaryIO, size: int) -> None:
        """From where it stands; a file that can be rewound is one whose upload can be tried again."""
        start = file.tell()
        length = file.seek(0, SEEK_END) - start
        if size not in (length, UNKNOWN_SIZE):
            raise Incomplete(f"{length} octets of {size}")
        file.seek(start)
        self.client.put_object(Bucket=self.bucket_name, Key=self._object(key), Body=file)

    def open_stream(self, key: str) -> BinaryIO:
        """A local copy of the object, fetched whole, so that a slow reader holds no connection."""
        copy = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - the caller closes it
        try:
            shutil.copyfileobj(self._fetch(key), copy, CHUNK)
            copy.seek(0)
        except BaseException:
            copy.close()
            raise
        return cast(BinaryIO, copy)

    def read_bytes(self, key: str) -> bytes:
        return cast(bytes, self._fetch(key).read())

    def _fetch(self, key: str) -> Any:
        try:
            return self.client.get_object(Bucket=self.bucket_name, Key=self._object(key))["Body"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "NoSuchKey":
                raise FileNotFoundError(key) from None
            raise

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket_name, Key=self._object(name))

    def pages(self, older_than: datetime | None = None, start: str = "") -> Iterator[list[str]]:
        """Keys in ascending order, up to a thousand at a time; `older_than` leaves out what was written since, and
        keys below `start` are not fetched."""
        prefix = self._object("")
        listing = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket_name, Prefix=prefix, **({"StartAfter": prefix + start} if start else {})
        )
        for page in listing:
            yield [
                entry["Key"].removeprefix(prefix)
                for entry in page.get("Contents", ())
                if older_than is None or entry["LastModified"] < older_than
            ]

    def tidy(self) -> None:
        """Nothing to do: an upload that breaks off leaves nothing."""

    def _object(self, key: str) -> str:
        return f"{self.location.strip('/')}/{key}" if self.location.strip("/") else key
