"""Bulk actions, re-routing and dead letters in the admin: DEL-9, RET-5, SEC-1, SEC-2."""

import re

import pytest
from django.urls import reverse

from accounts.models import AuditEntry, Tenant
from accounts.tests.factories import UserFactory
from delivery import bulk, chores, filters
from delivery.filters import MessageFilter
from delivery.models import BulkAction, Message
from delivery.tests.factories import DeliveryLogFactory, MessageFactory
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db
LIST = "/admin/delivery/message/"
DEAD = "/admin/delivery/deadletter/"
ACTIONS = "/admin/delivery/bulkaction/"
BEGIN = ACTIONS + "begin/"


@pytest.fixture
def admin(client, acme):
    person = UserFactory(tenant=acme, role="admin", email="admin@acme.example")
    client.force_login(person)
    return person


def select_all(client, action, where, message):
    chosen = {"action": action, "select_across": "1", "_selected_action": str(message.pk)}
    return client.post(where, chosen, follow=True)


def text(answer):
    assert answer.status_code == 200
    return answer.content.decode()


def button(row, action):
    return reverse(f"admin:delivery_{row._meta.model_name}_do", args=[row.pk, action])


class TestBegin:
    def test_all_that_a_list_shows_is_counted_first_and_begun_when_confirmed(
        self, client, admin, acme_account, globex_account, broker
    ):
        mine = [MessageFactory(account=acme_account, status="held", has_attachments=True) for _ in range(3)]
        MessageFactory(account=acme_account, status="held")
        MessageFactory(account=globex_account, status="held", has_attachments=True)
        where = (
            LIST + f"?status__exact=held&has_attachments__exact=1&account__id__exact={acme_account.pk}&q=Subject&o=1"
        )
        answer = select_all(client, "release", where, mine[0])
        assert answer.request["PATH_INFO"] == BEGIN
        page = text(answer)
        assert "3 messages found" in page
        assert "<td>crm@acme</td>" in page
        assert not BulkAction.objects.exists()
        asked = dict(answer.context["repeated"])
        answer = client.post(BEGIN, {**asked, "pace": "600"}, follow=True)
        row = BulkAction.objects.get()
        assert answer.request["PATH_INFO"] == f"{ACTIONS}{row.pk}/change/"
        assert (row.action, row.pace, row.counted, row.actor, row.tenant) == ("release", 600, 3, admin, admin.tenant)
        bulk.run(chores.Turn())
        assert set(Message.objects.filter(pk__in=[one.pk for one in mine]).values_list("status", flat=True)) == {
            "queued"
        }
        assert Message.objects.filter(status="held").count() == 2
        entry = AuditEntry.objects.get(action="bulkaction.begun")
        assert (entry.actor, entry.client_ip) == (admin, "127.0.0.1")

    @pytest.mark.parametrize(("searched", "key"), [("anna@outside.example", "address"), ("two words", "subject")])
    def test_what_was_searched_for_is_meant(self, client, admin, acme_account, searched, key):
        message = MessageFactory(
            account=acme_account, subject="Two nice words", recipients=["anna@outside.example"], status="queued"
        )
        MessageFactory(account=acme_account)
        answer = select_all(client, "hold", f"{LIST}?q={searched}", message)
        assert "1 message found" in text(answer)
        assert (key, searched) in answer.context["repeated"]

    def test_a_list_filtered_as_bulk_actions_cannot_does_nothing(self, client, admin, acme_account):
        message = MessageFactory(account=acme_account)
        for query in (f"q={message.pk}", "q=<a@b>", "source__exact=smtp"):
            assert "Nothing was done." in text(select_all(client, "hold", f"{LIST}?{query}", message)), query
        assert not BulkAction.objects.exists()

    @pytest.mark.parametrize(
        ("asked", "complaint"),
        [
            ({"subject": "a", "action": "explode"}, "Select a valid choice"),
            ({"status": "lost", "action": "hold"}, "Select a valid choice"),
            ({"account": "erp@globex", "action": "hold"}, "There is no account"),
            ({"accepted_from": "yesterday", "action": "hold"}, "is no time"),
            ({"accepted_from": "1960-01-01", "action": "hold"}, "is no time"),
            ({"accepted_until": "9999-12-31T23:30:00", "action": "hold"}, "is no time"),
            ({"action": "reroute", "to": "01900000-0000-7000-8000-000000000000"}, "Select a valid choice"),
        ],
        ids=str,
    )
    def test_what_cannot_be_followed_is_said_at_the_form(self, client, admin, globex_account, asked, complaint):
        for answer in (client.get(BEGIN, asked), client.post(BEGIN, asked)):
            assert complaint in text(answer)
        assert not BulkAction.objects.exists()

    @pytest.mark.parametrize("pace", ["0", "-1", "many", str(2**31)])
    def test_a_pace_that_is_none_begins_nothing(self, client, admin, acme_account, pace):
        MessageFactory(account=acme_account)
        assert "errorlist" in text(client.post(BEGIN, {"action": "hold", "pace": pace}))
        assert not BulkAction.objects.exists()

    def test_nothing_found_leaves_nothing_to_begin(self, client, admin):
        page = text(client.get(BEGIN, {"action": "hold", "status": "held"}))
        assert "0 messages found" in page
        assert 'value="Begin"' not in page

    @pytest.mark.parametrize("role", ["user", "viewer"])
    def test_who_may_not_act_gets_no_such_page(self, client, acme, role):
        client.force_login(UserFactory(tenant=acme, role=role))
        assert client.get(BEGIN).status_code == client.post(BEGIN, {"action": "hold"}).status_code == 403
        assert not BulkAction.objects.exists()
        if role == "user":
            assert BEGIN not in text(client.get(ACTIONS))

    def test_only_operators_choose_a_tenant(self, client, admin, globex, globex_account, operator):
        MessageFactory(account=globex_account)
        assert 'name="tenant"' not in text(client.get(BEGIN))
        client.post(BEGIN, {"action": "hold", "tenant": "globex"})
        bulk.run(chores.Turn())
        assert Message.objects.get().status == "queued"
        client.force_login(operator)
        assert "1 message found" in text(client.get(BEGIN, {"action": "hold", "tenant": "globex"}))


class TestListOfActions:
    @pytest.fixture
    def row(self, admin, acme_account):
        MessageFactory(account=acme_account)
        return bulk.begin("hold", filters.parse({"status": "queued"}, admin), actor=admin, pace=1)

    def page(self, client, row):
        return text(client.get(f"{ACTIONS}{row.pk}/change/"))

    def test_it_tells_what_is_meant_and_how_far_it_has_come(self, client, admin, row, acme_account):
        MessageFactory(account=acme_account, status="delivered")
        BulkAction.objects.update(reasons={"The message is delivered.": 1200}, refused=1200)
        page = self.page(client, row)
        for shown in ("status: queued", "admin@acme.example", "1,200: The message is delivered."):
            assert shown in page
        assert "status: queued" in text(client.get(ACTIONS))

    def test_it_is_paused_resumed_and_stopped_by_buttons_that_fit(self, client, admin, row):
        for action, becomes, then in (
            ("pause", "paused", {"resume", "stop"}),
            ("resume", "running", {"pause", "stop"}),
            ("stop", "stopped", set()),
        ):
            assert f"1 of 1 {becomes if becomes != 'running' else 'resumed'}." in text(
                client.post(button(row, action), follow=True)
            )
            row.refresh_from_db()
            assert row.status == becomes
            page = self.page(client, row)
            assert {name for name in ("pause", "resume", "stop") if button(row, name) in page} == then
        assert client.post(button(row, "resume")).status_code == 403

    def test_what_an_operator_or_a_command_does_is_seen_and_not_stopped_by_the_tenant(
        self, client, admin, acme, operator
    ):
        wanted = filters.parse({"tenant": "acme"}, operator)
        for actor in (operator, "manage.py messages"):
            row = bulk.begin("hold", wanted, actor=actor)
            page = self.page(client, row)
            assert "the platform operator" in page
            assert row.actor_label not in page
            assert row.actor_label not in text(client.get(ACTIONS))
            assert client.post(button(row, "stop")).status_code == 403
            client.post(ACTIONS, {"action": "stop", "_selected_action": str(row.pk)})
            row.refresh_from_db()
            assert row.status == "running"
        client.force_login(operator)
        client.post(button(row, "stop"))
        row.refresh_from_db()
        assert row.status == "stopped"

    def test_an_action_on_every_tenant_is_seen_by_operators_only(self, client, admin, operator):
        row = bulk.begin("hold", MessageFilter(), actor=operator)
        assert client.get(f"{ACTIONS}{row.pk}/change/").status_code == 404
        assert str(row.pk) not in text(client.get(ACTIONS))

    def test_who_may_not_act_only_looks_on(self, client, acme, row):
        client.force_login(UserFactory(tenant=acme, role="user"))
        assert button(row, "stop") not in self.page(client, row)
        assert client.post(button(row, "stop")).status_code == 403


class TestReroute:
    @pytest.fixture
    def other(self, acme):
        return ProviderFactory(tenant=acme, name="other", default_rank=None)

    def test_a_button_asks_where_to_and_does_it(self, client, admin, acme_account, broker, other):
        message = MessageFactory(account=acme_account)
        page = text(client.post(button(message, "reroute")))
        assert f'<option value="{other.pk}">other</option>' in page
        assert Message.objects.get().routed_to is None
        page = text(client.post(button(message, "reroute"), {"chosen": "1", "to": str(other.pk)}, follow=True))
        assert "1 message re-routed." in page
        assert Message.objects.get().routed_to == other
        page = text(client.post(button(message, "reroute"), {"chosen": "1", "to": ""}, follow=True))
        assert Message.objects.get().routed_to is None

    def test_chosen_messages_are_asked_for_together(self, client, admin, acme_account, broker, other):
        rows = [MessageFactory(account=acme_account) for _ in range(2)]
        chosen = {"action": "reroute", "_selected_action": [str(row.pk) for row in rows]}
        page = text(client.post(LIST, chosen))
        assert "2 messages will go" in page
        assert all(f'name="_selected_action" value="{row.pk}"' in page for row in rows)
        client.post(LIST, {**chosen, "chosen": "1", "to": str(other.pk)})
        assert set(Message.objects.values_list("routed_to", flat=True)) == {other.pk}
        assert AuditEntry.objects.filter(action="message.rerouted", actor=admin).count() == 2

    def test_all_that_a_filter_finds_is_a_bulk_action(self, client, admin, acme_account, broker, other):
        message = MessageFactory(account=acme_account, status="held")
        answer = select_all(client, "reroute", LIST + "?status__exact=held", message)
        assert answer.request["PATH_INFO"] == BEGIN
        client.post(BEGIN, {"action": "reroute", "status": "held", "to": str(other.pk)})
        bulk.run(chores.Turn())
        assert Message.objects.get().routed_to == other

    def test_only_providers_the_tenant_may_use_are_offered_and_taken(
        self, client, admin, acme, globex, acme_account, broker, other
    ):
        theirs, shared = ProviderFactory(tenant=globex, name="theirs"), ProviderFactory(tenant=None, name="shared")
        ProviderFactory(tenant=acme, name="switched off", enabled=False)
        message = MessageFactory(account=acme_account)
        page = text(client.post(button(message, "reroute")))
        assert [name for name in ("theirs", "shared", "switched off") if name in page] == []
        for provider in (theirs, shared):
            page = text(client.post(button(message, "reroute"), {"chosen": "1", "to": str(provider.pk)}))
            assert "Select a valid choice" in page
        Tenant.objects.filter(pk=acme.pk).update(may_use_shared_providers=True)
        client.post(button(message, "reroute"), {"chosen": "1", "to": str(shared.pk)})
        assert Message.objects.get().routed_to == shared
        assert re.search(r"re-routed to.*?>\s*shared\s*<", text(client.get(f"{LIST}{message.pk}/change/")), re.S | re.I)


class TestDeadLetters:
    @pytest.fixture
    def dead(self, acme_account):
        return [MessageFactory(account=acme_account, status=s) for s in ("dlq", "storage_error", "enqueue_failed")]

    def test_they_have_a_list_with_reason_last_error_and_tries(self, client, admin, acme_account, dead):
        Message.objects.filter(pk=dead[0].pk).update(status_reason="Gave up after 5 retries.", attempts=6)
        for number, error in enumerate(["Mailbox busy", "No route to host"]):
            DeliveryLogFactory(message=dead[0], error_text=error, attempt_number=number)
        MessageFactory(account=acme_account, status="failed")
        answer = client.get(DEAD)
        assert {row.pk for row in answer.context["cl"].queryset} == {row.pk for row in dead}
        page = text(answer)
        assert "Gave up after 5 retries." in page
        assert "No route to host" in page
        assert "Mailbox busy" not in page
        assert client.get(DEAD, {"status__exact": "dlq"}).context["cl"].result_count == 1

    def test_one_is_reprocessed_by_its_button(self, client, admin, broker, dead):
        where = reverse("admin:delivery_deadletter_do", args=[dead[0].pk, "reprocess"])
        answer = client.post(where, follow=True)
        assert answer.request["PATH_INFO"] == f"{LIST}{dead[0].pk}/change/"
        assert "1 message reprocessed." in text(answer)
        assert client.get(f"{DEAD}{dead[0].pk}/change/").status_code == 404

    def test_what_has_no_body_any_more_has_no_button_that_would_send_it(self, client, admin, broker, dead):
        Message.objects.update(body_deleted_at=dead[0].accepted_at)
        page = text(client.get(f"{DEAD}{dead[0].pk}/change/"))
        assert [name for name in ("reprocess", "reroute") if f"/do/{name}/" in page] == []
        chosen = {"action": "reprocess", "_selected_action": str(dead[0].pk)}
        assert "1 not: Its body is no longer stored." in text(client.post(DEAD, chosen, follow=True))

    def test_some_are_reprocessed_from_the_list(self, client, admin, broker, dead):
        chosen = {"action": "reprocess", "_selected_action": [str(row.pk) for row in dead[:2]]}
        assert "2 messages reprocessed." in text(client.post(DEAD, chosen, follow=True))
        assert Message.objects.filter(status="queued").count() == 2

    def test_all_are_a_bulk_action_on_dead_letters_alone(self, client, admin, acme_account, broker, dead):
        MessageFactory(account=acme_account, status="failed")
        answer = select_all(client, "reprocess", DEAD, dead[0])
        assert "3 messages found" in text(answer)
        assert [value for name, value in answer.context["repeated"] if name == "status"] == [
            "dlq",
            "storage_error",
            "enqueue_failed",
        ]
        assert "1 message found" in text(select_all(client, "reprocess", DEAD + "?status__exact=dlq", dead[0]))

    def test_a_message_that_lives_is_no_dead_letter(self, client, admin, acme_account):
        message = MessageFactory(account=acme_account)
        assert client.get(f"{DEAD}{message.pk}/change/").status_code == 404
