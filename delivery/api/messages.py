"""Messages by the API: send, list, look at, act on (API-1, API-2, DEL-9, DEL-11)."""

from __future__ import annotations

from typing import Any

from django.db.models import F, QuerySet
from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.errors import Conflict
from accounts.api.views import ReadViewSet, actor, client_ip
from accounts.api_keys import KeyIdentity
from accounts.tenancy import Area, Verb, permits
from delivery import actions, control, explain, filters
from delivery.api import documented, explained, lists, raw, rows, sending
from delivery.api.callers import caller
from delivery.api.documented import FILTERS
from delivery.filters import BadFilter
from delivery.models import Message
from providers.models import Provider


class Reason(serializers.Serializer[Any]):
    reason = serializers.CharField(
        required=False, allow_blank=True, max_length=500, help_text="Shown with the message; empty: who held it."
    )


class Where(serializers.Serializer[Any]):
    provider = serializers.CharField(
        allow_null=True, max_length=200, help_text="Name or id of an enabled provider; null: as the rules say again."
    )


class Acted(serializers.ModelSerializer[Message]):
    """What an action made of the message."""

    class Meta:
        model = Message
        fields = ("id", "status", "status_reason", "scheduled_at", "next_attempt_at")
        read_only_fields = fields


def provider_of(text: str | None, who: filters.Who, tenant: Any) -> Provider | None:
    """Where a re-route leads; raises ParseError for what is no provider the tenant may use."""
    if text is None:
        return None
    try:
        key = filters.find_provider(who, text, tenant)
    except BadFilter as error:
        raise lists.Refused(str(error), "bad_provider") from error
    return Provider.objects.defer("config").get(pk=key)


class MessagePages(ReadViewSet):
    """What all messages and dead letters share."""

    queryset = Message.objects.all()
    area = Area.MESSAGES
    serializer_class = rows.MessageRow
    pagination_class = lists.by("accepted_at", newest_first=True)

    def get_queryset(self) -> QuerySet[Any]:
        return super().get_queryset().annotate(account_username=F("account__username"))

    def get_serializer_class(self) -> Any:
        return rows.MessageDetail if self.action == "retrieve" else super().get_serializer_class()

    def get_serializer_context(self) -> dict[str, Any]:
        shows_logs = permits(self.request.user, Area.LOGS, Verb.READ)
        return {**super().get_serializer_context(), "shows_logs": shows_logs}

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.action != "list":
            return queryset
        return lists.narrowed(queryset, lists.wanted(lists.asked(self.request), caller(self.request)))


_acts = documented.problems(404, 409)


@extend_schema_view(
    list=extend_schema(summary="Messages, the newest first", parameters=FILTERS),
    retrieve=extend_schema(summary="A message with its recipients and attempts"),
    create=documented.send,
    recipients=extend_schema(summary="The recipients of a message", parameters=documented.only("status", "address")),
    delivery_logs=extend_schema(summary="The attempts of a message", parameters=documented.only("status")),
    events=extend_schema(summary="The events of a message", parameters=documented.only("type")),
    raw=extend_schema(
        summary="A message as it is stored",
        description="For people who may read bodies; each look is in the audit.",
        responses={(200, "message/rfc822"): OpenApiTypes.BINARY, **documented.problems(404, 410)},
    ),
    explain=extend_schema(
        summary="Which route it would take now, and why",
        responses={200: explained.Explained, **documented.problems(404)},
    ),
    hold=extend_schema(summary="Hold", responses={200: Acted, **documented.problems(400, 404, 409)}),
    release=extend_schema(summary="Release", request=None, responses={200: Acted, **_acts}),
    retry=extend_schema(summary="Try now", request=None, responses={200: Acted, **_acts}),
    reprocess=extend_schema(summary="Reprocess a dead letter", request=None, responses={200: Acted, **_acts}),
    reroute=extend_schema(
        summary="Send through another provider", responses={200: Acted, **documented.problems(400, 404, 409)}
    ),
    cancel=extend_schema(
        summary="Cancel",
        description="With an API key of scope `send`: what the account has scheduled, until it starts.",
        request=None,
        responses={200: Acted, **_acts},
    ),
)
class MessageViewSet(MessagePages):
    verbs = {
        "create": Verb.CREATE,
        "recipients": Verb.READ,
        "delivery_logs": Verb.READ,
        "events": Verb.READ,
        "raw": Verb.READ,
        "explain": Verb.READ,
        "hold": Verb.ACT,
        "release": Verb.ACT,
        "retry": Verb.ACT,
        "reprocess": Verb.ACT,
        "reroute": Verb.ACT,
        "cancel": Verb.CANCEL,
    }
    unlimited = ("create",)
    """Sends fall under the quotas of their account (LIM-2)."""
    areas = {
        "delivery_logs": Area.LOGS,
        "events": Area.LOGS,
        "raw": Area.BODIES,
        "explain": Area.PROVIDERS,
    }

    def create(self, request: Request) -> Response:
        return sending.send(request)

    # --- What became of it -------------------------------------------------------------------------------------
    @action(detail=True, serializer_class=rows.RecipientRow, pagination_class=lists.by("id"))
    def recipients(self, request: Request, pk: str) -> Response:
        return self._page(rows.recipients_of(self.get_object()), {"status", "address"})

    @action(
        detail=True,
        url_path="delivery-logs",
        serializer_class=rows.AttemptRow,
        pagination_class=lists.by("created_at"),
    )
    def delivery_logs(self, request: Request, pk: str) -> Response:
        return self._page(rows.attempts_of(self.get_object()), {"status"})

    @action(detail=True, serializer_class=rows.EventRow, pagination_class=lists.by("occurred_at"))
    def events(self, request: Request, pk: str) -> Response:
        return self._page(rows.events_of(self.get_object()), {"type"})

    @action(detail=True, content_negotiation_class=raw.AnyType)
    def raw(self, request: Request, pk: str) -> HttpResponseBase:
        return raw.answer(actor(request), client_ip(request), self.get_object())

    @action(detail=True)
    def explain(self, request: Request, pk: str) -> Response:
        message = self.get_object()
        shows_headers = permits(request.user, Area.BODIES, Verb.READ)
        return Response(explained.told(explain.explain(explain.about(message, shows_headers=shows_headers))))

    def _page(self, found: QuerySet[Any], names: set[str]) -> Response:
        page = self.paginate_queryset(lists.exactly(found, self.request, names))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    # --- What is done with it ----------------------------------------------------------------------------------
    @action(detail=True, methods=["post"], serializer_class=Reason)
    def hold(self, request: Request, pk: str) -> Response:
        given = self._given(request)
        return self._act(actions.Hold(given.get("reason", "")))

    @action(detail=True, methods=["post"])
    def release(self, request: Request, pk: str) -> Response:
        return self._act(actions.Release())

    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        return self._act(actions.Retry())

    @action(detail=True, methods=["post"])
    def reprocess(self, request: Request, pk: str) -> Response:
        return self._act(actions.Reprocess())

    @action(detail=True, methods=["post"], serializer_class=Where)
    def reroute(self, request: Request, pk: str) -> Response:
        given, message = self._given(request), self.get_object()
        provider = provider_of(given["provider"], caller(request), message.tenant_id)
        return self._act(actions.Reroute(provider), message)

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        by_key = isinstance(request.user, KeyIdentity)
        return self._act(actions.Withdraw() if by_key else actions.Cancel())

    def _given(self, request: Request) -> Any:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data

    def _act(self, what: actions.Action, message: Message | None = None) -> Response:
        message = message or self.get_object()
        outcome = control.do(what, [message.pk], actor=caller(self.request), ip=client_ip(self.request))
        if outcome.refused:
            raise Conflict(outcome.refused[message.pk], "not_possible")
        message.refresh_from_db()
        return Response(Acted(message).data)
