"""What a routing rule does, in a sentence, and whether it can ever come to it (RTE-1, ADM-2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from providers import explanation
from providers.conditions import Condition
from providers.models import RoutingRule, RoutingTarget

_ACTIONS = {
    RoutingRule.Action.HOLD: "hold it for a person to decide",
    RoutingRule.Action.REJECT: "reject it",
    RoutingRule.Action.DISCARD: "take it and throw it away",
}


def sentence(action: str, conditions: Sequence[Condition], targets: Sequence[RoutingTarget]) -> str:
    """`When sender is *.acme.example and subject contains invoice: send it through Graph, then SMTP.`

    The conditions must be valid; of the targets the providers must be loaded.
    """
    when = " and ".join(explanation.wanted(one) for one in conditions)
    what = _ACTIONS.get(RoutingRule.Action(action)) or f"send it through {route(targets) or 'nobody yet'}"
    return f"When {when}: {what}." if when else f"Always: {what}."


def route(targets: Iterable[RoutingTarget]) -> str:
    """`Graph, then SendGrid (75 %) or Postmark (25 %)`; "" where there is no target."""
    ordered = sorted(targets, key=lambda target: (target.position, str(target.pk)))
    places = (list(group) for _, group in groupby(ordered, key=lambda target: target.position))
    return ", then ".join(_place(place) for place in places)


def _place(place: list[RoutingTarget]) -> str:
    whole = sum(target.weight for target in place)
    if len(place) == 1:
        return str(place[0].provider)
    return " or ".join(f"{target.provider} ({target.weight * 100 / whole:.0f} %)" for target in place)


def hidden_by(conditions: Sequence[Condition], earlier: Iterable[RoutingRule]) -> RoutingRule | None:
    """The first enabled rule of `earlier` that takes everything a rule with these conditions could match, as far as
    that is plain: each of its conditions holds wherever one of these does."""
    for rule in earlier:
        if rule.enabled and all(any(_implies(one, other) for one in conditions) for other in rule.conditions):
            return rule
    return None


def _implies(one: Condition, other: Condition) -> bool:
    """Whether `other` holds for every message `one` holds for; False where that is not plain."""
    if one == other:
        return True
    if one["field"] != other["field"]:
        return False
    match one["field"]:
        case "size":
            low, high = one.get("min", 0), one.get("max")
            above = low >= other.get("min", 0)
            return above and ("max" not in other or (high is not None and high <= other["max"]))
        case "percentage":
            return bool(one["value"] <= other["value"])
        case "time" | "has_attachments":
            return False
    rest = {key: value for key, value in one.items() if key != "values"}
    same = rest == {key: value for key, value in other.items() if key != "values"}
    return same and set(one["values"]) <= set(other["values"])
