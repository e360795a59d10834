"""OBS-3: what `/api/v1/health` tells, and whom."""

import pytest
from rest_framework.test import APIClient

from accounts.tests.factories import UserFactory
from smtpproxy import health

URL = "/api/v1/health"


def _broken():
    raise health.Unhealthy("the store's own secret")


@pytest.fixture
def checks(monkeypatch):
    """Checks without anything outside: they pass, until "store" is broken."""
    found = {"database": health.Check("database", lambda: None, 0.1), "store": health.Check("store", lambda: None, 0.1)}
    monkeypatch.setattr(health, "CHECKS", found)
    return found


@pytest.fixture
def everybody(acme, operator):
    clients = {"nobody": APIClient(), "owner": APIClient(), "operator": APIClient()}
    clients["owner"].force_authenticate(UserFactory(tenant=acme, role="owner"))
    clients["operator"].force_authenticate(operator)
    return clients


def test_outsiders_hear_one_word_and_operators_which_check(checks, everybody):
    told = {who: client.get(URL) for who, client in everybody.items()}
    assert {answer.status_code for answer in told.values()} == {200}
    assert told["nobody"].json() == told["owner"].json() == {"status": "ok"}
    assert told["operator"].json() == {"status": "ok", "checks": {"database": "ok", "store": "ok"}}


def test_what_fails_is_503_and_nobody_hears_why(checks, everybody):
    checks["store"] = health.Check("store", _broken, 0.1)
    told = {who: client.get(URL + "/") for who, client in everybody.items()}
    assert {answer.status_code for answer in told.values()} == {503}
    assert told["nobody"].json() == told["owner"].json() == {"status": "unavailable"}
    assert told["operator"].json()["checks"] == {"database": "ok", "store": "failed"}
    assert all(b"secret" not in answer.content for answer in told.values())
