"""Attempts, their statistics and events over the API: filtered, page by page, of one's own alone. API-1, API-3, DEL-7,
EVT-1."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import credentials
from accounts.tests.api_client import signed_in
from accounts.tests.factories import AccountFactory, UserFactory
from delivery import hours
from delivery.models import DeliveryLog
from delivery.tests.factories import DeliveryLogFactory, EventFactory, MessageFactory, RecipientFactory
from delivery.tests.test_totals import attempt, event, key_at

pytestmark = pytest.mark.django_db
LOGS, EVENTS = "/api/v1/delivery-logs/", "/api/v1/events/"


@pytest.fixture
def client(acme):
    return signed_in(UserFactory(tenant=acme, role="viewer"))


@pytest.fixture
def message(acme_account):
    return MessageFactory(account=acme_account)


@pytest.fixture
def key_client(acme_account):
    _, text = credentials.issue_api_key(acme_account, ["logs:read"])
    return APIClient(headers={"Authorization": f"Bearer {text}"})


def ids(answer):
    return [row["id"] for row in answer.json()["results"]]


class TestLogs:
    def test_the_newest_comes_first_and_pages_go_through_all(self, client, message):
        moment = datetime(2026, 8, 14, 9, tzinfo=UTC)
        rows = [attempt(message, moment + timedelta(seconds=number // 3)) for number in range(10)]
        wanted = [str(row.pk) for row in sorted(rows, key=lambda row: row.pk, reverse=True)]
        seen, url = [], f"{LOGS}?limit=4"
        while url:
            answer = client.get(url)
            seen += ids(answer)
            url = answer.json()["next"]
        assert seen == wanted

    def test_each_filter_narrows(self, client, acme, message, acme_account):
        moment = datetime(2026, 8, 14, 9, tzinfo=UTC)
        one = attempt(message, moment, status="failed", error_code="550")
        attempt(MessageFactory(account=AccountFactory(tenant=acme)), moment - timedelta(hours=3))
        for query in (
            {"account": acme_account.pk},
            {"provider": one.provider_id},
            {"message": message.pk},
            {"status": "failed"},
            {"error_code": "550"},
            {"created_from": "2026-08-14T08:00:00Z"},
            {"created_from": "2026-08-14T09:00:00Z", "created_until": "2026-08-14T09:00:01Z"},
        ):
            assert ids(client.get(LOGS, query)) == [str(one.pk)], query
        assert len(ids(client.get(f"{LOGS}?status=failed&status=delivered"))) == 2

    @pytest.mark.parametrize(
        "query",
        [{"status": "lost"}, {"message": "x"}, {"created_from": "soon"}, {"created_until": "9999-12-31T23:59:59Z"}],
    )
    def test_a_filter_that_cannot_be_followed_is_refused(self, client, query):
        assert client.get(LOGS, query).status_code == 400

    def test_detail_tells_what_became_of_each_recipient(self, client, message):
        log = DeliveryLogFactory(message=message, results={"a@b.example": {"status": "failed", "code": "550"}})
        told = client.get(f"{LOGS}{log.pk}/").json()
        assert told["results"] == {"a@b.example": {"status": "failed", "code": "550"}}
        assert "progress" not in told

    def test_a_page_is_a_few_queries(self, client, message, django_assert_max_num_queries):
        for _ in range(5):
            DeliveryLogFactory(message=message)
        with django_assert_max_num_queries(4):  # who asks, and the rows
            assert len(ids(client.get(LOGS))) == 5

    def test_a_key_sees_its_account_only_and_an_operator_everything(self, key_client, acme, globex_account, message):
        mine = DeliveryLogFactory(message=message)
        DeliveryLogFactory(message=MessageFactory(account=AccountFactory(tenant=acme)))
        theirs = DeliveryLogFactory(message=MessageFactory(account=globex_account))
        assert ids(key_client.get(LOGS)) == [str(mine.pk)]
        assert key_client.get(f"{LOGS}{theirs.pk}/").status_code == 404
        assert len(ids(signed_in(UserFactory(operator=True)).get(LOGS))) == 3


class TestStats:
    @pytest.fixture(autouse=True)
    def traffic(self, monkeypatch, message, globex_account, acme):
        now = datetime(2026, 8, 14, 12, 30, tzinfo=UTC)
        monkeypatch.setattr(timezone, "now", lambda: now)
        self.second = AccountFactory(tenant=acme)
        self.provider = DeliveryLogFactory(message=message, id=key_at(now), created_at=now, duration_ms=100).provider
        attempt(message, now - timedelta(hours=5), status="failed", provider=self.provider)
        attempt(MessageFactory(account=self.second, id=key_at(now)), now - timedelta(hours=5), status="dlq")
        event(message, now - timedelta(hours=5), "received")
        attempt(MessageFactory(account=globex_account, id=key_at(now)), now)
        hours.make(hours.hour_of(now - timedelta(hours=5)))

    def ask(self, client, **query):
        answer = client.get(f"{LOGS}stats/", query)
        assert answer.status_code == 200, answer.json()
        return answer.json()

    def test_made_hours_and_the_one_under_way_are_added_up(self, client):
        told = self.ask(client)["totals"]
        assert (told["sent"], told["delivered"], told["failed"], told["dlq"], told["accepted"]) == (3, 1, 1, 1, 1)
        assert told["delivery_rate"] == pytest.approx(1 / 3)
        assert (told["mean_ms"], told["p95_ms"]) == (100, pytest.approx(100, rel=0.1))

    @pytest.mark.parametrize(("by", "lines"), [("provider", 2), ("account", 2), ("status", 3), ("hour", 2), ("day", 1)])
    def test_they_are_broken_down(self, client, by, lines):
        told = self.ask(client, group_by=by)
        assert len(told["groups"]) == lines
        assert sum(line["sent"] for line in told["groups"]) == told["totals"]["sent"] == 3
        assert all(line["label"] for line in told["groups"])

    def test_of_one_account_or_provider(self, client, acme_account):
        assert self.ask(client, account=acme_account.pk)["totals"]["sent"] == 2
        assert self.ask(client, account=self.second.pk)["totals"]["dlq"] == 1
        assert self.ask(client, provider=self.provider.pk, group_by="hour")["totals"]["sent"] == 2

    def test_a_key_counts_for_its_account(self, key_client):
        assert self.ask(key_client)["totals"]["sent"] == 2
        assert key_client.get(f"{LOGS}stats/", {"account": self.second.pk}).status_code == 400

    def test_an_operator_counts_all_or_one_tenant(self, operator, acme):
        assert self.ask(signed_in(operator))["totals"]["sent"] == 4
        assert self.ask(signed_in(operator), tenant=acme.pk)["totals"]["sent"] == 3

    def test_what_is_not_ones_own_is_not_there(self, client, globex, globex_account):
        for query in ({"tenant": globex.pk}, {"account": globex_account.pk}, {"provider": globex.pk}):
            assert client.get(f"{LOGS}stats/", query).status_code == 400

    @pytest.mark.parametrize(
        "query",
        [
            {"group_by": "weather"},
            {"since": "2026-08-14T10:00:00Z", "until": "2026-08-14T09:00:00Z"},
            {"since": "2026-01-01T00:00:00Z", "group_by": "hour"},
            {"since": "0001-01-01T00:00:00Z"},
        ],
    )
    def test_a_time_that_cannot_be_is_refused(self, client, query):
        assert client.get(f"{LOGS}stats/", query).status_code == 400


class TestEvents:
    def test_each_filter_narrows(self, client, acme, message, acme_account):
        old = datetime(2026, 8, 14, 9, tzinfo=UTC)
        other = MessageFactory(account=AccountFactory(tenant=acme), recipients=["else@outside.example"])
        event(other, old, "received")
        to = RecipientFactory(message=message, address="anna@outside.example")
        one = EventFactory(message=message, type="bounced", recipient=to, data={"hard": True})
        for query in (
            {"type": "bounced"},
            {"account": acme_account.pk},
            {"message": message.pk},
            {"recipient": "Anna@outside.example"},
            {"recorded_from": "2026-08-14T10:00:00Z"},
        ):
            assert ids(client.get(EVENTS, query)) == [str(one.pk)], query
        assert ids(client.get(EVENTS, {"recorded_until": "2026-08-14T10:00:00Z"})) != [str(one.pk)]
        told = client.get(f"{EVENTS}{one.pk}/").json()
        assert (told["recipient"], told["data"]) == ("anna@outside.example", {"hard": True})

    def test_a_page_is_a_few_queries(self, client, message, django_assert_max_num_queries):
        for _ in range(5):
            EventFactory(message=message, recipient=message.recipients.get())
        with django_assert_max_num_queries(4):  # who asks, and the rows
            assert len(ids(client.get(EVENTS))) == 5

    def test_a_key_sees_its_account_only(self, key_client, acme, globex_account, message):
        mine = EventFactory(message=message)
        EventFactory(message=MessageFactory(account=AccountFactory(tenant=acme)))
        EventFactory(message=MessageFactory(account=globex_account))
        assert ids(key_client.get(EVENTS)) == [str(mine.pk)]
        assert DeliveryLog.objects.count() == 0
