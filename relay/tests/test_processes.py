"""`runsmtp` as a program: signals, several processes on one port, and what stops it from starting (SMTP-15)."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509

from relay import certificates
from relay.tests.listening import client_context
from relay.tests.processes import ROOT, Program, wait_until


def test_sigterm_tells_the_idle_and_ends_well(tmp_path):
    with Program(tmp_path) as program:
        with program.client() as idle:
            program.send(signal.SIGTERM)
            assert idle.reply().startswith("421 4.3.2")
        assert program.process.wait(10) == 0
        assert not program.answers()


RECORDING = """
import django, threading
django.setup()
from relay.server import serve
from relay.tests.listening import ACME, Recorder
recorder = Recorder(known_networks={"127.0.0.1": ACME}, answer=%s)
raise SystemExit(serve(domain=recorder.domain()))
"""
SETTINGS = {"django_settings_module": "smtpproxy.settings"}


def test_a_second_signal_does_not_wait(tmp_path):
    with Program(tmp_path, script=RECORDING % "None", **SETTINGS) as program, program.client() as slow:
        slow.command("EHLO x")
        slow.envelope()
        program.send(signal.SIGTERM)
        wait_until(lambda: '"event": "stopping"' in program.log())
        assert program.process.poll() is None
        program.send(signal.SIGINT)
        assert program.process.wait(10) == 1
        assert '"event": "stopping at once"' in program.log()


def test_it_may_open_as_many_files_as_the_system_allows(tmp_path):
    with Program(tmp_path) as program:
        [line] = [
            line
            for line in Path(f"/proc/{program.process.pid}/limits").read_text().splitlines()
            if line.startswith("Max open files")
        ]
        soft, hard = line.split()[3:5]
        assert soft == hard


def test_a_process_that_dies_is_started_again(tmp_path):
    with Program(tmp_path, "--processes", "2") as program:
        wait_until(lambda: len(program.children()) == 2)
        before = program.children()
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len(program.children()) == 2 and before[0] not in program.children())
        wait_until(lambda: program.log().count('"event": "listening"') >= 6)
        for _ in range(20):
            with program.client() as client:
                assert client.command("NOOP").startswith("250")
        assert '"event": "listener process died"' in program.log()
        program.send(signal.SIGTERM)
        assert program.process.wait(10) == 0


def test_both_processes_serve_the_port(tmp_path):
    with Program(tmp_path, "--processes", "2") as program:
        wait_until(lambda: program.log().count('"event": "listening"') == 4)
        for _ in range(60):
            program.client().close()

        def descriptors():
            return [len(os.listdir(f"/proc/{pid}/fd")) for pid in program.children()]

        quiet = descriptors()
        clients = [program.client() for _ in range(40)]
        busy = descriptors()
        assert all(after > before for before, after in zip(quiet, busy, strict=True))
        program.send(signal.SIGTERM)
        assert {client.reply()[:9] for client in clients} == {"421 4.3.2"}
        assert program.process.wait(10) == 0


def test_sighup_reaches_every_process(tmp_path):
    path = tmp_path / "mx.pem"
    path.write_bytes(certificates._self_signed("mx.acme.example"))

    def shown(program):
        with client_context().wrap_socket(socket.create_connection(("127.0.0.1", program.tls_port))) as secure:
            return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True)).serial_number

    with Program(tmp_path, "--processes", "2", smtp_tls_certificate=path) as program:
        wait_until(lambda: program.log().count('"event": "listening"') == 4)
        old = shown(program)
        path.write_bytes(certificates._self_signed("mx.acme.example"))
        with program.client() as kept:
            program.send(signal.SIGHUP)
            wait_until(lambda: program.log().count('"event": "settings reloaded"') == 2)
            assert all(shown(program) != old for _ in range(10))
            assert kept.command("NOOP").startswith("250")
        path.write_text("broken")
        program.send(signal.SIGHUP)
        wait_until(lambda: program.log().count("settings not reloaded") == 2)
        assert shown(program) != old


def test_when_the_parent_is_killed_its_processes_end_too(tmp_path):
    with Program(tmp_path, "--processes", "2") as program:
        wait_until(lambda: program.log().count('"event": "listening"') == 4)
        children = program.children()
        program.process.kill()
        program.process.wait(10)
        wait_until(lambda: not any(_alive(pid) for pid in children))


def _alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_stuck_thread_does_not_keep_the_process_alive(tmp_path):
    script = RECORDING % "lambda one: threading.Event().wait()"
    with Program(tmp_path, script=script, smtp_drain_timeout=1, **SETTINGS) as program, program.client() as client:
        client.command("EHLO x")
        client.envelope()
        client.send(b"\r\n.\r\n")
        time.sleep(0.2)
        program.send(signal.SIGTERM)
        assert program.process.wait(15) == 1
        assert "a thread is stuck" in program.log()


def refusal(folder, *arguments, **changes):
    program = Program(folder, *arguments, **changes)
    ended = subprocess.run(
        program.arguments, cwd=ROOT, env=program.environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_what_cannot_work_stops_with_one_clear_line(tmp_path):
    assert "SMTP_ALLOW_PUBLIC_PLAINTEXT" in refusal(tmp_path, smtp_tls_mode="none", smtp_hosts="0.0.0.0")
    assert "--processes takes a number" in refusal(tmp_path, "--processes", "0")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_taken_port_stops_it(tmp_path, processes):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = refusal(tmp_path, "--processes", processes, smtp_port=taken.getsockname()[1])
    assert "another program listens there" in text
