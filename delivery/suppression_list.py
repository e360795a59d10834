"""A tenant's list of suppressed addresses as a whole: taking many in, and giving all out as CSV (EVT-2)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.db.models.functions import Lower
from django.utils import timezone

from accounts.models import Tenant
from delivery.models import Suppression, check_address
from providers.envelope import same

MOST = 10_000
"""Addresses taken in at once."""
LONGEST_ADDRESS = 320
LONGEST_NOTE = 1000
COLUMNS = ("address", "reason", "text", "created_at")
_PAGE = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class BadList(ValueError):
    """What was given is no list of addresses; the text says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    address: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one entry: `added`, `known` (it was on the list, or came twice), or `refused` for `error`."""

    address: str
    status: str
    error: str = ""


def read_csv(text: str) -> list[Entry]:
    """The entries of a CSV file: columns `address` and, where there is one, `text`; without a header line the first
    column has the addresses. Raises BadList."""
    try:
        lines = [row for row in csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")) if any(row)]
    except csv.Error as error:
        raise BadList(f"This is no CSV: {error}.") from None
    if not lines:
        return []
    head = [name.strip().lower() for name in lines[0]]
    place, note, rows = 0, None, lines
    if "address" in head:
        place, note = head.index("address"), head.index("text") if "text" in head else None
        rows = lines[1:]
    return [
        Entry(
            _plain(row[place]) if place < len(row) else "",
            _plain(row[note]) if note is not None and note < len(row) else "",
        )
        for row in rows
    ]


def take_in(tenant: Tenant, entries: Sequence[Entry]) -> tuple[list[Outcome], list[Suppression]]:
    """Put addresses on the tenant's list as entered by a person; what is on it stays as it is. Returns what became of
    each, and the rows made. Raises BadList for too many. To be called in the transaction of the audit entry."""
    if len(entries) > MOST:
        raise BadList(f"At most {MOST:,} addresses at once.")
    now = timezone.now()
    told: list[Outcome] = []
    new: dict[str, Suppression] = {}
    for entry in entries:
        problem = _problem(entry)
        address = "" if problem else same(entry.address)
        if problem or address in new:
            told.append(Outcome(entry.address[:LONGEST_ADDRESS], "refused" if problem else "known", problem))
            continue
        new[address] = Suppression(tenant=tenant, address=address, text=entry.text, created_at=now)
        told.append(Outcome(address, "added"))
    # In one order, so that two writers never wait for each other in a circle.
    for page in _pages(sorted(new)):
        for address in _known(tenant, page):
            del new[address]
        Suppression.objects.bulk_create([new[address] for address in page if address in new], ignore_conflicts=True)
        # What somebody else has entered at the same moment is theirs.
        ours = {row.pk for row in Suppression.objects.filter(pk__in=[new[one].pk for one in page if one in new])}
        for address in [one for one in page if one in new and new[one].pk not in ours]:
            del new[address]
    outcomes = [one if one.status != "added" or one.address in new else Outcome(one.address, "known") for one in told]
    return outcomes, list(new.values())


def as_csv(rows: QuerySet[Suppression]) -> Iterator[str]:
    """A file of these rows, in pieces; `read_csv` reads it. No cell begins as a formula does."""
    yield _line(COLUMNS)
    for row in rows.iterator(chunk_size=_PAGE):
        yield _line([_tame(row.address), row.reason, _tame(row.text), row.created_at.isoformat()])


def _problem(entry: Entry) -> str:
    if len(entry.address) > LONGEST_ADDRESS:
        return "The address is too long."
    if len(entry.text) > LONGEST_NOTE:
        return "The note is too long."
    if "\0" in entry.text:
        return "The note holds a NUL."
    try:
        check_address(entry.address)
    except ValidationError as error:
        return str(error.message)
    return ""


def _known(tenant: Tenant, addresses: Sequence[str]) -> set[str]:
    rows = Suppression.objects.alias(folded=Lower("address")).filter(tenant=tenant, folded__in=addresses)
    return {address.lower() for address in rows.order_by().values_list("address", flat=True)} & set(addresses)


def _pages(keys: Iterable[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while page := list(islice(left, _PAGE)):
        yield page


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()


def _tame(text: str) -> str:
    """Programs that show tables run what begins so; anybody may have chosen an address."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _plain(text: str) -> str:
    text = text.strip()
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text
