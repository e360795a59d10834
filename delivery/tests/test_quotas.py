"""Quotas at acceptance: LIM-1, SMTP-14."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import redis
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import quotas, shared_state
from accounts.ids import uuid7
from accounts.models import QuotaWarning
from accounts.tests.factories import AccountFactory
from delivery import intake, queue, ringing
from delivery.exceptions import Deferred, Rejected
from delivery.models import Message, MessageStatus
from delivery.quotas import count
from delivery.submission import Accepted
from delivery.tests.factories import MessageFactory
from delivery.tests.mail import BytesBody, accepted, submission

pytestmark = [pytest.mark.django_db, pytest.mark.redis]


def limit(owner, **limits):
    """Give a tenant or an account quotas; `minute=5` for example."""
    for period, most in limits.items():
        setattr(owner, f"messages_per_{period}", most)
    owner.save()
    intake.forget_accounts()


def send(account, many=1):
    """The codes of as many messages that end at the same moment; "" for those that came in."""
    answers = intake.accept([submission(account) for _ in range(many)])
    return [getattr(answer, "code", "") for answer in answers]


def used(owner):
    return {str(usage.quota.period): usage.used for usage in quotas.usages(owner)}


@pytest.mark.parametrize("period", ["minute", "hour", "month"])
@pytest.mark.parametrize("whose", ["account", "tenant"])
def test_no_more_come_in_than_a_quota_says(acme_account, broker, period, whose):
    limit(acme_account if whose == "account" else acme_account.tenant, **{period: 3})
    assert send(acme_account) == [""]
    assert send(acme_account, 4) == ["", "", f"quota_{period}", f"quota_{period}"]
    assert send(acme_account) == [f"quota_{period}"]
    assert Message.objects.count() == 3


def test_who_has_no_quota_is_neither_counted_nor_asked_about(acme_account, globex_account, broker, settings):
    settings.SHARED_STATE_URL = "redis://127.0.0.1:9/7"  # nobody answers there
    assert send(acme_account, 5) == [""] * 5
    assert not shared_state.in_use()


def test_a_batch_costs_one_round_trip_whoever_sent_it(acme, acme_account, globex_account, broker, monkeypatch):
    others = [AccountFactory(tenant=acme, allowed_senders=["acme.example"]) for _ in range(5)]
    everybody = [acme_account, globex_account, *others]
    for account in everybody:
        limit(account, minute=100, hour=100, month=1000)
    limit(acme, minute=100, month=1000)
    batch = [submission(account, mail_from="crm@acme.example") for account in (acme_account, *others) for _ in range(5)]
    intake.accept(batch)
    asked, real = [], redis.Redis.execute_command
    monkeypatch.setattr(
        redis.Redis, "execute_command", lambda *args, **more: asked.append(args[1]) or real(*args, **more)
    )
    assert all(isinstance(answer, Accepted) for answer in intake.accept([again(one) for one in batch]))
    assert [command for command in asked if command != "LPUSH"] == ["EVALSHA"]


def again(one):
    import dataclasses

    return dataclasses.replace(one, message_id=uuid7())


def test_a_tenants_quota_is_shared_by_its_accounts_and_by_nobody_else(acme, acme_account, globex_account, broker):
    other = AccountFactory(tenant=acme, allowed_senders=["acme.example"])
    limit(acme, hour=4)
    assert send(acme_account, 3) == [""] * 3
    assert send(other, 2) == ["", "quota_hour"]
    [answer] = intake.accept(
        [submission(globex_account, b"From: a@globex.example\r\n\r\n", mail_from="a@globex.example")]
    )
    assert isinstance(answer, Accepted)


def test_a_refused_message_is_counted_nowhere(acme, acme_account, broker):
    """All or nothing: the account still had room, its tenant had none."""
    limit(acme_account, minute=10, month=10)
    limit(acme, hour=1)
    assert send(acme_account, 3) == ["", "quota_hour", "quota_hour"]
    assert used(acme_account) == {"minute": 1, "month": 1}
    assert used(acme) == {"hour": 1}


def test_a_message_that_breaks_a_rule_is_not_counted(acme_account, broker):
    limit(acme_account, minute=5)
    [answer] = intake.accept([submission(acme_account, mail_from="ceo@globex.example")])
    assert isinstance(answer, Rejected)
    assert used(acme_account) == {"minute": 0}


def test_a_window_slides(acme_account, broker, monkeypatch):
    monkeypatch.setattr(quotas, "MINUTE", 1.2)
    limit(acme_account, minute=2)
    assert send(acme_account) == [""]
    time.sleep(0.7)
    assert send(acme_account, 2) == ["", "quota_minute"]
    time.sleep(0.6)  # the first is out of the window, the second is not
    assert send(acme_account, 2) == ["", "quota_minute"]


def test_no_window_of_any_position_holds_more_than_the_quota(acme_account, broker, monkeypatch):
    monkeypatch.setattr(quotas, "MINUTE", 1.0)
    limit(acme_account, minute=7)
    moments, end = [], time.monotonic() + 3.5
    while time.monotonic() < end:
        before = time.time()
        receipt = quotas.charge([acme_account])
        if receipt.refusals == [None]:
            moments.append((before, time.time()))
        time.sleep(0.003)
    assert 18 <= len(moments) <= 28
    # The eighth was asked for at least a window after the first of eight had been asked for.
    spans = [late[1] - early[0] for early, late in zip(moments, moments[7:], strict=False)]
    assert min(spans) >= 1.0


def test_a_client_that_waits_as_long_as_it_is_told_gets_in(acme_account, broker, monkeypatch):
    monkeypatch.setattr(quotas, "HOUR", 0.9)
    limit(acme_account, hour=1)
    assert send(acme_account) == [""]
    [answer] = intake.accept([submission(acme_account)])
    assert 0 < answer.retry_after <= 0.93
    time.sleep(answer.retry_after)
    assert send(acme_account) == [""]


def test_processes_at_the_same_time_share_a_quota(acme_account, broker):
    """What threads of listeners do: each batch asks the shared store for itself."""
    limit(acme_account, minute=50, month=1000)
    quotas.charge([acme_account])
    taken, guard = [], threading.Lock()

    def ask():
        for _ in range(10):
            receipt = quotas.charge([acme_account] * 3)
            with guard:
                taken.append(receipt.refusals.count(None))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 49
    assert used(acme_account) == {"minute": 50, "month": 50}


class TestTheMonth:
    def test_it_is_counted_from_the_rows_when_the_store_has_lost_it(self, acme_account, broker):
        limit(acme_account, month=5)
        limit(acme_account.tenant, month=50)
        assert send(acme_account, 3) == [""] * 3
        shared_state.forget_everything()
        assert send(acme_account, 3) == ["", "", "quota_month"]
        assert (used(acme_account), used(acme_account.tenant)) == ({"month": 5}, {"month": 5})

    def test_messages_of_the_month_before_are_not_counted(self, acme_account):
        began = quotas.month_began()
        MessageFactory(account=acme_account, id=at(began - timedelta(seconds=1)))
        MessageFactory(account=acme_account, id=at(began))
        MessageFactory(account=acme_account)
        assert count(acme_account, began) == count(acme_account.tenant, began) == 2

    def test_messages_whose_clients_were_told_to_send_again_are_not_counted(self, acme_account):
        MessageFactory(account=acme_account)
        MessageFactory(account=acme_account, status=MessageStatus.ENQUEUE_FAILED)
        began = quotas.month_began()
        assert count(acme_account, began) == count(acme_account.tenant, began) == 1

    def test_another_accounts_messages_are_not_counted(self, acme, acme_account, globex_account):
        MessageFactory(account=acme_account)
        MessageFactory(account=AccountFactory(tenant=acme))
        MessageFactory(account=globex_account)
        began = quotas.month_began()
        assert (count(acme_account, began), count(acme, began)) == (1, 2)

    def test_rows_are_counted_day_by_day(self, acme_account, django_assert_num_queries):
        """No statement runs into the database's time limit."""
        began = timezone.now() - timedelta(days=3, hours=1)
        for hours in (-1, 0, 23.9999, 24, 47, 72, 73):
            MessageFactory(account=acme_account, id=at(began + timedelta(hours=hours)), recipients=[])
        with django_assert_num_queries(6):
            assert count(acme_account, began) == 6
        assert count(acme_account.tenant, began) == 6

    def test_rows_are_counted_by_index(self, acme_account):
        """LIM-1: it may be ten million."""
        if connection.vendor != "postgresql":
            pytest.skip("looks at PostgreSQL's plan")
        with CaptureQueriesContext(connection) as queries:
            count(acme_account, timezone.now() - timedelta(days=1, hours=1))
            count(acme_account.tenant, timezone.now() - timedelta(days=1, hours=1))
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            for query in queries:
                cursor.execute("EXPLAIN " + query["sql"])
                plan = "\n".join(line for (line,) in cursor.fetchall())
                assert "Index Cond" in plan, plan
                assert "id >=" in plan.partition("Index Cond")[2].partition("\n")[0], plan

    def test_a_client_is_told_when_the_next_month_begins(self, acme_account, broker):
        limit(acme_account, month=1)
        assert send(acme_account) == [""]
        [answer] = intake.accept([submission(acme_account)])
        next_month = (quotas.month_began() + timedelta(days=32)).replace(day=1)
        assert f"1 message a month; the next month begins on {next_month:%Y-%m-%d}" in answer.text
        assert answer.retry_after == pytest.approx((next_month - datetime.now(UTC)).total_seconds(), abs=5)

    def test_a_quota_set_again_counts_what_came_in_without_it(self, acme_account, broker):
        limit(acme_account, month=10)
        send(acme_account)
        limit(acme_account, month=None)
        send(acme_account, 4)
        limit(acme_account, month=10)
        quotas.forget(acme_account)
        assert used(acme_account) == {"month": 5}

    def test_a_database_that_cannot_count_defers_those_with_a_quota_only(self, acme_account, globex_account, broker):
        def fails(owner, since):
            from django.db import OperationalError

            raise OperationalError("statement timeout")

        limit(acme_account, month=10)
        quotas.count_with(fails)
        try:
            mine = submission(acme_account)
            other = submission(globex_account, b"From: a@globex.example\r\n\r\n", mail_from="a@globex.example")
            answers = intake.accept([mine, other])
        finally:
            quotas.count_with(count)
        assert [type(answer) for answer in answers] == [Deferred, Accepted]
        assert answers[0].code == "quota_unknown"


def at(moment):
    """A key made at that moment."""
    from accounts.ids import first_at

    return type(uuid7())(int=first_at(moment).int | uuid7().int & (1 << 62) - 1)


class TestCountsAreGivenBack:
    @pytest.fixture(autouse=True)
    def _limited(self, acme_account, broker):
        limit(acme_account, minute=3, hour=3, month=3)
        limit(acme_account.tenant, month=30)

    def nothing_is_counted(self, account):
        return used(account) == {"minute": 0, "hour": 0, "month": 0} and used(account.tenant) == {"month": 0}

    def test_when_the_body_is_not_stored(self, acme_account):
        class Broken(BytesBody):
            def open(self):
                raise OSError("disk gone")

        good, bad = submission(acme_account), submission(acme_account)
        object.__setattr__(bad, "body", Broken(bad.body.raw))
        assert [type(answer) for answer in intake.accept([bad, good])] == [Deferred, Accepted]
        assert used(acme_account) == {"minute": 1, "hour": 1, "month": 1}
        assert used(acme_account.tenant) == {"month": 1}

    def test_when_it_is_too_late(self, acme_account):
        intake.accept([submission(acme_account)], within=-1.0)
        assert self.nothing_is_counted(acme_account)

    def test_when_the_broker_is_away(self, acme_account, monkeypatch):
        def away(ids, *_):
            raise queue.RingFailed("away")

        monkeypatch.setattr(queue, "ring", away)
        monkeypatch.setattr(ringing, "RING_WAITS", (0.01,))
        assert send(acme_account, 3) == ["enqueue_failed"] * 3
        assert self.nothing_is_counted(acme_account)
        shared_state.forget_everything()
        assert self.nothing_is_counted(acme_account)

    def test_when_something_unforeseen_happens(self, acme_account, monkeypatch):
        def fails(*_):
            raise RuntimeError("unforeseen")

        monkeypatch.setattr(intake, "_insert", fails)
        assert send(acme_account) == ["internal"]
        assert self.nothing_is_counted(acme_account)

    def test_when_a_message_is_withdrawn_for_its_month(self, acme_account):
        message = accepted(acme_account)
        assert intake.withdraw(message.pk)
        assert used(acme_account)["month"] == 0
        assert used(acme_account.tenant)["month"] == 0


class TestWithoutTheSharedStore:
    """Mail comes in uncounted: a message that is refused may be lost, a quota that is exceeded is counted later."""

    @pytest.fixture
    def away(self, settings, monkeypatch):
        alive = settings.SHARED_STATE_URL
        monkeypatch.setattr(quotas, "AWAY", 0.2)

        def switch(is_away):
            settings.SHARED_STATE_URL = "redis://127.0.0.1:9/0" if is_away else alive
            if not is_away:
                time.sleep(0.25)

        yield switch
        settings.SHARED_STATE_URL = alive

    def test_messages_come_in_and_the_log_tells(self, acme_account, broker, away, caplog):
        limit(acme_account, minute=1)
        away(True)
        assert send(acme_account, 3) == [""] * 3
        assert "messages not counted" in caplog.text
        assert [usage.used for usage in quotas.usages(acme_account)] == [None]

    def test_the_months_figure_holds_them_when_the_store_is_back(self, acme_account, broker, away):
        limit(acme_account, month=5)
        assert send(acme_account) == [""]
        away(True)
        assert send(acme_account, 3) == [""] * 3
        away(False)
        assert send(acme_account, 2) == ["", "quota_month"]

    def test_what_could_not_be_given_back_does_not_stay_in_the_months_figure(
        self, acme_account, broker, away, monkeypatch
    ):
        limit(acme_account, month=3)
        limit(acme_account.tenant, month=30)
        insert = intake._insert

        def fails(*_):
            away(True)
            raise RuntimeError("unforeseen")

        monkeypatch.setattr(intake, "_insert", fails)
        assert send(acme_account, 3) == ["internal"] * 3
        away(False)
        assert used(acme_account) == used(acme_account.tenant) == {"month": 0}
        monkeypatch.setattr(intake, "_insert", insert)
        assert send(acme_account, 3) == [""] * 3

    def test_nobody_waits_for_it_again_and_again(self, acme_account, broker, away, monkeypatch):
        monkeypatch.setattr(quotas, "AWAY", 60.0)
        limit(acme_account, minute=1)
        away(True)
        send(acme_account)
        away(False)
        assert send(acme_account, 2) == [""] * 2  # it is not asked yet


class TestWarnings:
    def told(self):
        return list(QuotaWarning.objects.order_by("id").values_list("percent", flat=True))

    def test_they_come_at_80_90_and_100_percent_once_each(self, acme_account, broker, caplog):
        limit(acme_account, month=10)
        seen = []
        for _ in range(10):
            assert send(acme_account) == [""]
            seen.append(len(self.told()))
        assert seen == [0, 0, 0, 0, 0, 0, 0, 1, 2, 3]
        send(acme_account, 3)
        assert self.told() == [80, 90, 100]
        warning = QuotaWarning.objects.first()
        assert (warning.account, warning.tenant, warning.used, warning.most) == (
            acme_account,
            acme_account.tenant,
            10,
            10,
        )
        lines = [record for record in caplog.records if "used up" in record.getMessage()]
        assert len(lines) == 3
        assert {record.levelname for record in lines} == {"WARNING"}

    def test_they_are_not_repeated_by_another_process_nor_after_the_store_has_lost_all(self, acme_account, broker):
        limit(acme_account, month=4)
        send(acme_account, 4)
        from accounts import quota_warnings

        quota_warnings.forget_noted()
        shared_state.forget_everything()
        send(acme_account)
        assert self.told() == [80, 90, 100]

    def test_a_tenants_own_are_apart_from_its_accounts(self, acme_account, broker):
        limit(acme_account, month=5)
        limit(acme_account.tenant, month=5)
        send(acme_account, 4)
        assert sorted((w.account_id is None, w.percent) for w in QuotaWarning.objects.all()) == [
            (False, 80),
            (True, 80),
        ]

    def test_a_raised_quota_warns_anew(self, acme_account, broker):
        limit(acme_account, month=5)
        send(acme_account, 4)
        limit(acme_account, month=8)
        send(acme_account, 3)
        assert [(w.most, w.percent) for w in QuotaWarning.objects.order_by("id")] == [(5, 80), (8, 80)]

    def test_what_was_given_back_warns_nobody(self, acme_account, broker):
        limit(acme_account, month=5)
        intake.accept([submission(acme_account) for _ in range(5)], within=-1.0)
        assert self.told() == []
