"""Refusals to rows: whose they are, and one statement for all of them (SMTP-18)."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address

from django.db.models import Q
from django.db.models.functions import Lower

from accounts.domains import canonical
from accounts.ids import uuid7
from accounts.models import Account
from delivery.models import RefusedSession

_UNFIT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]+")
_DOMAINS_KEPT = 60.0
_domains: tuple[float, dict[str, set[uuid.UUID]]] = (float("-inf"), {})

Owner = tuple[uuid.UUID | None, uuid.UUID | None]
"""Tenant and account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What was refused, as far as it is known. `source` is one of `Message.Source`; no secret is in it."""

    source: str
    reason: str
    reply: str = ""
    client_ip: str | None = None
    username: str = ""
    account_id: uuid.UUID | None = None
    tenant_id: uuid.UUID | None = None
    session_id: str = ""
    helo: str = ""
    tls: str = ""
    mail_from: str = ""
    recipient: str = ""
    recipient_count: int = 0
    size: int | None = None


@dataclass(slots=True, eq=False)
class Kept:
    """A refusal that has, or is to have, a row."""

    refusal: Refusal
    first_at: datetime
    last_at: datetime
    count: int = 1
    id: uuid.UUID = field(default_factory=uuid7)


def write(kept: Sequence[Kept]) -> None:
    """A row for each, or a larger count on the row it has. Blocks; raises what the database raises."""
    if not kept:
        return
    rows = [_row(one, owner) for one, owner in zip(kept, _owners([one.refusal for one in kept]), strict=True)]
    RefusedSession.objects.bulk_create(
        rows, batch_size=200, update_conflicts=True, unique_fields=["id"], update_fields=["count", "last_at"]
    )


def _row(kept: Kept, owner: Owner) -> RefusedSession:
    refusal = kept.refusal
    tenant_id, account_id = owner
    return RefusedSession(
        id=kept.id,
        tenant_id=tenant_id,
        account_id=account_id,
        source=refusal.source,
        reason=_text(refusal.reason, 64),
        reply=_text(refusal.reply, 500),
        username=_text(refusal.username, 255),
        client_ip=_address(refusal.client_ip),
        helo=_text(refusal.helo, 255),
        session_id=_text(refusal.session_id, 64),
        tls=_text(refusal.tls, 100),
        mail_from=_text(refusal.mail_from, 320),
        recipient=_text(refusal.recipient, 320),
        recipient_count=refusal.recipient_count,
        size=refusal.size,
        count=kept.count,
        created_at=kept.first_at,
        last_at=kept.last_at,
    )


def _text(given: str, longest: int) -> str:
    """What a client sent may hold anything."""
    return _UNFIT.sub("\ufffd", given)[:longest]


def _address(given: str | None) -> str | None:
    try:
        return str(ip_address(given)) if given else None
    except ValueError:
        return None


def _owners(refusals: Sequence[Refusal]) -> Iterator[Owner]:
    """Whose each is: of the account that signed in or was named, or of the only tenant that may send as its sender."""
    by_id, by_name = _accounts(refusals)
    for refusal in refusals:
        account = by_id.get(refusal.account_id) if refusal.account_id else None
        account = account or by_name.get(_folded(refusal.username))
        if account is not None:
            yield account
        else:
            yield _sole_tenant(refusal.mail_from), None


def _accounts(refusals: Iterable[Refusal]) -> tuple[dict[uuid.UUID, Owner], dict[str, Owner]]:
    ids = {refusal.account_id for refusal in refusals if refusal.account_id}
    names = {_folded(refusal.username) for refusal in refusals if refusal.username}
    if not ids and not names:
        return {}, {}
    rows = list(
        Account.objects.annotate(folded=Lower("username"))
        .filter(Q(pk__in=ids) | Q(folded__in=names))
        .values_list("pk", "tenant_id", "folded")
    )
    return {pk: (tenant, pk) for pk, tenant, _ in rows}, {folded: (tenant, pk) for pk, tenant, folded in rows}


def _folded(username: str) -> str:
    return _text(username, 255).lower()


def _sole_tenant(mail_from: str) -> uuid.UUID | None:
    try:
        domain = canonical(mail_from.rpartition("@")[2]) if "@" in mail_from else ""
    except ValueError:
        domain = ""
    if not domain:
        return None
    names = domain.split(".")
    patterns = [domain, *(f"*.{'.'.join(names[first:])}" for first in range(1, len(names)))]
    known = _sender_domains()
    tenants = {tenant for pattern in patterns for tenant in known.get(pattern, ())}
    return tenants.pop() if len(tenants) == 1 else None


def _sender_domains() -> dict[str, set[uuid.UUID]]:
    """Whose accounts may send from each domain, read once a minute at most."""
    global _domains  # noqa: PLW0603
    read_at, known = _domains
    if time.monotonic() - read_at >= _DOMAINS_KEPT:
        known = {}
        for tenant, senders in Account.objects.values_list("tenant_id", "allowed_senders").iterator(chunk_size=2000):
            for sender in senders if isinstance(senders, list) else ():
                known.setdefault(_pattern(str(sender)), set()).add(tenant)
        _domains = (time.monotonic(), known)
    return known


def _pattern(sender: str) -> str:
    try:
        base = canonical(sender.removeprefix("*."))
    except ValueError:
        return ""
    return f"*.{base}" if sender.startswith("*.") else base


def forget() -> None:
    """Drop what is remembered of sender domains."""
    global _domains  # noqa: PLW0603
    _domains = (float("-inf"), {})
