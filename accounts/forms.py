"""Forms of the admin for tenants, people and accounts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib.auth.forms import BaseUserCreationForm

from accounts.models import Account, ApiKey, Tenant, User


class LinesField(forms.CharField):
    """A list of texts, one a line; blank lines and space around are dropped."""

    widget = forms.Textarea

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for json_only in ("encoder", "decoder"):  # what a JSONField of a model passes to its form field
            kwargs.pop(json_only, None)
        kwargs.setdefault("widget", forms.Textarea(attrs={"rows": 3, "cols": 60}))
        super().__init__(*args, **kwargs)

    def to_python(self, value: Any) -> Any:
        lines = value if isinstance(value, list) else str(value or "").splitlines()
        return [line.strip() for line in lines if line.strip()]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, Iterable) and not isinstance(value, str) else value

    def validate(self, value: Any) -> None:
        if self.required and not value:
            raise forms.ValidationError(self.error_messages["required"], code="required")

    def run_validators(self, value: Any) -> None:
        """The model's own validators look at the list."""


class NumbersField(LinesField):
    """A list of whole numbers, one a line; None when there is none."""

    def to_python(self, value: Any) -> Any:
        try:
            return [int(line) for line in super().to_python(value)] or None
        except ValueError:
            raise forms.ValidationError("Give whole numbers, one a line.", code="not_a_number") from None


class TenantForm(forms.ModelForm):
    class Meta:
        model = Tenant
        fields = "__all__"  # noqa: DJ007  the admin names them
        field_classes = {"client_networks": LinesField}
        help_texts = {"client_networks": "Networks clients may connect from, one a line (192.0.2.0/24); empty: any."}


class AccountForm(forms.ModelForm):
    class Meta:
        model = Account
        fields = "__all__"  # noqa: DJ007  the admin names them
        field_classes = {"allowed_senders": LinesField, "client_networks": LinesField}
        help_texts = {
            "allowed_senders": "One a line: example.com, or *.example.com for every domain below it.",
            "client_networks": "Networks clients may connect from, one a line (192.0.2.0/24); empty: any.",
        }


class ApiKeyForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=ApiKey.Scope.choices, widget=forms.CheckboxSelectMultiple, initial=[ApiKey.Scope.SEND]
    )

    class Meta:
        model = ApiKey
        fields = ("account", "name", "scopes", "expires_at")


class UserCreationForm(BaseUserCreationForm):
    class Meta:
        model = User
        fields = ("email", "name", "tenant", "role")
        field_classes: dict[str, Any] = {}
