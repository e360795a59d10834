"""Filters, search and order of lists. A parameter that nobody reads is refused: it would look as if it had worked."""

from __future__ import annotations

from typing import Any

from django.db import models
from django_filters import rest_framework as filters
from rest_framework import exceptions
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.request import Request

from accounts.api.parsers import usable

SHARED = frozenset({"limit", "cursor", "ordering", "format"})


class Filters(filters.DjangoFilterBackend):
    """By the view's `filterset_class`. Further parameters that a list reads itself are named in `parameters`."""

    def filter_queryset(self, request: Request, queryset: Any, view: Any) -> Any:
        found = super().filter_queryset(request, queryset, view)
        if getattr(view, "action", None) == "list":
            self._check(request, queryset, view)
        return found

    def _check(self, request: Request, queryset: Any, view: Any) -> None:
        filterset = self.get_filterset_class(view, queryset)
        known = {*SHARED, *getattr(view, "parameters", ())}
        if filterset is not None:
            known |= set(filterset(None, queryset=queryset, request=request).form.fields)
            # Ranges are read from parameters of their own.
            known |= {f"{name}_{edge}" for name in known for edge in ("after", "before", "min", "max")}
        if getattr(view, "search_fields", None):
            known.add("search")
        unknown = sorted(set(request.query_params) - known)
        if unknown:
            raise exceptions.ValidationError({name: ["There is no such parameter."] for name in unknown})
        for name in request.query_params:
            if not all(usable(value) for value in request.query_params.getlist(name)):
                raise exceptions.ValidationError({name: ["A NUL cannot be looked for."]})


class Search(SearchFilter):
    """`?search=` in the view's `search_fields`."""


class Ordering(OrderingFilter):
    """`?ordering=` by one of the view's `ordering_fields`, with `-` in front for the other way round.

    They must never be null, and be told by an index where the table is big; see Keyset.
    """

    ordering_fields = ("created_at",)

    def remove_invalid_fields(self, queryset: models.QuerySet[Any], fields: Any, view: Any, request: Request) -> Any:
        wanted, valid = list(fields), super().remove_invalid_fields(queryset, fields, view, request)
        if list(valid) != wanted or len(valid) != 1:
            known = ", ".join(name for name, _ in self.get_valid_fields(queryset, view, {"request": request}))
            raise exceptions.ValidationError({"ordering": [f"One of: {known}; with - in front for descending."]})
        return valid
