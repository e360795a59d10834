"""Why a condition of a routing rule holds for a recipient, or does not, in words (RTE-5)."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from django.utils import timezone

from providers import conditions
from providers.conditions import Condition, Facts

_LONGEST = 120
"""Characters shown of one value."""
_MOST = 10
"""Values shown of one list."""


@dataclass(frozen=True, slots=True)
class Check:
    """One condition: whether it holds, what it asks for, and what there is."""

    holds: bool
    wanted: str
    found: str


def explain(condition: Condition, facts: Facts) -> Check:
    """Agrees with `conditions.holds` for a list of this condition alone."""
    wanted, found = _WORDS[condition["field"]](condition, facts)
    return Check(conditions.holds([condition], facts), wanted, found)


def wanted(condition: Condition) -> str:
    """What a condition asks for, in words, whatever the message: `subject contains invoice`."""
    nobody = Facts("", "", "", (), "", 0, False, "", timezone.now())
    return _WORDS[condition["field"]](condition, nobody)[0]


def _short(text: str) -> str:
    readable = text.encode("utf-8", "replace").decode("utf-8")
    return readable if len(readable) <= _LONGEST else f"{readable[:_LONGEST]}…"


def _listed(values: list[str]) -> str:
    shown = ", ".join(map(_short, values[:_MOST]))
    return f"{shown} and {len(values) - _MOST} more" if len(values) > _MOST else shown


def _address(who: str, value: Callable[[Facts], str]) -> Callable[[Condition, Facts], tuple[str, str]]:
    def words(condition: Condition, facts: Facts) -> tuple[str, str]:
        return f"{who} is {_listed(condition['values'])}", f"it is {_short(value(facts)) or 'empty'}"

    return words


_OPS = {"equals": "is", "contains": "contains", "matches": "matches"}


def _header(condition: Condition, facts: Facts) -> tuple[str, str]:
    name = condition["name"]
    wanted = f"header {name} {_OPS[condition['op']]} {_listed(condition['values'])}"
    values = [value for key, value in facts.headers if key == name.lower()]
    return wanted, f"it is {_listed(values)}" if values else "there is no such header"


def _subject(condition: Condition, facts: Facts) -> tuple[str, str]:
    wanted = f"subject {_OPS[condition['op']]} {_listed(condition['values'])}"
    return wanted, f"it is {_short(facts.subject)}" if facts.subject else "it is empty"


def _size(condition: Condition, facts: Facts) -> tuple[str, str]:
    low, high = condition.get("min"), condition.get("max")
    bounds = [f"at least {low:,}" if low is not None else "", f"at most {high:,}" if high is not None else ""]
    return f"size is {' and '.join(filter(None, bounds))} octets", f"it is {facts.size:,}"


def _has_attachments(condition: Condition, facts: Facts) -> tuple[str, str]:
    has, no = "the message has attachments", "the message has no attachments"
    return (has if condition["value"] else no), ("it has" if facts.has_attachments else "it has none")


def _time(condition: Condition, facts: Facts) -> tuple[str, str]:
    zone = condition["time_zone"]
    parts = [
        f"on {', '.join(condition['weekdays'])}" if "weekdays" in condition else "",
        f"from {condition['from']}" if "from" in condition else "",
        f"to {condition['to']}" if "to" in condition else "",
    ]
    local = facts.now.astimezone(ZoneInfo(zone))
    day = conditions.WEEKDAYS[local.weekday()]
    return f"time is {' '.join(filter(None, parts)) or 'any'} in {zone}", f"it is {day} {local:%H:%M} there"


def _percentage(condition: Condition, facts: Facts) -> tuple[str, str]:
    wanted = f"the message is among {condition['value']} % of all"
    if not facts.message_id:
        return wanted, "only a stored message has a place; taken as not among them"
    return wanted, f"its place is {zlib.crc32(facts.message_id.encode()) % 10_000 / 100:.2f} %"


_WORDS: dict[str, Callable[[Any, Facts], tuple[str, str]]] = {
    "account": _address("account", lambda facts: facts.account),
    "sender": _address("sender", lambda facts: facts.sender),
    "recipient": _address("recipient", lambda facts: facts.recipient),
    "header": _header,
    "subject": _subject,
    "size": _size,
    "has_attachments": _has_attachments,
    "time": _time,
    "percentage": _percentage,
}
