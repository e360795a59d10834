"""How fast mail goes all the way: accepted, sent to an HTTP provider with a set latency, recorded (PERF-4).

    python -m bench.delivery --rate 340 --seconds 300

The provider is a stand-in of SendGrid in a process of its own (bench/provider.py). Times from acceptance to delivery
are those of the rows. A loss is a message that was answered with 250 and never reached the provider; a duplicate one
that reached it twice.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench.environment import ROOT, Environment, environment, place
from bench.ingest import describe
from bench.measure import cpu

STRAGGLERS = 120.0
"""Seconds after the last 250 within which everything must have been delivered."""
TIMES = """
    SELECT count(*), min(accepted_at), max(finished_at),
        percentile_cont(0.50) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - accepted_at)),
        percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - accepted_at)),
        max(extract(epoch FROM finished_at - accepted_at))
    FROM delivery_message WHERE status = 'delivered'
"""
UNFINISHED = "SELECT count(*) FROM delivery_message WHERE finished_at IS NULL"


@contextlib.contextmanager
def stand_in(latency: float) -> Iterator[tuple[int, int]]:
    """(port, process id) of a provider."""
    arguments = [sys.executable, "-m", "bench.provider", "--latency", str(latency)]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().split()[1]), process.pid
    finally:
        process.kill()
        process.wait()


def provider_stats(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/stats")
    stats: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return stats


def send(port: int, given: argparse.Namespace) -> dict[str, Any]:
    """Send the load and return what the client tells."""
    pause = given.connections / given.rate if given.rate else 0.0
    arguments = [
        *(sys.executable, "-m", "bench.client", f"127.0.0.1:{port}", "--size", str(given.size)),
        *("--connections", str(given.connections), "--seconds", str(given.seconds), "--pause", str(pause)),
        *("--messages", str(given.messages)),
    ]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def wait_for_stragglers(env: Environment) -> int:
    """How many messages are not finished when all should be."""
    deadline = time.monotonic() + STRAGGLERS
    with env.connect() as connection:
        while True:
            [left] = connection.execute(UNFINISHED).fetchone() or (0,)
            if not left or time.monotonic() > deadline:
                return int(left)
            time.sleep(0.5)


def run(given: argparse.Namespace) -> int:
    """One measurement; the exit code is 1 when a message was lost, or arrived twice."""
    with stand_in(given.latency) as (provider_port, provider), contextlib.ExitStack() as stack:
        where = stack.enter_context(place(own=given.own_disk))
        print(describe(where))
        env = stack.enter_context(environment(where, f"http://127.0.0.1:{provider_port}"))
        port, listener = stack.enter_context(env.listener(given.processes))
        workers = stack.enter_context(env.workers(given.workers, given.concurrency))
        time.sleep(3)  # workers connect to the broker
        before = cpu([listener]), cpu(workers), env.database_cpu(), cpu([provider])
        told = send(port, given)
        unfinished = wait_for_stragglers(env)
        after = cpu([listener]), cpu(workers), env.database_cpu(), cpu([provider])
        with env.connect() as connection:
            row = connection.execute(TIMES).fetchone()
            statuses = dict(
                connection.execute("SELECT status, count(*) FROM delivery_message GROUP BY status").fetchall()
            )
        stats = provider_stats(provider_port)
    return report(told, row, statuses, stats, unfinished, [b - a for a, b in zip(before, after, strict=True)])


def report(
    told: dict[str, Any],
    row: Any,
    statuses: dict[str, int],
    stats: dict[str, Any],
    unfinished: int,
    spent: list[float],
) -> int:
    accepted = told["messages"]
    print(f"accepted   {accepted} in {told['seconds']:.1f} s = {accepted / told['seconds'] * 60:.0f} a minute")
    print(
        f"           p50 {told['p50'] * 1000:.1f} ms, p95 {told['p95'] * 1000:.1f} ms, {told['errors'] or 'no error'}"
    )
    if not row or not row[0]:
        print(f"delivered  none; rows by status: {statuses}")
        return 1
    delivered, first, last, p50, p95, most = row
    took = (last - first).total_seconds()
    print(f"delivered  {delivered} in {took:.1f} s = {delivered / took * 60:.0f} a minute; rows by status: {statuses}")
    print(
        f"           from acceptance: p50 {p50:.2f} s, p95 {p95:.2f} s, longest {most:.2f} s; unfinished {unfinished}"
    )
    per_message = [seconds / delivered * 1000 for seconds in spent]
    names = ("listener", "workers", "database", "provider")
    print("cpu ms     " + ", ".join(f"{name} {ms:.2f}" for name, ms in zip(names, per_message, strict=True)))
    lost = accepted - stats["distinct"]
    twice = sum(count - 1 for count in stats["duplicates"].values())
    print(f"provider   {stats['calls']} calls, {stats['distinct']} messages; lost {max(0, lost)}, duplicates {twice}")
    return 1 if lost > 0 or twice or unfinished else 0


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rate", type=float, default=340.0, help="messages a second; 0: as fast as they are taken")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--messages", type=int, default=10**9, help="stop after so many")
    options.add_argument("--size", type=int, default=5000, help="octets of a message")
    options.add_argument("--connections", type=int, default=50)
    options.add_argument("--latency", type=float, default=0.05, help="of the provider, in seconds")
    options.add_argument("--processes", type=int, default=1, help="of the listener")
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--concurrency", type=int, default=2, help="processes of each worker")
    options.add_argument("--own-disk", action="store_true", help="a new file system and PostgreSQL, see disk.py")
    return options


if __name__ == "__main__":
    sys.exit(run(parser().parse_args()))
