"""The admin of messages and dead letters. It never sets a status itself: `control` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse
from django.utils.http import urlencode

from accounts.models import User
from accounts.pages import NEWEST, newest
from accounts.tenancy import Area, Verb, permits, visible_to
from accounts.tenant_admin import VisibleRelatedFilter, client_ip, signed_in
from delivery import actions, contents_admin, control, filters, message_page, search
from delivery.bulk_admin import ProviderField
from delivery.models import DEAD_LETTERS, ArchiveCopy, DeadLetter, DeliveryLog, Message, Notice
from delivery.notice_admin import NoticeInline
from delivery.read_only_admin import ReadOnlyAdmin, as_uuid
from providers.models import Provider

MOST_AT_ONCE = 2000
"""Messages one action takes in a request; more are a bulk action, which workers do."""

FITS: dict[str, type[actions.Action]] = {
    "hold": actions.Hold,
    "release": actions.Release,
    "retry": actions.Retry,
    "reprocess": actions.Reprocess,
    "reroute": actions.Reroute,
    "cancel": actions.Cancel,
}
_AS_FILTER = {
    "status__exact": "status",
    "account__id__exact": "account",
    "tenant__id__exact": "tenant",
    "has_attachments__exact": "has_attachments",
}
"""What the address of a list says, in the words of `delivery.filters`."""
_NO_FILTER = frozenset({"o", "p", "all", "_facets"})


class RerouteForm(forms.Form):
    def __init__(self, *args: Any, who: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["to"] = ProviderField(who)


class MessagePages(ReadOnlyAdmin):
    """What the pages of all messages and of dead letters share."""

    area = Area.MESSAGES
    list_select_related = ("account",)
    search_fields = ("subject",)  # what is searched is in get_search_results
    search_help_text = (
        "Id, Message-ID in angle brackets, a provider's id, an address of sender or recipient, or words of the "
        f"subject: of the newest {NEWEST:,} messages."
    )
    inlines = (NoticeInline,)
    change_form_template = "admin/delivery/message/change_form.html"
    fieldsets = (
        (None, {"fields": ("id", "tenant", "account", "status", "status_reason", "subject")}),
        ("Envelope", {"fields": ("mail_from", "header_from", "message_id_header", "recipient_count", "smtputf8")}),
        ("Body", {"fields": ("size", "has_attachments", "store_key", "body_deleted_at")}),
        ("Origin", {"fields": ("source", "client_ip", "session_id", "accepted_at")}),
        (
            "What comes next",
            {"fields": ("queue", "scheduled_at", "next_attempt_at", "tries", "claims", "chosen", "finished_at")},
        ),
    )
    readonly_fields = ("chosen",)

    @admin.display(description="re-routed to")
    def chosen(self, row: Message) -> str:
        # Without its settings, which might not be readable.
        if row.routed_to_id is None:
            return "-"
        return str(Provider.objects.defer("config").get(pk=row.routed_to_id))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Each kind of term looks where an index can find it; words are looked for in subjects."""
        term = search_term.strip()
        key = as_uuid(term)
        if key is not None:
            return queryset.filter(pk=key), False
        if term.startswith("<"):
            return queryset.filter(message_id_header=term), False
        if "@" in term:
            return queryset.filter(pk__in=search.by_address(request.user, term)), False
        if found := search.by_provider_id(request.user, term):
            return queryset.filter(pk__in=found), False
        among = newest(queryset, visible_to(request.user, Message))
        return super().get_search_results(request, among, search_term)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if (message := kwargs.get("obj")) is not None:
            context |= message_page.context(signed_in(request), message)
        return super().render_change_form(request, context, *args, **kwargs)

    def get_links(self, request: HttpRequest, obj: Message) -> list[tuple[str, str]]:
        links = super().get_links(request, obj)
        if permits(request.user, Area.PROVIDERS, Verb.READ):
            links.append((f"{reverse('admin:providers_routingrule_explain')}?message={obj.pk}", "Explain routing"))
        if permits(request.user, Area.WEBHOOKS, Verb.READ):
            links.append((f"{reverse('admin:delivery_webhookdelivery_changelist')}?q={obj.pk}", "Webhook deliveries"))
        if Notice.objects.filter(sent=obj).exists():
            links.append((f"{reverse('admin:delivery_notice_changelist')}?q={obj.pk}", "What it tells of"))
        if ArchiveCopy.objects.filter(message_id=obj.pk).exists():
            links.append((f"{reverse('admin:delivery_archivecopy_changelist')}?q={obj.pk}", "Archive copies"))
        return links

    def get_buttons(self, request: HttpRequest, obj: Message) -> Sequence[str]:
        bodiless = obj.body_deleted_at is not None
        fits = (name for name, one in FITS.items() if obj.status in one.statuses and not (one.sends and bodiless))
        return [name for name in fits if name in (self.actions or ())]

    def _act(
        self,
        request: HttpRequest,
        queryset: QuerySet[Message],
        act: Callable[..., control.Outcome],
        name: str,
        done: str,
    ) -> HttpResponse | None:
        """Act on the chosen messages in this request; what is chosen by a filter is a bulk action."""
        if request.POST.get("select_across") == "1":
            return self._in_bulk(request, name)
        ids = list(queryset.order_by("pk").values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
        if len(ids) > MOST_AT_ONCE:
            self.message_user(request, f"At most {MOST_AT_ONCE} messages at once; nothing was done.", messages.ERROR)
            return None
        outcome = act(ids, actor=signed_in(request), ip=client_ip(request))
        self.message_user(request, f"{_counted(outcome.changed, len(ids))} {done}.")
        for reason, count in Counter(outcome.refused.values()).most_common():
            self.message_user(request, f"{count} not: {reason}", messages.WARNING)
        return None

    def _in_bulk(self, request: HttpRequest, name: str) -> HttpResponse | None:
        """To the page that counts and begins a bulk action, with the filter of this list."""
        try:
            found = self.as_filter(request)
        except filters.BadFilter as error:
            self.message_user(request, f"{error} Nothing was done.", messages.ERROR)
            return None
        query = urlencode({"action": name, **found}, doseq=True)
        return HttpResponseRedirect(f"{reverse('admin:delivery_bulkaction_begin')}?{query}")

    def as_filter(self, request: HttpRequest) -> dict[str, Any]:
        """The filter of the list that is shown; raises BadFilter for one that only lists have."""
        found: dict[str, Any] = {}
        for name, values in request.GET.lists():
            value = str(values[-1])
            if name in _AS_FILTER:
                found[_AS_FILTER[name]] = {"1": "yes", "0": "no"}.get(value, value)
            elif name == "q":
                found |= _searched(value.strip())
            elif name not in _NO_FILTER:
                raise filters.BadFilter(f"Bulk actions know no filter {name!r}.")
        return found

    @admin.action(description="Hold", permissions=["act"])
    def hold(self, request: HttpRequest, queryset: QuerySet[Message]) -> HttpResponse | None:
        return self._act(request, queryset, control.hold, "hold", "held")

    @admin.action(description="Release", permissions=["act"])
    def release(self, request: HttpRequest, queryset: QuerySet[Message]) -> HttpResponse | None:
        return self._act(request, queryset, control.release, "release", "released")

    @admin.action(description="Retry now", permissions=["act"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Message]) -> HttpResponse | None:
        return self._act(request, queryset, control.retry, "retry", "retried")

    @admin.action(description="Reprocess", permissions=["act"])
    def reprocess(self, request: HttpRequest, queryset: QuerySet[Message]) -> HttpResponse | None:
        return self._act(request, queryset, control.reprocess, "reprocess", "reprocessed")

    @admin.action(description="Cancel", permissions=["act"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Message]) -> HttpResponse | None:
        return self._act(request, queryset, control.cancel, "cancel", "cancelled")

    @admin.action(description="Re-route", permissions=["act"])
    def reroute(self, request: HttpRequest, queryset: QuerySet[Message]) -> HttpResponse | None:
        """Asks where to first."""
        if request.POST.get("select_across") == "1":
            return self._in_bulk(request, "reroute")
        form = RerouteForm(request.POST if "chosen" in request.POST else None, who=signed_in(request))
        if form.is_valid():
            act = partial(control.reroute, provider=form.cleaned_data["to"])
            return self._act(request, queryset, act, "reroute", "re-routed")
        context = {
            **self.admin_site.each_context(request),
            "title": "Re-route",
            "opts": self.opts,
            "form": form,
            "keys": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "number": queryset.order_by()[: MOST_AT_ONCE + 1].count(),
        }
        return TemplateResponse(request, "admin/delivery/message/reroute.html", context)


@admin.register(Message)
class MessageAdmin(MessagePages):
    list_display = ("accepted_at", "status", "account", "mail_from", "subject", "recipient_count", "size")
    list_filter = ("status", ("account", VisibleRelatedFilter), "has_attachments")
    actions = ("hold", "release", "retry", "reroute", "cancel")

    def get_urls(self) -> list[URLPattern]:
        return [*contents_admin.urls(self.admin_site.admin_view), *super().get_urls()]


class DeadStatusFilter(admin.SimpleListFilter):
    title = "status"
    parameter_name = "status__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(status.value, str(status.label)) for status in DEAD_LETTERS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(status=self.value()) if self.value() else queryset


@admin.register(DeadLetter)
class DeadLetterAdmin(MessagePages):
    """Messages that were given up, with what was the matter last (RET-5)."""

    empty_text = "Nothing has been given up."

    list_display = (
        "accepted_at",
        "status",
        "status_reason",
        "last_error",
        "attempts",
        "account",
        "mail_from",
        "subject",
        "finished_at",
    )
    list_filter = (DeadStatusFilter, ("account", VisibleRelatedFilter), "has_attachments")
    actions = ("reprocess", "reroute")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        newest = DeliveryLog.objects.filter(message=OuterRef("pk")).order_by("-pk").values("error_text")[:1]
        return super().get_queryset(request).annotate(error=Subquery(newest))

    def do_view(self, request: HttpRequest, object_id: str, action: str) -> HttpResponse:
        answer = super().do_view(request, object_id, action)
        if not isinstance(answer, HttpResponseRedirect):
            return answer
        # It is no dead letter any more.
        return HttpResponseRedirect(reverse("admin:delivery_message_change", args=[object_id]))

    @admin.display(description="last error")
    def last_error(self, row: Any) -> str:
        return row.error or "-"

    def as_filter(self, request: HttpRequest) -> dict[str, Any]:
        return {"status": [str(status) for status in DEAD_LETTERS], **super().as_filter(request)}


def _searched(term: str) -> dict[str, str]:
    """What `get_search_results` looks for, as a filter."""
    if not term:
        return {}
    if as_uuid(term) is not None or term.startswith("<"):
        raise filters.BadFilter("A search for one message is no bulk action.")
    return {"address" if "@" in term else "subject": term}


def _counted(changed: int, asked: int) -> str:
    """ "1 message", "3 messages", or "2 of 3 messages"."""
    noun = "message" if asked == 1 else "messages"
    return f"{changed} {noun}" if changed == asked else f"{changed} of {asked} {noun}"
