"""DEL-9, RET-5: actions on all that a filter finds, a page at a time: none twice, none skipped, nobody else's."""

import threading
from collections import Counter
from contextlib import suppress
from datetime import timedelta

import pytest
from django.core.exceptions import PermissionDenied
from django.db import OperationalError, connection
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import AuditEntry, User
from accounts.tests.factories import UserFactory
from delivery import bulk, chores, filters, sweeper, walk
from delivery.filters import MessageFilter
from delivery.models import BulkAction, Event, Message, MessageStatus, Recipient
from delivery.tests.factories import MessageFactory
from providers.models import Provider
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db
COMMAND = "manage.py messages"
EVERY = MessageFilter()


@pytest.fixture
def anna(acme):
    return UserFactory(tenant=acme, role="admin", email="anna@acme.example")


def many(account, number, status="queued", **values):
    """Rows in the order of their ids."""
    now = timezone.now()
    due = now + timedelta(hours=1) if status in {"queued", "retrying", "scheduled"} else None
    rows = Message.objects.bulk_create(
        Message(
            id=uuid7(),
            tenant=account.tenant,
            account=account,
            status=status,
            mail_from="crm@acme.example",
            subject=f"Number {index}",
            size=1,
            recipient_count=1,
            store_key=f"tests/{index}",
            accepted_at=now,
            next_attempt_at=due,
            **values,
        )
        for index in range(number)
    )
    return [row.pk for row in rows]


def done(row):
    """Work it off as a worker would, and look at it again."""
    bulk.run(chores.Turn())
    row.refresh_from_db()
    return row


def counted(row):
    return (row.changed, row.refused, row.reasons)


def test_five_thousand_messages_are_touched_once_each_though_workers_die_in_the_middle(
    acme_account, globex_account, broker, anna, monkeypatch
):
    mine, theirs = many(acme_account, 5000), many(globex_account, 50)
    row = bulk.begin("hold", EVERY, actor=anna)
    assert (row.counted, row.tenant_id) == (5000, acme_account.tenant_id)
    late = many(acme_account, 3)
    save, crashes = BulkAction.save, iter([False, True, False, False, True, True] + [False] * 100)

    def save_unless_the_worker_dies(self, **values):
        if next(crashes):
            raise OperationalError("the connection is gone")  # its transaction goes with it
        save(self, **values)

    monkeypatch.setattr(BulkAction, "save", save_unless_the_worker_dies)
    deaths = 0
    while row.status == "running":
        try:
            done(row)
        except OperationalError:
            deaths += 1
    assert (deaths, row.status, counted(row)) == (3, "done", (5000, 0, {}))
    held = Counter(Event.objects.filter(type="held").values_list("message", flat=True))
    assert held == dict.fromkeys(mine, 1)
    assert set(Message.objects.filter(status="held").values_list("pk", flat=True)) == set(mine)
    untouched = Message.objects.filter(pk__in=[*theirs, *late])
    assert set(untouched.values_list("status", flat=True)) == {"queued"}


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_touch_each_message_once(acme_account, broker, monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("a database in memory has one connection")
    monkeypatch.setattr(bulk, "PAGE", 20)
    ids = many(acme_account, 600)
    rows = [bulk.begin("hold", EVERY, actor=COMMAND) for _ in range(2)]

    def work():
        try:
            while bulk.due():
                bulk.run(chores.Turn())
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row in rows:
        row.refresh_from_db()
    assert [row.status for row in rows] == ["done", "done"]
    assert sum(row.changed for row in rows) == sum(row.refused for row in rows) == len(ids)
    assert Counter(Event.objects.values_list("message", flat=True)) == dict.fromkeys(ids, 1)


def test_what_was_coming_in_when_it_was_begun_is_left_alone(acme_account, broker):
    """An id is made when a message begins to come in, which may be minutes before it is accepted."""
    [coming] = many(acme_account, 1)
    ids = many(acme_account, 3)
    Message.objects.filter(pk=coming).update(accepted_at=timezone.now() + timedelta(minutes=5))
    row = done(bulk.begin("hold", EVERY, actor=COMMAND))
    assert counted(row) == (3, 0, {})
    assert set(Message.objects.filter(status="held").values_list("pk", flat=True)) == set(ids)


def test_what_does_not_fit_is_counted_with_the_reason(acme_account, broker):
    many(acme_account, 3, "held")
    many(acme_account, 2, "delivered")
    many(acme_account, 1, "held", body_deleted_at=timezone.now())
    row = done(bulk.begin("release", EVERY, actor=COMMAND))
    assert counted(row) == (3, 3, {"The message is delivered.": 2, "Its body is no longer stored.": 1})


@pytest.mark.parametrize(
    ("action", "status", "becomes"),
    [
        ("hold", "queued", "held"),
        ("release", "held", "queued"),
        ("retry", "failed", "queued"),
        ("cancel", "retrying", "cancelled"),
        ("reprocess", "dlq", "queued"),
        ("reroute", "queued", "queued"),
    ],
)
def test_every_action_can_be_done_in_bulk(acme, acme_account, broker, action, status, becomes):
    provider = ProviderFactory(tenant=acme) if action == "reroute" else None
    messages = [MessageFactory(account=acme_account, status=status) for _ in range(3)]
    MessageFactory(account=acme_account, status="delivered")
    Recipient.objects.filter(message__status="failed").update(status="failed")
    wanted = filters.parse({"status": status}, COMMAND)
    row = done(bulk.begin(action, wanted, actor=COMMAND, provider=provider))
    assert (row.status, counted(row)) == ("done", (3, 0, {}))
    changed = Message.objects.filter(pk__in=[message.pk for message in messages])
    assert set(changed.values_list("status", "routed_to")) == {(becomes, provider and provider.pk)}
    if action in {"retry", "release", "reprocess", "reroute"}:
        assert set(Recipient.objects.values_list("status", flat=True)) == {"pending"}


def test_pages_go_on_where_the_last_one_ended_within_a_window(acme_account, broker, monkeypatch):
    monkeypatch.setattr(bulk, "PAGE", 4)
    monkeypatch.setattr(walk, "WINDOW", 7)
    many(acme_account, 30)
    Message.objects.filter(subject__endswith="3").update(mail_from="other@acme.example")
    wanted = filters.parse({"sender": "crm@acme.example"}, COMMAND)
    row = done(bulk.begin("hold", wanted, actor=COMMAND))
    assert counted(row) == (27, 0, {})
    assert Event.objects.count() == 27


def test_a_long_way_without_a_match_is_gone_in_several_turns(acme_account, broker, monkeypatch):
    monkeypatch.setattr(bulk, "WINDOWS", 2)
    monkeypatch.setattr(walk, "WINDOW", 2)
    ids = many(acme_account, 20)
    Message.objects.filter(pk=ids[-1]).update(subject="found")
    row = bulk.begin("hold", filters.parse({"subject": "found"}, COMMAND), actor=COMMAND)
    assert bulk.step()
    row.refresh_from_db()
    assert (row.cursor, row.changed) == (ids[3], 0)
    assert counted(done(row)) == (1, 0, {})


def test_where_there_is_nothing_it_ends_at_once(acme, broker):
    row = done(bulk.begin("hold", EVERY, actor=COMMAND))
    assert (row.status, row.until, counted(row)) == ("done", None, (0, 0, {}))


class TestPace:
    def test_so_many_a_minute_and_no_more(self, acme_account, broker):
        many(acme_account, 100)
        begun = timezone.now()
        row = done(bulk.begin("hold", EVERY, actor=COMMAND, pace=120))
        assert row.changed == 20
        assert timedelta(seconds=9.9) < row.next_page_at - begun < timedelta(seconds=11)
        assert not bulk.due()
        BulkAction.objects.update(next_page_at=timezone.now())
        assert done(row).changed == 40

    def test_less_than_one_in_ten_seconds_too(self, acme_account, broker):
        many(acme_account, 3)
        row = done(bulk.begin("hold", EVERY, actor=COMMAND, pace=1))
        assert row.changed == 1
        assert timedelta(seconds=59) < row.next_page_at - timezone.now() < timedelta(seconds=61)

    def test_what_is_refused_costs_no_time(self, acme_account, broker):
        many(acme_account, 50, "delivered")
        row = done(bulk.begin("hold", EVERY, actor=COMMAND, pace=6))
        assert (row.status, row.refused) == ("done", 50)

    def test_one_that_was_kept_waiting_does_not_catch_up_for_long(self, acme_account, broker):
        many(acme_account, 200)
        row = bulk.begin("hold", EVERY, actor=COMMAND, pace=120)
        BulkAction.objects.update(next_page_at=timezone.now() - timedelta(hours=1))
        assert done(row).changed == 40

    @pytest.mark.parametrize("pace", [0, -5, 2**31])
    def test_no_pace_at_all_is_refused(self, db, pace):
        with pytest.raises(ValueError, match="pace"):
            bulk.begin("hold", EVERY, actor=COMMAND, pace=pace)


class TestPeople:
    def test_a_person_reaches_their_own_tenant_only_whatever_the_filter_says(
        self, acme_account, globex, globex_account, broker, anna
    ):
        many(acme_account, 2)
        theirs = many(globex_account, 2)
        # No door lets this filter in; what is done must not depend on that.
        row = done(bulk.begin("hold", MessageFilter(tenant=globex.pk), actor=anna))
        assert counted(row) == (0, 0, {})
        row = done(bulk.begin("hold", MessageFilter(account=globex_account.pk), actor=anna))
        assert counted(row) == (0, 0, {})
        row = bulk.begin("hold", EVERY, actor=anna)
        BulkAction.objects.update(tenant=None)
        assert done(row).status == "stopped"
        assert set(Message.objects.filter(pk__in=theirs).values_list("status", flat=True)) == {"queued"}

    def test_who_may_not_act_begins_nothing(self, acme, broker):
        for role in ("user", "viewer"):
            with pytest.raises(PermissionDenied):
                bulk.begin("hold", EVERY, actor=UserFactory(tenant=acme, role=role))
        assert not BulkAction.objects.exists()

    @pytest.mark.parametrize("change", [{"role": "user"}, {"is_active": False}, None], ids=str)
    def test_who_may_not_any_more_stops_it(self, acme_account, broker, anna, change):
        ids = many(acme_account, 2)
        row = bulk.begin("hold", EVERY, actor=anna)
        if change is None:
            anna.delete()
        else:
            User.objects.filter(pk=anna.pk).update(**change)
        done(row)
        assert (row.status, row.note) == ("stopped", "Who began it may not act on messages any more.")
        assert set(Message.objects.filter(pk__in=ids).values_list("status", flat=True)) == {"queued"}
        assert AuditEntry.objects.filter(action="bulkaction.stopped", target_id=str(row.pk)).exists()

    def test_an_operator_may_mean_one_tenant_or_all(self, acme, acme_account, globex_account, broker, operator):
        many(acme_account, 2)
        many(globex_account, 3)
        row = done(bulk.begin("hold", filters.parse({"tenant": "acme"}, operator), actor=operator))
        assert (row.tenant, row.changed) == (acme, 2)
        row = done(bulk.begin("hold", EVERY, actor=operator))
        assert (row.tenant, counted(row)) == (None, (3, 2, {"The message is held.": 2}))

    def test_messages_of_other_tenants_are_not_rerouted_to_a_provider_of_one(
        self, acme, acme_account, globex_account, broker, operator
    ):
        many(acme_account, 2)
        many(globex_account, 1)
        row = done(bulk.begin("reroute", EVERY, actor=operator, provider=ProviderFactory(tenant=acme)))
        assert counted(row) == (2, 1, {"Its tenant may not use that provider.": 1})

    def test_a_provider_switched_off_meanwhile_stops_it(self, acme, acme_account, broker, anna):
        many(acme_account, 2)
        row = bulk.begin("reroute", EVERY, actor=anna, provider=ProviderFactory(tenant=acme))
        Provider.objects.update(enabled=False)
        assert (done(row).status, row.note) == ("stopped", "The provider is not enabled any more.")


class TestPauseAndStop:
    def test_paused_it_rests_and_resumed_it_goes_on(self, acme_account, broker, anna):
        many(acme_account, 30)
        row = done(bulk.begin("hold", EVERY, actor=anna, pace=60))
        assert bulk.pause(row, actor=anna)
        assert not bulk.pause(row, actor=anna)
        assert (row.status, row.next_page_at, bulk.due()) == ("paused", None, False)
        assert done(row).changed == 10
        assert bulk.resume(row, actor=anna)
        assert not bulk.resume(row, actor=anna)
        assert done(row).changed == 20

    def test_stopped_it_never_goes_on_and_what_is_done_stays(self, acme_account, broker, anna):
        many(acme_account, 30)
        row = done(bulk.begin("hold", EVERY, actor=anna, pace=60))
        assert bulk.stop(row, actor=anna)
        assert not bulk.stop(row, actor=anna)
        assert not bulk.resume(row, actor=anna)
        done(row)
        assert (row.status, row.note, row.changed) == ("stopped", "Stopped by anna@acme.example.", 10)
        assert Message.objects.filter(status=MessageStatus.HELD).count() == 10


class TestAudit:
    def test_begin_turns_and_end_are_told_with_filter_count_and_results(self, acme_account, broker, anna):
        many(acme_account, 30)
        many(acme_account, 1, "delivered")
        wanted = filters.parse({"account": "crm@acme"}, anna)
        row = done(bulk.begin("hold", wanted, actor=anna, pace=60, ip="192.0.2.9"))
        bulk.pause(row, actor=anna, ip="192.0.2.9")
        bulk.resume(row, actor=anna, ip="192.0.2.9")
        BulkAction.objects.update(pace=None)
        done(row)
        entries = AuditEntry.objects.filter(target_id=str(row.pk)).order_by("pk")
        assert [(entry.action, entry.actor_label) for entry in entries] == [
            ("bulkaction.begun", "anna@acme.example"),
            ("bulkaction.paused", "anna@acme.example"),
            ("bulkaction.resumed", "anna@acme.example"),
            ("bulkaction.done", "anna@acme.example"),
        ]
        assert entries[0].changes == {"filter": {"account": "crm@acme"}, "found": "31", "pace": 60}
        assert entries[3].changes == {"changed": 30, "refused": 1, "reasons": {"The message is delivered.": 1}}
        # One entry for the action, not one for each message; events tell of those.
        assert AuditEntry.objects.count() == 4
        assert set(Event.objects.values_list("data__by", flat=True)) == {"anna@acme.example"}

    def test_a_command_is_named(self, acme_account, broker):
        many(acme_account, 1)
        row = done(bulk.begin("cancel", EVERY, actor=COMMAND))
        assert set(AuditEntry.objects.values_list("actor_label", flat=True)) == {COMMAND}
        assert (row.by_command, row.actor_label) == (True, COMMAND)


def test_an_action_that_fails_lets_the_others_go_on_and_is_tried_again(acme_account, broker, caplog):
    many(acme_account, 3)
    broken, row = bulk.begin("hold", EVERY, actor=COMMAND), bulk.begin("hold", EVERY, actor=COMMAND)
    BulkAction.objects.filter(pk=broken.pk).update(filters={"colour": "blue"})
    assert done(row).status == "done"
    broken.refresh_from_db()
    assert (broken.status, broken.changed) == ("running", 0)
    assert broken.next_page_at > timezone.now() + timedelta(seconds=50)


def test_an_action_that_takes_the_database_too_long_does_not_stand_before_the_others(acme_account, broker, monkeypatch):
    many(acme_account, 2)
    slow = bulk.begin("hold", MessageFilter(subject="Number"), actor=COMMAND)
    quick = bulk.begin("cancel", EVERY, actor=COMMAND)
    page = bulk._page

    def too_long(row, now):
        if row.pk == slow.pk:
            raise OperationalError("canceling statement due to statement timeout")
        page(row, now)

    monkeypatch.setattr(bulk, "_page", too_long)
    for _ in range(4):
        with suppress(OperationalError):
            bulk.run(chores.Turn())
    quick.refresh_from_db()
    slow.refresh_from_db()
    assert (quick.status, quick.changed) == ("done", 2)
    assert (slow.status, bulk.due()) == ("running", True)


def test_what_is_released_is_left_to_the_sweep_which_rings_no_faster_than_workers_follow(
    acme_account, broker, django_capture_on_commit_callbacks
):
    many(acme_account, 3, "held")
    with django_capture_on_commit_callbacks(execute=True):
        done(bulk.begin("release", EVERY, actor=COMMAND))
    assert broker.llen("outbound.deliver") == 0
    assert sweeper.ring_due() == 3


def test_the_sweep_rings_for_it_and_a_worker_does_it(acme_account, broker):
    many(acme_account, 3)
    row = bulk.begin("hold", EVERY, actor=COMMAND)
    assert chores.CHORES["bulk"].due()
    chores.do("bulk", "a worker")
    row.refresh_from_db()
    assert (row.status, row.changed, chores.CHORES["bulk"].due()) == ("done", 3, False)
