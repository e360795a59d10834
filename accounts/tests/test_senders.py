"""Which addresses an account may send as: SMTP-6."""

import uuid

import pytest

from accounts.credentials import Identity, sender_allowed


def identity(*allowed, may_send_bounces=False):
    return Identity(uuid.uuid4(), uuid.uuid4(), "crm@acme", allowed, may_send_bounces)


@pytest.mark.parametrize(
    ("allowed", "address", "expected"),
    [
        (["acme.example"], "a@acme.example", True),
        (["acme.example"], "A.B+c@ACME.Example", True),
        (["ACME.example"], "a@acme.example", True),
        (["acme.example"], "a@mail.acme.example", False),
        (["acme.example"], "a@notacme.example", False),
        (["acme.example"], "a@acme.example.evil.example", False),
        (["acme.example"], "a@globex.example", False),
        (["acme.example"], '"a@globex.example"@acme.example', True),
        (["acme.example"], "a@acme.example@globex.example", False),
        (["acme.example"], "acme.example", False),
        (["acme.example"], "@acme.example", False),
        (["acme.example"], "a@", False),
        (["acme.example"], "a@acme.example.", False),
        (["acme.example"], "a@acme.example\0", False),
        (["acme.example"], "a@[192.0.2.1]", False),
        (["*.acme.example"], "a@mail.acme.example", True),
        (["*.acme.example"], "a@deep.mail.acme.example", True),
        (["*.acme.example"], "a@acme.example", False),
        (["*.acme.example"], "a@.acme.example", False),
        (["*.acme.example"], "a@x..acme.example", False),
        (["*.acme.example"], "a@evilacme.example", False),
        (["*.acme.example"], "a@*.acme.example", False),
        (["*.acme.example", "acme.example"], "a@acme.example", True),
        (["bücher.example"], "a@xn--bcher-kva.example", True),
        (["xn--bcher-kva.example"], "a@BÜCHER.example", True),
        (["*.bücher.example"], "a@mail.xn--bcher-kva.example", True),
        (["bücher.example"], "a@bucher.example", False),
        (["acme.example"], "a@ａｃｍｅ.example", True),
        (["my_host.example"], "a@my_host.example", True),
        (["acme.example"], "a@" + "x" * 64 + ".example", False),
        (["acme.example"], "a@" + "x." * 200 + "acme.example", False),
        (["xn--\u00fc"], "a@xn--\u00fc", False),
        ([], "a@acme.example", False),
        (["*"], "a@acme.example", False),
        (["*."], "a@acme.example", False),
        ([""], "a@", False),
    ],
)
def test_an_address_is_allowed_by_its_domain(allowed, address, expected):
    assert sender_allowed(identity(*allowed), address) is expected


def test_the_empty_sender_is_only_for_accounts_that_may_send_bounces():
    assert sender_allowed(identity(may_send_bounces=True), "")
    assert not sender_allowed(identity("acme.example"), "")
