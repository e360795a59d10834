"""SendEmail, strictly read (AMQP-1)."""

import base64
import json

import pytest

from delivery.exceptions import Rejected
from providers.base import Attachment, Mailbox
from relay.ingest.payload import HASHED, Pointer, read
from relay.tests.publishing import payload


def reading(**changes):
    return read(json.dumps(payload(**changes)).encode())


def refused(content):
    with pytest.raises(Rejected) as raised:
        read(content if isinstance(content, bytes) else json.dumps(content).encode())
    return raised.value


def test_every_field_is_read():
    request = reading(
        publisher_message_id="order-1",
        cc="Bob <bob@outside.example>",
        bcc=[{"address": "carol@outside.example", "name": "Carol"}],
        body={"contentType": "HTML", "content": "<p>ü</p>"},
        attachments=[
            {"name": "a.txt", "size": 3, "contentType": "text/plain; charset=utf-8", "content": "YWJj"},
            {"name": "l.png", "contentType": "image/png", "contentId": "<logo>", "content": "YWJj\n"},
            {"name": "b.pdf", "contentType": "application/pdf", "size": 9, "urlOrId": "s3://parts/acme/b.pdf"},
        ],
        metadata={"tenant": "acme", "account": "crm@acme", "campaign": 7},
    )
    assert (request.publisher_message_id, request.key) == ("order-1", "order-1")
    assert request.from_ == Mailbox("Crm", "crm@acme.example")
    assert request.to == [Mailbox("", "ann@outside.example")]
    assert request.cc == [Mailbox("Bob", "bob@outside.example")]
    assert request.bcc == [Mailbox("Carol", "carol@outside.example")]
    assert (request.text, request.html) == (None, "<p>ü</p>")
    assert request.attachments == [
        Attachment("a.txt", "text/plain", b"abc", parameters={"charset": "utf-8"}),
        Attachment("l.png", "image/png", b"abc", "logo", True),
        Pointer("b.pdf", "application/pdf", {}, "", "s3://parts/acme/b.pdf", 9),
    ]
    assert (request.tenant, request.account, request.pointers) == ("acme", "crm@acme", True)


def test_without_an_id_the_key_is_a_hash_of_what_the_payload_says():
    one = read(b'{"from": "a@b.example", "to": "c@d.example", "body": {"contentType": "text", "content": "x"}}')
    two = read(b'{"to":"c@d.example","body":{"content":"x","contentType":"text"},"from":"a@b.example"}')
    other = read(b'{"to":"c@d.example","body":{"content":"y","contentType":"text"},"from":"a@b.example"}')
    assert one.publisher_message_id == ""
    assert one.key == two.key == HASHED + one.fingerprint
    assert other.key != one.key
    assert len(one.key) < 255


def test_null_is_as_good_as_absent():
    content = {**payload(), "cc": None, "attachments": None, "metadata": None, "publisher_message_id": None}
    assert read(json.dumps(content).encode()).cc == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{",
        b'"x"',
        b'{"a": NaN}',
        b"[" * 100_000,
        b'{"a":"\\ud800"}',
        b"1" * 10_000,
        b'{"to":"a","to":"b"}',
    ],
)
def test_what_is_no_json_object_is_malformed(body):
    assert refused(body).code == "malformed"


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"form": "x"}, "unknown_field", "'form'"),
        ({"from": None}, "missing_field", "from"),
        ({"body": None}, "missing_field", "body"),
        ({"body": {"content": "x"}}, "missing_field", "body.contentType"),
        ({"body": {"contentType": "text/plain"}}, "missing_field", "body.content"),
        ({"body": {"contentType": "text/rtf", "content": "x"}}, "bad_field", "contentType"),
        ({"body": "x"}, "bad_field", "body"),
        ({"body": {"contentType": "text", "content": "x", "charset": "y"}}, "unknown_field", "charset"),
        ({"from": ["a@b.example", "c@d.example"]}, "bad_address", "from"),
        ({"to": ["ann@outside.example", "nobody"]}, "bad_address", "to[1]"),
        ({"to": "a@b.example\r\nBcc: x@y.example"}, "bad_address", "to[0]"),
        ({"subject": "Hi\r\nBcc: x@y.example"}, "bad_field", "subject"),
        ({"subject": 5}, "bad_field", "subject"),
        ({"publisher_message_id": ""}, "bad_field", "publisher_message_id"),
        ({"publisher_message_id": "x" * 256}, "bad_field", "publisher_message_id"),
        ({"publisher_message_id": 7}, "bad_field", "publisher_message_id"),
        ({"publisher_message_id": "a\x00"}, "bad_field", "publisher_message_id"),
        ({"attachments": {}}, "bad_field", "attachments"),
        ({"attachments": [{"content": "eA=="}]}, "missing_field", "attachments[0].name"),
        ({"attachments": [{"name": "a"}]}, "bad_field", "content or urlOrId"),
        ({"attachments": [{"name": "a", "content": "eA==", "urlOrId": "x"}]}, "bad_field", "content or urlOrId"),
        ({"attachments": [{"name": "a", "content": "?"}]}, "bad_field", "base64"),
        ({"attachments": [{"name": "a", "content": "eA==", "size": 2}]}, "size_mismatch", "1 octets, not 2"),
        ({"attachments": [{"name": "a", "content": "eA==", "size": -1}]}, "bad_field", "size"),
        ({"attachments": [{"name": "a", "content": "eA==", "size": True}]}, "bad_field", "size"),
        ({"attachments": [{"name": "a\r\nX: y", "content": "eA=="}]}, "bad_field", "name"),
        ({"attachments": [{"name": "a", "content": "eA==", "contentType": "x y"}]}, "bad_field", "contentType"),
        ({"attachments": [{"name": "a", "content": "eA==", "path": "y"}]}, "unknown_field", "path"),
        ({"attachments": [{"name": "a", "content": ""}] * 201}, "bad_field", "200"),
        ({"metadata": "acme"}, "bad_field", "metadata"),
        ({"metadata": {"tenant": 5}}, "bad_field", "metadata.tenant"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_reason(changes, code, says):
    error = refused(payload(**changes))
    assert error.code == code
    assert says in error.text


def test_no_reason_quotes_what_a_message_says():
    """SEC-8: reasons are logged."""
    for changes in ({"subject": "secret\n"}, {"to": "secret"}, {"attachments": [{"name": "a", "content": "secret!"}]}):
        assert "secret" not in refused(payload(**changes)).text


def test_ten_megabytes_are_read_in_reasonable_time():
    content = base64.b64encode(bytes(10**7)).decode()
    assert len(reading(attachments=[{"name": "a", "content": content}]).attachments[0].content) == 10**7
