"""The admin of providers and routing rules."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html_join

from accounts import shared_state
from accounts.models import User
from accounts.tenancy import Area, Person
from accounts.tenant_admin import RoleInline, TenantModelAdmin
from providers import health, limits, registry
from providers.base import ConfigField
from providers.exceptions import Misconfigured
from providers.forms import RoutingRuleForm, RoutingTargetForm, RoutingTargets, provider_form, setting_names
from providers.health_admin import HealthMixin
from providers.models import Provider, RoutingRule, RoutingTarget
from providers.trial_admin import TrialPage
from providers.webhooks import page

LIMITS = ("per_second", "per_minute", "per_day", "concurrency")


class TypeFilter(admin.SimpleListFilter):
    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(type_, type_) for type_ in registry.types()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(type=self.value()) if self.value() else queryset


def _specs(type_: str) -> tuple[ConfigField, ...]:
    """The settings of a type; none for a type that is no longer known, so that its row can be seen and deleted."""
    try:
        return registry.backend_class(type_).config_fields
    except Misconfigured:
        return ()


def _stored(provider: Provider | None) -> dict[str, Any]:
    return {} if provider is None else provider.config or {}


@admin.register(Provider)
class ProviderAdmin(TrialPage, HealthMixin):
    """A new provider begins with its type; the form then asks for what that type needs."""

    area = Area.PROVIDERS
    list_display = ("name", "health_told", "type", "enabled", "default_rank")
    list_filter = (TypeFilter, "enabled")
    search_fields = ("name",)
    actions = ("probe_now",)
    readonly_fields = (
        "type",
        "health_told",
        "health_changes",
        "limits_now",
        "settings_told",
        "webhook",
        "created_at",
        "updated_at",
    )

    @admin.display(description="address")
    def webhook(self, provider: Provider) -> str:
        return page.told(provider)

    @admin.display(description="now")
    def limits_now(self, provider: Provider) -> str:
        """What the limits are doing, as far as is known; its text names no tenant of a shared provider."""
        try:
            return "; ".join(limits.usage(provider).told())
        except shared_state.Unavailable:
            return "not known: the shared store does not answer"

    @admin.display(description="settings")
    def settings_told(self, provider: Provider) -> str:
        """The settings for those who may only read; of a secret, whether there is one."""
        lines = []
        for spec in _specs(provider.type):
            value = provider.config.get(spec.name, spec.default)
            if spec.kind == "secret":
                value = "stored" if value else "none"
            lines.append((spec.label, "" if value is None else value))
        return format_html_join("", "{}: {}<br>", lines)

    def shown_settings(self, obj: Provider) -> frozenset[str]:
        return frozenset(f"config.{spec.name}" for spec in _specs(obj.type) if spec.kind != "secret")

    def offered_types(self, request: HttpRequest) -> list[str]:
        """The types this person may add; those that act on our own machine are the operator's."""
        return [*registry.offered(by_operator=request.user.is_superuser)]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and obj.type not in self.offered_types(request):
            return False
        return super().has_change_permission(request, obj)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request) or request.GET.get("type") in self.offered_types(request):
            return super().add_view(request, form_url, extra_context)
        context = {
            **self.admin_site.each_context(request),
            "title": "Choose a type",
            "opts": self.opts,
            "types": [(type_, registry.label(type_)) for type_ in self.offered_types(request)],
        }
        return TemplateResponse(request, "admin/providers/provider/choose_type.html", context)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None or self.has_change_permission(request, obj):
            kwargs["form"] = provider_form(
                self._type(request, obj), stored=_stored(obj), by_operator=request.user.is_superuser
            )
        return super().get_form(request, obj, change=change, **kwargs)

    def _type(self, request: HttpRequest, obj: Provider | None) -> str:
        return obj.type if obj is not None else request.GET["type"]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None or self.has_change_permission(request, obj):
            settings = setting_names(self._type(request, obj), stored=_stored(obj))
        else:
            settings = ["settings_told"]
        about = ["tenant", "name", *([] if obj is None else ["type"]), "enabled"]
        told = (
            [] if obj is None else [(None, {"fields": ["health_told", "health_changes", "created_at", "updated_at"]})]
        )
        return [
            (None, {"fields": about}),
            ("Settings", {"fields": settings}),
            ("When it is used", {"fields": ["default_rank", "retry_schedule"]}),
            *([] if obj is None or not page.has_webhook(obj.type) else [("Webhook", {"fields": ["webhook"]})]),
            ("Limits", {"fields": [*LIMITS, *([] if obj is None else ["limits_now"])]}),
            *told,
        ]

    def save_model(self, request: HttpRequest, obj: Provider, form: Any, change: bool) -> None:
        if change:
            # Somebody has looked after it: the next message finds out at once whether it works.
            health.note_saved(obj)
        super().save_model(request, obj, form, change)


class TargetInline(RoleInline):
    model = RoutingTarget
    form = RoutingTargetForm
    formset = RoutingTargets
    area = Area.PROVIDERS
    fields = ("position", "provider", "weight")

    def choices_for(self, user: Person, model: Any) -> QuerySet[Any]:
        rows = super().choices_for(user, model)
        tenant = user.tenant if isinstance(user, User) else None
        if model is Provider and tenant is not None and tenant.may_use_shared_providers:
            return Provider.objects.filter(Q(tenant=tenant) | Q(tenant=None))
        return rows


@admin.register(RoutingRule)
class RoutingRuleAdmin(TenantModelAdmin):
    area = Area.PROVIDERS
    form = RoutingRuleForm
    list_display = ("priority", "name", "action", "enabled", "targets_told")
    list_display_links = ("name",)
    list_filter = ("enabled", "action")
    search_fields = ("name",)
    fields = ("tenant", "name", "priority", "enabled", "action", "conditions")
    inlines = (TargetInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        targets = RoutingTarget.objects.select_related("provider").defer("provider__config")
        return super().get_queryset(request).prefetch_related(Prefetch("targets", targets))

    @admin.display(description="providers")
    def targets_told(self, rule: RoutingRule) -> str:
        return " → ".join(str(target.provider) for target in rule.targets.all())
