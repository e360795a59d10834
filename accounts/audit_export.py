"""The audit as a file, row by row while it is sent: CSV for spreadsheets, JSON for programs (SEC-5)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Any

NAMES = ("created_at", "actor", "action", "target_type", "target_id", "target", "address", "changes")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class _Line:
    """What a CSV writer writes to: it hands each line back."""

    def write(self, text: str) -> str:
        return text


def as_csv(entries: Iterable[Any]) -> Iterator[str]:
    """One line an entry; what a spreadsheet would take for a formula has an apostrophe before it."""
    writer = csv.writer(_Line())
    yield writer.writerow(NAMES)
    for entry in entries:
        row = _told(entry)
        row["changes"] = told(row["changes"])
        yield writer.writerow([_harmless(row[name]) for name in NAMES])


def as_json(entries: Iterable[Any]) -> Iterator[str]:
    """An array of objects, one a line."""
    before = "[\n"
    for entry in entries:
        yield before + json.dumps(_told(entry), ensure_ascii=False)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def told(changes: dict[str, Any]) -> str:
    """For people: a line for each field, `field: before → after`."""
    return "\n".join(f"{name}: {_change(value)}" for name, value in sorted(changes.items()))


def _change(value: Any) -> str:
    if isinstance(value, list) and len(value) == 2:
        return f"{_text(value[0])} → {_text(value[1])}"
    return _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _told(entry: Any) -> dict[str, Any]:
    """As far as the reader may know: `told_by` and `told_ip` are what the list shows."""
    return {
        "created_at": entry.created_at.isoformat(),
        "actor": entry.told_by,
        "action": entry.action,
        "target_type": entry.target_type,
        "target_id": entry.target_id,
        "target": entry.target_label,
        "address": entry.told_ip,
        "changes": entry.changes,
    }


def _harmless(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
