"""All that goes on beside sending, together and in real processes, while mail is sent: events to RabbitMQ and to a
webhook, reports, archive and retention, scheduled mail, paused queues, dead letters in bulk, mail by RabbitMQ, sealed
bodies. ACC-2, AMQP-1, AMQP-2, AMQP-4, ARC-1, DEL-9 to DEL-11, EVT-3, EVT-4, OBS-1, QUE-5, RET-5, SEC-8, STO-4, STO-5.
"""

import time
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts.tests.factories import UserFactory
from delivery import archive, bulk, control, store
from delivery.filters import MessageFilter
from delivery.models import (
    ArchiveCopy,
    BulkAction,
    Event,
    Message,
    Notice,
    OutboxEntry,
    QueueSetting,
    WebhookDelivery,
)
from providers.tests.standins import SmtpSink
from relay.tests.publishing import payload
from smtpproxy.tests import services
from smtpproxy.tests.installation import without_trace
from smtpproxy.tests.services import wait_until
from smtpproxy.tests.whole import ADMIN, CRM, SECRETS, STORAGE_KEY, Whole, letter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
MARK = "nobody-but-the-recipient-reads-this"
BODY = f"Grüße, {MARK}\r\n.a line that begins with a dot\r\n"
UNKNOWN_USER = "550 5.1.1 No such user"
BUSY = "450 4.2.1 Mailbox busy"
IDLE = 4.0  # seconds
SWEEPS_A_SECOND = 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory, rabbitmq, database, django_db_blocker):
    with django_db_blocker.unblock(), services.redis_server() as redis_url, SmtpSink() as service:
        made = Whole(tmp_path_factory.mktemp("whole"), redis_url, rabbitmq, service)
        try:
            made.start()
            yield made
        finally:
            made.stop()
            made.forget()


@pytest.fixture(autouse=True)
def _here(whole, settings, django_db_blocker):
    """This process looks where the others do."""
    settings.SHARED_STATE_URL = whole.redis_url
    settings.EVENTS_URL = whole.environment["EVENTS_URL"]
    settings.STORAGE_KEYS = [STORAGE_KEY]
    options = {**settings.STORAGES["messages"]["OPTIONS"], "location": str(whole.store)}
    settings.STORAGES = {**settings.STORAGES, "messages": {**settings.STORAGES["messages"], "OPTIONS": options}}
    with django_db_blocker.unblock():
        yield


def test_what_is_accepted_is_delivered_as_written_and_every_subscriber_is_told(whole):
    id_ = whole.send("one@outside.example", "blind@outside.example", body=BODY)
    mail = whole.until_sent_to("one@outside.example")
    assert (mail.mail_from, mail.recipients) == (CRM, ["one@outside.example", "blind@outside.example"])
    assert without_trace(mail.data) == letter("one@outside.example", body=BODY)
    whole.until("delivered", id_)

    def told():
        return {key: event for key, event in whole.published() if event["message"]["id"] == id_}

    wait_until(lambda: len(told()) == 3, "three events in RabbitMQ")
    assert told().keys() == {"mail.received", "mail.delivered", "smtp.delivery.result"}
    assert told()["smtp.delivery.result"]["attempt"]["status"] == "delivered"
    pending = WebhookDelivery.objects.filter(event__message=id_)
    wait_until(lambda: set(pending.values_list("status", "tries")) == {("pending", 1)}, "tries at a dead webhook")
    whole.open_receiver()


def test_who_is_refused_for_good_is_told_of_to_the_sender_and_without_a_sender_to_the_admins(whole):
    whole.service.refused["gone@outside.example"] = UNKNOWN_USER
    failed = whole.send("gone@outside.example", body=BODY)
    report = whole.until_sent_to(CRM)
    assert report.mail_from == ""
    assert b"multipart/report" in report.data
    assert b"Final-Recipient: rfc822; gone@outside.example" in report.data
    assert MARK.encode() not in report.data
    assert Message.objects.get(pk=failed).status == "failed"

    failed = whole.send("gone@outside.example", sender="", body=BODY)
    notice = Notice.objects.filter(message=failed)
    wait_until(lambda: notice.filter(kind="email", next_attempt_at__isnull=False).exists(), "a line for the digest")
    notice.update(next_attempt_at=timezone.now())  # else it waits for the end of the minute
    digest = whole.until_sent_to(ADMIN)
    assert digest.mail_from == ""
    assert b"gone@outside.example" in digest.data
    assert len(whole.sent_to(CRM)) == 1


def test_a_copy_is_kept_of_what_was_sent_and_the_body_goes_when_its_days_are_over_but_not_before_the_copy_is(whole):
    ids = [whole.send(f"{name}@outside.example", body=BODY) for name in ("kept", "waits")]
    copies = ArchiveCopy.objects.filter(message__in=ids)
    wait_until(lambda: [copy.status for copy in copies.all()] == ["kept"] * 2, "two copies")
    for copy in copies.all():
        assert archive.read(copy) == whole.until_sent_to(copy.recipients[0]).data

    Message.objects.filter(pk__in=ids).update(finished_at=timezone.now() - timedelta(days=8))
    later = timezone.now() + timedelta(hours=1)
    copies.filter(message=ids[1]).update(status="pending", kept_at=None, next_attempt_at=later)
    kept, waits = (Message.objects.filter(pk=id_, body_deleted_at=None) for id_ in ids)
    whole.begin_again("retention")
    wait_until(lambda: not kept.exists(), "the deletion of a body")
    keys = [Message.objects.get(pk=id_).store_key for id_ in ids]
    wait_until(lambda: not (whole.store / keys[0]).exists(), "the deletion of its octets")
    assert store.read(keys[1])

    copies.filter(status="pending").update(next_attempt_at=timezone.now())
    wait_until(lambda: copies.filter(status="kept").count() == 2, "the copy that was put off")
    whole.begin_again("retention")
    wait_until(lambda: not waits.exists(), "the deletion of the other body")
    for copy in copies.all():
        assert archive.read(copy) == whole.until_sent_to(copy.recipients[0]).data


def test_scheduled_mail_goes_when_it_is_time_and_what_was_cancelled_never(whole, capsys):
    moment = (timezone.now() + timedelta(seconds=3)).replace(microsecond=0) + timedelta(seconds=1)
    header = f"X-Send-At: {moment.isoformat()}\r\n"
    sent, cancelled = (whole.send(f"{name}@outside.example", header=header) for name in ("later", "never"))
    assert control.cancel([cancelled], actor="a test").changed == 1
    assert Message.objects.get(pk=sent).status == "scheduled"
    mail = whole.until_sent_to("later@outside.example")
    offset = time.time() - moment.timestamp()
    with capsys.disabled():
        print(f"\nscheduled mail went out {offset:+.2f} s from its time")
    assert 0 <= offset < 5
    assert without_trace(mail.data) == letter("later@outside.example")
    whole.until("delivered", sent)
    assert Message.objects.get(pk=cancelled).status == "cancelled"
    assert not whole.sent_to("never@outside.example")


def test_an_operator_pauses_a_queue_and_suspends_an_account_while_everything_runs(whole):
    queue = QueueSetting.objects.get(name="outbound.deliver")
    queue.paused = True
    queue.save()
    time.sleep(0.3)
    ids = [whole.send(f"paused{number}@outside.example") for number in range(3)]
    time.sleep(1.5)
    assert not any(whole.sent_to(f"paused{number}@outside.example") for number in range(3))
    queue.paused = False
    queue.save()
    whole.until("delivered", *ids)
    assert [len(whole.sent_to(f"paused{number}@outside.example")) for number in range(3)] == [1, 1, 1]

    assert whole.sign_in() == 235
    whole.account.status = "suspended"
    whole.account.save()
    try:
        wait_until(lambda: whole.sign_in() == 535, "the refusal of a suspended account", 1)
    finally:
        whole.account.status = "active"
        whole.account.save()
    wait_until(lambda: whole.sign_in() == 235, "the account's return", 1)


def test_dead_letters_are_tried_again_in_bulk_and_no_faster_than_asked(whole):
    addresses = [f"busy{number}@outside.example" for number in range(6)]
    whole.service.refused |= dict.fromkeys(addresses, BUSY)
    ids = [whole.send(address) for address in addresses]
    whole.until("dlq", *ids)
    for address in addresses:
        del whole.service.refused[address]
    operator = UserFactory(email="operator@platform.example", operator=True)
    wanted = MessageFilter(tenant=whole.tenant.pk, status=("dlq",))
    action = bulk.begin("reprocess", wanted, actor=operator, pace=30)
    assert action.counted == 6
    wait_until(lambda: BulkAction.objects.filter(pk=action.pk, changed=5).exists(), "the first page")
    [when] = BulkAction.objects.filter(pk=action.pk).values_list("next_page_at", flat=True)
    assert timedelta(seconds=5) < when - timezone.now() <= timedelta(seconds=10)
    BulkAction.objects.filter(pk=action.pk).update(next_page_at=timezone.now())
    whole.until("delivered", *ids)
    assert [len(whole.sent_to(address)) for address in addresses] == [1] * 6


def test_mail_that_comes_by_rabbitmq_goes_the_same_way(whole):
    content = payload(publisher_message_id="order-1", to=["ingested@outside.example"])
    content["body"]["content"] = BODY
    whole.publisher.publish(content, correlation_id="c-1")
    [answer] = whole.publisher.answers()
    assert (answer["publisher_message_id"], answer["status"]) == ("order-1", "accepted")
    mail = whole.until_sent_to("ingested@outside.example")
    assert (mail.mail_from, mail.recipients) == (CRM, ["ingested@outside.example"])
    assert MARK.encode() in mail.data
    whole.until("delivered", answer["incoming_email_id"])


def test_nothing_in_the_store_can_be_read_without_the_keys(whole):
    id_ = whole.send("sealed@outside.example", body=BODY)
    mail = whole.until_sent_to("sealed@outside.example")
    assert without_trace(mail.data) == letter("sealed@outside.example", body=BODY)
    files = [path.read_bytes() for path in whole.store.rglob("*") if path.is_file()]
    assert files
    assert all(content.startswith(b"\0SEALED") for content in files)
    assert not any(word in content for content in files for word in (MARK.encode(), b"outside.example", b"Subject"))
    assert store.read(Message.objects.get(pk=id_).store_key) == mail.data


def test_every_event_has_reached_rabbitmq_and_the_webhook_in_the_end(whole):
    receiver = whole.open_receiver()
    whole.until("delivered", whole.send("last@outside.example"))
    events = {str(pk) for pk in Event.objects.filter(tenant=whole.tenant).values_list("pk", flat=True)}
    wait_until(lambda: events <= {event["id"] for _, event in whole.published()}, "every event in RabbitMQ")
    wait_until(lambda: events <= {event["id"] for event in receiver.told()}, "every event at the webhook", 40)
    assert all(request.secret_used for request in receiver.requests)
    assert not OutboxEntry.objects.exists()


def test_logs_tell_no_secret_and_no_body_and_idle_processes_do_next_to_nothing(whole, capsys):
    whole.open_receiver()
    work = [OutboxEntry.objects.all(), *(m.objects.filter(status="pending") for m in (WebhookDelivery, ArchiveCopy))]
    wait_until(lambda: not any(rows.exists() for rows in work), "the end of all work", 40)
    time.sleep(1)
    for name, log in whole.logs().items():
        assert "Traceback" not in log, name
        for kind, secret in {**SECRETS, "body": MARK, "keys": whole.environment["CREDENTIAL_KEYS"]}.items():
            assert secret not in log, f"{kind} in the log of the {name}"
    lines = whole.lines()
    errors = [line for line in lines if line["level"] in ("error", "critical")]
    assert [line for line in errors if line.get("status") != "failed"] == []  # mail that was refused for good
    warnings = Counter((line["process"], line["event"][:50]) for line in lines if line["level"] == "warning")
    repeated = {event: count for (_, event), count in warnings.items() if event not in ("attempt", "message")}
    assert max(repeated.values(), default=0) <= 3, warnings

    before, statements, noted, begun = whole.seconds_of_cpu(), _statements(), len(lines), time.monotonic()
    time.sleep(IDLE)
    took = time.monotonic() - begun
    shares = {name: (used - before[name]) / took for name, used in whole.seconds_of_cpu().items()}
    rate = (_statements() - statements) / took
    with capsys.disabled():
        print(f"\nwarnings: {dict(warnings)}\nidle CPU: { {name: f'{share:.1%}' for name, share in shares.items()} }")
        print(f"idle transactions a second: {rate:.1f}")
    assert len(whole.lines()) == noted  # nobody says anything while there is nothing to do
    assert rate < 12 * SWEEPS_A_SECOND
    assert sum(shares.values()) < 0.5, shares  # a few percent; much else may run on this machine


def _statements() -> int:
    """Transactions of the database until now; each statement of an idle process is one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])
