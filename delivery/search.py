"""Messages and events by what people know of them, each found where an index has it (ADM-5)."""

from __future__ import annotations

import uuid
from typing import Final

from django.db.models import QuerySet

from accounts.models import User
from accounts.tenancy import Person, visible_to
from delivery.models import Event, Message, Recipient
from providers.models import Provider

MOST: Final = 1000
"""Messages found by an address, the newest: an address may have got a million."""


def by_address(who: Person, address: str) -> set[uuid.UUID]:
    """Keys of the newest messages from and to an address that this person may know of."""
    found: set[uuid.UUID] = set()
    for text in {address, address.lower()}:
        received = visible_to(who, Recipient).filter(address=text).order_by("-pk")
        sent = visible_to(who, Message).filter(mail_from=text).order_by("-pk")
        found |= {*received.values_list("message_id", flat=True)[:MOST], *sent.values_list("pk", flat=True)[:MOST]}
    return found


def by_provider_id(who: Person, text: str) -> set[uuid.UUID]:
    """Keys of the messages a provider knows by this id, among those this person may know of."""
    if not text:
        return set()
    named = Recipient.objects.filter(provider__in=_providers(who), provider_message_id=text)
    return {*visible_to(who, named).values_list("message_id", flat=True)[:MOST]}


def events_told_as(who: Person, text: str) -> set[uuid.UUID]:
    """Keys of the events that providers told under this id."""
    told = Event.objects.filter(provider__in=_providers(who), provider_event_id=text)
    return {*visible_to(who, told).values_list("pk", flat=True)[:MOST]}


def _providers(who: Person) -> list[uuid.UUID]:
    """Both indexes begin with the provider: those of the tenant, and shared ones."""
    rows: QuerySet[Provider] = Provider.objects.order_by()
    if not isinstance(who, User) or not who.is_superuser:
        rows = visible_to(who, rows) | rows.filter(tenant=None)
    return list(rows.values_list("pk", flat=True))
