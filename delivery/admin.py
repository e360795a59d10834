"""The admin of messages, what became of them, and dead letters. It never sets a status itself: `control` does."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Q, QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from accounts import audit
from accounts.tenancy import Area, Verb, permits
from accounts.tenant_admin import RoleInline, TenantModelAdmin, VisibleRelatedFilter, client_ip, signed_in
from delivery import control
from delivery.models import DEAD_LETTERS, DeliveryLog, Event, Message, MessageStatus, Recipient
from providers.admin import TypeFilter

MOST_AT_ONCE = 2000
"""Messages one action takes; more belong to a command that paces itself."""


class ReadOnlyAdmin(TenantModelAdmin):
    """Rows that the system writes and people read."""

    offers = frozenset()


class FirstRows(BaseInlineFormSet):
    """The first rows below a message: a page stays readable with a thousand recipients."""

    most = 100

    def get_queryset(self) -> QuerySet[Any]:
        if not hasattr(self, "_first"):
            self._first = super().get_queryset()[: self.most]
        return self._first


class ReadOnlyInline(RoleInline):
    offers = frozenset()
    formset = FirstRows
    can_delete = False

    order = "-pk"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).order_by(self.order)


class ReplyMixin:
    """What the provider said of a recipient, whether it was a yes or a no."""

    @admin.display(description="reply code")
    def reply_code(self, row: Recipient) -> str:
        return row.error_code

    @admin.display(description="reply")
    def reply(self, row: Recipient) -> str:
        return row.error_text


class RecipientInline(ReplyMixin, ReadOnlyInline):
    model = Recipient
    area = Area.MESSAGES
    order = "pk"
    fields = ("address", "status", "provider_message_id", "reply_code", "reply", "delivered_at", "updated_at")
    readonly_fields = ("reply_code", "reply")
    verbose_name_plural = f"Recipients (first {FirstRows.most})"


class DeliveryLogInline(ReadOnlyInline):
    model = DeliveryLog
    area = Area.LOGS
    fields = (
        "attempt_number",
        "created_at",
        "provider_name",
        "status",
        "response_code",
        "error_code",
        "error_text",
        "duration_ms",
    )
    verbose_name_plural = f"Delivery logs (newest {FirstRows.most})"
    show_change_link = True


class EventInline(ReadOnlyInline):
    model = Event
    area = Area.LOGS
    fields = ("occurred_at", "type", "data")
    verbose_name_plural = f"Events (newest {FirstRows.most})"


class DeadLetterFilter(admin.SimpleListFilter):
    title = "dead letters"
    parameter_name = "dead"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Dead letters only")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(status__in=DEAD_LETTERS) if self.value() == "yes" else queryset


class OccurringFilter(admin.ChoicesFieldListFilter):
    """A filter by choices without those that nothing sets yet."""

    not_yet = frozenset({"scheduled", "confirmed", "bounced", "complained", "suppressed", "opened", "clicked"})
    not_yet |= {"unsubscribed", "deferred"}

    def choices(self, changelist: Any) -> Iterator[Any]:
        names = [None, *(name for name, _ in self.field.flatchoices)]
        for name, choice in zip(names, super().choices(changelist), strict=False):
            if name not in self.not_yet:
                yield choice


class RecipientStatusFilter(OccurringFilter):
    not_yet = OccurringFilter.not_yet - {"deferred"}


def _as_uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    area = Area.MESSAGES
    list_display = ("accepted_at", "status", "account", "mail_from", "subject", "recipient_count", "size")
    list_filter = (
        DeadLetterFilter,
        ("status", OccurringFilter),
        ("account", VisibleRelatedFilter),
        "has_attachments",
    )
    list_select_related = ("account",)
    search_fields = ("subject",)  # what is searched is in get_search_results
    search_help_text = "Id, Message-ID in angle brackets, an address of sender or recipient, or words of the subject."
    inlines = (RecipientInline, DeliveryLogInline, EventInline)
    actions = ("hold", "release", "retry", "cancel")
    fieldsets = (
        (None, {"fields": ("id", "tenant", "account", "status", "status_reason", "subject")}),
        ("Envelope", {"fields": ("mail_from", "header_from", "message_id_header", "recipient_count", "smtputf8")}),
        ("Body", {"fields": ("size", "has_attachments", "store_key")}),
        ("Origin", {"fields": ("source", "client_ip", "session_id", "accepted_at")}),
        ("What comes next", {"fields": ("scheduled_at", "next_attempt_at", "tries", "claims", "finished_at")}),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Each kind of term looks where an index can find it; words are looked for in subjects."""
        term = search_term.strip()
        key = _as_uuid(term)
        if key is not None:
            return queryset.filter(pk=key), False
        if term.startswith("<"):
            return queryset.filter(message_id_header=term), False
        if "@" in term:
            received = Recipient.objects.filter(address__in={term, term.lower()}).values("message_id")
            return queryset.filter(Q(pk__in=received) | Q(mail_from__in={term, term.lower()})), False
        return super().get_search_results(request, queryset, search_term)

    def get_buttons(self, request: HttpRequest, obj: Message) -> Sequence[str]:
        fits = {
            "hold": control.WAITING,
            "release": (MessageStatus.HELD, MessageStatus.ENQUEUE_FAILED),
            "retry": (MessageStatus.RETRYING, MessageStatus.FAILED, MessageStatus.PARTIAL, *DEAD_LETTERS),
            "cancel": (*control.WAITING, MessageStatus.HELD),
        }
        return [name for name, statuses in fits.items() if obj.status in statuses]

    def _control(
        self,
        request: HttpRequest,
        queryset: QuerySet[Message],
        act: Callable[..., control.Outcome],
        done: str,
    ) -> None:
        rows = list(queryset.select_related(None).only("pk", "tenant_id").order_by("pk")[: MOST_AT_ONCE + 1])
        if len(rows) > MOST_AT_ONCE:
            self.message_user(request, f"At most {MOST_AT_ONCE} messages at once; nothing was done.", messages.ERROR)
            return
        with transaction.atomic():
            outcome = act([row.pk for row in rows], actor=signed_in(request))
            changed = [row for row in rows if row.pk not in outcome.refused]
            audit.record_each(signed_in(request), f"message.{done}", changed, client_ip(request))
        self.message_user(request, f"{_counted(outcome.changed, len(rows))} {done}.")
        for reason, count in Counter(outcome.refused.values()).most_common():
            self.message_user(request, f"{count} not: {reason}", messages.WARNING)

    @admin.action(description="Hold", permissions=["act"])
    def hold(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        self._control(request, queryset, control.hold, "held")

    @admin.action(description="Release", permissions=["act"])
    def release(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        self._control(request, queryset, control.release, "released")

    @admin.action(description="Retry now", permissions=["act"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        self._control(request, queryset, control.retry, "retried")

    @admin.action(description="Cancel", permissions=["act"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        self._control(request, queryset, control.cancel, "cancelled")


def _counted(changed: int, asked: int) -> str:
    """ "1 message", "3 messages", or "2 of 3 messages"."""
    noun = "message" if asked == 1 else "messages"
    return f"{changed} {noun}" if changed == asked else f"{changed} of {asked} {noun}"


class OfMessageAdmin(ReadOnlyAdmin):
    """Rows that belong to a message, linked to it for those who may see it."""

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        may = permits(request.user, Area.MESSAGES, Verb.READ)
        return ["message_link" if name == "message_id" and may else name for name in super().get_list_display(request)]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        may = permits(request.user, Area.MESSAGES, Verb.READ)
        return ["message_link" if name == "message_id" and may else name for name in self.fields or ()]

    @admin.display(description="message")
    def message_link(self, row: Any) -> str:
        url = reverse("admin:delivery_message_change", args=[row.message_id])
        return format_html('<a href="{}">{}</a>', url, row.message_id)

    @admin.display(description="message")
    def message_id(self, row: Any) -> str:
        return str(row.message_id)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        key = _as_uuid(search_term.strip())
        if key is not None:
            return queryset.filter(Q(pk=key) | Q(message_id=key)), False
        return super().get_search_results(request, queryset, search_term)


@admin.register(Recipient)
class RecipientAdmin(ReplyMixin, OfMessageAdmin):
    area = Area.MESSAGES
    ordering = ("-id",)
    list_display = ("address", "status", "message_id", "provider_message_id", "reply_code", "updated_at")
    list_filter = (("status", RecipientStatusFilter),)
    search_fields = ("=address", "=provider_message_id")
    fields = (
        "message_id",
        "address",
        "status",
        "provider_message_id",
        "reply_code",
        "reply",
        "delivered_at",
        "updated_at",
    )


@admin.register(DeliveryLog)
class DeliveryLogAdmin(OfMessageAdmin):
    area = Area.LOGS
    list_display = (
        "created_at",
        "status",
        "provider_name",
        "provider_type",
        "account",
        "message_id",
        "attempt_number",
        "response_code",
        "error_code",
        "duration_ms",
    )
    list_select_related = ("account",)
    search_fields = ("=provider_message_id", "=error_code")
    search_help_text = "Id of the message or attempt, provider message id, or error code."
    fields = (
        "id",
        "message_id",
        "attempt_number",
        "status",
        "provider_name",
        "provider_type",
        "provider_message_id",
        "response_code",
        "error_code",
        "error_text",
        "recipients_told",
        "results_told",
        "lost",
        "duration_ms",
        "created_at",
        "finished_at",
    )

    class ProviderTypeFilter(TypeFilter):
        title = "provider type"
        parameter_name = "provider_type"

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            return queryset.filter(provider_type=self.value()) if self.value() else queryset

    list_filter = ("status", ProviderTypeFilter, ("account", VisibleRelatedFilter), ("provider", VisibleRelatedFilter))

    @admin.display(description="recipients")
    def recipients_told(self, row: DeliveryLog) -> str:
        return "\n".join(row.recipients)

    @admin.display(description="results")
    def results_told(self, row: DeliveryLog) -> str:
        return json.dumps(row.results, indent=2, ensure_ascii=False)


@admin.register(Event)
class EventAdmin(OfMessageAdmin):
    area = Area.LOGS
    ordering = ("-id",)
    list_display = ("occurred_at", "type", "message_id", "data_told")
    search_fields = ("=provider_event_id",)
    search_help_text = "Id of the message or event, or the provider's event id."
    fields = ("id", "message_id", "type", "occurred_at", "provider_event_id", "data_told")

    list_filter = (("type", OccurringFilter),)

    @admin.display(description="data")
    def data_told(self, event: Event) -> str:
        return json.dumps(event.data, ensure_ascii=False) if event.data else ""
