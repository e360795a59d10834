"""The HTTP client: kept connections, what was sent when it failed, and what answers mean (PRV-7, PRV-11)."""

import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest
import trustme

from providers import http
from providers.exceptions import Misconfigured, PermanentFailure, TemporaryFailure, TooLarge
from providers.http import Answer, HttpClient, failure, retry_after
from providers.tests.standins import StandIn
from providers.tests.standins.http import Accepted

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


class Echo(StandIn):
    """Takes any JSON."""

    type, path, credential = "echo", "/take", "key"

    def authorized(self, headers, payload):
        return self.keys[0]

    def error(self, status):
        return {"status": status}

    def show(self, path, headers):
        return 200, {"shown": path, "length": headers.get("Content-Length")}, {}

    def take(self, payload, key, headers):
        self.accepted.append(Accepted(key, payload, "", [], [], [], "", None, None, headers=dict(headers)))
        return 200, {"taken": len(self.accepted)}, {}


@pytest.fixture
def echo():
    with Echo() as echo:
        yield echo


@contextmanager
def client_of(url, timeout=5.0):
    client = HttpClient(url, timeout=timeout)
    yield client
    client.close()


def post(client, body=b"{}", path="take"):
    return client.post(path, body, {"Content-Type": "application/json"})


def test_an_answer_has_status_headers_and_json(echo):
    with client_of(echo.url) as client:
        answer = post(client, b'{"a": 1}')
    assert (answer.status, answer.json(), answer.headers["content-type"]) == (200, {"taken": 1}, "application/json")
    assert echo.accepted[0].payload == {"a": 1}
    assert echo.accepted[0].headers["User-Agent"] == "smtpproxy"
    assert "taken" not in repr(answer)


def test_a_get_carries_no_body_and_shares_the_connection(echo):
    with client_of(echo.url) as client:
        post(client)
        answer = client.get("account?limit=1", {"Accept": "application/json"})
    assert (answer.status, answer.json()) == (200, {"shown": "/account?limit=1", "length": None})
    assert echo.connections == 1


def test_a_get_that_is_not_answered_is_temporary(echo):
    echo.reset_next()
    with client_of(echo.url) as client, pytest.raises(TemporaryFailure) as caught:
        client.get("account", {})
    assert caught.value.code == "connection_lost"


def test_requests_one_after_another_share_a_connection(echo):
    with client_of(echo.url) as client:
        for _ in range(10):
            post(client)
    assert (echo.requests, echo.connections) == (10, 1)


def test_error_answers_keep_the_connection_too(echo):
    echo.fail_next(500, times=3)
    with client_of(echo.url) as client:
        assert [post(client).status for _ in range(4)] == [500, 500, 500, 200]
    assert echo.connections == 1


def test_thirty_two_threads_keep_their_connections(echo):
    start = threading.Barrier(32)

    def work(_):
        start.wait(10)
        return [post(client).status for _ in range(5)]

    with client_of(echo.url) as client, ThreadPoolExecutor(32) as pool:
        assert {status for found in pool.map(work, range(32)) for status in found} == {200}
    assert echo.requests == 160
    assert echo.connections <= 32


def test_a_large_body_arrives_whole(echo):
    body = b'{"a": "' + b"x" * 3_000_000 + b'"}'
    with client_of(echo.url) as client:
        post(client, body)
        post(client, body)
    assert len(echo.accepted[1].payload["a"]) == 3_000_000
    assert "Transfer-Encoding" not in echo.accepted[0].headers
    assert echo.connections == 1


def test_redirects_are_not_followed(echo):
    echo.fail_next(307, b"", {"Location": "http://127.0.0.1:1/elsewhere"})
    with client_of(echo.url) as client:
        answer = post(client)
    assert answer.status == 307
    assert isinstance(failure(answer), Misconfigured)
    assert echo.requests == 1


def test_a_connection_the_server_closed_is_not_used_again(echo):
    with client_of(echo.url) as client:
        post(client)
        echo.close_idle()
        threading.Event().wait(0.05)
        assert post(client).status == 200
    assert (echo.requests, echo.connections) == (2, 2)


def test_a_connection_that_was_idle_for_long_is_not_used_again(echo, monkeypatch):
    monkeypatch.setattr(http, "IDLE_SECONDS", 0.05)
    with client_of(echo.url) as client:
        post(client)
        threading.Event().wait(0.1)
        post(client)
    assert echo.connections == 2


def test_a_connection_cut_while_the_request_was_on_its_way_is_not_tried_again(echo):
    """The race that remains when a server closes a kept connection: the request may have been read."""
    with client_of(echo.url) as client:
        post(client)
        echo.reset_next()
        with pytest.raises(TemporaryFailure) as caught:
            post(client)
    assert (caught.value.code, caught.value.outcome_unknown) == ("connection_lost", True)
    assert echo.requests == 2


def test_no_answer_in_time_leaves_the_outcome_unknown(echo):
    echo.hang_next(0.5)
    with client_of(echo.url, timeout=0.15) as client, pytest.raises(TemporaryFailure) as caught:
        post(client)
    assert (caught.value.code, caught.value.outcome_unknown) == ("timeout", True)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf",
        b"garbage\r\n\r\n",
        b"",
    ],
)
def test_an_answer_that_breaks_off_leaves_the_outcome_unknown(echo, raw):
    echo.answer_next(raw)
    with client_of(echo.url) as client, pytest.raises(TemporaryFailure) as caught:
        post(client)
    assert caught.value.outcome_unknown
    assert caught.value.code in {"bad_answer", "connection_lost"}


def test_an_error_whose_body_breaks_off_is_still_that_error(echo):
    echo.answer_next(b"HTTP/1.1 503 Busy\r\nRetry-After: 9\r\nContent-Length: 100\r\n\r\nhalf")
    with client_of(echo.url) as client:
        answer = post(client)
    assert (answer.status, failure(answer).retry_after) == (503, 9)


def test_an_endless_answer_is_cut(echo):
    echo.fail_next(500, b"x" * (http.MAX_ANSWER + 100_000))
    with client_of(echo.url) as client:
        assert len(post(client).body) == http.MAX_ANSWER
        assert post(client).status == 200


@pytest.mark.parametrize(("status", "unknown"), [(b"200 OK", True), (b"503 Busy", False)])
def test_an_answer_that_trickles_in_for_ever_is_left(status, unknown):
    """Each octet comes within the timeout; all of them never do."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        client_of(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.3) as client,
    ):
        stop = threading.Event()

        def trickle():
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 " + status + b"\r\nRetry-After: 9\r\nContent-Length: 100000\r\n\r\n")
                while not stop.wait(0.02):
                    connection.sendall(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        began = time.monotonic()
        try:
            if unknown:
                with pytest.raises(TemporaryFailure) as caught:
                    post(client)
                assert (caught.value.code, caught.value.outcome_unknown) == ("bad_answer", True)
            else:
                assert failure(post(client)).retry_after == 9
            assert 0.5 < time.monotonic() - began < 5
        finally:
            stop.set()
            thread.join(5)


def test_a_refused_connection_is_certain():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with client_of(f"http://127.0.0.1:{port}") as client, pytest.raises(TemporaryFailure) as caught:
        post(client)
    assert (caught.value.code, caught.value.outcome_unknown) == ("connection_failed", False)


def test_an_unknown_host_is_certain():
    with client_of("http://no-such-host.invalid") as client, pytest.raises(TemporaryFailure) as caught:
        post(client)
    assert (caught.value.code, caught.value.outcome_unknown) == ("connection_failed", False)


def test_a_connection_cut_in_the_middle_of_the_request_is_certain():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def cut():
            connection, _ = server.accept()
            connection.recv(100)
            connection.close()

        thread = threading.Thread(target=cut)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with client_of(url) as client, pytest.raises(TemporaryFailure) as caught:
            post(client, b"x" * 20_000_000)
        thread.join()
    assert (caught.value.code, caught.value.outcome_unknown) == ("connection_lost", False)


def test_a_server_that_takes_nothing_in_times_out_with_certainty():
    with socket.create_server(("127.0.0.1", 0), backlog=1) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with client_of(url, timeout=0.2) as client, pytest.raises(TemporaryFailure) as caught:
            post(client, b"x" * 50_000_000)  # more than the buffers of both sides
    assert (caught.value.code, caught.value.outcome_unknown) == ("timeout", False)


def test_an_untrusted_certificate_stops_before_anything_is_sent():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://localhost:{server.getsockname()[1]}"
        with client_of(url) as client, pytest.raises(TemporaryFailure) as caught:
            post(client)
        thread.join()
    assert (caught.value.code, caught.value.outcome_unknown) == ("tls", False)


NOT_URLS = (
    "http://[::1",
    "http://::1]",
    "https://x.test:99999",
    "https://x.test:0",
    "https://x.test:port",
    "https://a b.test",
    "https://" + "a" * 64 + ".test",
    "https://a.test\\@b.test",
    "https://%31%32%37.0.0.1",
    "https://127.1/",
    "https://x.test/#part",
)


@pytest.mark.parametrize("credential", ["two\r\nlines", "\ud800", "☂"])
def test_a_credential_that_cannot_be_written_has_sent_nothing(echo, credential):
    with client_of(echo.url) as client, pytest.raises(Misconfigured) as caught:
        client.post("take", b"{}", {"Authorization": credential})
    assert caught.value.code == "bad_config"
    assert echo.requests == 0


@pytest.mark.parametrize(
    "url", ["", "api.example.com", "ftp://x.test", "https://", "https://key@x.test", "https://x.test/?key=1", *NOT_URLS]
)
def test_a_base_url_must_be_one(url):
    with pytest.raises(Misconfigured, match="base_url"):
        HttpClient(url, timeout=1)


@pytest.mark.parametrize("nested", [b"[" * 500_000, b'{"a":' * 150_000])
def test_an_answer_nested_too_deeply_is_no_json(nested):
    assert Answer(200, {}, nested).json() is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("999999999", http.MAX_RETRY_AFTER),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 11:59:00 GMT", None),
        ("Mon, 22 Nov 2027 12:00:00 GMT", http.MAX_RETRY_AFTER),
        ("-5", None),
        ("1.5", 1.5),
        ("1.5.5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("٣", None),
        ("9" * 400, None),
        ("Sun, 99 Nov 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_nothing_else(value, seconds):
    assert retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "kind", "code", "unknown"),
    [
        (301, Misconfigured, "wrong_url", False),
        (400, PermanentFailure, "bad_request", False),
        (401, Misconfigured, "bad_credentials", False),
        (402, Misconfigured, "account_limit", False),
        (403, Misconfigured, "bad_credentials", False),
        (404, Misconfigured, "wrong_url", False),
        (408, TemporaryFailure, "server_error", False),
        (413, TooLarge, "too_large", False),
        (421, TemporaryFailure, "server_error", False),
        (422, PermanentFailure, "bad_request", False),
        (429, TemporaryFailure, "throttled", False),
        (500, TemporaryFailure, "server_error", False),
        (502, TemporaryFailure, "server_error", True),
        (503, TemporaryFailure, "server_error", False),
        (504, TemporaryFailure, "server_error", True),
        (599, TemporaryFailure, "server_error", False),
    ],
)
def test_what_a_status_means(status, kind, code, unknown):
    error = failure(Answer(status, {"Retry-After": "5"}), "because")
    assert type(error) is kind
    assert (error.code, error.status_code) == (code, status)
    assert getattr(error, "outcome_unknown", False) is unknown
    assert error.retry_after == (5.0 if kind is TemporaryFailure else None)
    assert error.text.startswith(f"HTTP {status}")
    assert error.text.endswith(": because")
