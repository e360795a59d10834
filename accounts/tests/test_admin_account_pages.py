"""How to connect with an account, its API keys, and actions that ask first: ADM-2, SEC-1, SEC-3."""

import html
import json
import re

import pytest
from django.urls import reverse

from accounts import credentials, snippets
from accounts.models import Account, ApiKey, AuditEntry
from accounts.tests.factories import AccountFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(client, acme):
    person = UserFactory(tenant=acme, role="owner", email="owner@acme.example")
    client.force_login(person)
    return person


def url(account, name):
    return reverse(f"admin:accounts_account_{name}", args=[account.pk])


def secret_in(page):
    return re.search(r"shown this once: <code>(.+?)</code>", page).group(1)


class TestConnect:
    def test_every_snippet_has_this_accounts_host_port_and_user(self, client, owner, acme_account, settings):
        settings.WEB_PUBLIC_URL = "https://mail.acme.example"
        page = html.unescape(client.get(url(acme_account, "connect")).content.decode())
        found = snippets.all_for(acme_account)
        assert {one.id for one in found} >= {"swaks", "python", "django", "nodemailer", "phpmailer", "printer", "api"}
        for one in found:
            assert one.text.strip() in page
            assert f'data-copy="#snippet-{one.id}"' in page
            if one.id == "api":
                assert "https://mail.acme.example/api/v1/messages" in one.text
            else:
                assert settings.SMTP["HOSTNAME"] in one.text
                assert str(settings.SMTP["PORT"]) in one.text
                assert acme_account.username in one.text
                assert snippets.PASSWORD in one.text

    def test_the_python_snippet_is_a_program_whatever_the_names_hold(self, acme):
        odd = AccountFactory.build(tenant=acme, username="o\"dd\\na'me", allowed_senders=["*.acme.example"])
        texts = {one.id: one.text for one in snippets.all_for(odd)}
        compile(texts["python"], "snippet", "exec")
        compile(texts["django"], "snippet", "exec")
        sent = re.search(r"-d '(.+)'", texts["api"]).group(1)
        assert json.loads(sent)["from"] == "test@mail.acme.example"

    def test_an_account_that_may_send_nothing_is_told_what_to_do(self, client, owner, acme):
        account = AccountFactory(tenant=acme, allowed_senders=[])
        page = client.get(url(account, "connect")).content.decode()
        assert "enter the domains it may send from" in page
        assert "snippet-" not in page

    @pytest.mark.parametrize("name", ["connect", "keys"])
    @pytest.mark.parametrize(("role", "status"), [("owner", 200), ("admin", 200), ("user", 200), ("viewer", 403)])
    def test_who_may_read_accounts_may_read_their_pages(
        self, client, acme, acme_account, globex_account, name, role, status
    ):
        client.force_login(UserFactory(tenant=acme, role=role))
        answer = client.get(url(acme_account, name))
        assert answer.status_code == status
        assert (b"Make a key" in answer.content) == (role == "owner" and name == "keys")
        assert client.get(url(globex_account, name)).status_code == (404 if status == 200 else status) or status == 403


class TestKeys:
    def test_a_key_is_made_and_shown_once(self, client, owner, acme_account):
        sent = {"what": "new", "name": "shop", "scopes": ["send", "messages:read"]}
        answer = client.post(url(acme_account, "keys"), sent)
        text = secret_in(answer.content.decode())
        identity = credentials.verify_api_key(text, None)
        assert (identity.account_id, identity.scopes) == (acme_account.pk, {"send", "messages:read"})
        assert "no-store" in answer.headers["Cache-Control"]
        assert text not in client.get(url(acme_account, "keys")).content.decode()
        assert AuditEntry.objects.get(action="apikey.created").tenant_id == acme_account.tenant_id

    def test_a_wrong_entry_is_told_at_its_field_and_nothing_is_lost(self, client, owner, acme_account):
        sent = {"what": "new", "name": "shop", "expires_at": "2001-01-01T00:00"}
        page = client.post(url(acme_account, "keys"), sent).content.decode()
        assert "Choose a time in the future." in page
        assert "This field is required." in page
        assert 'value="shop"' in page
        assert not ApiKey.objects.exists()

    def test_a_key_is_rotated_with_overlap(self, client, owner, acme_account):
        old, text = credentials.issue_api_key(acme_account, ["send"])
        sent = {"what": "rotate", "key": str(old.pk), "overlap": "24"}
        page = client.post(url(acme_account, "keys"), sent).content.decode()
        assert "works 24 more hours" in page
        for one in (text, secret_in(page)):
            assert credentials.verify_api_key(one, None).account_id == acme_account.pk
        client.post(url(acme_account, "keys"), {**sent, "overlap": "0"})
        with pytest.raises(credentials.AuthenticationFailed):
            credentials.verify_api_key(text, None)

    def test_a_key_is_revoked_after_a_question(self, client, owner, acme_account):
        key, text = credentials.issue_api_key(acme_account, ["send"])
        sent = {"what": "revoke", "key": str(key.pk)}
        assert "refused from now on" in client.post(url(acme_account, "keys"), sent).content.decode()
        credentials.verify_api_key(text, None)
        client.post(url(acme_account, "keys"), {**sent, "confirmed": "yes"})
        with pytest.raises(credentials.AuthenticationFailed):
            credentials.verify_api_key(text, None)
        assert AuditEntry.objects.filter(action="apikey.revoked").exists()

    @pytest.mark.parametrize("what", ["rotate", "revoke"])
    def test_a_key_of_another_account_is_not_there(self, client, owner, acme_account, globex_account, what):
        theirs, text = credentials.issue_api_key(globex_account, ["send"])
        for key in (str(theirs.pk), "nonsense", ""):
            sent = {"what": what, "key": key, "overlap": "0", "confirmed": "yes"}
            assert client.post(url(acme_account, "keys"), sent).status_code == 404
        credentials.verify_api_key(text, None)

    def test_those_who_may_only_read_change_nothing(self, client, acme, acme_account):
        client.force_login(UserFactory(tenant=acme, role="admin"))
        assert client.post(url(acme_account, "keys"), {"what": "new", "scopes": ["send"]}).status_code == 403


class TestQuestions:
    @pytest.mark.parametrize(
        ("action", "text"),
        [("suspend", "1 account can no longer send or sign in"), ("issue_new_password", "ends at once")],
    )
    def test_a_button_says_what_will_happen_and_does_nothing_yet(self, client, owner, acme_account, action, text):
        before = Account.objects.values().get()
        page = client.post(reverse("admin:accounts_account_do", args=[acme_account.pk, action])).content.decode()
        assert text in page
        assert 'name="confirmed" value="yes"' in page
        assert Account.objects.values().get() == before

    def test_in_a_list_it_says_how_many_rows_it_touches(self, client, owner, acme):
        accounts = [AccountFactory(tenant=acme) for _ in range(12)]
        keys = [str(account.pk) for account in accounts]
        sent = {"action": "suspend", "_selected_action": keys}
        page = client.post("/admin/accounts/account/", sent).content.decode()
        assert "12 accounts can no longer send" in page
        assert "and 2 more" in page
        assert not Account.objects.filter(status="suspended").exists()
        client.post("/admin/accounts/account/", {**sent, "confirmed": "yes"})
        assert Account.objects.filter(status="suspended").count() == 12
