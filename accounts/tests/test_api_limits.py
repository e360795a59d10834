"""How many requests there may be: LIM-2."""

import pytest
import structlog
from rest_framework.test import APIClient

from accounts.api import limits
from accounts.api_keys import issue_api_key
from accounts.tests.api_client import bearer, signed_in
from accounts.tests.factories import UserFactory

pytestmark = pytest.mark.django_db
ME = "/api/v1/auth/me"


@pytest.fixture(autouse=True)
def _three(settings):
    settings.API_REQUESTS_PER_MINUTE = 3


def test_a_session_has_its_own_count_and_is_told_when_to_come_again(acme):
    person = UserFactory(tenant=acme)
    client, other = signed_in(person), signed_in(person)
    answers = [client.get(ME) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].json()["code"] == "throttled"
    assert 1 <= int(answers[3].headers["Retry-After"]) <= 62
    assert other.get(ME).status_code == 200


def test_so_has_a_key(acme_account):
    one, other = (bearer(issue_api_key(acme_account, ["send"])[1]) for _ in range(2))
    assert [one.get(ME).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert other.get(ME).status_code == 200


def test_who_shows_neither_is_counted_by_address_and_holds_up_nobody_who_does(acme):
    client = signed_in(UserFactory(tenant=acme))
    assert [bearer("wrong").get(ME).status_code for _ in range(4)] == [401, 401, 401, 429]
    login = APIClient().post("/api/v1/auth/login", {"email": "a@b.example", "password": "x"}, format="json")
    assert login.status_code == 429
    assert APIClient().get(ME, REMOTE_ADDR="192.0.2.9").status_code == 401
    assert client.get(ME).status_code == 200


def test_while_the_shared_state_is_away_everybody_passes_and_the_log_says_so_once(acme, settings, monkeypatch):
    client = signed_in(UserFactory(tenant=acme))
    settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(limits, "AWAY", 0.0)
    with structlog.testing.capture_logs() as logs:
        assert [client.get(ME).status_code for _ in range(5)] == [200] * 5
    assert len([line for line in logs if line["event"] == "requests are not counted"]) == 1
