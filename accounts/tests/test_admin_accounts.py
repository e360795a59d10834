"""Accounts and API keys in the admin: ADM-2, SEC-3, SEC-5."""

import re

import pytest
from django.db import connection
from django.urls import reverse

from accounts import credentials
from accounts.models import Account, ApiKey, AuditEntry, Tenant, User
from accounts.tests.factories import AccountFactory, ApiKeyFactory, TenantFactory, UserFactory

pytestmark = pytest.mark.django_db
ADD = "/admin/accounts/account/add/"
YES = {"confirmed": "yes"}


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
        "allowed_senders": "acme.example\n\n  *.acme.example ",
        "client_networks": "",
        "failure_notice": "dsn",
        **changes,
    }


def page_of(row):
    return reverse(f"admin:accounts_{row._meta.model_name}_change", args=[row.pk])


def button(row, action):
    return reverse(f"admin:accounts_{row._meta.model_name}_do", args=[row.pk, action])


def secret_in(page):
    return re.search(r"shown this once: <code>(.+?)</code>", page).group(1)


def test_a_new_account_gets_a_password_that_is_shown_once_with_a_ready_line(client, owner, settings):
    answer = client.post(ADD, form())
    page = answer.content.decode()
    password = secret_in(page)
    assert 'data-copy="#issued code"' in page
    assert f"--auth-user printer@acme --auth-password {password} --from test@acme.example" in page
    assert f"--server {settings.SMTP['HOSTNAME']}:{settings.SMTP['PORT']}" in page
    assert "no-store" in answer.headers["Cache-Control"]
    account = Account.objects.get()
    assert account.tenant == owner.tenant
    assert account.allowed_senders == ["acme.example", "*.acme.example"]
    assert credentials.verify("printer@acme", password, None).account_id == account.pk
    again = [client.get(url).content.decode() for url in (page_of(account), "/admin/accounts/account/", "/admin/")]
    assert not any(password in page for page in again)
    assert password not in str(client.cookies) + str(dict(client.session))


def test_the_password_is_nowhere_in_the_database(client, owner):
    password = secret_in(client.post(ADD, form()).content.decode())
    with connection.cursor() as cursor:
        for table in ("accounts_account", "accounts_auditentry", "django_session", "django_admin_log"):
            cursor.execute(f'SELECT * FROM "{table}"')
            assert password not in str(cursor.fetchall())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"username": ""}, "required"),
        ({"allowed_senders": "not a domain"}, "is not a domain"),
        ({"client_networks": "192.0.2.0/99"}, "is not a network"),
        ({"status": "asleep"}, "not one of the available choices"),
        ({"name": "crm"}, "There is an account of this name."),
        ({"username": "CRM@ACME"}, "This username is taken"),
    ],
)
def test_a_wrong_value_gets_a_clear_error_and_makes_nothing(client, owner, acme_account, wrong, text):
    answer = client.post(ADD, form(**wrong))
    assert answer.status_code == 200
    assert text in answer.content.decode().replace("&#x27;", "'").replace("&quot;", '"')
    assert Account.objects.count() == 1


def test_tenant_people_cannot_make_an_account_for_another_tenant(client, owner, globex):
    client.post(ADD, form(tenant=str(globex.pk)))
    assert Account.objects.get().tenant == owner.tenant


def test_operators_choose_the_tenant_of_a_new_account_and_nobody_moves_one(client, operator, acme, globex):
    client.force_login(operator)
    assert client.post(ADD, form(tenant="")).status_code == 200
    assert not Account.objects.exists()
    client.post(ADD, form(tenant=str(globex.pk)))
    account = Account.objects.get()
    assert account.tenant == globex
    client.post(page_of(account), form(tenant=str(acme.pk), name="renamed"))
    account.refresh_from_db()
    assert (account.tenant, account.name) == (globex, "renamed")


def test_only_operators_let_a_network_stand_for_a_password(client, owner, operator, acme):
    claim = form(network_authenticated="on", client_networks="192.0.2.0/24")
    client.post(ADD, claim)
    account = Account.objects.get()
    assert not account.network_authenticated
    client.force_login(operator)
    client.post(page_of(account), claim)
    account.refresh_from_db()
    assert account.network_authenticated
    client.force_login(owner)
    client.post(page_of(account), form(client_networks="0.0.0.0/0"))
    account.refresh_from_db()
    assert account.client_networks == ["192.0.2.0/24"]


def test_network_authentication_without_networks_is_a_form_error(client, operator, acme):
    client.force_login(operator)
    answer = client.post(ADD, form(tenant=str(acme.pk), network_authenticated="on"))
    assert b"needs client networks" in answer.content
    assert not Account.objects.exists()


def test_a_new_password_is_issued_at_the_push_of_a_button_and_ends_the_old_one(client, owner, acme_account):
    assert "Issue a new password" in client.get(page_of(acme_account)).content.decode()
    password = secret_in(client.post(button(acme_account, "issue_new_password"), YES).content.decode())
    assert credentials.verify("crm@acme", password, None)
    with pytest.raises(credentials.AuthenticationFailed):
        credentials.verify("crm@acme", "correct horse", None)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor) == ("account.password_issued", owner)
    assert password not in str(entry.changes)


def test_a_tenants_people_choose_who_is_told_of_what_was_not_delivered(client, owner, acme_account):
    assert 'name="failure_notice"' in client.get(page_of(acme_account)).content.decode()
    client.post(page_of(acme_account), form(failure_notice="email"))
    acme_account.refresh_from_db()
    assert acme_account.failure_notice == "email"
    [entry] = AuditEntry.objects.filter(action="account.changed")
    assert entry.changes["failure_notice"] == ["dsn", "email"]


def test_a_button_is_pushed_by_post_only(client, owner, acme_account):
    before = acme_account.password_hash
    assert client.get(button(acme_account, "issue_new_password")).status_code == 405
    assert client.post(button(acme_account, "delete_selected")).status_code == 403
    acme_account.refresh_from_db()
    assert acme_account.password_hash == before


def test_passwords_are_issued_one_at_a_time(client, owner, acme):
    accounts = [AccountFactory(tenant=acme) for _ in range(2)]
    chosen = {"action": "issue_new_password", "_selected_action": [str(account.pk) for account in accounts]}
    answer = client.post("/admin/accounts/account/", chosen, follow=True)
    assert b"Choose one account" in answer.content
    assert [a.password_hash for a in Account.objects.order_by("pk")] == [a.password_hash for a in accounts]


def test_suspending_and_activating_count_at_once_and_are_audited(client, owner, acme_account):
    client.post(button(acme_account, "suspend"), YES)
    with pytest.raises(credentials.AuthenticationFailed):
        credentials.verify("crm@acme", "correct horse", None)
    assert "Activate" in client.get(page_of(acme_account)).content.decode()
    chosen = {"action": "activate", "_selected_action": [str(acme_account.pk)]}
    assert b"1 activated." in client.post("/admin/accounts/account/", chosen, follow=True).content
    assert b"0 activated." in client.post("/admin/accounts/account/", chosen, follow=True).content
    assert credentials.verify("crm@acme", "correct horse", None)
    told = list(AuditEntry.objects.order_by("id").values_list("action", "changes"))
    assert told == [
        ("account.suspended", {"status": ["active", "suspended"]}),
        ("account.activated", {"status": ["suspended", "active"]}),
    ]


@pytest.mark.parametrize("role", ["admin", "user"])
def test_who_may_only_read_gets_no_buttons_and_pushes_none(client, acme_account, role):
    client.force_login(UserFactory(tenant=acme_account.tenant, role=role))
    page = client.get(page_of(acme_account)).content.decode()
    assert "Suspend" not in page
    assert "Issue a new password" not in page
    assert client.post(button(acme_account, "suspend")).status_code == 403
    assert Account.objects.get().status == "active"


def test_changes_are_audited_with_before_and_after(client, owner, acme_account):
    client.post(page_of(acme_account), form(name="crm", username="crm@acme", allowed_senders="acme.test"))
    entry = AuditEntry.objects.get()
    assert entry.action == "account.changed"
    assert entry.changes == {"allowed_senders": [["acme.example"], ["acme.test"]]}
    assert (entry.tenant, entry.actor, entry.client_ip) == (owner.tenant, owner, "127.0.0.1")


def test_saving_without_a_change_leaves_no_entry(client, owner, acme_account):
    client.post(page_of(acme_account), form(name="crm", username="crm@acme", allowed_senders="acme.example"))
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("in_bulk", [False, True])
def test_deletion_is_audited_with_what_is_gone(client, owner, acme_account, in_bulk):
    if in_bulk:
        chosen = {"action": "delete_selected", "_selected_action": [str(acme_account.pk)], "post": "yes"}
        client.post("/admin/accounts/account/", chosen)
    else:
        client.post(reverse("admin:accounts_account_delete", args=[acme_account.pk]), {"post": "yes"})
    assert not Account.objects.exists()
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.target_id) == ("account.deleted", str(acme_account.pk))
    assert entry.changes["username"] == ["crm@acme", None]
    assert entry.changes["password_hash"] == ["***", None]


def test_the_audit_of_a_row_is_one_click_away_for_those_who_may_read_it(client, owner, acme_account):
    client.post(button(acme_account, "suspend"), YES)
    history = reverse("admin:accounts_account_history", args=[acme_account.pk])
    assert history in client.get(page_of(acme_account)).content.decode()
    assert b"account.suspended" in client.get(history, follow=True).content
    entry = AuditEntry.objects.get()
    assert b"suspended" in client.get(reverse("admin:accounts_auditentry_change", args=[entry.pk])).content
    client.force_login(UserFactory(tenant=acme_account.tenant, role="user"))
    assert history not in client.get(page_of(acme_account)).content.decode()
    assert client.get(history, follow=True).status_code == 403


@pytest.mark.parametrize("lookup", ["password_hash__startswith=keyed", "tenant__users__password__startswith=a"])
def test_a_hash_cannot_be_guessed_through_the_address_bar(client, owner, acme_account, lookup):
    assert client.get(f"/admin/accounts/account/?{lookup}").status_code == 400


class TestApiKeys:
    def make(self, client, account, **changes):
        return client.post(
            "/admin/accounts/apikey/add/",
            {"account": str(account.pk), "name": "shop", "scopes": ["send", "logs:read"], **changes},
        )

    def test_a_new_key_is_shown_once_and_works(self, client, owner, acme_account):
        text = secret_in(self.make(client, acme_account).content.decode())
        found = credentials.verify_api_key(text, None)
        assert found.identity.account_id == acme_account.pk
        assert found.scopes == {"send", "logs:read"}
        key = ApiKey.objects.get()
        for page in (page_of(key), "/admin/accounts/apikey/"):
            assert key.prefix in client.get(page).content.decode()
            assert text not in client.get(page).content.decode()
        entry = AuditEntry.objects.get()
        assert entry.tenant == acme_account.tenant
        assert entry.changes["key_hash"] == [None, "***"]

    def test_a_key_for_another_tenants_account_is_refused(self, client, owner, globex_account):
        assert self.make(client, globex_account).status_code == 200
        assert not ApiKey.objects.exists()

    def test_an_unknown_scope_is_refused(self, client, owner, acme_account):
        assert self.make(client, acme_account, scopes=["everything"]).status_code == 200
        assert not ApiKey.objects.exists()

    def test_revoking_ends_a_key(self, client, owner, acme_account):
        key, text = credentials.issue_api_key(acme_account, ["send"])
        client.post(button(key, "revoke"), YES)
        with pytest.raises(credentials.AuthenticationFailed):
            credentials.verify_api_key(text, None)
        assert AuditEntry.objects.get().action == "apikey.revoked"

    def test_a_key_does_not_change(self, client, owner, acme_account):
        key = ApiKeyFactory(account=acme_account)
        assert client.post(page_of(key), {"name": "other"}).status_code == 403


DAYS = {"body_days": 7, "dead_letter_days": 30, "row_days": 90, "archive_days": 365}


class TestTenants:
    def test_days_that_do_not_fit_together_are_refused_where_they_are_entered(self, client, acme):
        client.force_login(UserFactory(tenant=acme, role="owner"))
        form = {"name": "Acme", "unknown_outcome": "resend", "lossless": "special", **DAYS, "row_days": 20}
        page = client.post(page_of(acme), form).content.decode()
        assert "Rows are kept at least as long as the bodies they belong to." in page
        client.post(page_of(acme), {**form, "dead_letter_days": 20, "archived": "on", "archive_days": ""})
        acme.refresh_from_db()
        assert (acme.row_days, acme.archived, acme.archive_days) == (20, True, None)

    def test_operators_make_tenants(self, client, operator):
        client.force_login(operator)
        form = {"name": "Initech", "slug": "initech", "status": "active", "unknown_outcome": "hold"}
        form |= {"lossless": "special", **DAYS}
        client.post("/admin/accounts/tenant/add/", {**form, "client_networks": "192.0.2.0/24\n2001:db8::/32"})
        assert Tenant.objects.get().client_networks == ["192.0.2.0/24", "2001:db8::/32"]
        assert AuditEntry.objects.get().action == "tenant.created"

    def test_the_first_owner_comes_with_the_tenant_and_a_password_shown_once(self, client, operator):
        client.force_login(operator)
        form = {"name": "Initech", "slug": "initech", "status": "active", "unknown_outcome": "hold"}
        form |= {"lossless": "special", **DAYS, "owner_email": "Peter@Initech.example"}
        page = client.post("/admin/accounts/tenant/add/", form).content.decode()
        owner = User.objects.get(email="peter@initech.example")
        assert (owner.tenant.slug, owner.role) == ("initech", "owner")
        assert owner.check_password(secret_in(page))
        assert AuditEntry.objects.filter(action="user.created", tenant=owner.tenant).exists()
        again = client.post("/admin/accounts/tenant/add/", {**form, "slug": "other"})
        assert "There is a person with this e-mail address." in again.content.decode()
        assert Tenant.objects.count() == 1

    @pytest.mark.parametrize(("listed", "kept"), [("192.0.2.0/24", False), ("127.0.0.0/8", True), ("", True)])
    def test_nobody_locks_themselves_out_by_networks(self, client, acme, listed, kept):
        client.force_login(UserFactory(tenant=acme, role="owner"))
        form = {"name": "Acme", "unknown_outcome": "resend", "lossless": "special", **DAYS, "client_networks": listed}
        page = client.post(page_of(acme), form).content.decode()
        assert ("you would lock yourself out" in page) != kept
        acme.refresh_from_db()
        assert acme.client_networks == ([listed] if kept and listed else [])

    def test_a_tenant_with_mail_is_not_deleted_and_an_empty_one_leaves_a_trace(self, client, operator):
        tenant = TenantFactory(slug="empty")
        client.force_login(operator)
        client.post(reverse("admin:accounts_tenant_delete", args=[tenant.pk]), {"post": "yes"})
        assert not Tenant.objects.exists()
        assert AuditEntry.objects.get().changes["slug"] == ["empty", None]

    @pytest.mark.parametrize(("role", "may"), [("owner", True), ("admin", True), ("user", False), ("viewer", False)])
    def test_a_tenants_own_people_say_whether_mail_must_go_out_as_it_was_written(self, client, acme, role, may):
        """PRV-4."""
        client.force_login(UserFactory(tenant=acme, role=role))
        page = client.get(page_of(acme)).content.decode()
        assert ('name="lossless"' in page) == may
        form = {"name": "Acme", "unknown_outcome": "resend", "lossless": "required", "client_networks": "", **DAYS}
        client.post(page_of(acme), form)
        acme.refresh_from_db()
        assert acme.lossless == ("required" if may else "special")
        changed = AuditEntry.objects.filter(changes__lossless=["special", "required"])
        assert changed.exists() == may
