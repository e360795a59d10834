"""The tools run and tell the truth: tiny counts, real servers. What they measure is not asserted."""

import argparse
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from bench import chaos, client, delivery, environment, ingest, measure, peer, plan
from bench.peer import Server
from smtpproxy.tests.environment import missing


def talk(listener, replies):
    """One client, one canned reply for each line, until the replies are used up."""
    connection, _ = listener.accept()
    with connection, connection.makefile("rwb") as lines:
        for reply in replies:
            lines.write(reply)
            lines.flush()
            if reply.startswith(b"354"):
                while lines.readline() not in (b".\r\n", b""):
                    pass
            else:
                lines.readline()


@pytest.fixture
def servers_of_this_run(monkeypatch):
    """The PostgreSQL and Redis that the tests use anyway."""
    if not os.environ.get("TEST_POSTGRES_URL"):
        missing("PostgreSQL")
    monkeypatch.setattr(environment, "POSTGRES_URL", os.environ["TEST_POSTGRES_URL"])
    monkeypatch.setattr(environment, "REDIS_URL", os.environ["TEST_REDIS_URL"].rpartition("/")[0])


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def run_client(listener, replies, *arguments):
    server = threading.Thread(target=talk, args=(listener, replies))
    server.start()
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    done = subprocess.run(
        [sys.executable, "-m", "bench.client", address, *arguments],
        cwd=environment.ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    server.join()
    return json.loads(done.stdout)


GREETED = [b"220 hello\r\n", b"250-hello\r\n250 SIZE\r\n"]


def test_the_client_counts_what_was_answered_with_250(listener):
    message = [b"250 sender\r\n", b"250 recipient\r\n", b"354 go\r\n", b"250 taken as 1\r\n"]
    told = run_client(listener, [*GREETED, *message, *message], "--messages", "2", "--ids")
    assert told["messages"] == 2
    assert told["errors"] == {}
    assert told["ids"] == ["250 taken as 1"] * 2
    assert 0 < told["p50"] <= told["p95"] <= told["max"]


def test_the_client_counts_no_message_that_was_refused(listener):
    refused = [b"250 sender\r\n", b"550 nobody here\r\n"]
    told = run_client(listener, [*GREETED, *refused], "--messages", "1")
    assert told["messages"] == 0
    assert told["errors"] == {"550 nobody here": 1}


def test_a_message_has_about_the_size_asked_for_and_ends_once():
    before, after = plan.message(5000)
    whole = before + b"0000000001" + after
    assert 4900 < len(whole) < 5100
    assert whole.endswith(b"\r\n.\r\n")
    assert b"\r\n." not in whole[:-5]


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 3), (0.95, 5), (1.0, 5)])
def test_percentiles_are_values_that_occurred(share, value):
    assert client.percentile([5, 1, 4, 2, 3], share) == value


def test_processor_time_of_a_child_is_counted_with_its_parent():
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    parent = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    try:
        cost = measure.Cost((parent.pid,))
        until = time.monotonic() + 20
        while (spent := cost.stop()[0]) < 0.2:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert spent <= cost.stop()[1] + 0.5
    finally:
        for pid in measure.tree(parent.pid):
            subprocess.run(["kill", "-9", str(pid)], check=False)
        parent.wait()


def test_the_provider_counts_repeated_subjects():
    with delivery.stand_in(0.01) as (port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for subject in ("one", "two", "one"):
            connection.request("POST", "/v3/mail/send", json.dumps({"subject": subject}))
            answer = connection.getresponse()
            assert answer.status == 202
            assert answer.headers["X-Message-Id"]
            answer.read()
        connection.close()
        assert delivery.provider_stats(port) == {"calls": 3, "distinct": 2, "unknown": 0, "duplicates": {"one": 2}}


@pytest.mark.slow
@pytest.mark.parametrize("security", ingest.SECURITY)
def test_postfix_takes_the_load(tmp_path, security):
    if reason := peer.why_not():
        pytest.skip(reason)
    with ingest.postfixes(tmp_path, ["discard", "hold"], security) as servers:
        for server in servers:
            result = ingest.run_load(server, ingest.Load(5000, 3, security), 5, most=20)
            assert result.errors == 0
            server.empty()


@pytest.mark.slow
@pytest.mark.usefixtures("servers_of_this_run")
def test_our_listener_takes_the_load_and_all_of_it_arrives():
    given = delivery.parser().parse_args(["--messages", "20", "--seconds", "10", "--connections", "3", "--rate", "20"])
    assert delivery.run(given) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("servers_of_this_run")
def test_nothing_is_lost_while_everything_is_killed(capsys):
    """ACC-2, DEL-3."""
    arguments = ["--broker", "embedded", "--messages", "60", "--rate", "12", "--pause", "0.5", "1", "--threads", "4"]
    assert chaos.main([*arguments, "--hurry"]) == 0
    line = capsys.readouterr().out.splitlines()[2]
    assert line.startswith("| embedded |")
    kills = [int(number) for number in line.split("|")[2].split("/")]
    assert sum(kills) >= 2
    assert "| 60 | 60 | 0 | 0 |" in line


def test_duplicates_are_explained_by_attempts_on_record_or_by_lost_answers(capsys, monkeypatch):
    """Four sent twice: one accepted twice, one with a lost attempt, one with both, one with neither."""
    stats = {"distinct": 5, "duplicates": {f"Chaos {number}": 2 for number in range(4)}}
    monkeypatch.setattr(chaos, "provider_stats", lambda port: stats)
    rows = [("Chaos 0", 2), ("Chaos 1", 1), ("Chaos 2", 2), ("Chaos 3", 1), ("Chaos 4", 1)]
    answers = {chaos.ROWS: rows, chaos.UNKNOWN: [("Chaos 1", 1), ("Chaos 2", 1)]}
    installation = argparse.Namespace(
        kills=dict.fromkeys(chaos.KINDS, 1),
        ended=Counter(),
        broker=argparse.Namespace(type="redis"),
        env=argparse.Namespace(connect=lambda: Answers(answers)),
    )
    clients = argparse.Namespace(accepted=set(range(6)), refused={})
    assert not chaos.report(installation, clients, 0, 0)
    told = capsys.readouterr().out
    assert "| 6 | 5 | 0 | 1 | 4: 2 sent again by the client, 1 of an attempt" in told
    assert "1 unexplained" in told


class Answers(contextlib.AbstractContextManager):
    """A database that knows what it is asked."""

    def __init__(self, answers):
        self._answers = answers

    def __exit__(self, *_):
        pass

    def execute(self, query):
        return argparse.Namespace(fetchall=lambda: self._answers[query])


@pytest.mark.slow
@pytest.mark.usefixtures("servers_of_this_run")
def test_our_listener_is_measured_with_tls_and_without():
    with environment.place() as where, environment.environment(where) as env, ingest.ours(env, [1]) as [server]:
        assert isinstance(server, Server)
        for security in ingest.SECURITY:
            result = ingest.run_load(server, ingest.Load(5000, 3, security), 5, most=20)
            assert result.errors == 0
        with env.connect() as connection:
            assert connection.execute("SELECT count(*) FROM delivery_message").fetchone() == (20,)
        env.empty()


def test_a_loss_and_a_duplicate_are_told(capsys):
    told = {"messages": 3, "seconds": 1.0, "p50": 0.1, "p95": 0.2, "errors": {}}
    now = argparse.Namespace(total_seconds=lambda: 1.0)

    class Moment:
        def __sub__(self, other):
            return now

    row = (3, Moment(), Moment(), 0.1, 0.2, 0.3)
    stats = {"calls": 3, "distinct": 2, "unknown": 0, "duplicates": {"Load 1": 2}}
    assert delivery.report(told, row, {"delivered": 3}, stats, 0, [1, 1, 1, 1]) == 1
    assert "lost 1, duplicates 1" in capsys.readouterr().out
