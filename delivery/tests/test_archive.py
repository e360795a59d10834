"""A copy of what was sent, made once, sealed, checked when it is read, and shown to nobody else. ARC-1, ADM-4."""

import gzip
import io
import threading
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.urls import reverse
from django.utils import timezone
from structlog.testing import capture_logs

from accounts.models import AuditEntry, Tenant
from accounts.tests.factories import UserFactory
from delivery import archive, archiving, chores, expiry, record, sealed, sender, store
from delivery.exceptions import CopyUnreadable, StoreUnavailable
from delivery.models import ArchiveCopy, ArchiveRecipient, DeliveryLog, Message
from delivery.tests.mail import accepted, raw_message
from providers.backends.memory import MemoryBackend
from providers.base import RecipientResult, RecipientStatus
from providers.exceptions import TemporaryFailure
from providers.tests.factories import ProviderFactory
from providers.tests.standins import GraphStandIn

pytestmark = pytest.mark.django_db
RAW = raw_message("Bcc: hidden@outside.example", "X-Tracking: 7")


@pytest.fixture
def archiving_acme(acme):
    Tenant.objects.filter(pk=acme.pk).update(archived=True)
    acme.refresh_from_db()
    return acme


@pytest.fixture
def sent(archiving_acme, acme_account, box):
    """A message that was sent, its copy still to be made."""
    message = accepted(acme_account, RAW)
    sender.deliver([message.pk])
    message.refresh_from_db()
    return message


def make_copies():
    archiving.run(chores.Turn())


def due_now():
    ArchiveCopy.objects.filter(status="pending").update(next_attempt_at=timezone.now())


def break_store(monkeypatch, method):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(type(store._storage()), method, fail)


class TestWanted:
    def test_a_tenant_that_does_not_archive_has_no_copies(self, acme_account, box):
        sender.deliver([accepted(acme_account).pk])
        assert not ArchiveCopy.objects.exists()

    def test_each_successful_attempt_wants_a_copy(self, sent):
        copy = ArchiveCopy.objects.get()
        attempt = sent.delivery_logs.get()
        assert (copy.delivery_log_id, copy.provider_message_id) == (attempt.pk, attempt.provider_message_id)
        assert (copy.status, copy.recipients, copy.subject) == ("pending", ["someone@outside.example"], "Greetings")
        assert archiving.CHORE.due()

    def test_an_attempt_that_failed_wants_none(self, archiving_acme, acme_account, box):
        box.answers.append(TemporaryFailure("Later.", code="busy"))
        message = accepted(acme_account)
        sender.deliver([message.pk])
        assert message.delivery_logs.get().status == "retrying"
        assert not ArchiveCopy.objects.exists()

    def test_of_a_partial_one_the_recipients_that_were_served_are_named(self, archiving_acme, acme_account, box):
        box.answers.append({"bert@outside.example": RecipientResult(RecipientStatus.FAILED, code="550")})
        sender.deliver([accepted(acme_account, RAW, ["anna@outside.example", "bert@outside.example"]).pk])
        assert ArchiveCopy.objects.get().recipients == ["anna@outside.example"]
        assert [row.address for row in ArchiveRecipient.objects.all()] == ["anna@outside.example"]

    def test_what_is_not_recorded_is_not_wanted_either(self, archiving_acme, acme_account, box, monkeypatch):
        """One transaction: a crash after it leaves both, one before it neither."""
        real = archive.want

        def die(*arguments):
            real(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(record.archive, "want", lambda a, m: die(a, m) if a else None)
        message = accepted(acme_account)
        with pytest.raises(KeyboardInterrupt):
            sender.deliver([message.pk])
        assert message.delivery_logs.get().status == "sending"
        assert not ArchiveCopy.objects.exists()

    def test_a_repeat_is_passed_over(self, sent):
        attempt = sent.delivery_logs.get()
        again = DeliveryLog.objects.get(pk=attempt.pk)
        again.pk = None
        again.id = archive.uuid7()
        archive.want([attempt, again], {sent.pk: sent})
        assert ArchiveCopy.objects.count() == ArchiveRecipient.objects.count() == 1

    def test_another_message_under_the_same_id_of_the_provider_has_a_copy_too(self, sent, acme_account):
        """Some services take their ids from the client's own Message-ID."""
        other = accepted(acme_account)
        attempt = DeliveryLog.objects.get()
        attempt.id, attempt.message_id = archive.uuid7(), other.pk
        archive.want([attempt], {other.pk: other})
        assert ArchiveCopy.objects.get(message_id=other.pk).provider_message_id == ""

    def test_the_recipients_of_a_second_call_under_the_same_id_are_not_lost(self, sent):
        attempt = DeliveryLog.objects.get()
        attempt.id, attempt.recipients = archive.uuid7(), ["bert@outside.example"]
        attempt.results = {"bert@outside.example": {"status": "delivered"}}
        archive.want([attempt], {sent.pk: sent})
        assert ArchiveCopy.objects.count() == 2


class TestMade:
    def test_the_copy_is_what_the_provider_was_given(self, sent, box):
        make_copies()
        copy = ArchiveCopy.objects.get()
        assert archive.read(copy) == box.accepted[0].raw
        assert b"Bcc" not in archive.read(copy)
        assert (copy.status, copy.origin, copy.size) == ("kept", "sent", len(box.accepted[0].raw))
        assert (copy.next_attempt_at, copy.error_text) == (None, "")
        assert not archiving.CHORE.due()

    def test_it_lies_sealed_and_compressed_whether_bodies_are_or_not(self, sent):
        make_copies()
        copy = ArchiveCopy.objects.get()
        lying = store.read(copy.store_key)
        assert len(lying) == copy.stored_size
        assert sealed.is_sealed(lying, sealed.COPY)
        opened = sealed.unseal(lying, sealed.copy_keys(), kind=sealed.COPY, context=copy.store_key.encode())
        assert opened == gzip.compress(archive.read(copy), mtime=0)

    def test_keys_in_their_order_are_copies_in_theirs(self):
        ids = [archive.uuid7() for _ in range(100)]
        assert sorted(map(archive.key_for, ids)) == [archive.key_for(id_) for id_ in ids]

    def test_making_it_twice_makes_it_once(self, sent):
        make_copies()
        before = ArchiveCopy.objects.values().get()
        make_copies()
        assert ArchiveCopy.objects.values().get() == before

    def test_a_worker_that_died_after_storing_it_is_followed_by_one_that_finds_it(self, sent, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(archiving, "_record", lambda _works: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                make_copies()
        assert not archiving.CHORE.due(), "it may be alive"
        due_now()
        make_copies()
        copy = ArchiveCopy.objects.get()
        assert copy.store_key == archive.key_for(copy.pk)
        assert archive.read(copy)

    def test_what_a_crash_has_cut_off_is_not_taken_for_the_copy(self, sent):
        copy = ArchiveCopy.objects.get()
        store.put(archive.key_for(copy.pk), io.BytesIO(b"half"))
        make_copies()
        copy.refresh_from_db()
        assert copy.store_key == archive.key_for(copy.pk, 1)
        assert archive.read(copy)

    def test_a_store_that_is_away_is_tried_again_and_in_the_end_told_of(self, sent, monkeypatch):
        with monkeypatch.context() as patch:
            break_store(patch, "save_many")
            waits = []
            for _ in range(len(archiving.RETRY_WAITS)):
                make_copies()
                copy = ArchiveCopy.objects.get()
                assert (copy.status, copy.error_text) == ("pending", "the message store failed: Input/output error")
                waits.append(round((copy.next_attempt_at - timezone.now()).total_seconds()))
                due_now()
            assert waits == list(archiving.RETRY_WAITS)
            with capture_logs() as logs:
                make_copies()
        copy.refresh_from_db()
        assert (copy.status, copy.next_attempt_at) == ("failed", None)
        assert ("not archived", "error") in [(entry["event"], entry["log_level"]) for entry in logs]
        assert archive.retry([copy.pk]) == 1
        make_copies()
        copy.refresh_from_db()
        assert archive.read(copy)

    def test_a_copy_that_kills_its_worker_is_given_up_too(self, sent, monkeypatch):
        monkeypatch.setattr(archiving, "_get", lambda _work: (_ for _ in ()).throw(KeyboardInterrupt))
        for _ in range(len(archiving.RETRY_WAITS)):
            due_now()
            with pytest.raises(KeyboardInterrupt):
                make_copies()
        assert ArchiveCopy.objects.get().tries == len(archiving.RETRY_WAITS)

    def test_without_its_body_there_is_no_copy_and_an_error_says_so(self, sent):
        Message.objects.update(body_deleted_at=timezone.now())
        make_copies()
        copy = ArchiveCopy.objects.get()
        assert (copy.status, copy.error_text) == ("failed", "The body of the message is no longer stored.")
        with pytest.raises(CopyUnreadable, match="There is no copy"):
            archive.read(copy)

    def test_the_body_is_kept_until_the_copy_is_made(self, archiving_acme, sent):
        Message.objects.update(finished_at=timezone.now() - timedelta(days=8))
        assert not expiry.bodies(archiving_acme, timezone.now()).exists()
        make_copies()
        assert expiry.bodies(archiving_acme, timezone.now()).exists()

    def test_large_messages_go_alone(self, archiving_acme, acme_account, box, monkeypatch):
        monkeypatch.setattr(archiving, "MOST_BYTES", len(RAW) + 10)
        messages = [accepted(acme_account, RAW) for _ in range(3)]
        sender.deliver([message.pk for message in messages])
        assert len(archiving._begin()) == 1
        make_copies()
        assert ArchiveCopy.objects.filter(status="kept").count() == 2

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="threads cannot share SQLite's database in memory")
    def test_two_at_once_make_every_copy_once(self, transactional_db, archiving_acme, acme_account, box, monkeypatch):
        monkeypatch.setattr(archiving, "PAGE", 3)
        for _ in range(12):
            sender.deliver([accepted(acme_account, RAW).pk])

        def work():
            make_copies()
            connections.close_all()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        make_copies()
        copies = ArchiveCopy.objects.all()
        assert {(copy.status, copy.tries) for copy in copies} == {("kept", 1)}
        assert all(archive.read(copy) for copy in copies)


class TestRead:
    @pytest.fixture
    def copy(self, sent):
        make_copies()
        return ArchiveCopy.objects.get()

    def replace(self, copy, octets):
        store.delete(copy.store_key)
        store.put(copy.store_key, io.BytesIO(octets))

    def test_a_flipped_bit_is_found(self, copy):
        lying = bytearray(store.read(copy.store_key))
        lying[-1] ^= 1
        self.replace(copy, bytes(lying))
        with pytest.raises(CopyUnreadable, match="damaged"):
            archive.read(copy)

    def test_another_copy_in_its_place_is_found(self, copy):
        self.replace(copy, archive.packed(b"other", copy.store_key))
        with pytest.raises(CopyUnreadable, match="checksum does not match"):
            archive.read(copy)

    def test_a_copy_that_is_gone_is_told_of(self, copy):
        store.delete(copy.store_key)
        with pytest.raises(CopyUnreadable, match="not in the message store"):
            archive.read(copy)

    def test_a_key_that_is_not_given_is_no_damage(self, copy, settings):
        settings.CREDENTIAL_KEYS = ["MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE="]
        with pytest.raises(StoreUnavailable, match="key that is not given"):
            archive.read(copy)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="threads cannot share SQLite's database in memory")
class TestGraph:
    @pytest.fixture
    def graph(self):
        with GraphStandIn() as service:
            yield service

    @pytest.fixture
    def copy(self, graph, archiving_acme, acme_account, broker):
        ProviderFactory(tenant=archiving_acme, type="msgraph", config=graph.config(exactly_once=True))
        message = accepted(acme_account)
        sender.deliver([message.pk])
        return ArchiveCopy.objects.get()

    def test_the_message_is_fetched_as_graph_keeps_it(self, graph, copy):
        make_copies()
        copy.refresh_from_db()
        assert (copy.status, copy.origin) == ("kept", "fetched")
        assert archive.read(copy).startswith(b"X-MS-Exchange-Organization-SCL")
        assert graph.journal[-1].endswith("/$value")

    def test_what_is_not_there_yet_is_asked_for_again(self, graph, copy):
        graph.unseen = 1
        make_copies()
        copy.refresh_from_db()
        assert (copy.status, copy.error_text) == ("pending", "The provider does not show the message yet.")
        assert 50 < (copy.next_attempt_at - timezone.now()).total_seconds() < 61
        due_now()
        make_copies()
        copy.refresh_from_db()
        assert (copy.status, copy.origin) == ("kept", "fetched")

    @pytest.mark.parametrize("trouble", ["gone", "closed", "down"])
    def test_what_cannot_be_fetched_is_kept_as_we_sent_it(self, graph, copy, trouble):
        if trouble == "gone":
            graph.drafts.clear()
        elif trouble == "closed":
            graph.closed.add("crm@acme.example")
        else:
            graph.fail_next(503, times=20)
        for _ in archiving.FETCH_WAITS:
            make_copies()
            copy.refresh_from_db()
            assert copy.status == "pending"
            due_now()
        make_copies()
        copy.refresh_from_db()
        assert (copy.status, copy.origin) == ("kept", "sent")
        assert b"Subject: Greetings" in archive.read(copy)

    def test_a_mailbox_that_keeps_nothing_is_not_asked(self, graph, archiving_acme, acme_account, broker):
        config = graph.config(exactly_once=True, save_to_sent_items=False)
        ProviderFactory(tenant=archiving_acme, type="msgraph", config=config)
        sender.deliver([accepted(acme_account).pk])
        make_copies()
        assert ArchiveCopy.objects.get().origin == "sent"
        assert not [entry for entry in graph.journal if entry.endswith("$value")]


class TestAdmin:
    @pytest.fixture
    def copy(self, sent):
        make_copies()
        return ArchiveCopy.objects.get()

    def button(self, copy, name):
        return reverse("admin:delivery_archivecopy_do", args=[copy.pk, name])

    @pytest.mark.parametrize(("role", "may"), [("owner", True), ("admin", True), ("user", False), ("viewer", False)])
    def test_who_may_read_bodies_downloads_a_copy_and_it_is_on_record(self, client, acme, copy, role, may):
        client.force_login(UserFactory(tenant=acme, role=role))
        answer = client.post(self.button(copy, "download"))
        assert answer.status_code == (200 if may else 403)
        entries = AuditEntry.objects.filter(action="archivecopy.read", target_id=str(copy.pk))
        assert entries.exists() == may
        if may:
            assert answer.content == archive.read(copy)
            assert answer["Content-Type"] == "message/rfc822"

    def test_another_tenant_sees_nothing_of_it(self, client, globex, copy):
        client.force_login(UserFactory(tenant=globex, role="owner"))
        assert client.post(self.button(copy, "download")).status_code == 404
        assert client.get(reverse("admin:delivery_archivecopy_change", args=[copy.pk])).status_code == 404
        for term in (str(copy.pk), "someone@outside.example", "Greetings", f"id:{copy.provider_message_id}"):
            page = client.get(reverse("admin:delivery_archivecopy_changelist"), {"q": term})
            assert f"/{copy.pk}/change/" not in page.content.decode()

    @pytest.mark.parametrize("what", ["pk", "message_id", "mail_from", "recipient", "subject", "header", "provider"])
    def test_copies_are_found(self, client, acme, acme_account, copy, what):
        ArchiveCopy.objects.update(message_id_header="<1@acme.example>")
        terms = {
            "recipient": "Someone@outside.example".lower(),
            "subject": "greetings",
            "header": "<1@acme.example>",
            "provider": f"id: {copy.provider_message_id}",
        }
        client.force_login(UserFactory(tenant=acme, role="owner"))
        page = client.get(
            reverse("admin:delivery_archivecopy_changelist"), {"q": terms.get(what) or str(getattr(copy, what))}
        )
        assert f"/{copy.pk}/change/" in page.content.decode()
        page = client.get(reverse("admin:delivery_archivecopy_changelist"), {"q": "nothing@like.this"})
        assert f"/{copy.pk}/change/" not in page.content.decode()

    def test_a_damaged_copy_is_not_handed_out(self, client, acme, copy):
        ArchiveCopy.objects.update(checksum="0" * 64)
        client.force_login(UserFactory(tenant=acme, role="owner"))
        answer = client.post(self.button(copy, "download"), follow=True)
        assert "checksum does not match" in answer.content.decode()
        assert not AuditEntry.objects.filter(action="archivecopy.read").exists()

    def test_what_failed_is_tried_again_from_its_page(self, client, acme, copy):
        ArchiveCopy.objects.update(status="failed", next_attempt_at=None)
        client.force_login(UserFactory(tenant=acme, role="owner"))
        assert "Try again" in client.get(reverse("admin:delivery_archivecopy_change", args=[copy.pk])).content.decode()
        client.post(self.button(copy, "again"))
        assert ArchiveCopy.objects.get().status == "pending"
        assert AuditEntry.objects.filter(action="archivecopy.retried").exists()


def test_the_memory_backend_keeps_nothing(acme):
    assert MemoryBackend({}).keeps_sent is False
