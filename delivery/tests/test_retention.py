"""Bodies, rows and copies go when their days are over, and nothing else does. STO-5, RET-5, EVT-4."""

import contextlib
import random
import threading
from datetime import timedelta
from uuid import UUID

import pytest
from django.apps import apps
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections, transaction
from django.utils import timezone
from structlog.testing import capture_logs

from accounts.ids import first_at
from accounts.models import QuotaWarning, Tenant
from accounts.tests.factories import QuotaWarningFactory
from delivery import chores, control, deletion, expiry, hours, intake, retention, store
from delivery.exceptions import BodyNotFound, StoreUnavailable
from delivery.models import (
    DEAD_LETTERS,
    ENDED_STATUSES,
    ArchiveCopy,
    BulkAction,
    DeliveryLog,
    Event,
    EventType,
    Message,
    MessageStatus,
    Notice,
    OutboxEntry,
    Receipt,
    Recipient,
    Webhook,
    WebhookAttempt,
    WebhookDelivery,
)
from delivery.tests.factories import (
    ArchiveCopyFactory,
    DeliveryLogFactory,
    EventFactory,
    MessageFactory,
    SuppressionFactory,
)
from delivery.tests.mail import accepted, raw_message, submission
from providers.models import HealthEvent
from providers.tests.factories import HealthEventFactory

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def old(days):
    """A key and a time so many days ago."""
    moment = timezone.now() - days * DAY
    return {"id": UUID(int=first_at(moment).int | random.getrandbits(62))}, moment


def ended(account, days, status=MessageStatus.DELIVERED, **values):
    """A message that ended so many days ago, with a row of each kind that belongs to it."""
    key, moment = old(days)
    message = MessageFactory(account=account, status=status, accepted_at=moment, finished_at=moment, **key, **values)
    EventFactory(message=message, id=old(days)[0]["id"], occurred_at=moment, type=EventType.DELIVERED)
    DeliveryLogFactory(message=message, id=old(days)[0]["id"], created_at=moment)
    return message


def stored(account, days, status=MessageStatus.DELIVERED):
    """A message with a body in the store that ended so many days ago."""
    sender = f"crm@{account.tenant.slug}.example"
    message = accepted(account, raw_message(sender=sender), mail_from=sender)
    Message.objects.filter(pk=message.pk).update(
        status=status, next_attempt_at=None, finished_at=timezone.now() - days * DAY
    )
    message.refresh_from_db()
    return message


def has_body(message):
    try:
        return bool(store.read(message.store_key))
    except BodyNotFound:
        return False


def settle():
    """Every hour of the rows is added up."""
    while hours.make_due():
        before = hours.settled_until()
        hours.make_due()
        if hours.settled_until() == before:
            return


@pytest.fixture(autouse=True)
def _quick(settings):
    settings.RETENTION_RATE = 0


class TestBodies:
    @pytest.mark.parametrize("status", ENDED_STATUSES)
    def test_a_body_is_kept_for_the_days_of_its_status(self, acme, acme_account, broker, status):
        days = acme.dead_letter_days if status in DEAD_LETTERS else acme.body_days
        young, over = stored(acme_account, days - 0.01, status), stored(acme_account, days + 0.01, status)
        assert retention.delete_bodies(acme) == 1
        over.refresh_from_db()
        assert over.body_deleted_at is not None
        assert not has_body(over)
        young.refresh_from_db()
        assert young.body_deleted_at is None
        assert has_body(young)

    @pytest.mark.parametrize("status", sorted(set(MessageStatus.values) - set(ENDED_STATUSES)))
    def test_what_has_not_ended_keeps_its_body_however_old_it_is(self, acme, acme_account, status):
        key, moment = old(3000)
        MessageFactory(account=acme_account, status=status, accepted_at=moment, finished_at=None, **key)
        assert retention.delete_bodies(acme) == 0
        settle()
        assert retention.delete_messages(acme) == 0

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no clock of its own")
    def test_a_worker_whose_clock_is_ahead_deletes_nothing_early(self, acme, acme_account, broker, monkeypatch):
        message = stored(acme_account, 0)
        copy_of(message, status="kept", store_key="")
        real = timezone.now
        monkeypatch.setattr(timezone, "now", lambda: real() + 3650 * DAY)
        with capture_logs() as logs:
            retention.run(chores.Turn())
        assert has_body(message)
        assert Message.objects.exists()
        assert ArchiveCopy.objects.exists()
        assert "clock differs from the database's" in [entry["event"] for entry in logs]

    @pytest.mark.parametrize("status", ["delivered", "dlq"])
    def test_of_days_that_contradict_each_other_the_longer_ones_count(self, acme, acme_account, broker, status):
        Tenant.objects.filter(pk=acme.pk).update(body_days=9, dead_letter_days=9, row_days=2)
        acme.refresh_from_db()
        message = stored(acme_account, 5, status)
        ended(acme_account, 1 / 24)
        settle()
        retention.run(chores.Turn())
        assert has_body(message)
        assert Message.objects.filter(pk=message.pk, body_deleted_at=None).exists()

    def test_other_tenants_have_days_of_their_own(self, acme, globex, acme_account, globex_account, broker):
        Tenant.objects.filter(pk=globex.pk).update(body_days=60)
        stored(acme_account, 20)
        kept = stored(globex_account, 20)
        retention.run(chores.Turn())
        assert [m.pk for m in Message.objects.filter(body_deleted_at=None)] == [kept.pk]

    def test_the_neighbours_in_a_pack_stay(self, acme, acme_account, broker):
        intake.accept([submission(acme_account) for _ in range(3)])
        first, *others = Message.objects.order_by("pk")
        assert ".pack/" in first.store_key
        Message.objects.filter(pk=first.pk).update(
            status="delivered", next_attempt_at=None, finished_at=timezone.now() - 8 * DAY
        )
        retention.delete_bodies(acme)
        assert [has_body(message) for message in (first, *others)] == [False, True, True]

    def test_a_message_tried_again_meanwhile_keeps_its_body(self, acme, acme_account, broker, monkeypatch):
        message = stored(acme_account, 40, MessageStatus.DLQ)
        assert expiry.bodies(acme, timezone.now()).exists()
        control.retry([message.pk], actor=None)
        assert retention.delete_bodies(acme) == 0
        assert has_body(message)

    def test_a_message_without_its_body_is_not_tried_again(self, acme, acme_account, broker):
        message = stored(acme_account, 40, MessageStatus.DLQ)
        retention.delete_bodies(acme)
        assert control.retry([message.pk], actor=None).refused

    def test_who_is_still_to_be_told_is_told_first(self, acme, acme_account, broker):
        message = stored(acme_account, 40, MessageStatus.FAILED)
        notice = Notice.objects.create(tenant=acme, message=message, kind="dsn", created_at=timezone.now())
        assert retention.delete_bodies(acme) == 0
        Notice.objects.filter(pk=notice.pk).update(status="done")
        assert retention.delete_bodies(acme) == 1

    def test_a_copy_that_is_wanted_again_at_the_same_moment_keeps_its_body(self, acme, acme_account, broker):
        message = stored(acme_account, acme.body_days + 1)
        with _after_the_choice(lambda: copy_of(message, status="pending", next_attempt_at=timezone.now())):
            assert retention.delete_bodies(acme) == 0
        assert has_body(message)
        message.refresh_from_db()
        assert message.body_deleted_at is None

    def test_what_is_to_be_archived_is_archived_first(self, acme, acme_account, broker):
        message = stored(acme_account, 20)
        copy = copy_of(message)
        assert retention.delete_bodies(acme) == 0
        ArchiveCopy.objects.filter(pk=copy.pk).update(status="failed")
        assert retention.delete_bodies(acme) == 0, "somebody may try again"
        ArchiveCopy.objects.filter(pk=copy.pk).update(created_at=timezone.now() - 31 * DAY)
        assert retention.delete_bodies(acme) == 1

    def test_a_store_that_is_away_leaves_the_body_and_a_row_that_does_not_promise_it(self, acme, acme_account, broker):
        message = stored(acme_account, 8)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(store._storage()), "delete", _fail)
            with capture_logs() as logs:
                retention.run(chores.Turn())
        message.refresh_from_db()
        assert message.body_deleted_at is not None
        assert has_body(message)
        assert "retention stopped by the message store" in [entry["event"] for entry in logs]

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="threads cannot share SQLite's database in memory")
    def test_two_at_once_delete_everything_and_trip_over_nothing(
        self, transactional_db, acme, acme_account, broker, monkeypatch
    ):
        monkeypatch.setattr(retention, "BATCH", 3)
        messages = [stored(acme_account, 8) for _ in range(20)]
        counts = []

        def work():
            tally = retention.Tally()
            retention.visit(acme, chores.Turn(), tally, retention.Pace())
            counts.append(tally.bodies)
            connections.close_all()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while retention.delete_bodies(acme):
            counts.append(1)
        assert not any(map(has_body, messages))
        assert sum(counts) >= 20


def _fail(*_):
    raise OSError(5, "Input/output error")


@contextlib.contextmanager
def _after_the_choice(write):
    """Has something written between the statement that chooses messages and whatever comes next."""
    waiting = [write]

    def wrapper(execute, sql, *rest):
        result = execute(sql, *rest)
        if waiting and 'ORDER BY "delivery_message"."finished_at"' in sql:
            waiting.pop()()
        return result

    with connection.execute_wrapper(wrapper):
        yield
    assert not waiting


def copy_of(message, **values):
    return ArchiveCopyFactory(message=message, **values)


class TestMessages:
    def test_a_message_goes_with_everything_that_belongs_to_it(self, acme, acme_account):
        message = ended(acme_account, 91, body_deleted_at=timezone.now())
        kept = ended(acme_account, 89, body_deleted_at=timezone.now())
        copy_of(message, status="kept")
        Notice.objects.create(tenant=acme, message=message, kind="dsn", status="done", created_at=timezone.now())
        webhook = Webhook.objects.create(tenant=acme, name="crm", url="https://crm.example/")
        delivery = WebhookDelivery.objects.create(
            tenant=acme, webhook=webhook, event=message.events.get(), status="delivered", created_at=timezone.now()
        )
        WebhookAttempt.objects.create(delivery=delivery, created_at=timezone.now())
        suppression = SuppressionFactory(tenant=acme, message=message)
        settle()
        assert retention.delete_messages(acme) == 1
        connection.check_constraints()
        assert Message.objects.get() == kept
        suppression.refresh_from_db()
        assert suppression.message is None
        for model in (Recipient, Event):
            assert {row.message_id for row in model.objects.all()} == {kept.pk}
        assert DeliveryLog.objects.filter(message_id=message.pk).count() == 0
        for model in (Notice, WebhookDelivery, WebhookAttempt):
            assert not model.objects.exists()
        assert ArchiveCopy.objects.count() == 1, "copies have days of their own"

    def test_every_model_that_points_at_a_message_is_thought_of(self):
        """Rows deleted by statements of our own: a new model would stand in the way, or lose what it points at."""
        known = {"event", "notice", "deliverylog", "recipient", "archivecopy", "receipt", "suppression"}
        pointing = {relation.related_model._meta.model_name for relation in Message._meta.related_objects}
        hidden = {
            model._meta.model_name
            for model in apps.get_models()
            for field in model._meta.fields
            if field.remote_field and field.remote_field.model in {Message, Event, DeliveryLog, Recipient}
        }
        assert pointing | hidden <= known | {"outboxentry", "webhookdelivery"}

    def test_rows_wait_until_their_hours_are_added_up(self, acme, acme_account):
        ended(acme_account, 91, body_deleted_at=timezone.now())
        assert retention.delete_messages(acme) == 0
        settle()
        ended(acme_account, 1, body_deleted_at=timezone.now())
        settle()
        assert retention.delete_messages(acme) == 1

    def test_rows_wait_until_their_body_is_gone(self, acme, acme_account, broker):
        message = ended(acme_account, 91)
        ended(acme_account, 1)
        settle()
        assert retention.delete_messages(acme) == 0
        assert retention.delete_bodies(acme) == 1
        assert retention.delete_messages(acme) == 1
        assert not Message.objects.filter(pk=message.pk).exists()

    def test_rows_wait_until_subscribers_are_told(self, acme, acme_account):
        message = ended(acme_account, 91, body_deleted_at=timezone.now())
        late = EventFactory(message=message, type=EventType.COMPLAINED, **old(3)[0])
        ended(acme_account, 1)
        settle()
        entry = OutboxEntry.objects.create(tenant=acme, event=late, channel="webhooks", **old(3)[0])
        assert retention.delete_messages(acme) == 0
        entry.delete()
        webhook = Webhook.objects.create(tenant=acme, name="crm", url="https://crm.example/")
        delivery = WebhookDelivery.objects.create(
            tenant=acme, webhook=webhook, event=late, created_at=timezone.now(), next_attempt_at=timezone.now()
        )
        assert retention.delete_messages(acme) == 0
        WebhookDelivery.objects.filter(pk=delivery.pk).update(status="failed", next_attempt_at=None)
        assert retention.delete_messages(acme) == 1

    def test_a_webhook_that_is_disabled_keeps_nothing_for_ever(self, acme, acme_account):
        message = ended(acme_account, 91, body_deleted_at=timezone.now())
        late = EventFactory(message=message, type=EventType.COMPLAINED, **old(3)[0])
        ended(acme_account, 1)
        settle()
        webhook = Webhook.objects.create(tenant=acme, name="crm", url="https://crm.example/", enabled=False)
        WebhookDelivery.objects.create(
            tenant=acme, webhook=webhook, event=late, created_at=timezone.now(), next_attempt_at=timezone.now()
        )
        assert retention.delete_messages(acme) == 1
        assert not WebhookDelivery.objects.exists()

    def test_rows_wait_until_whoever_is_to_be_told_of_them_is(self, acme, acme_account):
        """A bounce may be heard of long after the body is gone."""
        message = ended(acme_account, 91, body_deleted_at=timezone.now())
        ended(acme_account, 1)
        settle()
        notice = Notice.objects.create(
            tenant=acme, message=message, created_at=timezone.now(), next_attempt_at=timezone.now()
        )
        assert retention.delete_messages(acme) == 0
        Notice.objects.filter(pk=notice.pk).update(status="done", next_attempt_at=None)
        assert retention.delete_messages(acme) == 1

    @pytest.mark.parametrize("ago", [timedelta(0), timedelta(hours=20)], ids=["not made yet", "may be made again"])
    def test_what_was_heard_of_late_is_in_the_totals_for_good(self, acme, acme_account, ago):
        message = ended(acme_account, 91, body_deleted_at=timezone.now())
        moment = timezone.now() - ago
        key = UUID(int=first_at(moment).int | random.getrandbits(62))
        EventFactory(message=message, id=key, occurred_at=moment, type=EventType.COMPLAINED, provider_event_id="e1")
        ended(acme_account, 1 / 24)
        settle()
        assert retention.delete_messages(acme) == 0
        Event.objects.filter(pk=key).update(id=UUID(int=first_at(moment - DAY).int | 1))
        assert retention.delete_messages(acme) == 1

    def test_what_is_written_while_messages_are_looked_for_is_seen(self, acme, acme_account):
        """A lock says nothing of other tables: they may have changed since the statement that took it began."""
        message = ended(acme_account, 91, body_deleted_at=timezone.now())
        ended(acme_account, 1)
        settle()
        with _after_the_choice(lambda: Notice.objects.create(tenant=acme, message=message, created_at=timezone.now())):
            assert retention.delete_messages(acme) == 0
        assert Message.objects.filter(pk=message.pk).exists()

    def test_a_message_that_was_held_for_years_and_then_sent_stays_its_days(self, acme, acme_account):
        key, moment = old(900)
        MessageFactory(
            account=acme_account,
            status="delivered",
            accepted_at=moment,
            finished_at=timezone.now() - DAY,
            body_deleted_at=timezone.now(),
            **key,
        )
        ended(acme_account, 0.2)
        settle()
        assert retention.delete_messages(acme) == 0

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no row locks")
    def test_what_somebody_holds_locked_is_left(self, transactional_db, acme, acme_account):
        message = ended(acme_account, 91, body_deleted_at=timezone.now())
        ended(acme_account, 1)
        settle()
        held, go = threading.Event(), threading.Event()

        def hold():
            with transaction.atomic():
                Message.objects.select_for_update().get(pk=message.pk)
                held.set()
                go.wait(10)
            connections.close_all()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(10)
        assert retention.delete_messages(acme) == 0
        go.set()
        thread.join()
        assert retention.delete_messages(acme) == 1

    def test_a_crash_in_the_middle_deletes_nothing(self, acme, acme_account, monkeypatch):
        ended(acme_account, 91, body_deleted_at=timezone.now())
        ended(acme_account, 1)
        settle()
        real = deletion.rows

        def die(found):
            if found.model is Message:
                raise KeyboardInterrupt
            return real(found)

        monkeypatch.setattr(deletion, "rows", die)
        with pytest.raises(KeyboardInterrupt):
            retention.delete_messages(acme)
        monkeypatch.undo()
        assert Message.objects.count() == Recipient.objects.count() == Event.objects.count() == 2


class TestCopies:
    def test_copies_go_after_their_days_row_first(self, acme, acme_account, broker):
        message = stored(acme_account, 1)
        over, young = (copy_of(message, status="kept", created_at=old(days)[1]) for days in (366, 364))
        for copy, days in ((over, 366), (young, 364)):
            ArchiveCopy.objects.filter(pk=copy.pk).update(id=old(days)[0]["id"])
        assert retention.delete_copies(acme) == 1
        assert ArchiveCopy.objects.get().delivery_log_id == young.delivery_log_id

    def test_copies_are_kept_for_ever_where_that_is_wanted(self, acme, acme_account, broker):
        acme.archive_days = None
        copy = copy_of(stored(acme_account, 1), status="kept", created_at=old(9000)[1])
        ArchiveCopy.objects.filter(pk=copy.pk).update(id=old(9000)[0]["id"])
        assert retention.delete_copies(acme) == 0


class TestRounds:
    def test_everybody_comes_to_their_turn_however_much_one_has(
        self, acme, globex, acme_account, globex_account, monkeypatch
    ):
        monkeypatch.setattr(retention, "BATCH", 2)
        monkeypatch.setattr(retention, "VISIT", 1)
        for account in (acme_account, globex_account):
            for _ in range(3):
                MessageFactory(account=account, status="delivered", finished_at=timezone.now() - 8 * DAY)
        assert retention.CHORE.due()
        retention.run(chores.Turn())
        left = Message.objects.filter(body_deleted_at=None)
        assert {message.tenant_id for message in left} == {acme.pk, globex.pk}
        assert left.count() == 2
        assert retention.CHORE.due(), "there is more to do"
        retention.run(chores.Turn())
        assert not left.all().exists()
        assert not retention.CHORE.due()

    def test_a_round_that_had_no_time_goes_on_with_the_next_tenant(self, acme, globex, acme_account, globex_account):
        for account in (acme_account, globex_account):
            MessageFactory(account=account, status="delivered", finished_at=timezone.now() - 8 * DAY)
        turn = chores.Turn()
        turn._end = 0
        retention.run(turn)
        assert Message.objects.filter(body_deleted_at=None).count() == 1
        retention.run(turn)
        assert Message.objects.filter(body_deleted_at=None).count() == 0

    def test_without_the_shared_store_a_round_begins_anew(self, acme, acme_account, settings):
        MessageFactory(account=acme_account, status="delivered", finished_at=timezone.now() - 8 * DAY)
        settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"
        retention.run(chores.Turn())
        assert Message.objects.get().body_deleted_at is not None

    def test_no_more_are_deleted_in_a_second_than_are_allowed(self, settings):
        settings.RETENTION_RATE = 100
        pace, begun = retention.Pace(), retention.monotonic()
        pace.wait(10)
        pace.wait(10)
        assert 0.19 < retention.monotonic() - begun < 1


class TestOtherRows:
    def test_what_was_only_of_use_for_a_while_goes(self, acme, acme_account):
        message = MessageFactory(account=acme_account)
        webhook = Webhook.objects.create(tenant=acme, name="crm", url="https://crm.example/")
        done = {"status": "delivered", "webhook": webhook, "tenant": acme}
        for days in (31, 29):
            key, moment = old(days)
            event = EventFactory(message=message)
            Receipt.objects.create(account=acme_account, source="amqp", key=str(days), created_at=moment, **key)
            Notice.objects.create(tenant=acme, message=message, kind="dsn", status="done", created_at=moment, **key)
            delivery = WebhookDelivery.objects.create(event=event, created_at=moment, **key, **done)
            WebhookAttempt.objects.create(delivery=delivery, created_at=moment)
        key, moment = old(31)
        Notice.objects.create(tenant=acme, message=message, kind="email", status="pending", created_at=moment, **key)
        for days in (91, 89):
            HealthEventFactory(**old(days)[0])
        for number, days in enumerate((401, 399)):
            QuotaWarningFactory(account=acme_account, percent=80 + 10 * number, **old(days)[0])
            BulkAction.objects.create(action="hold", status="done", finished_at=timezone.now(), **old(days)[0])
        retention.run(chores.Turn())
        counts = {model: model.objects.count() for model in (Receipt, WebhookDelivery, WebhookAttempt)}
        assert set(counts.values()) == {1}
        assert sorted(Notice.objects.values_list("status", flat=True)) == ["done", "pending"]
        assert HealthEvent.objects.count() == QuotaWarning.objects.count() == BulkAction.objects.count() == 1

    def test_much_of_them_takes_more_than_one_turn(self, acme_account, monkeypatch):
        monkeypatch.setattr(retention, "BATCH", 1)
        for _ in range(3):
            HealthEventFactory(**old(91)[0])
        assert retention.CHORE.due()
        turn = chores.Turn()
        asked = iter([False] * Tenant.objects.count())
        turn.out_of_time = lambda: next(asked, True)
        retention.run(turn)
        assert HealthEvent.objects.count() == 2
        assert retention.CHORE.due()

    def test_sessions_that_have_ended_go(self, client):
        for days in (-1, 1):
            Session.objects.create(session_key=str(days), session_data="", expire_date=timezone.now() + days * DAY)
        retention.run(chores.Turn())
        assert Session.objects.get().session_key == "1"


class TestCommand:
    def test_a_dry_run_counts_and_deletes_nothing(self, acme, globex, acme_account, capsys):
        ended(acme_account, 91, body_deleted_at=timezone.now())
        ended(acme_account, 10)
        settle()
        call_command("retention", "--dry-run")
        assert capsys.readouterr().out.splitlines() == [
            "acme: 1 bodies, 1 messages, 0 archive copies",
            "globex: 0 bodies, 0 messages, 0 archive copies",
        ]
        assert Message.objects.filter(body_deleted_at=None).count() == 1

    def test_it_deletes_to_the_end(self, acme, acme_account, capsys, monkeypatch):
        monkeypatch.setattr(retention, "BATCH", 1)
        monkeypatch.setattr(retention, "VISIT", 1)
        for _ in range(3):
            ended(acme_account, 10)
        call_command("retention", "--tenant", "acme")
        assert capsys.readouterr().out == "acme: 3 bodies, 0 messages, 0 archive copies\n"

    def test_an_unknown_tenant_is_named(self, db):
        with pytest.raises(CommandError, match="initech"):
            call_command("retention", "--tenant", "initech")

    def test_a_store_that_is_away_is_told_of(self, acme, acme_account, monkeypatch):
        ended(acme_account, 10)
        monkeypatch.setattr(type(store._storage()), "delete", _fail)
        with pytest.raises(CommandError, match="message store failed"):
            call_command("retention")
        with pytest.raises(StoreUnavailable):
            store.delete("a/b")


@pytest.mark.parametrize("field", ["body_days", "dead_letter_days"])
def test_rows_are_not_kept_for_a_shorter_time_than_their_bodies(acme, field):
    setattr(acme, field, acme.row_days + 1)
    with pytest.raises(ValidationError, match="Rows are kept"):
        acme.full_clean()
