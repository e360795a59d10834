"""Amazon SES: byte for byte, or taken apart where that loses nothing (PRV-4, PRV-5, PRV-8)."""

import email.policy
import subprocess
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage

import pytest

from providers.exceptions import PermanentFailure, TooLarge, Unsupported
from providers.fidelity import Fidelity
from providers.tests.messages import ANNA, BERT, CARA, PDF, SENDER, letter, outbound, plain, text_only
from providers.tests.signing import Signer


def form_of(ses):
    """Which format the last mail came in."""
    (form,) = ses.accepted[-1].payload["Content"]
    return form


def test_a_plain_message_is_taken_apart_and_nothing_but_its_id_is_lost(ses_of, ses):
    message = outbound(plain(Cc=f"Bärt <{BERT}>", X_Note="größer"), [ANNA, BERT, CARA])
    backend = ses_of()
    verdict = backend.verdict(message)
    backend.send(message)
    assert (form_of(ses), verdict.fidelity, verdict.lost) == ("Simple", Fidelity.MAPPED, ("header Message-ID",))
    (mail,) = ses.accepted
    assert (mail.to, mail.cc, mail.bcc) == ([ANNA], [BERT], [CARA])
    assert (mail.subject, mail.text.splitlines()) == ("Your order", ["Grüße,", ".", "ÄÖÜ"])
    (written,) = mail.payload["Destination"]["CcAddresses"]
    assert written.isascii()
    assert str(make_header(decode_header(written))) == f"Bärt <{BERT}>"
    assert mail.headers["X-Order"] == "4711"


def with_attachment():
    message = plain()
    message.add_attachment(PDF, maintype="application", subtype="pdf", filename="a.pdf")
    return message


def flowed():
    message = plain()
    message.set_param("format", "flowed")
    return message


def calendar():
    message = plain()
    message.add_alternative("BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n", subtype="calendar", params={"method": "REQUEST"})
    return message


def report():
    message = plain()
    message.make_mixed()
    message.set_type("multipart/report")
    message.set_param("report-type", "delivery-status")
    return message


def in_german():
    message = plain()
    message["Content-Language"] = "de"
    return message


def crowded():
    return plain(**{f"X-Number-{number}": str(number) for number in range(16)})


def relayed():
    message = plain()
    message["Received"], message["Received"] = "from a by b", "from b by c"
    return message


@pytest.mark.parametrize(
    "message",
    [
        with_attachment(),
        flowed(),
        calendar(),
        report(),
        crowded(),
        relayed(),
        plain(To=f"Team: {ANNA};"),
        plain(To=f"{ANNA}, {BERT}"),  # Bert is not in the envelope, and would not be shown
        in_german(),
        plain(Return_Path="<other@acme.test>"),
        plain(References=" ".join(f"<{number}@acme.test>" for number in range(100))),
        plain(Sender="other@acme.test"),
        letter(),
    ],
)
def test_what_the_simple_format_cannot_say_goes_byte_for_byte(ses_of, ses, message):
    """PRV-5: raw when there are attachments or anything simple cannot say."""
    sent = outbound(message)
    backend = ses_of()
    assert backend.verdict(sent).fidelity is Fidelity.LOSSLESS
    backend.send(sent)
    assert (form_of(ses), ses.accepted[0].data) == ("Raw", sent.raw)


@pytest.mark.parametrize("format_", ["auto", "raw"])
def test_signed_mail_arrives_as_it_was_signed(ses_of, ses, format_, tmp_path):
    """S/MIME and DKIM (PRV-4)."""
    signer = Signer(SENDER)
    part = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
    header = f"From: {SENDER}\r\nTo: {ANNA}\r\nSubject: Order\r\n".encode()
    smime, dkim = signer.smime(part, header), signer.dkim(plain().as_bytes())
    backend = ses_of(format=format_)
    for raw in (smime, dkim):
        assert backend.verdict(outbound(raw)).fidelity is Fidelity.LOSSLESS
        backend.send(outbound(raw))
    first, second = ses.accepted
    assert (first.data, second.data) == (smime, dkim)
    assert signer.smime_part(first.data, tmp_path) == part
    assert signer.dkim_verifies(second.data)
    with pytest.raises(subprocess.CalledProcessError):  # the verifier can fail
        signer.smime_part(first.data.replace(b"Gr\xc3", b"gr\xc3"), tmp_path)


@pytest.mark.parametrize("format_", ["raw", "auto"])
def test_a_signature_over_what_amazon_rewrites_is_called_broken(ses_of, format_):
    """https://docs.aws.amazon.com/ses/latest/dg/send-email-authentication-dkim-manual.html"""
    signature = "v=1; a=rsa-sha256; d=acme.test; s=s1;\r\n h=From:To:\r\n\tMessage-ID:Subject; bh=x; b=y"
    raw = f"DKIM-Signature: {signature}\r\n".encode() + plain().as_bytes()
    verdict = ses_of(format=format_).verdict(outbound(raw))
    assert verdict.fidelity is Fidelity.BROKEN
    assert "message-id" in str(verdict)


def test_signed_mail_taken_apart_is_called_broken(ses_of):
    raw = Signer(SENDER).smime(b"Content-Type: text/plain\r\n\r\nhi\r\n", f"From: {SENDER}\r\n".encode())
    assert ses_of(format="simple").verdict(outbound(raw)).fidelity is Fidelity.BROKEN


def test_raw_leaves_the_header_alone_and_names_everybody_as_a_blind_copy(ses_of, ses):
    """FromEmailAddress and ReplyToAddresses would be written over the header."""
    ses_of(format="raw").send(outbound(plain(Reply_To=BERT), [ANNA, CARA]))
    payload = ses.accepted[0].payload
    assert not {"FromEmailAddress", "ReplyToAddresses"} & set(payload)
    assert payload["Destination"] == {"BccAddresses": [ANNA, CARA]}


def test_a_message_without_author_shows_its_envelope_sender_and_the_change_is_named(ses_of, ses):
    backend, message = ses_of(format="raw"), outbound(plain(From=None), mail_from=SENDER)
    assert backend.verdict(message).fidelity is Fidelity.LOSSY
    backend.send(message)
    assert ses.accepted[0].payload["FromEmailAddress"] == SENDER
    with pytest.raises(PermanentFailure) as caught:
        backend.send(outbound(plain(From=None), mail_from=""))
    assert caught.value.code == "no_sender"


def test_more_headers_than_simple_takes_are_named(ses_of, ses):
    backend, message = ses_of(format="simple"), outbound(crowded())
    lost = backend.verdict(message).lost
    backend.send(message)
    kept = {name for name in ses.accepted[0].headers if name.startswith("X-Number")}
    assert {f"header X-Number-{number}" for number in range(16)} == {f"header {name}" for name in kept} ^ {
        entry for entry in lost if "X-Number" in entry
    }
    assert len(ses.accepted[0].headers) == 15


def test_lines_longer_than_amazon_takes_go_to_another_provider(ses_of, ses):
    raw = b"From: a@acme.test\r\n\r\n" + b"x" * 999 + b"\r\n"
    with pytest.raises(Unsupported) as caught:
        ses_of(format="raw").send(outbound(raw))
    assert (caught.value.code, ses.requests) == ("line_too_long", 0)
    ses_of(format="raw").send(outbound(raw.replace(b"x" * 999, b"x" * 998)))


def test_what_raw_cannot_carry_is_taken_apart_unless_it_is_signed(ses_of, ses):
    """MIM-3: better so than not at all."""
    message = with_attachment()
    message["X-Long"] = "x" * 900
    raw = message.as_bytes().replace(b"4711", b"4711 " + b"y" * 1000)
    backend = ses_of()
    verdict = backend.verdict(outbound(raw))
    assert (verdict.fidelity, "header X-Order" in verdict.lost) == (Fidelity.LOSSY, True)
    backend.send(outbound(raw))
    assert (form_of(ses), ses.accepted[0].files[0].content) == ("Simple", PDF)
    with pytest.raises(Unsupported) as caught:
        backend.send(outbound(Signer(SENDER).dkim(raw)))
    assert caught.value.code == "line_too_long"


def test_a_message_without_an_end_of_its_header_is_not_sent(ses_of, ses):
    with pytest.raises(Unsupported):
        ses_of(format="raw").send(outbound(b"From: a@acme.test\r\n"))
    assert ses.requests == 0


def test_a_message_above_forty_megabytes_is_too_large_before_it_is_sent(ses_of):
    backend = ses_of()
    backend.check_size(outbound(b"x" * (40 * 1024 * 1024)))
    with pytest.raises(TooLarge):
        backend.check_size(outbound(b"x" * (40 * 1024 * 1024 + 1)))


def test_eight_bit_text_is_sent_as_it_is(ses_of, ses):
    """Amazon's own servers announce 8BITMIME; only what is signed over would notice a change."""
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = SENDER
    message.set_content("Grüße\n", cte="8bit", charset="latin-1")
    ses_of(format="raw").send(outbound(message))
    assert b"Gr\xfc\xdfe" in ses.accepted[0].data


def test_eight_bit_text_is_encoded_where_the_row_says_so_but_never_what_was_signed(ses_of, ses):
    backend, message = ses_of(format="raw", seven_bit=True), outbound(text_only())
    assert backend.verdict(message).fidelity is Fidelity.MAPPED
    backend.send(message)
    assert ses.accepted[0].data.isascii()
    assert "Grüße" in message_from_bytes(ses.accepted[0].data, policy=email.policy.SMTP).get_content()
    assert backend.verdict(outbound(plain())).fidelity is Fidelity.LOSSLESS
    with pytest.raises(Unsupported):
        backend.send(outbound(Signer(SENDER).dkim(text_only().as_bytes())))
