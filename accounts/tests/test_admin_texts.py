"""What the pages of people, accounts and the audit tell, and to whom: ADM-2, SEC-5."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts import audit
from accounts.models import Account, ApiKey, AuditEntry
from accounts.tests.factories import AccountFactory, AuditEntryFactory, UserFactory

pytestmark = pytest.mark.django_db
ADD = "/admin/accounts/account/add/"
AUDIT = "/admin/accounts/auditentry/"


@pytest.fixture
def owner(client, acme):
    person = UserFactory(tenant=acme, role="owner", email="owner@acme.example")
    client.force_login(person)
    return person


def form(**changes):
    return {
        "name": "printer",
        "username": "printer@acme",
        "status": "active",
        "allowed_senders": "acme.example",
        "client_networks": "",
        "failure_notice": "dsn",
        **changes,
    }


def page_of(row):
    return reverse(f"admin:accounts_{row._meta.model_name}_change", args=[row.pk])


def errors(answer):
    assert answer.status_code == 200
    return {name: list(texts) for name, texts in answer.context["adminform"].form.errors.items()}


def test_what_is_not_theirs_to_say_is_no_field_for_a_tenants_people(client, owner, acme_account):
    page = client.get(page_of(acme_account)).content.decode()
    assert 'name="allowed_senders"' in page
    assert 'name="transactional"' not in page
    assert "transactional" not in client.get("/admin/accounts/account/").content.decode()


def test_every_wrong_line_is_named_once(client, owner):
    answer = client.post(ADD, form(allowed_senders="a b\nacme.example\nc d\na b", client_networks="192.0.2.1/24\nx\nx"))
    network = "is not a network such as 192.0.2.0/24 (no bits set beyond the prefix) or an address"
    assert errors(answer) == {
        "allowed_senders": ["'a b' is not a domain or *.domain", "'c d' is not a domain or *.domain"],
        "client_networks": [f"'192.0.2.1/24' {network}", f"'x' {network}"],
    }


@pytest.mark.parametrize("nothing", ["a\x00b", "a\x00b.example"])
def test_a_line_that_cannot_be_kept_is_refused(client, owner, nothing):
    assert list(errors(client.post(ADD, form(allowed_senders=nothing, client_networks=nothing)))) == [
        "allowed_senders",
        "client_networks",
    ]


@pytest.mark.parametrize(
    ("taken", "text"),
    [
        ({"username": "CRM@acme"}, "This username is taken; upper and lower case make no difference."),
        ({"name": "crm"}, "There is an account of this name."),
    ],
)
def test_what_is_taken_is_said_once_in_words(client, owner, acme_account, taken, text):
    assert errors(client.post(ADD, form(**taken))) == {next(iter(taken)): [text]}


def test_an_address_that_is_taken_is_said_once(client, operator, acme):
    UserFactory(tenant=acme, email="new@acme.example")
    client.force_login(operator)
    person = {"name": "", "tenant": str(acme.pk), "role": "user"}
    passwords = dict.fromkeys(("password1", "password2"), "a long pass phrase")
    answer = client.post("/admin/accounts/user/add/", {**person, **passwords, "email": "NEW@acme.example"})
    assert errors(answer) == {"email": ["There is a person with this e-mail address."]}


@pytest.mark.parametrize(
    ("network", "taken"),
    [
        ("0.0.0.0/0", False),
        ("::/0", False),
        ("10.0.0.0/7", False),
        ("2001::/31", False),
        ("::ffff:0:0/96", False),
        ("10.0.0.0/8", True),
        ("2001:db8::/32", True),
    ],
)
def test_a_network_that_stands_for_a_password_is_not_wide(client, operator, acme, network, taken):
    client.force_login(operator)
    claim = form(tenant=str(acme.pk), network_authenticated="on", client_networks=network)
    answer = client.post(ADD, claim)
    assert Account.objects.exists() == taken
    if not taken:
        assert errors(answer) == {"client_networks": [f"Too wide to stand for a password: {network}."]}
    client.post(ADD, form(tenant=str(acme.pk), name="other", username="other", client_networks=network))
    assert Account.objects.filter(name="other").exists()


def test_a_fault_in_what_a_person_may_not_change_is_told_and_is_no_crash(client, owner, acme):
    account = AccountFactory(tenant=acme, network_authenticated=True, client_networks=["0.0.0.0/0"])
    answer = client.post(page_of(account), form(name="renamed"))
    assert errors(answer) == {"__all__": ["Too wide to stand for a password: 0.0.0.0/0."]}


def test_an_account_without_domains_is_told_that_it_may_send_nothing(client, owner):
    assert "Empty: this account may send nothing." in client.get(ADD).content.decode()
    page = client.post(ADD, form(allowed_senders="")).content.decode()
    assert "This account may send nothing yet" in page
    assert "swaks" not in page


def test_a_ready_line_is_shown_whole(client, owner):
    page = client.post(ADD, form()).content.decode()
    assert 'class="code" id="example"' in page
    assert "may send nothing" not in page


@pytest.mark.parametrize("wrong", [{"scopes": []}, {"expires_at_0": "2020-01-01", "expires_at_1": "00:00"}])
def test_a_key_without_a_scope_or_a_future_is_refused(client, operator, acme_account, wrong):
    client.force_login(operator)
    page = client.get("/admin/accounts/apikey/add/").content.decode()
    assert "send: send messages" in page
    key = {"account": str(acme_account.pk), "name": "", "scopes": ["send"]}
    assert client.post("/admin/accounts/apikey/add/", {**key, **wrong}).status_code == 200
    assert not ApiKey.objects.exists()
    soon = timezone.now() + timedelta(days=2)
    fits = {"expires_at_0": f"{soon:%Y-%m-%d}", "expires_at_1": "00:00"}
    client.post("/admin/accounts/apikey/add/", {**key, **fits})
    assert ApiKey.objects.exists()


def test_tenants_are_not_told_which_operator_acted_nor_from_where(client, operator, owner, acme_account):
    entry = audit.record(operator, "account.suspended", acme_account, {}, "192.0.2.77")
    own = audit.record(owner, "account.activated", acme_account, {}, "192.0.2.78")
    hidden = ("operator@platform.example", "192.0.2.77")
    for page in (AUDIT, page_of(entry), AUDIT + "?q=suspended"):
        text = client.get(page).content.decode()
        assert "the platform operator" in text, page
        assert not any(each in text for each in hidden)
    assert "192.0.2.78" in client.get(page_of(own)).content.decode()
    for query in ("q=platform.example", "q=operator@platform"):
        assert list(client.get(f"{AUDIT}?{query}").context["cl"].queryset) == []
    assert list(client.get(f"{AUDIT}?q=owner@acme").context["cl"].queryset) == [own]
    for lookup in ("actor_label__startswith=o", "client_ip__startswith=1", "actor__email__startswith=o"):
        assert client.get(f"{AUDIT}?{lookup}").status_code == 400
    operator.delete()
    assert "operator@platform" not in client.get(AUDIT).content.decode()


def test_operators_are_told_who_acted(client, operator, acme_account):
    client.force_login(operator)
    entry = audit.record(operator, "account.suspended", acme_account, {}, "192.0.2.77")
    for page in (AUDIT, page_of(entry)):
        text = client.get(page).content.decode()
        assert "operator@platform.example" in text
        assert "192.0.2.77" in text
    assert list(client.get(f"{AUDIT}?q=operator@").context["cl"].queryset) == [entry]


def test_an_entry_names_its_target(client, owner, acme_account):
    entry = audit.record(owner, "account.suspended", acme_account)
    acme_account.delete()
    assert AuditEntry.objects.get().target_label == "crm@acme"
    for page in (AUDIT, page_of(entry), AUDIT + "?q=crm@acme"):
        assert "crm@acme" in client.get(page).content.decode().replace('value="crm@acme"', "")


def test_times_have_seconds_and_zone(client, owner):
    entry = AuditEntryFactory(tenant=owner.tenant)
    assert f"{entry.created_at:%Y-%m-%d %H:%M:%S} UTC" in client.get(AUDIT).content.decode()


@pytest.mark.parametrize("path", ["1/1/", "1/not-a-uuid/", "999/x/", "1/1"])
@pytest.mark.parametrize("who", ["nobody", "owner"])
def test_there_is_no_shortcut_to_a_site(client, acme, path, who):
    if who == "owner":
        client.force_login(UserFactory(tenant=acme, role="owner"))
    assert client.get(f"/admin/r/{path}").status_code == 404
