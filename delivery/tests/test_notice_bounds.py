"""However much fails, nobody is told of it by more mail than they can read: DEL-10."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.tests.factories import UserFactory
from delivery import callbacks, chores, telling
from delivery.models import Message, Notice, Recipient
from delivery.tests.mail import accepted
from delivery.tests.test_notices import failed_message, sent_notices, text_of, work_off
from delivery.tests.test_sender import deliver
from delivery.tests.told import told
from providers.models import Provider

pytestmark = pytest.mark.django_db
MANY = [f"{number}@outside.example" for number in range(30)]


@pytest.fixture(autouse=True)
def _one_at_a_time(settings):
    settings.DELIVERY_BATCH = 1


@pytest.fixture
def owner(acme):
    return UserFactory(tenant=acme, role="owner", email="owner@acme.example")


def bounce(message, addresses):
    """Each is told for itself, as services do."""
    provider = Provider.objects.get()
    for address in addresses:
        id_ = message.recipients.get(address=address).provider_message_id
        callbacks.take(provider.pk, [told("bounced", id_=id_, to=address)])


def an_hour_later():
    """The notices told so far are an hour old."""
    hour = timedelta(hours=1)
    for notice in Notice.objects.filter(finished_at__isnull=False):
        Notice.objects.filter(pk=notice.pk).update(finished_at=notice.finished_at - hour)


def test_bounces_of_one_message_that_come_one_by_one_are_one_report(acme_account, box):
    message = accepted(acme_account, None, MANY)
    deliver(message)
    bounce(message, MANY)
    assert Notice.objects.filter(kind="dsn", status="pending").count() == len(MANY)
    work_off()
    [report] = sent_notices()
    assert all(address in text_of(report) for address in MANY)
    assert set(Notice.objects.values_list("status", "sent")) == {("done", report.pk)}


def test_bounces_that_trickle_in_wait_for_each_other(acme_account, box):
    message = accepted(acme_account, None, MANY)
    deliver(message)
    bounce(message, MANY[:1])
    telling.run(chores.Turn())
    for address in MANY[1:]:
        bounce(message, [address])
        telling.run(chores.Turn())
    assert len(sent_notices()) == 1
    waiting = Notice.objects.filter(status="pending")
    assert waiting.count() == len(MANY) - 1
    assert not waiting.filter(next_attempt_at__lte=timezone.now() + timedelta(minutes=10)).exists()

    an_hour_later()
    work_off()
    _, second = sent_notices()
    assert all(address in text_of(second) for address in MANY[1:])
    assert MANY[0] not in text_of(second).split()
    assert not Notice.objects.filter(status="pending").exists()


def test_a_sender_whose_every_message_fails_gets_so_many_reports_an_hour_and_the_admins_the_rest(
    acme_account, box, settings, owner
):
    settings.NOTICE_MOST_REPORTS = 3
    for _ in range(8):
        failed_message(acme_account, box)
    other = failed_message(acme_account, box, mail_from="shop@acme.example")
    telling.run(chores.Turn())
    assert Notice.objects.filter(kind="dsn", status="done").count() == 4
    [to_other] = Notice.objects.filter(message=other)
    assert (to_other.kind, to_other.status) == ("dsn", "done")
    assert Notice.objects.filter(kind="email", status="pending").count() == 5

    work_off()
    digest = sent_notices()[-1]
    assert digest.subject == f"{acme_account.tenant.name}: 5 messages not delivered"
    assert not Notice.objects.filter(status="pending").exists()


def test_reports_of_an_hour_ago_do_not_count(acme_account, box, settings, owner, monkeypatch):
    settings.NOTICE_MOST_REPORTS = 1
    failed_message(acme_account, box)
    telling.run(chores.Turn())
    monkeypatch.setattr(telling, "REPORTS_WITHIN", timedelta(0))
    failed_message(acme_account, box)
    telling.run(chores.Turn())
    assert Notice.objects.filter(kind="dsn", status="done").count() == 2


def test_mail_to_the_sender_that_is_no_notice_does_not_count(acme_account, globex_account, box, settings, owner):
    settings.NOTICE_MOST_REPORTS = 1
    accepted(acme_account, None, ["crm@acme.example"])
    failed_message(acme_account, box)
    telling.run(chores.Turn())
    assert Notice.objects.get().status == "done"
    assert Recipient.objects.filter(address="crm@acme.example").count() == 2


def test_what_has_waited_long_makes_the_next_digest_no_sooner(acme, acme_account, box, owner):
    """A report that failed late is an old notice, told by a new digest."""
    acme_account.failure_notice = "email"
    acme_account.save()
    first, second = failed_message(acme_account, box), failed_message(acme_account, box)
    work_off()
    [digest] = sent_notices()
    deliver(digest)
    an_hour_later()
    Notice.objects.filter(message=first).update(finished_at=timezone.now())
    assert Notice.objects.get(message=second).pk > Notice.objects.get(message=first).pk
    failed_message(acme_account, box)
    work_off()
    assert Message.objects.filter(source="notice").count() == 1


def test_an_admin_of_an_international_domain_costs_the_others_nothing(acme_account, box, owner):
    """A digest that needed SMTPUTF8 would reach nobody where the provider has none."""
    UserFactory(tenant=acme_account.tenant, role="admin", email="anna@bücher.example")
    acme_account.failure_notice = "email"
    acme_account.save()
    failed_message(acme_account, box)
    work_off()
    [digest] = sent_notices()
    assert not digest.smtputf8
    addresses = set(digest.recipients.values_list("address", flat=True))
    assert addresses == {"owner@acme.example", "anna@xn--bcher-kva.example"}
