"""Attachments by pointer: an object of the bucket for them, or an https URL of the Internet (AMQP-1).

What they hold is fetched before the message is accepted, so that all of it is durable when its publisher hears of it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

import boto3
import botocore.config
import botocore.exceptions
import urllib3
from urllib3.exceptions import HTTPError

from delivery.exceptions import Deferred, Rejected
from delivery.letter import Limits
from delivery.spool import Spool
from providers import guarded
from relay.ingest.config import Config

REDIRECTS = 3
_MOVED = {301, 302, 303, 307, 308}
_GONE = {404, 410}
_AGAIN = {408, 421, 423, 425, 429}
_CHUNK = 128 * 1024
_WAIT = 5.0  # seconds for one step of a download; the whole of it is bounded by FETCH_TIMEOUT

Chunks = Iterator[bytes]


class Fetcher:
    """Brings what pointers of one tenant name. Safe to use from several threads."""

    def __init__(self, config: Config, limits: Limits, tenant: str) -> None:
        self._config = config
        self._limits = limits
        self._prefix = f"{tenant}/"
        self._pools = guarded.pools(private=config.private_networks)
        self._s3: Any = None

    def fetch(self, where: str, size: int | None) -> Spool:
        """What lies there, which whoever asked closes. `size` is what it has to have, None for any.

        Raises Rejected when it can never be had, Deferred when it cannot be had now.
        """
        if size is not None:
            self._limits.check_size(size)
        until = time.monotonic() + self._config.fetch_timeout
        open_ = self._https if where[:6].lower() == "https:" else self._object
        spool = self._limits.spool()
        try:
            with open_(where, until) as chunks:
                self._take(chunks, spool, until)
            if size is not None and spool.size != size:
                text = f"What urlOrId names has {spool.size:,} octets, not {size:,}."
                raise Rejected(text, code="size_mismatch", status="5.6.0")
        except BaseException:
            spool.close()
            raise
        return spool

    def _take(self, chunks: Chunks, spool: Spool, until: float) -> None:
        for chunk in chunks:
            spool.write(chunk)
            self._limits.check_size(spool.size)
            if spool.overfull:
                _spill(spool)
            if time.monotonic() > until:
                break
        if spool.on_disk:
            _spill(spool)
        if time.monotonic() > until:  # and may have been cut off
            _later("took too long")

    @contextlib.contextmanager
    def _https(self, url: str, until: float) -> Iterator[Chunks]:
        # Each step has its own time limit; together they may take longer than that of the whole.
        cut = guarded.Cut()
        guarded.cut_by(cut)
        timer = threading.Timer(max(0.0, until - time.monotonic()), cut)
        timer.daemon = True
        timer.start()
        try:
            with contextlib.closing(self._answer(url, until)) as answer:
                yield _pieces(answer)
        except guarded.PrivateAddress:
            _never("attachment_refused", "leads to a private network")
        except (HTTPError, OSError) as error:
            _later(type(error).__name__)
        finally:
            timer.cancel()

    def _answer(self, url: str, until: float) -> urllib3.BaseHTTPResponse:
        for _ in range(REDIRECTS + 1):
            _check_url(url)
            answer = self._pools.request(
                "GET",
                url,
                headers={"User-Agent": "smtpproxy", "Accept-Encoding": "identity"},
                timeout=urllib3.Timeout(connect=_WAIT, read=_WAIT),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            if answer.status == 200 and answer.headers.get("Content-Encoding", "identity") == "identity":
                return answer
            answer.close()
            if answer.status not in _MOVED:
                _refuse(answer.status)
            if time.monotonic() > until:
                _later("took too long")
            url = _moved_to(url, answer.headers.get("Location", ""))
        raise _refusal("attachment_refused", "leads through too many redirects")

    @contextlib.contextmanager
    def _object(self, where: str, _until: float) -> Iterator[Chunks]:
        bucket, key = self._place(where)
        try:
            body = self._client().get_object(Bucket=bucket, Key=key)["Body"]
            with contextlib.closing(body):
                yield iter(lambda: body.read(_CHUNK), b"")
        except botocore.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                _never("attachment_not_found", "is not in the bucket")
            _later(str(error.response.get("Error", {}).get("Code")))
        except (botocore.exceptions.BotoCoreError, HTTPError, OSError) as error:
            _later(type(error).__name__)

    def _place(self, where: str) -> tuple[str, str]:
        """Bucket and key; only what is under the tenant's own prefix."""
        bucket, key = self._config.s3_bucket, where
        if where[:5].lower() == "s3://":
            bucket, _, key = where[5:].partition("/")
        elif "://" in where:
            _never("attachment_refused", "is neither an https URL nor a key of the bucket for attachments")
        if not self._config.s3_bucket or bucket != self._config.s3_bucket:
            _never("attachment_refused", "is not in the bucket for attachments")
        if not key.startswith(self._prefix) or not all(part not in ("", ".", "..") for part in key.split("/")):
            _never("attachment_refused", f"is not under {self._prefix} of the bucket for attachments")
        return bucket, key

    def _client(self) -> Any:
        if self._s3 is None:
            self._s3 = boto3.session.Session().client(
                "s3",
                region_name=self._config.s3_region or None,
                endpoint_url=self._config.s3_endpoint or None,
                config=botocore.config.Config(
                    connect_timeout=_WAIT, read_timeout=_WAIT, retries={"total_max_attempts": 1}
                ),
            )
        return self._s3


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        _never("attachment_refused", "is not a URL")
    if parts.scheme.lower() != "https" or not parts.hostname:
        _never("attachment_refused", "leads to what is no https URL")
    if parts.username is not None or parts.password is not None:
        _never("attachment_refused", "holds a user name or a password")


def _spill(spool: Spool) -> None:
    try:
        spool.spill()
    except OSError as error:
        text = "There is no room for what urlOrId names."
        raise Deferred(text, code="no_room", status="4.3.1") from error


def _moved_to(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        _never("attachment_refused", "leads to what is no URL")


def _pieces(answer: urllib3.BaseHTTPResponse) -> Chunks:
    read: Callable[[int], bytes] = answer.read1
    return iter(lambda: read(_CHUNK), b"")


def _refuse(status: int) -> NoReturn:
    if status in _GONE:
        _never("attachment_not_found", f"is not there (HTTP {status})")
    if status in _AGAIN or status >= 500:
        _later(f"HTTP {status}")
    _never("attachment_refused", f"is not given to us (HTTP {status})")


def _refusal(code: str, what: str) -> Rejected:
    return Rejected(f"What urlOrId names {what}.", code=code, status="5.6.0")


def _never(code: str, what: str) -> NoReturn:
    raise _refusal(code, what) from None


def _later(why: str) -> NoReturn:
    text = f"What urlOrId names could not be fetched: {why}."
    raise Deferred(text, code="attachment_unreachable", status="4.4.1") from None
