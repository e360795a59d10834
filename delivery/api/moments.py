"""Filters by time that go along the keys of rows, which are times themselves."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django_filters import rest_framework as filters

from accounts.ids import first_at
from delivery.filters import YEARS

APART = timedelta(hours=1)
"""The key of a row is no further from its time than this."""


class MomentFilter(filters.IsoDateTimeFilter):
    """An ISO time; one that no row can have is refused. Without a zone it is UTC."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(validators=[_within], **kwargs)


def _within(moment: datetime) -> None:
    if moment.year not in YEARS:
        raise ValidationError("Nothing was recorded then.")


def recorded_since(rows: QuerySet[Any], moment: datetime) -> QuerySet[Any]:
    """Those written at that moment or later."""
    return rows.filter(pk__gte=first_at(moment))


def recorded_before(rows: QuerySet[Any], moment: datetime) -> QuerySet[Any]:
    return rows.filter(pk__lt=first_at(moment))
