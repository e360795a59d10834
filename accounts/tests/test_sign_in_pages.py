"""Signing in to the admin, second factors and sessions: SEC-4, SEC-5, SEC-7."""

import re
from datetime import timedelta

import pyotp
import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import lockout, second_factor
from accounts.models import AuditEntry, SecondFactor, User, UserSession
from accounts.tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
LOGIN = "/admin/login/"
CODE = "/admin/login/code/"
FACTOR = "/admin/account/second-factor/"
NEW = "a long pass phrase"


@pytest.fixture(autouse=True)
def _locks_outlast_the_test(monkeypatch):
    lockout.forget_here()
    monkeypatch.setattr(lockout, "FIRST_WAIT", 1000)


@pytest.fixture
def ann(acme):
    return UserFactory(tenant=acme, email="ann@acme.example", role="admin")


def enrolled(user):
    """A second factor whose codes have not been used, and its recovery codes."""
    factor = second_factor.begin(user)
    codes = second_factor.confirm(user, code(factor), now=timezone.now() - timedelta(hours=1)) or pytest.fail(
        "no codes"
    )
    return factor, codes


def code(factor, ago=timedelta(hours=1)):
    return pyotp.TOTP(factor.secret["totp"]).at(timezone.now() - ago)


def now_code(user):
    return code(SecondFactor.objects.get(user=user), timedelta(0))


def give_password(client, user, password=PASSWORD, **more):
    return client.post(LOGIN, {"username": user.email, "password": password, **more})


def is_in(client):
    return client.get("/admin/account/").status_code == 200


def actions():
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


# --- Password, then code ----------------------------------------------------------------------------------------
def test_without_a_second_factor_the_password_signs_in_and_the_audit_says_so(client, ann):
    answer = give_password(client, ann)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")
    assert is_in(client)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.client_ip) == ("user.signed_in", ann, "127.0.0.1")


def test_the_whole_way_from_enrolment_over_codes_to_removal(client, ann):
    give_password(client, ann)
    page = client.get(FACTOR).content.decode()
    assert 'src="data:image/svg+xml' in page
    secret = re.search(r'id="secret">([A-Z2-7 ]+)<', page)[1].replace(" ", "")
    assert "This is not the code" in client.post(FACTOR, {"code": "000000"}).content.decode()
    assert second_factor.of(User.objects.get(pk=ann.pk)) is None
    done = client.post(FACTOR, {"code": pyotp.TOTP(secret).at(timezone.now() - timedelta(seconds=30))})
    codes = re.findall(r"<code>([a-z0-9-]{19})</code>", done.content.decode())
    assert len(set(codes)) == 10
    assert "no-store" in done.headers["Cache-Control"]

    other = Client()
    assert give_password(other, ann).headers["Location"] == CODE
    assert not is_in(other)
    assert "or one of your recovery codes" in other.get(CODE).content.decode()
    right = pyotp.TOTP(secret).now()
    assert other.post(CODE, {"code": right}).headers["Location"] == "/admin/"
    assert is_in(other)

    third = Client()
    give_password(third, ann)
    assert third.post(CODE, {"code": right}).status_code == 200, "a code counts once"
    assert third.post(CODE, {"code": codes[3].upper()}).status_code == 302
    assert is_in(third)
    assert "9 recovery codes are left" in third.get(FACTOR).content.decode()
    give_password(other, ann)
    assert other.post(CODE, {"code": codes[3]}).status_code == 200, "a recovery code counts once"

    assert "password is wrong" in third.post(FACTOR, {"password": "no", "remove": "1"}).content.decode()
    renewed = third.post(FACTOR, {"password": PASSWORD, "renew": "1"}).content.decode()
    assert codes[5] not in renewed
    third.post(FACTOR, {"password": PASSWORD, "remove": "1"})
    assert not SecondFactor.objects.exists()
    told = actions()
    for action in ("second_factor_added", "recovery_code_used", "recovery_codes_renewed", "second_factor_removed"):
        assert f"user.{action}" in told
    assert not any(secret in str(entry.changes) for entry in AuditEntry.objects.all())


def test_secret_and_recovery_codes_are_not_readable_in_the_database(ann):
    from django.db import connection

    factor, codes = enrolled(ann)
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret, recovery_hashes FROM accounts_secondfactor")
        row = str(cursor.fetchone())
    assert factor.secret["totp"] not in row
    assert not any(one in row or one.replace("-", "") in row for one in codes)


def test_the_code_page_is_for_who_gave_the_password_a_moment_ago(client, ann):
    assert client.get(CODE).headers["Location"] == LOGIN
    enrolled(ann)
    give_password(client, ann)
    session = client.session
    session["sign_in_pending"] = {**session["sign_in_pending"], "until": 1}
    session.save()
    assert client.post(CODE, {"code": now_code(ann)}).headers["Location"] == LOGIN
    give_password(client, ann)
    ann.set_password(NEW)
    ann.save()
    assert client.post(CODE, {"code": now_code(ann)}).headers["Location"] == LOGIN
    assert not is_in(client)


def test_signing_in_leads_where_one_wanted_to_go_but_never_away(client, ann):
    assert give_password(client, ann, next="/admin/accounts/user/").headers["Location"] == "/admin/accounts/user/"
    client.logout()
    enrolled(ann)
    give_password(client, ann, next="/admin/accounts/user/")
    assert client.post(CODE, {"code": now_code(ann)}).headers["Location"] == "/admin/accounts/user/"
    assert give_password(Client(), UserFactory(), next="https://evil.example/").headers["Location"] == "/admin/"


def test_who_is_refused_is_told_the_same_whatever_the_reason(client, acme, globex, ann):
    globex.client_networks = ["192.0.2.0/24"]
    globex.save()
    gone = UserFactory(tenant=acme, is_active=False)
    away = UserFactory(tenant=globex)
    told = {
        re.search(r'role="alert">(.*?)</div>', client.post(LOGIN, fields).content.decode(), re.S)[1]
        for fields in (
            {"username": "nobody@acme.example", "password": PASSWORD},
            {"username": ann.email, "password": "wrong"},
            {"username": gone.email, "password": PASSWORD},
            {"username": away.email, "password": PASSWORD},
        )
    }
    assert len(told) == 1
    reasons = [entry.changes["reason"] for entry in AuditEntry.objects.order_by("id")]
    assert sorted(reasons) == ["deactivated", "network_not_allowed", "wrong_password"]
    assert {entry.actor_label for entry in AuditEntry.objects.all()} == {"not signed in"}


# --- Lockout ----------------------------------------------------------------------------------------------------
def test_after_five_failures_not_even_the_right_password_signs_in_until_an_operator_unlocks(client, ann, operator):
    for _ in range(5):
        give_password(client, ann, "wrong")
    assert give_password(client, ann).status_code == 200
    assert actions()[-2:] == ["user.sign_in_refused", "user.locked_out"]
    [lock] = lockout.locks(ann.email)
    assert (lock.address, 900 < lock.wait <= 1000) == ("127.0.0.1", True)
    desk = Client()
    desk.force_login(operator)
    page = reverse("admin:accounts_user_change", args=[ann.pk])
    assert "127.0.0.1" in desk.get(page).content.decode()
    desk.post(reverse("admin:accounts_user_do", args=[ann.pk, "unlock"]))
    assert "user.unlocked" in actions()
    assert give_password(client, ann).status_code == 302


def test_while_the_shared_state_is_away_failures_are_counted_in_the_process(client, ann, settings):
    settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"
    for _ in range(5):
        give_password(client, ann, "wrong")
    assert give_password(client, ann).status_code == 200
    assert give_password(Client(), UserFactory()).status_code == 302, "others are not held up"
    lockout.forget_here()
    assert give_password(client, ann).status_code == 302


def test_the_right_password_does_not_buy_new_guesses_at_the_code(client, ann):
    enrolled(ann)
    for _ in range(5):
        give_password(client, ann)
        assert client.post(CODE, {"code": "000000"}).status_code == 200
    assert client.post(CODE, {"code": now_code(ann)}).status_code == 200
    assert give_password(client, ann).status_code == 200
    assert lockout.locks(ann.email)


def test_guessing_the_own_password_inside_is_slowed_down_as_well(client, ann):
    client.force_login(ann)
    for _ in range(5):
        client.post("/admin/password_change/", {"old_password": "x", "new_password1": NEW, "new_password2": NEW})
    client.post("/admin/password_change/", {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW})
    assert User.objects.get(pk=ann.pk).check_password(PASSWORD)


# --- Required by the tenant -------------------------------------------------------------------------------------
def test_where_the_tenant_asks_for_it_nothing_opens_before_the_second_factor_is_set_up(client, acme, ann):
    acme.second_factor_required = True
    acme.save()
    give_password(client, ann)
    for page in ("/admin/", "/admin/accounts/user/", "/admin/account/", "/admin/password_change/"):
        assert client.get(page).headers["Location"] == FACTOR
    assert "asks everybody" in client.get(FACTOR).content.decode()
    client.post(FACTOR, {"code": now_code(ann)})
    assert is_in(client)
    client.post(FACTOR, {"password": PASSWORD, "remove": "1"})
    assert SecondFactor.objects.filter(user=ann).exists(), "it cannot be removed while the tenant asks for it"


# --- Sessions ---------------------------------------------------------------------------------------------------
@pytest.fixture
def signed_in(client, ann):
    give_password(client, ann)
    return client


@pytest.mark.parametrize("field", ["role", "is_active", "password"])
def test_sessions_end_when_role_password_or_the_right_to_sign_in_changes(signed_in, ann, field):
    setattr(ann, field, {"role": "owner", "is_active": False, "password": "!"}[field])
    ann.save(update_fields=[field])
    assert not is_in(signed_in)
    reason = "password_changed" if field == "password" else "rights_changed"
    assert UserSession.objects.get().end_reason == reason


def test_a_change_of_name_ends_nothing(signed_in, ann):
    ann.name = "Ann"
    ann.save()
    assert is_in(signed_in)


def test_ones_own_change_of_password_ends_the_other_sessions_only(signed_in, ann):
    other = Client()
    give_password(other, ann)
    form = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    assert signed_in.post("/admin/password_change/", {**form, "old_password": "wrong"}).status_code == 200
    assert signed_in.post("/admin/password_change/", {**form, "new_password1": "short"}).status_code == 200
    assert signed_in.post("/admin/password_change/", form).status_code == 302
    assert is_in(signed_in)
    assert not is_in(other)
    assert give_password(other, ann, NEW).status_code == 302
    assert "user.password_changed" in actions()


def test_sessions_are_listed_with_device_and_address_and_can_be_ended(signed_in, ann):
    other = Client(headers={"user-agent": "Other/1.0"}, REMOTE_ADDR="192.0.2.7")
    give_password(other, ann)
    page = signed_in.get("/admin/account/").content.decode()
    assert "Other/1.0" in page
    assert "192.0.2.7" in page
    theirs = UserSession.objects.get(client_ip="192.0.2.7")
    assert signed_in.get(reverse("admin:session_revoke", args=[theirs.pk])).status_code == 405
    signed_in.post(reverse("admin:session_revoke", args=[theirs.pk]))
    assert not is_in(other)
    assert is_in(signed_in)
    assert "user.session_revoked" in actions()


def test_signing_out_ends_the_session(signed_in):
    signed_in.post("/admin/logout/")
    assert UserSession.objects.get().end_reason == "signed_out"
    assert actions()[-1] == "user.signed_out"


def test_a_session_ends_when_nobody_uses_it_and_when_its_time_is_up(signed_in, ann, settings):
    session = UserSession.objects.filter(user=ann)
    session.update(last_used_at=timezone.now() - timedelta(seconds=settings.SESSION_IDLE_TIMEOUT - 60))
    assert is_in(signed_in)
    assert timezone.now() - session.get().last_used_at < timedelta(seconds=30), "it was noted"
    session.update(last_used_at=timezone.now() - timedelta(seconds=settings.SESSION_IDLE_TIMEOUT + 60))
    assert not is_in(signed_in)
    give_password(signed_in, ann)
    session.update(expires_at=timezone.now())
    assert not is_in(signed_in)


def test_a_session_ends_where_the_tenants_networks_do(signed_in, acme):
    acme.client_networks = ["192.0.2.0/24"]
    acme.save()
    assert not is_in(signed_in)


def test_a_session_of_django_without_one_of_ours_is_none(signed_in):
    UserSession.objects.all().delete()
    assert not is_in(signed_in)


def test_a_request_costs_one_query_for_the_session(signed_in, django_assert_max_num_queries):
    with django_assert_max_num_queries(5):  # Django's session, the person, ours; the wall goes up and down
        signed_in.get("/admin/account/second-factor/x")


def test_cookies_are_kept_from_scripts_and_other_sites(client, ann):
    cookie = give_password(client, ann).cookies["sessionid"]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")


def test_the_own_name_is_changed_and_audited(signed_in, ann):
    signed_in.post("/admin/account/", {"name": "Ann", "role": "owner", "is_superuser": "on"})
    ann.refresh_from_db()
    assert (ann.name, ann.role, ann.is_superuser) == ("Ann", "admin", False)
    assert AuditEntry.objects.latest("id").changes == {"name": [None, "Ann"]}


# --- Sessions and second factors of others ----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("role", "other", "may"),
    [
        ("owner", "owner", True),
        ("admin", "user", True),
        ("admin", "owner", False),
        ("user", "viewer", False),
        ("viewer", "user", False),
        ("operator", "owner", True),
    ],
)
def test_who_signs_others_out_and_resets_their_second_factor(client, acme, operator, role, other, may):
    them = UserFactory(tenant=acme, role=other)
    enrolled(them)
    there = Client()
    there.force_login(them)
    client.force_login(operator if role == "operator" else UserFactory(tenant=acme, role=role))
    assert client.get(reverse("admin:user_sessions", args=[them.pk])).status_code == (200 if may else 403)
    session = UserSession.objects.get(user=them)
    assert client.post(reverse("admin:session_revoke", args=[session.pk])).status_code == (302 if may else 404)
    assert is_in(there) != may
    client.post(reverse("admin:accounts_user_do", args=[them.pk, "reset_second_factor"]))
    assert SecondFactor.objects.filter(user=them).exists() != may
    assert ("user.second_factor_reset" in actions()) == may


def test_another_tenants_sessions_are_not_found(client, acme, globex):
    client.force_login(UserFactory(tenant=acme))
    them = UserFactory(tenant=globex, role="viewer")
    there = Client()
    there.force_login(them)
    assert client.get(reverse("admin:user_sessions", args=[them.pk])).status_code == 404
    session = UserSession.objects.get(user=them)
    assert client.post(reverse("admin:session_revoke", args=[session.pk])).status_code == 404
    for action in ("reset_second_factor", "end_sessions"):
        assert client.post(reverse("admin:accounts_user_do", args=[them.pk, action])).status_code == 404
    assert is_in(there)


def test_bodies_are_granted_by_owners_and_operators_only(client, acme):
    them = UserFactory(tenant=acme, role="admin", reads_bodies=False)
    form = {"email": them.email, "name": "", "role": "admin", "is_active": "on", "reads_bodies": "on"}
    for role, granted in (("admin", False), ("owner", True)):
        client.force_login(UserFactory(tenant=acme, role=role))
        client.post(reverse("admin:accounts_user_change", args=[them.pk]), form)
        assert User.objects.get(pk=them.pk).reads_bodies == granted
