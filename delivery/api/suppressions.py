"""`suppressions`: addresses the tenant must not mail again; one by one, and as a whole (API-1, EVT-2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Lower
from django.http import StreamingHttpResponse
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, parsers, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import audit
from accounts.api.errors import TooLarge
from accounts.api.parsers import StrictJSON
from accounts.api.views import (
    CreateMixin,
    DestroyMixin,
    ReadViewSet,
    RowSerializer,
    actor,
    client_ip,
)
from accounts.models import Tenant
from accounts.tenancy import Area, Verb, visible_to
from delivery import suppression_list
from delivery.models import Suppression
from delivery.suppression_list import BadList, Entry
from providers.envelope import same

MOST_OCTETS = 5 * 1024 * 1024
"""Of a list that is taken in."""


class SuppressionSerializer(RowSerializer):
    """An address. Those entered here have the reason `manual`; `text` is a note, or what the provider said."""

    class Meta:
        model = Suppression
        fields = ("id", "tenant", "address", "reason", "text", "provider", "message", "created_at")
        read_only_fields = ("reason", "provider", "message")
        extra_kwargs = {"tenant": {"required": False}}


class EntrySerializer(serializers.Serializer[Any]):
    address = serializers.CharField(max_length=2000, allow_blank=True)
    text = serializers.CharField(max_length=2000, allow_blank=True, required=False, default="")


class ImportSerializer(serializers.Serializer[Any]):
    """At most 10,000 addresses. `tenant` is for operators."""

    tenant = serializers.UUIDField(required=False, allow_null=True)
    rows = EntrySerializer(many=True)


class OutcomeSerializer(serializers.Serializer[Any]):
    address = serializers.CharField()
    status = serializers.ChoiceField(["added", "known", "refused"])
    error = serializers.CharField()


class ImportedSerializer(serializers.Serializer[Any]):
    """What became of each row, in their order."""

    added = serializers.IntegerField()
    known = serializers.IntegerField()
    refused = serializers.IntegerField()
    rows = OutcomeSerializer(many=True)


class CsvParser(parsers.BaseParser):
    """`text/csv`, UTF-8, with the columns `address` and `text`."""

    media_type = "text/csv"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        try:
            entries = suppression_list.read_csv(stream.read(MOST_OCTETS).decode())
        except (BadList, UnicodeDecodeError) as error:
            text = str(error) if isinstance(error, BadList) else "This is no UTF-8."
            raise exceptions.ParseError(text) from None
        return {"rows": [{"address": entry.address, "text": entry.text} for entry in entries]}


class SuppressionFilter(filters.FilterSet):
    """`address` in any spelling; `domain` without the @."""

    tenant = filters.UUIDFilter(field_name="tenant_id")
    provider = filters.UUIDFilter(field_name="provider_id")
    address = filters.CharFilter(method="exactly", max_length=320)
    domain = filters.CharFilter(method="of_domain", max_length=255)
    reason = filters.MultipleChoiceFilter(choices=Suppression.Reason.choices)

    class Meta:
        model = Suppression
        fields = ()

    def exactly(self, rows: QuerySet[Any], name: str, address: str) -> QuerySet[Any]:
        return rows.alias(folded=Lower("address")).filter(folded=same(address))

    def of_domain(self, rows: QuerySet[Any], name: str, domain: str) -> QuerySet[Any]:
        return rows.filter(address__iendswith=same(f"x@{domain.removeprefix('@')}")[1:])


class SuppressionViewSet(CreateMixin, DestroyMixin, ReadViewSet):
    """The suppressed addresses of the caller's tenant; they count for every account of it, an API key's too. An entry
    is never changed: remove it and enter it anew."""

    area = Area.SUPPRESSIONS
    verbs = {"take_in": Verb.CREATE, "export": Verb.READ}
    queryset = Suppression.objects.all()
    serializer_class = SuppressionSerializer
    filterset_class = SuppressionFilter
    ordering_fields = ("id",)

    @extend_schema(
        request={"application/json": ImportSerializer, "text/csv": OpenApiTypes.STR}, responses=ImportedSerializer
    )
    @action(
        detail=False,
        methods=["post"],
        url_path="import",
        url_name="import",
        parser_classes=[StrictJSON, CsvParser],
        pagination_class=None,
        filterset_class=None,
    )
    def take_in(self, request: Request) -> Response:
        """Put many addresses on the list, as JSON or CSV; those on it already stay as they are. An operator names the
        tenant in `tenant`, or with CSV in `?tenant=`."""
        if int(request.META.get("CONTENT_LENGTH") or 0) > MOST_OCTETS:
            raise TooLarge(f"At most {MOST_OCTETS:,} octets at once.")
        given = request.data if isinstance(request.data, dict) else {}
        asked = ImportSerializer(data={**request.query_params.dict(), **given})
        asked.is_valid(raise_exception=True)
        tenant = self._tenant(asked.validated_data.get("tenant"))
        entries = [Entry(row["address"], row["text"]) for row in asked.validated_data["rows"]]
        try:
            with transaction.atomic():
                outcomes, made = suppression_list.take_in(tenant, entries)
                audit.record_each(actor(request), "suppression.created", made, client_ip(request))
        except BadList as error:
            raise serializers.ValidationError({"rows": [str(error)]}) from None
        counts = {word: sum(one.status == word for one in outcomes) for word in ("added", "known", "refused")}
        return Response(ImportedSerializer({**counts, "rows": outcomes}).data)

    def _tenant(self, key: Any) -> Tenant:
        named = visible_to(self.request.user, Tenant).filter(pk=key).first() if key else None
        tenant = named if self.request.user.is_superuser else self.tenant_of_new({})
        if tenant is None or (key and named is None):
            raise serializers.ValidationError({"tenant": ["There is no such tenant."]})
        return tenant

    @extend_schema(responses={(200, "text/csv"): OpenApiTypes.STR})
    @action(detail=False, pagination_class=None)
    def export(self, _request: Request) -> StreamingHttpResponse:
        """Everything the filters leave, as CSV; it can be taken in again."""
        rows = self.filter_queryset(self.get_queryset()).order_by("-pk")
        answer = StreamingHttpResponse(suppression_list.as_csv(rows), content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = 'attachment; filename="suppressions.csv"'
        return answer
