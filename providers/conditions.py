"""The conditions of routing rules (RTE-1): what may be written, and whether it holds for a recipient of a message.

A rule keeps a list of conditions, all of which must hold. Each is an object with a `field`; where it has `values`,
one of them must match:

    {"field": "account", "values": ["crm@acme"]}                                usernames
    {"field": "sender", "values": ["billing@acme.example", "*.acme.example"]}   envelope sender
    {"field": "recipient", "values": ["gmail.com", "*@*.gov"]}                  address, domain, with * and ?
    {"field": "header", "name": "X-Kind", "op": "equals", "values": ["invoice"]}  op: equals, contains, matches
    {"field": "subject", "op": "contains", "values": ["invoice"]}
    {"field": "size", "min": 1000000, "max": 5000000}                           octets, either bound may be missing
    {"field": "has_attachments", "value": true}
    {"field": "time", "time_zone": "Europe/Paris", "weekdays": ["mon"], "from": "08:00", "to": "18:00"}
    {"field": "percentage", "value": 10}                                        that share of messages, by message id

`matches` takes an RE2 expression, which runs in time linear in its input whatever a tenant writes. People
read docs/routing-conditions.md.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import re2
from django.core.exceptions import ValidationError

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Condition = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What conditions look at. `headers` has lower-case names and decoded values; `now` is aware."""

    account: str
    sender: str
    recipient: str
    headers: Sequence[tuple[str, str]]
    subject: str
    size: int
    has_attachments: bool
    message_id: str
    now: datetime


def holds(conditions: Sequence[Condition], facts: Facts) -> bool:
    """Whether all of `conditions` hold; an empty list always does."""
    return all(_HOLDS[condition["field"]](condition, facts) for condition in conditions)


def known(conditions: Sequence[Condition], account: str, size: int) -> bool | None:
    """What account and size (in octets) alone tell: True when `conditions` hold for every such message, False when for
    none, None when the rest of the message decides."""
    verdict: bool | None = True
    for condition in conditions:
        if condition["field"] == "account":
            holds = _is_account(condition, account)
        elif condition["field"] == "size":
            holds = _size_within(condition, size)
        else:
            verdict = None
            continue
        if not holds:
            return False
    return verdict


def _is_account(condition: Condition, username: str) -> bool:
    return username.lower() in (value.lower() for value in condition["values"])


def _address_matches(patterns: Sequence[str], address: str) -> bool:
    address = address.lower()
    domain = address.rpartition("@")[2]
    return any(fnmatchcase(address if "@" in pattern else domain, pattern.lower()) for pattern in patterns)


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def _text_matches(condition: Condition, text: str) -> bool:
    values, folded = condition["values"], text.lower()
    match condition["op"]:
        case "equals":
            return any(folded == value.lower() for value in values)
        case "contains":
            return any(value.lower() in folded for value in values)
        case _:
            # RE2 reads UTF-8, which has no lone surrogates; broken headers decode to them.
            readable = text.encode("utf-8", "replace").decode("utf-8")
            return any(_expression(value).search(readable) for value in values)


def _header(condition: Condition, facts: Facts) -> bool:
    name = condition["name"].lower()
    return any(_text_matches(condition, value) for key, value in facts.headers if key == name)


def _size_within(condition: Condition, size: int) -> bool:
    low, high = condition.get("min"), condition.get("max")
    return (low is None or size >= low) and (high is None or size <= high)


def _time(condition: Condition, facts: Facts) -> bool:
    local = facts.now.astimezone(ZoneInfo(condition["time_zone"]))
    start = time.fromisoformat(condition.get("from", "00:00"))
    end = time.fromisoformat(condition.get("to", "00:00"))
    clock, day = local.time(), local.weekday()
    if start < end:
        inside = start <= clock < end
    else:
        # The span passes midnight and belongs to the day on which it began.
        inside = clock >= start or clock < end
        if clock < end and clock < start:
            day = (day - 1) % 7
    return inside and WEEKDAYS[day] in condition.get("weekdays", WEEKDAYS)


def _percentage(condition: Condition, facts: Facts) -> bool:
    # The same message always falls on the same side, so that a retry does not change its route. One that is made up
    # has no id and no side (RTE-5).
    if not facts.message_id:
        return bool(condition["value"] >= 100)
    return zlib.crc32(facts.message_id.encode()) % 10_000 < condition["value"] * 100


_HOLDS: dict[str, Callable[[Condition, Facts], bool]] = {
    "account": lambda condition, facts: _is_account(condition, facts.account),
    "sender": lambda condition, facts: _address_matches(condition["values"], facts.sender),
    "recipient": lambda condition, facts: _address_matches(condition["values"], facts.recipient),
    "header": _header,
    "subject": lambda condition, facts: _text_matches(condition, facts.subject),
    "size": lambda condition, facts: _size_within(condition, facts.size),
    "has_attachments": lambda condition, facts: facts.has_attachments is condition["value"],
    "time": _time,
    "percentage": _percentage,
}


def usernames(conditions: Sequence[Condition]) -> list[str]:
    """The accounts that valid conditions name, each once."""
    named = (name for condition in conditions if condition["field"] == "account" for name in condition["values"])
    return list(dict.fromkeys(named))


def validate(value: Any) -> None:
    """Raise ValidationError naming the first condition that cannot be evaluated, or not be kept."""
    if not isinstance(value, list):
        raise ValidationError("Give a list of conditions.", code="not_a_list")
    for number, condition in enumerate(value, 1):
        try:
            _validate_one(condition)
        except (ValueError, re2.error) as error:
            raise ValidationError(f"Condition {number}: {error}", code="bad_condition") from error


def _validate_one(condition: Any) -> None:
    if not isinstance(condition, dict):
        raise ValueError('must be an object such as {"field": "subject", "op": "contains", "values": ["invoice"]}')
    field = condition.get("field")
    if not isinstance(field, str) or field not in _ALLOWED_KEYS:
        raise ValueError(f"field must be one of {', '.join(FIELDS)}")
    keys = _ALLOWED_KEYS[field]
    if not set(condition) <= {"field", *keys}:
        raise ValueError(f"beside field, {field} takes the keys {', '.join(keys)} only")
    _CHECKS[field](condition)


def _is_text(value: Any) -> bool:
    """A text that the database can keep: no NUL, no half of a surrogate pair."""
    return isinstance(value, str) and bool(value) and not re.search(r"[\x00\ud800-\udfff]", value)


def _check_values(condition: Condition) -> None:
    values = condition.get("values")
    if not isinstance(values, list) or not values or not all(map(_is_text, values)):
        raise ValueError("values must be a list of at least one text, without control characters")


def _check_text(condition: Condition) -> None:
    _check_values(condition)
    if condition.get("op") not in ("equals", "contains", "matches"):
        raise ValueError("op must be equals, contains or matches")
    if condition["op"] == "matches":
        for value in condition["values"]:
            _expression(value)


def _check_header(condition: Condition) -> None:
    name = condition.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[!-9;-~]+", name):
        raise ValueError("name must be the name of a header field, such as X-Kind")
    _check_text(condition)


def _check_size(condition: Condition) -> None:
    bounds = [condition[key] for key in ("min", "max") if key in condition]
    if not bounds or not all(type(bound) is int and bound >= 0 for bound in bounds):
        raise ValueError("size needs min or max in octets")


def _check_has_attachments(condition: Condition) -> None:
    if not isinstance(condition.get("value"), bool):
        raise ValueError("value must be true or false")


def _check_time(condition: Condition) -> None:
    try:
        ZoneInfo(condition["time_zone"])
    except (KeyError, TypeError, ValueError, OSError):
        raise ValueError("time_zone must be a name such as Europe/Paris") from None
    for key in ("from", "to"):
        try:
            offset = time.fromisoformat(condition.get(key, "00:00")).tzinfo
        except (TypeError, ValueError):
            raise ValueError(f"{key} must be a time of day such as 08:00") from None
        if offset is not None:
            raise ValueError(f"{key} is a time of day in time_zone, without an offset of its own")
    days = condition.get("weekdays", list(WEEKDAYS))
    if not isinstance(days, list) or not days or not all(day in WEEKDAYS for day in days):
        raise ValueError(f"weekdays must be a list out of {', '.join(WEEKDAYS)}")


def _check_percentage(condition: Condition) -> None:
    value = condition.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise ValueError("value must be a number from 0 to 100")


_CHECKS: dict[str, Callable[[Condition], None]] = {
    "account": _check_values,
    "sender": _check_values,
    "recipient": _check_values,
    "header": _check_header,
    "subject": _check_text,
    "size": _check_size,
    "has_attachments": _check_has_attachments,
    "time": _check_time,
    "percentage": _check_percentage,
}
_ALLOWED_KEYS: dict[str, tuple[str, ...]] = {
    "account": ("values",),
    "sender": ("values",),
    "recipient": ("values",),
    "header": ("name", "op", "values"),
    "subject": ("op", "values"),
    "size": ("min", "max"),
    "has_attachments": ("value",),
    "time": ("time_zone", "weekdays", "from", "to"),
    "percentage": ("value",),
}
FIELDS = tuple(_ALLOWED_KEYS)
"""The fields a condition may look at."""
