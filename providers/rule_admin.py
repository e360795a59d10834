"""The admin of routing rules: in order, in words, built by a form (RTE-1, RTE-6); `delivery.routing_admin` completes
it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar
from zoneinfo import available_timezones

from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.confirmation import asks, counted
from accounts.models import Account, User
from accounts.tenancy import Area, Person, visible_to
from accounts.tenant_admin import RoleInline, TenantModelAdmin
from providers import conditions, rule_words
from providers.forms import RoutingRuleForm, RoutingTargetForm, RoutingTargets
from providers.models import Provider, RoutingRule, RoutingTarget
from providers.order_admin import OrderMixin
from providers.ordering import STEP

MOST_OFFERED = 500
"""Accounts that are offered while a condition is written."""


class TargetInline(RoleInline):
    model = RoutingTarget
    form = RoutingTargetForm
    formset = RoutingTargets
    area = Area.PROVIDERS
    fields = ("position", "provider", "weight")
    verbose_name_plural = "providers, in the order they are tried"
    verbose_name = "provider"

    def choices_for(self, user: Person, model: Any) -> QuerySet[Any]:
        rows = super().choices_for(user, model)
        tenant = user.tenant if isinstance(user, User) else None
        if model is Provider and tenant is not None and tenant.may_use_shared_providers:
            return Provider.objects.filter(Q(tenant=tenant) | Q(tenant=None))
        return rows


@admin.register(RoutingRule)
class RoutingRuleAdmin(OrderMixin, TenantModelAdmin):
    area = Area.PROVIDERS
    order_field = "priority"
    form = RoutingRuleForm
    list_display: Any = ("place", "name", "in_words", "enabled")
    list_display_links = ("name",)
    list_filter = ("enabled", "action")
    search_fields = ("name",)
    ordering: ClassVar[Any] = ("tenant", "priority", "pk")
    fields = ("tenant", "name", "priority", "enabled", "action", "conditions")
    inlines = (TargetInline,)
    actions = ("enable", "disable")
    empty_text = (
        "Without rules every message goes through the default providers, in their order. A rule sends some of the "
        "mail another way, or holds, rejects or discards it."
    )
    empty_links = (("admin:providers_provider_changelist", "Default providers"),)

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ("accounts/config.css",)}
        js = ("providers/order.js", "providers/conditions.js")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        targets = RoutingTarget.objects.select_related("provider").defer("provider__config")
        return super().get_queryset(request).prefetch_related(Prefetch("targets", targets))

    # --- the list ---------------------------------------------------------------------------------------------------
    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist: Any = super().get_changelist_instance(request)
        shown = list(changelist.result_list)
        enabled = RoutingRule.objects.filter(tenant__in={rule.tenant_id for rule in shown}, enabled=True)
        others = list(enabled.order_by("priority", "pk")) if shown else []
        for rule in changelist.result_list:
            rule.hidden_by = _hidden_by(rule, others) if rule.enabled else None
        return changelist

    @admin.display(description="what it does")
    def in_words(self, rule: Any) -> SafeString | str:
        said = rule_words.sentence(rule.action, rule.conditions, list(rule.targets.all()))
        if getattr(rule, "hidden_by", None) is None:
            return said
        return format_html(
            '{}<br><span class="badge badge-warning">never reached</span> {}', said, _never(rule.hidden_by)
        )

    # --- the form ---------------------------------------------------------------------------------------------------
    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        last = self.get_queryset(request).order_by("-priority").values_list("priority", flat=True).first()
        return {"priority": (last or 0) + STEP, **super().get_changeform_initial_data(request)}

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        rule = kwargs.get("obj")
        accounts = visible_to(request.user, Account)
        if rule is not None:
            accounts = accounts.filter(tenant=rule.tenant_id)
        context["conditions_offer"] = {
            "accounts": list(accounts.order_by("username").values_list("username", flat=True)[:MOST_OFFERED]),
            "time_zones": sorted(zone for zone in available_timezones() if "/" in zone or zone == "UTC"),
            "weekdays": conditions.WEEKDAYS,
            "describe": reverse("admin:providers_routingrule_describe"),
            "rule": "" if rule is None else str(rule.pk),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    # --- in words, while it is written ------------------------------------------------------------------------------
    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.describe_view)
        return [path("describe/", view, name="providers_routingrule_describe"), *super().get_urls()]

    def describe_view(self, request: HttpRequest) -> HttpResponse:
        """What a rule would do as it stands in the form: {"text", "warning"}, or {"error"}; nothing is kept."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            listed = json.loads(request.POST.get("conditions") or "[]")
            conditions.validate(listed)
        except ValidationError as error:
            return JsonResponse({"error": " ".join(error.messages)})
        except (ValueError, RecursionError):
            return JsonResponse({"error": "This is no valid JSON."})
        action = request.POST.get("action", "")
        if action not in RoutingRule.Action.values:
            action = RoutingRule.Action.SEND
        said = rule_words.sentence(action, listed, self._targets(request))
        earlier = self._earlier(request)
        hidden = rule_words.hidden_by(listed, earlier) if request.POST.get("enabled") else None
        return JsonResponse({"text": said, "warning": "" if hidden is None else _never(hidden)})

    def _targets(self, request: HttpRequest) -> list[RoutingTarget]:
        """Targets that are kept nowhere, from `target`: `<provider>:<position>:<weight>`."""
        inline = TargetInline(RoutingRule, self.admin_site)
        known = {str(one.pk): one for one in inline.choices_for(request.user, Provider).defer("config")[:MOST_OFFERED]}
        found = []
        for number, text in enumerate(request.POST.getlist("target")[:MOST_OFFERED]):
            key, position, weight = (*text.split(":"), "", "", "")[:3]
            if key in known:
                place = int(position) if position.isdecimal() else 10_000 + number
                found.append(
                    RoutingTarget(provider=known[key], position=place, weight=int(weight) if weight.isdecimal() else 1)
                )
        return [target for target in found if target.weight]

    def _earlier(self, request: HttpRequest) -> Iterable[RoutingRule]:
        priority, key = request.POST.get("priority", ""), request.POST.get("rule", "")
        tenant = request.POST.get("tenant") or getattr(request.user, "tenant_id", None)
        enabled = visible_to(request.user, RoutingRule).filter(enabled=True).order_by("priority", "pk")
        rules = [rule for rule in enabled if str(rule.tenant_id) == str(tenant)]
        number = int(priority) if priority.isdecimal() and len(priority) < 10 else 0
        return [rule for rule in rules if rule.priority < number and str(rule.pk) != key]

    # --- actions ----------------------------------------------------------------------------------------------------
    def _switch(self, request: HttpRequest, queryset: QuerySet[RoutingRule], *, on: bool) -> None:
        with transaction.atomic():
            changed = list(queryset.exclude(enabled=on))
            for rule in changed:
                rule.enabled = on
                rule.save(update_fields=["enabled", "updated_at"])
                self.audit(request, "enabled" if on else "disabled", rule, {"enabled": [not on, on]})
        self.message_user(request, f"{len(changed)} {'enabled' if on else 'disabled'}.")

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[RoutingRule]) -> None:
        self._switch(request, queryset, on=True)

    @admin.action(description="Disable", permissions=["change"])
    @asks(
        lambda rows: f"{counted(rows.count(), 'rule')} will be passed over: mail takes the next rule that matches.",
        "Disable",
    )
    def disable(self, request: HttpRequest, queryset: QuerySet[RoutingRule]) -> None:
        self._switch(request, queryset, on=False)


def _hidden_by(rule: RoutingRule, others: list[RoutingRule]) -> RoutingRule | None:
    place = (rule.priority, rule.pk)
    earlier = [one for one in others if one.tenant_id == rule.tenant_id and (one.priority, one.pk) < place]
    return rule_words.hidden_by(rule.conditions, earlier)


def _never(hidden_by: RoutingRule) -> str:
    return f"Everything it could match is taken by “{hidden_by.name}” before it."
