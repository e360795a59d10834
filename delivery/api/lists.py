"""What lists of this floor share: filters in the words of `delivery.filters`, and order by time in both directions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from django.db.models import QuerySet
from rest_framework import exceptions
from rest_framework.request import Request

from accounts.api.pagination import Keyset
from delivery import filters, walk
from delivery.filters import BadFilter, MessageFilter
from delivery.models import Message

PAGING = frozenset({"limit", "cursor", "ordering", "format"})


class ByTime(Keyset):
    """Ids follow the time, so that a list by time is a list by id. `?ordering=` takes `time`, perhaps with a minus."""

    time: ClassVar[str]
    ordering_query_param = "ordering"
    ordering_description = "By time, the oldest or (with a minus) the newest first."

    def get_ordering(self, request: Any, queryset: Any, view: Any) -> tuple[str, ...]:
        given = request.query_params.get("ordering")
        if given is None:
            return (str(self.ordering),)
        if given.removeprefix("-") != self.time or given.startswith("--"):
            raise exceptions.ValidationError({"ordering": [f"By {self.time} or -{self.time}."]})
        return ("-id" if given.startswith("-") else "id",)


def by(name: str, *, newest_first: bool = False) -> type[ByTime]:
    """Pages in the order of the time called `name`."""
    return type("ByTime", (ByTime,), {"time": name, "ordering": "-id" if newest_first else "id"})


class Refused(exceptions.ParseError):
    default_code = "bad_filter"


def wanted(given: Any, who: filters.Who) -> MessageFilter:
    """The filter of these names and texts; raises ParseError (`bad_filter`)."""
    try:
        return filters.parse(given, who)
    except BadFilter as error:
        raise Refused(str(error)) from error


def asked(request: Request) -> dict[str, list[str]]:
    """What the query asks for beside pages."""
    return {name: request.query_params.getlist(name) for name in request.query_params if name not in PAGING}


def narrowed(rows: QuerySet[Message], meant: MessageFilter) -> QuerySet[Message]:
    """Those of `rows` that match, bounded by index where the filter says when."""
    return meant.narrow(walk.bounded(rows, meant))


def exactly(
    rows: QuerySet[Any], request: Request, names: Collection[str], besides: Collection[str] = ()
) -> QuerySet[Any]:
    """Those of `rows` whose fields hold what the query gives; raises ParseError for any other name but `besides`."""
    for name, values in asked(request).items():
        if name in besides:
            continue
        if name not in names:
            raise Refused(f"There is no filter {name!r}; there are {', '.join(sorted(names))}.")
        if any("\0" in value for value in values):
            raise Refused(f"The value of {name!r} is no text.")
        rows = rows.filter(**{f"{name}__in": values})
    return rows
