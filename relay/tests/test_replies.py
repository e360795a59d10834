"""Every reply has an enhanced status code, fits its line and tells nothing (SMTP-16)."""

import re
import uuid

import pytest

from delivery.exceptions import Deferred, Rejected
from relay import replies

FIXED = {name: value for name, value in vars(replies).items() if isinstance(value, bytes)}
WITHOUT_ENHANCED_CODE = {name for name, value in FIXED.items() if value.startswith((b"334", b"354"))}


@pytest.mark.parametrize("name", sorted(FIXED))
def test_form(name):
    reply = FIXED[name]
    assert len(reply) <= 510
    assert re.fullmatch(rb"[ -~]+", reply)
    if name in WITHOUT_ENHANCED_CODE:
        assert not re.match(rb"\d{3} \d\.", reply)
    else:
        assert re.match(rb"([245])\d\d \1\.\d{1,3}\.\d{1,3} \S", reply), reply


def test_no_reply_is_a_permanent_no_for_our_own_failure():
    assert replies.TRY_LATER.startswith(b"451 4.3.0")
    assert replies.AUTH_UNAVAILABLE.startswith(b"454 4.")


def test_no_two_names_say_the_same():
    assert len(set(FIXED.values())) == len(FIXED)


def test_the_message_id_is_in_the_reply():
    id_ = uuid.uuid4()
    assert replies.queued(id_) == f"250 2.0.0 Ok: queued as {id_}".encode()


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (Rejected("a\r\n250 ok", code="x", status="5.7.1"), b"550 5.7.1 a 250 ok"),
        (Rejected("größer\x00", code="x", status="5.3.4"), b"552 5.3.4 gr er"),
        (Rejected("x" * 2000, code="x", status="5.7.1"), b"550 5.7.1 " + b"x" * 400),
        (Rejected("", code="x", status="5.7.1"), b"550 5.7.1 Refused"),
        (Rejected("odd", code="x", status="4.2.2"), b"550 5.7.1 odd"),
        (Rejected("odd", code="x", status="5.7.1\r\n"), b"550 5.7.1 odd"),
        (Rejected("loop", code="x", status="5.4.6"), b"554 5.4.6 loop"),
        (Deferred("full", code="x", status="4.3.1"), b"452 4.3.1 full"),
        (Deferred("quota", code="x", status="4.2.2"), b"452 4.2.2 quota"),
        (Deferred("odd", code="x", status="5.0.0"), b"451 4.3.0 odd"),
        (Deferred("", code="x", status=""), b"451 4.3.0 Try again later"),
    ],
)
def test_a_refusal_keeps_its_class_and_cannot_forge_a_reply(error, reply):
    assert replies.refused(error) == reply
