"""Queues in the admin: what waits in each, who looks at it, and what operators set for it (QUE-5, QUE-7)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.tenancy import Area, Verb
from accounts.tenant_admin import TenantModelAdmin
from delivery import queue_states, queues
from delivery.models import QueueSetting
from delivery.queue_states import QueueState


@admin.register(QueueSetting)
class QueueSettingAdmin(TenantModelAdmin):
    """The platform's, and so for operators only; a queue is neither made nor deleted here."""

    area = Area.LOGS
    offers = frozenset({Verb.UPDATE})
    list_display = ("name", "holds", "paused", "most", "under_way", "due", "oldest", "rings", "workers")
    list_display_links = ("name",)
    fields = ("name", "holds", "paused", "most_at_once")
    readonly_fields = ("name", "holds")
    actions = None

    def _may(self, request: HttpRequest, verb: Verb) -> bool:
        return request.user.is_superuser and super()._may(request, verb)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(name__in=queues.TABLE)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Every queue is asked about once, for the whole page."""
        changelist = super().get_changelist_instance(request)
        states = {state.name: state for state in queue_states.states()}
        for row in changelist.result_list:
            row.state = states[row.name]
        return changelist

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        limited = obj is None or queues.TABLE[obj.name].kind == "mail"
        return self.readonly_fields if limited else (*self.readonly_fields, "most_at_once")

    @admin.display(description="holds")
    def holds(self, row: Any) -> str:
        return queues.TABLE[row.name].holds

    @admin.display(description="most at once")
    def most(self, row: Any) -> str:
        cap = _state(row).cap
        return "no limit" if cap.most is None else f"{cap.most:,}"

    @admin.display(description="under way")
    def under_way(self, row: Any) -> int:
        return _state(row).under_way

    @admin.display(description="messages due")
    def due(self, row: Any) -> int:
        return _state(row).due

    @admin.display(description="the oldest due for")
    def oldest(self, row: Any) -> str:
        return f"{_state(row).waiting.oldest:,.0f} s"

    @admin.display(description="rings in the broker")
    def rings(self, row: Any) -> str:
        return _told(_state(row).rings)

    @admin.display(description="workers")
    def workers(self, row: Any) -> str:
        return _told(_state(row).workers)


def _state(row: Any) -> QueueState:
    state: QueueState = row.state
    return state


def _told(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"
