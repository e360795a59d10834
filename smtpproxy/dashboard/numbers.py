"""The figures of a span as numbers that lead to the rows behind them."""

from __future__ import annotations

from django.http import HttpRequest

from accounts.tenancy import Area, Verb, permits
from delivery.models import DeliveryLog, Event, Message
from delivery.totals import Figures
from smtpproxy.dashboard.links import to_list
from smtpproxy.dashboard.spans import Span
from smtpproxy.dashboard.state import Number


def of(request: HttpRequest, whole: Figures, span: Span) -> list[Number]:
    """Volume, delivery rate, error rate and latency; a rate that nothing is known of is a dash."""

    def logs(**where: str) -> str:
        return to_list(request, DeliveryLog, {**where, **span.keys})

    messages = permits(request.user, Area.MESSAGES, Verb.READ)
    accepted = (
        to_list(request, Message, span.keys)
        if messages
        else to_list(request, Event, {"type__exact": "received", **span.keys})
    )
    errors = whole.failed + whole.dlq
    known = whole.delivered + errors
    return [
        Number("Accepted", f"{whole.accepted:,}", accepted, "messages that came in"),
        Number("Sent", f"{whole.sent:,}", logs(), "calls to providers"),
        Number("Delivered", f"{whole.delivered:,}", logs(status__in="delivered,partial"), "taken by a provider"),
        Number("Delivery rate", percent(whole.delivery_rate), logs(status__in="delivered,partial,failed,dlq")),
        Number("Failed", f"{errors:,}", logs(status__in="failed,dlq"), "for good", "bad" if errors else ""),
        Number("Error rate", percent(errors / known if known else None), logs(status__in="failed,dlq")),
        Number("Latency, mean", milliseconds(whole.mean_ms), logs()),
        Number("Latency, p95", milliseconds(whole.p95_ms), logs(), "95 of 100 calls are faster"),
    ]


def percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}".replace("100.0%", "100%").replace("%", " %")


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f} ms" if value < 10_000 else f"{value / 1000:,.1f} s"
