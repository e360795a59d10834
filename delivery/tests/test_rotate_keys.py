"""Old keys can go once everything is under the new one, and somebody says when that is: PRV-12, SEC-3."""

import io
import threading

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import connection, models

from accounts import credentials, crypto, rotation
from accounts.models import Account
from delivery.models import DeliveryLog, Webhook
from delivery.tests.factories import DeliveryLogFactory
from providers.models import Provider
from providers.tests.factories import ProviderFactory

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _old_key(settings):
    settings.CREDENTIAL_KEYS = [OLD]


def rotate_keys(*arguments):
    """Exit code, what was printed, what was complained of."""
    said, complained, code = io.StringIO(), io.StringIO(), 0
    try:
        call_command("rotate_keys", *arguments, stdout=said, stderr=complained)
    except SystemExit as end:
        code = end.code
    return code, said.getvalue(), complained.getvalue()


def ciphertexts(model, column):
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT "{column}" FROM {model._meta.db_table}')
        return [row[0] for row in cursor.fetchall()]


def test_every_encrypted_field_is_found():
    assert {(model, name) for model, name in rotation.columns()} >= {
        (Provider, "config"),
        (DeliveryLog, "progress"),
        (Webhook, "secrets"),
    }


def test_everything_is_read_without_the_old_key_afterwards(settings, acme):
    provider = ProviderFactory(tenant=acme, config={"api_key": "sesame"})
    before = Provider.objects.get(pk=provider.pk).updated_at
    attempt = DeliveryLogFactory(progress={"draft": "1"})
    DeliveryLogFactory(progress=None)
    settings.CREDENTIAL_KEYS = [NEW, OLD]
    code, said, complained = rotate_keys()
    assert (code, complained) == (0, "")
    assert "providers.Provider config: 0 under the first key" in said
    assert "delivery.DeliveryLog progress: 0 under the first key, 1 encrypted anew" in said
    settings.CREDENTIAL_KEYS = [NEW]
    row = Provider.objects.get(pk=provider.pk)
    assert row.config == {"api_key": "sesame"}
    assert row.updated_at == before  # live connections go on
    assert DeliveryLog.objects.get(pk=attempt.pk).progress == {"draft": "1"}
    assert DeliveryLog.objects.filter(progress=None).count() == 1
    stored = ciphertexts(Provider, "config")
    assert "0 encrypted anew" in rotate_keys()[1]
    assert ciphertexts(Provider, "config") == stored


def test_a_dry_run_counts_and_changes_nothing(settings, acme):
    ProviderFactory(tenant=acme)
    stored = ciphertexts(Provider, "config")
    settings.CREDENTIAL_KEYS = [NEW, OLD]
    code, said, _ = rotate_keys("--dry-run")
    assert code == 0
    assert f"providers.Provider config: 0 under the first key, {len(stored)} to be encrypted anew" in said
    assert ciphertexts(Provider, "config") == stored


def test_what_no_key_opens_is_named_and_left_alone(settings, acme):
    good = ProviderFactory(tenant=acme, config={"api_key": "sesame"})
    settings.CREDENTIAL_KEYS = [OTHER]
    lost = ProviderFactory(tenant=acme, config={"api_key": "lost"})
    settings.CREDENTIAL_KEYS = [NEW, OLD]
    code, _, complained = rotate_keys()
    assert code == 1
    assert complained.splitlines() == [
        f"providers.Provider config: no key of CREDENTIAL_KEYS opens that of row {lost.pk}"
    ]
    assert Provider.objects.get(pk=good.pk).config == {"api_key": "sesame"}
    settings.CREDENTIAL_KEYS = [OTHER]
    assert Provider.objects.get(pk=lost.pk).config == {"api_key": "lost"}


def test_a_value_saved_meanwhile_is_kept_and_encrypted_anew_in_its_turn(settings, acme, monkeypatch):
    provider = ProviderFactory(tenant=acme, config={"api_key": "first"})
    settings.CREDENTIAL_KEYS = [NEW, OLD]
    replace, calls = rotation._Row.replace, []

    def after_somebody_saved(row, old, new):
        if not calls:
            Provider.objects.filter(pk=provider.pk).update(
                config=models.Value(Fernet(OLD).encrypt(b'{"api_key":"second"}').decode(), models.TextField())
            )
        calls.append(replace(row, old, new))
        return calls[-1]

    monkeypatch.setattr(rotation._Row, "replace", after_somebody_saved)
    rotation.rotate(Provider, "config", dry_run=False)
    assert calls[:2] == [False, True]
    settings.CREDENTIAL_KEYS = [NEW]
    assert Provider.objects.get(pk=provider.pk).config == {"api_key": "second"}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_all_pages_are_gone_through(settings, acme, monkeypatch, count):
    monkeypatch.setattr(rotation, "PAGE", 2)
    for number in range(count):
        ProviderFactory(tenant=acme, config={"number": number})
    settings.CREDENTIAL_KEYS = [NEW, OLD]
    assert rotation.rotate(Provider, "config", dry_run=False).rotated == count
    settings.CREDENTIAL_KEYS = [NEW]
    assert sorted(row.config["number"] for row in Provider.objects.all()) == [*range(count)]


@pytest.mark.django_db(transaction=True)
def test_two_at_once_do_no_harm(settings, acme):
    if connection.vendor == "sqlite":
        pytest.skip("threads would share a database in memory")
    for number in range(20):
        ProviderFactory(tenant=acme, config={"number": number})
    settings.CREDENTIAL_KEYS = [NEW, OLD]
    tallies = []

    def run():
        tallies.append(rotation.rotate(Provider, "config", dry_run=False))
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(tally.rotated for tally in tallies) == 20
    assert all(tally.rotated + tally.current == 20 for tally in tallies)


def test_hashes_are_made_anew_when_their_secret_is_used_and_counted_until_then(settings, acme_account):
    key, text = credentials.issue_api_key(acme_account, ["send"])
    password = credentials.issue_password(acme_account)
    settings.CREDENTIAL_KEYS = [NEW, OLD]
    assert "passwords: 1 are hashes" in rotate_keys()[1]
    assert "API keys: 1 are hashes" in rotate_keys()[1]
    credentials.verify_api_key(text, None)
    credentials.verify(Account.objects.get().username, password, None)
    said = rotate_keys()[1]
    assert "passwords: 0 are hashes" in said
    assert "API keys: 0 are hashes" in said
    settings.CREDENTIAL_KEYS = [NEW]
    assert credentials.verify_api_key(text, None).key_id == key.pk
    assert credentials.verify(Account.objects.get().username, password, None)


def test_a_hash_from_before_keys_had_ids_still_counts(settings, acme_account):
    password = credentials.issue_password(acme_account)
    Account.objects.update(password_hash="keyed$" + crypto.keyed_hashes(password)[0])
    assert rotation.hashes_under_old_keys()["passwords"] == 1
    assert credentials.verify(acme_account.username, password, None)
    assert rotation.hashes_under_old_keys()["passwords"] == 0
