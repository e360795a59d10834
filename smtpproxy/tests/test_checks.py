"""OPS-4: settings that cannot work together are named before anything starts, with what to do about it."""

import os

import pytest
import trustme
from cryptography.fernet import Fernet
from django.core.checks import run_checks

from smtpproxy import checks


def _ids(check):
    return [found.id for found in check()]


@pytest.fixture
def smtp(settings):
    def change(**values):
        settings.SMTP = {**settings.SMTP, **values}

    return change


@pytest.fixture
def pems(tmp_path):
    made = trustme.CA().issue_cert("localhost")
    made.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    return tmp_path / "chain.pem", tmp_path / "key.pem"


def test_the_settings_of_a_fresh_installation_have_no_fault(settings, monkeypatch):
    settings.QUEUE_TYPE = "embedded"
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
    assert checks.configuration() == []


def test_every_finding_says_what_to_do(settings, smtp):
    settings.CREDENTIAL_KEYS = ["short"]
    settings.STORAGE_TYPE, settings.S3_BUCKET = "s3", ""
    smtp(TLS_KEY="/nowhere/key.pem", PORT=0, TLS_PORT=0)
    found = checks.configuration()
    assert {"smtpproxy.E001", "smtpproxy.E003", "smtpproxy.E007", "smtpproxy.E010"} <= {each.id for each in found}
    assert all(each.hint for each in found)


@pytest.mark.parametrize("keys", [[], ["short"], [Fernet.generate_key().decode(), "x" * 44]])
def test_keys_that_cannot_encrypt_are_an_error(settings, keys):
    settings.CREDENTIAL_KEYS = keys
    assert _ids(checks.credential_keys) == ["smtpproxy.E001"]


def test_a_key_is_never_shown(settings):
    settings.CREDENTIAL_KEYS = settings.STORAGE_KEYS = ["hunter2"]
    found = [*checks.credential_keys(), *checks.storage_keys()]
    assert len(found) == 2
    assert "hunter2" not in "".join(str(each) for each in found)


@pytest.mark.parametrize("keys", [["short"], [Fernet.generate_key().decode(), "ü" * 44]])
def test_keys_that_cannot_encrypt_bodies_are_an_error(settings, keys):
    settings.STORAGE_KEYS = keys
    assert _ids(checks.storage_keys) == ["smtpproxy.E020"]


def test_bodies_in_clear_are_a_warning_before_going_live_only(settings):
    settings.STORAGE_KEYS = []
    assert "smtpproxy.W021" not in {found.id for found in run_checks()}
    assert "smtpproxy.W021" in {found.id for found in run_checks(include_deployment_checks=True)}
    settings.STORAGE_KEYS = [Fernet.generate_key().decode()]
    assert "smtpproxy.W021" not in {found.id for found in run_checks(include_deployment_checks=True)}


@pytest.mark.parametrize(
    ("engine", "queue", "configured", "ids"),
    [
        ("postgresql", "redis", False, ["smtpproxy.W002"]),
        ("sqlite3", "redis", False, ["smtpproxy.W002"]),
        ("sqlite3", "embedded", False, []),
        ("postgresql", "redis", True, []),
    ],
)
def test_machines_that_share_a_database_need_the_same_keys(settings, monkeypatch, engine, queue, configured, ids):
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", f"django.db.backends.{engine}")
    settings.QUEUE_TYPE, settings.KEYS_CONFIGURED = queue, configured
    assert _ids(checks.shared_keys) == ids


def test_one_machine_is_told_about_shared_keys_only_when_it_asks(settings, monkeypatch):
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.postgresql")
    settings.QUEUE_TYPE, settings.KEYS_CONFIGURED = "redis", False
    assert "smtpproxy.W002" not in {found.id for found in run_checks()}
    assert "smtpproxy.W002" in {found.id for found in run_checks(include_deployment_checks=True)}


def test_s3_needs_a_bucket(settings):
    settings.STORAGE_TYPE, settings.S3_BUCKET = "s3", ""
    assert _ids(checks.message_store) == ["smtpproxy.E003"]
    settings.S3_BUCKET = "mail"
    assert _ids(checks.message_store) == []


def test_a_store_that_cannot_be_made_is_an_error(settings, tmp_path):
    (tmp_path / "file").write_text("")
    settings.STORAGE_TYPE, settings.STORAGE_PATH = "local", tmp_path / "file" / "messages"
    assert _ids(checks.message_store) == ["smtpproxy.E004"]
    settings.STORAGE_PATH = tmp_path / "to" / "be" / "made"
    assert _ids(checks.message_store) == []


@pytest.mark.parametrize(
    ("lease", "timeout", "ids"),
    [(600, 30, []), (60, 30, []), (59, 30, ["smtpproxy.E005"]), (1800, 30, ["smtpproxy.E006"])],
)
def test_the_lease_is_longer_than_an_attempt_and_shorter_than_the_brokers_patience(settings, lease, timeout, ids):
    settings.DELIVERY_LEASE, settings.PROVIDER_TIMEOUT = lease, timeout
    assert _ids(checks.lease) == ids


def test_a_certificate_and_its_key_are_good(smtp, pems):
    smtp(TLS_CERTIFICATE=str(pems[0]), TLS_KEY=str(pems[1]))
    assert _ids(checks.certificate) == []


def test_a_key_without_a_certificate_is_an_error(smtp, pems):
    smtp(TLS_CERTIFICATE="", TLS_KEY=str(pems[1]))
    assert _ids(checks.certificate) == ["smtpproxy.E007"]


@pytest.mark.parametrize("fault", ["missing", "no key", "another key", "nonsense"])
def test_a_certificate_that_cannot_be_used_is_an_error(smtp, pems, tmp_path, fault):
    chain, key = pems
    if fault == "missing":
        chain = tmp_path / "nowhere.pem"
    elif fault == "no key":
        key = ""
    elif fault == "another key":
        trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(key)
    else:
        chain.write_text("nonsense")
    smtp(TLS_CERTIFICATE=str(chain), TLS_KEY=str(key))
    assert _ids(checks.certificate) == ["smtpproxy.E008"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every file")
def test_an_unreadable_key_is_an_error(smtp, pems):
    pems[1].chmod(0)
    smtp(TLS_CERTIFICATE=str(pems[0]), TLS_KEY=str(pems[1]))
    assert _ids(checks.certificate) == ["smtpproxy.E008"]


@pytest.mark.parametrize(
    ("host", "ids"),
    [
        ("127.0.0.1", []),
        ("::1", []),
        ("10.1.2.3", []),
        ("localhost", []),
        ("0.0.0.0", ["smtpproxy.E009"]),
        ("::", ["smtpproxy.E009"]),
        ("8.8.8.8", ["smtpproxy.E009"]),
        ("mail.example.com", ["smtpproxy.E009"]),
    ],
)
def test_without_tls_only_private_addresses_are_listened_on(smtp, host, ids):
    smtp(TLS_MODE="none", HOSTS=[host], ALLOW_PUBLIC_PLAINTEXT=False)
    assert _ids(checks.plaintext) == ids
    smtp(ALLOW_PUBLIC_PLAINTEXT=True)
    assert _ids(checks.plaintext) == []


def test_with_tls_any_address_will_do(smtp):
    smtp(TLS_MODE="starttls", HOSTS=["0.0.0.0"])
    assert _ids(checks.plaintext) == []


@pytest.mark.parametrize(
    "values",
    [{"HOSTS": []}, {"PORT": 0, "TLS_PORT": 0}, {"PORT": 0, "TLS_PORT": 4650, "TLS_MODE": "none"}],
)
def test_a_listener_without_address_or_port_is_an_error(smtp, values):
    smtp(**values)
    assert _ids(checks.nothing_to_listen_on) == ["smtpproxy.E010"]


@pytest.mark.parametrize("name", ["", "mail events", "amq.topic", "x" * 128])
def test_a_name_no_exchange_can_have_is_an_error(settings, name):
    settings.EVENTS_URL, settings.EVENTS_EXCHANGE = "amqp://rabbit/", name
    assert _ids(checks.events) == ["smtpproxy.E030"]
    settings.EVENTS_URL = ""
    assert _ids(checks.events) == []


def test_an_address_of_the_exchange_that_is_none_is_an_error_and_not_shown(settings):
    settings.EVENTS_URL = "amqp://guest:hunter2@rabbit:port/"
    found = list(checks.events())
    assert [each.id for each in found] == ["smtpproxy.E031"]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize("address", ["mailer-daemon", "Mail <a@b.example>", "a@b.example, c@d.example", "@b.example"])
def test_what_notices_are_from_is_one_address(settings, address):
    settings.NOTICE_FROM = address
    assert _ids(checks.notice_sender) == ["smtpproxy.E021"]
    settings.NOTICE_FROM = "mailer-daemon@mail.example.com"
    assert _ids(checks.notice_sender) == []


@pytest.mark.parametrize("name", ["REPLY_QUEUE", "DEAD_LETTER_QUEUE", "S3_BUCKET"])
def test_a_setting_of_a_door_that_reads_no_queue_is_an_error(settings, name):
    settings.INGEST = {**settings.INGEST, name: "x"}
    assert _ids(checks.ingest) == ["smtpproxy.E014"]
    settings.INGEST["QUEUES"] = {"orders": "crm@acme"}
    assert _ids(checks.ingest) == []


@pytest.mark.parametrize(
    "values",
    [
        {"REPLY_QUEUE": "a"},
        {"DEAD_LETTER_QUEUE": "a"},
        {"REPLY_QUEUE": "a.dead"},
        {"QUEUES": {"a": "crm@acme", "a.dead": "crm@acme"}},
        {"REPLY_QUEUE": "c", "DEAD_LETTER_QUEUE": "c"},
    ],
)
def test_a_queue_that_is_read_from_and_written_to_is_an_error(settings, values):
    settings.INGEST = {**settings.INGEST, "QUEUES": {"a": "crm@acme"}, **values}
    assert _ids(checks.ingest) == ["smtpproxy.E015"]
