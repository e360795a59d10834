"""What subscribers are told, as docs/events.md describes it: who, what and where to look; no body and no secret."""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import Any, TypeAlias

from accounts.models import Tenant
from delivery.models import DeliveryLog, Event, Recipient
from delivery.outbox import RESULT, TEST, name_of

MOST_RECIPIENTS = 100
"""Recipients an event tells of; the outcome of an attempt tells of all."""

Payload: TypeAlias = dict[str, Any]

_ABOUT_MESSAGE = (
    "tenant__slug",
    "message__account_id",
    "message__account__name",
    "message__message_id_header",
    "message__mail_from",
    "message__header_from",
    "message__subject",
    "message__size",
    "message__recipient_count",
    "message__accepted_at",
)
_STATUS = {
    DeliveryLog.Status.DELIVERED: "delivered",
    DeliveryLog.Status.FAILED: "failed",
    DeliveryLog.Status.DLQ: "failed",
    DeliveryLog.Status.UNKNOWN: "unknown",
    DeliveryLog.Status.SENDING: "unknown",
}
"""What an attempt that tells nothing of single recipients means for each; `deferred` where it does not say."""


def of_events(ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Payload]:
    """Payload by event; those that are gone are left out."""
    names = ("id", "type", "data", "occurred_at", "tenant_id", "message_id", "recipient_id", "provider__name")
    rows = list(Event.objects.filter(pk__in=ids).order_by().values(*names, *_ABOUT_MESSAGE))
    recipients = _recipients({row["message_id"]: row["message__recipient_count"] for row in rows})
    single = [row["recipient_id"] for row in rows if row["recipient_id"]]
    meant = {one["id"]: one for one in _told(Recipient.objects.filter(pk__in=single))} if single else {}
    return {
        row["id"]: _event(row, [meant[row["recipient_id"]]] if row["recipient_id"] in meant else None, recipients)
        for row in rows
    }


def of_attempts(ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Payload]:
    """Payload by delivery log; those that are gone are left out."""
    names = (
        *("id", "tenant_id", "message_id", "status", "attempt_number", "recipients", "results", "provider_name"),
        *("provider_type", "provider_message_id", "response_code", "error_code", "error_text", "duration_ms"),
        *("created_at", "finished_at"),
    )
    found = DeliveryLog.objects.filter(pk__in=ids).order_by()
    return {row["id"]: _attempt(row) for row in found.values(*names, *_ABOUT_MESSAGE)}


def of_test(id_: uuid.UUID, tenant: Tenant, when: datetime) -> Payload:
    """What a person sends to see whether a webhook works."""
    return {
        **_head(id_, TEST, when, {"tenant_id": tenant.pk, "tenant__slug": tenant.slug}),
        "event": TEST,
        "account": None,
        "message": None,
        "recipients": [],
        "recipient_count": 0,
        **dict.fromkeys(("provider", "provider_message_id", "code")),
        "text": "Somebody has asked for this test. It is about no message.",
    }


def as_json(payload: Payload) -> bytes:
    """As it goes over the wire: ASCII, so that no text of a stranger's is too odd for it."""
    return json.dumps(payload, separators=(",", ":")).encode("ascii")


def _head(id_: uuid.UUID, type_: str, when: datetime | None, row: Payload) -> Payload:
    return {
        "id": str(id_),
        "type": type_,
        "occurred_at": when.isoformat() if when else None,
        "tenant": {"id": str(row["tenant_id"]), "slug": row["tenant__slug"]},
    }


def _message(row: Payload) -> Payload:
    return {
        "account": {"id": str(row["message__account_id"]), "name": row["message__account__name"]},
        "message": {
            "id": str(row["message_id"]),
            "message_id": row["message__message_id_header"],
            "mail_from": row["message__mail_from"],
            "from": row["message__header_from"],
            "subject": row["message__subject"],
            "size": row["message__size"],
            "accepted_at": row["message__accepted_at"].isoformat(),
        },
    }


def _event(row: Payload, single: list[Payload] | None, of_message: dict[uuid.UUID, list[Payload]]) -> Payload:
    data = row["data"]
    statuses = data.get("recipients")
    recipients = of_message[row["message_id"]] if single is None else single
    if single is None and data.get("recipient"):
        recipients = []  # told by a provider of somebody who is none of ours
    told = [_recipient(one, statuses if isinstance(statuses, dict) else {}) for one in recipients]
    providers = {(one["provider"], one["provider_message_id"]) for one in told}
    provider, provider_message_id = next(iter(providers)) if len(providers) == 1 else (None, None)
    return {
        **_head(row["id"], name_of(row["type"]), row["occurred_at"], row),
        "event": row["type"],
        **_message(row),
        "recipients": told,
        "recipient_count": row["message__recipient_count"] if single is None and not data.get("recipient") else 1,
        "recipient": data.get("recipient"),
        "provider": row["provider__name"] or provider,
        "provider_message_id": data.get("provider_message_id") or provider_message_id,
        "code": data.get("code") or (data.get("reason") if data.get("text") else None),
        "text": data.get("text") or data.get("reason"),
        **{name: data[name] for name in ("hard", "url", "tries", "next_attempt_at") if name in data},
    }


def _attempt(row: Payload) -> Payload:
    results: Payload = row["results"]
    otherwise = _STATUS.get(row["status"], "deferred")
    return {
        **_head(row["id"], RESULT, row["finished_at"] or row["created_at"], row),
        **_message(row),
        "attempt": {"number": row["attempt_number"], "status": row["status"], "duration_ms": row["duration_ms"]},
        "recipients": [
            {
                "address": address,
                "status": result.get("status") or otherwise,
                "provider_message_id": result.get("provider_message_id") or row["provider_message_id"] or None,
                "code": result.get("code") or (None if result else row["error_code"] or None),
            }
            for address, result in ((address, results.get(address) or {}) for address in row["recipients"])
        ],
        "recipient_count": len(row["recipients"]),
        "provider": row["provider_name"] or None,
        "provider_type": row["provider_type"] or None,
        "provider_message_id": row["provider_message_id"] or None,
        "response_code": row["response_code"],
        "code": row["error_code"] or None,
        "text": row["error_text"] or None,
    }


def _recipients(counts: dict[uuid.UUID, int]) -> dict[uuid.UUID, list[Payload]]:
    """The first recipients of each message."""
    found: dict[uuid.UUID, list[Payload]] = defaultdict(list)
    small = [message_id for message_id, count in counts.items() if count <= MOST_RECIPIENTS]
    for one in _told(Recipient.objects.filter(message_id__in=small)):
        found[one["message_id"]].append(one)
    for message_id in counts.keys() - set(small):
        found[message_id] = list(_told(Recipient.objects.filter(message_id=message_id))[:MOST_RECIPIENTS])
    return found


def _told(recipients: Any) -> Any:
    names = ("id", "message_id", "address", "status", "provider__name", "provider_message_id", "error_code")
    return recipients.order_by("pk").values(*names, "error_text")


def _recipient(row: Payload, statuses: Payload) -> Payload:
    """A recipient as the event has seen it, where it says so; what came later has its own event."""
    status = statuses.get(row["address"], row["status"])
    now = status == row["status"]
    return {
        "address": row["address"],
        "status": status,
        "provider": row["provider__name"],
        "provider_message_id": row["provider_message_id"] or None,
        "code": (now and row["error_code"]) or None,
        "text": (now and row["error_text"]) or None,
    }
