"""The conditions of routing rules: RTE-1."""

from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter

import pytest
from django.core.exceptions import ValidationError

from accounts.ids import uuid7
from providers.conditions import Facts, holds, known, usernames, validate

FACTS = Facts(
    account="crm@acme",
    sender="Billing@Mail.acme.example",
    recipient="Joe.Doe@gmail.com",
    headers=(("x-kind", "Invoice"), ("x-kind", "second"), ("x-empty", "")),
    subject="Your Invoice 4711",
    size=5000,
    has_attachments=False,
    message_id="01900000-0000-7000-8000-000000000000",
    now=datetime(2026, 11, 22, 12, 0, tzinfo=UTC),  # a Sunday
)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"field": "account", "values": ["crm@acme"]}, True),
        ({"field": "account", "values": ["erp@acme", "CRM@ACME"]}, True),
        ({"field": "account", "values": ["crm@acm", "crm*"]}, False),
        ({"field": "sender", "values": ["billing@mail.acme.example"]}, True),
        ({"field": "sender", "values": ["mail.acme.example"]}, True),
        ({"field": "sender", "values": ["acme.example"]}, False),
        ({"field": "sender", "values": ["*.acme.example"]}, True),
        ({"field": "sender", "values": ["*.mail.acme.example"]}, False),
        ({"field": "sender", "values": ["billing@*"]}, True),
        ({"field": "sender", "values": ["bill?ng@*.ACME.example"]}, True),
        ({"field": "sender", "values": ["nobody@acme.example", "*@mail.acme.example"]}, True),
        ({"field": "recipient", "values": ["gmail.com"]}, True),
        ({"field": "recipient", "values": ["*.doe@gmail.com"]}, True),
        ({"field": "recipient", "values": ["*@*.com"]}, True),
        ({"field": "recipient", "values": ["mail.com", "*gmail.org"]}, False),
        ({"field": "header", "name": "X-Kind", "op": "equals", "values": ["invoice"]}, True),
        ({"field": "header", "name": "x-kind", "op": "equals", "values": ["SECOND"]}, True),
        ({"field": "header", "name": "X-Kind", "op": "equals", "values": ["inv"]}, False),
        ({"field": "header", "name": "X-Kind", "op": "contains", "values": ["nothing", "VOI"]}, True),
        ({"field": "header", "name": "X-Kind", "op": "matches", "values": ["^Inv.*e$"]}, True),
        ({"field": "header", "name": "X-Kind", "op": "matches", "values": ["^inv"]}, False),
        ({"field": "header", "name": "X-Kind", "op": "matches", "values": ["(?i)^inv"]}, True),
        ({"field": "header", "name": "X-Empty", "op": "matches", "values": ["^$"]}, True),
        ({"field": "header", "name": "X-Missing", "op": "matches", "values": ["^$"]}, False),
        ({"field": "subject", "op": "equals", "values": ["your invoice 4711"]}, True),
        ({"field": "subject", "op": "equals", "values": ["invoice"]}, False),
        ({"field": "subject", "op": "contains", "values": ["INVOICE"]}, True),
        ({"field": "subject", "op": "contains", "values": ["reminder"]}, False),
        ({"field": "subject", "op": "matches", "values": [r"\d{4}$"]}, True),
        ({"field": "subject", "op": "matches", "values": [r"^\d"]}, False),
        ({"field": "size", "min": 5000}, True),
        ({"field": "size", "min": 5001}, False),
        ({"field": "size", "max": 5000}, True),
        ({"field": "size", "max": 4999}, False),
        ({"field": "size", "min": 1, "max": 9999}, True),
        ({"field": "size", "min": 0, "max": 0}, False),
        ({"field": "has_attachments", "value": False}, True),
        ({"field": "has_attachments", "value": True}, False),
        ({"field": "percentage", "value": 100}, True),
        ({"field": "percentage", "value": 0}, False),
    ],
)
def test_a_condition_holds_as_it_reads(condition, expected):
    validate([condition])
    assert holds([condition], FACTS) is expected


def test_all_conditions_must_hold_and_none_at_all_always_do():
    true, false = {"field": "size", "min": 1}, {"field": "size", "min": 10**9}
    assert holds([], FACTS)
    assert holds([true, true], FACTS)
    assert not holds([true, false], FACTS)


def test_the_empty_sender_matches_no_domain():
    bounce = replace(FACTS, sender="")
    assert not holds([{"field": "sender", "values": ["*.example"]}], bounce)


def at(day, clock, **condition):
    """Whether a condition in Paris holds at a time in UTC; 2026-11-22 is a Sunday, Paris is one hour ahead."""
    hour, minute = map(int, clock.split(":"))
    time = {"field": "time", "time_zone": "Europe/Paris", **condition}
    validate([time])
    return holds([time], replace(FACTS, now=datetime(2026, 11, day, hour, minute, tzinfo=UTC)))


@pytest.mark.parametrize(
    ("clock", "inside"),
    [("06:59", False), ("07:00", True), ("16:59", True), ("17:00", False), ("23:30", False)],
)
def test_a_span_of_the_day_is_in_local_time_and_ends_before_its_end(clock, inside):
    assert at(23, clock, **{"from": "08:00", "to": "18:00"}) is inside


@pytest.mark.parametrize(
    ("day", "clock", "inside"),
    [
        (23, "20:59", False),  # Monday 21:59
        (23, "21:00", True),  # Monday 22:00
        (23, "23:30", True),  # Tuesday 00:30, begun on Monday
        (24, "04:59", True),  # Tuesday 05:59
        (24, "05:00", False),  # Tuesday 06:00
        (22, "23:30", False),  # Monday 00:30, begun on Sunday
        (24, "21:00", False),  # Tuesday 22:00
    ],
)
def test_a_span_across_midnight_belongs_to_the_day_it_began_on(day, clock, inside):
    assert at(day, clock, weekdays=["mon"], **{"from": "22:00", "to": "06:00"}) is inside


@pytest.mark.parametrize(
    ("day", "clock", "inside"),
    [(22, "22:59", False), (22, "23:00", True), (23, "22:59", True), (23, "23:00", False)],
)
def test_weekdays_alone_mean_the_whole_local_day(day, clock, inside):
    assert at(day, clock, weekdays=["mon"]) is inside


def test_a_time_zone_alone_always_holds():
    assert all(at(day, clock) for day in (22, 23) for clock in ("00:00", "12:00", "23:59"))


def test_summer_time_is_the_time_zones():
    nine = {"field": "time", "time_zone": "Europe/Paris", "from": "09:00", "to": "10:00"}
    assert holds([nine], replace(FACTS, now=datetime(2026, 7, 1, 7, 30, tzinfo=UTC)))
    assert not holds([nine], replace(FACTS, now=datetime(2026, 12, 1, 7, 30, tzinfo=UTC)))


@pytest.mark.parametrize("share", [1, 10, 33.3, 50])
def test_a_percentage_is_that_share_of_messages(share):
    condition = [{"field": "percentage", "value": share}]
    validate(condition)
    hits = sum(holds(condition, replace(FACTS, message_id=str(uuid7()))) for _ in range(20_000))
    assert abs(hits / 200 - share) < 1.5


def test_a_message_always_falls_on_the_same_side_and_a_larger_share_keeps_it():
    for _ in range(200):
        facts = replace(FACTS, message_id=str(uuid7()))
        sides = [holds([{"field": "percentage", "value": share}], facts) for share in range(0, 101, 5)]
        assert sides == sorted(sides)
        assert sides == [holds([{"field": "percentage", "value": share}], facts) for share in range(0, 101, 5)]


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(.*)*x", "(a|aa)+$"])
def test_an_expression_that_would_hang_others_takes_linear_time(pattern):
    condition = [{"field": "subject", "op": "matches", "values": [pattern]}]
    validate(condition)
    begun = perf_counter()
    holds(condition, replace(FACTS, subject="a" * 50_000 + "!"))
    assert perf_counter() - begun < 2


def test_a_broken_header_can_be_looked_at():
    broken = replace(FACTS, subject="Invoice \udcff 7", headers=(("x-kind", "\ud800"),))
    assert holds([{"field": "subject", "op": "matches", "values": ["^Invoice . 7$"]}], broken)
    assert not holds([{"field": "header", "name": "X-Kind", "op": "matches", "values": ["a"]}], broken)
    assert not holds([{"field": "header", "name": "X-Kind", "op": "contains", "values": ["a"]}], broken)


@pytest.mark.parametrize(
    ("conditions", "complaint"),
    [
        (None, "Give a list"),
        ({}, "Give a list"),
        ("[]", "Give a list"),
        (["subject"], "Condition 1: must be an object"),
        ([{}], "Condition 1: field must be one of account, sender"),
        ([{"field": ["subject"]}], "Condition 1: "),
        ([{"field": "nose"}], "field must be one of"),
        ([{"field": "size", "min": 1}, {"field": "nose"}], "Condition 2: "),
        ([{"field": "account"}], "values must be a list"),
        ([{"field": "account", "values": []}], "values must be a list"),
        ([{"field": "account", "values": "crm"}], "values must be a list"),
        ([{"field": "sender", "values": [1]}], "values must be a list"),
        ([{"field": "recipient", "values": [""]}], "values must be a list"),
        ([{"field": "account", "values": ["a"], "op": "equals"}], "takes the keys values only"),
        ([{"field": "subject", "values": ["a"]}], "op must be"),
        ([{"field": "subject", "op": "sounds like", "values": ["a"]}], "op must be"),
        ([{"field": "subject", "op": "matches", "values": ["("]}], "Condition 1: "),
        ([{"field": "subject", "op": "matches", "values": [r"(a)\1"]}], "Condition 1: "),
        ([{"field": "header", "op": "equals", "values": ["a"]}], "name must be the name of a header"),
        ([{"field": "header", "name": "", "op": "equals", "values": ["a"]}], "name must be the name of a header"),
        ([{"field": "size"}], "size needs min or max"),
        ([{"field": "size", "min": -1}], "size needs min or max"),
        ([{"field": "size", "min": "1"}], "size needs min or max"),
        ([{"field": "size", "max": True}], "size needs min or max"),
        ([{"field": "has_attachments"}], "value must be true or false"),
        ([{"field": "has_attachments", "value": "yes"}], "value must be true or false"),
        ([{"field": "time"}], "Condition 1: "),
        ([{"field": "time", "time_zone": "Mars/Olympus"}], "Condition 1: "),
        ([{"field": "time", "time_zone": "../etc/passwd"}], "Condition 1: "),
        ([{"field": "time", "time_zone": "UTC", "from": "8 o'clock"}], "Condition 1: "),
        ([{"field": "time", "time_zone": "UTC", "to": 8}], "Condition 1: "),
        ([{"field": "time", "time_zone": "UTC", "from": "08:00+02:00"}], "without an offset"),
        ([{"field": "time", "time_zone": "Europe"}], "Condition 1: "),
        ([{"field": "time", "time_zone": ""}], "Condition 1: "),
        ([{"field": "time", "time_zone": "UTC", "weekdays": []}], "weekdays must be a list"),
        ([{"field": "time", "time_zone": "UTC", "weekdays": ["Monday"]}], "weekdays must be a list"),
        ([{"field": "percentage", "value": 101}], "value must be a number"),
        ([{"field": "percentage", "value": -0.1}], "value must be a number"),
        ([{"field": "percentage", "value": True}], "value must be a number"),
        ([{"field": "percentage", "value": float("nan")}], "value must be a number"),
    ],
)
def test_a_condition_that_cannot_be_evaluated_is_refused_by_number(conditions, complaint):
    with pytest.raises(ValidationError) as caught:
        validate(conditions)
    assert complaint in caught.value.messages[0]


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        ({"field": ["a"]}, "field must be one of account, sender"),
        ({"field": {}}, "field must be one of"),
        ([], "must be an object"),
        ({"field": "subject", "op": ["equals"], "values": ["x"]}, "op must be"),
        ({"field": "subject", "op": "equals", "values": ["a\x00b"]}, "values must be"),
        ({"field": "sender", "values": ["\ud800"]}, "values must be"),
        ({"field": "header", "name": "X\x00", "op": "equals", "values": ["x"]}, "name must be"),
        ({"field": "time"}, "time_zone must be a name such as"),
        ({"field": "time", "time_zone": 5}, "time_zone must be a name such as"),
        ({"field": "time", "time_zone": "../../etc/passwd"}, "time_zone must be a name such as"),
        ({"field": "time", "time_zone": "UTC", "from": 8}, "from must be a time of day"),
        ({"field": "time", "time_zone": "UTC", "to": "25:00"}, "to must be a time of day"),
        ({"field": "time", "time_zone": "UTC", "weekdays": [["mon"]]}, "weekdays must be"),
        ({"field": "percentage", "value": float("nan")}, "value must be a number"),
        ({"field": "size", "min": 1, "\x00": 2}, "size takes the keys min, max only"),
    ],
)
def test_a_refusal_says_what_to_write(condition, text):
    with pytest.raises(ValidationError) as caught:
        validate([condition])
    (message,) = caught.value.messages
    assert message.startswith("Condition 1: ")
    assert text in message


def test_accounts_are_named_once():
    named = [{"field": "account", "values": ["a@acme", "b@acme"]}, {"field": "account", "values": ["a@acme"]}]
    assert usernames([*named, {"field": "size", "min": 1}]) == ["a@acme", "b@acme"]


MINE, THEIRS = {"field": "account", "values": ["CRM@acme"]}, {"field": "account", "values": ["erp@acme"]}
SMALL, ANY = {"field": "size", "max": 1000}, {"field": "recipient", "values": ["*"]}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], True),
        ([MINE], True),
        ([THEIRS], False),
        ([SMALL], False),
        ([MINE, ANY], None),
        ([ANY, THEIRS], False),
        ([{"field": "size", "min": 1000, "max": 9000}, MINE], True),
    ],
)
def test_account_and_size_alone_may_tell(conditions, expected):
    """PRV-8: looked at before there is a message."""
    assert known(conditions, "crm@acme", 5000) is expected
    if expected is not None:
        assert holds(conditions, FACTS) is expected
