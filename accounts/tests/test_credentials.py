"""SMTP passwords: SMTP-4, SMTP-5."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import perf_counter

import argon2
import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import credentials, password_hashes
from accounts.credentials import AuthenticationFailed, verify
from accounts.models import Account, Tenant
from accounts.tests.factories import AccountFactory

pytestmark = pytest.mark.django_db
CHOSEN = "a long chosen pass phrase"


def refused(username, password, client_ip="192.0.2.1"):
    with pytest.raises(AuthenticationFailed) as caught:
        verify(username, password, client_ip)
    return caught.value.code


@pytest.fixture
def argon2_checks(monkeypatch):
    """How many argon2 checks were paid for."""
    paid = []
    real = argon2.PasswordHasher.verify

    def counted(self, stored, secret):
        paid.append(1)
        return real(self, stored, secret)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    return paid


def test_an_issued_password_opens_its_account_and_no_other(acme_account, globex_account):
    password = credentials.issue_password(acme_account)
    identity = verify("crm@acme", password, "192.0.2.1")
    assert identity.account_id == acme_account.pk
    assert identity.tenant_id == acme_account.tenant_id
    assert identity.allowed_senders == ("acme.example",)
    assert refused("erp@globex", password) == "wrong_password"


def test_an_issued_password_has_at_least_128_random_bits_and_is_never_the_same(acme_account):
    issued = {credentials.issue_password(acme_account) for _ in range(50)}
    assert len(issued) == 50
    assert all(len(password) >= 22 and password.isalnum() for password in issued)


def test_an_issued_password_is_kept_as_a_keyed_hash_only(acme_account):
    password = credentials.issue_password(acme_account)
    stored = Account.objects.values_list("password_hash", flat=True).get(pk=acme_account.pk)
    assert stored.startswith("keyed$")
    assert password not in stored


def test_a_new_password_ends_the_old_one_at_once(acme_account):
    old = credentials.issue_password(acme_account)
    verify("crm@acme", old, None)
    new = credentials.issue_password(acme_account)
    assert refused("crm@acme", old) == "wrong_password"
    assert verify("crm@acme", new, None)


def test_a_chosen_password_is_kept_as_argon2id_of_the_asked_strength(acme_account):
    credentials.set_password(acme_account, CHOSEN)
    stored = Account.objects.get(pk=acme_account.pk).password_hash
    assert stored.startswith("$argon2id$")
    assert "m=19456,t=2,p=1" in stored
    assert verify("crm@acme", CHOSEN, None).account_id == acme_account.pk
    assert refused("crm@acme", CHOSEN + "!") == "wrong_password"


@pytest.mark.parametrize("weak", ["", "short", "password1234", "x" * 1025, "with a NUL \0 inside", "lone \ud800 half"])
def test_a_weak_or_unusable_chosen_password_is_refused_and_changes_nothing(acme_account, weak):
    before = acme_account.password_hash
    with pytest.raises(ValidationError):
        credentials.set_password(acme_account, weak)
    assert Account.objects.get(pk=acme_account.pk).password_hash == before


def test_usernames_are_compared_without_regard_to_case(acme_account):
    assert verify("CRM@Acme", "correct horse", None).username == "crm@acme"


def test_a_username_in_another_script_is_found_in_any_case():
    AccountFactory(username="versand@müller")
    assert verify("Versand@müller", "correct horse", None)


@pytest.mark.parametrize("username", ["", "nobody", "crm@acme\0", "\udcff", "x" * 2000, "%", "crm_acme", "crm@acm"])
def test_an_unknown_username_is_refused(acme_account, username):
    assert refused(username, "correct horse") == "unknown_account"


@pytest.mark.parametrize("password", ["", "\0", "\udcff", "x" * 100_000, "Correct horse", "correct horse "])
def test_anything_but_the_password_is_refused(acme_account, password):
    assert refused("crm@acme", password) == "wrong_password"


@pytest.mark.parametrize("stored", ["!", "", "keyed$", "plain", "$argon2id$broken", "$2b$12$notours"])
def test_a_stored_value_of_no_known_scheme_opens_nothing(acme_account, stored):
    Account.objects.filter(pk=acme_account.pk).update(password_hash=stored)
    for password in ("", stored, "correct horse"):
        assert refused("crm@acme", password) == "wrong_password"


def test_suspending_the_account_counts_at_the_next_sign_in(acme_account):
    verify("crm@acme", "correct horse", None)
    Account.objects.filter(pk=acme_account.pk).update(status="suspended")
    assert refused("crm@acme", "correct horse") == "account_suspended"


def test_suspending_the_tenant_counts_at_the_next_sign_in_even_for_a_remembered_password(acme_account):
    credentials.set_password(acme_account, CHOSEN)
    verify("crm@acme", CHOSEN, None)
    Tenant.objects.filter(pk=acme_account.tenant_id).update(status="suspended")
    assert refused("crm@acme", CHOSEN) == "tenant_suspended"


def test_every_refusal_pays_for_exactly_one_argon2_check(acme_account, globex_account, argon2_checks):
    credentials.set_password(globex_account, CHOSEN)
    AccountFactory(username="asleep", status="suspended")
    AccountFactory(username="elsewhere", client_networks=["198.51.100.0/24"])
    cases = [("nobody", "x"), ("crm@acme", "wrong"), ("erp@globex", "wrong"), ("asleep", "correct horse")]
    for username, password in [*cases, ("elsewhere", "correct horse"), ("crm@acme", "\0")]:
        argon2_checks.clear()
        refused(username, password)
        assert len(argon2_checks) == 1, username


def test_the_wasted_check_costs_what_a_real_one_costs():
    assert not password_hashes._argon2.check_needs_rehash(password_hashes._WASTED)


def test_a_generated_secret_is_verified_with_one_query_and_without_argon2(
    acme_account, argon2_checks, django_assert_num_queries
):
    Account.objects.filter(pk=acme_account.pk).update(last_used_at=timezone.now())
    with django_assert_num_queries(1):
        verify("crm@acme", "correct horse", "192.0.2.1")
    assert argon2_checks == []


def test_checking_a_generated_secret_takes_well_under_a_millisecond():
    stored = password_hashes.hash_generated("s" * 32)
    begun = perf_counter()
    for _ in range(200):
        assert password_hashes.matches("s" * 32, stored)
    assert (perf_counter() - begun) / 200 < 0.001


def test_a_chosen_password_is_paid_for_once_within_its_minutes(acme_account, argon2_checks):
    credentials.set_password(acme_account, CHOSEN)
    for _ in range(5):
        verify("crm@acme", CHOSEN, None)
    assert len(argon2_checks) == 1


def test_a_remembered_password_is_forgotten_by_changing_it(acme_account):
    credentials.set_password(acme_account, CHOSEN)
    verify("crm@acme", CHOSEN, None)
    credentials.set_password(acme_account, CHOSEN + " two")
    assert refused("crm@acme", CHOSEN) == "wrong_password"


def test_a_wrong_password_is_never_remembered(acme_account, argon2_checks):
    credentials.set_password(acme_account, CHOSEN)
    refused("crm@acme", "wrong")
    refused("crm@acme", "wrong")
    assert len(argon2_checks) == 2


def test_passwords_are_remembered_for_a_time_and_in_bounded_number():
    kept = password_hashes._Verified(seconds=60, size=3)
    for number in range(5):
        kept.add(f"secret {number}", "stored")
    assert [kept.knows(f"secret {number}", "stored") for number in range(5)] == [False, False, True, True, True]
    assert not kept.knows("secret 4", "stored anew")
    assert not any(b"secret" in entry for entry in kept._until)
    expired = password_hashes._Verified(seconds=-1, size=3)
    expired.add("secret", "stored")
    assert not expired.knows("secret", "stored")


def test_at_most_two_argon2_checks_run_at_once(monkeypatch):
    running, most = [], []
    real = argon2.PasswordHasher.verify

    def watched(self, stored, secret):
        running.append(1)
        most.append(len(running))
        try:
            return real(self, stored, secret)
        finally:
            running.pop()

    stored = password_hashes.hash_chosen(CHOSEN)
    monkeypatch.setattr(argon2.PasswordHasher, "verify", watched)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: password_hashes.matches(f"wrong {number}", stored), range(12)))
    assert not any(answers)
    assert max(most) <= 2


def test_clients_that_reconnect_together_pay_for_at_most_two_checks(argon2_checks):
    stored = password_hashes.hash_chosen(CHOSEN)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: password_hashes.matches(CHOSEN, stored), range(20)))
    assert len(argon2_checks) <= 2


def test_a_hash_made_with_weaker_parameters_is_renewed_at_sign_in(acme_account):
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(CHOSEN)
    Account.objects.filter(pk=acme_account.pk).update(password_hash=weak)
    verify("crm@acme", CHOSEN, None)
    assert "m=19456,t=2,p=1" in Account.objects.get(pk=acme_account.pk).password_hash
    assert verify("crm@acme", CHOSEN, None)


def test_a_keyed_hash_survives_a_rotation_of_keys_and_moves_to_the_new_key(acme_account, settings):
    old_keys, before = settings.CREDENTIAL_KEYS, acme_account.password_hash
    settings.CREDENTIAL_KEYS = ["T" * 43 + "=", *old_keys]
    verify("crm@acme", "correct horse", None)
    after = Account.objects.get(pk=acme_account.pk).password_hash
    assert after != before
    settings.CREDENTIAL_KEYS = ["T" * 43 + "="]
    assert verify("crm@acme", "correct horse", None)


def test_a_password_changed_during_its_renewal_stays_changed(acme_account):
    stale = Account.objects.get(pk=acme_account.pk)
    stale.password_hash = argon2.PasswordHasher(time_cost=1, memory_cost=1024).hash(CHOSEN)
    new = credentials.issue_password(acme_account)
    credentials._renew_hash(stale, CHOSEN)
    assert verify("crm@acme", new, None)


def test_last_use_is_noted_at_most_once_a_minute(acme_account):
    def last_used():
        return Account.objects.get(pk=acme_account.pk).last_used_at

    verify("crm@acme", "correct horse", None)
    first = last_used()
    assert timezone.now() - first < timedelta(minutes=1)
    verify("crm@acme", "correct horse", None)
    assert last_used() == first
    Account.objects.filter(pk=acme_account.pk).update(last_used_at=first - timedelta(minutes=2))
    verify("crm@acme", "correct horse", None)
    assert last_used() >= first


def test_an_account_is_found_through_the_index_of_usernames(acme_account):
    if connection.vendor != "postgresql":
        pytest.skip("looks at PostgreSQL's plan")
    with CaptureQueriesContext(connection) as queries:
        verify("crm@acme", "correct horse", None)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN " + queries[0]["sql"])
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "account_username_unique" in plan


def test_no_secret_is_in_what_a_refusal_says(acme_account):
    with pytest.raises(AuthenticationFailed) as caught:
        verify("crm@acme", "sesame-1234", None)
    assert "sesame" not in repr(caught.value) + str(caught.value)
