"""Totals: what the rows say, hour by hour, and what is left of it when they are gone. STO-5, API-1."""

import random
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection, connections
from django.utils import timezone

from accounts import shared_state
from accounts.ids import first_at
from accounts.models import Account
from delivery import chores, hours, totals
from delivery.models import DeliveryLog, Event, EventType, Message, Recipient, Total
from delivery.tests.factories import DeliveryLogFactory, EventFactory, MessageFactory
from delivery.totals import Group
from providers.models import Provider
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db

NOW = hours.hour_of(timezone.now())
LAST = NOW - hours.HOUR


@pytest.fixture(autouse=True)
def _the_hour_does_not_end(monkeypatch):
    monkeypatch.setattr(timezone, "now", lambda: min(datetime.now(UTC), NOW + timedelta(minutes=59)))


def key_at(moment):
    """A UUIDv7 of that moment, with the random part of a real one."""
    return UUID(int=first_at(moment).int | random.getrandbits(62))


def attempt(message, moment, **values):
    values.setdefault("duration_ms", 100)
    return DeliveryLogFactory(id=key_at(moment), message=message, created_at=moment, **values)


def event(message, moment, type_, **values):
    return EventFactory(id=key_at(moment), message=message, occurred_at=moment, type=type_, **values)


@pytest.fixture
def traffic(acme_account, globex_account):
    """Random rows of four hours, the current one among them."""
    random.seed(4711)
    providers = {account: ProviderFactory(tenant=account.tenant) for account in (acme_account, globex_account)}
    accounts = [acme_account, globex_account]
    for _ in range(60):
        account = random.choice(accounts)
        begun = NOW + timedelta(minutes=random.uniform(-180, 5))
        message = MessageFactory(account=account, size=random.randrange(1, 9999), id=key_at(begun), recipients=[])
        event(message, begun, EventType.RECEIVED)
        for _ in range(random.randrange(3)):
            status = random.choice(DeliveryLog.Status.values)
            duration = None if status == "sending" else random.randrange(60_000)
            attempt(
                message,
                begun + timedelta(minutes=random.uniform(0, 100)),
                provider=providers[account],
                status=status,
                duration_ms=duration,
                recipients=["a@b.example"] * random.randrange(1, 4),
            )
        event(
            message,
            begun + timedelta(minutes=random.uniform(0, 100)),
            random.choice([type_ for type_ in EventType.values if type_ != EventType.RECEIVED]),
        )
    return accounts


def counted(tenant, start, end):
    """Attempts by status, the brute way."""
    found = [a for a in DeliveryLog.objects.all() if start <= hours.time_of(a.pk) < end]
    return Counter(a.status for a in found if tenant is None or a.tenant_id == tenant.pk)


@pytest.mark.parametrize("made", [0, 1, 2], ids=["from rows alone", "from totals", "made twice"])
def test_figures_are_what_counting_every_row_gives(traffic, acme, made):
    for _ in range(made):
        hours.make_due()
    end = NOW + 2 * hours.HOUR
    for tenant in (acme, None):
        start = NOW - 3 * hours.HOUR
        [one] = totals.read(tenant, start, end)
        mine = [a for a in DeliveryLog.objects.all() if tenant is None or a.tenant_id == tenant.pk]
        mine = [a for a in mine if hours.time_of(a.pk) < NOW + hours.HOUR]
        timed = [a.duration_ms for a in mine if a.duration_ms is not None]
        assert Counter(one.attempts) == counted(tenant, start, NOW + hours.HOUR)
        assert one.recipients == sum(len(a.recipients) for a in mine)
        assert one.octets == sum(a.message.size for a in mine)
        assert one.mean_ms == pytest.approx(sum(timed) / len(timed))
        mail = Message.objects.all() if tenant is None else Message.objects.filter(tenant=tenant)
        assert one.accepted == mail.count()


def test_days_are_the_sum_of_their_hours(traffic, acme):
    hours.make_due()
    span = (acme, NOW - timedelta(days=2), NOW + hours.HOUR)
    by_hour, by_day = totals.read(*span, Group.HOUR), totals.read(*span, Group.DAY)
    for day in by_day:
        of_day = [one for one in by_hour if one.key.date() == day.key.date()]
        assert day.sent == sum(one.sent for one in of_day)
        assert day.durations == [
            sum(one.durations[n] for one in of_day if n < len(one.durations)) for n in range(len(day.durations))
        ]


@pytest.mark.parametrize("group", list(Group))
def test_however_it_is_broken_down_nothing_is_lost(traffic, acme, group):
    hours.make_due()
    span = (acme, NOW - timedelta(days=1), NOW + hours.HOUR)
    [whole] = totals.read(*span)
    parts = totals.read(*span, group)
    assert sum(part.sent for part in parts) == whole.sent
    assert sum(part.delivered for part in parts) == whole.delivered
    assert len({part.key for part in parts}) == len(parts)


def test_totals_outlive_the_rows(traffic, acme):
    DeliveryLog.objects.filter(status="sending").update(status="unknown")
    hours.make_due()
    before = totals.read(acme, NOW - timedelta(days=1), NOW)
    for model in (Event, DeliveryLog, Recipient, Message):
        model.objects.all().delete()
    hours.make_due()
    assert totals.read(acme, NOW - timedelta(days=1), NOW) == before
    assert before[0].sent > 0


@pytest.mark.parametrize("group", [None, Group.ACCOUNT, Group.PROVIDER])
def test_totals_outlive_accounts_and_providers(traffic, acme, group):
    DeliveryLog.objects.filter(status="sending").update(status="unknown")
    hours.make_due()
    span = (acme, NOW - timedelta(days=1), NOW)
    before = sum(one.sent for one in totals.read(*span, group))
    for model in (Event, DeliveryLog, Recipient, Message, Account, Provider):
        model.objects.all().delete()
    after = totals.read(*span, group)
    assert sum(one.sent for one in after) == before > 0
    if group is Group.ACCOUNT:
        assert [(one.key, one.label) for one in after] == [(None, "")]


def test_nothing_of_another_tenant_is_in_the_figures(traffic, acme, globex):
    hours.make_due()
    span = (NOW - timedelta(days=1), NOW + hours.HOUR)
    names = {one.label for one in totals.read(acme, *span, Group.PROVIDER)}
    assert names.isdisjoint(one.label for one in totals.read(globex, *span, Group.PROVIDER))
    assert totals.read(None, *span)[0].sent == sum(totals.read(t, *span)[0].sent for t in (acme, globex))


def test_an_attempt_that_ends_late_is_counted_by_its_end(acme, acme_account):
    late = attempt(MessageFactory(account=acme_account), NOW - 5 * hours.HOUR, status="sending", duration_ms=None)
    attempt(MessageFactory(account=acme_account), LAST)
    hours.make_due()
    assert totals.read(acme, NOW - timedelta(days=1), NOW)[0].attempts == {"sending": 1, "delivered": 1}
    DeliveryLog.objects.filter(pk=late.pk).update(status="unknown", duration_ms=7)
    hours.make_due()
    assert totals.read(acme, NOW - timedelta(days=1), NOW)[0].attempts == {"unknown": 1, "delivered": 1}


def test_what_was_written_after_its_hour_was_made_is_counted_with_the_next(acme, acme_account):
    message = MessageFactory(account=acme_account)
    attempt(message, LAST - hours.HOUR)
    hours.make_due()
    attempt(message, LAST - timedelta(seconds=1))
    attempt(message, LAST)
    hours.make_due()
    assert totals.read(acme, NOW - timedelta(days=1), NOW)[0].sent == 3
    assert hours.settled_until() == LAST


def test_days_without_mail_cost_nothing(acme, acme_account):
    attempt(MessageFactory(account=acme_account), NOW - timedelta(days=400))
    attempt(MessageFactory(account=acme_account), LAST)
    assert hours.make_due() == 2
    assert totals.read(acme, NOW - timedelta(days=500), NOW)[0].sent == 2


@pytest.mark.skipif(connection.vendor != "postgresql", reason="threads cannot share SQLite's database in memory")
def test_two_that_make_the_same_hour_make_it_once(transactional_db, acme, acme_account):
    attempt(MessageFactory(account=acme_account), LAST)
    start = threading.Barrier(3)

    def make():
        start.wait()
        hours.make(LAST)
        connections.close_all()

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Total.objects.filter(hour=LAST).count() == 1


def test_what_became_of_messages_is_counted_by_its_word(acme, acme_account):
    message = MessageFactory(account=acme_account)
    event(message, LAST, EventType.DEAD_LETTER, data={"reason": "storage_error"})
    event(message, LAST, EventType.DEAD_LETTER, data={"reason": "Gave up after 5 retries."})
    event(message, LAST, EventType.DEAD_LETTER)
    event(message, LAST, EventType.FAILED)
    provider = ProviderFactory(tenant=acme)
    event(message, LAST, EventType.FAILED, provider=provider, provider_event_id="1")
    event(message, LAST, EventType.BOUNCED, provider=provider, provider_event_id="2")
    hours.make_due()
    [one] = totals.read(acme, LAST, NOW)
    assert one.ended == {"storage_error": 1, "dlq": 2, "failed": 1}
    assert one.told == {"failed": 1, "bounced": 1}


def test_a_rate_is_of_what_is_decided(acme, acme_account):
    message = MessageFactory(account=acme_account)
    for status in ("delivered", "partial", "failed", "retrying", "retrying", "dlq"):
        attempt(message, LAST, status=status)
    [one] = totals.read(acme, LAST, NOW)
    assert (one.sent, one.delivered, one.failed, one.dlq, one.delivery_rate) == (6, 2, 1, 1, 0.5)


def test_without_mail_there_is_nothing_to_divide(acme):
    [one] = totals.read(acme, LAST, NOW)
    assert (one.sent, one.delivery_rate, one.mean_ms, one.p95_ms) == (0, None, None, None)


@pytest.mark.parametrize("spread", [lambda: random.randrange(1, 30_000), lambda: int(random.lognormvariate(5, 1)) + 1])
def test_the_percentile_is_right_to_within_a_tenth(spread):
    random.seed(42)
    durations = sorted(spread() for _ in range(5000))
    kept = hours.Sums()
    for duration in durations:
        kept.note_durations(hours.bound_of(duration), 1)
    assert totals.percentile(kept.durations, 0.95) == pytest.approx(durations[int(5000 * 0.95)], rel=0.1)


def test_the_database_finds_the_same_bound_as_we(acme_account):
    message = MessageFactory(account=acme_account)
    for duration in (0, 1, 3, 100, 59_999, 3_600_000):
        Total.objects.all().delete()
        DeliveryLog.objects.all().delete()
        attempt(message, LAST, duration_ms=duration)
        hours.make(LAST)
        assert Total.objects.get().durations == [0] * hours.bound_of(duration) + [1]


def test_the_chore_goes_on_at_once_when_it_had_no_time(acme_account):
    attempt(MessageFactory(account=acme_account), LAST)
    assert hours.CHORE.due()
    turn = chores.Turn()
    turn._end = 0
    hours.CHORE.run(turn)
    assert not Total.objects.exists()
    assert hours.CHORE.due()
    hours.CHORE.run(chores.Turn())
    assert Total.objects.exists()
    assert not hours.CHORE.due()
    assert shared_state.client().exists(shared_state.key("chore-begun", "totals"))


@pytest.mark.skipif(connection.vendor != "postgresql", reason="what PostgreSQL plans")
def test_an_hour_is_found_by_the_keys_of_its_rows(acme_account, django_assert_max_num_queries):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    for model in (Event, DeliveryLog):
        plan = hours._between(model, LAST, NOW, None).explain()
        assert f"{model._meta.db_table}_pkey" in plan


def test_hours_are_utc():
    assert hours.hour_of(datetime(2026, 1, 1, 5, 30, tzinfo=UTC)).isoformat() == "2026-01-01T05:00:00+00:00"
