"""What doors refuse is kept as rows, a few a minute of each client, and no session waits for that (SMTP-18).

Refusals are gathered in memory, equal ones of one minute together, and written from a thread of their own. Whoever
guesses passwords or connects again and again fills neither the table nor the memory: above a number of different
refusals of one client, or for one username, in a minute they are only counted; above one for the whole process they are
dropped and `refused_sessions_dropped_total` says how many. Every process counts for itself.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv6Address, ip_address

import structlog
from django.db import close_old_connections, connections
from django.utils import timezone

from delivery import metrics
from delivery.refused_rows import Kept, Refusal, write

__all__ = ["Gathered", "Kept", "Recorder", "Refusal", "tell"]

log = structlog.get_logger(__name__)

WINDOW = 60.0
"""Seconds for which equal refusals are one row."""
MOST_OF_ONE = 20
"""Different refusals of one client address, and for one username, in that time."""
MOST = 500
"""The same of the whole process."""
EVERY = 2.0
"""Seconds between a refusal and its row, about."""


Write = Callable[[Sequence[Kept]], None]


class Gathered:
    """Refusals of this minute, equal ones together. May be used from several threads; nothing here waits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = -1
        self._known: dict[tuple[object, ...], Kept] = {}
        self._of: Counter[tuple[str, str]] = Counter()
        self._changed: dict[uuid.UUID, Kept] = {}

    def note(self, refusal: Refusal) -> bool:
        """Count one refusal; False when there were too many to keep a row of it."""
        with self._lock:
            self._turn()
            kept = self._find(refusal)
            if kept is None:
                metrics.REFUSALS_DROPPED.inc()
                return False
            self._changed[kept.id] = kept
            return True

    def take(self) -> list[Kept]:
        """What is to be written, as it is now."""
        with self._lock:
            taken = [replace(kept) for kept in self._changed.values()]
            self._changed.clear()
            return taken

    def give_back(self, taken: Sequence[Kept]) -> None:
        """What could not be written, for the next time; as much as there is room for."""
        with self._lock:
            for kept in taken:
                if len(self._changed) < MOST:
                    self._changed.setdefault(kept.id, kept)  # what has been counted since stays
                elif kept.id not in self._changed:
                    metrics.REFUSALS_DROPPED.inc(kept.count)

    def _turn(self) -> None:
        minute = int(self._clock() // WINDOW)
        if minute != self._minute:
            self._minute = minute
            self._known.clear()
            self._of.clear()

    def _find(self, refusal: Refusal) -> Kept | None:
        now, key = timezone.now(), _key(refusal)
        if key not in self._known:
            refusal = self._narrowed(refusal)
            key = _key(refusal)
        kept = self._known.get(key)
        if kept is not None:
            kept.count, kept.last_at = kept.count + 1, now
            return kept
        if len(self._known) >= MOST or len(self._changed) >= MOST:
            return None
        for one in _counted(refusal):
            self._of[one] += 1
        kept = self._known[key] = Kept(refusal, now, now)
        return kept

    def _narrowed(self, refusal: Refusal) -> Refusal:
        """Without what tells it from others of that client, or for that username, when there are many already."""
        for of in _counted(refusal):
            if self._of[of] >= MOST_OF_ONE:
                many = Refusal(source=refusal.source, reason=refusal.reason, reply=refusal.reply)
                if of[0] == "client":
                    return replace(many, client_ip=refusal.client_ip)
                return replace(
                    many, username=refusal.username, account_id=refusal.account_id, tenant_id=refusal.tenant_id
                )
        return refusal


def _key(refusal: Refusal) -> tuple[object, ...]:
    """What makes two refusals the same: not the session, the size or the number of recipients."""
    return (
        refusal.source,
        refusal.reason,
        refusal.client_ip,
        refusal.username.lower(),
        refusal.account_id,
        refusal.mail_from,
        refusal.recipient,
    )


def _counted(refusal: Refusal) -> list[tuple[str, str]]:
    """For whom it counts."""
    found = [("client", _host(refusal.client_ip))] if refusal.client_ip else []
    return [*found, ("username", refusal.username.lower())] if refusal.username else found


def _host(address: str) -> str:
    """One client: an IPv4 address, or the /64 an IPv6 address is in."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return parsed.exploded[:19] if isinstance(parsed, IPv6Address) else address


class Recorder:
    """Writes what was gathered from a thread, which lives as long as there is something to write."""

    def __init__(self, write: Write = write, *, every: float = EVERY) -> None:
        self._write, self._every = write, every
        self._gathered = Gathered()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()

    def note(self, refusal: Refusal) -> None:
        """Keep a row of it before long. Neither waits nor raises."""
        if not self._gathered.note(refusal):
            return
        with self._lock:
            if self._thread is None and not self._hurry.is_set():
                self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)
                self._thread.start()

    def close(self, within: float = 3.0) -> None:
        """Write what is left, for so many seconds at most. Blocks; what is noted afterwards is lost."""
        self._hurry.set()
        thread = self._thread
        if thread is not None:
            thread.join(within)

    def _run(self) -> None:
        try:
            while True:
                last = self._hurry.wait(self._every)
                taken = self._gathered.take()
                with self._lock:
                    if not taken:
                        self._thread = None
                        return
                if not self._written(taken) and last:
                    return
        finally:
            connections.close_all()

    def _written(self, taken: Sequence[Kept]) -> bool:
        close_old_connections()
        try:
            self._write(taken)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
            log.warning("refused sessions not written yet", rows=len(taken), error=type(error).__name__)
            self._gathered.give_back(taken)
            return False
        return True


_here = Gathered()


def tell(refusal: Refusal) -> None:
    """Keep a row of it now: for doors that work in threads. Blocks on the database, in the caller's transaction where
    there is one; raises what that raises."""
    if _here.note(refusal):
        write(_here.take())
