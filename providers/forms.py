"""The forms of providers (their own fields, and one per setting of the type: ADM-2, PRV-12) and of routing rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput
from unfold import widgets  # type: ignore[import-untyped]

from accounts.forms import ErrorsAnywhere, LongTextField, NumbersField
from providers import entered, registry
from providers.base import ConfigField
from providers.conditions import FIELDS
from providers.models import SCHEDULE, Provider, RoutingRule, RoutingTarget

PREFIX = "config_"
CLEAR = "_clear"
UNCHANGED = "•••••••• (unchanged)"
"""Stands in the empty field of a secret that is stored: it is never shown again."""


class ProviderForm(ErrorsAnywhere, forms.ModelForm):
    """Made per type by `provider_form`. A stored secret is never put into the page; left empty it is kept: see
    `entered`."""

    provider_type: ClassVar[str]
    specs: ClassVar[tuple[ConfigField, ...]]
    by_operator: ClassVar[bool]

    class Meta:
        model = Provider
        fields = (
            "tenant",
            "name",
            "enabled",
            "default_rank",
            "retry_schedule",
            "per_second",
            "per_minute",
            "per_day",
            "concurrency",
        )
        field_classes = {"retry_schedule": NumbersField}
        help_texts = {"retry_schedule": f"One a line, {SCHEDULE}. Empty: the platform's schedule."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "retry_schedule" in self.fields:
            self.fields["retry_schedule"].widget.attrs["rows"] = 3
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
                field.widget.attrs["placeholder"] = UNCHANGED
                field.help_text = f"{spec.help} Stored; leave empty to keep it, or enter a new one.".strip()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        self.instance.config, problems = entered.combine(
            self.specs,
            {spec.name: cleaned.get(PREFIX + spec.name) for spec in self.specs},
            self.stored,
            removed=[spec.name for spec in self.specs if cleaned.get(PREFIX + spec.name + CLEAR)],
            by_operator=self.by_operator,
        )
        for name, problem in problems.items():
            self.add_error(PREFIX + name, problem)
        return cleaned


def provider_form(type_: str, *, stored: Mapping[str, Any], by_operator: bool = False) -> type[ProviderForm]:
    """The form for a provider of this type; `stored` are the settings it has, among them secrets that can be removed.

    `by_operator` tells whether a platform operator fills it in.
    """
    specs = registry.backend_class(type_).config_fields
    fields: dict[str, Any] = {}
    for spec in specs:
        fields[PREFIX + spec.name] = _field(spec)
        if stored.get(spec.name) and spec.kind == "secret" and not spec.required:
            fields[PREFIX + spec.name + CLEAR] = forms.BooleanField(
                required=False, label=f"Remove: {spec.label}", widget=widgets.UnfoldBooleanSwitchWidget()
            )
    about = {"provider_type": type_, "specs": specs, "by_operator": by_operator}
    return type("ProviderForm", (ProviderForm,), {**about, **fields})


_FURTHER = frozenset(
    {
        "allow_plaintext",
        "base_url",
        "bcc_header",
        "ca_certificate",
        "configuration_set",
        "custom_headers",
        "data_timeout",
        "ehlo_name",
        "exactly_once",
        "identity_arn",
        "idle_seconds",
        "login_url",
        "max_message_mb",
        "return_path",
        "session_token",
        "seven_bit",
        "bounces_to_sender",
        "verify_certificate",
    }
)
"""Settings whose defaults fit most people."""


@dataclass(frozen=True, slots=True)
class SettingNames:
    """The names of the form's fields for the settings, in order and in groups."""

    main: list[str]
    further: list[str]
    webhook: list[str]


def setting_names(type_: str, *, stored: Mapping[str, Any]) -> SettingNames:
    """What is asked of everybody, what few people need, and what the service's webhooks need."""
    groups = SettingNames([], [], [])
    required = {spec.name for spec in registry.backend_class(type_).config_fields if spec.required}
    for name in provider_form(type_, stored=stored).declared_fields:
        if not name.startswith(PREFIX):
            continue
        setting = name.removeprefix(PREFIX).removesuffix(CLEAR)
        if setting.startswith("webhook_"):
            groups.webhook.append(name)
        elif setting in _FURTHER and setting not in required:
            groups.further.append(name)
        else:
            groups.main.append(name)
    return groups


def _field(spec: ConfigField) -> forms.Field:
    common: dict[str, Any] = {"label": spec.label, "required": spec.required, "help_text": spec.help}
    match spec.kind:
        case "bool":
            switch = widgets.UnfoldBooleanSwitchWidget()
            return forms.BooleanField(**{**common, "required": False}, initial=spec.default, widget=switch)
        case "int":
            number = widgets.UnfoldAdminIntegerFieldWidget()
            return forms.IntegerField(
                **common, initial=spec.default, min_value=spec.low, max_value=spec.high, widget=number
            )
        case "choice":
            blank = [] if spec.required or spec.default else [("", "—")]
            choices = [*blank, *((choice, choice) for choice in spec.choices)]
            select = widgets.UnfoldAdminSelectWidget()
            return forms.ChoiceField(**common, choices=choices, initial=spec.default, widget=select)
        case "secret":
            hidden = widgets.UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})
            return forms.CharField(**common, widget=hidden)
        case "text":
            return LongTextField(
                **common, initial=spec.default, widget=widgets.UnfoldAdminTextareaWidget(attrs={"rows": 4})
            )
        case _:
            return forms.CharField(**common, initial=spec.default, widget=widgets.UnfoldAdminTextInputWidget())


class ConditionsField(forms.JSONField):
    """The conditions of a rule as JSON; empty and `null` both mean "always"."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", forms.Textarea(attrs={"rows": 8, "cols": 80}))
        super().__init__(**kwargs)

    def to_python(self, value: Any) -> Any:
        try:
            found = super().to_python(value.strip() if isinstance(value, str) else value)
        except (RecursionError, ValueError):  # nested without end, or a number of thousands of digits
            raise ValidationError(self.error_messages["invalid"], code="invalid") from None
        if found is not None and not isinstance(found, list):
            raise ValidationError("Give a list of conditions, in [ ].", code="not_a_list")
        return found or []

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What was typed comes back as it was typed."""
        return initial if self.disabled else InvalidJSONInput(data or "")


class RoutingRuleForm(forms.ModelForm):
    class Meta:
        model = RoutingRule
        fields = ("tenant", "name", "priority", "enabled", "action", "conditions")
        field_classes = {"conditions": ConditionsField}
        help_texts = {
            "conditions": "A list in JSON: all must hold; empty: always. For example "
            '[{"field": "sender", "values": ["*.acme.example"]}, {"field": "subject", "op": "contains", '
            f'"values": ["invoice"]}}]. Fields: {", ".join(FIELDS)}; see docs/routing-conditions.md for each.'
        }


class RoutingTargetForm(forms.ModelForm):
    position = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=32767,
        widget=widgets.UnfoldAdminIntegerFieldWidget,
        help_text="The lowest is tried first, the next when it fails; targets of one position share the mail by "
        "weight. Empty: after the others.",
    )

    class Meta:
        model = RoutingTarget
        fields = ("position", "provider", "weight")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance._state.adding:
            self.initial["position"] = None

    def clean_position(self) -> int | None:
        position: int | None = self.cleaned_data["position"]
        return self.instance.position if position is None and self.instance.pk else position


class RoutingTargets(forms.BaseInlineFormSet):
    """The targets of a rule: a rule that sends has one at least, and a new one without a position comes last."""

    def clean(self) -> None:
        super().clean()
        kept = [form for form in self.forms if form.has_changed() or form.instance.pk]
        kept = [form for form in kept if not form.cleaned_data.get("DELETE")]
        if not kept and self.instance.action == RoutingRule.Action.SEND:
            raise ValidationError("A rule that sends needs at least one provider below.", code="no_target")
        used = [form.cleaned_data["position"] for form in kept if form.cleaned_data.get("position") is not None]
        free = max(used, default=-1) + 1
        for form in kept:
            if form.is_valid() and form.cleaned_data.get("position") is None:
                form.instance.position = form.cleaned_data["position"] = min(free, 32767)
                free += 1
