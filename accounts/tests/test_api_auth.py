"""Signing in to the API: API-4, SEC-4, SEC-7."""

from datetime import timedelta

import pyotp
import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import second_factor
from accounts.api import tokens
from accounts.api_keys import issue_api_key
from accounts.models import AuditEntry, User, UserSession
from accounts.tests.api_client import bearer, signed_in
from accounts.tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
LOGIN, REFRESH, ME = "/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/auth/me"


@pytest.fixture
def ann(acme):
    return UserFactory(tenant=acme, email="ann@acme.example", role="admin")


def login(client=None, **changes):
    given = {"email": "Ann@acme.example", "password": PASSWORD, **changes}
    return (client or APIClient()).post(LOGIN, given, format="json")


def refresh(token):
    return APIClient().post(REFRESH, {"refresh": token}, format="json")


def code_of(answer):
    return answer.status_code, answer.json()["code"]


def test_who_signs_in_gets_tokens_that_open_the_api(ann):
    answer = login()
    assert answer.status_code == 200
    assert answer.json()["expires_in"] == 900
    assert answer.headers["Cache-Control"] == "no-store"
    me = bearer(answer.json()["access"]).get(ME).json()
    assert me["user"]["email"] == "ann@acme.example"
    assert me["tenant"]["slug"] == "acme"
    assert me["session"] == answer.json()["session"]
    assert "create" in me["may"]["users"]
    assert "create" not in me["may"]["accounts"]
    assert AuditEntry.objects.get(action="user.signed_in").changes == {"where": "api"}
    assert User.objects.get(pk=ann.pk).last_login is not None


def test_a_wrong_password_and_an_unknown_address_are_told_the_same(ann):
    wrong, unknown = login(password="wrong"), login(email="nobody@acme.example")
    assert code_of(wrong) == (401, "sign_in_refused")
    assert wrong.json() == unknown.json()
    assert "WWW-Authenticate" in wrong.headers


def test_after_five_failures_the_next_try_waits_even_with_the_right_password(ann):
    assert [login(password="wrong").status_code for _ in range(5)] == [401] * 5
    answer = login()
    assert code_of(answer) == (429, "locked_out")
    assert 1 <= int(answer.headers["Retry-After"]) <= 16


def test_an_expired_access_token_says_so(ann, settings):
    token = tokens.Access.of(
        UserSession.objects.create(
            user=ann, kind="api", last_used_at=timezone.now(), expires_at=timezone.now() + timedelta(days=1)
        ).pk
    )
    token.set_exp(lifetime=-timedelta(seconds=1))
    assert code_of(bearer(token).get(ME)) == (401, "TOKEN_EXPIRED")


@pytest.mark.parametrize("text", ["", "nonsense", "a.b.c", "smk_00000000_nonsense", "\xff", "."])
def test_what_is_no_token_is_refused(db, text):
    answer = APIClient().get(ME, headers={"Authorization": f"Bearer {text}"})
    assert code_of(answer) in [(401, "token_not_valid"), (401, "key_not_valid")]


def test_a_token_of_another_kind_or_key_is_refused(ann, settings):
    told = login().json()
    assert code_of(bearer(told["refresh"]).get(ME)) == (401, "token_not_valid")
    assert code_of(refresh(told["access"])) == (401, "token_not_valid")
    settings.SECRET_KEY, before = "another" * 9, settings.SECRET_KEY
    assert code_of(bearer(told["access"]).get(ME)) == (401, "token_not_valid")
    settings.SECRET_KEY_FALLBACKS = ["older" * 9, before]
    assert bearer(told["access"]).get(ME).status_code == 200


def test_a_refresh_token_is_good_once_and_its_second_use_ends_the_session(ann):
    first = login().json()
    second = refresh(first["refresh"]).json()
    assert bearer(second["access"]).get(ME).status_code == 200
    assert code_of(refresh(first["refresh"])) == (401, "token_not_valid")
    assert code_of(bearer(second["access"]).get(ME)) == (401, "token_not_valid")
    assert code_of(refresh(second["refresh"])) == (401, "token_not_valid")
    assert UserSession.objects.get().end_reason == "token_reused"


def test_a_stale_access_token_in_the_header_does_not_stand_in_the_way_of_a_new_one(ann):
    told = login().json()
    assert bearer("stale").post(REFRESH, {"refresh": told["refresh"]}, format="json").status_code == 200
    assert login(bearer("stale")).status_code == 200


def test_signing_out_ends_the_session_at_once(ann):
    told = login().json()
    client = bearer(told["access"])
    assert client.post("/api/v1/auth/logout").status_code == 204
    assert code_of(client.get(ME)) == (401, "token_not_valid")
    assert code_of(refresh(told["refresh"])) == (401, "token_not_valid")


@pytest.mark.parametrize("change", [{"is_active": False}, {"role": "viewer"}])
def test_a_deactivated_person_or_a_changed_role_ends_the_sessions_at_once(ann, change):
    client = signed_in(ann)
    other = User.objects.get(pk=ann.pk)
    for name, value in change.items():
        setattr(other, name, value)
    other.save()
    assert code_of(client.get(ME)) == (401, "token_not_valid")


def test_a_token_costs_one_query(ann, django_assert_num_queries):
    client = signed_in(ann)
    with django_assert_num_queries(1):
        client.get(ME)


def test_a_person_has_five_sessions_and_the_oldest_makes_room(ann):
    clients = [signed_in(ann) for _ in range(6)]
    assert [client.get(ME).status_code for client in clients] == [401, 200, 200, 200, 200, 200]


def test_sessions_are_listed_and_revoked_by_who_they_belong_to(ann, acme):
    mine, other = signed_in(ann), signed_in(ann)
    listed = mine.get("/api/v1/auth/sessions").json()["results"]
    assert [session["current"] for session in listed] == [False, True]
    assert mine.delete(f"/api/v1/auth/sessions/{listed[0]['id']}").status_code == 204
    assert other.get(ME).status_code == 401
    colleague = signed_in(UserFactory(tenant=acme, role="owner"))
    assert colleague.delete(f"/api/v1/auth/sessions/{listed[1]['id']}").status_code == 404
    assert mine.get(ME).status_code == 200


def test_a_second_factor_is_asked_for_and_a_code_counts_once(ann):
    factor = second_factor.begin(ann)
    code = pyotp.TOTP(factor.secret["totp"]).now
    recovery = second_factor.confirm(ann, code(), now=timezone.now() - timedelta(seconds=30)) or second_factor.confirm(
        ann, code()
    )
    assert code_of(login()) == (401, "code_wanted")
    assert code_of(login(otp="000000")) == (401, "sign_in_refused")
    assert login(otp=recovery[0]).status_code == 200
    assert code_of(login(otp=recovery[0])) == (401, "sign_in_refused")


def test_where_the_tenant_wants_a_second_factor_who_has_none_is_told_to_set_it_up(ann, acme):
    client = signed_in(ann)
    acme.second_factor_required = True
    acme.save()
    assert code_of(login()) == (403, "second_factor_lacking")
    assert code_of(client.get(ME)) == (403, "second_factor_lacking")


def test_tokens_are_good_only_from_the_networks_of_the_tenant(ann, acme):
    client = signed_in(ann)
    acme.client_networks = ["192.0.2.0/24"]
    acme.save()
    assert code_of(client.get(ME)) == (403, "network_not_allowed")
    assert client.get(ME, REMOTE_ADDR="192.0.2.7").status_code == 200
    assert login().status_code == 401


def test_changing_the_password_ends_all_sessions_and_begins_one(ann):
    told, other = login().json(), signed_in(ann)
    client = bearer(told["access"])
    post = lambda **given: client.post("/api/v1/auth/password", given, format="json")  # noqa: E731
    assert "current" in post(current="wrong", new="correct horse battery").json()["details"]
    assert "new" in post(current=PASSWORD, new="short").json()["details"]
    answer = post(current=PASSWORD, new="correct horse battery")
    assert answer.status_code == 200
    assert (client.get(ME).status_code, other.get(ME).status_code) == (401, 401)
    assert bearer(answer.json()["access"]).get(ME).status_code == 200
    assert login().status_code == 401
    assert login(password="correct horse battery").status_code == 200


def test_an_api_key_has_no_session_and_says_what_it_is_for(acme_account):
    _, text = issue_api_key(acme_account, ["send"])
    me = bearer(text).get(ME).json()
    assert (me["user"], me["account"]["username"], me["scopes"]) == (None, "crm@acme", ["send"])
    assert bearer(text).get("/api/v1/auth/sessions").status_code == 403
