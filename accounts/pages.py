"""Pages of lists that may be very long: nothing is counted that nobody will look at (ADM-5)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django.core.paginator import Paginator
from django.db import models

if TYPE_CHECKING:
    Pages = Paginator[Any]
else:
    Pages = Paginator

M = TypeVar("M", bound=models.Model)

PAGES_AHEAD: Final = 40
"""How many pages from the one that is shown are offered."""
MOST_PAGES: Final = 400
"""Further on nobody leafs, and the database would read all the rows before; a filter leads there at once."""
NEWEST = 50_000
"""Rows that are looked at for what no index knows, such as words in subjects."""


class MoreThan(int):
    """A number of rows there are more of."""

    def __str__(self) -> str:
        return f"more than {int(self):,}"

    __html__ = __str__
    """Django's templates write numbers by their digits; this one is written in words."""


class BoundedPaginator(Pages):
    """Counts as far as the pages that are offered, from page `at`; then there are `MoreThan` so many rows."""

    at = 1

    @cached_property
    def count(self) -> int:
        most = self.per_page * min(max(PAGES_AHEAD, self.at + PAGES_AHEAD // 2), MOST_PAGES)
        rows: Any = self.object_list
        found = rows.order_by()[: most + 1].count() if isinstance(rows, models.QuerySet) else len(rows[: most + 1])
        return MoreThan(most) if found > most else found


def newest(rows: models.QuerySet[M], among: models.QuerySet[M]) -> models.QuerySet[M]:
    """Those of `rows` that are of the `NEWEST` in `among`, whose keys are told by an index (UUIDv7)."""
    oldest = among.order_by("-pk").values_list("pk", flat=True)[NEWEST : NEWEST + 1].first()
    return rows if oldest is None else rows.filter(pk__gt=oldest)
