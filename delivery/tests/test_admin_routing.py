"""The pages that explain routing and try a changed rule: RTE-5, SEC-1, SEC-2."""

import html
import re

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry
from accounts.tests.factories import UserFactory
from delivery import store
from delivery.tests.factories import MessageFactory
from delivery.tests.mail import accepted, raw_message
from providers.models import Provider, RoutingRule
from providers.tests.factories import ProviderFactory, RoutingRuleFactory

pytestmark = pytest.mark.django_db(transaction=True)
EXPLAIN = "/admin/providers/routingrule/explain/"
ADD = "/admin/providers/routingrule/add/"
LIST = "/admin/providers/routingrule/"
INVOICE = [{"field": "header", "name": "X-Kind", "op": "equals", "values": ["invoice"]}]


@pytest.fixture
def admin(client, acme):
    person = UserFactory(tenant=acme, role="admin")
    client.force_login(person)
    return person


@pytest.fixture
def default(acme):
    return ProviderFactory(tenant=acme, name="default")


def text_of(answer):
    assert answer.status_code == 200
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode())))


def asked(by, **changes):
    return {
        "account": str(by.pk),
        "sender": "crm@acme.example",
        "recipients": "anna@gmail.com\nbert@web.de",
        "size": "1000",
        "subject": "Hello",
        **changes,
    }


def page_of(row):
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def of_message(message):
    return f"{EXPLAIN}?message={message.pk}"


class TestExplain:
    def test_a_made_up_message_is_explained(self, client, admin, acme_account, default):
        rule = RoutingRuleFactory(
            tenant=admin.tenant,
            name="Gmail",
            conditions=[{"field": "recipient", "values": ["gmail.com"]}],
            action="hold",
        )
        page = text_of(client.post(EXPLAIN, asked(acme_account)))
        assert "Held until a person releases it." in page
        assert "✓ holds: recipient is gmail.com; it is anna@gmail.com" in page
        assert "✗ fails: recipient is gmail.com; it is bert@web.de" in page
        assert "Sent through default." in page
        assert rule.name in page
        assert not AuditEntry.objects.exists()

    def test_the_values_of_the_form_are_used(self, client, admin, acme_account, default):
        conditions = [
            {"field": "has_attachments", "value": True},
            {"field": "time", "time_zone": "UTC", "weekdays": ["mon"]},
            *INVOICE,
        ]
        RoutingRuleFactory(tenant=admin.tenant, conditions=conditions, action="reject")
        form = asked(
            acme_account, has_attachments="on", when="2026-11-23T10:00", headers="X-Kind: invoice\nX-Other: a:b"
        )
        assert "Rejected." in text_of(client.post(EXPLAIN, form))
        assert "it is sun 10:00 there" in text_of(client.post(EXPLAIN, {**form, "when": "2026-11-22T10:00"}))

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"recipients": ""}, "This field is required."),
            ({"recipients": "anna"}, "Give addresses"),
            ({"recipients": "\n".join(f"r{n}@x.example" for n in range(101))}, "At most 100."),
            ({"headers": "nonsense"}, "Give headers as Name: value."),
            ({"size": "-1"}, "greater than or equal to 0"),
            ({"account": ""}, "This field is required."),
        ],
    )
    def test_a_wrong_value_gets_a_clear_error(self, client, admin, acme_account, default, change, text):
        page = text_of(client.post(EXPLAIN, asked(acme_account, **change)))
        assert text in page
        assert "Sent through" not in page

    def test_a_stored_message_is_explained_from_its_page(self, client, admin, acme_account, default):
        message = accepted(acme_account)
        assert f'href="{of_message(message)}"' in client.get(page_of(message)).content.decode()
        page = text_of(client.get(of_message(message)))
        assert "Sent through default." in page
        assert "lossless" in page
        store.delete(message.store_key)
        assert "no longer stored" in text_of(client.get(of_message(message)))

    @pytest.mark.parametrize(("role", "shown"), [("admin", True), ("user", False)])
    def test_header_values_are_for_those_who_may_see_bodies(self, client, acme, acme_account, default, role, shown):
        RoutingRuleFactory(tenant=acme, conditions=INVOICE, action="reject")
        message = accepted(acme_account, raw_message("X-Kind: confidential"))
        client.force_login(UserFactory(tenant=acme, role=role))
        page = text_of(client.get(of_message(message)))
        assert ("confidential" in page) == shown
        assert "✗ fails: header X-Kind is invoice" in page

    @pytest.mark.parametrize(("role", "status"), [("owner", 200), ("admin", 200), ("user", 200), ("viewer", 403)])
    def test_those_who_may_read_rules_may_ask(self, client, acme, acme_account, default, role, status):
        client.force_login(UserFactory(tenant=acme, role=role))
        assert client.get(EXPLAIN).status_code == status
        assert client.post(EXPLAIN, asked(acme_account)).status_code == status
        if status == 200:
            assert f'href="{EXPLAIN}"' in client.get(LIST).content.decode()

    def test_another_tenants_message_and_accounts_are_not_there(self, client, admin, globex_account, default):
        theirs = MessageFactory(account=globex_account)
        for key in (theirs.pk, "nonsense", "01a20000-0000-7000-8000-000000000000", "%00"):
            assert client.get(f"{EXPLAIN}?message={key}").status_code == 404
        answer = client.post(EXPLAIN, asked(globex_account))
        assert "Select a valid choice" in text_of(answer)
        assert globex_account.username not in answer.content.decode()

    def test_an_operator_asks_for_any_tenant(self, client, operator, acme_account, globex_account, default):
        client.force_login(operator)
        assert "Sent through default." in text_of(client.post(EXPLAIN, asked(acme_account)))
        assert "no default provider" in text_of(client.post(EXPLAIN, asked(globex_account)))

    def test_a_post_from_elsewhere_is_refused(self, admin, acme_account):
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(admin)
        assert strict.post(EXPLAIN, asked(acme_account)).status_code == 403

    def test_what_people_wrote_is_shown_as_text(self, client, admin, acme_account):
        ProviderFactory(tenant=admin.tenant, name="<script>alert(1)</script>")
        answer = client.post(EXPLAIN, asked(acme_account, recipients="<script>alert(2)</script>@x.example"))
        assert "<script>alert" not in answer.content.decode()


def rule_form(provider=None, initial=0, **changes):
    targets = {
        "targets-TOTAL_FORMS": "1" if provider else "0",
        "targets-INITIAL_FORMS": str(initial),
        "targets-MIN_NUM_FORMS": "0",
        "targets-MAX_NUM_FORMS": "1000",
    }
    if provider:
        targets |= {"targets-0-provider": str(provider.pk), "targets-0-position": "", "targets-0-weight": "1"}
    return {
        "name": "new",
        "priority": "1",
        "enabled": "on",
        "action": "send",
        "conditions": '[{"field": "recipient", "values": ["gmail.com"]}]',
        **targets,
        **changes,
    }


DRY = {"_dry_run": "1", "_dry_run_last": "200"}


class TestDryRun:
    @pytest.fixture
    def special(self, acme, default):
        return ProviderFactory(tenant=acme, name="special", default_rank=None)

    def test_a_new_rule_is_tried_and_not_saved(self, client, admin, acme_account, special):
        mine = MessageFactory(account=acme_account, recipients=["anna@gmail.com"], subject="Your ticket")
        MessageFactory(account=acme_account, recipients=["bert@web.de"])
        answer = client.post(ADD, {**rule_form(special), **DRY})
        page = text_of(answer)
        assert "1 of 2 messages would have taken another route." in page
        assert "default special 1" in page
        assert "Your ticket" in page
        assert page_of(mine) in answer.content.decode()
        assert not RoutingRule.objects.exists()
        assert not AuditEntry.objects.exists()

    def test_a_changed_rule_is_tried_and_stays_as_it_was(self, client, admin, acme_account, special):
        rule = RoutingRuleFactory(tenant=admin.tenant, name="old", priority=7, providers=[special])
        MessageFactory(account=acme_account, recipients=["anna@gmail.com"])
        target = rule.targets.get()
        form = rule_form(special, initial=1, action="hold", **{"targets-0-id": str(target.pk)})
        form |= {"targets-0-rule": str(rule.pk), "targets-0-DELETE": "on"}
        page = text_of(client.post(page_of(rule), {**form, **DRY}))
        assert "special hold 1" in page
        rule.refresh_from_db()
        assert (rule.name, rule.action, rule.targets.count()) == ("old", "send", 1)
        assert client.post(page_of(rule), form).status_code == 302
        rule.refresh_from_db()
        assert (rule.name, rule.action, rule.targets.count()) == ("new", "hold", 0)

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"conditions": "[{]"}, "Enter a valid JSON."),
            ({"priority": ""}, "This field is required."),
            ({"targets-TOTAL_FORMS": "0"}, "needs at least one provider"),
        ],
    )
    def test_a_form_that_is_wrong_is_shown_again_and_not_saved(
        self, client, admin, acme_account, special, change, text
    ):
        answer = client.post(ADD, {**rule_form(special, **change), **DRY})
        assert text in text_of(answer)
        assert not RoutingRule.objects.exists()

    @pytest.mark.parametrize(("last", "count"), [("1", 1), ("nonsense", 3), ("999999999999", 3), ("0", 1)])
    def test_how_many_messages_is_asked_and_bounded(self, client, admin, acme_account, special, last, count):
        for _ in range(3):
            MessageFactory(account=acme_account, recipients=["anna@gmail.com"])
        page = text_of(client.post(ADD, {**rule_form(special), "_dry_run": "1", "_dry_run_last": last}))
        assert f"{count} of {count} message" in page

    def test_those_who_may_not_change_rules_may_not_try_any(self, client, acme, special):
        rule = RoutingRuleFactory(tenant=acme, providers=[special])
        client.force_login(UserFactory(tenant=acme, role="user"))
        for url in (ADD, page_of(rule)):
            assert client.post(url, {**rule_form(special), **DRY}).status_code == 403
        assert "_dry_run" not in client.get(page_of(rule)).content.decode()

    def test_another_tenants_rule_is_not_there(self, client, admin, globex, special):
        theirs = RoutingRuleFactory(tenant=globex)
        assert client.post(page_of(theirs), {**rule_form(special), **DRY}).status_code == 404

    def test_another_tenants_messages_are_not_looked_at(self, client, admin, globex_account, special):
        MessageFactory(account=globex_account, recipients=["anna@gmail.com"])
        assert "Acme has no messages yet" in text_of(client.post(ADD, {**rule_form(special), **DRY}))

    def test_the_button_is_on_both_pages(self, client, admin, special):
        rule = RoutingRuleFactory(tenant=admin.tenant, providers=[special])
        for url in (ADD, page_of(rule)):
            page = client.get(url).content.decode()
            assert 'name="_dry_run"' in page
            assert 'formtarget="_blank"' in page
        assert Provider.objects.count() == 2
