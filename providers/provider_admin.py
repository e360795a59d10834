"""The admin of providers: choose a type, fill in its form, try it out (ADM-2, PRV-12, PRV-13)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db import transaction
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts import badges, shared_state
from accounts.confirmation import asks, counted
from accounts.copied import copied
from accounts.tenancy import Area, visible_to
from providers import catalogue, health, limits, registry
from providers.base import ConfigField
from providers.clones import clone
from providers.exceptions import Misconfigured
from providers.forms import SettingNames, provider_form, setting_names
from providers.health_admin import HealthMixin
from providers.models import Provider, RoutingRule, RoutingTarget
from providers.order_admin import OrderMixin
from providers.trial_admin import TrialPage
from providers.webhooks import page

LIMITS = ("per_second", "per_minute", "per_day", "concurrency")
LIMITS_TOLD = (
    "How much may go through this provider, over all workers together. Mail above a limit waits or takes the next "
    "provider; nothing fails. Empty: what the service itself says, and no limit of ours."
)
WEBHOOK_TOLD = (
    "The service reports deliveries, bounces and complaints to this address. Paste it where the service lists its "
    "webhooks, and enter here what proves that a report is the service's."
)


class TypeFilter(admin.SimpleListFilter):
    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(type_, catalogue.name(type_)) for type_ in registry.types()]

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


def _what_stops(rows: QuerySet[Provider]) -> str:
    rules = RoutingTarget.objects.filter(provider__in=rows).values("rule").distinct().count()
    return (
        f"No new mail goes through {counted(rows.count(), 'provider')} until enabled again; "
        f"{counted(rules, 'rule')} that name{'s' if rules == 1 else ''} it go on with the next provider, or hold mail "
        "where there is none."
    )


@admin.register(Provider)
class ProviderAdmin(TrialPage, HealthMixin, OrderMixin):
    """A new provider begins with its type; the form then asks for what that type needs."""

    area = Area.PROVIDERS
    order_field = "default_rank"
    ordering: ClassVar[Any] = ("tenant", F("default_rank").asc(nulls_last=True), "name")
    list_display: Any = ("name", "type_told", "health_badge", "enabled", "place")
    list_filter = (TypeFilter, "enabled")
    search_fields = ("name",)
    empty_text = (
        "Mail waits until there is a provider: an e-mail service, or a mail server of yours, that takes it on. "
        "Add one, test it, and give it a default rank."
    )
    actions = ("probe_now", "enable", "disable", "clone")
    readonly_fields = (
        "type",
        "type_told",
        "health_told",
        "health_changes",
        "limits_now",
        "settings_told",
        "webhook",
        "created_at",
        "updated_at",
    )

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ("accounts/config.css",)}
        js = ("providers/order.js", "accounts/copy.js")

    def _order(self) -> Sequence[Any]:
        return ("default_rank", "name", "pk")

    # --- columns and read-only fields -------------------------------------------------------------------------------
    @admin.display(description="type", ordering="type")
    def type_told(self, provider: Provider) -> str:
        return catalogue.name(provider.type)

    @admin.display(description="default order", ordering=F("default_rank").asc(nulls_last=True))
    def place(self, row: Any) -> SafeString | str:
        return super().place(row) if row.default_rank is not None else "by rules only"

    @admin.display(description="address")
    def webhook(self, provider: Provider) -> str:
        if not page.has_webhook(provider.type):
            return page.told(provider)
        address, *missing = page.lines(provider)
        notes = format_html_join("", '<p class="hint">{}</p>', ((line,) for line in missing))
        return format_html("{}{}", copied("webhook-address", address), notes)

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

    # --- types ------------------------------------------------------------------------------------------------------
    def offered_types(self, request: HttpRequest) -> list[str]:
        """The types this person may add; those that act on our own machine are the operator's."""
        return [*registry.offered(by_operator=request.user.is_superuser)]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and obj.type not in self.offered_types(request):
            return False
        return super().has_change_permission(request, obj)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        type_ = request.GET.get("type", "")
        if not self.has_add_permission(request) or type_ in self.offered_types(request):
            title = {"title": f"Add {catalogue.name(type_)}", "card": catalogue.card(type_)} if type_ else {}
            return super().add_view(request, form_url, {**(extra_context or {}), **title})
        cards = [catalogue.card(type_) for type_ in self.offered_types(request)]
        context = {
            **self.admin_site.each_context(request),
            "title": "Choose a type",
            "lead": "Which service takes your mail? Its form then asks for what it needs.",
            "opts": self.opts,
            "cards": sorted(cards, key=lambda card: (card.sandbox, card.type != "smtp", card.name.lower())),
            "media": self.media,
        }
        return TemplateResponse(request, "admin/providers/provider/choose_type.html", context)

    # --- the form ---------------------------------------------------------------------------------------------------
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
            names = setting_names(self._type(request, obj), stored=_stored(obj))
        else:
            names = SettingNames(["settings_told"], [], [])
        about = ["tenant", "name", *([] if obj is None else ["type_told"]), "enabled"]
        hook = [*([] if obj is None or not page.has_webhook(obj.type) else ["webhook"]), *names.webhook]
        told = [] if obj is None else [("Health", {"fields": ["health_told", "health_changes"]})]
        return [
            (None, {"fields": about}),
            *([("Settings", {"fields": names.main})] if names.main else []),
            *([("Further settings", {"fields": names.further, "classes": ["collapse"]})] if names.further else []),
            ("When it is used", {"fields": ["default_rank", "retry_schedule"]}),
            *([("Webhook", {"fields": hook, "description": WEBHOOK_TOLD})] if hook else []),
            ("Limits", {"fields": [*LIMITS, *([] if obj is None else ["limits_now"])], "description": LIMITS_TOLD}),
            *told,
            *([] if obj is None else [(None, {"fields": ["created_at", "updated_at"]})]),
        ]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        provider = kwargs.get("obj")
        if provider is not None:
            targets = provider.routing_targets.filter(rule__in=visible_to(request.user, RoutingRule)).select_related(
                "rule"
            )
            context["uses"] = targets.order_by("rule__priority", "rule__pk")[:50]
            context["may_try"] = self.has_change_permission(request, provider)
            context["trial_form"] = self.message_form(request, provider)
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Provider, form: Any, change: bool) -> None:
        if change:
            # Somebody has looked after it: the next message finds out at once whether it works.
            health.note_saved(obj)
        super().save_model(request, obj, form, change)

    def response_post_save_add(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        # Its page comes next, where it can be tried out.
        return HttpResponseRedirect(reverse("admin:providers_provider_change", args=[quote(obj.pk)]))

    # --- actions ----------------------------------------------------------------------------------------------------
    def get_buttons(self, request: HttpRequest, obj: Any) -> Sequence[str]:
        if not self.has_change_permission(request, obj):
            return ()
        return [*super().get_buttons(request, obj), "disable" if obj.enabled else "enable", "clone"]

    def _switch(self, request: HttpRequest, queryset: QuerySet[Provider], *, on: bool) -> None:
        with transaction.atomic():
            changed = [row for row in queryset.exclude(enabled=on) if self.has_change_permission(request, row)]
            for row in changed:
                row.enabled = on
                row.save(update_fields=["enabled", "updated_at"])
                self.audit(request, "enabled" if on else "disabled", row, {"enabled": [not on, on]})
        self.message_user(request, f"{len(changed)} {'enabled' if on else 'disabled'}.")

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        self._switch(request, queryset, on=True)

    @admin.action(description="Disable", permissions=["change"])
    @asks(_what_stops, "Disable")
    def disable(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        self._switch(request, queryset, on=False)

    @admin.action(description="Clone", permissions=["change"])
    def clone(self, request: HttpRequest, queryset: QuerySet[Provider]) -> HttpResponse | None:
        made = []
        with transaction.atomic():
            for provider in queryset:
                if self.has_change_permission(request, provider):
                    copy = clone(provider)
                    self.audit(request, "cloned", copy, {"from": provider.name})
                    made.append(copy)
        self.message_user(
            request,
            f"{counted(len(made), 'copy', 'copies')} made, with settings and secrets; disabled until you enable it.",
        )
        if len(made) != 1:
            return None
        return HttpResponseRedirect(reverse("admin:providers_provider_change", args=[quote(made[0].pk)]))

    @admin.display(description="health", ordering="unhealthy_until")
    def health_badge(self, provider: Provider) -> SafeString:
        word = badges.status(self.health_word(provider))
        return word if provider.unhealthy_until is None else format_html("{}<br>{}", word, self.health_told(provider))
