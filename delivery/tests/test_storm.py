"""A bad day: three services that stumble, one that is down for a while, two workers. Everything arrives or is explained
(PRV-7, PRV-9, PRV-10, RET-1, RET-2, RET-6, DEL-5).

`STORM_MESSAGES` sets how many messages are sent (default 120).
"""

import os
import random
import time
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection

from delivery import intake, sweeper
from delivery.models import DeliveryLog, Message, MessageStatus
from delivery.tests.test_worker_death import accept, until_all_ended
from delivery.tests.workers import Worker
from providers.models import HealthEvent, RoutingRule, RoutingTarget
from providers.tests.factories import ProviderFactory
from providers.tests.standins import MailgunStandIn, PostmarkStandIn, SendGridStandIn
from providers.tests.test_limits import most_in

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(500)]
MESSAGES = int(os.environ.get("STORM_MESSAGES", "120"))
PER_SECOND = 30
RETRY_AFTER = 2.0
DOWN = (2.0, 12.0)
"""From when to when the primary answers nobody, in seconds since its first request."""
UNDER_WAY = 0.5
"""Seconds after a 429 in which calls may still arrive that had left when it was given."""
WEATHER = {"PROVIDER_TIMEOUT": "1.5", "DELIVERY_UNHEALTHY_PAUSE": "10", "SWEEP_INTERVAL": "1"}


class Stormy:
    """Mixed into a stand-in: stumbles now and then as services do, and notes when each request came."""

    def prepare(self):
        super().prepare()
        self.journal = []
        self.throttled = []
        self.faults = Counter()
        self.down = None
        self.chance = random.Random(self.type)

    def entered(self, request):
        with self._lock:
            self.journal.append(time.monotonic())
            slow = self.chance.random() < 0.06
            self.faults["slow"] += slow
        if slow:
            time.sleep(0.8)

    def _ordered(self, request):
        order = {**self._stumble(time.monotonic()), "at": ""}
        self.faults[_name(order)] += 1
        return order

    def _stumble(self, now):
        since = now - self.journal[0]
        if self.down and self.down[0] <= since < self.down[1]:
            return {"status": 503, "body": None, "headers": {}}
        drawn = self.chance.random()
        if drawn < 0.015:
            self.throttled.append(now)
            return {"status": 429, "body": None, "headers": {"Retry-After": f"{RETRY_AFTER:g}"}}
        if drawn < 0.05:
            return {"status": 503, "body": None, "headers": {}}
        if drawn < 0.08:
            return {"reset": True, "take": self.chance.random() < 0.5}
        if drawn < 0.09:
            return {"hang": 2.5, "take": self.chance.random() < 0.5}
        return {}


def _name(order):
    return str(order.get("status") or next((k for k in ("reset", "hang") if k in order), "answered"))


class StormySendGrid(Stormy, SendGridStandIn):
    pass


class StormyPostmark(Stormy, PostmarkStandIn):
    pass


class StormyMailgun(Stormy, MailgunStandIn):
    pass


@pytest.fixture
def services(acme):
    """Two that share the traffic, and a fallback for both; the first is down for a while."""
    with StormySendGrid(delay=0.05) as first, StormyPostmark(delay=0.05) as second, StormyMailgun(delay=0.05) as third:
        rule = RoutingRule.objects.create(tenant=acme, name="all", priority=1)
        for position, service in ((0, first), (0, second), (1, third)):
            provider = ProviderFactory(
                tenant=acme,
                name=service.type,
                type=service.type,
                config=service.config(),
                per_second=PER_SECOND,
                retry_schedule=[1, 1, 2, 2, 3, 3, 5, 5, 5],
            )
            RoutingTarget.objects.create(rule=rule, provider=provider, position=position)
        first.down = DOWN
        yield first, second, third


@pytest.fixture
def workers(tmp_path, broker, monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("a test database in memory cannot be shared with worker processes")
    monkeypatch.setattr(intake, "FIRST_LOOK", timedelta(seconds=10))
    monkeypatch.setattr(sweeper, "RING_AGAIN", timedelta(seconds=10))
    made = [Worker(tmp_path / f"worker-{number}.log", **WEATHER) for number in range(2)]
    yield made
    for worker in made:
        worker.stop()


def too_early(service):
    """Requests that came while the service had asked for quiet."""
    return [
        round(moment - asked, 2)
        for asked in service.throttled
        for moment in service.journal
        if UNDER_WAY < moment - asked < RETRY_AFTER
    ]


def test_everything_arrives_through_a_storm(acme_account, services, workers):
    started = time.monotonic()
    ids = accept(acme_account, MESSAGES)
    until_all_ended(ids, 400)
    took = time.monotonic() - started

    taken = Counter(recipient for s in services for mail in s.accepted for recipient in mail.recipients)
    expected = {f"{kind}{n}@outside.example" for n in range(MESSAGES) for kind in "rs"}
    twice = sum(count - 1 for count in taken.values())
    unknown = sum(len(log.recipients) for log in DeliveryLog.objects.filter(status=DeliveryLog.Status.UNKNOWN))
    print(f"\n{MESSAGES} messages in {took:.0f} s; {twice} duplicates, {unknown} recipients of unknown outcome")
    for service in services:
        print(
            f"{service.type:<9} {len(service.journal)} requests, busiest second {most_in(service.journal, 1)}, "
            f"{sum(len(mail.recipients) for mail in service.accepted)} recipients, {dict(service.faults)}"
        )
    print(list(HealthEvent.objects.order_by("id").values_list("provider__name", "state", "reason")))

    assert Counter(Message.objects.values_list("status", flat=True)) == {MessageStatus.DELIVERED: MESSAGES}
    assert set(taken) == expected
    assert twice <= unknown
    assert [s.refusals for s in services] == [[], [], []]
    for service in services:
        # Over three seconds, because a stand-in on a busy machine is late in reading what has come.
        assert most_in(service.journal, 3) <= 3 * PER_SECOND, service.type
        assert too_early(service) == [], service.type
    assert {"503", "429"} <= set(services[0].faults) | set(services[1].faults)
    assert HealthEvent.objects.filter(provider__name="sendgrid", state="unhealthy").exists()
