"""Real messages through every provider type: what was said of each before it was sent, and what arrived (PRV-4).

pytest delivery/tests/test_fidelity_table.py -s       prints the table
WRITE_VERDICTS=1 pytest delivery/tests/test_fidelity_table.py      and writes it into docs/providers.md
"""

import contextlib
import email
import os
import re
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from delivery.mime import parse, received_line, strip_headers
from delivery.tests.test_provider_contract import corpus, normal
from providers.base import OutboundMessage, RecipientStatus
from providers.exceptions import PermanentFailure
from providers.fidelity import Fidelity
from providers.tests.harness import MIXED, TYPES, rigged

RECIPIENT = "someone@globex.test"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "providers.md"
COLUMNS = [*(str(fidelity) for fidelity in Fidelity), "refused"]
NAMES = sorted({*TYPES, *MIXED} - {"stdout"})  # which prints text, not bytes

RECEIVED = received_line(
    helo="printer.acme.test",
    client_ip="192.0.2.7",
    hostname="mx.smtpproxy.test",
    protocol="ESMTPSA",
    message_id="0193",
    now=datetime(2026, 11, 22, 10, 0, tzinfo=UTC),
)
BLIND = re.compile(rb"^(?:resent-)?bcc[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE)
SEALED = {"multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"}


def messages():
    """Each message of the corpora as it was submitted, and as it is handed to a provider."""
    for path in corpus():
        submitted = normal(path.read_bytes())
        submitted = submitted if submitted.endswith(b"\r\n") else submitted + b"\r\n"
        message = OutboundMessage(
            message_id=str(uuid.uuid4()),
            idempotency_key=str(uuid.uuid4()),
            mail_from="bounce@acme.test",
            recipients=(RECIPIENT,),
            envelope_recipients=(RECIPIENT,),
            raw=strip_headers(RECEIVED + submitted),
            smtputf8=False,
            parse=parse,
        )
        yield path.name, submitted, message


def arrived(rig):
    """Every mail that has arrived so far, as bytes or as parts; of files, those that were not looked at before."""
    if rig.type == "file":
        paths = list(rig.directory.glob("*/*.eml"))
        rig.seen = getattr(rig, "seen", [])
        mails = rig.raws()
        for path in paths:
            path.rename(path.with_suffix(".seen"))
        rig.seen += mails
        return rig.seen
    return rig.raws() if rig.raw else rig.mails()


def without_ours(data):
    """What arrived, without our Received line."""
    assert data.startswith(RECEIVED)
    return data.removeprefix(RECEIVED)


def without_blind_copies(submitted):
    end = submitted.find(b"\r\n\r\n") + 2
    header, rest = (submitted[:end], submitted[end:]) if end > 1 else (submitted, b"")
    return BLIND.sub(b"", header) + rest


def check(name, verdict, submitted, message, mail):
    """The verdict holds for what arrived."""
    assert mail.recipients == [RECIPIENT], name
    if verdict.fidelity is Fidelity.LOSSLESS:
        assert without_ours(mail.data) == without_blind_copies(submitted), name
        return
    if mail.data:
        return  # sent as bytes, and said what changes
    content = message.content
    wanted = sorted(part.content or b"\r\n" for part in content.attachments)
    assert sorted(file.content for file in mail.files) == wanted, name
    for body, shown in ((content.text, mail.text), (content.html, mail.html)):
        if body and body.strip("\0"):
            kept = shown == body.replace("\0", "").encode("utf-8", "replace").decode()
            assert kept or any(entry.startswith("plain text") for entry in verdict.lost), name
    if verdict.fidelity is Fidelity.MAPPED:
        assert not [entry for entry in verdict.lost if entry != "header Message-ID"], name


def row_of(name, directory, monkeypatch):
    """Send everything; count the verdicts."""
    counts = Counter()
    with rigged(name, directory, monkeypatch) as rig:
        backend = rig.backend()
        for title, submitted, message in messages():
            verdict = backend.verdict(message)
            before = len(arrived(rig))
            (group,) = backend.split(message)
            try:
                result = backend.send(message.for_call(group, message.idempotency_key))
            except PermanentFailure:
                assert len(arrived(rig)) == before, title
                counts["refused"] += 1
                continue
            assert result.recipients[RECIPIENT].status is RecipientStatus.DELIVERED, title
            (mail,) = arrived(rig)[before:]
            check(title, verdict, submitted, message, mail)
            if email.message_from_bytes(submitted).get_content_type() in SEALED and not mail.data:
                assert verdict.fidelity is Fidelity.BROKEN, title
            counts[str(verdict.fidelity)] += 1
    return counts


def line(name, counts):
    return f"| {' | '.join([f'`{name}`', *(str(counts[column]) for column in COLUMNS)])} |"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_of_a_real_message_before_it_is_sent_is_what_becomes_of_it(name, tmp_path, monkeypatch):
    """At least 40 are sent through each type; what is called lossless arrives byte for byte, save for our Received
    line and the removed blind copies; what is signed and taken apart is called broken."""
    counts = row_of(name, tmp_path, monkeypatch)
    written = line(name, counts)
    print(written)
    assert counts.total() - counts["refused"] >= 40
    assert counts.total() == len(corpus())
    if name in ("smtp", "file", "memory", "mailgun"):
        assert counts["lossless"] == counts.total()
    if os.environ.get("WRITE_VERDICTS"):
        write(name, written)
    assert written in PAGE.read_text(), "docs/providers.md has other figures: WRITE_VERDICTS=1 writes these"


def write(name, written):
    page = PAGE.read_text()
    head, start, table = page.partition("<!-- verdicts -->\n")
    table, end, foot = table.partition("<!-- /verdicts -->")
    titles, rule, *rows = table.strip().splitlines()
    kept = {row.split("`")[1]: row for row in rows}
    with contextlib.suppress(KeyError):
        del kept[name]
    kept[name] = written
    rows = "\n".join(kept[key] for key in sorted(kept))
    PAGE.write_text(f"{head}{start}{titles}\n{rule}\n{rows}\n{end}{foot}")


def test_the_table_has_no_row_of_a_type_that_is_gone():
    table = PAGE.read_text().partition("<!-- verdicts -->")[2].partition("<!-- /verdicts -->")[0]
    assert re.findall(r"^\| `([^`]+)`", table, re.MULTILINE) == NAMES
