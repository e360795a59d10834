"""Nothing is lost while everything is killed again and again: listener, workers and broker, by SIGKILL (ACC-2, DEL-3).

    python -m bench.chaos --broker rabbitmq --messages 10000 --seed 7

Client threads send numbered messages, each until it has got 250, to a private installation (see environment.py) on a
private broker, while the processes die at moments and in an order that the seed decides, and are started again. Then
all is left alone until every message has ended. A message is lost when it got 250 and the provider never saw it. One
the provider saw twice is explained by an attempt on record whose outcome nobody knows, since its worker was killed
(DEL-5), or by a 250 that died with the listener, after which the client sent the message again. Exit code 1 when
anything was lost or is unexplained.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import signal
import smtplib
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

from accounts.tests.ports import free_port
from bench.delivery import UNFINISHED, provider_stats, stand_in
from bench.environment import Environment, environment, place
from bench.plan import RECIPIENT, SENDER
from smtpproxy.tests import brokers

HASTY = {
    "DELIVERY_LEASE": "8",
    "PROVIDER_TIMEOUT": "3",
    "DELIVERY_MAX_CLAIMS": "100",  # that a worker dies over a message is no sign against it here
    "SMTP_TLS_MODE": "none",
    "SMTP_PROCESSES": "2",
    "LOG_LEVEL": "ERROR",
}
KINDS = ("listener", "worker", "broker")
DOWN = (0.2, 2.0)
"""Seconds from a kill to the new start."""
STRAGGLERS = 300.0
"""Seconds after the last kill in which every message must end; lost rings are rung for after a minute."""
ROWS = "SELECT subject, count(*) FROM delivery_message WHERE status <> 'enqueue_failed' GROUP BY subject"
NOW = "UPDATE delivery_message SET next_attempt_at = now(), rung_at = NULL WHERE status = 'queued'"
UNKNOWN = """
    SELECT message.subject, count(*) FROM delivery_deliverylog attempt
    JOIN delivery_message message ON message.id = attempt.message_id
    WHERE attempt.status = 'unknown' GROUP BY message.subject
"""


class Clients:
    """Threads that send numbered messages over kept connections. `accepted` holds the numbers that got 250."""

    def __init__(self, port: int, messages: int, threads: int, rate: float) -> None:
        self._port = port
        self._numbers = iter(range(messages))
        self._lock = threading.Lock()
        self._pause = threads / rate
        self.accepted: set[int] = set()
        self.refused: Counter[str] = Counter()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)

    def _run(self) -> None:
        connection: smtplib.SMTP | None = None
        while (number := self._next()) is not None:
            while number not in self.accepted:
                connection = self._send(connection, number)
            time.sleep(self._pause)

    def _next(self) -> int | None:
        with self._lock:
            return next(self._numbers, None)

    def _send(self, connection: smtplib.SMTP | None, number: int) -> smtplib.SMTP | None:
        """One try; returns the connection where it can be used again."""
        try:
            if connection is None:
                connection = smtplib.SMTP("127.0.0.1", self._port, timeout=90)
                connection.ehlo()
            connection.sendmail(SENDER, RECIPIENT, f"From: {SENDER}\r\nSubject: Chaos {number}\r\n\r\n{number}\r\n")
        except (OSError, smtplib.SMTPException) as error:
            with self._lock:
                self.refused[str(getattr(error, "smtp_code", type(error).__name__))] += 1
            time.sleep(0.2)
            return None
        with self._lock:
            self.accepted.add(number)
        return connection


class Installation:
    """The processes of one run, by name; `kills` counts what was done to them."""

    def __init__(self, env: Environment, broker: brokers.Server) -> None:
        self.env, self.broker = env, broker
        self.port = free_port()
        celery = ("-m", "celery", "-A", "smtpproxy", "--quiet")
        self._commands = {
            "listener": ("manage.py", "runsmtp"),
            "worker-0": (*celery, "worker", "-c", "2", "--hostname", "chaos0@%h"),
            "worker-1": (*celery, "worker", "-c", "2", "--hostname", "chaos1@%h"),
            "scheduler": (*celery, "beat", "--pidfile="),
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.kills: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        for name in self._commands:
            self._start(name)

    def _start(self, name: str) -> None:
        ports = {"SMTP_PORT": str(self.port), "SMTP_TLS_PORT": "0"}
        self._running[name] = self.env.start(name, *self._commands[name], **ports)

    def revive(self, killed: str = "") -> None:
        """Start what has ended, as an init system would; what was not `killed` has ended by itself."""
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                if name != killed:
                    self.ended[name] += 1
                    log = (self.env.folder / f"{name}.log").read_text(errors="replace")
                    print(f"{name} ended with {process.returncode}:\n{log[-600:]}", file=sys.stderr)
                self.env.running.remove(process)
                self._start(name)

    def kill(self, kind: str, chance: random.Random) -> None:
        """SIGKILL to one of a kind, with all its processes; a while later it is there again."""
        name = f"worker-{chance.randrange(2)}" if kind == "worker" else kind
        if kind == "broker":
            self.broker.kill()
        else:
            process = self._running[name]
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.kills[kind] += 1
        time.sleep(chance.uniform(*DOWN))
        if kind == "broker":
            self.broker.start()
        self.revive(name)


@contextlib.contextmanager
def running(broker: brokers.Server) -> Iterator[brokers.Server]:
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


def torment(installation: Installation, clients: Clients, chance: random.Random, pause: tuple[float, float]) -> None:
    """Kill while the clients send. Every kind dies once before one dies twice."""
    for turn in itertools.count():
        if turn % len(KINDS) == 0:
            order = chance.sample(KINDS, len(KINDS))
        until = time.monotonic() + chance.uniform(*pause)
        while time.monotonic() < until:
            if not clients.busy():
                return
            time.sleep(0.05)
        installation.kill(order[turn % len(KINDS)], chance)


def settle(installation: Installation, *, hurry: bool) -> int:
    """Wait until every message has ended; returns how many have not."""
    deadline = time.monotonic() + STRAGGLERS
    with installation.env.connect() as connection:
        if hurry:
            connection.execute(NOW)
        while True:
            installation.revive()
            [left] = connection.execute(UNFINISHED).fetchone() or (0,)
            if not left or time.monotonic() > deadline:
                return int(left)
            time.sleep(0.5)


def report(installation: Installation, clients: Clients, provider_port: int, unfinished: int) -> bool:
    """Print the line of the table; whether nothing was lost and every duplicate is explained."""
    stats = provider_stats(provider_port)
    with installation.env.connect() as connection:
        rows = dict(connection.execute(ROWS).fetchall())
        unknown = dict(connection.execute(UNKNOWN).fetchall())
    lost = len(clients.accepted) - stats["distinct"]
    seen = {subject.strip(): count for subject, count in stats["duplicates"].items()}
    twice = sum(count - 1 for count in seen.values())
    again = sum(min(count, rows.get(subject, 0)) - 1 for subject, count in seen.items())
    unexplained = sum(max(0, count - rows.get(subject, 0) - unknown.get(subject, 0)) for subject, count in seen.items())
    kills = installation.kills
    print("| broker | kills: listener / worker / broker | 250 | delivered | unfinished | lost | duplicated |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {installation.broker.type} | {' / '.join(str(kills[kind]) for kind in KINDS)} | {len(clients.accepted)} "
        f"| {stats['distinct']} | {unfinished} | {lost} | {twice}: {again} sent again by the client, "
        f"{twice - again - unexplained} of an attempt that is `unknown` on record, {unexplained} unexplained |"
    )
    print(f"what clients met besides 250: {dict(clients.refused)}")
    print(f"processes that ended by themselves: {dict(+installation.ended) or 'none'}", flush=True)
    return not (lost or unexplained or unfinished)


def run(given: argparse.Namespace) -> int:
    """One run; the exit code."""
    with contextlib.ExitStack() as stack:
        provider_port, _ = stack.enter_context(stand_in(0.05))
        broker = stack.enter_context(running(brokers.TYPES[given.broker]()))
        where = stack.enter_context(place())
        url = f"http://127.0.0.1:{provider_port}"
        env = stack.enter_context(environment(where, url, **{**HASTY, **broker.settings}))
        installation = Installation(env, broker)
        started = time.monotonic()
        clients = Clients(installation.port, given.messages, given.threads, given.rate)
        torment(installation, clients, random.Random(given.seed), tuple(given.pause))
        unfinished = settle(installation, hurry=given.hurry)
        good = report(installation, clients, provider_port, unfinished)
        print(f"{given.messages} messages, seed {given.seed}, {time.monotonic() - started:.0f} s")
    return 0 if good else 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=brokers.TYPES, default="redis")
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=16, help="of the client")
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--pause", type=float, nargs=2, default=[1.0, 5.0], help="seconds between kills, at least and at most"
    )
    parser.add_argument(
        "--hurry", action="store_true", help="rings count as lost once the kills are over, not a minute later"
    )
    given = parser.parse_args(arguments)
    if reason := brokers.why_not(given.broker):
        parser.error(reason)
    return run(given)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    sys.exit(main())
