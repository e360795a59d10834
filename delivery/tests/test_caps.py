"""QUE-5: queues are paused and capped while everything runs; what waits uses up no try and is not lost (RET-6)."""

from datetime import timedelta

import pytest
import redis
from django.utils import timezone

from accounts import shared_state
from delivery import capped, caps, chores, claims, queues, sender, sweeper
from delivery.models import Message, MessageStatus, QueueSetting
from delivery.tests.factories import MessageFactory
from delivery.tests.mail import accepted, raw_message
from delivery.tests.test_sweeper import due, rung

pytestmark = pytest.mark.django_db
ATTACHED = raw_message("Content-Type: multipart/mixed; boundary=x", body="--x\r\n\r\nHello.\r\n--x--\r\n")


def set_queue(name, **values):
    """As an operator would, and at once."""
    QueueSetting.objects.update_or_create(name=name, defaults=values)
    caps.forget()


def large(account, count=1):
    return [MessageFactory(account=account, queue=queues.LARGE) for _ in range(count)]


def claimed(*messages, rung_in=queues.LARGE):
    return claims.claim([message.pk for message in messages], rung_in)


def statuses():
    return sorted(Message.objects.values_list("status", flat=True))


class TestPaused:
    def test_nothing_of_a_paused_queue_is_sent_and_everything_once_it_goes_on(self, acme_account, box, broker):
        set_queue(queues.LARGE, paused=True)
        message, other = accepted(acme_account, ATTACHED), accepted(acme_account)
        sender.deliver([message.pk], queues.LARGE)
        sender.deliver([other.pk])
        message.refresh_from_db()
        assert (message.status, message.tries, message.claims) == (MessageStatus.QUEUED, 0, 0)
        assert "paused" in message.status_reason
        assert len(box.accepted) == 1
        set_queue(queues.LARGE, paused=False)
        Message.objects.filter(pk=message.pk).update(next_attempt_at=timezone.now())
        assert sweeper.ring_due() == 1
        [[rung_for]] = rung(broker)
        sender.deliver([rung_for], queues.AGAIN)
        message.refresh_from_db()
        assert (message.status, message.status_reason) == (MessageStatus.DELIVERED, "")

    def test_the_sweep_leaves_paused_queues_alone(self, acme_account, broker):
        set_queue(queues.LARGE, paused=True)
        waits, goes = (due(acme_account, "retrying", queue=name) for name in (queues.LARGE, queues.FRESH))
        assert sweeper.ring_due() == 1
        assert rung(broker) == [[goes.pk]]
        set_queue(queues.LARGE, paused=False)
        assert sweeper.ring_due() == 1
        assert rung(broker)[-1] == [waits.pk]

    def test_retries_can_be_paused_while_fresh_mail_goes_out(self, acme_account, broker):
        set_queue(queues.AGAIN, paused=True)
        rung_before = due(acme_account, "retrying", rung_at=timezone.now())
        due(acme_account, "retrying")
        assert sweeper.ring_due() == 0
        assert claimed(rung_before, rung_in=queues.AGAIN) == []
        fresh = MessageFactory(account=acme_account)
        assert [one.message for one in claimed(fresh, rung_in=queues.FRESH)] == [fresh]

    def test_a_paused_queue_is_not_asked_for_company(self, acme_account):
        set_queue(queues.LARGE, paused=True)
        large(acme_account, 3)
        small = MessageFactory(account=acme_account)
        assert [one.message for one in claimed(small, rung_in=queues.FRESH)] == [small]

    def test_chores_of_a_paused_queue_wait(self, broker, monkeypatch):
        monkeypatch.setattr(chores, "CHORES", {})
        done = []
        chores.register(chores.Chore(name="tell", queue="webhooks", due=lambda: True, run=done.append))
        set_queue("webhooks", paused=True)
        assert chores.ring_due() == 0
        chores.do("tell", "rung before the pause")
        assert done == []
        set_queue("webhooks", paused=False)
        assert chores.ring_due() == 1


class TestMostAtOnce:
    def test_no_more_are_under_way_than_have_a_place(self, acme_account, broker):
        set_queue(queues.LARGE, most_at_once=3)
        messages = large(acme_account, 8)
        first = claimed(*messages[:5])
        assert {one.message for one in first} == set(messages[:3])
        assert claimed(*messages[5:]) == []
        assert caps.under_way([queues.LARGE]) == {queues.LARGE: 3}
        assert statuses() == ["processing"] * 3 + ["queued"] * 5
        caps.give_back([first[0].place])
        assert len(claimed(*messages[5:])) == 1

    def test_what_finds_no_place_is_due_again_in_a_few_seconds_and_uses_up_no_try(self, acme_account, broker):
        set_queue(queues.LARGE, most_at_once=1)
        one, other = accepted(acme_account, ATTACHED), accepted(acme_account, ATTACHED)
        assert len(claimed(one, other)) == 1
        other.refresh_from_db()
        assert (other.tries, other.claims, other.status) == (0, 0, MessageStatus.QUEUED)
        assert other.next_attempt_at <= timezone.now() + timedelta(seconds=5)
        assert [event.type for event in other.events.all()] == ["received"]

    def test_a_retry_that_finds_no_place_keeps_its_time_and_its_reason(self, acme_account, broker):
        set_queue(queues.LARGE, most_at_once=1)
        [busy] = large(acme_account)
        claimed(busy)
        again = due(
            acme_account, "retrying", queue=queues.LARGE, rung_at=timezone.now(), status_reason="Busy.", tries=2
        )
        before = again.next_attempt_at
        assert claimed(again, rung_in=queues.AGAIN) == []
        again.refresh_from_db()
        assert (again.next_attempt_at, again.rung_at, again.tries, again.status_reason) == (before, None, 2, "Busy.")

    def test_a_message_that_has_ended_makes_room_and_the_next_is_rung_for(self, acme_account, box, broker):
        set_queue(queues.LARGE, most_at_once=1)
        first, second, third = (accepted(acme_account, ATTACHED) for _ in range(3))
        broker.delete(queues.LARGE)
        sender.deliver([first.pk], queues.LARGE)
        assert caps.under_way([queues.LARGE]) == {queues.LARGE: 0}
        assert rung(broker, queues.LARGE) == [[second.pk]]
        # Whoever is rung for, somebody who waits gets the place.
        sender.deliver([first.pk], queues.LARGE)
        assert {m.status for m in Message.objects.filter(pk__in=[second.pk, third.pk])} == {"queued", "delivered"}

    def test_the_sweep_rings_for_no_more_than_have_a_place(self, acme_account, broker):
        set_queue(queues.LARGE, most_at_once=2)
        waiting = [due(acme_account, "retrying", queue=queues.LARGE).pk for _ in range(5)]
        small = due(acme_account, "retrying")
        assert sweeper.ring_due() == 3
        assert {id_ for some in rung(broker) for id_ in some} <= {*waiting, small.pk}
        claims.claim(waiting[:2], queues.AGAIN)
        assert sweeper.ring_due() == 0

    def test_retries_and_fresh_mail_wait_for_the_same_places(self, acme_account, broker):
        set_queue(queues.LARGE, most_at_once=2)
        retry = due(acme_account, "retrying", queue=queues.LARGE)
        assert claimed(retry, rung_in=queues.AGAIN)
        assert len(claimed(*large(acme_account, 3))) == 1

    def test_a_cap_of_retries_is_one_of_what_the_sweep_has_rung_for(self, acme_account, broker):
        set_queue(queues.AGAIN, most_at_once=1)
        retries = [due(acme_account, "retrying", rung_at=timezone.now()) for _ in range(3)]
        assert len(claimed(*retries, rung_in=queues.AGAIN)) == 1
        assert len(claimed(*(MessageFactory(account=acme_account) for _ in range(3)), rung_in=queues.FRESH)) == 3

    def test_the_places_of_a_dead_worker_come_back(self, acme_account, broker):
        set_queue(queues.LARGE, most_at_once=1)
        one, other = large(acme_account, 2)
        [held] = claimed(one)
        [key] = held.place.keys
        shared_state.client().zadd(key, {held.place.lease: 1})  # nobody has renewed it
        assert [found.message for found in claimed(other)] == [other]

    def test_while_the_shared_store_is_away_what_must_be_counted_waits(self, acme_account, broker, monkeypatch):
        set_queue(queues.LARGE, most_at_once=5)
        monkeypatch.setattr(caps, "_TAKE", _away)
        [message] = large(acme_account)
        assert claimed(message) == []
        assert len(claimed(MessageFactory(account=acme_account), rung_in=queues.FRESH)) == 1

    def test_places_of_messages_that_could_not_be_claimed_are_free(self, acme_account, broker, monkeypatch):
        set_queue(queues.LARGE, most_at_once=5)
        monkeypatch.setattr(claims, "_with_recipients", _broken)
        with pytest.raises(ZeroDivisionError):
            claimed(*large(acme_account, 3))
        assert caps.under_way([queues.LARGE]) == {queues.LARGE: 0}

    def test_places_are_free_when_the_choice_itself_fails(self, acme_account, broker, monkeypatch):
        """They would be renewed for half an hour else."""
        set_queue(queues.LARGE, most_at_once=1)
        monkeypatch.setattr(capped, "put_off", _broken)
        with pytest.raises(ZeroDivisionError):
            claimed(*large(acme_account, 2))
        assert caps.under_way([queues.LARGE]) == {queues.LARGE: 0}

    def test_places_are_free_after_a_delivery_that_broke_off(self, acme_account, box, broker, monkeypatch):
        set_queue(queues.LARGE, most_at_once=5)
        monkeypatch.setattr(sender.Delivery, "_look", _broken)
        with pytest.raises(ZeroDivisionError):
            sender.deliver([accepted(acme_account, ATTACHED).pk], queues.LARGE)
        assert caps.under_way([queues.LARGE]) == {queues.LARGE: 0}


class TestWhatHolds:
    def test_a_row_counts_more_than_the_setting(self, settings):
        settings.QUEUE_MOST_AT_ONCE = {queues.LARGE: 4, queues.FRESH: 9}
        caps.forget()
        assert caps.restricted() == {queues.LARGE: caps.Cap(most=4), queues.FRESH: caps.Cap(most=9)}
        set_queue(queues.LARGE, most_at_once=7)
        set_queue(queues.FRESH, most_at_once=0)
        assert caps.restricted() == {queues.LARGE: caps.Cap(most=7)}
        set_queue(queues.LARGE, most_at_once=None, paused=True)
        assert caps.restricted() == {queues.LARGE: caps.Cap(True, 4)}

    def test_what_was_read_counts_for_a_second_at_most(self, django_assert_num_queries, monkeypatch):
        assert caps.KEEP <= 1
        caps.forget()
        with django_assert_num_queries(1):
            for _ in range(5):
                assert caps.restricted() == {}
        monkeypatch.setattr(caps, "KEEP", 0.0)
        QueueSetting.objects.update_or_create(name=queues.LARGE, defaults={"paused": True})
        assert caps.paused(queues.LARGE)

    def test_without_caps_a_claim_asks_nothing_more(self, acme_account, django_assert_max_num_queries):
        caps.restricted()
        message = MessageFactory(account=acme_account)
        with django_assert_max_num_queries(9):
            claimed(message, rung_in=queues.FRESH)


def _away(*_):
    raise redis.ConnectionError("away")


def _broken(*_):
    raise ZeroDivisionError
