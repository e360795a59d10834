"""`routing-rules/explain` and `routing-rules/dry-run`: where mail would go, and why (RTE-5). Nothing is changed."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.views import TenantViewSet
from accounts.models import Account
from accounts.tenancy import Area, Verb, permits, visible_to
from delivery import dry_run, explain
from delivery.explain import Explanation, Question, RouteTold
from delivery.filters import YEARS
from delivery.models import Message
from delivery.routing_admin import MOST_RECIPIENTS, MOST_SHOWN
from providers.api.rules import RuleSerializer
from providers.models import RoutingRule


class HeaderSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=200)
    value = serializers.CharField(max_length=10_000, allow_blank=True)


class QuestionSerializer(serializers.Serializer[Any]):
    """A stored message by its id in `message`, or one that does not exist by everything else."""

    message = serializers.UUIDField(required=False)
    account = serializers.UUIDField(required=False, help_text="Who sends it.")
    sender = serializers.CharField(max_length=320, allow_blank=True, default="", help_text="Of the envelope.")
    recipients = serializers.ListField(
        child=serializers.CharField(max_length=320), required=False, min_length=1, max_length=MOST_RECIPIENTS
    )
    subject = serializers.CharField(max_length=500, allow_blank=True, default="")
    size = serializers.IntegerField(min_value=0, max_value=2**40, default=10_000, help_text="Octets.")
    has_attachments = serializers.BooleanField(default=False)
    headers = HeaderSerializer(many=True, default=list)
    when = serializers.DateTimeField(required=False, help_text="For rules that look at the time; default: now.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("message"):
            return attrs
        missing = [name for name in ("account", "recipients") if name not in attrs]
        if missing:
            raise serializers.ValidationError(
                {name: ["Needed where no stored message is asked about."] for name in missing}
            )
        if not all("@" in address for address in attrs["recipients"]):
            raise serializers.ValidationError({"recipients": ["Give addresses, such as anna@example.com."]})
        if "when" in attrs and attrs["when"].year not in YEARS:
            raise serializers.ValidationError({"when": ["No mail is sent then."]})
        return attrs


class CheckSerializer(serializers.Serializer[Any]):
    holds = serializers.BooleanField()
    wanted = serializers.CharField()
    found = serializers.CharField()


class RuleToldSerializer(serializers.Serializer[Any]):
    rule = serializers.UUIDField(source="rule.pk")
    name = serializers.CharField(source="rule.name")
    holds = serializers.BooleanField()
    decides = serializers.BooleanField()
    verdict = serializers.CharField()
    checks = CheckSerializer(many=True)


class CandidateSerializer(serializers.Serializer[Any]):
    provider = serializers.UUIDField(source="provider.pk")
    name = serializers.CharField(source="provider.name")
    share = serializers.FloatField(help_text="How many of a hundred such messages it would be sent.")
    problem = serializers.CharField(help_text="What stands in its way; empty: nothing.")
    verdict = serializers.CharField(help_text="What it would do to the message, where that is known.")


class RouteSerializer(serializers.Serializer[Any]):
    """Recipients of whom every rule says the same."""

    recipients = serializers.ListField(child=serializers.CharField())
    outcome = serializers.CharField()
    good = serializers.BooleanField(help_text="It would be sent.")
    rule = serializers.SerializerMethodField(help_text="The one that decides; null: the default providers.")
    rules = RuleToldSerializer(many=True)
    candidates = CandidateSerializer(many=True)

    def get_rule(self, route: RouteTold) -> uuid.UUID | None:
        return route.rule.pk if route.rule else None


class SuppressedSerializer(serializers.Serializer[Any]):
    address = serializers.CharField()
    reason = serializers.CharField()


class ExplanationSerializer(serializers.Serializer[Any]):
    routes = RouteSerializer(many=True)
    suppressed = serializers.SerializerMethodField()
    notes = serializers.ListField(child=serializers.CharField(), help_text="What was not known.")

    def get_suppressed(self, told: Explanation) -> list[dict[str, str]]:
        return [{"address": address, "reason": why} for address, why in told.suppressed]


class DryRunQuery(serializers.Serializer[Any]):
    """`change` is a rule as it would be saved: with `rule` what is to be changed of that one, else a new one."""

    rule = serializers.UUIDField(required=False, allow_null=True)
    change = RuleSerializer()
    last = serializers.IntegerField(min_value=1, max_value=dry_run.MOST, default=dry_run.LAST)


class RouteCountSerializer(serializers.Serializer[Any]):
    before = serializers.CharField()
    after = serializers.CharField()
    messages = serializers.IntegerField()


class ChangedSerializer(serializers.Serializer[Any]):
    message = serializers.UUIDField(source="message.pk")
    subject = serializers.CharField(source="message.subject")
    recipients = serializers.ListField(child=serializers.CharField())
    before = serializers.CharField()
    after = serializers.CharField()


class DryRunSerializer(serializers.Serializer[Any]):
    """What the change would have done to the last messages; `changed` names the first hundred."""

    wanted = serializers.IntegerField()
    looked_at = serializers.IntegerField(help_text="Fewer than wanted where the time was over.")
    stopped = serializers.BooleanField()
    without_headers = serializers.IntegerField(help_text="Their headers could not be read.")
    messages_changed = serializers.IntegerField()
    routes = RouteCountSerializer(many=True)
    changed = ChangedSerializer(many=True)


class RoutingView(TenantViewSet):
    """Questions about routing."""

    area = Area.PROVIDERS
    verbs = {"explain": Verb.READ, "dry_run": Verb.UPDATE}
    queryset = RoutingRule.objects.all()

    @extend_schema(request=QuestionSerializer, responses=ExplanationSerializer)
    def explain(self, request: Request) -> Response:
        """Each rule's verdict on a message, the providers that would be asked, and what stands in their way."""
        asked = QuestionSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        question = self._stored(given["message"]) if given.get("message") else self._made_up(given)
        return Response(ExplanationSerializer(explain.explain(question)).data)

    def _stored(self, key: uuid.UUID) -> Question:
        person = self.request.user
        rows = visible_to(person, Message).select_related("tenant", "account")
        message = rows.filter(pk=key).first() if permits(person, Area.MESSAGES, Verb.READ) else None
        if message is None:
            raise Http404
        return explain.about(message, shows_headers=permits(person, Area.BODIES, Verb.READ))

    def _made_up(self, given: dict[str, Any]) -> Question:
        account = visible_to(self.request.user, Account).select_related("tenant").filter(pk=given["account"]).first()
        if account is None:
            raise serializers.ValidationError({"account": ["There is no such account."]})
        return Question(
            tenant=account.tenant,
            account=account.username,
            sender=given["sender"],
            recipients=tuple(dict.fromkeys(given["recipients"])),
            subject=given["subject"],
            size=given["size"],
            headers=[(header["name"].strip().lower(), header["value"].strip()) for header in given["headers"]],
            has_attachments=given["has_attachments"],
            now=given.get("when") or timezone.now(),
        )

    @extend_schema(request=DryRunQuery, responses=DryRunSerializer)
    def dry_run(self, request: Request) -> Response:
        """What a new or changed rule would have done to the tenant's last messages. Takes up to ten seconds."""
        given = request.data if isinstance(request.data, dict) else {}
        stored = self._rule(given.get("rule"))
        last = serializers.IntegerField(min_value=1, max_value=dry_run.MOST).run_validation(
            given.get("last", dry_run.LAST)
        )
        change = RuleSerializer(
            stored, data=given.get("change", {}), partial=stored is not None, context=self.get_serializer_context()
        )
        change.is_valid(raise_exception=True)
        tenant = stored.tenant if stored else self.tenant_of_new(change.validated_data)
        if tenant is None:
            raise serializers.ValidationError({"change": {"tenant": ["Say whose rule it is to be."]}})
        rule = stored or RoutingRule(tenant=tenant)
        change.validated_data.pop("tenant", None)
        targets = change.unsaved(rule)
        if targets is None:
            targets = list(rule.targets.select_related("provider")) if stored else []
        result = dry_run.dry_run(tenant, rule, targets, last=last)
        routes = [
            {"before": before, "after": after, "messages": count}
            for (before, after), count in result.routes.most_common()
        ]
        told = {
            "wanted": result.wanted,
            "looked_at": result.looked_at,
            "stopped": result.stopped,
            "without_headers": result.without_headers,
            "messages_changed": result.messages_changed,
        }
        return Response(DryRunSerializer({**told, "routes": routes, "changed": result.changed[:MOST_SHOWN]}).data)

    def _rule(self, key: Any) -> RoutingRule | None:
        if key is None:
            return None
        try:
            found = self.get_queryset().select_related("tenant").filter(pk=uuid.UUID(str(key))).first()
        except ValueError:
            found = None
        if found is None:
            raise Http404
        rule: RoutingRule = found
        return rule
