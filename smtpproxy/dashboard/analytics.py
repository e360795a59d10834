"""Analytics: what happened by hour or day, by provider, by error and by account; each table also as CSV (ADM-1)."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse

from accounts.admin_page import AdminPage
from accounts.ids import first_at
from accounts.models import Account, User
from accounts.tenancy import Area, Verb, permits, visible_to
from delivery.models import DeliveryLog, Event, Message
from delivery.totals import Figures, Group
from smtpproxy.dashboard import charts, spans
from smtpproxy.dashboard.links import to_list
from smtpproxy.dashboard.numbers import milliseconds, percent
from smtpproxy.dashboard.spans import Span

NEWEST = 5000
"""Attempts looked at for the table of errors."""
TOP = 20

Cell = tuple[str, str]
"""What a cell says, and where it leads ("" for nowhere)."""


@dataclass(frozen=True, slots=True)
class Table:
    """The first column names the row, and the others are numbers."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


class Analytics(AdminPage):
    area = Area.LOGS
    title = "Analytics"
    template_name = "admin/dashboard/analytics.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        span = spans.read(request.GET)
        wanted = request.GET.get("csv")
        if wanted is not None:
            if wanted not in TABLES:
                raise Http404
            return _csv(TABLES[wanted](request, self.user, span), span)
        lines = charts.every(spans.figures(self.user, span, span.by), span)
        return self.render(
            {
                "span": span,
                "ranges": [(name, label) for name, (label, _) in spans.RANGES.items()],
                "charts": [charts.volume(lines, span), charts.latency(lines, span)],
                "tables": [make(request, self.user, span) for make in TABLES.values()],
            }
        )


def over_time(request: HttpRequest, user: User, span: Span) -> Table:
    rows = []
    for one in sorted(spans.figures(user, span, span.by), key=lambda one: one.key, reverse=True):
        begin, end = max(one.key, span.start), min(one.key + span.step, span.end)
        keys = {"id__gte": str(first_at(begin)), "id__lt": str(first_at(end))}
        accepted = to_list(request, Message, keys) or to_list(request, Event, {"type__exact": "received", **keys})
        rows.append([(one.label, ""), (f"{one.accepted}", accepted), *_of_calls(request, one, keys)])
    columns = (f"{span.by.capitalize()} (UTC)", "Accepted", *CALLS)
    return Table("time", f"By {span.by}", columns, rows)


def by_provider(request: HttpRequest, user: User, span: Span) -> Table:
    lines = sorted(spans.figures(user, span, Group.PROVIDER), key=lambda one: -one.sent)
    rows = [
        [(one.label or "deleted", ""), *_of_calls(request, one, {**span.keys, "provider__id__exact": one.key})]
        for one in lines
        if one.sent
    ]
    return Table("providers", "Providers", ("Provider", *CALLS), rows)


def by_error(request: HttpRequest, user: User, span: Span) -> Table:
    """Of the newest attempts: the totals of hours do not know errors."""
    attempts = visible_to(user, DeliveryLog).filter(pk__gte=first_at(span.start), pk__lt=first_at(span.end))
    newest = list(attempts.order_by("-pk").values_list("error_code", "provider_name")[:NEWEST])
    counts = Counter((code, name) for code, name in newest if code)
    rows = [
        [
            (code, ""),
            (name, ""),
            (f"{count}", to_list(request, DeliveryLog, {**span.keys, "error_code": code, "provider_name": name})),
            (percent(count / len(newest)), ""),
        ]
        for (code, name), count in counts.most_common(TOP)
    ]
    note = f"Of the newest {NEWEST:,} attempts of this time." if len(newest) == NEWEST else ""
    return Table("errors", "Errors", ("Code", "Provider", "Attempts", "Share of all attempts"), rows, note)


def by_account(request: HttpRequest, user: User, span: Span) -> Table:
    """Those that send most; named for who may see accounts."""
    lines = [one for one in spans.figures(user, span, Group.ACCOUNT) if one.accepted or one.sent]
    lines = sorted(lines, key=lambda one: -(one.accepted + one.sent))[:TOP]
    if not permits(user, Area.ACCOUNTS, Verb.READ):
        lines = []
    names = {row.pk: str(row) for row in visible_to(user, Account).filter(pk__in=[one.key for one in lines if one.key])}
    rows = []
    for one in lines:
        keys = {**span.keys, "account__id__exact": one.key}
        accepted = to_list(request, Message, keys) if one.key else ""
        rows.append(
            [(names.get(one.key, "deleted"), ""), (f"{one.accepted}", accepted), *_of_calls(request, one, keys)]
        )
    return Table("accounts", "Top senders", ("Account", "Accepted", *CALLS), rows)


TABLES: dict[str, Callable[[HttpRequest, User, Span], Table]] = {
    "time": over_time,
    "providers": by_provider,
    "errors": by_error,
    "accounts": by_account,
}
CALLS = ("Sent", "Delivered", "Failed", "Delivery rate", "Mean", "p95")


def _of_calls(request: HttpRequest, one: Figures, where: dict[str, Any]) -> list[Cell]:
    def logs(count: int, **more: str) -> Cell:
        deleted = None in where.values()
        return f"{count}", "" if deleted or not count else to_list(request, DeliveryLog, {**where, **more})

    return [
        logs(one.sent),
        logs(one.delivered, status__in="delivered,partial"),
        logs(one.failed + one.dlq, status__in="failed,dlq"),
        (percent(one.delivery_rate), ""),
        (milliseconds(one.mean_ms), ""),
        (milliseconds(one.p95_ms), ""),
    ]


def _csv(table: Table, span: Span) -> HttpResponse:
    name = f"{table.name}-{span.start:%Y%m%d%H}-{span.end:%Y%m%d%H}.csv"
    disposition = f'attachment; filename="{name}"'
    response = HttpResponse(content_type="text/csv; charset=utf-8", headers={"Content-Disposition": disposition})
    writer = csv.writer(response)
    writer.writerow(table.columns)
    writer.writerows([_harmless(text) for text, _ in row] for row in table.rows)
    return response


def _harmless(text: str) -> str:
    """Spreadsheets take what begins so for a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
