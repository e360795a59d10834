"""Real messages, taken apart by `delivery.mime`, through every provider type (PRV-2, PRV-3, MIM-3, MIM-4)."""

import contextlib
import random
import uuid
from pathlib import Path

import pytest

from delivery.mime import parse, strip_headers
from providers.base import OutboundMessage, RecipientStatus
from providers.exceptions import PermanentFailure, Unsupported
from providers.fidelity import Fidelity
from providers.tests.harness import RAW, SERVICES, rigged
from providers.tests.standins.http import valid_address

CORPORA = Path(__file__).resolve().parents[3] / "shared" / "corpora"
RECIPIENT = "someone@globex.test"
EXPECTED = {
    # What a strict service refuses in real mail, and what we then say.
    "too_short",  # Scaleway wants ten characters
    "attachment_refused",  # Brevo and Scaleway know few extensions, Postmark forbids some
    "smtputf8_required",  # an author whose local part is not ASCII
    "bad_domain",
    "bad_address",
}


def corpus():
    if not CORPORA.exists():
        pytest.skip(f"no corpora at {CORPORA}")
    return sorted(CORPORA.glob("*.eml"))


def outbound(raw, recipients=(RECIPIENT,), *, mail_from="bounce@acme.test"):
    return OutboundMessage(
        message_id=str(uuid.uuid4()),
        idempotency_key=str(uuid.uuid4()),
        mail_from=mail_from,
        recipients=tuple(recipients),
        envelope_recipients=tuple(recipients),
        raw=raw,
        smtputf8=False,
        parse=parse,
    )


def normal(raw):
    """CRLF line ends, as the listener hands messages on."""
    return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


@pytest.mark.parametrize("type_", SERVICES)
def test_real_messages_pass_every_structured_service(type_, tmp_path, monkeypatch):
    refused = {}
    with rigged(type_, tmp_path, monkeypatch) as rig:
        backend = rig.backend()
        for path in corpus():
            message = outbound(strip_headers(normal(path.read_bytes())))
            lost = backend.verdict(message).lost
            (group,) = backend.split(message)
            before = len(rig.mails())
            try:
                result = backend.send(message.for_call(group, message.idempotency_key))
            except PermanentFailure as failure:
                refused[path.name] = failure
                continue
            assert result.recipients[RECIPIENT].status is RecipientStatus.DELIVERED, path.name
            (mail,) = rig.mails()[before:]
            check(message, mail, lost, path.name)
        assert getattr(rig.service, "dropped", []) == []
    authors = {path.name: parse(path.read_bytes()).from_ for path in corpus()}
    unexpected = {
        name: failure.text
        for name, failure in refused.items()
        if failure.code not in EXPECTED and all(valid_address(box.address) for box in authors[name])
    }
    assert unexpected == {}
    others = [name for name, failure in refused.items() if failure.code not in {"attachment_refused", "too_short"}]
    assert len(others) < 0.02 * len(authors)


def check(message, mail, lost, name):
    """The recipient alone is mailed, nothing is missing, and a loss is not hidden."""
    content = message.content
    assert mail.recipients == [RECIPIENT], name
    wanted = sorted(part.content or b"\r\n" for part in content.attachments)
    assert sorted(file.content for file in mail.files) == wanted, name
    rewritten = any(entry.startswith("plain text alternative") for entry in lost)
    if content.text and content.text.strip("\0") and not (rewritten and content.html):
        assert mail.text == content.text.replace("\0", "").encode("utf-8", "replace").decode(), name
    if content.html:
        assert mail.html == content.html.replace("\0", "").encode("utf-8", "replace").decode(), name
    if "original-attached" in content.defects:
        assert any(entry.startswith("structure") for entry in lost), name


@pytest.mark.parametrize("type_", RAW)
def test_real_messages_pass_every_raw_type_byte_for_byte(type_, tmp_path, monkeypatch):
    if type_ == "stdout":
        pytest.skip("prints text, not bytes")
    with rigged(type_, tmp_path, monkeypatch) as rig:
        backend = rig.backend()
        sent, changed, refused = [], [], {}
        for path in corpus():
            raw = normal(path.read_bytes())
            raw = raw if raw.endswith(b"\r\n") else raw + b"\r\n"
            message = outbound(raw)
            lossless = backend.verdict(message).fidelity is Fidelity.LOSSLESS
            try:
                backend.send(message)
            except Unsupported as failure:
                refused[path.name] = (failure.code, raw.isascii(), lossless)
                continue
            (sent if lossless else changed).append(raw)
        arrived = [mail.data for mail in rig.raws()]
        assert all(raw in arrived for raw in sent)
        assert len(arrived) == len(sent) + len(changed)
        if rig.type == "ses":
            # Amazon reads the header: an author must have an address, some fields appear only once or get a value.
            assert sorted(arrived) == sorted(sent + changed)
            assert len(refused) < 0.1 * len(sent)
            return
        assert changed == [] or rig.type == "sparkpost"
        # What is 8-bit goes encoded anew where a route carries 7 bits, except for signed mail and SMTPUTF8.
        assert len(changed) < 0.2 * len(sent)
        assert set(refused.values()) <= {("smtputf8_required", False, False), ("8bitmime_required", False, False)}
        assert len(refused) < 5


ADDRESSES = ["a@globex.test", "b@globex.test", "C@Globex.test", "d@initech.test", "e@bücher.example"]


@pytest.mark.parametrize("type_", SERVICES)
def test_the_envelope_decides_whatever_the_headers_say(type_, tmp_path, monkeypatch):
    """Any mixture of To, Cc and envelope: everybody of the envelope once, nobody else, no blind copy shown."""
    pick = random.Random(type_)
    with rigged(type_, tmp_path, monkeypatch) as rig:
        backend = rig.backend()
        for _ in range(40):
            to, cc, envelope = (pick.sample(ADDRESSES, pick.randint(low, 4)) for low in (0, 0, 1))
            to_field = f"Team: {', '.join(to)};" if pick.random() < 0.3 else ", ".join(to)
            raw = f"From: x@acme.test\r\nTo: {to_field}\r\nCc: {', '.join(cc)}\r\n\r\nHello there\r\n".encode()
            whole = outbound(raw, envelope)
            before = len(rig.mails())
            for group in backend.split(whole):
                backend.send(whole.for_call(group, str(uuid.uuid4())))
            mails = rig.mails()[before:]
            reached = [recipient.lower() for mail in mails for recipient in mail.recipients]
            assert sorted(reached) == sorted(as_ascii(address) for address in envelope)
            visible = {as_ascii(address) for address in (*to, *cc)}
            for mail in mails:
                shown = {address.lower() for address in mail.to + mail.cc}
                assert shown <= visible or len(mail.recipients) == 1
        assert rig.service.refusals == []


def as_ascii(address):
    return address.lower().replace("bücher", "xn--bcher-kva")


@pytest.mark.parametrize("type_", SERVICES)
def test_damaged_messages_raise_nothing_unexpected(type_, tmp_path, monkeypatch):
    pick = random.Random(7)
    with rigged(type_, tmp_path, monkeypatch) as rig:
        backend = rig.backend()
        for path in corpus()[::6]:
            raw = bytearray(normal(path.read_bytes())[:20_000])
            for _ in range(20):
                raw[pick.randrange(len(raw) or 1) : 1] = bytes([pick.randrange(256)]) if raw else b""
            message = outbound(bytes(raw))
            backend.verdict(message)
            with contextlib.suppress(Unsupported, PermanentFailure):
                backend.send(message)
