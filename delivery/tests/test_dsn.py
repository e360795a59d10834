"""Delivery status notifications as their readers see them: RFC 3464, RFC 6522, RFC 6533. DEL-10, SEC-8."""

import email
import re
from dataclasses import replace
from datetime import UTC, datetime
from email import policy

import pytest

from delivery import dsn
from delivery.dsn import Failed, Report

WHEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
REPORT = Report(
    key="0195-key",
    from_="MAILER-DAEMON@acme.example",
    to="crm@acme.example",
    date=WHEN,
    reporting_mta="mx.gateway.example",
    original_key="0195-original",
    subject="Your invoice",
    message_id="<1@acme.example>",
    arrived_at=WHEN,
    failed=[Failed("anna@outside.example", "550", "550 5.1.1 No such user", "smtp")],
    header=b"From: crm@acme.example\r\nSubject: Your invoice\r\n",
)
# RFC 3464 §2.1: a group of fields for the message, then one for each recipient, an empty line before each.
GRAMMAR = re.compile(
    rb"Reporting-MTA: dns; [!-~]+\r\nArrival-Date: [ -~]+\r\n"
    rb"(?:\r\nFinal-Recipient: (?:rfc822|utf-8); [!-~ ]+\r\nAction: failed\r\nStatus: [45]\.\d{1,3}\.\d{1,3}\r\n"
    rb"(?:Remote-MTA: [a-z-]+; [ -~]+\r\n)?(?:Diagnostic-Code: [a-z-]+;[ -~]*\r\n(?: [!-~][ -~]*\r\n)*)?)+"
)


def read(report):
    return email.message_from_bytes(dsn.compose(report), policy=policy.default)


def fields_of(report):
    """The octets of the part for machines."""
    raw = dsn.compose(report)
    return (
        raw.split(b"delivery-status\r\nContent-Transfer-Encoding: ")[1]
        .partition(b"\r\n\r\n")[2]
        .partition(b"\r\n--=_")[0]
    )


def recipients_of(report):
    _, *groups = read(report).get_payload()[1].get_payload()
    return groups


def test_it_has_three_parts_and_a_reader_finds_each():
    message = read(REPORT)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    text, status, original = message.get_payload()
    assert [part.get_content_type() for part in (text, status, original)] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    assert message["From"].addresses[0].addr_spec == "MAILER-DAEMON@acme.example"
    assert message["To"].addresses[0].addr_spec == "crm@acme.example"
    assert message["Subject"] == "Undelivered: Your invoice"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == message["References"] == "<1@acme.example>"
    assert message["Message-ID"] == "<0195-key@acme.example>"
    for told in ("anna@outside.example", "5.1.1 No such user", "Your invoice", "<1@acme.example>", "0195-original"):
        assert told in text.get_content()
    assert original.get_content().splitlines() == ["From: crm@acme.example", "Subject: Your invoice"]
    assert message.defects == []


def test_the_part_for_machines_says_who_and_why():
    of_message, of_anna = read(REPORT).get_payload()[1].get_payload()
    assert of_message["Reporting-MTA"] == "dns; mx.gateway.example"
    assert of_message["Arrival-Date"] == "Sun, 01 Mar 2026 12:00:00 +0000"
    assert dict(of_anna) == {
        "Final-Recipient": "rfc822; anna@outside.example",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "x-provider; smtp",
        "Diagnostic-Code": "smtp; 550 5.1.1 No such user",
    }


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        ("550", "5.1.1 No such user", "5.1.1"),
        ("421", "421 4.7.0 [10.5.5.5] try later", "4.7.0"),
        ("550", "blocked by 5.9.12.7", "5.0.0"),
        ("450", "Busy", "4.0.0"),
        ("", "554 no", "5.0.0"),
        ("too_old", "Given up by age.", "4.4.7"),
        ("on_suppression_list", "The address is suppressed.", "5.7.1"),
        ("never heard of", "", "5.0.0"),
    ],
)
def test_the_status_is_the_providers_own_where_there_is_one(code, text, status):
    assert Failed("a@b.example", code, text).status == status


@pytest.mark.parametrize(
    "failed",
    [
        Failed("anna@outside.example", "", ""),
        Failed("anna@outside.example", "550", "\r\nAction: delivered\r\n\r\nFinal-Recipient: rfc822; x@y"),
        Failed("anna@bücher.example", "timeout", "Zeitüberschreitung \u2028 \x00 \x1b[31m"),
        Failed("jörg+x=y\\z@bücher.example", "550", "no"),
        Failed('"a b"@outside.example', "550", "word " * 200),
        Failed("a" * 300 + "@outside.example", "550", "x" * 2000, "sendgrid"),
        Failed("anna@xn--.example", "bad_domain", "no"),
    ],
)
def test_whatever_a_provider_says_the_fields_keep_their_grammar(failed):
    report = replace(REPORT, failed=[failed, REPORT.failed[0]])
    assert GRAMMAR.fullmatch(fields_of(report))
    assert all(len(line) <= 998 for line in dsn.compose(report).split(b"\r\n"))
    assert len(recipients_of(report)) == 2
    assert [one["Action"] for one in recipients_of(report)] == ["failed", "failed"]


def test_an_address_beyond_ascii_is_written_so_that_seven_bits_can_carry_it():
    failed = [Failed("anna@bücher.example", "", ""), Failed("jö+rg@bücher.example", "", "")]
    first, second = recipients_of(replace(REPORT, failed=failed))
    assert first["Final-Recipient"] == "rfc822; anna@xn--bcher-kva.example"
    assert second["Final-Recipient"] == r"utf-8; j\x{F6}\x{2B}rg@b\x{FC}cher.example"
    assert dsn.compose(
        replace(REPORT, failed=failed, subject="Grüße", header=b"Subject: Gr\xc3\xbc\xc3\x9fe")
    ).isascii()


def test_a_sender_beyond_ascii_gets_it_as_rfc_6533_says():
    report = replace(
        REPORT,
        to="jörg@acme.example",
        subject="Grüße",
        failed=[Failed("änne@outside.example", "550", "Keine Mailbox für änne")],
        header="Subject: Grüße\r\n".encode(),
    )
    assert report.utf8
    raw = dsn.compose(report)
    assert b"report-type=global-delivery-status" in raw
    assert b"Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n" in raw
    assert "\r\nFinal-Recipient: utf-8; änne@outside.example\r\n".encode() in raw
    assert (
        "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: Grüße\r\n".encode()
        in raw
    )
    message = read(report)
    assert message["Subject"] == "Undelivered: Grüße"
    assert "Keine Mailbox für änne" in message.get_payload()[0].get_content()


def test_a_thousand_recipients_are_all_in_the_part_for_machines():
    failed = [Failed(f"r{n}@outside.example", "550", "550 5.1.1 No such user") for n in range(1000)]
    report = replace(REPORT, failed=failed)
    assert [one["Final-Recipient"] for one in recipients_of(report)] == [f"rfc822; {one.address}" for one in failed]
    text = read(report).get_payload()[0].get_content()
    assert "1,000 recipients" in text
    assert "900 more recipients" in text


def test_a_large_header_is_cut_after_a_whole_field():
    fields = b"".join(b"X-%d: %b\r\n folded\r\n" % (n, b"x" * 100) for n in range(1000))
    kept = dsn.bounded(fields)
    assert dsn.LONGEST_HEADER - 200 < len(kept) <= dsn.LONGEST_HEADER
    assert fields.startswith(kept)
    assert kept.endswith(b" folded\r\n")
    assert dsn.bounded(b"X: " + b"x" * 20_000) == b""
    assert dsn.bounded(b"A: 1\nB: 2\r\n\r\n") == b"A: 1\r\nB: 2\r\n"


def test_credentials_a_provider_echoes_are_not_passed_on():
    raw = dsn.compose(replace(REPORT, failed=[Failed("a@b.example", "", "said Bearer abcdefghijklmnop")]))
    assert b"abcdefghijklmnop" not in raw


def test_without_subject_id_or_header_it_is_a_report_all_the_same():
    message = read(replace(REPORT, subject="", message_id="not an id\r\nBcc: x@y", header=b""))
    assert message["Subject"] == "Undelivered mail"
    assert message["In-Reply-To"] is None
    assert message["Bcc"] is None
    assert len(message.get_payload()) == 2


def test_no_line_is_longer_than_mail_allows_whatever_is_in_it():
    """RFC 5322 §2.1.1, in octets: a letter beyond ASCII has up to four."""
    report = replace(
        REPORT,
        to="jürgen@acme.example",
        failed=[Failed("anna@outside.example", "550", "漢" * 480, "smtp")],
        header=b"Subject: " + b"\xff" * 980 + b"\r\n",
    )
    raw = dsn.compose(report)
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert b"Subject: " in raw.rpartition(b"--=_")[0].rpartition(b"--=_")[2]


def test_a_nul_in_the_original_does_not_go_out_as_such():
    """RFC 5321 §4.5.2 lets no server take it."""
    assert b"\x00" not in dsn.compose(replace(REPORT, header=b"Subject: a\x00b\r\n"))
