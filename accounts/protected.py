"""What stands in the way of a deletion, found without loading it: an account may have millions of messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models


def standing(model: type[models.Model], rows: Sequence[Any]) -> list[str]:
    """`messages that belong to it` for each kind of row that would have to go first."""
    return [
        f"{relation.related_model._meta.verbose_name_plural} that belong to it"
        for relation in relations(model)
        if relation.on_delete is models.PROTECT
        and relation.related_model._base_manager.filter(**{f"{relation.field.name}__in": rows}).exists()
    ]


def relations(model: type[models.Model]) -> list[Any]:
    """Everything that refers to rows of this model, also what they do not know of by name."""
    fields = model._meta.get_fields(include_hidden=True)
    return [
        each for each in fields if each.auto_created and not each.concrete and (each.one_to_many or each.one_to_one)
    ]
