"""Fields become a message that is handed over for acceptance: AMQP-1, API-2."""

import pytest
from django.conf import settings
from django.utils import timezone

from accounts.ids import uuid7
from delivery import intake, mailbox, mime, store
from delivery.exceptions import Rejected
from delivery.letter import Letter, Limits, submit
from delivery.models import Message
from providers.base import Attachment, Mailbox

CRM = Mailbox("Crm", "crm@acme.example")
ANN, BOB = Mailbox("Ann", "ann@outside.example"), Mailbox("", "bob@outside.example")
LIMITS = Limits.of(settings.SMTP)


def submitted(letter, limits=LIMITS, **values):
    values.setdefault("account_id", uuid7())
    return submit(letter, limits, message_id=uuid7(), source="http", received_at=timezone.now(), **values)


def octets(submission):
    with submission.body.open() as stream:
        return stream.read()


@pytest.mark.django_db
def test_a_letter_goes_through_acceptance_and_names_no_blind_copy(acme_account, broker):
    letter = Letter(from_=CRM, to=[ANN], bcc=[BOB], subject="Hi", text="Hello.")
    [answer] = intake.accept([submitted(letter, account_id=acme_account.pk)])
    message = Message.objects.get(pk=answer.message_id)
    assert [r.address for r in message.recipients.all()] == [ANN.address, BOB.address]
    assert (message.mail_from, message.header_from, message.subject) == (CRM.address, CRM.address, "Hi")
    raw = store.read(message.store_key)
    assert message.message_id_header == f"<{message.pk}@acme.example>"
    assert b"bob@" not in raw


def test_only_letters_with_international_addresses_need_smtputf8():
    umlaut = Mailbox("", "jörg@outside.example")
    assert submitted(Letter(from_=CRM, bcc=[umlaut])).smtputf8
    assert not submitted(Letter(from_=CRM, to=[Mailbox("Jörg", "j@outside.example")])).smtputf8


def test_the_message_id_of_an_international_domain_is_in_ascii():
    raw = octets(submitted(Letter(from_=Mailbox("", "a@bücher.example"), to=[ANN])))
    assert b"@xn--bcher-kva.example>" in raw


@pytest.mark.parametrize(
    ("letter", "code"),
    [
        (Letter(from_=CRM), "no_recipients"),
        (Letter(from_=CRM, to=[ANN] * 6), "too_many_recipients"),
        (Letter(from_=CRM, to=[ANN], text="x" * 5000), "too_large"),
        (Letter(from_=CRM, to=[ANN], attachments=[Attachment("a", "text/plain", b"x" * 4000)]), "too_large"),
        (Letter(from_=CRM, to=[ANN], subject="a\nBcc: x@y"), "bad_field"),
        (Letter(from_=CRM, to=[ANN], text="\ud800"), "bad_field"),
    ],
)
def test_what_cannot_be_a_message_is_rejected_with_its_reason(letter, code, tmp_path):
    with pytest.raises(Rejected) as raised:
        submitted(letter, Limits(5000, 5, 1000, str(tmp_path)))
    assert raised.value.code == code


def test_a_large_letter_is_on_disk_while_it_waits(tmp_path):
    letter = Letter(from_=CRM, to=[ANN], text="x\n" * 3000, attachments=[Attachment("a", "text/plain", b"y" * 9000)])
    submission = submitted(letter, Limits(10**6, 5, 1000, str(tmp_path)))
    assert submission.body.on_disk
    content = mime.parse(octets(submission))
    assert (content.text, content.attachments[0].content) == ("x\n" * 3000, b"y" * 9000)
    submission.body.close()


@pytest.mark.parametrize(
    ("written", "name", "address"),
    [
        ("a@b.example", "", "a@b.example"),
        (" a@b.example ", "", "a@b.example"),
        ("<a@b.example>", "", "a@b.example"),
        ("Ann B <a@b.example>", "Ann B", "a@b.example"),
        ('"B, Ann \\"x\\"" <a@b.example>', 'B, Ann "x"', "a@b.example"),
        ({"address": "a@b.example"}, "", "a@b.example"),
        ({"address": "a@b.example", "name": None}, "", "a@b.example"),
        ({"address": "ä@b.example", "name": "Ä, b"}, "Ä, b", "ä@b.example"),
    ],
)
def test_an_address_in_json_is_read(written, name, address):
    assert mailbox.read(written) == Mailbox(name, address)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "a",
        "a@b, c@d",
        "a@b.example <c@d.example> <e@f.example>",
        "X, Y <a@b.example>",
        "a@b.example\r\nBcc: x@y",
        "A\nB <a@b.example>",
        {"address": "a@b.example", "name": "a\r\nb"},
        {"address": "A <a@b.example>"},
        {"email": "a@b.example"},
        {"address": "a@b.example", "name": 5},
        ["a@b.example"],
        None,
        5,
        "x" * 400 + " <a@b.example>",
    ],
)
def test_what_is_not_one_address_is_refused(wrong):
    with pytest.raises(mailbox.MalformedAddress):
        mailbox.read(wrong)
