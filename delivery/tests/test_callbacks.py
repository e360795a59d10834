"""What providers tell: matched, applied once, in any order, with suppressions. EVT-1, EVT-2, EVT-4."""

from datetime import timedelta
from itertools import permutations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from delivery import callbacks
from delivery.models import DeliveryLog, EarlyEvent, Event, MessageStatus, Suppression
from delivery.tests.factories import DeliveryLogFactory, SuppressionFactory
from delivery.tests.mail import accepted, raw_message
from delivery.tests.test_sender import deliver, make_due, statuses
from delivery.tests.told import told
from providers import base
from providers.models import Provider
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db
SOMEONE = "someone@outside.example"


@pytest.fixture
def primary(box):
    return Provider.objects.get(name="primary")


@pytest.fixture
def sent(acme_account, primary):
    """A delivered message to someone@outside.example, known to the provider as memory-1."""
    message = accepted(acme_account)
    deliver(message)
    return message


def types(message):
    return [str(event.type) for event in message.events.order_by("pk")]


def test_an_event_reaches_its_recipient_and_leaves_the_message_as_it_is(sent, primary):
    tally = callbacks.take(primary.pk, [told("bounced", code="5.1.1", text="550 no such user")])
    assert (tally.applied, tally.repeated, tally.early, tally.strange) == (1, 0, 0, [])
    recipient = sent.recipients.get()
    assert (recipient.status, recipient.error_code, recipient.error_text) == ("bounced", "5.1.1", "550 no such user")
    sent.refresh_from_db()
    assert sent.status == MessageStatus.DELIVERED
    event = sent.events.get(type="bounced")
    assert (event.recipient_id, event.provider, event.tenant_id) == (recipient.pk, primary, sent.tenant_id)
    assert event.data["recipient"] == SOMEONE
    assert event.data["hard"] is True


@pytest.mark.parametrize("spelling", ["SOMEONE@Outside.Example", " someone@outside.example"])
def test_addresses_are_compared_as_services_do(sent, primary, spelling):
    callbacks.take(primary.pk, [told("confirmed", to=spelling)])
    assert statuses(sent) == {SOMEONE: "confirmed"}


def test_of_several_recipients_under_one_id_only_the_one_named_is_told_of(acme_account, primary):
    message = accepted(acme_account, None, ["a@outside.example", "b@outside.example"])
    deliver(message)
    callbacks.take(primary.pk, [told("bounced", to="b@outside.example")])
    assert statuses(message) == {"a@outside.example": "delivered", "b@outside.example": "bounced"}


@pytest.mark.parametrize("named", ["", "elsewhere@forwarded.example"])
def test_where_nobody_can_say_who_is_meant_the_message_shows_it_and_no_recipient_changes(acme_account, primary, named):
    message = accepted(acme_account, None, ["a@outside.example", "b@outside.example"])
    deliver(message)
    assert callbacks.take(primary.pk, [told("bounced", to=named)]).applied == 1
    assert set(statuses(message).values()) == {"delivered"}
    assert message.events.get(type="bounced").recipient_id is None
    assert not Suppression.objects.exists()


def test_a_service_that_names_nobody_means_the_only_recipient(sent, primary):
    callbacks.take(primary.pk, [told("confirmed", to="")])
    assert statuses(sent) == {SOMEONE: "confirmed"}


def test_the_same_event_again_changes_nothing(sent, primary):
    assert callbacks.take(primary.pk, [told("bounced"), told("bounced")]).repeated == 1
    Suppression.objects.all().delete()  # a person has removed it
    assert callbacks.take(primary.pk, [told("bounced")]).repeated == 1
    assert types(sent).count("bounced") == 1
    assert not Suppression.objects.exists()


def test_another_providers_id_is_not_ours(sent, acme, globex):
    other = ProviderFactory(tenant=globex, name="theirs")
    tally = callbacks.take(other.pk, [told("bounced")])
    assert (tally.applied, len(tally.strange)) == (0, 1)
    assert statuses(sent) == {SOMEONE: "delivered"}


def test_mail_of_other_applications_is_passed_over(sent, primary):
    tally = callbacks.take(primary.pk, [told("bounced", "somebody-elses"), told("confirmed")])
    assert (tally.applied, len(tally.strange)) == (1, 1)
    assert not EarlyEvent.objects.exists()


def test_in_any_order_the_same_events_leave_the_same_state(acme_account, primary):
    words = ("deferred", "soft", "confirmed", "complained")
    ends = set()
    for number, order in enumerate(permutations(words), 1):
        message = accepted(acme_account)
        deliver(message)
        for word in order:
            callbacks.take(primary.pk, [told(word, f"memory-{number}")])
        suppression = Suppression.objects.get()
        recipient = message.recipients.get()
        ends.add((recipient.status, recipient.error_text, suppression.reason, suppression.address))
        assert set(types(message)) == {"received", "delivered", "deferred", "bounced", "confirmed", "complained"}
        Suppression.objects.all().delete()
        Event.objects.filter(type="bounced").delete()  # or they would add up
    assert ends == {("complained", "what was said of complained", "complained", SOMEONE)}


def test_a_deferral_by_the_provider_is_shown_and_never_sent_again(acme_account, primary, box):
    """The message has another recipient who still waits: its next claim must not mail the first one again."""
    waits = base.RecipientResult(base.RecipientStatus.DEFERRED, code="450", text="later")
    box.answers.append({"b@outside.example": waits})
    message = accepted(acme_account, None, ["a@outside.example", "b@outside.example"])
    deliver(message)
    assert message.status == MessageStatus.RETRYING
    callbacks.take(primary.pk, [told("deferred", to="a@outside.example", text="421 try again later")])
    first = message.recipients.get(address="a@outside.example")
    assert (first.status, first.error_text) == ("delivered", "421 try again later")
    make_due(message)
    deliver(message)
    assert box.recipients().count("a@outside.example") == 1
    assert message.status == MessageStatus.DELIVERED


@pytest.mark.parametrize(
    ("word", "reason"), [("bounced", "bounced"), ("complained", "complained"), ("unsubscribed", "unsubscribed")]
)
def test_who_must_not_be_mailed_again_is_suppressed_and_skipped(sent, primary, acme, acme_account, box, word, reason):
    callbacks.take(primary.pk, [told(word)])
    row = Suppression.objects.get()
    assert (row.tenant, row.address, row.reason) == (acme, SOMEONE, reason)
    assert (row.provider, row.message_id, row.text) == (primary, sent.pk, f"what was said of {word}")
    following = accepted(acme_account)
    deliver(following)
    assert statuses(following) == {SOMEONE: "suppressed"}
    assert len(box.accepted) == 1


@pytest.mark.parametrize("word", ["confirmed", "deferred", "soft", "failed", "opened"])
def test_other_words_suppress_nobody(sent, primary, word):
    callbacks.take(primary.pk, [told(word)])
    assert not Suppression.objects.exists()


def test_three_soft_bounces_in_a_week_suppress(acme_account, primary):
    for number in (1, 2, 3):
        assert not Suppression.objects.exists()
        deliver(accepted(acme_account))
        callbacks.take(primary.pk, [told("soft", f"memory-{number}")])
    assert Suppression.objects.get().reason == "soft_bounces"


def test_soft_bounces_of_the_week_before_and_of_other_tenants_do_not_count(acme_account, globex_account, primary):
    theirs = ProviderFactory(tenant=globex_account.tenant, name="theirs", config={"box": "globex"})
    for number in (1, 2):
        deliver(accepted(acme_account))
        occurred = timezone.now() - timedelta(days=8)
        callbacks.take(primary.pk, [told("soft", f"memory-{number}", occurred_at=occurred)])
        deliver(accepted(globex_account, raw_message(sender="erp@globex.example"), mail_from="erp@globex.example"))
        callbacks.take(theirs.pk, [told("soft", f"memory-{number}")])
    deliver(accepted(acme_account))
    callbacks.take(primary.pk, [told("soft", "memory-3")])
    assert not Suppression.objects.exists()


def test_a_shared_providers_bounce_is_for_the_tenant_whose_message_it_was(acme, globex, acme_account, broker):
    acme.may_use_shared_providers = True
    acme.save()
    shared = ProviderFactory(tenant=None, name="shared")
    message = accepted(acme_account)
    deliver(message)
    callbacks.take(shared.pk, [told("bounced")])
    assert [row.tenant for row in Suppression.objects.all()] == [acme]
    assert message.events.get(type="bounced").tenant == acme


def test_the_stronger_reason_stays_and_a_persons_own_is_not_overwritten(sent, primary, acme):
    callbacks.take(primary.pk, [told("bounced"), told("complained")])
    callbacks.take(primary.pk, [told("unsubscribed")])
    assert Suppression.objects.get().reason == "complained"
    Suppression.objects.all().delete()
    SuppressionFactory(tenant=acme, address=SOMEONE, text="asked us to")
    callbacks.take(primary.pk, [told("complained", number=2)])
    assert Suppression.objects.get().text == "asked us to"


# --- Events that are faster than our own commit ---------------------------------------------------------------------


def test_an_event_that_comes_while_the_call_is_under_way_is_kept_and_applied_later(acme_account, primary):
    attempt = DeliveryLogFactory(message__account=acme_account, provider=primary, status=DeliveryLog.Status.SENDING)
    tally = callbacks.take(primary.pk, [told("bounced"), told("confirmed")])
    assert (tally.applied, tally.early) == (0, 2)
    assert callbacks.take(primary.pk, [told("bounced")]).early == 1  # told again: kept once
    assert EarlyEvent.objects.count() == 2
    assert callbacks.apply_early() == 0
    assert EarlyEvent.objects.count() == 2
    attempt.message.recipients.update(provider=primary, provider_message_id="memory-1", status="delivered")
    assert callbacks.apply_early() == 2
    assert statuses(attempt.message) == {SOMEONE: "bounced"}
    assert Suppression.objects.get().reason == "bounced"
    assert not EarlyEvent.objects.exists()


def test_what_nobody_asks_for_is_forgotten_after_a_while(acme_account, primary):
    DeliveryLogFactory(message__account=acme_account, provider=primary, status=DeliveryLog.Status.SENDING)
    callbacks.take(primary.pk, [told("bounced", "somebody-elses")])
    EarlyEvent.objects.update(received_at=timezone.now() - callbacks.EARLY_KEPT - timedelta(seconds=1))
    assert callbacks.apply_early() == 0
    assert not EarlyEvent.objects.exists()


def test_early_events_have_bounded_room(acme_account, primary, monkeypatch):
    monkeypatch.setattr(callbacks, "EARLY_MOST", 2)
    DeliveryLogFactory(message__account=acme_account, provider=primary, status=DeliveryLog.Status.SENDING)
    with pytest.raises(callbacks.TooManyEarly):
        callbacks.take(primary.pk, [told("bounced", f"x{n}") for n in range(3)])
    assert not EarlyEvent.objects.exists()


def test_another_providers_call_keeps_nothing(acme, acme_account, primary):
    other = ProviderFactory(tenant=acme, name="other", default_rank=None)
    DeliveryLogFactory(message__account=acme_account, provider=other, status=DeliveryLog.Status.SENDING)
    assert len(callbacks.take(primary.pk, [told("bounced", "somebody-elses")]).strange) == 1


def test_many_events_are_applied_page_by_page(acme_account, primary, monkeypatch):
    monkeypatch.setattr(callbacks, "PAGE", 3)
    addresses = [f"r{n}@outside.example" for n in range(10)]
    message = accepted(acme_account, None, addresses)
    deliver(message)
    tally = callbacks.take(primary.pk, [told("confirmed", to=address) for address in addresses])
    assert tally.applied == 10
    assert set(statuses(message).values()) == {"confirmed"}


def test_what_came_before_every_call_that_is_open_now_is_somebody_elses_and_leaves_its_room(
    acme_account, primary, monkeypatch
):
    """EVT-1: a busy application on the same account must not have our own events put off."""
    monkeypatch.setattr(callbacks, "EARLY_MOST", 2)
    first = DeliveryLogFactory(message__account=acme_account, provider=primary, status=DeliveryLog.Status.SENDING)
    callbacks.take(primary.pk, [told("bounced", "somebody-elses"), told("bounced", "and-another")])
    EarlyEvent.objects.update(received_at=timezone.now() - 2 * callbacks.CLOCKS)
    DeliveryLog.objects.update(created_at=timezone.now() - 3 * callbacks.CLOCKS)
    callbacks.apply_early()
    assert EarlyEvent.objects.count() == 2  # the call they may be about is still open
    DeliveryLogFactory(message__account=acme_account, provider=primary, status=DeliveryLog.Status.SENDING)
    DeliveryLog.objects.filter(pk=first.pk).update(status=DeliveryLog.Status.DELIVERED)
    callbacks.apply_early()
    assert not EarlyEvent.objects.exists()
    assert callbacks.take(primary.pk, [told("bounced", "x1"), told("bounced", "x2")]).early == 2


@pytest.mark.skipif(connection.vendor != "postgresql", reason="looks at PostgreSQL's plan")
def test_a_page_of_events_is_looked_up_by_index(sent, primary):
    """EVT-1: of more than 100 values PostgreSQL does not see by itself that none is empty, as the indexes ask."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    with CaptureQueriesContext(connection) as queries:
        callbacks.take(primary.pk, [told("opened", ids=("memory-1", f"x{n}"), number=n) for n in range(150)])
    looked_up = [one["sql"] for one in queries if " IN (" in one["sql"] and one["sql"].startswith("SELECT")]
    plans = []
    with connection.cursor() as cursor:
        for sql in looked_up:
            cursor.execute("EXPLAIN " + sql)
            plans.append("\n".join(line for (line,) in cursor.fetchall()))
    for name in ("recipient_provider_message", "event_told_once_by_provider"):
        assert any(name in plan for plan in plans), plans


# --- Two tenants of one provider ------------------------------------------------------------------------------------


@pytest.fixture
def both_sent(acme, globex, acme_account, globex_account, broker):
    """A shared provider's messages to the same address: acme's is memory-1, globex's is memory-2."""
    for tenant in (acme, globex):
        tenant.may_use_shared_providers = True
        tenant.save()
    shared = ProviderFactory(tenant=None, name="shared")
    theirs = raw_message(sender="erp@globex.example")
    acmes = accepted(acme_account)
    deliver(acmes)
    globexes = accepted(globex_account, theirs, mail_from="erp@globex.example")
    deliver(globexes)
    return shared, acmes, globexes


def test_a_message_id_that_a_client_has_chosen_does_not_reach_another_tenants_mail(both_sent, globex):
    """EVT-1, EVT-2: the service's own id comes first; SendGrid tells the Message-ID of the mail besides."""
    shared, acmes, globexes = both_sent
    callbacks.take(shared.pk, [told("bounced", "memory-2", ids=("memory-2", "memory-1"))])
    assert statuses(acmes) == {SOMEONE: "delivered"}
    assert statuses(globexes) == {SOMEONE: "bounced"}
    assert [row.tenant for row in Suppression.objects.all()] == [globex]


def test_of_an_id_that_two_tenants_share_neither_is_told_of_the_other(both_sent, caplog):
    """EVT-1, EVT-2: Mailgun names a message by the Message-ID its client has given it."""
    shared, acmes, globexes = both_sent
    globexes.recipients.update(provider_message_id="memory-1")
    assert len(callbacks.take(shared.pk, [told("complained"), told("bounced", to="")]).strange) == 2
    assert statuses(acmes) == statuses(globexes) == {SOMEONE: "delivered"}
    assert not Event.objects.filter(type__in=["complained", "bounced"]).exists()
    assert not Suppression.objects.exists()
    assert "event of an id that several tenants have" in caplog.text


def test_an_event_stands_at_the_message_whose_recipient_it_names(both_sent, globex):
    shared, acmes, globexes = both_sent
    globexes.recipients.update(provider_message_id="memory-1", address="other@outside.example")
    callbacks.take(shared.pk, [told("bounced", to="other@outside.example")])
    event = Event.objects.get(type="bounced")
    assert (event.message, event.tenant) == (globexes, globex)
    assert not acmes.events.filter(type="bounced").exists()
