"""An explanation of routing as JSON (RTE-5)."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from delivery.explain import Explanation, RouteTold


class CheckTold(serializers.Serializer[Any]):
    holds = serializers.BooleanField()
    wanted = serializers.CharField()
    found = serializers.CharField()


class RuleVerdict(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    holds = serializers.BooleanField()
    decides = serializers.BooleanField()
    verdict = serializers.CharField()
    checks = CheckTold(many=True)


class CandidateTold(serializers.Serializer[Any]):
    provider = serializers.UUIDField()
    provider_name = serializers.CharField()
    level = serializers.ChoiceField(choices=["free", "waits", "too_large", "changes", "disabled"])
    problem = serializers.CharField()
    verdict = serializers.CharField(help_text="What it would do to the message; empty where that is not known.")
    share = serializers.FloatField(help_text="Of a hundred such messages, those it is the first to be sent.")


class RouteExplained(serializers.Serializer[Any]):
    recipients = serializers.ListField(child=serializers.CharField())
    outcome = serializers.CharField()
    sends = serializers.BooleanField()
    chosen_by_a_person = serializers.BooleanField()
    rule = serializers.UUIDField(allow_null=True, help_text="The rule that decides.")
    rules = RuleVerdict(many=True)
    candidates = CandidateTold(many=True)


class Suppressed(serializers.Serializer[Any]):
    address = serializers.CharField()
    reason = serializers.CharField()


class Explained(serializers.Serializer[Any]):
    routes = RouteExplained(many=True)
    suppressed = Suppressed(many=True)
    notes = serializers.ListField(child=serializers.CharField())


def told(explanation: Explanation) -> dict[str, Any]:
    """As `Explained` describes it."""
    return {
        "routes": [_route(route) for route in explanation.routes],
        "suppressed": [{"address": address, "reason": reason} for address, reason in explanation.suppressed],
        "notes": list(explanation.notes),
    }


def _route(route: RouteTold) -> dict[str, Any]:
    return {
        "recipients": list(route.recipients),
        "outcome": route.outcome,
        "sends": route.good,
        "chosen_by_a_person": route.chosen,
        "rule": str(route.rule.pk) if route.rule else None,
        "rules": [
            {
                "id": str(one.rule.pk),
                "name": one.rule.name,
                "holds": one.holds,
                "decides": one.decides,
                "verdict": one.verdict,
                "checks": [
                    {"holds": check.holds, "wanted": check.wanted, "found": check.found} for check in one.checks
                ],
            }
            for one in route.rules
        ],
        "candidates": [
            {
                "provider": str(one.provider.pk),
                "provider_name": one.provider.name,
                "level": one.level.name.lower(),
                "problem": one.problem,
                "verdict": one.verdict,
                "share": one.share,
            }
            for one in route.candidates
        ],
    }
