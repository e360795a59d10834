"""The form of a provider: its own fields, and one per setting of its type (ADM-2, PRV-12)."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError

from accounts.forms import NumbersField
from providers import registry
from providers.base import ConfigField
from providers.models import Provider

PREFIX = "config_"
CLEAR = "_clear"
_DESTINATION = frozenset({"host", "port", "base_url", "security", "verify_certificate", "ca_file"})
"""Settings that say who is given the secrets."""


class ProviderForm(forms.ModelForm):
    """Made per type by `provider_form`. A stored secret is never put into the page; left empty it is kept.

    A stored secret does not follow a change of server: who may edit a provider could otherwise have it sent to a
    server of their own.
    """

    provider_type: ClassVar[str]
    specs: ClassVar[tuple[ConfigField, ...]]

    class Meta:
        model = Provider
        fields = ("tenant", "name", "enabled", "default_rank", "retry_schedule")
        field_classes = {"retry_schedule": NumbersField}
        help_texts = {"retry_schedule": "Seconds before each retry, one a line; empty: the platform's schedule."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.type = self.provider_type
        self.stored = dict(self.instance.config or {})
        for spec in self.specs:
            field = self.fields.get(PREFIX + spec.name)
            if field is None:
                continue
            if spec.kind != "secret":
                self.initial[PREFIX + spec.name] = self.stored.get(spec.name, spec.default)
            elif self.stored.get(spec.name):
                field.required = False
                field.help_text = f"{spec.help} Stored; leave empty to keep it.".strip()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        config: dict[str, Any] = {}
        for spec in self.specs:
            value = cleaned.get(PREFIX + spec.name)
            if spec.kind == "secret" and not value:
                value = None if cleaned.get(PREFIX + spec.name + CLEAR) else self._kept(spec, cleaned)
            if value not in (None, ""):
                config[spec.name] = value
        self.instance.config = config
        return cleaned

    def _kept(self, spec: ConfigField, cleaned: dict[str, Any]) -> Any:
        stored = self.stored.get(spec.name)
        if stored and self._goes_elsewhere(cleaned):
            self.add_error(PREFIX + spec.name, "Enter it again: the server it is sent to has changed.")
        return stored

    def _goes_elsewhere(self, cleaned: dict[str, Any]) -> bool:
        def before(spec: ConfigField) -> Any:
            return self.stored.get(spec.name, spec.default)

        watched = (spec for spec in self.specs if spec.name in _DESTINATION)
        return any((cleaned.get(PREFIX + spec.name) or None) != (before(spec) or None) for spec in watched)

    def add_error(self, field: str | None, error: Any) -> None:
        """Django's, but for errors of model fields that are not in the form: they belong to the form as a whole."""
        if field is None and isinstance(error, ValidationError) and hasattr(error, "error_dict"):
            known: dict[str, list[ValidationError]] = {}
            for name, errors in error.error_dict.items():
                known.setdefault(name if name in self.fields else NON_FIELD_ERRORS, []).extend(errors)
            error = ValidationError(known)
        super().add_error(field, error)


def provider_form(type_: str, *, existing: bool) -> type[ProviderForm]:
    """The form for a provider of this type; `existing` when there may be a stored secret to remove."""
    specs = registry.backend_class(type_).config_fields
    fields: dict[str, Any] = {}
    for spec in specs:
        fields[PREFIX + spec.name] = _field(spec)
        if existing and spec.kind == "secret" and not spec.required:
            fields[PREFIX + spec.name + CLEAR] = forms.BooleanField(required=False, label=f"Remove: {spec.label}")
    return type("ProviderForm", (ProviderForm,), {"provider_type": type_, "specs": specs, **fields})


def setting_names(type_: str, *, existing: bool) -> list[str]:
    """The names of the form's fields for the settings, in order."""
    return [name for name in provider_form(type_, existing=existing).declared_fields if name.startswith(PREFIX)]


def _field(spec: ConfigField) -> forms.Field:
    common: dict[str, Any] = {"label": spec.label, "required": spec.required, "help_text": spec.help}
    match spec.kind:
        case "bool":
            return forms.BooleanField(**{**common, "required": False}, initial=spec.default)
        case "int":
            return forms.IntegerField(**common, initial=spec.default)
        case "choice":
            blank = [] if spec.required or spec.default else [("", "—")]
            choices = [*blank, *((choice, choice) for choice in spec.choices)]
            return forms.ChoiceField(**common, choices=choices, initial=spec.default)
        case "secret":
            return forms.CharField(**common, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}))
        case _:
            return forms.CharField(**common, initial=spec.default)
