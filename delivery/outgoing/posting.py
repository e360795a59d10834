"""Deliver events to tenants' webhooks: many at once, few to each, so that one that is dead or slow holds up nobody
else (EVT-3). All database work happens in the calling thread; the others make requests."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from accounts.crypto import DecryptionError
from delivery import chores, queues
from delivery.models import Webhook, WebhookDelivery
from delivery.outgoing import answers, payloads, post, signatures
from delivery.outgoing.answers import Answered
from delivery.outgoing.post import Answer

log = structlog.get_logger(__name__)

THREADS = 32
AT_ONCE = 4
"""Requests to one webhook at the same moment; to one that fails, a single one."""
TROUBLED_AT_ONCE = THREADS // 2
"""Requests to webhooks that have just failed, or answer slowly: the other threads are for those that work."""
QUICK = 1.0
"""Seconds within which a webhook answers that is not slow."""
LEASE = timedelta(minutes=2)
CLAIM = 40
"""Deliveries of one webhook that are claimed together."""
IN_HAND = 10 * CLAIM
"""Deliveries a worker holds at once, of all webhooks."""
LOOK_AGAIN = 0.5
"""Seconds after which a worker that waits for answers looks for more that is due."""
RECORD_EVERY = 0.1
"""Seconds for which answers are gathered, to be recorded in one transaction."""
UNSIGNED = "Not sent: its secret cannot be read. Make a new one."


@dataclass(slots=True)
class _Waiting:
    """A claimed delivery, and what it says."""

    delivery: WebhookDelivery
    event_id: str
    body: bytes


@dataclass(slots=True)
class _UnderWay:
    delivery: WebhookDelivery
    request: post.Request


@dataclass(slots=True)
class _Known:
    """A webhook of this turn, what is claimed for it, and how it has answered."""

    webhook: Webhook
    secrets: dict[str, Any] = field(repr=False)
    failures: int
    waiting: deque[_Waiting] = field(default_factory=deque)
    under_way: int = 0
    slow: bool = False

    @property
    def troubled(self) -> bool:
        return self.slow or self.failures > 0


def deliver(turn: chores.Turn) -> None:
    """Make the requests that are due, until none is or time is up; what was answered is committed as it comes."""
    Posting(turn).run()


def _due() -> bool:
    now = timezone.now()
    # The first look is cheap and nearly always enough; what is due for webhooks that are to be left alone is the rest.
    return WebhookDelivery.objects.filter(next_attempt_at__lte=now).exists() and _ready(now).exists()


CHORE = chores.Chore(name="webhooks", queue=queues.WEBHOOKS, due=_due, run=deliver)


def _ready(now: datetime) -> QuerySet[Webhook]:
    """The webhooks that have something due and may be asked."""
    due = WebhookDelivery.objects.filter(webhook=OuterRef("pk"), next_attempt_at__lte=now)
    may = Q(next_attempt_at=None) | Q(next_attempt_at__lte=now)
    return Webhook.objects.filter(may, Exists(due), enabled=True).defer("secrets").order_by()


class Posting:
    """A worker's turn."""

    def __init__(self, turn: chores.Turn) -> None:
        self.turn = turn
        self.connections = post.pools()
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook")
        self.known: dict[uuid.UUID, _Known] = {}
        self.under_way: dict[Future[Answer], _UnderWay] = {}
        self.answered: list[Answered] = []
        self.found = False
        self.recorded_at = self.filled_at = time.monotonic()
        self.last: set[Future[Answer]] | None = None

    def run(self) -> None:
        try:
            self._fill()
            self._start()
            while self.under_way:
                self._listen()
                if self.turn.out_of_time() and self.last is None:
                    self.last = set(self.under_way)
                # While the last slow answers are waited for, webhooks that are quick need not wait as well.
                if self.last is None or self.last & self.under_way.keys():
                    self._start()
                    self._go_on()
                if time.monotonic() - self.recorded_at > RECORD_EVERY:
                    self._record()
            self._record()
        finally:
            self.threads.shutdown(wait=False, cancel_futures=True)
            self.connections.clear()
            self._let_go(*self.known.values())

    def _go_on(self) -> None:
        """Look for more: at once where nothing is left, now and then for the sake of others."""
        in_hand = any(known.waiting for known in self.known.values())
        if not self.under_way and not in_hand:
            soon = 0.0
        else:
            soon = LOOK_AGAIN if in_hand or not self.found else RECORD_EVERY / 4
        if time.monotonic() - self.filled_at >= soon:
            self._fill()
            self._start()

    # --- what is due ----------------------------------------------------------------------------------------------
    def _fill(self) -> None:
        """Claim what is due for webhooks of which nothing is in hand."""
        self._record()
        self.filled_at = time.monotonic()
        now = timezone.now()
        busy = [pk for pk, known in self.known.items() if known.waiting]
        # Some of them, whichever: of very many, others come to their turn with the next look.
        ready = list(_ready(now).exclude(pk__in=busy).order_by("?")[: 2 * THREADS])
        free = IN_HAND - sum(len(known.waiting) for known in self.known.values())
        share = min(CLAIM, free // max(1, len(ready)))
        self.found = bool(ready)
        for webhook in ready:
            known = self._know(webhook)
            wanted = min(share, self._room_of(known)) if known is None or known.troubled else share
            if wanted > 0:
                self._take_in_hand(known, _claim(webhook, wanted, now))

    def _know(self, webhook: Webhook) -> _Known | None:
        """None for a webhook whose secret cannot be read."""
        known = self.known.get(webhook.pk)
        if known is None or known.webhook.updated_at != webhook.updated_at:
            try:
                secrets = webhook.secrets
                signatures.valid(secrets, timezone.now())
            except DecryptionError as error:
                log.error("webhook cannot be signed", webhook_id=str(webhook.pk), error=str(error))
                return None
            fresh = _Known(webhook, secrets, webhook.failures)
            if known is not None:
                fresh.under_way, fresh.slow = known.under_way, known.slow
            known = self.known[webhook.pk] = fresh
        known.failures = webhook.failures
        return known

    def _take_in_hand(self, known: _Known | None, claimed: Sequence[WebhookDelivery]) -> None:
        if known is None:
            self.answered += [Answered(delivery, Answer(None, UNSIGNED, 0)) for delivery in claimed]
            self._record()
            return
        told = payloads.of_events([delivery.event_id for delivery in claimed])
        for delivery in claimed:
            payload = told.get(delivery.event_id)
            if payload is not None:  # else it was deleted just now, and the delivery with it
                known.waiting.append(_Waiting(delivery, payload["id"], payloads.as_json(payload)))

    def _room(self) -> int:
        return THREADS - len(self.under_way)

    def _room_of(self, known: _Known | None) -> int:
        """How many more requests to a webhook may begin."""
        if known is None:
            return 1
        room = (1 if known.failures >= answers.FAILING else AT_ONCE) - known.under_way
        if not known.troubled:
            return room
        if self.last is not None:
            return 0  # a request that takes long would keep the others waiting for the next turn
        return min(room, TROUBLED_AT_ONCE - sum(one.under_way for one in self.known.values() if one.troubled))

    def _start(self) -> None:
        """Begin as many requests as there is room for, one each in turn, first where the fewest are under way."""
        waiting = [known for known in self.known.values() if known.waiting]
        while waiting and self._room() > 0:
            waiting.sort(key=lambda known: known.under_way)
            known = next((known for known in waiting if self._room_of(known) > 0), None)
            if known is None:
                return
            one = known.waiting.popleft()
            request = post.request(known.webhook.url, known.secrets, one.body, one.event_id, one.delivery.pk)
            self.under_way[self.threads.submit(post.make, request, self.connections)] = _UnderWay(one.delivery, request)
            known.under_way += 1
            if not known.waiting:
                waiting.remove(known)

    # --- what is answered -----------------------------------------------------------------------------------------
    def _listen(self) -> None:
        """Wait for answers, and end requests that are late."""
        done, _ = wait(self.under_way, timeout=RECORD_EVERY, return_when=FIRST_COMPLETED)
        for future, one in list(self.under_way.items()):
            if future in done:
                answer = future.result()
            elif one.request.late(post.LOST):
                answer = post.gave_up(one.request)
            else:
                if one.request.late():
                    one.request.cut()
                continue
            del self.under_way[future]
            self.answered.append(Answered(one.delivery, answer))
            self._note(self.known[one.delivery.webhook_id], answer)

    def _note(self, known: _Known, answer: Answer) -> None:
        known.under_way -= 1
        known.slow = answer.duration_ms >= QUICK * 1000
        known.failures = 0 if answer.good else known.failures + 1
        if not answer.good:
            self._let_go(known)

    def _let_go(self, *known: _Known) -> None:
        """What is in hand for a webhook that fails waits with the rest, and uses up no try."""
        held = [one.delivery for each in known for one in each.waiting]
        for each in known:
            each.waiting.clear()
        for delivery in held:
            # Each as it was: what has waited longest is first again.
            leased = WebhookDelivery.objects.filter(pk=delivery.pk, lease=delivery.lease)
            leased.update(lease=None, next_attempt_at=delivery.next_attempt_at)

    def _record(self) -> None:
        self.recorded_at = time.monotonic()
        if self.answered:
            answered, self.answered = self.answered, []
            answers.record(answered)


def _claim(webhook: Webhook, most: int, now: datetime) -> list[WebhookDelivery]:
    """Deliveries that are due, oldest first, which nobody else makes for as long as LEASE; `next_attempt_at` of what is
    returned is when each was due."""
    lease = uuid.uuid4()
    with transaction.atomic():
        due = WebhookDelivery.objects.filter(webhook=webhook, next_attempt_at__lte=now)
        claimed = list(due.select_for_update(skip_locked=True).order_by("next_attempt_at", "pk")[:most])
        WebhookDelivery.objects.filter(pk__in=[delivery.pk for delivery in claimed]).update(
            lease=lease, next_attempt_at=now + LEASE
        )
    for delivery in claimed:
        delivery.lease = lease
    return claimed
