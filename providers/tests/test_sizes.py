"""What a message's size is to each service, and what is too large for it before anything is sent (PRV-8)."""

import pytest

from providers.base import Attachment, Content, Mailbox
from providers.exceptions import TooLarge
from providers.tests.harness import HTTP, RAW_SERVICES, rigged
from providers.tests.messages import ANNA, SENDER, outbound

# As the vendors' pages say, in octets.
MIB = 1024 * 1024
LIMITS = {
    "sendgrid": 30 * MIB,
    "postmark": 10 * MIB,
    "brevo": 20 * MIB,
    "mailjet": 15 * MIB,
    "resend": 40 * MIB,
    "mailersend": 25 * MIB,
    "mandrill": 25 * MIB,
    "mailgun structured": 25 * MIB,
}


def content(file=b"", text="Hi", html=None):
    files = (Attachment("a.pdf", "application/pdf", file),) if file else ()
    return Content("Hi", (Mailbox("", SENDER),), None, (), (Mailbox("", ANNA),), (), text, html, files, ())


@pytest.fixture
def backend(request, tmp_path, monkeypatch):
    with rigged(request.param, tmp_path, monkeypatch) as rig:
        yield rig.backend()


def one_each(names):
    return pytest.mark.parametrize(("backend", "name"), [(name, name) for name in names], indirect=["backend"])


@one_each(LIMITS)
def test_files_count_after_base64(backend, name):
    fits = (LIMITS[name] - 2) // 4 * 3
    backend.check_size(outbound(content(bytes(fits))))
    with pytest.raises(TooLarge) as caught:
        backend.check_size(outbound(content(bytes(fits + 3))))
    assert caught.value.code == "too_large"
    assert f"{LIMITS[name]:,}" in caught.value.text


@one_each(LIMITS)
def test_line_ends_and_quoted_printable_do_not_count(backend, name):
    """A raw message of more octets than the limit fits when what the service is given does."""
    message = outbound(content(text="é" * MIB))
    message.raw = b"=C3=A9" * (LIMITS[name] // 6 + 1)
    backend.check_size(message)


@one_each(["postmark"])
def test_postmark_takes_5_mb_of_text_and_of_html_each(backend, name):
    """https://postmarkapp.com/support/article/1056-what-are-the-attachment-and-email-size-limits"""
    body = "x" * (5 * MIB - 1)
    backend.check_size(outbound(content(text=body, html=body)))
    for parts in ({"text": body + "é"}, {"text": None, "html": body + "é"}):
        with pytest.raises(TooLarge, match="5,242,880"):
            backend.check_size(outbound(content(**parts)))


@one_each(RAW_SERVICES)
def test_where_the_bytes_received_are_sent_those_count(backend, name):
    backend.check_size(outbound(b"x" * backend.max_size))
    with pytest.raises(TooLarge):
        backend.check_size(outbound(b"x" * (backend.max_size + 1)))


@one_each(sorted(HTTP))
def test_every_service_with_an_api_names_a_limit(backend, name):
    assert backend.max_size is not None


@one_each(["smtp", "file"])
def test_what_names_no_limit_takes_any_size(backend, name):
    """A smarthost says its limit in its answer to EHLO, which is obeyed there."""
    backend.check_size(outbound(b"x" * 60 * MIB))
