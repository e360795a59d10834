"""The REST API at a steady rate on a large database, served as the product serves it (PERF-5).

    python -m bench.rows --messages 10000000
    python -m bench.api --rate 100 --seconds 60

Requests come at their time whether or not those before are answered (an open load), with an API key of the largest
tenant: lists of messages, half of them deep in the past, single messages, statistics, and one in five is a message to
send. Times are from the moment a request should have been sent until its answer is read. Messages that were taken stay
in the database, unsent: there is no worker.
"""

from __future__ import annotations

import argparse
import http.client
import json
import queue
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from accounts.tests.ports import free_port
from bench.admin import _cursor
from bench.environment import ROOT, _redis
from bench.measure import cpu
from bench.rows import NAME, variables
from bench.waiting import until

API = "/api/v1"
CLIENTS = 32
"""Requests that can be under way at once."""
SHARES = {"list": 0.2, "list, deep": 0.2, "message": 0.3, "stats": 0.1, "send": 0.2}


@dataclass
class Seen:
    """What was answered, by kind of request."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, status: int, took: float) -> None:
        with self.lock:
            self.times[kind].append(took * 1000)
            self.statuses[kind, status] += 1


@dataclass
class Caller:
    """What the requests need: a key that may do all of it, and messages to ask for."""

    key: str
    sender: str
    messages: list[str]

    def request(self, kind: str, number: int) -> tuple[str, str, str | None]:
        """Method, path and body."""
        one = random.choice(self.messages)
        match kind:
            case "list":
                return "GET", f"{API}/messages/?limit=25", None
            case "list, deep":
                return "GET", f"{API}/messages/?{urlencode({'limit': 25, 'cursor': _cursor(one)})}", None
            case "message":
                return "GET", f"{API}/messages/{one}/", None
            case "stats":
                return "GET", f"{API}/delivery-logs/stats/?group_by=day", None
        letter = {"from": self.sender, "to": [f"load{number}@bench.example"], "subject": "Load", "text": "Load.\n" * 40}
        return "POST", f"{API}/messages/", json.dumps(letter)


@contextmanager
def web(given: argparse.Namespace) -> Iterator[tuple[int, Caller, int]]:
    """Port, caller and process id of a web server on the database."""
    with tempfile.TemporaryDirectory(prefix="smtpproxy-bench-") as folder, _redis() as redis_url:
        port = free_port()
        settings = variables(
            given.name,
            folder,
            REDIS_URL=redis_url,
            WEB_PORT=str(port),
            WEB_WORKERS=str(given.workers),
            API_REQUESTS_PER_MINUTE="1000000",
            DB_STATEMENT_TIMEOUT="30",
        )

        def manage(*arguments: str) -> str:
            command = [sys.executable, "manage.py", *arguments]
            return subprocess.run(command, cwd=ROOT, env=settings, check=True, capture_output=True, text=True).stdout

        manage("migrate", "--verbosity", "0")
        told = manage("shell", "--verbosity", "0", "-c", "from bench.rows_seed import caller; print(caller())")
        with open(Path(folder) / "web.log", "ab") as log:
            gunicorn = ["-m", "gunicorn", "--config", "python:smtpproxy.gunicorn_config", "smtpproxy.wsgi"]
            server = subprocess.Popen([sys.executable, *gunicorn], cwd=ROOT, env=settings, stdout=log, stderr=log)
        try:
            until(lambda: _answers(port), "the start of the web server", 60)
            yield port, Caller(**json.loads(told.strip().splitlines()[-1])), server.pid
        finally:
            server.terminate()
            server.wait(40)


def _answers(port: int) -> bool:
    with suppress(OSError):
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        link.request("GET", "/healthz")
        return link.getresponse().status == 200
    return False


def _client(port: int, caller: Caller, jobs: queue.Queue[tuple[int, str, float] | None], seen: Seen) -> None:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {caller.key}", "Content-Type": "application/json"}
    while (job := jobs.get()) is not None:
        number, kind, due = job
        method, path, body = caller.request(kind, number)
        status = 0
        for _ in range(2):  # a kept connection may have been closed meanwhile
            try:
                link.request(method, path, body, headers)
                answer = link.getresponse()
                answer.read()
                status = answer.status
                break
            except (OSError, http.client.HTTPException):
                link.close()
        seen.note(kind, status, time.monotonic() - due)


def load(port: int, caller: Caller, rate: float, seconds: float) -> Seen:
    """Requests at this rate for so long."""
    seen, jobs = Seen(), queue.Queue[tuple[int, str, float] | None]()
    clients = [threading.Thread(target=_client, args=(port, caller, jobs, seen)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    begun = time.monotonic()
    for number in range(int(rate * seconds)):
        due = begun + number / rate
        time.sleep(max(0.0, due - time.monotonic()))
        jobs.put((number, random.choices(list(SHARES), list(SHARES.values()))[0], due))
    for _ in clients:
        jobs.put(None)
    for client in clients:
        client.join()
    return seen


def report(seen: Seen, seconds: float) -> None:
    print("| request | answers | per second | p50 ms | p95 ms | p99 ms | errors |\n|---|---|---|---|---|---|---|")
    for kind in [*SHARES, "all"]:
        times = sorted(took for name, all_ in seen.times.items() for took in all_ if kind in (name, "all"))
        bad = sum(n for (name, status), n in seen.statuses.items() if kind in (name, "all") and not 200 <= status < 300)
        if times:
            p95, p99 = (times[min(len(times) - 1, int(len(times) * share))] for share in (0.95, 0.99))
            figures = [len(times) / seconds, statistics.median(times), p95, p99, bad]
            print(f"| {kind} | {len(times):,} | {' | '.join(f'{figure:.0f}' for figure in figures)} |")
    wrong = {f"{kind} {status}": n for (kind, status), n in seen.statuses.items() if not 200 <= status < 300}
    if wrong:
        print(f"\nNot answered well: {wrong}")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--name", default=NAME, help="of the database")
    made.add_argument("--rate", type=float, default=100.0)
    made.add_argument("--seconds", type=float, default=60.0, help="300: as PERF-5 asks")
    made.add_argument("--workers", type=int, default=2, help="processes of gunicorn")
    return made


def main() -> int:
    given = parser().parse_args()
    with web(given) as (port, caller, pid):
        load(port, caller, 20, 5)  # what each process does once
        before = cpu([pid])
        seen = load(port, caller, given.rate, given.seconds)
        spent = (cpu([pid]) - before) / max(1, sum(seen.statuses.values())) * 1000
    report(seen, given.seconds)
    print(f"\nProcessor time of the web server: {spent:.1f} ms a request")
    return 0


if __name__ == "__main__":
    sys.exit(main())
