"""Messages as commands show them; never a body."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from delivery.models import Message

COLUMNS = ("id", "accepted_at", "status", "account", "mail_from", "subject", "status_reason")
_WIDTHS = {"accepted_at": 25, "status": 14, "account": 24, "mail_from": 28, "subject": 30}


def summary(message: Message) -> dict[str, Any]:
    """A message in a list."""
    return {
        "id": str(message.pk),
        "tenant": message.tenant.slug,
        "account": message.account.username,
        "status": str(message.status),
        "status_reason": message.status_reason,
        "accepted_at": _time(message.accepted_at),
        "mail_from": message.mail_from,
        "subject": message.subject,
        "recipients": message.recipient_count,
        "size": message.size,
        "tries": message.tries,
        "attempts": message.attempts,
        "next_attempt_at": _time(message.next_attempt_at),
    }


def detail(message: Message) -> dict[str, Any]:
    """A message with its recipients, attempts and events, each oldest first."""
    return {
        **summary(message),
        "message_id_header": message.message_id_header,
        "header_from": message.header_from,
        "scheduled_at": _time(message.scheduled_at),
        "finished_at": _time(message.finished_at),
        "body_deleted_at": _time(message.body_deleted_at),
        "store_key": message.store_key,
        "routed_to": None if message.routed_to_id is None else str(message.routed_to_id),
        "recipients": [
            {
                "address": recipient.address,
                "status": str(recipient.status),
                "error_code": recipient.error_code,
                "error_text": recipient.error_text,
                "provider_message_id": recipient.provider_message_id,
            }
            for recipient in message.recipients.order_by("pk")
        ],
        "attempts": [
            {
                "created_at": _time(attempt.created_at),
                "number": attempt.attempt_number,
                "provider": attempt.provider_name,
                "status": str(attempt.status),
                "response_code": attempt.response_code,
                "error_code": attempt.error_code,
                "error_text": attempt.error_text,
            }
            for attempt in message.delivery_logs.defer("progress").order_by("pk")
        ],
        "events": [
            {"occurred_at": _time(event.occurred_at), "type": str(event.type), **event.data}
            for event in message.events.order_by("pk")
        ],
    }


def table(rows: Iterable[dict[str, Any]], columns: Sequence[str] = COLUMNS) -> Iterable[str]:
    """A line for each row below a line of headings, cut to fit but for the last column."""
    yield "  ".join(name.ljust(_width(name)) for name in columns).rstrip()
    for row in rows:
        texts = (printable(row[name]) for name in columns)
        yield "  ".join(_cut(text, _width(name)) for name, text in zip(columns, texts, strict=True)).rstrip()


def lines(told: dict[str, Any]) -> Iterable[str]:
    """What `detail` gave, for reading."""
    for name, value in told.items():
        if not isinstance(value, list):
            yield f"{name}: {printable(value)}"
            continue
        yield f"{name}:"
        for entry in value:
            pairs = (f"{key}={printable(inner)}" for key, inner in entry.items() if inner not in (None, "", {}, []))
            yield "  " + ", ".join(pairs)


def printable(value: Any) -> str:
    """As text for a terminal: nothing in a subject or an answer may steer it."""
    text = "-" if value in (None, "") else str(value)
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _width(name: str) -> int:
    return 36 if name == "id" else _WIDTHS.get(name, 0)


def _cut(text: str, width: int) -> str:
    if not width:
        return text
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def _time(moment: Any) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
