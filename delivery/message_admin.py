"""The admin of messages and dead letters. It never sets a status itself: `control` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse

from accounts import audit
from accounts.tenancy import Area, Verb, permits
from accounts.tenant_admin import VisibleRelatedFilter, client_ip, signed_in
from delivery import control
from delivery.event_admin import EventInline
from delivery.log_admin import DeliveryLogInline
from delivery.models import DEAD_LETTERS, Message, MessageStatus, Recipient
from delivery.read_only_admin import OccurringFilter, ReadOnlyAdmin, as_uuid
from delivery.recipient_admin import RecipientInline

MOST_AT_ONCE = 2000
"""Messages one action takes; more belong to a command that paces itself."""


class DeadLetterFilter(admin.SimpleListFilter):
    title = "dead letters"
    parameter_name = "dead"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Dead letters only")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(status__in=DEAD_LETTERS) if self.value() == "yes" else queryset


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
        key = as_uuid(term)
        if key is not None:
            return queryset.filter(pk=key), False
        if term.startswith("<"):
            return queryset.filter(message_id_header=term), False
        if "@" in term:
            received = Recipient.objects.filter(address__in={term, term.lower()}).values("message_id")
            return queryset.filter(Q(pk__in=received) | Q(mail_from__in={term, term.lower()})), False
        return super().get_search_results(request, queryset, search_term)

    def get_links(self, request: HttpRequest, obj: Message) -> list[tuple[str, str]]:
        links = super().get_links(request, obj)
        if permits(request.user, Area.PROVIDERS, Verb.READ):
            links.append((f"{reverse('admin:providers_routingrule_explain')}?message={obj.pk}", "Explain routing"))
        return links

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
