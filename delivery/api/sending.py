"""`POST /messages`: a message as JSON or as raw MIME, accepted as by SMTP (API-2).

What is asked is read here, `delivery.intake` decides, and answers only once the message is durable.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.http import UnreadablePostError
from django.urls import reverse
from django.utils import timezone
from django.utils.http import parse_header_parameters
from rest_framework import exceptions, status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.views import client_ip
from accounts.api_keys import KeyIdentity
from accounts.ids import uuid7
from delivery import intake, mime, schedule, strict_json
from delivery.api import sending_json, sending_mime
from delivery.api.refusals import KEY_REUSED, Refused
from delivery.exceptions import Deferred, NotAccepted, Rejected
from delivery.letter import Limits, submit
from delivery.models import Message, MessageStatus
from delivery.submission import Accepted, Submission

log = structlog.get_logger(__name__)

JSON, MIME = "application/json", "message/rfc822"
CHUNK = 64 * 1024
JSON_LARGER = 2
"""How many times as large as a message the JSON that tells it may be: base64 and escapes take room."""
REPLAYED = "Idempotent-Replayed"
_BETWEEN = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*\Z)')
"""A comma that is not in a quoted local part."""


@dataclass(frozen=True, slots=True)
class _Request:
    """One request to send, and what it will be known by."""

    http: Request
    who: KeyIdentity
    key: str
    limits: Limits
    message_id: uuid.UUID
    received_at: datetime

    def chunks(self) -> Iterator[bytes]:
        """The body, a piece at a time; raises Rejected when not all of it came."""
        left = length(self.http)
        stream = self.http.stream
        while left and (chunk := _read(stream, min(CHUNK, left))):
            left -= len(chunk)
            yield chunk
        if left:
            # What was cut off in the middle may well look like a message.
            strict_json.refuse("incomplete", "The request ended before its Content-Length.")


def send(request: Request) -> Response:
    """Accept the message of this request: 202 with its id. Raises APIException."""
    if not isinstance(request.user, KeyIdentity):
        raise exceptions.PermissionDenied("Mail is sent with an account's API key.", code="needs_api_key")
    kind = parse_header_parameters(request.content_type or "")[0].lower()
    reader = _READERS.get(kind)
    if reader is None or request.META.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise exceptions.UnsupportedMediaType(request.content_type or "")
    try:
        asked = _Request(request, request.user, _key(request), Limits.of(settings.SMTP), uuid7(), timezone.now())
        submission = reader(asked)
        with contextlib.closing(submission.body):
            return _answer(asked, submission)
    except NotAccepted as refusal:
        log.info("message not accepted", reason=refusal.code, by=str(request.user))
        raise Refused(refusal) from refusal
    except OSError as error:
        log.error("message not spooled", error=error.strerror)
        raise Refused(Deferred("There is no room for the message now.", code="no_room", status="4.3.1")) from error


def length(request: Request) -> int:
    """Octets of the body, as its header says; raises Rejected where it does not."""
    text = request.META.get("CONTENT_LENGTH") or ""
    if not (text.isascii() and text.isdigit()) or not int(text):
        strict_json.refuse("no_length", "The request has no Content-Length, or no body.")
    return int(text)


def _read(stream: Any, octets: int) -> bytes:
    try:
        found: bytes = stream.read(octets)
    except UnreadablePostError:
        return b""
    return found


def _key(request: Request) -> str:
    text = _header(request, "Idempotency-Key")
    return "" if text is None else strict_json.key("Idempotency-Key", text)


def _header(request: Request, name: str) -> str | None:
    """A header in UTF-8, which WSGI hands over as Latin-1; raises Rejected."""
    value = request.headers.get(name)
    try:
        return None if value is None else value.encode("latin-1").decode()
    except UnicodeError:
        strict_json.refuse("bad_field", f"{name} is not UTF-8.", name)


# --- What is asked ---------------------------------------------------------------------------------------------


def _as_json(asked: _Request) -> Submission:
    asked.limits.check_size(length(asked.http) // JSON_LARGER)
    octets = bytearray()
    for chunk in asked.chunks():
        octets += chunk
    told = sending_json.read(octets)
    del octets
    return submit(
        told.letter,
        asked.limits,
        message_id=asked.message_id,
        account_id=asked.who.account_id,
        source=Message.Source.HTTP,
        received_at=asked.received_at,
        client_ip=client_ip(asked.http),
        session_id=asked.who.label[:64],
        scheduled_at=told.send_at,
        key=asked.key,
        fingerprint=strict_json.fingerprint(told.payload) if asked.key else "",
    )


def _as_mime(asked: _Request) -> Submission:
    asked.limits.check_size(length(asked.http))
    smtp = settings.SMTP
    envelope = _envelope(asked)
    ip = client_ip(asked.http)
    origin = sending_mime.Origin(asked.message_id, ip or "", smtp["HOSTNAME"], asked.received_at)
    mends = smtp["BARE_LF"] == "normalise"
    found = sending_mime.spool(asked.chunks(), asked.limits, envelope, origin, mends=mends)
    try:
        mail_from, recipients = found.mail_from, found.recipients
        _check(asked, recipients, found.hops - 1)
        return Submission(
            message_id=asked.message_id,
            account_id=asked.who.account_id,
            source=Message.Source.HTTP,
            mail_from=mail_from,
            recipients=recipients,
            body=found.body,
            received_at=asked.received_at,
            smtputf8=not all(address.isascii() for address in (mail_from, *recipients)),
            client_ip=ip,
            session_id=asked.who.label[:64],
            key=asked.key,
            fingerprint=found.fingerprint,
        )
    except BaseException:
        found.body.close()
        raise


def _check(asked: _Request, recipients: list[str], hops: int) -> None:
    if len(recipients) > asked.limits.max_recipients:
        most = asked.limits.max_recipients
        strict_json.refuse("too_many_recipients", f"The message has more than {most:,} recipients.")
    if hops > settings.SMTP["MAX_RECEIVED_HEADERS"]:
        strict_json.refuse("loop", "The message has been relayed too often: is it going round in circles?")


def _envelope(asked: _Request) -> sending_mime.Envelope:
    """From the headers X-Mail-From and X-Rcpt-To, or from the query; not from both."""
    query = asked.http.query_params
    sender, recipients = _header(asked.http, "X-Mail-From"), _header(asked.http, "X-Rcpt-To")
    many = None if recipients is None else _BETWEEN.split(recipients)
    for name, value in (("mail_from", sender), ("rcpt_to", many)):
        if value is not None and name in query:
            strict_json.refuse("bad_field", f"{name} is given twice, in a header and in the query.", name)
    if "mail_from" in query:
        sender = query["mail_from"]
    if "rcpt_to" in query:
        many = [one for value in query.getlist("rcpt_to") for one in _BETWEEN.split(value)]
    return sending_mime.Envelope(
        None if sender is None else _bare(sender), None if many is None else [_bare(one) for one in many]
    )


def _bare(address: str) -> str:
    address = address.strip(" \t")
    return address[1:-1] if address.startswith("<") and address.endswith(">") else address


_READERS: dict[str, Callable[[_Request], Submission]] = {JSON: _as_json, MIME: _as_mime}


# --- What becomes of it ----------------------------------------------------------------------------------------


def _answer(asked: _Request, submission: Submission) -> Response:
    [answer] = intake.accept([submission], within=settings.SMTP_ACCEPT_TIMEOUT)
    if not isinstance(answer, Accepted):
        raise answer
    if answer.altered:
        text = "Another message was sent with this Idempotency-Key; the first one counts."
        raise Rejected(text, code=KEY_REUSED, status="5.6.0")
    log.info(
        "message accepted",
        message_id=str(answer.message_id),
        account_id=str(submission.account_id),
        tenant_id=str(asked.who.tenant_id),
        size=submission.body.size,
        recipients=len(submission.recipients),
        repeated=answer.repeated,
    )
    at = _scheduled(submission, answer)
    told = {
        "id": str(answer.message_id),
        "status": str(MessageStatus.SCHEDULED if at else MessageStatus.QUEUED),
        "scheduled_at": at,
    }
    headers = {"Location": reverse("message-detail", args=[answer.message_id])}
    if answer.repeated:
        headers[REPLAYED] = "true"
    return Response(told, status=status.HTTP_202_ACCEPTED, headers=headers)


def _scheduled(submission: Submission, answer: Accepted) -> datetime | None:
    """For when it was scheduled as it came in first, so that a repeat is answered as it was then."""
    header = mime.read_header(submission.body.header_block())
    moments = [schedule.read(value) for value in mime.values_of(header, schedule.HEADER.lower())]
    if submission.scheduled_at is not None:
        moments.append(submission.scheduled_at)
    then = answer.receipt.created_at if answer.receipt is not None else submission.received_at
    return next((moment for moment in moments if moment > then), None)
