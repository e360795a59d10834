"""Somebody is always told of what was not delivered: DEL-10, RET-3, DEL-8, RFC 3464, RFC 5321 §4.5.5."""

import email
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email import policy

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Account
from accounts.tests.factories import AccountFactory, UserFactory
from delivery import callbacks, chores, claims, control, notices, outbox, own_mail, quotas, sender, store, telling
from delivery.exceptions import StoreUnavailable
from delivery.models import Message, MessageStatus, Notice, Recipient, Suppression, Webhook, WebhookDelivery
from delivery.outgoing import relay
from delivery.tests.mail import accepted, raw_message
from delivery.tests.test_sender import GONE, deliver, make_due
from delivery.tests.told import told
from providers import base
from providers.models import Provider
from providers.tests.factories import ProviderFactory, RoutingRuleFactory
from providers.tests.signing import far_end

pytestmark = pytest.mark.django_db
A, B = "a@outside.example", "b@outside.example"
REFUSED = base.RecipientResult(base.RecipientStatus.FAILED, code="550", text="550 5.1.1 No such user")


@pytest.fixture(autouse=True)
def _one_at_a_time(settings):
    """What is sent takes no notices along, so that each test says what is sent when."""
    settings.DELIVERY_BATCH = 1


def work_off():
    """What the sweep would find and a worker do, whenever it is due."""
    Notice.objects.filter(next_attempt_at__isnull=False).update(next_attempt_at=timezone.now())
    assert telling.due() or not Notice.objects.filter(status="pending").exists()
    telling.run(chores.Turn())


def failed_message(account, box, recipients=(A,), **values):
    message = accepted(account, None, list(recipients), **values)
    box.answers.append(GONE)
    deliver(message)
    assert message.status == MessageStatus.FAILED
    return message


def sent_notices():
    return list(Message.objects.filter(source=Message.Source.NOTICE).order_by("pk"))


def text_of(message):
    parsed = email.message_from_bytes(store.read(message.store_key), policy=policy.default)
    return parsed.get_body(("plain",)).get_content()


def addresses(notice):
    return [entry["address"] for entry in notice.recipients]


@pytest.fixture
def admins(acme):
    """Two who are told, and two who are not."""
    UserFactory(tenant=acme, role="owner", email="owner@acme.example")
    UserFactory(tenant=acme, role="admin", email="admin@acme.example")
    UserFactory(tenant=acme, role="viewer", email="viewer@acme.example")
    UserFactory(tenant=acme, role="owner", email="gone@acme.example", is_active=False)


@pytest.fixture
def by_email(acme_account, admins):
    Account.objects.filter(pk=acme_account.pk).update(failure_notice="email")
    return acme_account


class TestReports:
    def test_the_sender_gets_a_report_with_the_empty_sender(self, acme_account, box):
        raw = raw_message("Bcc: secret@outside.example", "X-Mine: yes")
        message = accepted(acme_account, raw, [A, B])
        box.answers.append({A: REFUSED})
        deliver(message)
        assert message.status == MessageStatus.PARTIAL
        [notice] = Notice.objects.all()
        assert (notice.kind, notice.status, addresses(notice)) == ("dsn", "pending", [A])

        work_off()
        [report] = sent_notices()
        deliver(report)
        assert report.status == MessageStatus.DELIVERED
        taken = box.accepted[-1]
        assert (taken.mail_from, taken.recipients) == ("", ("crm@acme.example",))
        parsed = email.message_from_bytes(taken.raw, policy=policy.default)
        assert parsed["From"].addresses[0].addr_spec == "MAILER-DAEMON@acme.example"
        _, one = parsed.get_payload()[1].get_payload()
        assert one["Final-Recipient"] == f"rfc822; {A}"
        assert one["Diagnostic-Code"] == "smtp; 550 5.1.1 No such user"
        returned = parsed.get_payload()[2].get_content()
        assert "X-Mine: yes" in returned
        assert "secret" not in returned
        notice.refresh_from_db()
        assert (notice.status, notice.sent_id) == ("done", report.pk)
        assert message.pk != report.pk

    def test_it_arrives_at_a_real_server(self, acme, acme_account, broker):
        with far_end() as mailbox:
            config = {"host": "127.0.0.1", "port": mailbox.port, "security": "none"}
            ProviderFactory(tenant=acme, type="smtp", config=config)
            message = accepted(acme_account, None, [A])
            [one] = claims.claim([message.pk])
            assert claims.park(one.message, "poison", "Claimed 3 times without an outcome.")
            work_off()
            [report] = sent_notices()
            deliver(report)
            [(mail_from, recipients, raw)] = mailbox.mails
        assert report.status == MessageStatus.DELIVERED
        assert (mail_from, recipients) == ("<>", ["crm@acme.example"])
        parsed = email.message_from_bytes(raw, policy=policy.default)
        assert parsed.get_content_type() == "multipart/report"
        assert parsed.get_payload()[1].get_payload()[1]["Status"] == "5.3.0"

    def test_it_is_written_beside_the_outcome_or_not_at_all(self, acme_account, box):
        message = accepted(acme_account, None, [A])
        [one] = claims.claim([message.pk])
        with transaction.atomic():
            claims.park(one.message, "poison", "Claimed too often.")
            assert Notice.objects.count() == 1
            transaction.set_rollback(True)
        assert not Notice.objects.exists()
        assert Message.objects.get().status == MessageStatus.PROCESSING

    def test_an_unreadable_body_is_told_of_without_its_header(self, acme_account, box, monkeypatch):
        message = accepted(acme_account, None, [A])
        store.delete(message.store_key)
        monkeypatch.setattr(sender, "FETCH_WAITS", ())
        deliver(message)
        assert message.status == MessageStatus.STORAGE_ERROR
        work_off()
        parsed = email.message_from_bytes(store.read(sent_notices()[0].store_key), policy=policy.default)
        assert len(parsed.get_payload()) == 2

    def test_what_a_rule_rejects_and_who_is_suppressed_is_told(self, acme, acme_account, box):
        RoutingRuleFactory(
            tenant=acme,
            action="reject",
            conditions=[{"field": "recipient", "values": ["banned.example"]}],
        )
        Suppression.objects.create(tenant=acme, address=B)
        message = accepted(acme_account, None, [A, B, "x@banned.example"])
        deliver(message)
        [notice] = Notice.objects.all()
        assert set(addresses(notice)) == {B, "x@banned.example"}

    def test_nobody_is_told_of_what_a_person_wanted(self, acme, acme_account, box):
        RoutingRuleFactory(tenant=acme, action="discard", conditions=[{"field": "recipient", "values": [A]}])
        RoutingRuleFactory(tenant=acme, action="hold", conditions=[{"field": "recipient", "values": [B]}])
        deliver(accepted(acme_account, None, [A]), accepted(acme_account, None, [B]))
        control.cancel([accepted(acme_account).pk, Message.objects.get(status="held").pk], actor=None)
        assert set(Message.objects.values_list("status", flat=True)) == {"discarded", "cancelled"}
        assert not Notice.objects.exists()

    def test_one_that_has_failed_is_told_of_while_others_are_still_tried(self, acme_account, box):
        message = accepted(acme_account, None, [A, B])
        later = base.RecipientResult(base.RecipientStatus.DEFERRED, code="450", text="450 Busy")
        box.answers.append({A: REFUSED, B: later})
        deliver(message)
        assert message.status == MessageStatus.RETRYING
        assert addresses(Notice.objects.get()) == [A]
        make_due(message)
        box.answers.append({B: REFUSED})
        deliver(message)
        assert [addresses(notice) for notice in Notice.objects.order_by("pk")] == [[A], [B]]

    def test_the_rules_of_a_tenant_do_not_stop_it(self, acme, acme_account, box):
        failed_message(acme_account, box)
        for action in ("hold", "reject", "discard"):
            RoutingRuleFactory(tenant=acme, action=action)
        work_off()
        [report] = sent_notices()
        deliver(report)
        assert report.status == MessageStatus.DELIVERED

    def test_quotas_do_not_count_it(self, acme, acme_account, box):
        failed_message(acme_account, box)
        work_off()
        assert len(sent_notices()) == 1
        since = timezone.now() - timedelta(hours=1)
        assert (quotas.count(acme_account, since), quotas.count(acme, since)) == (1, 1)

    def test_the_configured_sender_is_used(self, acme_account, box, settings):
        settings.NOTICE_FROM = "bounces@platform.example"
        failed_message(acme_account, box)
        work_off()
        assert sent_notices()[0].header_from == "bounces@platform.example"

    def test_a_sender_beyond_ascii_gets_it_where_smtputf8_goes(self, acme_account, box):
        failed_message(acme_account, box, mail_from="jörg@acme.example", smtputf8=True)
        work_off()
        [report] = sent_notices()
        assert report.smtputf8
        assert report.recipients.get().address == "jörg@acme.example"


class TestOnce:
    def test_a_recipient_is_told_of_once_though_it_is_tried_again(self, acme_account, box):
        message = failed_message(acme_account, box)
        work_off()
        control.retry([message.pk], actor=None)
        box.answers.append(GONE)
        deliver(message)
        assert message.status == MessageStatus.FAILED
        assert Notice.objects.count() == 1

    def test_a_bounce_after_a_partial_failure_is_told_for_itself(self, acme_account, box):
        message = accepted(acme_account, None, [A, B])
        box.answers.append({A: REFUSED})
        deliver(message)
        for _ in range(2):
            callbacks.take(Provider.objects.get().pk, [told("bounced", to=B), told("bounced", to=A)])
        assert [addresses(notice) for notice in Notice.objects.order_by("pk")] == [[A], [B]]

    def test_a_complaint_is_no_failure(self, acme_account, box):
        deliver(accepted(acme_account))
        callbacks.take(Provider.objects.get().pk, [told("complained")])
        assert not Notice.objects.exists()

    def test_a_soft_bounce_is_told_later_unless_it_is_confirmed_meanwhile(self, acme_account, box):
        deliver(accepted(acme_account))
        provider = Provider.objects.get()
        callbacks.take(provider.pk, [told("soft")])
        notice = Notice.objects.get()
        assert notice.next_attempt_at - timezone.now() > timedelta(minutes=59)
        callbacks.take(provider.pk, [told("confirmed")])
        work_off()
        notice.refresh_from_db()
        assert (notice.status, notice.recipients, sent_notices()) == ("done", [], [])

    def test_who_is_tried_again_before_it_was_told_is_told_when_that_fails(self, acme_account, box):
        message = failed_message(acme_account, box)
        control.retry([message.pk], actor=None)
        work_off()
        assert sent_notices() == []
        box.answers.append(GONE)
        deliver(message)
        work_off()
        assert len(sent_notices()) == 1

    def test_working_it_off_again_sends_nothing_again(self, acme_account, box):
        failed_message(acme_account, box)
        work_off()
        telling.run(chores.Turn())
        assert len(sent_notices()) == 1

    def test_who_is_late_sends_nothing_and_leaves_no_body(self, acme_account, box, monkeypatch):
        """Another worker has taken it after the lease was over."""
        failed_message(acme_account, box)
        [late] = telling._take()
        Notice.objects.update(next_attempt_at=timezone.now())
        bodies = set(store.iterate())
        telling.run(chores.Turn())
        [report] = sent_notices()
        telling._do([late])
        assert sent_notices() == [report]
        assert set(store.iterate()) - bodies == {report.store_key}

    @pytest.mark.parametrize("step", ["put", "keys_for"])
    def test_a_store_that_is_away_loses_nothing(self, acme_account, box, monkeypatch, step):
        failed_message(acme_account, box)
        with monkeypatch.context() as patch:

            def away(*_):
                raise StoreUnavailable("away")

            patch.setattr(own_mail.store, step, away)
            work_off()
        notice = Notice.objects.get()
        assert (notice.status, notice.tries, sent_notices()) == ("pending", 1, [])
        assert notice.next_attempt_at > timezone.now()
        work_off()
        assert len(sent_notices()) == 1

    def test_a_crash_before_the_commit_is_made_good(self, acme_account, box, monkeypatch):
        failed_message(acme_account, box)
        with monkeypatch.context() as patch:

            def die(*_):
                raise KeyboardInterrupt

            patch.setattr(own_mail, "_insert", die)
            with pytest.raises(KeyboardInterrupt):
                work_off()
        assert sent_notices() == []
        assert Notice.objects.get().status == "pending"
        work_off()
        assert len(sent_notices()) == 1


class TestOurOwnFailures:
    def test_a_report_that_fails_becomes_a_line_of_the_digest_and_that_is_the_end(self, acme_account, box, admins):
        message = failed_message(acme_account, box)
        work_off()
        [report] = sent_notices()
        box.answers.append(GONE)
        deliver(report)
        assert report.status == MessageStatus.FAILED
        notice = Notice.objects.get()
        assert (notice.kind, notice.status) == ("email", "pending")

        work_off()
        _, digest = sent_notices()
        assert str(message.pk) in text_of(digest)
        box.answers.append(GONE)
        deliver(digest)
        notice.refresh_from_db()
        assert (notice.status, notice.next_attempt_at) == ("failed", None)
        assert "No such user" in notice.text
        assert Notice.objects.count() == 1

    def test_a_report_that_bounces_later_does_so_too(self, acme_account, box):
        failed_message(acme_account, box)
        work_off()
        [report] = sent_notices()
        deliver(report)
        provider = Provider.objects.get()
        id_ = report.recipients.get().provider_message_id
        callbacks.take(provider.pk, [told("bounced", id_=id_, to="crm@acme.example")])
        assert Notice.objects.get().kind == "email"

    def test_a_digest_that_reached_one_of_them_has_told(self, by_email, box):
        failed_message(by_email, box)
        work_off()
        [digest] = sent_notices()
        box.answers.append({"owner@acme.example": REFUSED})
        deliver(digest)
        assert Notice.objects.get().status == "done"


class TestDigests:
    def test_the_admins_are_told_once_of_everything(self, acme, by_email, globex_account, box, settings):
        settings.WEB_PUBLIC_URL = "https://mail.example"
        messages = [failed_message(by_email, box) for _ in range(3)]
        work_off()
        [digest] = sent_notices()
        people = {r.address for r in digest.recipients.all()}
        assert people == {"owner@acme.example", "admin@acme.example"}
        assert (digest.tenant, digest.account, digest.mail_from) == (acme, by_email, "")
        assert digest.subject == "Acme: 3 messages not delivered"
        text = text_of(digest)
        for message in messages:
            assert f"https://mail.example/admin/delivery/message/{message.pk}/change/" in text
        assert "No such user" in text
        assert set(Notice.objects.values_list("status", "sent")) == {("done", digest.pk)}
        deliver(digest)
        assert digest.status == MessageStatus.DELIVERED

    def test_the_first_goes_within_a_minute_and_the_next_after_the_interval(self, by_email, box):
        failed_message(by_email, box)
        assert Notice.objects.get().next_attempt_at - timezone.now() <= timedelta(minutes=1)
        work_off()
        deliver(*sent_notices())
        failed_message(by_email, box)
        work_off()
        assert len(sent_notices()) == 1
        waiting = Notice.objects.get(status="pending")
        assert timedelta(minutes=14) < waiting.next_attempt_at - timezone.now() < timedelta(minutes=16)
        Notice.objects.filter(status="done").update(finished_at=timezone.now() - timedelta(minutes=16))
        work_off()
        assert len(sent_notices()) == 2

    def test_none_goes_while_the_one_before_it_has_not_left(self, by_email, box):
        for _ in range(2):
            failed_message(by_email, box)
            work_off()
            Notice.objects.filter(status="done").update(finished_at=timezone.now() - timedelta(hours=1))
        assert len(sent_notices()) == 1
        deliver(*sent_notices())
        work_off()
        assert len(sent_notices()) == 2

    def test_the_empty_sender_is_never_reported_to(self, acme, box, admins):
        account = AccountFactory(tenant=acme, name="mx", may_send_bounces=True)
        failed_message(account, box, mail_from="")
        assert Notice.objects.get().kind == "email"

    def test_many_are_counted_and_some_named(self, by_email, box):
        bulk = [
            Message(
                tenant=by_email.tenant,
                account=by_email,
                status="failed",
                mail_from="crm@acme.example",
                header_from="crm@acme.example",
                subject=f"Number {n:03}",
                size=1,
                recipient_count=1,
                store_key=f"x/{n}",
                accepted_at=timezone.now(),
            )
            for n in range(120)
        ]
        Message.objects.bulk_create(bulk)
        Recipient.objects.bulk_create(
            Recipient(message=message, address=A, status="failed", updated_at=timezone.now()) for message in bulk
        )
        with transaction.atomic():
            notices.note([message.pk for message in bulk], timezone.now())
        work_off()
        [digest] = sent_notices()
        assert digest.subject == "Acme: 120 messages not delivered"
        assert "Number 049" in text_of(digest)
        assert "Number 050" not in text_of(digest)
        assert "... and 70 messages more." in text_of(digest)

    def test_where_nobody_administers_the_operators_are_told_and_without_them_the_log(
        self, acme_account, box, operator
    ):
        Account.objects.update(failure_notice="email")
        failed_message(acme_account, box)
        work_off()
        assert sent_notices()[0].recipients.get().address == operator.email
        operator.delete()
        Message.objects.filter(source="notice").update(status="delivered", next_attempt_at=None)
        Notice.objects.update(finished_at=timezone.now() - timedelta(hours=1))
        failed_message(acme_account, box)
        work_off()
        assert Notice.objects.get(status="failed").text.startswith("There is nobody to tell")

    def test_mail_held_for_want_of_a_provider_alarms_the_admins(self, acme, acme_account, broker, admins):
        """DEL-8."""
        held = [accepted(acme_account) for _ in range(3)]
        deliver(*held)
        assert {message.status for message in held} == {"held"}
        assert Notice.objects.count() == 1
        work_off()
        [digest] = sent_notices()
        assert digest.subject == "Acme: 3 messages held"
        assert "No rule matches and there is no default provider." in " ".join(text_of(digest).split())
        deliver(digest)
        assert digest.status == "held"
        assert Notice.objects.count() == 1

    def test_mail_released_meanwhile_is_not_told_of(self, acme_account, broker, admins):
        message = accepted(acme_account)
        deliver(message)
        control.cancel([message.pk], actor=None)
        work_off()
        assert (Notice.objects.get().status, sent_notices()) == ("done", [])


class TestWebhooks:
    @pytest.fixture
    def by_webhook(self, acme_account, admins):
        Account.objects.filter(pk=acme_account.pk).update(failure_notice="webhook")
        return acme_account

    @pytest.fixture(autouse=True)
    def _ask_anew_who_subscribes(self):
        outbox.forget()
        yield
        outbox.forget()

    @staticmethod
    def _hook(tenant, **values):
        return Webhook.objects.create(tenant=tenant, name="erp", url="https://erp.example/", **values)

    @pytest.mark.parametrize("types", [[], ["mail.failed"]])
    def test_a_webhook_that_has_taken_the_event_has_told(self, by_webhook, box, types):
        self._hook(by_webhook.tenant, event_types=types)
        failed_message(by_webhook, box)
        work_off()  # still in the outbox
        relay.FAN_OUT.run(chores.Turn())
        work_off()  # on its way
        assert Notice.objects.get().status == "pending"
        WebhookDelivery.objects.update(status="delivered", next_attempt_at=None)
        work_off()
        assert Notice.objects.get().text == "Told by the webhook erp."
        assert sent_notices() == []

    def test_when_the_webhook_never_took_it_the_admins_are_told(self, by_webhook, box):
        self._hook(by_webhook.tenant)
        failed_message(by_webhook, box)
        relay.FAN_OUT.run(chores.Turn())
        WebhookDelivery.objects.update(status="failed", next_attempt_at=None)
        work_off()
        work_off()
        assert sent_notices()[0].subject == "Acme: 1 message not delivered"

    @pytest.mark.parametrize("change", ["types", "disabled", "other account", "other tenant", "none"])
    def test_without_one_the_admins_are_told(self, acme, by_webhook, globex, box, change):
        if change == "types":
            self._hook(acme, event_types=["mail.opened", "mail.bounced"])
        if change == "disabled":
            self._hook(acme, enabled=False)
        if change == "other account":
            self._hook(acme, account=AccountFactory(tenant=acme))
        if change == "other tenant":
            self._hook(globex)
        failed_message(by_webhook, box)
        relay.FAN_OUT.run(chores.Turn())
        work_off()
        work_off()
        assert sent_notices()[0].subject == "Acme: 1 message not delivered"

    def test_it_waits_until_the_message_has_ended(self, by_webhook, box):
        message = accepted(by_webhook, None, [A, B])
        later = base.RecipientResult(base.RecipientStatus.DEFERRED, code="450", text="450 Busy")
        box.answers.append({A: REFUSED, B: later})
        deliver(message)
        work_off()
        assert Notice.objects.get().kind == "webhook"
        make_due(message)
        deliver(message)
        assert message.status == "partial"
        work_off()
        assert Notice.objects.get().kind == "email"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["dsn", "email"])
def test_two_workers_side_by_side_send_each_once(acme, acme_account, box, kind):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite in memory lets no second writer wait")
    UserFactory(tenant=acme, role="owner", email="owner@acme.example")
    Account.objects.filter(pk=acme_account.pk).update(failure_notice=kind)
    messages = [failed_message(acme_account, box) for _ in range(25)]
    Notice.objects.update(next_attempt_at=timezone.now())

    def worker(_):
        try:
            telling.run(chores.Turn())
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(worker, range(4)))
    assert len(sent_notices()) == (len(messages) if kind == "dsn" else 1)
    assert set(Notice.objects.values_list("status", flat=True)) == {"done"}
    assert Notice.objects.values("sent").distinct().count() == len(sent_notices())
