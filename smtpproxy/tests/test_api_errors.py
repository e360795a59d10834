"""Errors of the API have one shape and tell nothing of the inside: API-3, SEC-8."""

import pytest
from django.db import connection, connections
from rest_framework.test import APIClient

from accounts.api.accounts import AccountViewSet
from accounts.tests.api_client import signed_in
from accounts.tests.factories import UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(acme):
    return signed_in(UserFactory(tenant=acme, role="owner"))


def refused(answer):
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json()) == {"code", "message", "details"}
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("key", ["1", "x", "01a20579-c75b-7611-b3f4-f9cd8384106a", "%00", "💥", "a" * 300])
def test_a_key_that_is_none_is_not_found(owner, key):
    for collection in ("tenants", "users", "accounts", "api-keys", "auth/sessions"):
        method = owner.delete if collection == "auth/sessions" else owner.get
        assert refused(method(f"/api/v1/{collection}/{key}")) == (404, "not_found")


def test_what_is_no_address_of_ours_is_told_in_the_same_shape(client):
    assert refused(client.get("/api/v1/nothing")) == (404, "not_found")
    assert client.get("/nothing").headers["Content-Type"].startswith("text/html")


def test_methods_and_media_types_that_nobody_takes(owner):
    assert refused(owner.delete("/api/v1/accounts")) == (405, "method_not_allowed")
    answer = owner.post("/api/v1/accounts", "<x/>", content_type="application/xml")
    assert refused(answer) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b"1",
        b'"x"',
        b"null",
        b"\xff",
        b'{"name": "a\\u0000b", "username": "x"}',
        b'{"name": "\\ud800", "username": "x"}',
        b'{"name": {"a": 1}, "username": "x"}',
        b'{"name": "x", "username": "x", "allowed_senders": ["\\u0000"]}',
        b'{"name": "x", "username": "x", "allowed_senders": {"a": "b"}}',
        b'{"name": "x", "username": "x", "messages_per_hour": 1' + b"0" * 60 + b"}",
        b'{"name": "x", "username": "x", "messages_per_hour": 1' + b"0" * 6000 + b"}",
        b'{"name": "x", "username": "x", "messages_per_hour": 1e999}',
        b'{"name": "x", "username": "x", "messages_per_hour": NaN}',
        b'{"name": "x", "username": "x", "nothing": 1}',
        b'{"name": "x", "username": "x", "tenant": "x"}',
        b"[" * 100_000,
    ],
)
def test_what_no_account_can_be_made_of_is_refused(owner, text):
    status, _ = refused(owner.post("/api/v1/accounts", text, content_type="application/json"))
    assert status == 400


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=x",
        "limit=99999999999999999999",
        "cursor=x",
        "cursor=cD14",
        "cursor=cD0lMDA%3D",
        "ordering=password",
        "ordering=password_hash",
        "ordering=name,username",
        "nothing=1",
        "status=unknown",
        "tenant=x",
        "name=%00",
        "search=%00",
        "username=%00",
    ],
)
def test_parameters_that_make_no_sense_are_refused(owner, acme_account, query):
    assert refused(owner.get(f"/api/v1/accounts?{query}")) == (400, "invalid")


def test_a_fault_of_ours_tells_nothing_of_itself(owner, monkeypatch, acme):
    def fail(*_):
        raise RuntimeError("secret of the house")

    monkeypatch.setattr(AccountViewSet, "get_queryset", fail)
    owner.raise_request_exception = False
    answer = owner.get("/api/v1/accounts")
    assert refused(answer) == (500, "error")
    assert b"secret" not in answer.content
    assert b"RuntimeError" not in answer.content


@pytest.mark.skipif(connection.vendor != "postgresql", reason="a file does not go away")
@pytest.mark.django_db(transaction=True)
def test_when_the_database_is_away_one_is_asked_to_come_again(acme):
    client = signed_in(UserFactory(tenant=acme))
    alias = connections["default"]
    port = alias.settings_dict["PORT"]
    alias.close()
    alias.settings_dict["PORT"] = "1"
    try:
        answer = client.get("/api/v1/accounts")
    finally:
        alias.settings_dict["PORT"] = port
        alias.close()
    assert refused(answer) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert client.get("/api/v1/accounts").status_code == 200


def test_the_other_slash_is_the_same_address(owner):
    assert owner.get("/api/v1/accounts/").status_code == owner.get("/api/v1/accounts").status_code == 200
    assert APIClient().post("/api/v1/auth/login/", {}, format="json").status_code == 400
