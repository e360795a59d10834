"""Tokens of Microsoft Graph: fetched once for all workers, and replaced in time (PRV-6, PRV-12)."""

import datetime
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from accounts import shared_state
from providers import registry
from providers.exceptions import Misconfigured, TemporaryFailure
from providers.tests.messages import outbound, text_only
from providers.tests.standins import GraphStandIn


@pytest.fixture
def graph():
    with GraphStandIn() as service:
        yield service


def backend(graph, **options):
    return registry.connect("msgraph", graph.config(**options), 5)


def fetched(graph):
    return sum(1 for request in graph.journal if request.endswith("/oauth2/v2.0/token"))


def test_one_token_serves_all_workers(graph):
    for _ in range(3):
        backend(graph).send(outbound(text_only()))  # each as in a process of its own
    assert (fetched(graph), len(graph.accepted)) == (1, 3)


def test_threads_do_not_all_fetch_one(graph):
    sender, together = backend(graph), threading.Barrier(4)

    def send(_):
        together.wait(5)
        sender.send(outbound(text_only()))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    assert fetched(graph) == 1


@pytest.mark.parametrize(
    ("tell_life", "seconds"), [(str, 3600), (float, 3600), (lambda _: None, 600), (lambda _: "soon", 600)]
)
def test_its_life_may_be_written_in_many_ways(graph, tell_life, seconds):
    graph.tell_life = tell_life
    for _ in range(2):
        backend(graph).send(outbound(text_only()))
    [key] = shared_state.client().keys(shared_state.key("graph-token", "*"))
    assert fetched(graph) == 1
    assert seconds - 310 < shared_state.client().ttl(key) <= seconds - 300


def test_it_is_kept_encrypted(graph):
    backend(graph).send(outbound(text_only()))
    server = shared_state.client()
    [key] = server.keys(shared_state.key("graph-token", "*"))
    [token] = graph.tokens
    assert token.encode() not in server.get(key)
    assert 3000 < server.ttl(key) <= 3600 - 300


def test_it_is_replaced_before_it_ends(graph):
    graph.token_seconds = 2
    sender = backend(graph)
    sender.send(outbound(text_only()))
    time.sleep(1.1)  # half its life
    sender.send(outbound(text_only()))
    assert fetched(graph) == 2
    assert graph.refusals == []


def test_one_that_is_refused_is_replaced_once(graph):
    first, second = backend(graph), backend(graph)
    first.send(outbound(text_only()))
    second.send(outbound(text_only()))
    graph.revoke()
    first.send(outbound(text_only()))
    second.send(outbound(text_only()))  # finds what the first has fetched
    assert (fetched(graph), len(graph.accepted)) == (2, 4)


def test_one_that_is_refused_twice_is_the_rows_fault(graph):
    graph.fail_next(401, times=2)
    with pytest.raises(Misconfigured) as caught:
        backend(graph).send(outbound(text_only()))
    assert caught.value.code == "bad_credentials"
    assert fetched(graph) == 2


def test_without_the_shared_store_each_process_has_its_own(graph, settings):
    settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"
    first, second = backend(graph), backend(graph)
    for sender in (first, second, first):
        sender.send(outbound(text_only()))
    assert (fetched(graph), len(graph.accepted)) == (2, 3)


def test_a_row_with_another_secret_does_not_find_it(graph):
    backend(graph).send(outbound(text_only()))
    with pytest.raises(Misconfigured, match="AADSTS7000215"):
        backend(graph, client_secret="guessed-secret").send(outbound(text_only()))


def test_what_lies_in_the_store_and_is_not_ours_is_passed_over(graph):
    backend(graph).send(outbound(text_only()))
    server = shared_state.client()
    [key] = server.keys(shared_state.key("graph-token", "*"))
    server.set(key, b"garbage")
    backend(graph).send(outbound(text_only()))
    assert fetched(graph) == 2


def test_a_certificate_signs_in_too(graph):
    """PEM text as it comes out of a field of one line."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "acme")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    graph.certificate = key.public_key()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    thumbprint = certificate.fingerprint(hashes.SHA1()).hex().upper()
    for text in (pem, pem.replace("\n", " "), pem.replace("\n", "")):
        shared_state.forget_everything()
        options = {"client_secret": "", "certificate_key": text.replace("\n", " "), "thumbprint": thumbprint}
        backend(graph, **options).send(outbound(text_only()))
    assert [mail.key for mail in graph.accepted] == ["certificate"] * 3


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"client_secret": ""}, "client_secret"),
        ({"client_secret": "", "certificate_key": "x"}, "thumbprint"),
        ({"client_secret": "", "certificate_key": "x", "thumbprint": "a" * 40}, "certificate_key"),
        ({"certificate_key": "x"}, "client_secret"),
        ({"thumbprint": "short"}, "thumbprint"),
        ({"tenant_id": "../x"}, "tenant_id"),
        ({"login_url": "nowhere"}, "login_url"),
        ({"base_url": "nowhere"}, "base_url"),
    ],
)
def test_settings_that_cannot_work_are_named(graph, options, field):
    with pytest.raises(Misconfigured) as caught:
        backend(graph, **options)
    assert field in caught.value.problems


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tenant_id": "contoso.example"}, "AADSTS90002"),
        ({"client_id": "somebody-else"}, "AADSTS700016"),
        ({"client_secret": "wrong-secret"}, "AADSTS7000215"),
    ],
)
def test_a_refused_sign_in_is_told_in_entras_words(graph, options, words):
    with pytest.raises(Misconfigured, match=words) as caught:
        backend(graph, **options).check_connection()
    assert caught.value.code == "bad_credentials"
    assert "Trace ID" not in caught.value.text


class Elsewhere(GraphStandIn):
    """A token endpoint that takes orders, as the other paths do."""

    def counts(self, request):
        return True


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (429, {"error": "temporarily_unavailable"}, TemporaryFailure, "throttled"),
        (503, b"", TemporaryFailure, "server_error"),
        (502, b"", TemporaryFailure, "server_error"),
        (404, b"<html>not here</html>", Misconfigured, "wrong_url"),
        (200, b"<html>welcome</html>", Misconfigured, "wrong_url"),
        (400, {"error": "temporarily_unavailable"}, TemporaryFailure, "server_error"),
        (400, {"error": "invalid_request", "error_description": "AADSTS900144: x"}, Misconfigured, "bad_credentials"),
    ],
)
def test_answers_of_the_token_endpoint_have_their_class(status, body, kind, code):
    with Elsewhere() as graph:
        graph.fail_next(status, body, {"Retry-After": "7"}, at="/token")
        with pytest.raises(kind) as caught:
            backend(graph).send(outbound(text_only()))
        assert caught.value.code == code
        assert getattr(caught.value, "outcome_unknown", False) is False
        if code == "throttled":
            assert caught.value.retry_after == 7


def test_a_token_endpoint_that_does_not_answer_leaves_no_doubt():
    with Elsewhere() as graph:
        graph.reset_next(at="/token")
        with pytest.raises(TemporaryFailure) as caught:
            backend(graph).send(outbound(text_only()))
        assert (caught.value.code, caught.value.outcome_unknown) == ("connection_lost", False)
        assert graph.accepted == []
