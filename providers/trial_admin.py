"""The page on which a provider is tried out (PRV-13)."""

from __future__ import annotations

from typing import Any

import structlog
from django import forms
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import validate_email
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold import widgets  # type: ignore[import-untyped]

from accounts import shared_state
from accounts.domains import covers
from accounts.models import Account, Tenant
from accounts.tenant_admin import TenantModelAdmin, signed_in
from providers import trial
from providers.advice import advice
from providers.models import Provider

log = structlog.get_logger(__name__)

TOO_MANY = f"Not tried: that was more than {trial.PER_MINUTE} times in a minute. Wait a little."
NOT_COUNTED = "Not sent: the shared store does not answer, so that nobody knows how many were sent already."


class MessageForm(forms.Form):
    """Who the test message is from, and whom it goes to."""

    sender = forms.CharField(max_length=254, label="From", widget=widgets.UnfoldAdminEmailInputWidget())
    recipient = forms.CharField(max_length=254, label="To", widget=widgets.UnfoldAdminEmailInputWidget())

    def __init__(self, *args: Any, tenant: Tenant | None, by_operator: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._free = by_operator
        self._patterns = _allowed_senders(tenant)
        told = ", ".join(self._patterns) or "none yet"
        self.fields["sender"].help_text = f"The domains this tenant's accounts may send from: {told}."
        if self._patterns:
            self.initial.setdefault("sender", f"test@{self._patterns[0].removeprefix('*.')}")

    def clean_sender(self) -> str:
        sender = _address(self.cleaned_data["sender"])
        domain = sender.rpartition("@")[2]
        if not self._free and not any(covers(pattern, domain) for pattern in self._patterns):
            raise ValidationError(f"No account of this tenant may send from {domain}.", code="foreign_sender")
        return sender

    def clean_recipient(self) -> str:
        return _address(self.cleaned_data["recipient"])


def _tried_words(provider: Provider, form: MessageForm, *, sends: bool) -> str:
    if not sends or not form.is_valid():
        return f"The stored settings of {provider} were tried; nothing was sent."
    return f"A message from {form.cleaned_data['sender']} to {form.cleaned_data['recipient']} was handed to {provider}."


def _address(text: str) -> str:
    validate_email(text)
    return text


def _allowed_senders(tenant: Tenant | None) -> list[str]:
    if tenant is None:
        return []
    accounts = Account.objects.filter(tenant=tenant, status=Account.Status.ACTIVE).order_by("name")
    lists = accounts.values_list("allowed_senders", flat=True)[:100]
    return list(dict.fromkeys(pattern for patterns in lists for pattern in patterns))


class TrialPage(TenantModelAdmin):
    """Mixed into the admin of providers: those who may change one may try it, whether it is in use or not."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.trial_view)
        return [path("<path:object_id>/trial/", view, name="providers_provider_trial"), *super().get_urls()]

    def get_links(self, request: HttpRequest, obj: Any) -> list[tuple[str, str]]:
        links = super().get_links(request, obj)
        if self.has_change_permission(request, obj):
            links.append((reverse("admin:providers_provider_trial", args=[quote(obj.pk)]), "Test"))
        return links

    def trial_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if request.method not in {"GET", "HEAD", "POST"}:
            return HttpResponseNotAllowed(["GET", "POST"])
        provider: Provider = self.get_object(request, unquote(object_id))
        if not self.has_change_permission(request, provider):
            raise PermissionDenied
        sends = request.method == "POST" and request.POST.get("what") == "message"
        form = self.message_form(request, provider, request.POST if sends else None)
        result, problem = None, ""
        if request.method == "POST" and (not sends or form.is_valid()):
            problem = self._may_not(request, sends=sends)
            if not problem:
                result = self._try(request, provider, form if sends else None)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Test {provider}",
            "advice": advice(result.code, result.status_code) if result and not result.good else "",
            "tried": _tried_words(provider, form, sends=sends),
            "media": self.media,
            "opts": self.opts,
            "provider": provider,
            "form": form,
            "result": result,
            "problem": problem,
            "sends": sends,
        }
        return TemplateResponse(request, "admin/providers/provider/trial.html", context)

    def message_form(self, request: HttpRequest, provider: Provider, data: Any = None) -> MessageForm:
        person = signed_in(request)
        recipient = {"recipient": person.email}
        return MessageForm(data, initial=recipient, tenant=provider.tenant, by_operator=person.is_superuser)

    def _may_not(self, request: HttpRequest, *, sends: bool) -> str:
        """Why this person must wait, "" when not."""
        try:
            return "" if trial.may_try(signed_in(request)) else TOO_MANY
        except shared_state.Unavailable as error:
            log.warning("trials not counted", error=str(error))
            return NOT_COUNTED if sends else ""

    def _try(self, request: HttpRequest, provider: Provider, form: MessageForm | None) -> trial.Trial:
        # The entry comes first, so that nothing is sent without one.
        if form is None:
            self.audit(request, "tested", provider)
            return trial.check(provider)
        sender, recipient = form.cleaned_data["sender"], form.cleaned_data["recipient"]
        self.audit(request, "test_message", provider, {"from": sender, "to": recipient})
        return trial.send(provider, sender, recipient, signed_in(request).email)
