"""Bulk actions by the API: counted first, begun, watched, paused and stopped (DEL-9)."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.urls import reverse
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.errors import Conflict
from accounts.api.views import ReadViewSet, client_ip
from accounts.tenancy import Area, Verb
from delivery import bulk
from delivery.api import documented, lists
from delivery.api.callers import person
from delivery.api.messages import provider_of
from delivery.models import BulkAction

BY_OPERATOR = "the platform operator"
MOST_PACE = 2**31 - 1


@extend_schema_field({"type": "object", "additionalProperties": True, "example": {"status": ["held"]}})
class FilterField(serializers.DictField):
    """The names and values of `delivery.filters`; `{}` is every message."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().to_internal_value(data)
        for name, value in found.items():
            texts = value if isinstance(value, list) else [value]
            if not all(isinstance(text, str | bool) for text in texts):
                raise serializers.ValidationError({name: ["A text, yes or no, or a list of texts."]})
        return found


def pace_field() -> serializers.IntegerField:
    return serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=MOST_PACE,
        help_text="Messages a minute; null: as fast as workers can.",
    )


class Begin(serializers.Serializer[Any]):
    action = serializers.ChoiceField(choices=BulkAction.Action.choices)
    filter = FilterField()
    provider = serializers.CharField(
        required=False, allow_null=True, max_length=200, help_text="To re-route: name or id; null: as the rules say."
    )
    pace = pace_field()
    dry_run = serializers.BooleanField(default=False, help_text="Only count what would be acted on.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("provider" in attrs) != (attrs["action"] == BulkAction.Action.REROUTE):
            raise serializers.ValidationError({"provider": ["To be given for reroute, and for nothing else."]})
        return attrs


class Counted(serializers.Serializer[Any]):
    count = serializers.IntegerField()
    more = serializers.BooleanField(help_text="There are more; they were not counted to the end.")


class BulkRow(serializers.ModelSerializer[BulkAction]):
    """`actor` is the platform operator to a tenant where an operator has begun it."""

    actor = serializers.SerializerMethodField()
    filter = serializers.JSONField(source="filters")
    provider = serializers.SerializerMethodField(help_text="To re-route: its id; null: as the rules say.")

    class Meta:
        model = BulkAction
        fields = (
            *("id", "action", "filter", "provider", "pace", "status", "note", "actor", "counted", "changed"),
            *("refused", "reasons", "created_at", "next_page_at", "finished_at"),
        )
        read_only_fields = fields

    def get_actor(self, row: BulkAction) -> str:
        caller = self.context["request"].user
        return row.actor_label if caller.is_superuser or bulk.of_its_tenant(row) else BY_OPERATOR

    @extend_schema_field(serializers.UUIDField(allow_null=True))
    def get_provider(self, row: BulkAction) -> str | None:
        return row.parameters.get("provider")


def begin_or_count(request: Request, what: str, given: dict[str, Any]) -> Response:
    """202 and the action, or with `dry_run` how many it would be about. Raises ParseError for a bad filter."""
    who = person(request)
    wanted = lists.wanted(given["filter"], who)
    provider = provider_of(given.get("provider"), who, wanted.tenant or who.tenant_id)
    counted = bulk.count(wanted, who)
    if given["dry_run"]:
        return Response({"count": counted.number, "more": counted.more})
    pace, ip = given.get("pace"), client_ip(request)
    row = bulk.begin(what, wanted, actor=who, provider=provider, pace=pace, counted=counted, ip=ip)
    headers = {"Location": reverse("bulk-action-detail", args=[row.pk])}
    return Response(BulkRow(row, context={"request": request}).data, status.HTTP_202_ACCEPTED, headers=headers)


_turns = documented.problems(404, 409)


@extend_schema_view(
    list=extend_schema(summary="Bulk actions, the newest first", parameters=documented.only("status", "action")),
    retrieve=extend_schema(summary="A bulk action and how far it has come"),
    create=extend_schema(
        summary="Begin a bulk action, or count",
        request=Begin,
        responses={200: Counted, 202: BulkRow, **documented.problems(400)},
    ),
    pause=extend_schema(summary="Pause", request=None, responses={200: BulkRow, **_turns}),
    resume=extend_schema(summary="Resume", request=None, responses={200: BulkRow, **_turns}),
    stop=extend_schema(summary="Stop", request=None, responses={200: BulkRow, **_turns}),
)
class BulkActionViewSet(ReadViewSet):
    queryset = BulkAction.objects.select_related("actor")
    area = Area.MESSAGES
    serializer_class = BulkRow
    pagination_class = lists.by("created_at", newest_first=True)
    verbs = {"create": Verb.ACT, "pause": Verb.ACT, "resume": Verb.ACT, "stop": Verb.ACT}

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        person(request)

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return lists.exactly(queryset, self.request, {"status", "action"}) if self.action == "list" else queryset

    def create(self, request: Request) -> Response:
        serializer = Begin(data=request.data)
        serializer.is_valid(raise_exception=True)
        return begin_or_count(request, serializer.validated_data["action"], serializer.validated_data)

    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        return self._turn(bulk.pause, "It is not running.")

    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        return self._turn(bulk.resume, "It is not paused.")

    @action(detail=True, methods=["post"])
    def stop(self, request: Request, pk: str) -> Response:
        return self._turn(bulk.stop, "It has ended.")

    def _turn(self, turn: Any, otherwise: str) -> Response:
        row = self.get_object()
        who = person(self.request)
        if not bulk.may_turn(who, row):
            self.permission_denied(self.request, "The platform operator has begun it.", "begun_by_operator")
        if not turn(row, actor=who, ip=client_ip(self.request)):
            raise Conflict(otherwise, "not_possible")
        return Response(self.get_serializer(row).data)
