"""What stands in the way of a deletion, found without loading it: an account may have millions of messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models


def standing(model: type[models.Model], rows: Sequence[Any]) -> list[str]:
    """`messages that belong to it` for each kind of row that would have to go first."""
    return [
        f"{relation.related_model._meta.verbose_name_plural} that belong to it"
        for relation in model._meta.related_objects
        if relation.on_delete is models.PROTECT
        and relation.related_model._base_manager.filter(**{f"{relation.field.name}__in": rows}).exists()
    ]
