"""What changes is announced after its commit, and dropped by whoever remembers it: AMQP-4."""

import json
import os
import threading
import time
import uuid

import pytest
from django.conf import settings
from django.db import transaction
from structlog.testing import capture_logs

from accounts import changes, credentials, hearing, network_accounts, shared_state
from accounts.changes import EVERYTHING, Change
from accounts.models import Account, ApiKey, Tenant
from accounts.tests.factories import AccountFactory

TENANT, ROW = uuid.uuid4(), uuid.uuid4()


def within(seconds, condition):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


@pytest.fixture(scope="class")
def listening():
    hearing.listen()
    within(5, hearing.hearing)
    yield
    hearing.stop()


@pytest.fixture
def told():
    """What anybody on the server hears."""
    with shared_state.client().pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(changes.channel())
        subscription.get_message(timeout=1)

        def read():
            found = []
            while (message := subscription.get_message(timeout=0.2)) is not None:
                found.append(json.loads(message["data"]))
            return found

        yield read


@pytest.mark.parametrize("what", [ROW, "account", ("account", TENANT)])
def test_a_change_concerns_its_row_its_kind_and_its_kind_in_its_tenant(what):
    mark = changes.mark()
    assert not changes.since(mark, what)
    changes.hear(Change("account", TENANT, ROW))
    assert changes.since(mark, what)
    assert not changes.since(changes.mark(), what)
    assert not changes.since(mark, uuid.uuid4(), "provider", ("account", None), ("account", uuid.uuid4()))


def test_everything_concerns_all():
    mark = changes.mark()
    changes.hear(EVERYTHING)
    assert changes.since(mark)
    assert changes.since(mark, uuid.uuid4())


def test_changes_beyond_counting_are_taken_for_everything(monkeypatch):
    monkeypatch.setattr(changes, "MOST_KNOWN", 10)
    mark = changes.mark()
    for _ in range(20):
        changes.hear(Change("account", TENANT, uuid.uuid4()))
    assert changes.since(mark, "provider")


def test_a_hook_hears_its_kind_and_everything_and_harms_no_other(monkeypatch):
    monkeypatch.setattr(changes, "_hooks", {})
    heard = []
    changes.on("provider", lambda change: 1 / 0)
    changes.on("provider", heard.append)
    changes.on("tenant", heard.append)
    change = Change("provider", None, ROW)
    with capture_logs() as logs:
        changes.hear(change)
        changes.hear(Change("account", TENANT, ROW))
        changes.hear(EVERYTHING)
    assert heard == [change, EVERYTHING, EVERYTHING]
    assert [line["event"] for line in logs] == ["change not heard"] * 2


@pytest.mark.django_db(transaction=True)
class TestAnnouncing:
    def test_every_row_made_changed_or_deleted_is_announced_by_its_ids_alone(self, told, acme, acme_account):
        key, _ = credentials.issue_api_key(acme_account, ["send"])
        credentials.set_password(acme_account, "a long enough password")
        Account.objects.get(pk=acme_account.pk).delete()
        found = told()
        assert {(one["kind"], one["tenant"], one["id"]) for one in found} == {
            ("tenant", str(acme.pk), str(acme.pk)),
            ("account", str(acme.pk), str(acme_account.pk)),
            ("api_key", str(acme.pk), str(key.pk)),
        }
        assert all(set(one) == {"kind", "tenant", "id"} for one in found)

    def test_a_key_revoked_by_a_statement_is_announced_too(self, told, acme_account):
        key, _ = credentials.issue_api_key(acme_account, ["send"])
        told()
        credentials.revoke_api_key(ApiKey.objects.get(pk=key.pk))
        assert [one["id"] for one in told()] == [str(key.pk)]

    def test_nothing_is_announced_before_the_commit_nor_after_a_rollback(self, told, acme):
        told()
        with transaction.atomic():
            acme.save()
            assert told() == []
        assert len(told()) == 1
        with transaction.atomic():
            acme.save()
            transaction.set_rollback(True)
        assert told() == []

    def test_the_note_of_a_login_is_no_change(self, told, acme_account):
        told()
        credentials.verify("crm@acme", "correct horse", "192.0.2.1")
        acme_account.refresh_from_db()
        assert acme_account.last_used_at is not None
        assert told() == []

    def test_a_server_that_is_away_costs_little_and_stops_nobody(self, acme, settings, monkeypatch):
        monkeypatch.setattr(changes, "_away_until", 0.0)
        settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"
        mark, begun = changes.mark(), time.monotonic()
        for _ in range(20):
            acme.save()
        assert time.monotonic() - begun < 2
        assert changes.since(mark, acme.pk)  # at home it is known all the same

    def test_what_could_not_be_announced_is_made_up_for_once(self, told, acme, settings, monkeypatch):
        """The connections of those who listen may not have broken: they would go on with what they remember."""
        monkeypatch.setattr(changes, "AWAY", 0.0)
        changes.catch_up()
        told()
        url, settings.SHARED_STATE_URL = settings.SHARED_STATE_URL, "redis://127.0.0.1:1/0"
        acme.save()
        changes.catch_up()
        assert told() == []
        settings.SHARED_STATE_URL = url
        changes.catch_up()
        changes.catch_up()
        [heard] = told()
        assert changes.read(json.dumps(heard).encode()) == EVERYTHING


@pytest.mark.usefixtures("listening")
class TestListening:
    def test_what_another_process_announces_is_heard_within_a_second(self):
        mark = changes.mark()
        publish({"kind": "account", "tenant": str(TENANT), "id": str(ROW)})
        within(2, lambda: changes.since(mark, ("account", TENANT)))
        assert changes.since(mark, ROW)

    @pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[]", b"{}", b'{"kind":1,"tenant":2,"id":3}', b"[" * 9999])
    def test_what_is_no_announcement_is_dropped(self, data):
        mark = changes.mark()
        with capture_logs() as logs:
            shared_state.client().publish(changes.channel(), data)
            within(2, lambda: logs)
        assert logs[0]["event"] == "unknown announcement dropped"
        publish({"kind": "tenant", "tenant": None, "id": "7"})
        within(2, lambda: changes.since(mark, "7"))

    def test_who_listens_makes_up_for_what_could_not_be_announced(self, monkeypatch):
        monkeypatch.setattr(changes, "_missed", True)
        mark = changes.mark()
        within(3, lambda: changes.since(mark))

    def test_after_a_lost_connection_everything_counts_as_changed(self):
        mark = changes.mark()
        cut_off_subscribers()
        within(3, lambda: changes.since(mark))
        within(3, hearing.hearing)

    def test_there_is_one_thread_however_often_it_is_asked_for(self):
        hearing.listen()
        hearing.listen()
        assert sum(thread.name == "config-changed" for thread in threading.enumerate()) == 1

    def test_a_forked_process_hears_when_it_asks_for_itself(self):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            deaf = not hearing.hearing()
            hearing.listen()
            mark, end = None, time.monotonic() + 10
            while time.monotonic() < end:
                if mark is None and hearing.hearing():
                    mark = changes.mark()
                    os.write(writing, b"1" if deaf else b"0")
                if mark is not None and changes.since(mark, ROW):
                    os.write(writing, b"2")
                    break
                time.sleep(0.01)
            os._exit(0)
        assert os.read(reading, 1) == b"1"
        publish({"kind": "account", "tenant": str(TENANT), "id": str(ROW)})
        assert os.read(reading, 1) == b"2"
        os.waitpid(child, 0)


def publish(change):
    shared_state.client().publish(changes.channel(), json.dumps(change))


def cut_off_subscribers():
    """Those of this test's own channel, as a server does that restarts."""
    server = shared_state.client()
    database = str(server.connection_pool.connection_kwargs.get("db") or 0)
    mine = [one for one in server.client_list(_type="pubsub") if one["db"] == database]
    for one in mine:
        server.client_kill_filter(_id=one["id"])


@pytest.mark.django_db
class TestNetworkAccounts:
    def test_an_account_that_changed_is_looked_up_anew(self, monkeypatch):
        monkeypatch.setattr(network_accounts, "KEPT", 1000.0)
        account = AccountFactory(network_authenticated=True, client_networks=["192.0.2.0/24"])
        assert credentials.identify_by_network("192.0.2.1").account_id == account.pk
        Account.objects.filter(pk=account.pk).update(status="suspended")
        assert credentials.identify_by_network("192.0.2.1") is not None
        changes.hear(Change("account", account.tenant_id, account.pk))
        assert credentials.identify_by_network("192.0.2.1") is None


@pytest.mark.django_db
class TestVerifyingAgain:
    @pytest.fixture
    def identity(self, acme_account):
        return credentials.verify("crm@acme", "correct horse", "192.0.2.1")

    def test_who_has_not_changed_goes_on_with_the_senders_allowed_by_now(self, identity, acme_account):
        Account.objects.filter(pk=acme_account.pk).update(allowed_senders=["new.example"])
        again = credentials.verify_again(identity, "192.0.2.1")
        assert again.allowed_senders == ("new.example",)
        assert credentials.verify_again(again, "192.0.2.1") == again
        assert again.proof not in repr(again)

    @pytest.mark.parametrize(
        ("model", "change", "code"),
        [
            (Account, {"status": "suspended"}, "account_suspended"),
            (Tenant, {"status": "suspended"}, "tenant_suspended"),
            (Account, {"client_networks": ["198.51.100.0/24"]}, "network_not_allowed"),
            (Tenant, {"client_networks": ["198.51.100.0/24"]}, "network_not_allowed"),
            (Account, {"password_hash": "!"}, "password_changed"),
        ],
    )
    def test_who_would_not_be_let_in_any_more_is_not(self, identity, model, change, code):
        model.objects.all().update(**change)
        with pytest.raises(credentials.AuthenticationFailed) as caught:
            credentials.verify_again(identity, "192.0.2.1")
        assert caught.value.code == code

    def test_an_account_that_is_gone_is_not(self, identity, acme_account):
        acme_account.delete()
        with pytest.raises(credentials.AuthenticationFailed):
            credentials.verify_again(identity, "192.0.2.1")

    def test_a_password_whose_hash_was_made_anew_at_the_login_counts(self, acme_account):
        old = settings.CREDENTIAL_KEYS
        password = credentials.issue_password(acme_account)
        try:
            settings.CREDENTIAL_KEYS = ["B" * 42 + "A=", *old]
            identity = credentials.verify("crm@acme", password, "192.0.2.1")
            credentials.verify_again(identity, "192.0.2.1")
        finally:
            settings.CREDENTIAL_KEYS = old
