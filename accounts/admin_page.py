"""Pages of the admin that are no list and no row: what they share, and forms in the look of the others (ADM-1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.views.generic import View
from unfold import widgets  # type: ignore[import-untyped]

from accounts.models import User
from accounts.tenancy import Area, Verb, permits
from accounts.tenant_admin import signed_in

F = TypeVar("F", bound=forms.BaseForm)

_CLASSES: tuple[tuple[type[forms.Widget], list[str]], ...] = (
    (forms.CheckboxSelectMultiple, widgets.CHECKBOX_CLASSES),
    (forms.CheckboxInput, widgets.CHECKBOX_CLASSES),
    (forms.RadioSelect, widgets.RADIO_CLASSES),
    (forms.Select, widgets.SELECT_CLASSES),
    (forms.Textarea, widgets.TEXTAREA_CLASSES),
    (forms.FileInput, widgets.INPUT_CLASSES),
    (forms.widgets.Input, widgets.INPUT_CLASSES),
)
"""The first that fits; more special ones come first."""


def themed(form: F) -> F:
    """The form with every plain widget dressed as the theme's own; widgets that have classes keep them."""
    for field in form.fields.values():
        classes = next((names for kind, names in _CLASSES if isinstance(field.widget, kind)), [])
        if not isinstance(field.widget, forms.HiddenInput) and "class" not in field.widget.attrs:
            field.widget.attrs["class"] = " ".join(classes)
    return form


class AdminPage(View):
    """A page for those who may `verb` in `area`; others get 403, and those who did not sign in are sent to do so.

    `template_name` extends "admin/page.html"; `title` and `lead`, a sentence below it, stand at its top.
    Hang it up with `path("…", site.admin_view(Page.as_view()), name="…")`.
    """

    area: ClassVar[Area]
    verb: ClassVar[Verb] = Verb.READ
    title: ClassVar[str]
    lead: ClassVar[str] = ""
    template_name: ClassVar[str]

    @classmethod
    def may(cls, user: User) -> bool:
        """Whether this person may open the page; what leads there asks as well."""
        return permits(user, cls.area, cls.verb)

    @property
    def user(self) -> User:
        return signed_in(self.request)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not self.may(signed_in(request)):
            raise PermissionDenied
        return super().dispatch(request, *args, **kwargs)

    def render(self, context: Mapping[str, Any]) -> HttpResponse:
        whole = {**admin.site.each_context(self.request), "title": self.title, "lead": self.lead, **context}
        return TemplateResponse(self.request, self.template_name, whole)
