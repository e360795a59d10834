"""Bulk actions in the admin: the page that counts first and begins one, and the list of those that run or have run
(DEL-9)."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import MaxValueValidator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from accounts.models import User
from accounts.tenancy import Area
from accounts.tenant_admin import client_ip, signed_in
from delivery import bulk, filters
from delivery.filters import BadFilter, MessageFilter
from delivery.models import BulkAction, MessageStatus
from delivery.read_only_admin import ReadOnlyAdmin, in_words
from delivery.walk import Count
from providers.models import Provider

BY_OPERATOR = "the platform operator"


def targets(who: User) -> QuerySet[Provider]:
    """The providers this person may re-route to."""
    return filters.providers_for(who).filter(enabled=True).select_related("tenant").order_by("name")


class ProviderField(forms.ModelChoiceField):
    """Where to re-route; empty: back to the rules. Operators see whose a provider is."""

    def __init__(self, who: User) -> None:
        self._names_tenant = who.is_superuser
        super().__init__(targets(who), required=False, label="Re-route to", empty_label="as the rules say")

    def label_from_instance(self, obj: Any) -> str:
        return f"{obj} ({obj.tenant or 'shared'})" if self._names_tenant else str(obj)


class BulkForm(forms.Form):
    """The action and the filter; the filter's fields have its own names, so that a link can fill them in."""

    action = forms.ChoiceField(choices=BulkAction.Action)
    tenant = forms.CharField(required=False, help_text="Slug or id.")
    account = forms.CharField(required=False, help_text="Username or id.")
    status = forms.MultipleChoiceField(
        choices=MessageStatus, required=False, widget=forms.CheckboxSelectMultiple, help_text="None: any."
    )
    provider = forms.CharField(required=False, help_text="Of the last attempt, or chosen by a person; name or id.")
    sender = forms.CharField(required=False, help_text="Of the envelope: an address or a domain; <> for bounces.")
    recipient = forms.CharField(required=False, help_text="An address or a domain.")
    address = forms.CharField(required=False, label="Sender or recipient")
    subject = forms.CharField(required=False, help_text="Words that are all in it.")
    accepted_from = forms.CharField(required=False, help_text="Such as 2026-08-14 or 2026-08-14T09:00; in UTC.")
    accepted_until = forms.CharField(required=False)
    error_code = forms.CharField(required=False, help_text="Of one of the recipients.")
    reason = forms.CharField(required=False, help_text="A part of the reason the message shows.")
    has_attachments = forms.ChoiceField(required=False, choices=[("", "either"), ("yes", "yes"), ("no", "no")])

    def __init__(self, *args: Any, who: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._who = who
        self.fields["to"] = ProviderField(who)
        if not who.is_superuser:
            del self.fields["tenant"]

    def clean(self) -> dict[str, Any]:
        told = super().clean() or self.cleaned_data
        try:
            self.wanted = filters.parse({name: told[name] for name in filters.KEYS if told.get(name)}, self._who)
        except BadFilter as error:
            raise ValidationError(str(error), code="bad_filter") from error
        return told


class PaceForm(forms.Form):
    pace = forms.IntegerField(
        required=False,
        min_value=1,
        validators=[MaxValueValidator(2**31 - 1)],
        label="Messages a minute",
        help_text="Empty: as fast as workers can.",
    )


@admin.register(BulkAction)
class BulkActionAdmin(ReadOnlyAdmin):
    area = Area.MESSAGES
    list_display = ("created_at", "action", "status", "who", "meant", "found", "changed", "refused", "finished_at")
    list_filter = ("status", "action")
    list_select_related = ("actor",)
    fields = (
        "action",
        "to",
        "meant",
        "who",
        "status",
        "note",
        "pace",
        "found",
        "changed",
        "refused",
        "why_refused",
        "created_at",
        "next_page_at",
        "finished_at",
    )
    readonly_fields = ("to", "meant", "who", "found", "why_refused")
    actions = ("pause", "resume", "stop")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # Who began it may be an operator, whose row a tenant's request does not see: joined, it is none.
        return super().get_queryset(request).select_related("actor")

    # --- what is shown --------------------------------------------------------------------------------------
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(
            request, {**(extra_context or {}), "may_begin": self.has_act_permission(request)}
        )

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        names = super().get_list_display(request)
        return names if request.user.is_superuser else ["who_of_ours" if name == "who" else name for name in names]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if request.user.is_superuser:
            return self.fields
        return ["who_of_ours" if name == "who" else name for name in self.fields or ()]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return (*super().get_readonly_fields(request, obj), "who_of_ours")

    @admin.display(description="begun by")
    def who(self, row: BulkAction) -> str:
        return row.actor_label

    @admin.display(description="begun by")
    def who_of_ours(self, row: BulkAction) -> str:
        """For tenants: the name of a person of theirs, and of nobody else."""
        return row.actor_label if bulk.of_its_tenant(row) else BY_OPERATOR

    @admin.display(description="filter")
    def meant(self, row: BulkAction) -> str:
        return in_words(filters.in_words(filters.restore(row.filters))) if row.filters else "every message"

    @admin.display(description="found", ordering="counted")
    def found(self, row: BulkAction) -> str:
        return str(row.parameters.get("counted", row.counted))

    @admin.display(description="re-routed to")
    def to(self, row: BulkAction) -> str:
        key = row.parameters.get("provider")
        if row.action != BulkAction.Action.REROUTE or key is None:
            return "as the rules say" if row.action == BulkAction.Action.REROUTE else "-"
        return str(Provider.objects.defer("config").filter(pk=key).first() or "a provider that was deleted")

    @admin.display(description="why not the others")
    def why_refused(self, row: BulkAction) -> SafeString | str:
        counts = sorted(row.reasons.items(), key=lambda entry: -entry[1])
        return format_html_join("", "<div>{} {}</div>", ((f"{number:,}:", why) for why, number in counts)) or "-"

    # --- pause, resume, stop --------------------------------------------------------------------------------
    def get_buttons(self, request: HttpRequest, obj: BulkAction) -> list[str]:
        if not bulk.may_turn(signed_in(request), obj):
            return []
        fits = {
            "pause": (BulkAction.Status.RUNNING,),
            "resume": (BulkAction.Status.PAUSED,),
            "stop": (BulkAction.Status.RUNNING, BulkAction.Status.PAUSED),
        }
        return [name for name, statuses in fits.items() if obj.status in statuses]

    @admin.action(description="Pause", permissions=["act"])
    def pause(self, request: HttpRequest, queryset: QuerySet[BulkAction]) -> None:
        self._turn(request, queryset, bulk.pause, "paused")

    @admin.action(description="Resume", permissions=["act"])
    def resume(self, request: HttpRequest, queryset: QuerySet[BulkAction]) -> None:
        self._turn(request, queryset, bulk.resume, "resumed")

    @admin.action(description="Stop", permissions=["act"])
    def stop(self, request: HttpRequest, queryset: QuerySet[BulkAction]) -> None:
        self._turn(request, queryset, bulk.stop, "stopped")

    def _turn(self, request: HttpRequest, queryset: QuerySet[BulkAction], act: Any, done: str) -> None:
        who = signed_in(request)
        rows = list(queryset.select_related("actor"))
        turned = sum(bulk.may_turn(who, row) and act(row, actor=who, ip=client_ip(request)) for row in rows)
        self.message_user(request, f"{turned} of {len(rows)} {done}.", messages.SUCCESS if turned else messages.WARNING)

    # --- begin one ------------------------------------------------------------------------------------------
    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.begin_view)
        return [path("begin/", view, name="delivery_bulkaction_begin"), *super().get_urls()]

    def begin_view(self, request: HttpRequest) -> HttpResponse:
        """GET with a filter counts, POST begins."""
        if request.method not in {"GET", "HEAD", "POST"}:
            return HttpResponseNotAllowed(["GET", "POST"])
        if not self.has_act_permission(request):
            raise PermissionDenied
        who, posted = signed_in(request), request.method == "POST"
        asked = request.POST if posted else request.GET
        form = BulkForm(asked or None, who=who)
        pace = PaceForm(request.POST if posted else None)
        count = None
        if form.is_valid():
            count = bulk.count(form.wanted, who)
            if posted and pace.is_valid():
                return self._begin(request, form, pace.cleaned_data["pace"], count)
        context = {
            **self.admin_site.each_context(request),
            "title": "Bulk action",
            "opts": self.opts,
            "form": form,
            "pace": pace,
            "count": count,
            "told": _told(form) if count is not None else None,
            "repeated": [(name, value) for name in form.fields for value in asked.getlist(name)] if asked else [],
        }
        return TemplateResponse(request, "admin/delivery/bulkaction/begin.html", context)

    def _begin(self, request: HttpRequest, form: BulkForm, pace: int | None, count: Count) -> HttpResponse:
        row = bulk.begin(
            form.cleaned_data["action"],
            form.wanted,
            actor=signed_in(request),
            provider=form.cleaned_data["to"],
            pace=pace,
            counted=count,
            ip=client_ip(request),
        )
        self.message_user(request, "Begun. Reload this page to see how far it has come.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:delivery_bulkaction_change", args=[row.pk]))


def _told(form: BulkForm) -> dict[str, str]:
    told = {"action": str(BulkAction.Action(form.cleaned_data["action"]).label)}
    if form.cleaned_data["action"] == BulkAction.Action.REROUTE:
        told["to"] = str(form.cleaned_data["to"] or "as the rules say")
    return told | ({"messages": "every message"} if form.wanted == MessageFilter() else filters.in_words(form.wanted))
