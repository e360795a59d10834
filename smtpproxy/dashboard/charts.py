"""Figures as Chart.js takes them; the theme brings it along and draws every canvas of the class `chart`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from delivery.totals import Figures, Group
from smtpproxy.dashboard.spans import Span

GREEN, RED, AMBER, BLUE = "#2e9e5b", "#d64545", "#e0932f", "#3093ca"
_GREY = "#7c8798"


@dataclass(frozen=True, slots=True)
class Chart:
    """`summary` is what somebody hears who does not see it."""

    title: str
    summary: str
    kind: str
    value: str
    options: str


def volume(lines: list[Figures], span: Span) -> Chart:
    """Attempts by what came of them, and messages accepted, over time."""
    sets = [
        _set("Delivered", [one.delivered for one in lines], GREEN),
        _set("To be tried again", [one.attempts.get("retrying", 0) for one in lines], AMBER),
        _set("Failed", [one.failed + one.dlq for one in lines], RED),
        _set("Accepted", [one.accepted for one in lines], BLUE, type="line", stack="accepted", fill=False),
    ]
    told = f"Attempts and accepted messages by {span.by}; the figures are in the table of the analytics page."
    return _chart(("Mail over time", told), "bar", lines, span, sets)


def latency(lines: list[Figures], span: Span) -> Chart:
    sets = [
        _set("Mean", [one.mean_ms and round(one.mean_ms) for one in lines], BLUE),
        _set("95 of 100 are faster than", [one.p95_ms for one in lines], AMBER),
    ]
    told = f"Milliseconds a call to a provider takes, by {span.by}."
    return _chart(("Latency of calls to providers (ms)", told), "line", lines, span, sets)


def _set(label: str, data: list[Any], colour: str, **more: Any) -> dict[str, Any]:
    look = {"borderColor": colour, "backgroundColor": colour, "borderWidth": 2, "pointRadius": 2, "tension": 0.2}
    return {"label": label, "data": data, **look, **more}


def _chart(told: tuple[str, str], kind: str, lines: list[Figures], span: Span, sets: list[dict[str, Any]]) -> Chart:
    """`told` is title and summary; bars stand on each other."""
    stacked = kind == "bar"
    form = "%m-%d" if span.by is Group.DAY else "%m-%d %H:00"
    labels = [one.key.strftime(form) for one in lines]
    ticks = {"color": _GREY, "maxTicksLimit": 12}
    options = {
        "animation": False,
        "responsive": True,
        "maintainAspectRatio": False,
        "interaction": {"mode": "index", "intersect": False},
        "datasets": {"bar": {"borderWidth": 0, "maxBarThickness": 28}},
        "plugins": {"legend": {"position": "bottom", "labels": {"color": _GREY, "boxWidth": 10, "boxHeight": 10}}},
        "scales": {
            "x": {"stacked": stacked, "grid": {"display": False}, "ticks": ticks},
            "y": {"stacked": stacked, "beginAtZero": True, "grid": {}, "ticks": {**ticks, "precision": 0}},
        },
    }
    return Chart(*told, kind, json.dumps({"labels": labels, "datasets": sets}), json.dumps(options))


def every(lines: list[Figures], span: Span) -> list[Figures]:
    """The lines with an empty one for each hour or day in which nothing happened, up to now."""
    from_rows = {one.key: one for one in lines}
    step = span.step
    moment, found = span.first, []
    while moment < span.end:
        found.append(from_rows.get(moment) or Figures(moment, f"{moment:%Y-%m-%d}"))
        moment += step
    return found
