"""Writes messages into a directory, for development and for tests of the whole path."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from providers.base import Backend, ConfigField, OutboundMessage, SendResult
from providers.exceptions import BadSettings, Misconfigured, TemporaryFailure

_UNSAFE = re.compile(r"[^A-Za-z0-9-]")


class FileBackend(Backend):
    """One `.eml` per attempt with the exact bytes, and beside it a `.json` with the envelope.

    The file name is made of message id and attempt id, so that nothing is overwritten and an attempt that is
    repeated writes the same file again. Who waits for the `.eml` finds the `.json` already there.
    """

    type = "file"
    config_fields = (
        ConfigField("directory", "Directory", required=True, help="Absolute path; made if it does not exist."),
    )
    takes_raw = True
    sandbox = True
    idempotent = True

    def __init__(self, config: Mapping[str, Any], *, timeout: float = 30.0) -> None:
        super().__init__(config, timeout=timeout)
        self._directory = Path(self.config["directory"])
        if not self._directory.is_absolute():
            raise BadSettings({"directory": "must be an absolute path"})

    def send(self, message: OutboundMessage) -> SendResult:
        name = "_".join(_UNSAFE.sub("-", part) for part in (message.message_id, message.idempotency_key))
        envelope = {
            "message": message.message_id,
            "attempt": message.idempotency_key,
            "mail_from": message.mail_from,
            "recipients": message.recipients,
            "smtputf8": message.smtputf8,
            "size": len(message.raw),
            "written_at": datetime.now(UTC).isoformat(),
        }
        with self._writing():
            self._directory.mkdir(parents=True, exist_ok=True)
            self._write(f"{name}.json", json.dumps(envelope, ensure_ascii=False, indent=2).encode() + b"\n")
            self._write(f"{name}.eml", message.raw)
            self._sync_directory()
        return SendResult.all_delivered(message.recipients, f"{name}.eml", text=f"Written to {name}.eml.")

    def check_connection(self) -> str:
        """Writes an empty file and takes it away."""
        with self._writing():
            self._directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._directory):
                pass
        return "The directory can be written to."

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Raises Misconfigured or TemporaryFailure for what the file system says."""
        try:
            yield
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            raise Misconfigured(f"Cannot write to the directory: {error.strerror}.", code="not_writable") from error
        except OSError as error:
            raise TemporaryFailure(f"Writing failed: {error.strerror}.", code="write_failed") from error

    def _write(self, name: str, content: bytes) -> None:
        handle, temporary = tempfile.mkstemp(dir=self._directory, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._directory / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _sync_directory(self) -> None:
        """The names are on disk too before anybody says delivered."""
        handle = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
