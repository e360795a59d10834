"""The lists behind the numbers, for those who may open them (ADM-1, ADM-3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode


def to_list(request: HttpRequest, model: type[Model], where: Mapping[str, Any]) -> str:
    """The address of the list of these rows; empty for a person who may not open it."""
    page = admin.site._registry.get(model)
    if page is None or not page.has_module_permission(request):
        return ""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
    return f"{reverse(name)}?{urlencode(where)}"
