"""The octets of a message as they are stored, for those who may read bodies; each look is in the audit (ADM-4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import structlog
from django.http import StreamingHttpResponse
from rest_framework import exceptions, status
from rest_framework.negotiation import DefaultContentNegotiation

from accounts import audit
from accounts.api.errors import Unavailable
from accounts.models import User
from delivery import store
from delivery.exceptions import BodyNotFound, StoreUnavailable
from delivery.models import Message

log = structlog.get_logger(__name__)

_BLOCK = 64 * 1024


class Gone(exceptions.APIException):
    status_code = status.HTTP_410_GONE
    default_detail = "The body of this message was deleted when its days were over."
    default_code = "body_deleted"


class AnyType(DefaultContentNegotiation):
    """Errors are JSON whatever the client would like to have."""

    def select_renderer(self, request, renderers, format_suffix=None):  # type: ignore[no-untyped-def]
        return renderers[0], renderers[0].media_type


def opened(message: Message) -> BinaryIO:
    """Its octets from the first, to be closed by the caller. Raises Gone and Unavailable."""
    if message.body_deleted_at is not None:
        raise Gone
    try:
        return store.open(message.store_key)
    except BodyNotFound as error:
        raise Gone("The body of this message is not in the store.", "body_missing") from error
    except StoreUnavailable as error:
        raise unanswered() from error


def unanswered() -> Unavailable:
    """What is told when the store fails."""
    return Unavailable("The message store does not answer; try again.", "store_unavailable")


def answer(who: User | str, ip: str | None, message: Message) -> StreamingHttpResponse:
    """The message as a download, a block at a time, looked at by `who`. Raises Gone and Unavailable."""
    stream = opened(message)
    try:
        audit.record(who, "message.body_viewed", message, ip=ip)
    except BaseException:
        stream.close()
        raise
    return StreamingHttpResponse(
        _blocks(stream, str(message.pk)),
        content_type="message/rfc822",
        headers={
            "Content-Disposition": f'attachment; filename="{message.pk}.eml"',
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cache-Control": "no-store",
        },
    )


def _blocks(stream: BinaryIO, message_id: str) -> Iterator[bytes]:
    with stream:
        try:
            while block := stream.read(_BLOCK):
                yield block
        except (StoreUnavailable, OSError):
            # The connection is cut: what was sent is not the whole.
            log.warning("body not read to its end", message_id=message_id)
            raise
