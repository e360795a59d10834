"""The pages that explain routing and try a changed rule; they complete the admin of routing rules (RTE-5)."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets, unquote
from django.core.exceptions import PermissionDenied, SuspiciousOperation, ValidationError
from django.forms.formsets import all_valid
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from accounts.admin_page import themed
from accounts.forms import LinesField
from accounts.ids import uuid7
from accounts.models import Account
from accounts.tenancy import Area, Verb, permits, visible_to
from delivery import dry_run, explain
from delivery.explain import Explanation, Question
from delivery.models import Message
from providers.models import RoutingRule, RoutingTarget
from providers.rule_admin import RoutingRuleAdmin

MOST_RECIPIENTS = 100
MOST_SHOWN = 100
"""Messages listed below the result of a dry run."""


class ExplainForm(forms.Form):
    """A message that does not exist."""

    account = forms.ModelChoiceField(Account.objects.none(), help_text="Who sends it.")
    sender = forms.CharField(
        required=False, max_length=320, label="Envelope sender", help_text="Empty for a bounce.", strip=True
    )
    recipients = LinesField(help_text=f"One a line, at most {MOST_RECIPIENTS}.")
    subject = forms.CharField(required=False, max_length=500)
    size = forms.IntegerField(min_value=0, max_value=2**40, initial=10_000, help_text="Octets.")
    has_attachments = forms.BooleanField(required=False)
    headers = LinesField(required=False, help_text="One a line, such as X-Kind: invoice.")
    when = forms.DateTimeField(
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
        help_text="In UTC; empty: now. For rules that look at the time.",
    )

    def __init__(self, *args: Any, accounts: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["account"].queryset = accounts  # type: ignore[attr-defined]
        themed(self)

    def clean_recipients(self) -> list[str]:
        addresses: list[str] = self.cleaned_data["recipients"]
        if len(addresses) > MOST_RECIPIENTS:
            raise ValidationError(f"At most {MOST_RECIPIENTS}.", code="too_many")
        if not all("@" in address for address in addresses):
            raise ValidationError("Give addresses, such as anna@example.com.", code="no_address")
        return addresses

    def clean_headers(self) -> list[tuple[str, str]]:
        pairs = [line.partition(":") for line in self.cleaned_data["headers"]]
        if not all(colon and name.strip() for name, colon, _ in pairs):
            raise ValidationError("Give headers as Name: value.", code="no_header")
        return [(name.strip().lower(), value.strip()) for name, _, value in pairs]

    def question(self) -> Question:
        told = self.cleaned_data
        when: datetime | None = told["when"]
        return Question(
            tenant=told["account"].tenant,
            account=told["account"].username,
            sender=told["sender"],
            recipients=tuple(dict.fromkeys(told["recipients"])),
            subject=told["subject"],
            size=told["size"],
            headers=told["headers"],
            has_attachments=told["has_attachments"],
            now=when or timezone.now(),
        )


SHORT = ("account", "sender", "recipients", "subject")
"""What is asked beside a rule; the rest has its defaults there."""


class ExplainedRuleAdmin(RoutingRuleAdmin):
    """Adds "Explain routing" to the list, and "Dry run" to a rule's page."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.explain_view)
        return [path("explain/", view, name="providers_routingrule_explain"), *super().get_urls()]

    def get_links(self, request: HttpRequest, obj: Any) -> list[tuple[str, str]]:
        return [*super().get_links(request, obj), (reverse("admin:providers_routingrule_explain"), "Explain routing")]

    def explain_view(self, request: HttpRequest) -> HttpResponse:
        if request.method not in {"GET", "HEAD", "POST"}:
            return HttpResponseNotAllowed(["GET", "POST"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        message = self._message(request)
        accounts = self._accounts(request)
        posted = request.method == "POST" and message is None
        form = ExplainForm(request.POST if posted else None, accounts=accounts)
        told: Explanation | None = None
        if message is not None:
            shows_headers = permits(request.user, Area.BODIES, Verb.READ)
            told = explain.explain(explain.about(message, shows_headers=shows_headers))
        elif posted and form.is_valid():
            told = explain.explain(form.question())
        context = {
            **self.admin_site.each_context(request),
            "title": "Explain routing",
            "opts": self.opts,
            "form": form,
            "message": message,
            "told": told,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/providers/routingrule/explain.html", context)

    def _accounts(self, request: HttpRequest) -> Any:
        return visible_to(request.user, Account).select_related("tenant").order_by("username")

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        rule, accounts = kwargs.get("obj"), self._accounts(request)
        asked = accounts if rule is None else accounts.filter(tenant=rule.tenant_id)
        first = asked.first()
        context["explain_form"] = ExplainForm(accounts=asked, initial={"account": first}, auto_id="id_explain_%s")
        context["explain_short"] = SHORT
        return super().render_change_form(request, context, *args, **kwargs)

    def _message(self, request: HttpRequest) -> Message | None:
        """The stored message that is asked about; 404 for one this person may not know of."""
        asked = request.GET.get("message")
        if asked is None:
            return None
        try:
            key = uuid.UUID(asked)
        except ValueError:
            raise Http404 from None
        rows = visible_to(request.user, Message).select_related("tenant", "account")
        found = rows.filter(pk=key).first() if permits(request.user, Area.MESSAGES, Verb.READ) else None
        if found is None:
            raise Http404
        return found

    # --- dry run --------------------------------------------------------------------------------------------
    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        if request.method == "POST" and "_dry_run" in request.POST:
            answer = self._dry_run(request, object_id)
            if answer is not None:
                return answer
        # The usual way shows what is wrong with the form.
        extra_context = {**(extra_context or {}), "dry_run_last": dry_run.LAST, "dry_run_most": dry_run.MOST}
        return super().changeform_view(request, object_id, form_url, extra_context)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if "_dry_run" in request.POST:
            raise SuspiciousOperation("a dry run saves nothing")
        super().save_model(request, obj, form, change)

    def _dry_run(self, request: HttpRequest, object_id: str | None) -> HttpResponse | None:
        """The result, None for a form that is not as it should be."""
        stored = None if object_id is None else self.get_object(request, unquote(object_id))
        if not (self.has_change_permission(request, stored) if stored else self.has_add_permission(request)):
            raise PermissionDenied
        change = self._unsaved(request, stored)
        if change is None:
            return None
        rule, targets = change
        asked = request.POST.get("_dry_run_last", "")
        last = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 9 else dry_run.LAST
        result = dry_run.dry_run(rule.tenant, rule, targets, last=last)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Dry run of {rule.name}",
            "opts": self.opts,
            "rule": rule,
            "result": result,
            "routes": [(before, after, count) for (before, after), count in result.routes.most_common()],
            "shown": result.changed[:MOST_SHOWN],
            "media": self.media,
        }
        return TemplateResponse(request, "admin/providers/routingrule/dry_run.html", context)

    def _unsaved(
        self, request: HttpRequest, stored: RoutingRule | None
    ) -> tuple[RoutingRule, list[RoutingTarget]] | None:
        """The rule and its targets as the form would save them."""
        fields = flatten_fieldsets(self.get_fieldsets(request, stored))
        form = self.get_form(request, stored, change=stored is not None, fields=fields)(request.POST, instance=stored)
        valid = form.is_valid()
        rule: RoutingRule = form.instance
        formsets = [
            formset(**self.get_formset_kwargs(request, rule, inline, formset.get_default_prefix()))
            for formset, inline in self.get_formsets_with_inlines(request, stored)
        ]
        if not (all_valid(formsets) and valid):
            return None
        if rule.pk is None:
            rule.pk = uuid7()  # Django's formsets take the key of a new row away
        kept = [one for formset in formsets for one in formset.forms if one not in formset.deleted_forms]
        return rule, [one.instance for one in kept if one.has_changed() or one.instance.pk]


admin.site.unregister(RoutingRule)
admin.site.register(RoutingRule, ExplainedRuleAdmin)
