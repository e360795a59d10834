"""Leases of running calls: each process renews its own, so that those of a killed one end by themselves."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

import structlog

from accounts import shared_state
from providers.limits import scripts

log = structlog.get_logger(__name__)

SECONDS = 20
"""How long a lease lasts that nobody renews."""
RENEW_EVERY = 5.0
LONGEST = 1800.0
"""Seconds after which a call is taken for lost, and its lease is renewed no more."""

_lock = threading.Lock()
_held: dict[str, tuple[tuple[str, ...], float]] = {}
_renewing = 0
"""The process whose thread renews; 0 when none does."""


def hold(lease: str, keys: Sequence[str]) -> None:
    """Renew this lease, of all these keys, until it is released."""
    global _renewing  # noqa: PLW0603
    with _lock:
        if _renewing != os.getpid():
            _held.clear()  # of the process this one was forked from
            _renewing = os.getpid()
            threading.Thread(target=_renew_for_ever, name="leases", daemon=True).start()
        _held[lease] = (tuple(keys), time.monotonic())


def forget() -> None:
    """Renew no lease any more; for tests and for starting afresh."""
    with _lock:
        _held.clear()


def release(row: str, lease: str, keys: Sequence[str], took: float | None) -> None:
    """What the call occupied is free; `took` is in seconds, None when no call was made. Never raises: a lease that
    could not be given back ends by itself."""
    with _lock:
        _held.pop(lease, None)
    try:
        scripts.DONE([row, *keys], [lease, "" if took is None else took])
    except shared_state.Unavailable as error:
        log.warning("lease not given back", error=str(error))


def _renew_for_ever() -> None:
    while True:
        time.sleep(RENEW_EVERY)
        try:
            renew()
        except Exception as error:  # noqa: BLE001 -- the thread must live on; the next round tries again
            log.warning("leases not renewed", error=f"{type(error).__name__}: {error}")


def renew() -> None:
    """Let every lease of this process last as long again; raises shared_state.Unavailable."""
    with _lock:
        for lease in [lease for lease, (_, since) in _held.items() if time.monotonic() - since > LONGEST]:
            log.error("call without an end", lease=lease)
            del _held[lease]
        held = {lease: keys for lease, (keys, _) in _held.items()}
    pairs = [(key, lease) for lease, keys in held.items() for key in keys]
    if not pairs:
        return
    scripts.RENEW([key for key, _ in pairs], [SECONDS, *(lease for _, lease in pairs)])
    with _lock:
        ended = [lease for lease in held if lease not in _held]
    for lease in ended:  # released meanwhile, perhaps before they were renewed
        scripts.DONE(["", *held[lease]], [lease, ""])
