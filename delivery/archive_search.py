"""Finding archive copies (ARC-2). Each question goes where an index answers it.

Words of subjects and texts: all of them, whole, in any order; `"in this order"`, `one or other` and `-without` as
search engines take them (PostgreSQL's websearch_to_tsquery). SQLite looks for parts of words, and for those of subjects
among the newest copies only.
"""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.models import BooleanField, F, Func, Q, QuerySet, Value
from django.utils.text import smart_split, unescape_string_literal

from accounts.tenancy import Person, visible_to
from delivery.models import ArchiveCopy, ArchiveRecipient, ArchiveText
from providers.models import Provider

NEWEST = 10_000
"""Copies, from the newest on, whose subjects are searched for words on SQLite."""
Copies = QuerySet[ArchiveCopy]


class _Words(Func):
    """Whether a text has all the words that are asked for; written as the index has it."""

    template = "(to_tsvector('simple'::regconfig, %(expressions)s))"
    arg_joiner = ") @@ websearch_to_tsquery('simple'::regconfig, "
    output_field = BooleanField()


class _Indexed(Func):
    """As `_Words`, for what is a `tsvector`."""

    template = "(%(expressions)s))"
    arg_joiner = " @@ websearch_to_tsquery('simple'::regconfig, "
    output_field = BooleanField()


def by_sender(rows: Copies, address: str) -> Copies:
    """By the sender of the envelope."""
    return rows.filter(mail_from__in=_spellings(address))


def by_recipient(rows: Copies, address: str) -> Copies:
    return rows.filter(pk__in=_sent_to(address))


def by_address(rows: Copies, address: str) -> Copies:
    """By sender or recipient. Both are looked up by themselves: an OR across tables goes along no index."""
    sent_by = ArchiveCopy.objects.filter(mail_from__in=_spellings(address)).order_by().values("pk")
    return rows.filter(pk__in=sent_by.union(_sent_to(address)))


def by_message_id(rows: Copies, message_id: str) -> Copies:
    """By the Message-ID, with angle brackets or without."""
    return rows.filter(message_id_header=f"<{message_id.strip().strip('<>')}>")


def by_provider_id(rows: Copies, person: Person, provider_message_id: str) -> Copies:
    """By what a provider calls the message: one of the person's, or a shared one."""
    providers = visible_to(person, Provider) | Provider.objects.filter(tenant=None)
    told = ArchiveCopy.objects.filter(
        provider_id__in=providers.order_by().values("pk"), provider_message_id=provider_message_id
    )
    return rows.filter(pk__in=told.exclude(provider_message_id="").order_by().values("pk"))


def by_subject(rows: Copies, text: str) -> Copies:
    """By words of the subject."""
    if connection.vendor == "postgresql":
        return rows.filter(_Words(F("subject"), Value(text)))
    newest = rows.order_by("-pk").values("pk")[:NEWEST]
    return rows.filter(_parts("subject", text), pk__in=newest)


def by_text(rows: Copies, text: str) -> Copies:
    """By words of the message, of tenants that have them indexed; for those who may read bodies."""
    found: QuerySet[Any] = ArchiveText.objects.filter(tenant__full_text=True)
    if connection.vendor == "postgresql":
        found = found.filter(_Indexed(F("words"), Value(text)))
    else:
        found = found.filter(_parts("words", text.lower()))
    return rows.filter(pk__in=found.values("copy_id"))


def _spellings(address: str) -> set[str]:
    return {address, address.lower()}


def _sent_to(address: str) -> QuerySet[Any, Any]:
    return ArchiveRecipient.objects.filter(address__in=_spellings(address)).order_by().values("copy_id")


def _parts(field: str, text: str) -> Q:
    """All the words, parted by spaces; quotes keep words together."""
    words = [
        unescape_string_literal(word) if word[0] in "\"'" and word[-1:] == word[0] and len(word) > 1 else word
        for word in smart_split(text)
    ]
    return Q(*(Q(**{f"{field}__icontains": word}) for word in words)) if words else Q(pk=None)
