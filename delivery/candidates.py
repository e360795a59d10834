"""The providers of a route in the order they would be tried, and what stands in each one's way (RTE-5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import groupby

from django.utils import timezone

from accounts import shared_state
from accounts.models import Tenant
from delivery import fidelity, routing
from providers import connections, limits
from providers.base import Backend, OutboundMessage
from providers.exceptions import Misconfigured, TooLarge
from providers.models import Provider, RoutingRule, RoutingTarget


class Level(Enum):
    """What stands in a candidate's way, from nothing to everything."""

    FREE = auto()
    WAITS = auto()
    """Unhealthy, or its settings are wrong: others are tried, and without others the message waits."""
    TOO_LARGE = auto()
    CHANGES = auto()
    """It would change a message that must go out as it was written."""
    DISABLED = auto()


@dataclass(frozen=True, slots=True)
class Option:
    """A provider of a route. Those of one position share the messages by weight."""

    provider: Provider
    position: int
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """An option with what stands in its way. `share` is how many of a hundred such messages it is the first to be
    sent, as things stand; `drawn` the part its weight gives it among those of its position. `verdict` is what it
    would do to the message, "" where that is not known."""

    option: Option
    level: Level
    problem: str = ""
    verdict: str = ""
    rank: int = 0
    drawn: float = 100.0
    share: float = 0.0

    @property
    def provider(self) -> Provider:
        return self.option.provider


@dataclass(frozen=True, slots=True)
class Sent:
    """What is to be sent: its size in octets, to whom, and the message where there is one."""

    size: int
    recipients: tuple[str, ...]
    message: OutboundMessage | None


def options(table: routing.Table, rule: RoutingRule | None) -> list[Option]:
    """The options of a rule, or the default ones, in order; those of one position the heaviest first."""
    if rule is None:
        return [Option(provider, place) for place, provider in enumerate(table.defaults)]
    return of_targets(list(rule.targets.all()))


def of_targets(targets: Sequence[RoutingTarget]) -> list[Option]:
    """As `options`, for targets that need not be saved."""
    found = [Option(target.provider, target.position, target.weight) for target in targets]
    return sorted(found, key=lambda option: (option.position, -option.weight, option.provider.name))


def in_words(found: Sequence[Option]) -> str:
    """A route as one line: `A (75 %) or B (25 %) → C`; "" when no option is enabled."""
    enabled = [option for option in found if option.provider.enabled]
    places = []
    for _, group in groupby(enabled, key=lambda option: option.position):
        same = list(group)
        total = sum(option.weight for option in same)
        places.append(
            " or ".join(
                f"{option.provider.name} ({option.weight / total:.0%})".replace("%", " %")
                if len(same) > 1
                else option.provider.name
                for option in same
            )
        )
    return " → ".join(places)


def of_route(tenant: Tenant, found: Sequence[Option], sent: Sent) -> list[Candidate]:
    """The candidates as they would be tried, those that are not used at all last."""
    all_ = [_candidate(tenant, option, sent) for option in found]
    enabled = [candidate for candidate in all_ if candidate.level is not Level.DISABLED]
    if sent.message is not None and fidelity.wanted(tenant.lossless, sent.message, len(enabled)):
        all_ = sorted(all_, key=lambda candidate: candidate.rank)
    else:
        all_ = [replace(candidate, rank=0) for candidate in all_]
    used = [candidate for candidate in all_ if candidate.level not in {Level.CHANGES, Level.DISABLED}]
    unused = [candidate for candidate in all_ if candidate.level in {Level.CHANGES, Level.DISABLED}]
    return [*_shared_out(used), *unused]


def _shared_out(used: Sequence[Candidate]) -> list[Candidate]:
    """With `drawn` among those tried at the same moment, and `share` among the first of them that are free."""
    result: list[Candidate] = []
    served = False
    for _, group in groupby(used, key=lambda candidate: (candidate.rank, candidate.option.position)):
        same = list(group)
        total = sum(candidate.option.weight for candidate in same)
        free = sum(candidate.option.weight for candidate in same if candidate.level is Level.FREE)
        for candidate in same:
            weight = candidate.option.weight
            first = not served and candidate.level is Level.FREE
            share = 100 * weight / free if first else 0.0
            result.append(replace(candidate, drawn=100 * weight / total, share=share))
        served = served or free > 0
    return result


def _candidate(tenant: Tenant, option: Option, sent: Sent) -> Candidate:
    provider = option.provider
    if not provider.enabled:
        return Candidate(option, Level.DISABLED, "not enabled")
    try:
        backend = connections.backend_for(provider)
    except Misconfigured as failure:
        return Candidate(option, Level.WAITS, f"its settings cannot be used: {failure.text}")
    rank, verdict, lossless = _verdict(provider, sent)
    required = tenant.lossless == Tenant.Lossless.REQUIRED
    if required and not lossless:
        return Candidate(option, Level.CHANGES, "would change the message", verdict, rank)
    too_large = _too_large(backend, sent)
    if too_large:
        return Candidate(option, Level.TOO_LARGE, too_large, verdict, rank)
    until = provider.unhealthy_until
    if until is not None:
        over = until <= timezone.now()
        when = "the next message probes it" if over else f"until {until:%Y-%m-%d %H:%M:%S} UTC"
        return Candidate(option, Level.FREE if over else Level.WAITS, f"unhealthy, {when}", verdict, rank)
    return Candidate(option, Level.FREE, _limited(provider), verdict, rank)


def _limited(provider: Provider) -> str:
    """What its limits are doing at this moment; "" when nothing, or when nobody knows."""
    try:
        now = limits.usage(provider)
    except shared_state.Unavailable:
        return ""
    wait = max(now.blocked_for, now.waiting_for)
    return f"limited: the next call in about {wait:,.0f} s" if wait >= 1 else ""


def _verdict(provider: Provider, sent: Sent) -> tuple[int, str, bool]:
    """Rank, verdict in words, and whether it may be used where only lossless will do."""
    if sent.message is None:
        return 0, "", True
    [judged] = fidelity.judge([provider], sent.message, sent.recipients)
    return judged.rank, judged.told, judged.lossless


def _too_large(backend: Backend, sent: Sent) -> str:
    if sent.message is None:
        limit = backend.max_size
        return f"takes at most {limit:,} octets" if limit is not None and sent.size > limit else ""
    try:
        backend.check_size(sent.message)
    except TooLarge as failure:
        return failure.text
    return ""
