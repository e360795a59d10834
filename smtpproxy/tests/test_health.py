"""OBS-3: alive and ready, told apart, without a word to outsiders about why not."""

import json
import socket
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import kombu
import pytest
import redis
import trustme
from celery import current_app
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from accounts.tests.ports import free_port
from smtpproxy import health, probes, sweeps
from smtpproxy.brokers import configuration


@pytest.fixture(autouse=True)
def _fresh_checks(monkeypatch):
    """No result of an earlier test counts, and a busy machine is no failure."""
    monkeypatch.setattr(health, "DEADLINE", 20.0)
    monkeypatch.setattr(
        health,
        "CHECKS",
        {name: health.Check(name, check._run, 0.5, advisory=check.advisory) for name, check in health.CHECKS.items()},
    )


@pytest.fixture
def store(settings):
    """The shared store, without a note of a sweep."""
    with redis.Redis.from_url(settings.SHARED_STATE_URL) as client:
        client.delete(sweeps.NOTE)
        yield client
        client.delete(sweeps.NOTE)


@pytest.fixture
def nowhere():
    """A port nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


@pytest.mark.django_db(transaction=True)
def test_a_working_installation_is_ready(client):
    sweeps.sweep()
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (
        200,
        {
            "status": "ok",
            "checks": {
                "database": "ok",
                "migrations": "ok",
                "broker": "ok",
                "store": "ok",
                "memory": "ok",
                "sweeper": "ok",
                "tenant_wall": "ok",
            },
        },
    )
    assert response["Cache-Control"] == "no-store"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("interval", "age", "said"), [(5, 50, "ok"), (5, 70, "warning"), (20, 100, "ok")])
def test_a_silent_scheduler_is_a_warning_to_a_process_that_is_ready(
    client, settings, store, caplog, interval, age, said
):
    """DEL-3."""
    settings.SWEEP_INTERVAL = interval
    store.set(sweeps.NOTE, time.time() - age)
    response = client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "ok")
    assert response.json()["checks"]["sweeper"] == said
    assert ("silent for 70 s" in caplog.text) == (said == "warning")


@pytest.mark.parametrize("note", [None, "not a number"])
def test_a_scheduler_that_never_swept_is_a_warning(store, note):
    if note is not None:
        store.set(sweeps.NOTE, note)
    assert health.readiness([health.Check("sweeper", health.sweeper, 1)]) == {"sweeper": False}


@pytest.mark.django_db(transaction=True)
def test_a_lost_broker_is_named_and_nothing_else_is_told(client, settings, nowhere):
    settings.SHARED_STATE_URL = f"redis://:hunter2@127.0.0.1:{nowhere}/0"
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["status"] == "unavailable"
    assert response.json()["checks"]["broker"] == "failed"
    assert response.json()["checks"]["database"] == "ok"
    assert "hunter2" not in response.text
    assert str(nowhere) not in response.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("type_", ["rabbitmq", "sqs"])
def test_a_broker_that_is_not_the_redis_server_is_asked_as_well(client, settings, monkeypatch, nowhere, type_):
    """QUE-1: the server of the shared state, which answers, is not enough."""
    settings.QUEUE_TYPE, settings.SQS_QUEUE_URL = type_, f"http://127.0.0.1:{nowhere}/1/mail"
    settings.BROKER = configuration.sqs(settings.SQS_QUEUE_URL, "eu-central-1", 1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    away = kombu.Connection(f"amqp://127.0.0.1:{nowhere}//", connect_timeout=1)
    monkeypatch.setattr(current_app, "connection_for_write", lambda: away)
    assert client.get("/readyz").json()["checks"]["broker"] == "failed"


@pytest.mark.django_db(transaction=True)
def test_an_installation_that_takes_mail_without_the_broker_is_ready_without_it(client, settings, nowhere):
    settings.SHARED_STATE_URL = f"redis://127.0.0.1:{nowhere}/0"
    settings.ENQUEUE_FAILURE = "accept"
    assert client.get("/readyz").status_code == 200


def test_a_process_is_alive_whatever_else_is_down(client, monkeypatch):
    monkeypatch.setattr(health, "readiness", lambda checks: pytest.fail("liveness looks at nothing outside"))
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_probes_come_by_address_and_without_tls(client, settings):
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["mail.example.com"], True
    assert client.get("/healthz", headers={"host": "10.0.0.7:8000"}).status_code == 200


def test_only_reading_is_a_probe(client):
    assert client.post("/healthz").status_code == 404


def _raise(error):
    def check():
        raise error

    return check


@pytest.mark.parametrize("error", [OperationalError("no"), redis.ConnectionError("no"), OSError("no"), KeyError("x")])
def test_whatever_a_check_raises_is_a_failure(error):
    assert health.readiness([health.Check("x", _raise(error), 1)]) == {"x": False}


def test_a_check_that_hangs_fails_at_the_deadline_and_is_not_started_again(monkeypatch):
    monkeypatch.setattr(health, "DEADLINE", 0.2)
    started = []
    check = health.Check("x", lambda: (started.append(1), time.sleep(1)), 1)
    began = time.monotonic()
    assert health.readiness([check]) == {"x": False}
    assert health.readiness([check]) == {"x": False}
    assert time.monotonic() - began < 0.9
    assert len(started) == 1


def test_checks_run_side_by_side():
    slow = [health.Check(str(number), lambda: time.sleep(0.4), 60) for number in range(5)]
    began = time.monotonic()
    assert all(health.readiness(slow).values())
    assert time.monotonic() - began < 1.5


def test_a_good_result_holds_for_a_while_and_a_bad_one_does_not():
    results = iter([None, OSError("gone"), None])
    ran = []

    def run():
        ran.append(1)
        if error := next(results):
            raise error

    check = health.Check("x", run, 0.1)
    assert [health.readiness([check])["x"] for _ in range(3)] == [True, True, True]
    assert len(ran) == 1
    time.sleep(0.15)
    assert [health.readiness([check])["x"] for _ in range(2)] == [False, True]


@pytest.mark.parametrize(
    ("limit", "used", "cache", "good"),
    [("max", "999", "0", True), ("1000", "940", "0", True), ("1000", "960", "0", False), ("1000", "960", "500", True)],
)
def test_memory_that_cannot_be_given_back_is_measured_against_the_limit(
    monkeypatch, tmp_path, limit, used, cache, good
):
    monkeypatch.setattr(health, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")
    assert health.readiness([health.Check("memory", health.memory, 1)]) == {"memory": good}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("host", "named"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_listener_and_worker_answer_on_a_port_of_their_own(host, named):
    port = free_port()
    server = probes.serve(host, port, health.CHECKS.values())
    try:
        base = f"http://{named}:{port}"
        assert json.load(urllib.request.urlopen(f"{base}/healthz")) == {"status": "ok"}
        assert json.load(urllib.request.urlopen(f"{base}/readyz"))["status"] == "ok"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{base}/admin/")
    finally:
        server.shutdown()
        server.server_close()


def test_without_a_port_there_are_no_probes():
    assert probes.serve("127.0.0.1", 0, []) is None


def test_a_port_in_use_is_wrong_configuration(nowhere):
    with pytest.raises(ImproperlyConfigured, match=f"port {nowhere}"):
        probes.serve("127.0.0.1", nowhere, [])


@pytest.mark.parametrize(("days", "good"), [(1, True), (-1, False)])
def test_a_listener_whose_certificate_ran_out_is_not_ready(settings, tmp_path, days, good):
    ends = datetime.now(UTC) + timedelta(days=days)
    certificate = trustme.CA().issue_cert("localhost", not_after=ends)
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    settings.SMTP = {**settings.SMTP, "TLS_CERTIFICATE": str(tmp_path / "chain.pem")}
    check = health.Check("certificate", health.LISTENER_CHECKS["certificate"]._run, 1)
    assert health.readiness([check]) == {"certificate": good}


def test_a_listener_without_tls_needs_no_certificate(settings):
    settings.SMTP = {**settings.SMTP, "TLS_MODE": "none", "TLS_CERTIFICATE": "/nowhere"}
    assert health.readiness([health.Check("certificate", health.certificate, 1)]) == {"certificate": True}
