"""OBS-2, QUE-7: what `/metrics` tells, of whom, and to whom; ACC-7: a full queue shows there."""

import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import OperationalError
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from accounts.tests.ports import free_port
from delivery import metrics as delivery_metrics
from delivery import queue, queue_states
from delivery.tests.factories import MessageFactory
from smtpproxy import health, metrics, metrics_folder, probes

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _read_each_time(monkeypatch):
    monkeypatch.setattr(delivery_metrics, "KEEP", 0.0)


def told(text):
    """Value by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.django_db
class TestState:
    def test_the_depth_of_the_queues_is_read_when_asked(self, client, acme_account, globex_account):
        before = told(client.get("/metrics").content.decode())
        late = timezone.now() - timedelta(seconds=700)
        MessageFactory(account=acme_account, status="retrying", next_attempt_at=late)
        MessageFactory(account=globex_account, status="queued")
        MessageFactory(account=acme_account, status="processing", next_attempt_at=timezone.now() + timedelta(minutes=9))
        for status in ("scheduled", "retrying"):
            MessageFactory(account=acme_account, status=status, next_attempt_at=timezone.now() + timedelta(hours=9))
        answer = client.get("/metrics")
        found = told(answer.content.decode())
        depth = {key[1]: value for key, value in found.items() if key[0] == "queue_depth"}
        assert depth == {"queued": 1, "processing": 1, "retrying": 1, "scheduled": 0}
        assert 700 <= found["queue_oldest_age_seconds",] < 800
        assert before["queue_oldest_age_seconds",] == 0
        assert found["store_free_bytes",] > 0
        assert ("queue_rings", "outbound.large") in found
        assert ("outbox_pending",) in found
        assert answer["Content-Type"].startswith("text/plain; version=0.0.4")

    def test_what_cannot_be_read_is_left_out_and_the_rest_is_told(self, client, monkeypatch):
        def fail(*_):
            raise OperationalError

        def away(_):
            raise queue.RingFailed("away")

        monkeypatch.setattr(queue_states, "messages", fail)
        monkeypatch.setattr(queue, "waiting", away)
        names = {key[0] for key in told(client.get("/metrics").content.decode())}
        assert not names & {"queue_depth", "queue_oldest_age_seconds", "queue_rings"}
        assert {"store_free_bytes", "smtp_message_enqueued_total"} <= names

    def test_asking_often_reads_once(self, client, monkeypatch, django_assert_num_queries):
        monkeypatch.setattr(delivery_metrics, "KEEP", 60.0)
        client.get("/metrics")
        with django_assert_num_queries(0):
            client.get("/metrics")

    def test_who_asks_while_another_is_stuck_reading_is_answered_without(self, monkeypatch):
        monkeypatch.setattr(delivery_metrics, "PATIENCE", 0.05)
        collector = delivery_metrics.StateCollector()
        with collector._lock:
            assert list(collector.collect()) == []


@pytest.mark.django_db
class TestAllowed:
    def test_without_a_token_the_network_counts(self, client, settings):
        assert client.get("/metrics").status_code == 200
        assert client.get("/metrics", REMOTE_ADDR="192.0.2.7").status_code == 403
        assert client.get("/metrics", REMOTE_ADDR="").status_code == 403
        settings.METRICS_NETWORKS = ["192.0.2.0/24"]
        for address in ("192.0.2.7", "::ffff:192.0.2.7"):
            assert client.get("/metrics", REMOTE_ADDR=address).status_code == 200

    @pytest.mark.parametrize("header", ["HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED"])
    def test_a_proxy_lends_nobody_its_address(self, client, header):
        assert client.get("/metrics", **{header: "203.0.113.9"}).status_code == 403

    def test_with_a_token_only_the_token_counts(self, client, settings):
        settings.METRICS_TOKEN = "sésame"
        assert client.get("/metrics").status_code == 403
        assert client.get("/metrics", HTTP_AUTHORIZATION="Bearer other").status_code == 403
        assert client.get("/metrics", HTTP_AUTHORIZATION="Bearer sésame", REMOTE_ADDR="192.0.2.7").status_code == 200

    def test_nobody_can_post(self, client):
        assert client.post("/metrics").status_code in (403, 404, 405)

    def test_the_port_for_probes_answers_too(self, settings, monkeypatch):
        monkeypatch.setattr(metrics, "render", lambda: b"one 1\n")
        server = probes.serve("127.0.0.1", free_port(), health.CHECKS.values())
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/metrics"
            assert urllib.request.urlopen(url).read() == b"one 1\n"
            settings.METRICS_TOKEN = "sesame"
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(url)
        finally:
            server.shutdown()
            server.server_close()


class TestProcesses:
    COUNT = """
import os, sys, django
os.environ["DJANGO_SETTINGS_MODULE"] = "smtpproxy.settings"
sys.argv = ["manage.py", "runsmtp"]
django.setup()
from relay import metrics
from smtpproxy.metrics import _counters, generate_latest
metrics.ENQUEUED.inc()
for _ in range(2):
    if os.fork() == 0:
        metrics.ENQUEUED.inc(10)
        metrics.refused("queue_full")
        os._exit(0)
for _ in range(2):
    os.wait()
print(generate_latest(_counters()).decode())
"""

    def run(self, folder):
        environment = {**os.environ, "DATA_DIR": str(folder)}
        environment.pop(metrics_folder.VARIABLE, None)
        run = subprocess.run(
            [sys.executable, "-c", self.COUNT], check=True, cwd=PROJECT, env=environment, capture_output=True, text=True
        )
        return told(run.stdout)

    def test_the_processes_of_a_role_are_told_as_one_and_begin_at_nothing(self, tmp_path):
        for _ in range(2):
            found = self.run(tmp_path)
            assert found["smtp_message_enqueued_total",] == 21
            assert found["smtp_messages_refused_total", "queue_full"] == 2
            assert len(list((tmp_path / "metrics").iterdir())) == 1

    def test_folders_of_the_living_and_of_other_machines_stay(self, tmp_path, monkeypatch):
        monkeypatch.delenv(metrics_folder.VARIABLE, raising=False)
        root = tmp_path / "metrics"
        host = metrics_folder.socket.gethostname()
        ours, theirs, old = root / f"{host}-{os.getppid()}", root / "other-machine-1", root / "long-gone-1"
        for folder in (ours, theirs, old):
            folder.mkdir(parents=True)
        os.utime(old, (time.time() - 8 * 86_400,) * 2)
        metrics_folder.prepare(tmp_path, ["/usr/bin/celery", "-A", "smtpproxy", "worker"])
        made = Path(os.environ.pop(metrics_folder.VARIABLE))
        assert set(root.iterdir()) == {ours, theirs, made}
        assert made.stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize(
        ("arguments", "serving"),
        [
            (["manage.py", "runsmtp"], True),
            (["manage.py", "runingest"], True),
            (["/x/.venv/bin/celery", "--app", "smtpproxy", "--quiet", "worker"], True),
            (["/x/site-packages/celery/__main__.py", "--app", "smtpproxy", "worker"], True),
            (["/x/site-packages/gunicorn/__main__.py", "--config", "python:x"], True),
            (["/x/.venv/bin/celery", "--app", "smtpproxy", "beat"], False),
            (["manage.py", "serve"], False),
            (["manage.py", "migrate"], False),
            (["/x/pytest/__main__.py", "worker"], False),
            ([], False),
        ],
    )
    def test_only_parents_that_serve_make_a_folder(self, arguments, serving):
        assert metrics_folder.serves(arguments) is serving

    def test_a_folder_that_cannot_be_made_costs_the_sum_only(self, tmp_path, monkeypatch, capsys):
        monkeypatch.delenv(metrics_folder.VARIABLE, raising=False)
        (tmp_path / "metrics").write_text("in the way")
        metrics_folder.prepare(tmp_path, ["manage.py", "runsmtp"])
        assert metrics_folder.VARIABLE not in os.environ
        assert "Metrics are not shared" in capsys.readouterr().err


def test_counting_costs_a_few_microseconds():
    from relay import metrics as counted

    began = time.perf_counter()
    for _ in range(10_000):
        counted.ENQUEUED.inc()
    assert (time.perf_counter() - began) / 10_000 < 50e-6
    assert threading.active_count() >= 1


@pytest.mark.django_db
def test_what_is_documented_is_what_there_is(client):
    delivery_metrics.DEAD_LETTERS.labels("poison")
    probed = {name for name, *_ in told(client.get("/metrics").content.decode())}
    ours = {name for name in probed if not name.startswith(("python_", "process_"))}
    relay_names = {"smtp_messages_refused_total", "dead_letters_total", "ingest_messages_total", "ingest_queue_depth"}
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", (PROJECT / "docs/metrics.md").read_text(), re.MULTILINE))
    assert documented == ours | relay_names
