"""ACC-2: kill -9 of everything in the middle of a stream of messages, then a new start: none that got 250 is lost."""

import contextlib
import os
import re
import signal
import smtplib
import sys
import threading
import time

import pytest

from smtpproxy.tests import services
from smtpproxy.tests.installation import installation, without_trace

MESSAGES, CONNECTIONS, KILL_AFTER = 500, 10, 120


class Stream:
    """Sends numbered messages over several connections until all are sent or the connections break."""

    def __init__(self, one):
        self._one = one
        self._numbers = iter(range(MESSAGES))
        self._lock = threading.Lock()
        self.accepted = {}
        self.threads = [threading.Thread(target=self._send) for _ in range(CONNECTIONS)]

    def _send(self):
        made = self._one.credentials()
        with contextlib.suppress(OSError, smtplib.SMTPException):
            client = smtplib.SMTP("127.0.0.1", self._one.port, timeout=30)
            client.starttls()
            client.login(made["username"], made["password"])
            while (number := self._next()) is not None:
                client.mail("app@example.com")
                client.rcpt(f"r{number}@example.net")
                code, text = client.data(message(number))
                if code == 250:
                    self.accepted[number] = re.search(rb"queued as (\S+)", text)[1].decode()

    def _next(self):
        with self._lock:
            return next(self._numbers, None)


def message(number):
    body = f"Message {number}: " + "payload " * 300
    return f"From: app@example.com\r\nTo: r{number}@example.net\r\nSubject: {number}\r\n\r\n{body}\r\n".encode()


def worker_behind(one, stream):
    """Hold the worker up for a moment; whether messages are waiting for it now. If not, it goes on."""
    workers = [pid for pid, command in one.processes().items() if "celery" in command and " worker" in command]
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(0.2)
    if set(stream.accepted.values()) - {name.partition("_")[0] for name in one.arrived()}:
        return True
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    return False


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc")
def test_all_that_was_accepted_before_a_kill_of_the_whole_group_arrives_after_a_new_start(tmp_path):
    # Leases as short as they may be, so that what the killed worker had in hand is taken up soon.
    with installation(tmp_path / "data", PROVIDER_TIMEOUT="2", DELIVERY_LEASE="10") as one:
        one.start()
        assert one.manage("sendtest", "--wait").returncode == 0  # the worker is at work
        stream = Stream(one)
        for thread in stream.threads:
            thread.start()
        services.wait_until(lambda: len(stream.accepted) >= KILL_AFTER, f"{KILL_AFTER} messages accepted", 60)
        services.wait_until(lambda: worker_behind(one, stream), "a moment with messages waiting", 30)
        one.kill()
        services.wait_until(lambda: one.processes() == {}, "the end of every process", 5)
        for thread in stream.threads:
            thread.join(30)
        assert KILL_AFTER <= len(stream.accepted) < MESSAGES
        before = {name.partition("_")[0] for name in one.arrived()}
        assert set(stream.accepted.values()) - before, "nothing was waiting when it was killed"

        one.start()
        wanted = set(stream.accepted.values())
        services.wait_until(
            lambda: wanted <= {name.partition("_")[0] for name in one.arrived()}, "the arrival of all accepted", 150
        )
        numbers = {message_id: number for number, message_id in stream.accepted.items()}
        copies = {}
        for name, content in one.arrived().items():
            message_id = name.partition("_")[0]
            copies[message_id] = copies.get(message_id, 0) + 1
            if message_id in numbers:
                assert without_trace(content) == message(numbers[message_id])
        # Twice only where the kill fell between the provider's yes and our commit: what a worker had in hand (DEL-5).
        twice = [message_id for message_id, count in copies.items() if count > 1]
        assert max(copies.values()) <= 2
        print(
            f"accepted {len(wanted)}, arrived before the kill {len(before)}, "
            f"accepted without a client's knowledge {len(copies.keys() - wanted)}, twice {len(twice)}"
        )
        assert len(twice) <= 2 * 48
        assert one.stop() == 0
