"""Lists of suppressed addresses as CSV: what a file holds, what would become of it, and back again (EVT-2).

A file has one address a line, and after it, if wanted, reason and note; a first line that names the columns may give
them another order.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Lower

from accounts.models import Tenant
from delivery.models import Suppression
from delivery.models.suppression import check_address
from providers.envelope import same

MOST_LINES = 20_000
MOST_OCTETS = 1_500_000
COLUMNS = ("address", "reason", "text", "created_at")
_NAMES = {"email": "address", "e-mail": "address", "recipient": "address", "note": "text", "comment": "text"}
_PAGE = 2000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the beginning of a formula."""


class Unreadable(ValueError):
    """The file as a whole cannot be taken; the text says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line that can be taken; `address` as it is kept."""

    line: int
    address: str
    reason: str
    text: str


@dataclass(slots=True)
class Listed:
    """What a file holds. `bad` are line numbers with what is wrong; `repeated` lines name an address again."""

    entries: list[Entry] = field(default_factory=list)
    bad: list[tuple[int, str]] = field(default_factory=list)
    repeated: int = 0


def read(octets: bytes) -> Listed:
    """Raises Unreadable."""
    if len(octets) > MOST_OCTETS:
        raise Unreadable(f"The file is larger than {MOST_OCTETS:,} octets: import it in parts.")
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("The file is no text in UTF-8: save it as CSV UTF-8.") from None
    if "\0" in text:
        raise Unreadable("The file is no CSV.")
    dialect = csv.excel if "," in text or ";" not in text else _Semicolons
    listed, seen = Listed(), set[str]()
    columns: tuple[str, ...] = ("address", "reason", "text")
    rows = csv.reader(text.splitlines(), dialect)
    try:
        for number, row in enumerate(rows, 1):
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if number > MOST_LINES:
                raise Unreadable(f"The file has more than {MOST_LINES:,} lines: import it in parts.")
            named = tuple(_NAMES.get(cell.lower(), cell.lower()) for cell in cells)
            if number == 1 and "address" in named:
                columns = named
                continue
            _take(listed, seen, number, dict(zip(columns, cells, strict=False)))
    except csv.Error as error:
        raise Unreadable(f"The file is no CSV: {error}.") from None
    return listed


class _Semicolons(csv.excel):
    delimiter = ";"


def _take(listed: Listed, seen: set[str], number: int, cells: dict[str, str]) -> None:
    address, reason = cells.get("address", ""), cells.get("reason", "").lower() or str(Suppression.Reason.MANUAL)
    if reason not in Suppression.Reason.values:
        listed.bad.append((number, f"unknown reason; known are {', '.join(Suppression.Reason.values)}"))
        return
    try:
        if len(address) > 320:
            raise ValidationError("too long")
        check_address(address)
    except ValidationError:
        listed.bad.append((number, "no e-mail address"))
        return
    folded = same(address)
    if folded in seen:
        listed.repeated += 1
        return
    seen.add(folded)
    listed.entries.append(Entry(number, folded, reason, cells.get("text", "")[:1000]))


def known(tenant: Tenant, entries: Sequence[Entry]) -> set[str]:
    """Those of the addresses that are on the tenant's list already."""
    found: set[str] = set()
    for start in range(0, len(entries), _PAGE):
        rows = Suppression.objects.alias(folded=Lower("address")).order_by()
        rows = rows.filter(tenant=tenant, folded__in=[entry.address for entry in entries[start : start + _PAGE]])
        found |= {same(address) for address in rows.values_list("address", flat=True)}
    return found


def add(tenant: Tenant, entries: Sequence[Entry]) -> int:
    """Put on the list what is not there yet, and return how many that was; what is there stays as it is."""
    with transaction.atomic():
        there = known(tenant, entries)
        rows = [
            Suppression(tenant=tenant, address=entry.address, reason=entry.reason, text=entry.text)
            for entry in entries
            if entry.address not in there
        ]
        rows.sort(key=lambda row: row.address)  # in one order: two writers never wait for each other in a circle
        Suppression.objects.bulk_create(rows, batch_size=1000, ignore_conflicts=True)
    return len(rows)


class _Line:
    """What csv writes to: the line itself comes back."""

    def write(self, line: str) -> str:
        return line


def as_csv(rows: Iterable[Any]) -> Iterator[str]:
    """The lines of a file that `read` takes again."""
    writer = csv.writer(_Line())
    yield writer.writerow(COLUMNS)
    for row in rows:
        text = f"'{row.text}" if row.text.startswith(_FORMULA) else row.text
        yield writer.writerow([row.address, row.reason, text, row.created_at.isoformat(timespec="seconds")])
