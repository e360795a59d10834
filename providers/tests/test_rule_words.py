"""Which rules can never be reached, as far as that is plain: ADM-2."""

import pytest

from providers.models import RoutingRule
from providers.rule_words import hidden_by


def sender(*values):
    return {"field": "sender", "values": list(values)}


def subject(*values, op="contains"):
    return {"field": "subject", "op": op, "values": list(values)}


@pytest.mark.parametrize(
    ("earlier", "later", "hidden"),
    [
        ([], [sender("a.example")], True),
        ([], [], True),
        ([sender("a.example")], [], False),
        ([sender("a.example", "b.example")], [sender("b.example"), subject("x")], True),
        ([sender("b.example")], [sender("a.example", "b.example")], False),
        ([subject("x")], [subject("x", op="equals")], False),
        ([{"field": "size", "min": 10}], [{"field": "size", "min": 20, "max": 30}], True),
        ([{"field": "size", "max": 10}], [{"field": "size", "min": 5}], False),
        ([{"field": "percentage", "value": 50}], [{"field": "percentage", "value": 10}], True),
        ([{"field": "percentage", "value": 10}], [{"field": "percentage", "value": 50}], False),
        ([{"field": "has_attachments", "value": True}], [{"field": "has_attachments", "value": False}], False),
    ],
)
def test_a_rule_is_hidden_by_one_that_takes_all_it_could_match(earlier, later, hidden):
    rule = RoutingRule(name="earlier", enabled=True, conditions=earlier)
    assert (hidden_by(later, [rule]) is rule) == hidden


def test_a_disabled_rule_hides_nothing():
    assert hidden_by([], [RoutingRule(enabled=False, conditions=[])]) is None
