"""The forms of tenants' webhooks (EVT-3)."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from unfold import widgets  # type: ignore[import-untyped]

from delivery.filters import YEARS
from delivery.models import Webhook
from delivery.outbox import NAMES
from delivery.outgoing import post, webhooks

_GROUPS = (
    ("On its way", ("received", "scheduled", "held", "released", "retrying", "rerouted")),
    ("Sent", ("delivered", "confirmed", "deferred")),
    ("Not delivered", ("failed", "bounced", "complained", "suppressed", "cancelled", "discarded", "unknown")),
    ("What recipients do", ("opened", "clicked", "unsubscribed")),
)


def event_groups() -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything a webhook may ask for, by group; what is in none comes last."""
    groups = [
        (title, [(name, name) for name in NAMES if name.removeprefix("mail.") in words]) for title, words in _GROUPS
    ]
    grouped = {name for _, names in groups for name, _ in names}
    groups.append(("Others", [(name, name) for name in NAMES if name not in grouped]))
    return [(title, names) for title, names in groups if names]


class WebhookForm(forms.ModelForm):
    url = forms.URLField(label="URL", max_length=500, assume_scheme="https", widget=widgets.UnfoldAdminURLInputWidget)
    event_types = forms.MultipleChoiceField(
        choices=event_groups(),
        required=False,
        widget=widgets.UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="None chosen: every type.",
    )

    class Meta:
        model = Webhook
        fields = ("tenant", "name", "url", "account", "event_types")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "url" in self.fields:  # not for those who may only read
            self.fields["url"].help_text = (
                "https:// or http://, in private networks too."
                if settings.WEBHOOK_PRIVATE_NETWORKS
                else "https:// only."
            )

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"]
        try:
            post.check_url(url)
        except ValueError as error:
            raise ValidationError(str(error), code="url") from None
        return url

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        account, tenant = cleaned.get("account"), cleaned.get("tenant") or getattr(self.instance, "tenant", None)
        if account is not None and tenant is not None and account.tenant_id != tenant.pk:
            self.add_error("account", "This account belongs to another tenant.")
        if self.instance._state.adding and Webhook.objects.filter(tenant=tenant).count() >= webhooks.MOST:
            raise ValidationError(f"A tenant has at most {webhooks.MOST} webhooks.", code="too_many")
        return cleaned


class ReplayForm(forms.Form):
    """What was recorded in this time is sent again; UTC."""

    since = forms.SplitDateTimeField(widget=widgets.UnfoldAdminSplitDateTimeWidget, label="From")
    until = forms.SplitDateTimeField(widget=widgets.UnfoldAdminSplitDateTimeWidget, label="Until")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        for name, moment in cleaned.items():
            if moment.year not in YEARS:
                raise ValidationError({name: "Nothing was recorded then."}, code="range")
        if len(cleaned) == 2 and cleaned["since"] >= cleaned["until"]:
            raise ValidationError("The end comes before the beginning.", code="range")
        return cleaned
