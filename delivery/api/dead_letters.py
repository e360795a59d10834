"""Dead letters by the API: listed, looked at, reprocessed by ids or by a filter (RET-5)."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.views import client_ip
from accounts.tenancy import Verb, visible_to
from delivery import control
from delivery.api import bulk, documented, rows
from delivery.api.callers import caller
from delivery.api.messages import MessagePages
from delivery.models import DEAD_LETTERS, BulkAction, DeadLetter, DeliveryLog

MOST_IDS = 500
NO_SUCH = "There is no such dead letter."


class Reprocess(serializers.Serializer[Any]):
    """Either `ids` or a `filter`."""

    ids = serializers.ListField(child=serializers.UUIDField(), required=False, min_length=1, max_length=MOST_IDS)
    filter = bulk.FilterField(required=False)
    pace = bulk.pace_field()
    dry_run = serializers.BooleanField(default=False, help_text="With a filter: only count.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("ids" in attrs) == ("filter" in attrs):
            raise serializers.ValidationError("Give either ids or a filter.")
        return attrs


class Result(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    reprocessed = serializers.BooleanField()
    reason = serializers.CharField(help_text="Why not, else empty.")


class Results(serializers.Serializer[Any]):
    reprocessed = serializers.IntegerField()
    refused = serializers.IntegerField()
    results = Result(many=True)


@extend_schema_view(
    list=extend_schema(summary="Dead letters, the newest first", parameters=documented.FILTERS),
    retrieve=extend_schema(summary="A dead letter with its recipients and attempts"),
    reprocess=extend_schema(
        summary="Reprocess by ids or by a filter",
        responses={
            200: PolymorphicProxySerializer("Reprocessed", [Results, bulk.Counted], None),
            202: bulk.BulkRow,
            **documented.problems(400),
        },
    ),
)
class DeadLetterViewSet(MessagePages):
    queryset = DeadLetter.objects.all()
    serializer_class = rows.DeadLetterRow
    verbs = {"reprocess": Verb.ACT}

    def get_queryset(self) -> QuerySet[Any]:
        newest = DeliveryLog.objects.filter(message=OuterRef("pk")).order_by("-pk").values("error_text")[:1]
        return super().get_queryset().annotate(last_error=Subquery(newest))

    @action(detail=False, methods=["post"], serializer_class=Reprocess)
    def reprocess(self, request: Request) -> Response:
        """RET-5: each id has its result; what a filter finds becomes a bulk action."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        given = serializer.validated_data
        if "ids" in given:
            return Response(self._each(request, list(dict.fromkeys(given["ids"]))))
        given["filter"].setdefault("status", [str(status) for status in DEAD_LETTERS])
        return bulk.begin_or_count(request, BulkAction.Action.REPROCESS, given)

    def _each(self, request: Request, ids: list[uuid.UUID]) -> dict[str, Any]:
        mine = set(visible_to(request.user, DeadLetter).filter(pk__in=ids).values_list("pk", flat=True))
        outcome = control.reprocess(mine, actor=caller(request), ip=client_ip(request))
        done = set(outcome.done)
        results = [
            {
                "id": str(id_),
                "reprocessed": id_ in done,
                "reason": "" if id_ in done else outcome.refused.get(id_, NO_SUCH),
            }
            for id_ in ids
        ]
        return {"reprocessed": len(done), "refused": len(ids) - len(done), "results": results}
