"""What `delivery-logs/stats` answers: figures from hourly totals (API-1, STO-5)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request

from accounts.api_keys import KeyIdentity
from accounts.models import Account, Tenant, User
from accounts.tenancy import visible_to
from delivery import totals
from delivery.filters import YEARS, providers_for
from delivery.totals import Figures, Group

DAY = timedelta(days=1)
MOST_BY_HOUR = timedelta(days=31)
MOST = timedelta(days=366 * 5)


class QuerySerializer(serializers.Serializer[Any]):
    """Of which time, of what, and how it is broken down."""

    since = serializers.DateTimeField(required=False, help_text="Beginning; its whole hour counts. A day ago.")
    until = serializers.DateTimeField(required=False, help_text="End. Now.")
    group_by = serializers.ChoiceField([group.value for group in Group], required=False)
    tenant = serializers.UUIDField(required=False, help_text="For operators: of this tenant alone.")
    account = serializers.UUIDField(required=False)
    provider = serializers.UUIDField(required=False, help_text="Of calls alone: messages have no provider.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        until: datetime = attrs.setdefault("until", timezone.now())
        since: datetime = attrs.setdefault("since", until - DAY)
        for name, moment in (("since", since), ("until", until)):
            if moment.year not in YEARS:
                raise serializers.ValidationError({name: ["Nothing was recorded then."]})
        if since >= until:
            raise serializers.ValidationError({"until": ["The end comes before the beginning."]})
        most = MOST_BY_HOUR if attrs.get("group_by") == Group.HOUR else MOST
        if until - since > most:
            raise serializers.ValidationError({"since": [f"At most {most.days} days at once."]})
        return attrs


class FiguresSerializer(serializers.Serializer[Any]):
    """`sent` counts calls to providers, and `attempts` them by status: a message that is taken at the third try was
    sent three times and delivered once. `accepted` and `ended` count messages, `told` what providers told later."""

    key = serializers.CharField(allow_null=True, help_text="Hour or day (its beginning, UTC), id, or status.")
    label = serializers.CharField()  # type: ignore[assignment]
    sent = serializers.IntegerField()
    delivered = serializers.IntegerField()
    failed = serializers.IntegerField()
    dlq = serializers.IntegerField()
    delivery_rate = serializers.FloatField(allow_null=True, help_text="Of the calls with a last word, 0 to 1.")
    mean_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.IntegerField(allow_null=True, help_text="To within a tenth.")
    recipients = serializers.IntegerField()
    octets = serializers.IntegerField()
    attempts = serializers.DictField(child=serializers.IntegerField())
    accepted = serializers.IntegerField()
    ended = serializers.DictField(child=serializers.IntegerField())
    told = serializers.DictField(child=serializers.IntegerField())


class StatsSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    totals = FiguresSerializer()
    groups = FiguresSerializer(many=True)


def answer(request: Request) -> dict[str, Any]:
    """The figures the caller asks for, of what they may know of alone."""
    asked = QuerySerializer(data=request.query_params)
    asked.is_valid(raise_exception=True)
    wanted = asked.validated_data
    tenant, account, provider = _scope(request, wanted)
    span = (tenant, wanted["since"], wanted["until"])
    whole = totals.read(*span, account=account, provider=provider)
    by = wanted.get("group_by")
    lines = totals.read(*span, Group(by), account=account, provider=provider) if by else []
    names = _names(request, lines) if by == Group.ACCOUNT else {}
    for line in lines:
        line.label = line.label or names.get(line.key, "")
    given = {"since": wanted["since"], "until": wanted["until"], "totals": whole[0], "groups": lines}
    return dict(StatsSerializer(given).data)


def _scope(request: Request, wanted: dict[str, Any]) -> tuple[Tenant | None, Any, Any]:
    """Tenant, account and provider; what the caller may not know of is refused as what is not there."""
    person = request.user
    tenants = visible_to(person, Tenant)
    if wanted.get("tenant") or not person.is_superuser:
        tenants = tenants.filter(pk=wanted["tenant"]) if wanted.get("tenant") else tenants
        tenant = tenants.first()
        if tenant is None:
            raise serializers.ValidationError({"tenant": ["There is no such tenant."]})
    else:
        tenant = None
    account, provider = wanted.get("account"), wanted.get("provider")
    if isinstance(person, KeyIdentity):
        if account not in (None, person.account_id):
            raise serializers.ValidationError({"account": ["There is no such account."]})
        return tenant, person.account_id, provider
    if account and not visible_to(person, Account).filter(pk=account).exists():
        raise serializers.ValidationError({"account": ["There is no such account."]})
    if provider and not providers_for(cast(User, person), tenant.pk if tenant else None).filter(pk=provider).exists():
        raise serializers.ValidationError({"provider": ["There is no such provider."]})
    return tenant, account, provider


def _names(request: Request, lines: list[Figures]) -> dict[Any, str]:
    keys = [line.key for line in lines if line.key]
    return dict(visible_to(request.user, Account).filter(pk__in=keys).values_list("pk", "username"))
