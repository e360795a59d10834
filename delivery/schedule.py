"""When a message is to be sent, as its `X-Send-At` header says (DEL-11).

Dates are read strictly: one that was misread would send mail at the wrong hour, and nobody would know why.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from django.conf import settings

from delivery.exceptions import Rejected

HEADER = "X-Send-At"
_COMMENT = re.compile(r"\([^()]*\)")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(?::(\d\d)(?:\.\d+)?)?\s?(Z|z|[+-]\d\d:[0-5]\d)")
_RFC5322 = re.compile(
    r"(?:(Mon|Tue|Wed|Thu|Fri|Sat|Sun) ?, ?)?"
    r"(\d{1,2}) ([A-Z]{3}) (\d{4}) (\d\d:\d\d)(?::(\d\d))? ([+-]\d\d[0-5]\d|[A-Z]{2,3})",
    re.IGNORECASE,
)
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# RFC 5322 §4.3: the only names of zones that mean the same everywhere.
_ZONES = {
    **{"UT": "+00:00", "GMT": "+00:00", "UTC": "+00:00"},
    **{"EDT": "-04:00", "EST": "-05:00", "CDT": "-05:00", "CST": "-06:00"},
    **{"MDT": "-06:00", "MST": "-07:00", "PDT": "-07:00", "PST": "-08:00"},
}


def send_at(values: Sequence[str], asked: datetime | None, now: datetime) -> datetime | None:
    """When to send a message with these X-Send-At headers, which a door was `asked` to send then; None: at once.

    A moment that has passed is None too. Raises Rejected for a date that cannot be read, that lies too far ahead, and
    for two that differ.
    """
    moments = {read(value) for value in values} | ({asked} if asked is not None else set())
    if not moments:
        return None
    if len(moments) > 1:
        raise _refusal(f"The message says more than once, and differently, when to send it ({HEADER}).")
    [moment] = moments
    if moment > now + timedelta(days=settings.SCHEDULE_MAX_DAYS):
        days = settings.SCHEDULE_MAX_DAYS
        raise _refusal(
            f"The message is to be sent on {moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC, which is more than "
            f"{days} day{'' if days == 1 else 's'} ahead ({HEADER})."
        )
    return moment if moment > now else None


def _refusal(text: str) -> Rejected:
    return Rejected(text, code="bad_send_at", status="5.6.0")


def read(value: str) -> datetime:
    """The moment that a text names; raises Rejected."""
    text = " ".join(_COMMENT.sub(" ", value[:200]).split())
    try:
        if found := _RFC3339.fullmatch(text):
            day, minutes, seconds, zone = found.groups()
        elif found := _RFC5322.fullmatch(text):
            weekday, number, month, year, minutes, seconds, zone = found.groups()
            day = f"{year}-{_MONTHS.index(month.lower()) + 1:02}-{int(number):02}"
            if weekday and _WEEKDAYS.index(weekday.lower()) != date.fromisoformat(day).weekday():
                raise ValueError(text)  # one of the two is wrong, and nobody knows which
            zone = _ZONES[zone.upper()] if zone.isalpha() else f"{zone[:3]}:{zone[3:]}"
        else:
            raise ValueError(text)
        # Both standards know a sixtieth second; no clock here does.
        return datetime.fromisoformat(f"{day}T{minutes}:{min(int(seconds or 0), 59):02}{zone.upper()}").astimezone(UTC)
    except (ValueError, KeyError, OverflowError):
        raise _refusal(
            f"{HEADER} cannot be read: give a date with a time zone, such as "
            "Fri, 14 Aug 2026 09:00:00 +0200 or 2026-08-14T09:00:00+02:00."
        ) from None
