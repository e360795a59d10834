"""How long pages of the admin and answers of the REST API take on a large database (ADM-5, PERF-5).

    python -m bench.rows --messages 10000000
    python -m bench.admin

For the owner of the largest tenant, of a small one, and for an operator: each page `--times` times in this process,
without a network, each time with another example of what is looked for. `first` is the first time, mostly before
anything is in memory. Queries of more than 50 ms are listed below.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

SLOW_MS = 50.0
API = "/api/v1/"


@dataclass
class Measured:
    """One page for one person."""

    name: str
    times: list[float] = field(default_factory=list)
    queries: list[int] = field(default_factory=list)
    status: int = 0
    slow: dict[str, list[float]] = field(default_factory=dict)

    def line(self) -> str:
        if self.status != 200:
            return f"| {self.name} | answered {self.status} | | | | |"
        later = sorted(self.times[1:] or self.times)
        p95 = later[min(len(later) - 1, int(len(later) * 0.95))]
        median = statistics.median(later)
        slowest = max((max(took) for took in self.slow.values()), default=0.0)
        mark = " **" if p95 > 300 else ""
        return (
            f"| {self.name} | {self.times[0]:.0f} | {median:.0f} | {p95:.0f}{mark} | {max(self.queries)} |"
            f" {slowest:.0f} |".replace("| 0 |", "| |")
        )


class Examples:
    """What people of a tenant look for, taken from all its time; of all tenants where it is None."""

    def __init__(self, tenant: Any, times: int) -> None:
        from delivery.models import Event, Message, Recipient  # noqa: PLC0415 -- once the settings are there

        mine = {"tenant": tenant} if tenant else {}
        self._random = random.Random(1)
        self._messages = []
        newest, oldest = (Message.objects.filter(**mine).order_by(order).first() for order in ("-id", "id"))
        for _ in range(times):
            at = oldest.accepted_at + (newest.accepted_at - oldest.accepted_at) * self._random.random()
            from accounts.ids import first_at  # noqa: PLC0415

            found = Message.objects.filter(pk__gte=first_at(at), status="delivered", **mine).order_by("id").first()
            self._messages.append(found or newest)
        self._recipients = [Recipient.objects.filter(message=one).first() for one in self._messages]
        events = [Event.objects.filter(message=one).exclude(provider_event_id="").first() for one in self._messages]
        self._events = [event for event in events if event] or [None]

    def message(self) -> Any:
        return self._random.choice(self._messages)

    def recipient(self) -> Any:
        return self._random.choice(self._recipients)

    def event_id(self) -> str:
        event = self._random.choice(self._events)
        return event.provider_event_id if event else "none"

    def word(self) -> str:
        return self._random.choice(["invoice", "weekly news", "password", "shipped"])

    def number(self) -> str:
        return f"Invoice {self._random.randrange(10_000_000)}"


def _list(model: str, **query: Any) -> str:
    return f"/admin/delivery/{model}/?{urlencode(query)}"


def _cursor(key: Any) -> str:
    return b64encode(urlencode({"p": str(key)}).encode()).decode()


Page = Callable[[Examples], str]
PAGES: dict[str, Page] = {
    "dashboard": lambda _: "/admin/",
    "messages": lambda _: _list("message"),
    "messages, page 40": lambda _: _list("message", p=40),
    "messages, delivered": lambda _: _list("message", status__exact="delivered"),
    "messages, failed": lambda _: _list("message", status__exact="failed"),
    "messages, enqueue_failed (none)": lambda _: _list("message", status__exact="enqueue_failed"),
    "messages, with attachments": lambda _: _list("message", has_attachments__exact=1),
    "messages of an account": lambda its: _list("message", account__id__exact=its.message().account_id),
    "messages of an account, failed": lambda its: _list(
        "message", account__id__exact=its.message().account_id, status__exact="failed"
    ),
    "dead letters": lambda _: _list("deadletter"),
    "search: id": lambda its: _list("message", q=its.message().pk),
    "search: Message-ID": lambda its: _list("message", q=its.message().message_id_header),
    "search: provider's id": lambda its: _list("message", q=its.recipient().provider_message_id),
    "search: recipient": lambda its: _list("message", q=its.recipient().address),
    "search: recipient of 50,000": lambda _: _list("message", q="everything@archive.example"),
    "search: sender": lambda its: _list("message", q=its.message().mail_from),
    "search: nobody": lambda _: _list("message", q="nobody@nowhere.example"),
    "search: frequent word": lambda its: _list("message", q=its.word()),
    "search: rare words": lambda its: _list("message", q=its.number()),
    "message page": lambda its: f"/admin/delivery/message/{its.message().pk}/change/",
    "delivery logs": lambda _: _list("deliverylog"),
    "delivery logs, failed": lambda _: _list("deliverylog", status__exact="failed"),
    "delivery logs, unknown (none)": lambda _: _list("deliverylog", status__exact="unknown"),
    "delivery logs, broken (none)": lambda _: _list("deliverylog", fidelity__exact="broken"),
    "delivery logs of an account": lambda its: _list("deliverylog", account__id__exact=its.message().account_id),
    "delivery logs: provider's id": lambda its: _list("deliverylog", q=its.recipient().provider_message_id),
    "delivery logs: error code": lambda _: _list("deliverylog", q="rate_limited"),
    "events": lambda _: _list("event"),
    "events, bounced": lambda _: _list("event", type__exact="bounced"),
    "events, complained (none)": lambda _: _list("event", type__exact="complained"),
    "events: provider's id": lambda its: _list("event", q=its.event_id()),
    "recipients": lambda _: _list("recipient"),
    "recipients: address": lambda its: _list("recipient", q=its.recipient().address),
    "suppressions": lambda _: _list("suppression"),
    "audit": lambda _: "/admin/accounts/auditentry/",
    "API: messages": lambda _: f"{API}messages/",
    "API: messages, deep": lambda its: f"{API}messages/?{urlencode({'cursor': _cursor(its.message().pk)})}",
    "API: messages, failed": lambda _: f"{API}messages/?status=failed",
    "API: messages, recipient": lambda its: f"{API}messages/?{urlencode({'recipient': its.recipient().address})}",
    "API: message": lambda its: f"{API}messages/{its.message().pk}/",
    "API: delivery logs": lambda _: f"{API}delivery-logs/",
    "API: stats, 90 days by day": lambda _: f"{API}delivery-logs/stats/?{_since(90)}&group_by=day",
    "API: stats, 7 days by hour": lambda _: f"{API}delivery-logs/stats/?{_since(7)}&group_by=hour",
}


def _since(days: int) -> str:
    """A span in the words of the API."""
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415

    now = datetime.now(UTC)
    return urlencode({"from": (now - timedelta(days=days)).isoformat(), "to": now.isoformat()})


@contextmanager
def _watched(measured: Measured) -> Iterator[None]:
    """Count and time the queries within."""
    from django.db import connection  # noqa: PLC0415

    count = 0

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal count
        count += 1
        begun = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            took = (time.perf_counter() - begun) * 1000
            if took > SLOW_MS:
                measured.slow.setdefault(sql, []).append(took)

    begun = time.perf_counter()
    with connection.execute_wrapper(watch):
        yield
    measured.times.append((time.perf_counter() - begun) * 1000)
    measured.queries.append(count)


def measure(person: Any, tenant: Any, names: list[str], times: int) -> list[Measured]:
    """Every page for one person."""
    from django.test import Client  # noqa: PLC0415
    from rest_framework.test import APIClient  # noqa: PLC0415

    its = Examples(tenant, times)
    browser, api = Client(SERVER_NAME="localhost", raise_request_exception=False), APIClient(SERVER_NAME="localhost")
    browser.force_login(person)
    api.force_authenticate(person)
    browser.get("/admin/")  # what a process does once
    done = []
    for name in names:
        measured = Measured(name)
        for _ in range(times):
            address = PAGES[name](its)
            with _watched(measured):
                answer = (api if address.startswith(API) else browser).get(address, follow=False)
            measured.status = answer.status_code
            if answer.status_code != 200:
                break
        done.append(measured)
    return done


def report(title: str, done: list[Measured]) -> None:
    print(f"\n### {title}\n")
    print("| page | first ms | p50 ms | p95 ms | queries | slowest query ms |\n|---|---|---|---|---|---|")
    for measured in done:
        print(measured.line())
    for measured in done:
        for statement, took in measured.slow.items():
            print(f"\n{measured.name}: {len(took)} of {len(measured.times)} times, up to {max(took):.0f} ms")
            print(f"  {statement[:1500]}")
    sys.stdout.flush()


def wall_cost(times: int = 2000) -> float:
    """Milliseconds the second wall adds to a request: the role is taken on and put off."""
    from accounts import wall  # noqa: PLC0415
    from accounts.models import Tenant  # noqa: PLC0415

    tenant = Tenant.objects.values_list("pk", flat=True)[0]
    if not wall.is_up():
        return 0.0
    begun = time.perf_counter()
    for _ in range(times):
        wall.enter(tenant)
        wall.leave()
    return (time.perf_counter() - begun) / times * 1000


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--name", default="smtpproxy_bench_rows", help="of the database")
    made.add_argument("--times", type=int, default=20)
    made.add_argument("--only", default="", help="pages with this in their name")
    made.add_argument("--who", nargs="*", default=["big", "small7", "operator"], help="tenants, or operator")
    return made


def main() -> int:
    given = parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="smtpproxy-bench-") as folder:
        from bench.rows import variables  # noqa: PLC0415

        os.environ.update(variables(given.name, folder))
        import django  # noqa: PLC0415

        django.setup()
        from django.core.management import call_command  # noqa: PLC0415

        from accounts.models import Tenant, User  # noqa: PLC0415

        call_command("migrate", verbosity=0)
        names = [name for name in PAGES if given.only in name]
        print(f"The second wall costs {wall_cost():.2f} ms a request.")
        for who in given.who:
            tenant = None if who == "operator" else Tenant.objects.get(slug=who)
            person = User.objects.get(is_superuser=True) if tenant is None else User.objects.get(tenant=tenant)
            report(str(person), measure(person, tenant, names, given.times))
    return 0


if __name__ == "__main__":
    sys.exit(main())
