"""API-2 over real HTTP: large attachments, requests that end early, and the walk from a key to the provider's bytes."""

import base64
import json
import os
import socket
from urllib.parse import urlsplit

import pytest
import urllib3

from accounts.api_keys import issue_api_key
from delivery import mime, sender, store
from delivery.models import Message
from delivery.tests.mail import raw_message
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def key(acme_account, broker):
    return issue_api_key(acme_account, ["send", "messages:read"])[1]


@pytest.fixture
def ask(live_server, key):
    """Asks the API as the application does: (status, answer)."""
    pool = urllib3.PoolManager(headers={"Authorization": f"Bearer {key}"})

    def ask(method, path, octets=None, kind="application/json"):
        headers = {**pool.headers, "Content-Type": kind}
        answer = pool.request(method, f"{live_server.url}/api/v1/{path}", body=octets, headers=headers, timeout=60)
        return answer.status, answer.json()

    yield ask
    pool.clear()


def test_ten_megabytes_come_through_either_way(ask):
    content = os.urandom(10 * 1024 * 1024)
    encoded = base64.b64encode(content).decode()
    letter = {
        "from": "crm@acme.example",
        "to": ["one@outside.example"],
        "text": "See the attachment.",
        "attachments": [{"name": "big.bin", "content": encoded}],
    }
    status, told = ask("POST", "messages", json.dumps(letter).encode())
    assert status == 202
    kept = store.read(Message.objects.get(pk=told["id"]).store_key)
    assert mime.parse(kept).attachments[0].content == content

    # The same message, without the fields we wrote, as raw MIME.
    raw = kept
    status, told = ask("POST", "messages", raw, "message/rfc822")
    assert status == 202
    assert store.read(Message.objects.get(pk=told["id"]).store_key).endswith(raw)


def test_a_request_that_ends_early_makes_no_message(live_server, key):
    """What was cut off in the middle may look like a whole message."""
    where, raw = urlsplit(live_server.url), raw_message(body="Pay 1000\r\n")
    head = f"POST /api/v1/messages HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: message/rfc822\r\nContent-Length: {len(raw) + 2}\r\n\r\n"
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        connection.sendall(head.encode() + raw)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert b'"incomplete"' in answer
    assert not Message.objects.exists()


def test_from_a_key_to_the_bytes_the_provider_has(ask, acme, broker, tmp_path):
    ProviderFactory(tenant=acme, name="folder", type="file", config={"directory": str(tmp_path / "out")})
    lines = ("Bcc: blind@outside.example", "Content-Type: text/plain; charset=utf-8", "X-Odd:  kept   as it is")
    raw = raw_message(*lines, body="Gr\u00fc\u00dfe,\r\n..dots\r\n\r\n")
    status, told = ask("POST", "messages", raw, "message/rfc822")
    assert status == 202
    sender.deliver([Message.objects.get(pk=told["id"]).pk])

    [sent] = (tmp_path / "out").glob("*.eml")
    received, _, rest = sent.read_bytes().partition(b"From: crm@acme.example")
    assert b"From: crm@acme.example" + rest == raw.replace(b"Bcc: blind@outside.example\r\n", b"")
    assert received.startswith(b"Received: ")
    envelope = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    assert sorted(envelope["recipients"]) == ["blind@outside.example", "someone@outside.example"]

    status, seen = ask("GET", f"messages/{told['id']}")
    assert (status, seen["status"]) == (200, "delivered")
    assert {one["address"]: one["status"] for one in seen["recipients"]} == dict.fromkeys(
        ("someone@outside.example", "blind@outside.example"), "delivered"
    )
