"""How fast mail is accepted durably, beside Postfix on the same machine in the same run (PERF-1, PERF-2).

    python -m bench.ingest --sizes 5000 --connections 50 --rounds 5

Each line of the result is one load on one server: kept connections, one message at a time on each, answered with 250
when it is durable. The servers take turns (A B C A B C …) and the medians of all rounds are printed. Without TLS the
client is known by its network; with it, by STARTTLS and AUTH PLAIN.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import peer
from bench.certificate import self_signed
from bench.environment import ROOT, Environment, Place, environment, place
from bench.measure import Cost, median, memory
from bench.peer import Server

MOST_OCTETS = 600_000_000
"""Sent in one round at most: the disk is shared."""
KEPT_OCTETS = 4_000_000_000
"""Let lie on the disk before it is cleaned. Not after each round, because a file system is slow after many deletions:
ext4 without a journal passes over the inodes of the last seconds one by one."""
REST_SECONDS = 6.0
SECURITY = ("plain", "tls")


@dataclass(frozen=True)
class Load:
    """One kind of load; `security` is "plain" or "tls"."""

    size: int
    connections: int
    security: str


@dataclass(frozen=True)
class Round:
    """What one server did in one round. Rates per second, processor time in ms a message, times in seconds.

    `elsewhere` is how many processors were busy with neither server, its database nor the client: Redis, the kernel's
    own threads, and whoever else uses the machine.
    """

    rate: float
    own_cpu: float
    database_cpu: float
    client_cpu: float
    elsewhere: float
    p50: float
    p95: float
    errors: int
    memory: float


def run_load(server: Server, load: Load, seconds: float, most: int = 10**9) -> Round:
    """Load a server once. Raises RuntimeError when not a single message was taken."""
    server.forget()
    arguments = [
        *(sys.executable, "-m", "bench.client", f"127.0.0.1:{server.port}"),
        *("--connections", str(load.connections), "--size", str(load.size), "--seconds", str(seconds)),
        *("--messages", str(min(most, MOST_OCTETS // load.size))),
    ]
    if load.security == "tls":
        arguments += ["--tls", "--user", server.user, "--password", server.password]
    client = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with client:
        assert client.stdout is not None
        assert client.stderr is not None
        client.stderr.readline()  # "ready": every connection stands
        database = server.database_cpu()
        cost = Cost(server.roots)
        output = client.stdout.read()
        own, machine = cost.stop()
        database = server.database_cpu() - database
        if client.wait():
            raise RuntimeError(f"the load on {server.name} failed: {client.stderr.read()[-2000:]}")
    told = json.loads(output)
    messages = told["messages"]
    if not messages:
        raise RuntimeError(f"{server.name} took no message: {told['errors']}")
    for text, count in told["errors"].items():
        print(f"  {server.name}: {count} x {text}", file=sys.stderr)
    return Round(
        rate=messages / told["seconds"],
        own_cpu=own / messages * 1000,
        database_cpu=database / messages * 1000,
        client_cpu=told["cpu"] / messages * 1000,
        elsewhere=max(0.0, machine - own - database - told["cpu"]) / told["seconds"],
        p50=told["p50"],
        p95=told["p95"],
        errors=sum(told["errors"].values()),
        memory=sum(memory(root) for root in server.roots),
    )


@contextlib.contextmanager
def postfixes(folder: Path, modes: Sequence[str], security: str) -> Iterator[list[Server]]:
    """A Postfix for each mode, or none, with the reason, where that cannot be."""
    reason = peer.why_not()
    if reason and modes:
        print(f"No peer: {reason}.")
        modes = ()
    folder.mkdir(exist_ok=True)
    tls = self_signed(folder) if security == "tls" and modes else None
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(peer.postfix(folder / f"{mode}-{security}", mode, tls, "load", "load-secret"))
            for mode in modes
        ]


@contextlib.contextmanager
def ours(env: Environment, processes: Sequence[int]) -> Iterator[list[Server]]:
    with contextlib.ExitStack() as stack:
        servers = []
        for count in processes:
            port, pid = stack.enter_context(env.listener(count))
            name = f"smtpproxy ({count} process{'es' if count > 1 else ''})"
            servers.append(Server(name, port, (pid,), env.user, env.password, env.forget, env.empty, env.database_cpu))
        yield servers


class Disk:
    """Cleans up after the servers once they have filled their share, and lets the disk come to rest."""

    def __init__(self) -> None:
        self.written = 0.0

    def make_room(self, servers: Sequence[Server], octets: int) -> None:
        if self.written + octets > KEPT_OCTETS:
            for server in servers:
                server.empty()
            os.sync()
            time.sleep(REST_SECONDS)
            self.written = 0.0
        self.written += octets


def measure(servers: Sequence[Server], load: Load, rounds: int, seconds: float, disk: Disk) -> None:
    """Load the servers in turn and print a line for each, with its ratio to every peer."""
    results: dict[str, list[Round]] = {server.name: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            disk.make_room(servers, min(MOST_OCTETS, int(load.size * seconds * 5000)))
            results[server.name].append(run_load(server, load, seconds))
    rates = {name: median(one.rate for one in done) for name, done in results.items()}
    peers = [server.name for server in servers if server.name.startswith("Postfix")]
    for name, done in results.items():
        ratios = "" if name in peers else "  ".join(f"{rates[name] / rates[other]:.2f}" for other in peers)
        print(
            f"{load.size:>7} {load.connections:>5} {load.security:>6}  {name:<26}"
            f"{rates[name]:>8.0f} {median(one.own_cpu for one in done):>8.2f} "
            f"{median(one.database_cpu for one in done):>6.2f} {median(one.client_cpu for one in done):>9.2f} "
            f"{median(one.elsewhere for one in done):>9.1f} {median(one.p50 for one in done) * 1000:>8.1f} "
            f"{median(one.p95 for one in done) * 1000:>8.1f} {max(one.memory for one in done):>7.0f} "
            f"{sum(one.errors for one in done):>6}  {ratios}",
            flush=True,
        )


HEAD = (
    f"{'octets':>7} {'conns':>5} {'':>6}  {'server':<26}{'msg/s':>8} {'cpu ms':>8} {'db ms':>6} {'client ms':>9} "
    f"{'elsewhere':>9} {'p50 ms':>8} "
    f"{'p95 ms':>8} {'RSS MB':>7} {'errors':>6}  ratio to each Postfix above"
)


def describe(where: Place) -> str:
    """The machine and the place, in two lines."""
    return (
        f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Linux {platform.release()}, Python {platform.python_version()}\n{where.durability()}"
    )


def run(
    where: Place,
    loads: Sequence[Load],
    processes: Sequence[int],
    modes: Sequence[str],
    rounds: int,
    seconds: float,
) -> None:
    """All loads, grouped by security so that only the servers that are loaded run."""
    print(describe(where))
    print(HEAD)
    disk = Disk()
    with environment(where) as env:
        for security, group in itertools.groupby(sorted(loads, key=lambda load: load.security), lambda x: x.security):
            with (
                postfixes(where.folder / "peer", modes, security) as peers,
                ours(env, processes) as mine,
            ):
                for load in group:
                    measure([*peers, *mine], load, rounds, seconds, disk)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5000, 500000], help="octets of a message")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 50, 100])
    parser.add_argument("--security", nargs="+", choices=SECURITY, default=list(SECURITY))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="of our listener, each in turn")
    parser.add_argument("--postfix", nargs="*", choices=peer.MODES, default=["discard", "hold"], help="see peer.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round")
    parser.add_argument("--own-disk", action="store_true", help="a new file system and PostgreSQL, see disk.py")
    given = parser.parse_args(arguments)
    loads = [Load(*one) for one in itertools.product(given.sizes, given.connections, given.security)]
    with place(own=given.own_disk) as where:
        run(where, loads, given.processes, given.postfix, given.rounds, given.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
