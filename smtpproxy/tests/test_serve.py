"""OPS-1: one command on one machine with nothing else installed, tested as people run it."""

import http.cookiejar
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import urllib.parse
import urllib.request

import pytest

from accounts.tests.ports import free_port
from smtpproxy.serve import broker
from smtpproxy.tests import environment, services
from smtpproxy.tests.installation import PROJECT, installation, without_trace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc"),
]
GREETING = b"From: app@example.com\r\nTo: someone@example.net\r\nSubject: First message\r\n\r\nHello!\r\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    ports = {"SMTP_HEALTH_PORT": str(free_port()), "WORKER_HEALTH_PORT": str(free_port())}
    with installation(tmp_path_factory.mktemp("running") / "data", **ports) as one:
        one.start()
        yield one


def _send(one, client):
    before = one.arrived()
    run = subprocess.run(["sh", "-c", one.line(client)], check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    after = one.wait_for(len(before) + 1)
    [new] = after.keys() - before.keys()
    return run.stdout, after[new]


def test_the_printed_python_line_sends_a_message_that_arrives_as_it_was_written(running):
    printed, message = _send(running, "python3")
    assert re.match(r"250 b'2\.0\.0 Ok: queued as [0-9a-f-]{36}'", printed)
    assert without_trace(message) == GREETING


def test_the_printed_curl_line_sends_a_message_that_arrives_as_it_was_written(running):
    if not shutil.which("curl"):
        environment.missing("curl")
    printed, message = _send(running, "curl")
    assert re.fullmatch(r"< 250 2\.0\.0 Ok: queued as [0-9a-f-]{36}\s+", printed)
    assert without_trace(message) == GREETING


def test_the_printed_curl_line_says_what_went_wrong(running):
    if not shutil.which("curl"):
        environment.missing("curl")
    line = running.line("curl").replace("app@example.com --mail-rcpt", "app@globex.example --mail-rcpt")
    run = subprocess.run(["sh", "-c", line], check=False, capture_output=True, text=True, timeout=60)
    assert "< 550 5.7.1" in run.stdout


def test_the_printed_swaks_line_sends_a_message(running):
    if not shutil.which("swaks"):
        environment.missing("swaks")
    printed, message = _send(running, "swaks")
    assert "250 2.0.0 Ok: queued as" in printed
    assert b"Subject: First message\r\n" in message


def test_sendtest_tells_what_became_of_its_message(running, tmp_path):
    (tmp_path / "paper.pdf").write_bytes(b"%PDF" + os.urandom(2000))
    run = running.manage(
        "sendtest", "--wait", "--attach", str(tmp_path / "paper.pdf"), "--to", "a@example.net", "--to", "ü@example.net"
    )
    accepted, status, *recipients = run.stdout.splitlines()
    assert re.fullmatch(r"accepted as [0-9a-f-]{36}", accepted), run.stderr
    assert status == "delivered"
    assert sorted(recipients) == ["  a@example.net: delivered", "  ü@example.net: delivered"]
    [arrived] = [message for name, message in running.arrived().items() if name.startswith(accepted[12:])]
    assert b'filename="paper.pdf"' in arrived


def test_sendtest_says_why_a_message_was_refused(running):
    run = running.manage("sendtest", "--from", "app@globex.example")
    assert run.returncode == 1
    assert "550 5.7.1" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_printed_operator_can_sign_in(running):
    base, made = f"http://127.0.0.1:{running.web_port}", running.credentials()
    assert f"{base}/admin/" in running.printed
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    page = browser.open(f"{base}/admin/login/?next=/admin/").read().decode()
    form = {
        "csrfmiddlewaretoken": re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1],
        "username": made["operator"],
        "password": made["operator_password"],
        "next": "/admin/",
    }
    answer = browser.open(f"{base}/admin/login/?next=/admin/", urllib.parse.urlencode(form).encode())
    assert answer.url == f"{base}/admin/"
    assert "Log out" in answer.read().decode()
    style = re.search(r'href="(/static/unfold/css/[^"]*\.css)"', page)[1]
    assert browser.open(f"{base}{style}").status == 200
    assert '"path": "/admin/login/"' in running.printed
    assert style not in running.printed


def test_it_says_that_it_runs_once_everything_does(running):
    before, after = running.printed.split("smtpproxy is running", 1)
    assert before.count('"event": "probes answered"') == 2  # listener and worker
    assert "may send as *@example.com" in after


def test_listener_worker_and_web_answer_probes(running):
    for port in (running.web_port, running.environment["SMTP_HEALTH_PORT"], running.environment["WORKER_HEALTH_PORT"]):
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").status == 200


def test_what_signs_in_can_be_read_by_its_owner_only(running):
    assert stat.S_IMODE((running.data / "demo-credentials").stat().st_mode) == 0o600
    assert stat.S_IMODE((running.data / "broker" / "broker.sock").stat().st_mode) == 0o700
    assert stat.S_IMODE((running.data / "broker").stat().st_mode) == 0o700


def test_what_is_kept_can_be_read_by_its_owner_only(running):
    _send(running, "python3")  # the listener keeps its connection, and with it the files beside the database
    assert stat.S_IMODE(running.data.stat().st_mode) == 0o700
    assert stat.S_IMODE(running.outbox.stat().st_mode) == 0o700
    databases = list(running.data.glob("smtpproxy.sqlite3*"))
    assert running.data / "smtpproxy.sqlite3-wal" in databases
    assert {stat.S_IMODE(path.stat().st_mode) for path in databases} == {0o600}


def test_the_log_is_json_and_holds_no_secret(running):
    made = running.credentials()
    log = [line for line in running.printed.splitlines() if line.startswith("{")]
    assert any("message accepted" in line for line in log)
    assert not [line for line in log if made["password"] in line or made["operator_password"] in line]


def test_every_process_that_remembers_anything_hears_of_changes(running):
    processes = {"listener": 1, "worker": 2, "scheduler": 1, "web": 1}
    services.wait_until(
        lambda: running.printed.count('"changes are heard"') >= sum(processes.values()), "all hear of changes"
    )


def test_a_second_run_on_the_same_data_says_so(running):
    run = running.manage("serve")
    assert run.returncode == 1
    assert re.search(rf"Already running on {running.data}, as process \d+\.", run.stderr)


def test_a_port_in_use_is_named_with_its_setting(tmp_path):
    with installation(tmp_path / "data") as one, socket.create_server(("127.0.0.1", one.port)):
        run = one.manage("serve")
        assert run.returncode == 1
        assert f"Port {one.port} on 127.0.0.1: Address already in use. Choose another: SMTP_PORT=" in run.stderr
        assert one.processes() == {}


@pytest.mark.parametrize("setting", ["SMTP_HOSTS", "WEB_HOST"])
@pytest.mark.parametrize("host", ["nohost.invalid", "192.0.2.1"])
def test_an_address_of_another_machine_is_named_with_its_setting(tmp_path, setting, host):
    with installation(tmp_path / "data", **{setting: host}) as one:
        run = one.manage("serve")
        assert run.returncode == 1
        assert f"{setting}: {host} is no address of this machine" in run.stderr


def test_sendtest_asks_whether_anything_runs(tmp_path):
    with installation(tmp_path / "data") as one:
        one.start()
        one.stop()
        run = one.manage("sendtest")
        assert run.returncode == 1
        assert "is `make run` running?" in run.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["manage.py", "runsmtp"],
        ["-m", "celery", "--app", "smtpproxy", "--quiet", "worker"],
        ["-m", "celery", "--app", "smtpproxy", "--quiet", "beat", "--pidfile="],
    ],
    ids=["listener", "worker", "scheduler"],
)
def test_a_process_by_itself_that_finds_no_broker_says_what_to_do(tmp_path, command):
    with installation(tmp_path / "data") as one, (tmp_path / "log").open("w+b") as log:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=PROJECT, env=one.environment, stdout=log, stderr=log, process_group=0
        )
        hint = "QUEUE_TYPE=embedded is the broker that `manage.py serve` runs"
        services.wait_until(lambda: hint in (tmp_path / "log").read_text() or process.poll() is not None, "the hint")
        assert hint in (tmp_path / "log").read_text()
        process.kill()
        process.wait(10)


def test_a_process_that_dies_is_started_again(running):
    [listener] = [pid for pid, command in running.processes().items() if "runsmtp" in command]
    os.kill(listener, signal.SIGKILL)
    services.wait_until(lambda: not services.port_answers(running.port), "the end of the listener")
    services.wait_until(lambda: services.port_answers(running.port), "its new start")
    assert without_trace(_send(running, "python3")[1]) == GREETING


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_stops_everything_and_the_next_run_keeps_everything(tmp_path, number):
    with installation(tmp_path / "data") as one:
        one.start()
        made, line = one.credentials(), one.line("python3")
        names = " ".join(one.processes().values())
        assert all(name in names for name in ("valkey-server", "runsmtp", "worker", "beat", "gunicorn"))
        assert one.stop(number) == 0
        assert one.processes() == {}
        one.start()
        assert one.credentials() == made
        assert one.line("python3") == line
        assert without_trace(_send(one, "python3")[1]) == GREETING


def test_with_a_redis_of_ones_own_no_broker_is_started(tmp_path):
    with services.redis_server() as url, installation(tmp_path / "data", QUEUE_TYPE="redis", REDIS_URL=url) as one:
        one.start()
        assert not [command for command in one.processes().values() if "valkey-server" in command]
        assert without_trace(_send(one, "python3")[1]) == GREETING


def test_a_redis_that_does_not_answer_is_named(tmp_path):
    url = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    with installation(tmp_path / "data", QUEUE_TYPE="redis", REDIS_URL=url) as one:
        run = one.manage("serve")
        assert run.returncode == 1
        assert "The server at REDIS_URL does not answer" in run.stderr
        assert "hunter2" not in run.stdout + run.stderr


def test_a_data_folder_with_a_long_and_odd_name_will_do(tmp_path):
    with installation(tmp_path / ("a name with spaces, % and # " + "x" * 90)) as one:
        one.start()
        assert without_trace(_send(one, "python3")[1]) == GREETING
        assert one.stop() == 0


def test_a_broker_left_behind_is_ended_and_replaced(tmp_path):
    """As on systems whose kernel does not end children with their parent."""
    with installation(tmp_path / "data") as one:
        folder = one.data / "broker"
        folder.mkdir(parents=True, mode=0o700)
        left = subprocess.Popen(broker.command(folder / "broker.sock", folder), stdin=subprocess.DEVNULL)
        services.wait_until((folder / "broker.sock").exists, "the start of the broker")
        one.start()
        assert left.wait(1) is not None
        assert without_trace(_send(one, "python3")[1]) == GREETING


def test_a_broker_whose_files_are_damaged_starts_anew(tmp_path):
    with installation(tmp_path / "data") as one:
        one.start()
        assert one.stop() == 0
        [kept] = (one.data / "broker" / "appendonlydir").glob("*.incr.aof")
        kept.write_bytes(b"*3\r\nnonsense\r\n" * 100)
        one.start()
        assert list((one.data / "broker").glob("damaged-*"))
        assert without_trace(_send(one, "python3")[1]) == GREETING


def test_a_database_that_does_not_answer_is_named(tmp_path):
    url = f"postgres://me:hunter2@127.0.0.1:{free_port()}/x"
    with installation(tmp_path / "data", DATABASE_URL=url) as one:
        run = one.manage("serve")
        assert run.returncode == 1
        assert "The database at DATABASE_URL cannot be used: " in run.stderr
        assert "Traceback" not in run.stderr
        assert "hunter2" not in run.stdout + run.stderr
        assert one.processes() == {}
