"""API keys: SEC-3."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from accounts.credentials import AuthenticationFailed, issue_api_key, revoke_api_key, rotate_api_key, verify_api_key
from accounts.models import Account, ApiKey

pytestmark = pytest.mark.django_db


def refused(text, client_ip="192.0.2.1"):
    with pytest.raises(AuthenticationFailed) as caught:
        verify_api_key(text, client_ip)
    return caught.value.code


def test_a_key_acts_for_its_account_with_its_scopes(acme_account):
    key, text = issue_api_key(acme_account, ["send", "logs:read", "send"], name="web shop")
    found = verify_api_key(text, "192.0.2.1")
    assert found.key_id == key.pk
    assert found.identity.account_id == acme_account.pk
    assert found.scopes == {"send", "logs:read"}


def test_a_key_is_kept_as_a_hash_beside_a_visible_prefix(acme_account):
    key, text = issue_api_key(acme_account, ["send"])
    row = ApiKey.objects.values().get(pk=key.pk)
    assert text.startswith(row["prefix"] + "_")
    assert text[13:] not in str(row)
    assert len(text[13:]) == 43
    assert row["key_hash"].startswith("keyed$")


def test_an_unknown_scope_is_refused_and_makes_no_key(acme_account):
    with pytest.raises(ValidationError):
        issue_api_key(acme_account, ["everything"])
    assert not ApiKey.objects.exists()


def test_anything_but_the_key_is_refused(acme_account):
    key, text = issue_api_key(acme_account, ["send"])
    for wrong in (
        "",
        "_",
        text[:-1],
        text + "x",
        text.swapcase(),
        f"{key.prefix}_",
        key.key_hash,
        "ä_b",
        "\0_b",
        "x" * 9999,
    ):
        assert refused(wrong) == "unknown_key"


def test_a_revoked_key_is_refused_and_keeps_the_time_it_was_revoked(acme_account):
    key, text = issue_api_key(acme_account, ["send"])
    revoke_api_key(key)
    revoked_at = key.revoked_at
    revoke_api_key(key)
    assert key.revoked_at == revoked_at
    assert refused(text) == "key_revoked"


def test_an_expired_key_is_refused(acme_account):
    _, text = issue_api_key(acme_account, ["send"], expires_at=timezone.now() - timedelta(seconds=1))
    assert refused(text) == "key_expired"
    _, text = issue_api_key(acme_account, ["send"], expires_at=timezone.now() + timedelta(hours=1))
    assert verify_api_key(text, None)


def test_suspension_and_networks_count_for_keys_too(acme_account):
    _, text = issue_api_key(acme_account, ["send"])
    Account.objects.update(client_networks=["198.51.100.0/24"])
    assert refused(text) == "network_not_allowed"
    Account.objects.update(status="suspended")
    assert refused(text) == "account_suspended"


def test_rotation_lets_both_keys_work_until_the_overlap_ends(acme_account):
    old, old_text = issue_api_key(acme_account, ["send"], name="shop")
    new, new_text = rotate_api_key(old, overlap=timedelta(hours=1))
    assert (new.account, new.name, new.scopes) == (acme_account, "shop", ["send"])
    assert verify_api_key(old_text, None).key_id == old.pk
    assert verify_api_key(new_text, None).key_id == new.pk
    assert timedelta(minutes=59) < old.expires_at - timezone.now() <= timedelta(hours=1)
    rotate_api_key(old, overlap=timedelta(0))
    assert refused(old_text) == "key_expired"


def test_rotation_never_prolongs_a_key(acme_account):
    soon = timezone.now() + timedelta(minutes=1)
    old, _ = issue_api_key(acme_account, ["send"], expires_at=soon)
    rotate_api_key(old, overlap=timedelta(hours=1))
    assert ApiKey.objects.get(pk=old.pk).expires_at == soon


def test_last_use_of_a_key_is_noted(acme_account, django_assert_num_queries):
    key, text = issue_api_key(acme_account, ["send"])
    verify_api_key(text, None)
    assert ApiKey.objects.get(pk=key.pk).last_used_at is not None
    with django_assert_num_queries(1):
        verify_api_key(text, None)
