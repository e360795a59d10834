"""RTE-5: why a condition holds, or does not."""

from datetime import UTC, datetime

import pytest

from providers.conditions import Facts, holds
from providers.explanation import explain

NOW = datetime(2026, 11, 22, 16, 30, tzinfo=UTC)  # a Sunday


def facts(**changes):
    values = {
        "account": "crm@acme",
        "sender": "billing@acme.example",
        "recipient": "anna@gmail.com",
        "headers": [("x-kind", "invoice"), ("x-kind", "copy")],
        "subject": "Your invoice",
        "size": 1234567,
        "has_attachments": True,
        "message_id": "0197",
        "now": NOW,
    }
    return Facts(**{**values, **changes})


CASES = [
    ({"field": "account", "values": ["CRM@acme", "erp@acme"]}, True, "account is CRM@acme, erp@acme", "it is crm@acme"),
    ({"field": "account", "values": ["erp@acme"]}, False, "account is erp@acme", "it is crm@acme"),
    ({"field": "sender", "values": ["*.example"]}, True, "sender is *.example", "it is billing@acme.example"),
    ({"field": "recipient", "values": ["web.de"]}, False, "recipient is web.de", "it is anna@gmail.com"),
    (
        {"field": "header", "name": "X-Kind", "op": "equals", "values": ["copy"]},
        True,
        "header X-Kind is copy",
        "it is invoice, copy",
    ),
    (
        {"field": "header", "name": "X-Odd", "op": "matches", "values": ["^a"]},
        False,
        "header X-Odd matches ^a",
        "there is no such header",
    ),
    (
        {"field": "subject", "op": "contains", "values": ["INVOICE"]},
        True,
        "subject contains INVOICE",
        "it is Your invoice",
    ),
    ({"field": "size", "min": 2000000}, False, "size is at least 2,000,000 octets", "it is 1,234,567"),
    (
        {"field": "size", "min": 1, "max": 2000000},
        True,
        "size is at least 1 and at most 2,000,000 octets",
        "it is 1,234,567",
    ),
    ({"field": "has_attachments", "value": False}, False, "the message has no attachments", "it has"),
    (
        {"field": "time", "time_zone": "Europe/Paris", "weekdays": ["mon"], "from": "08:00", "to": "18:00"},
        False,
        "time is on mon from 08:00 to 18:00 in Europe/Paris",
        "it is sun 17:30 there",
    ),
    ({"field": "time", "time_zone": "UTC"}, True, "time is any in UTC", "it is sun 16:30 there"),
    ({"field": "percentage", "value": 0}, False, "the message is among 0 % of all", "its place is 20.15 %"),
]


@pytest.mark.parametrize(("condition", "verdict", "wanted", "found"), CASES)
def test_a_condition_tells_what_it_asks_for_and_what_there_is(condition, verdict, wanted, found):
    check = explain(condition, facts())
    assert (check.wanted, check.holds) == (wanted, verdict)
    if condition["field"] == "percentage":
        assert check.found.startswith("its place is ")
    else:
        assert check.found == found
    assert check.holds == holds([condition], facts())


def test_nothing_long_is_shown_whole():
    many = [f"{number}.example" for number in range(25)]
    check = explain({"field": "sender", "values": many}, facts(sender="a" * 300 + "@acme.example"))
    assert check.wanted.endswith("9.example and 15 more")
    assert len(check.found) < 140
    assert "\ud800" not in explain({"field": "subject", "op": "equals", "values": ["x"]}, facts(subject="\ud800")).found


@pytest.mark.parametrize(("value", "verdict"), [(50, False), (99.9, False), (100, True)])
def test_a_made_up_message_has_no_place_among_the_percentages(value, verdict):
    check = explain({"field": "percentage", "value": value}, facts(message_id=""))
    assert check.holds is verdict
    assert "only a stored message has a place" in check.found
