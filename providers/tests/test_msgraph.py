"""Microsoft Graph: forms of a message, mailboxes, errors and limits (PRV-3, PRV-4, PRV-6, PRV-7, PRV-8)."""

import base64
import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from providers import registry
from providers.base import RecipientStatus
from providers.exceptions import Misconfigured, Paused, PermanentFailure, TemporaryFailure, TooLarge, Unsupported
from providers.fidelity import Fidelity
from providers.tests.messages import ANNA, BERT, CARA, DORA, PDF, SENDER, letter, outbound, text_only
from providers.tests.standins import GraphStandIn
from providers.tests.standins.graph import graph_error

MB = 1024 * 1024


@pytest.fixture
def graph():
    with GraphStandIn() as service:
        yield service


def backend(graph, timeout=5, **options):
    return registry.connect("msgraph", graph.config(**options), timeout)


def sent_as(graph):
    return ["MIME" if "mime" in mail.payload else "JSON" for mail in graph.accepted]


def signed(**headers):
    message = letter(**headers).as_bytes()
    body = b'MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary="b"; micalg=sha-256;\r\n'
    body += b' protocol="application/pkcs7-signature"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b\r\n'
    body += b"Content-Type: application/pkcs7-signature; name=smime.p7s\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return message.removesuffix(b"\r\n") + body + b"MIAGCSqGSIb3\r\n--b--\r\n"


class TestForm:
    def test_bytes_go_as_they_are_when_the_header_names_the_recipients_of_the_call(self, graph):
        cc = f'"Bert, the Great" <{BERT}>,\r\n =?utf-8?q?C=C3=A4ra?= <Cara@Initech.test>'
        sender = backend(graph)
        raw = f"From: {SENDER}\r\nTo: {ANNA}\r\nCc: {cc}\r\nX-8: 7\r\n\r\n".encode() + b"8-bit: \xe4\r\n"
        out = outbound(raw, [ANNA, BERT, CARA])
        assert sender.verdict(out).fidelity is Fidelity.LOSSLESS
        sender.send(out)
        [mail] = graph.accepted
        assert mail.payload == {"mime": out.raw}
        assert sorted(address.lower() for address in mail.recipients) == sorted([ANNA, BERT, CARA])

    @pytest.mark.parametrize(
        ("headers", "recipients", "to", "cc", "bcc"),
        [
            ({}, [ANNA, CARA], [ANNA], [], [CARA]),
            ({"Cc": BERT}, [ANNA], [ANNA], [], []),
            ({"Cc": BERT}, [BERT], [], [BERT], []),
            ({}, [CARA, DORA], [], [], [CARA, DORA]),
            ({"Bcc": CARA}, [ANNA], [ANNA], [], []),
            ({"Resent_To": CARA}, [ANNA], [ANNA], [], []),
            ({"To": f"{ANNA}, {ANNA.upper()}"}, [ANNA], [ANNA], [], []),
        ],
    )
    def test_where_they_differ_the_envelope_decides(self, graph, headers, recipients, to, cc, bcc):
        """PRV-3."""
        backend(graph).send(outbound(text_only(**headers), recipients))
        [mail] = graph.accepted
        assert sent_as(graph) == ["JSON"]
        assert (mail.to, mail.cc, mail.bcc) == (to, cc, bcc)

    @pytest.mark.parametrize(
        "field",
        [
            f"Group: {ANNA};",
            f"{ANNA} (a@b.test)",
            f"<@relay.test:{ANNA}>",
            f"Anna {ANNA}",
            f"{ANNA} {BERT}",
            f"{ANNA},, {BERT}",
            f"Anna <{ANNA}",
            f'"Anna <{ANNA}>',
            f"a@b@c.test, {ANNA}",
            f"Änna <{ANNA}>",
        ],
    )
    def test_addresses_that_may_be_read_in_two_ways_are_not_left_to_exchange(self, graph, field):
        raw = f"From: {SENDER}\r\nTo: {field}\r\n\r\nhi\r\n".encode()
        backend(graph).send(outbound(raw, [ANNA]))
        assert sent_as(graph) == ["JSON"]
        assert graph.accepted[0].recipients == [ANNA]

    def test_a_second_field_of_a_name_is_not_left_to_exchange(self, graph):
        raw = f"From: {SENDER}\r\nTo: {ANNA}\r\nTo: {BERT}\r\n\r\nhi\r\n".encode()
        backend(graph).send(outbound(raw, [ANNA, BERT]))
        assert sent_as(graph) == ["JSON"]

    def test_blind_copies_may_travel_in_a_bcc_header_by_option(self, graph):
        sender = backend(graph, bcc_header=True)
        out = outbound(signed(), [ANNA, CARA, DORA])
        assert sender.verdict(out).fidelity is Fidelity.LOSSLESS
        sender.send(out)
        [mail] = graph.accepted
        assert mail.payload["mime"] == f"Bcc: {CARA},\r\n {DORA}\r\n".encode() + out.raw
        assert (mail.to, mail.bcc) == ([ANNA], [CARA, DORA])

    def test_a_signature_that_breaks_is_told_before_sending(self, graph):
        verdict = backend(graph).verdict(outbound(signed(), [ANNA, CARA]))
        assert verdict.fidelity is Fidelity.BROKEN

    def test_without_a_copy_in_sent_items_messages_are_structured(self, graph):
        backend(graph, save_to_sent_items=False).send(outbound(text_only()))
        assert sent_as(graph) == ["JSON"]
        assert graph.journal[-1].endswith("/sendMail")

    def test_without_a_copy_in_sent_items_signed_messages_stay_as_they_are(self, graph):
        backend(graph, save_to_sent_items=False).send(outbound(signed()))
        assert sent_as(graph) == ["MIME"]

    def test_headers_graph_cannot_write_are_named_as_lost(self, graph):
        many = {f"X_Number_{n}": str(n) for n in range(6)}
        message = outbound(
            text_only(List_Id="<l.acme.test>", References="<a@b.test> <c@b.test>", X_Order=None, **many), [ANNA, CARA]
        )
        sender = backend(graph)
        lost = sender.verdict(message).lost
        sender.send(message)
        [mail] = graph.accepted
        assert {"header List-Id", "header X-Number-5"} <= set(lost)
        assert mail.headers["Message-ID"] == "<order-1@acme.test>"
        assert mail.headers["References"] == "<a@b.test> <c@b.test>"
        assert [name for name in mail.headers if name.startswith("X-")] == [f"X-Number-{n}" for n in range(5)]

    def test_text_and_html_keep_the_html_and_tell_what_becomes_of_the_text(self, graph):
        message = text_only()
        message.add_alternative("<p>Thank you.</p>\n", subtype="html")
        out = outbound(message, [ANNA, CARA])
        sender = backend(graph)
        assert any(entry.startswith("plain text alternative") for entry in sender.verdict(out).lost)
        sender.send(out)
        assert graph.accepted[0].html == out.content.html


class TestMailbox:
    @pytest.mark.parametrize(
        ("options", "mailbox"),
        [
            ({}, SENDER),
            ({"mailbox": "shared@acme.test"}, "shared@acme.test"),
            ({"mailboxes": f"{SENDER.upper()} = billing@acme.test"}, "billing@acme.test"),
            ({"mailboxes": "@acme.test = office@acme.test\nx@y.test=z@y.test"}, "office@acme.test"),
            ({"mailbox": "shared@acme.test", "mailboxes": "@other.test = o@other.test"}, "shared@acme.test"),
            ({"mailbox": "0b1c2d3e-0000-4000-8000-000000000001"}, "0b1c2d3e-0000-4000-8000-000000000001"),
        ],
    )
    def test_it_is_the_senders_or_the_rows_or_chosen_by_sender(self, graph, options, mailbox):
        sender = backend(graph, **options)
        sender.send(outbound(text_only()))
        assert f"POST /v1.0/users/{mailbox}/sendMail" in graph.journal
        [slot] = sender.slots(outbound(text_only()))
        assert (slot.name, slot.at_most) == (mailbox, 4)

    @pytest.mark.parametrize("lines", ["nonsense", "a@b.test = ", "= x@y.test", "a = b", "a@b.test = x y"])
    def test_lines_that_name_no_mailbox_are_refused(self, graph, lines):
        with pytest.raises(Misconfigured, match="mailboxes: must have lines"):
            backend(graph, mailboxes=lines)

    def test_no_more_than_four_requests_are_under_way_for_one(self, graph):
        graph.delay = 0.05
        sender = backend(graph, exactly_once=True)
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda n: sender.send(outbound(text_only(Subject=str(n)))), range(12)))
        assert len(graph.accepted) == 12
        assert graph.most_at_once[SENDER] == 4
        assert graph.refusals == []

    def test_what_is_wrong_with_one_senders_mailbox_is_not_wrong_with_the_row(self, graph):
        graph.closed.add(SENDER)
        with pytest.raises(Unsupported) as caught:
            backend(graph).send(outbound(text_only()))
        assert caught.value.code == "sender_not_verified"
        with pytest.raises(Misconfigured) as caught:
            backend(graph, mailbox=SENDER).send(outbound(text_only()))
        assert caught.value.code == "access_denied"

    def test_a_mailbox_that_does_not_exist_is_told(self, graph):
        graph.missing.add("nobody@acme.test")
        with pytest.raises(Misconfigured) as caught:
            backend(graph, mailbox="nobody@acme.test").check_connection()
        assert caught.value.code == "no_mailbox"

    def test_reading_may_be_forbidden_where_sending_is_not(self, graph):
        graph.closed.add("shop@acme.test")
        assert "Mail.Send" in backend(graph, mailbox="shop@acme.test").check_connection()
        with pytest.raises(Misconfigured):
            backend(graph, mailbox="shop@acme.test", exactly_once=True).check_connection()


ERRORS = [
    (403, "ErrorSendAsDenied", Unsupported, "sender_not_verified"),
    (403, "ErrorAccessDenied", Unsupported, "sender_not_verified"),
    (404, "ErrorInvalidUser", Unsupported, "sender_not_verified"),
    (404, "MailboxNotEnabledForRESTAPI", Unsupported, "sender_not_verified"),
    (401, "InvalidAuthenticationToken", Misconfigured, "bad_credentials"),
    (400, "ErrorMessageSizeExceeded", TooLarge, "too_large"),
    (413, "ErrorRequestSizeExceeded", TooLarge, "too_large"),
    (400, "ErrorMimeContentInvalidBase64String", Unsupported, "mime_refused"),
    (400, "ErrorInvalidRequest", PermanentFailure, "bad_request"),
    (429, "ApplicationThrottled", TemporaryFailure, "throttled"),
    (429, "ErrorExceededMessageLimit", TemporaryFailure, "quota"),
    (403, "ErrorExceededMessageLimit", TemporaryFailure, "quota"),
    (507, "ErrorQuotaExceeded", TemporaryFailure, "mailbox_full"),
    (403, "ErrorQuotaExceeded", TemporaryFailure, "mailbox_full"),
    (507, "UnknownError", TemporaryFailure, "mailbox_full"),
    (503, "ErrorServerBusy", TemporaryFailure, "throttled"),
    (503, "serviceNotAvailable", TemporaryFailure, "server_error"),
    (504, "UnknownError", TemporaryFailure, "server_error"),
    (500, "ErrorInternalServerError", TemporaryFailure, "server_error"),
    (409, "ErrorIrresolvableConflict", TemporaryFailure, "server_error"),
]


class TestErrors:
    """PRV-7."""

    @pytest.mark.parametrize(("status", "code", "kind", "ours"), ERRORS)
    def test_documented_errors_have_their_class(self, graph, status, code, kind, ours):
        graph.fail_next(status, graph_error(code, "words"), {"Retry-After": "9"}, times=2)
        with pytest.raises(kind) as caught:
            backend(graph).send(outbound(text_only()))
        assert type(caught.value) is kind
        assert (caught.value.code, caught.value.status_code) == (ours, status)
        assert code in caught.value.text
        if kind is TemporaryFailure:
            assert caught.value.retry_after == 9

    def test_the_most_detailed_code_counts(self, graph):
        body = graph_error("UnknownError", "words")
        body["error"]["innerError"]["code"] = "ErrorQuotaExceeded"
        graph.fail_next(403, body)
        with pytest.raises(TemporaryFailure) as caught:
            backend(graph).send(outbound(text_only()))
        assert caught.value.code == "mailbox_full"

    def test_a_recipient_that_cannot_be_resolved_fails_alone(self, graph):
        graph.bad_recipients.add(BERT)
        result = backend(graph).send(outbound(text_only(Cc=BERT), [ANNA, BERT]))
        assert result.recipients[BERT].status is RecipientStatus.FAILED
        assert (result.recipients[ANNA].status, result.recipients[ANNA].code) == (RecipientStatus.DEFERRED, "not_sent")

    def test_any_2xx_is_success(self, graph):
        """PRV-6."""
        sender = backend(graph)
        for status in (200, 201, 202, 204):
            graph.fail_next(status, b"")
            assert sender.send(outbound(text_only())).recipients[ANNA].status is RecipientStatus.DELIVERED


class TestSize:
    """PRV-8."""

    def test_a_message_larger_than_the_mailbox_sends_is_not_begun(self, graph):
        message = text_only()
        message.add_attachment(b"x" * (2 * MB), maintype="application", subtype="zip", filename="a.zip")
        with pytest.raises(TooLarge):
            backend(graph, max_message_mb=1).send(outbound(message))
        assert graph.journal == []

    def test_the_limit_is_for_files_as_they_are_and_not_as_base64(self, graph):
        message = text_only()
        message.add_attachment(b"x" * (4 * MB), maintype="application", subtype="zip", filename="a.zip")
        out = outbound(message)
        assert len(out.raw) > 5 * MB
        backend(graph, max_message_mb=5).check_size(out)
        assert backend(graph, max_message_mb=5).max_size > len(out.raw)

    def test_a_message_below_the_limit_of_a_request_stays_as_it_is(self, graph):
        message = text_only()
        message.add_attachment(b"x" * 2_080_000, maintype="application", subtype="zip", filename="a.zip")
        out = outbound(message)
        backend(graph).send(out)
        assert graph.accepted[0].payload == {"mime": out.raw}

    def test_a_text_too_long_for_any_request_goes_elsewhere(self, graph):
        message = letter()
        message.set_content("x" * 70 + "\n" + ("y" * 70 + "\n") * 60_000)
        with pytest.raises(TooLarge):
            backend(graph).send(outbound(message))


def test_a_busy_mailbox_uses_no_try(graph):
    sender = backend(graph, timeout=0.2)
    with contextlib.ExitStack() as others:
        for _ in range(4):
            others.enter_context(sender.api._turn(SENDER))
        with pytest.raises(Paused) as caught:
            sender.send(outbound(text_only()))
    assert caught.value.code == "mailbox_busy"
    assert graph.accepted == []


def test_requests_are_base64_of_the_bytes(graph):
    message = outbound(text_only())
    assert b"8bit" in message.raw
    backend(graph).send(message)
    assert base64.b64decode(base64.b64encode(message.raw)) == graph.accepted[0].payload["mime"]


def test_files_keep_their_names_types_and_content_ids(graph):
    message = letter()
    message.set_content('<p><img src="cid:logo@acme"></p>\n', subtype="html")
    message.add_related(PDF, "application", "pdf", cid="<logo@acme>", filename="Rechnung März.pdf")
    backend(graph).send(outbound(message, [ANNA, CARA]))
    [file] = graph.accepted[0].files
    assert (file.name, file.type, file.content, file.cid) == ("Rechnung März.pdf", "application/pdf", PDF, "logo@acme")
