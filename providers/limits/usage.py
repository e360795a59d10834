"""What a provider's limits are doing now, for people."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

from accounts import shared_state
from providers.limits import quotas, scripts
from providers.models import Provider


@dataclass(frozen=True, slots=True)
class Usage:
    """`braked_to` is in calls a second, None when the service has not asked us to slow down; `blocked_for` in seconds.

    `today` are the recipients of the last 24 hours and `last_minute` the calls of the last minute, 0 where no limit
    makes us count; `running` likewise. `waiting_for` is about how many seconds the last message in the queue is away
    from its turn. `quota` is what the service said of itself, by name.
    """

    braked_to: float | None
    blocked_for: float
    today: int
    last_minute: int
    running: int
    waiting_for: float
    quota: dict[str, float]

    def told(self) -> list[str]:
        """The same for people."""
        parts = ["full speed" if self.braked_to is None else f"slowed down to {self.braked_to:.2g} calls a second"]
        if self.blocked_for > 0:
            parts.append(f"no call for {self.blocked_for:.0f} s, as the service asked")
        counts = {
            "calls in the last minute": self.last_minute,
            "recipients in 24 hours": self.today,
            "calls running": self.running,
        }
        # A zero would be wrong for what no limit makes us count.
        counted = [f"{what}: {count:,}" for what, count in counts.items() if count]
        parts.extend(counted or ["nothing counted: only what has a limit is"])
        if self.waiting_for > 0:
            parts.append(f"mail waits for up to {self.waiting_for:.0f} s")
        if "told_at" in self.quota:
            named = (("per_second", "a second"), ("per_day", "a day"), ("sent", "sent"))
            quota = ", ".join(f"{self.quota[name]:g} {words}" for name, words in named if name in self.quota)
            parts.append(f"the service's own quota: {quota}")
        return parts


def usage(provider: Provider) -> Usage:
    """What is known at this moment; raises shared_state.Unavailable."""
    row = shared_state.key("limit", provider.pk)
    server = shared_state.client()
    seconds, micros = server.time()
    now = seconds + micros / 1e6
    state = _numbers(row)
    cut = state.get("cut")
    since = max(state.get("grown", 0.0), state.get("blocked", 0.0))
    if cut is not None:
        cut += max(0, math.floor((now - since) / scripts.STEP_EVERY)) * state.get("step", 0.0)
    return Usage(
        braked_to=cut if cut is not None and cut < state.get("top", 0.0) else None,
        blocked_for=max(0.0, state.get("blocked", 0.0) - now),
        today=_within(f"{row}:day", now, 300, 288),
        last_minute=_within(f"{row}:minute", now, 1, 60),
        running=server.zcount(f"{row}:calls", now, "+inf"),
        waiting_for=max(0.0, state.get("queue", 0.0) - now),
        quota=_numbers(quotas.key(provider.pk)),
    )


def _numbers(key: str) -> dict[str, float]:
    stored = cast("dict[bytes, bytes]", shared_state.client().hgetall(key))
    return {name.decode(): float(value) for name, value in stored.items()}


def _within(key: str, now: float, width: int, size: int) -> int:
    first = math.floor(now / width) - size
    return int(sum(count for name, count in _numbers(key).items() if name.isdigit() and int(name) >= first))
