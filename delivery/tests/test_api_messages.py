"""API-1, API-3, DEL-9, DEL-11, ADM-4: messages by the API: found, looked at, read and acted on."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.tests.factories import AccountFactory, UserFactory
from delivery import store
from delivery.models import Event, Message
from delivery.tests.api import as_person, by_key, questions
from delivery.tests.factories import DeliveryLogFactory, EventFactory, MessageFactory, RecipientFactory
from delivery.tests.mail import accepted, raw_message
from providers.tests.factories import ProviderFactory, RoutingRuleFactory

pytestmark = pytest.mark.django_db
LIST = "/api/v1/messages/"


@pytest.fixture
def anna(acme):
    return UserFactory(tenant=acme, role="admin", email="anna@acme.example", reads_bodies=False)


@pytest.fixture
def api(anna):
    return as_person(anna)


def of(message, what=""):
    return f"{LIST}{message.pk}/{what}"


def ids(answer):
    assert answer.status_code == 200, answer.json()
    return [row["id"] for row in answer.json()["results"]]


class TestList:
    def test_the_newest_come_first_or_last_page_by_page(self, api, acme_account):
        keys = [str(MessageFactory(account=acme_account).pk) for _ in range(5)]
        found, url = [], LIST + "?limit=2"
        while url:
            answer = api.get(url)
            found, url = [*found, *ids(answer)], answer.json()["next"]
        assert found == keys[::-1]
        assert ids(api.get(LIST + "?ordering=accepted_at&limit=3")) == keys[:3]
        assert ids(api.get(LIST + "?ordering=-accepted_at&limit=1")) == keys[-1:]

    def test_filters_are_those_of_the_admin_and_the_commands(self, api, acme_account):
        held = MessageFactory(account=acme_account, status="held", subject="Spring sale")
        other = MessageFactory(account=acme_account, recipients=["ann@outside.example"])
        assert ids(api.get(LIST + "?status=held,dlq")) == [str(held.pk)]
        assert ids(api.get(LIST + "?status=held&status=queued")) == [str(other.pk), str(held.pk)]
        assert ids(api.get(LIST, {"subject": '"Spring sale"', "account": "crm@acme"})) == [str(held.pk)]
        assert ids(api.get(LIST + "?recipient=ann@outside.example")) == [str(other.pk)]
        assert ids(api.get(LIST + "?accepted_from=2199-01-01")) == []

    @pytest.mark.parametrize(
        "query",
        [
            "?status=lost",
            "?colour=red",
            "?account=erp@globex",
            "?recipient=a%20b",
            "?accepted_from=soon",
            "?subject=%00",
        ],
    )
    def test_a_filter_that_cannot_be_followed_is_refused(self, api, globex_account, query):
        answer = api.get(LIST + query)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_filter")

    @pytest.mark.parametrize("query", ["?ordering=size", "?ordering=--accepted_at", "?cursor=x", "?limit=0"])
    def test_so_is_a_page_that_is_none(self, api, query):
        assert api.get(LIST + query).status_code == 400

    def test_it_costs_the_same_for_one_and_for_fifty(self, api, acme_account):
        MessageFactory.create_batch(30, account=acme_account)
        with questions(1):
            assert len(ids(api.get(LIST))) == 30

    def test_each_tells_of_itself_but_not_of_our_insides(self, api, acme_account):
        MessageFactory(account=acme_account)
        [row] = api.get(LIST).json()["results"]
        assert (row["account_username"], row["mail_from"], row["status"]) == (
            "crm@acme",
            "sender@acme.example",
            "queued",
        )
        assert not {"store_key", "lease", "rung_at"} & set(row)


class TestWhoSees:
    def test_another_tenant_finds_nothing_and_404(self, acme_account, globex):
        message = MessageFactory(account=acme_account, status="held")
        other = as_person(UserFactory(tenant=globex, role="owner", reads_bodies=True))
        assert ids(other.get(LIST)) == []
        for what in ("", "recipients/", "delivery-logs/", "events/", "raw/", "explain/"):
            assert other.get(of(message, what)).status_code == 404
        for what in ("hold/", "release/", "retry/", "cancel/", "reprocess/"):
            assert other.post(of(message, what)).status_code == 404
        assert other.post(of(message, "reroute/"), {"provider": None}, format="json").status_code == 404

    def test_a_key_sees_its_accounts_messages_alone(self, acme, acme_account):
        mine = MessageFactory(account=acme_account)
        other = MessageFactory(account=AccountFactory(tenant=acme))
        app = by_key(acme_account, "messages:read", "logs:read")
        assert ids(app.get(LIST)) == [str(mine.pk)]
        assert app.get(of(mine)).status_code == 200
        assert app.get(of(other)).status_code == 404
        assert app.get(of(other, "events/")).status_code == 404
        assert app.get(of(mine, "raw/")).status_code == 403
        assert app.post(of(mine, "hold/")).status_code == 403

    def test_attempts_are_for_those_who_may_read_logs(self, acme_account):
        message = MessageFactory(account=acme_account)
        DeliveryLogFactory(message=message)
        app = by_key(acme_account, "messages:read")
        assert app.get(of(message)).json()["delivery_logs"] is None
        assert app.get(of(message, "delivery-logs/")).status_code == 403
        assert by_key(acme_account, "send").get(of(message)).status_code == 403

    def test_a_viewer_sees_events_but_no_message(self, acme, acme_account):
        message = EventFactory(message__account=acme_account).message
        viewer = as_person(UserFactory(tenant=acme, role="viewer"))
        assert viewer.get(LIST).status_code == 403
        assert viewer.get(of(message, "events/")).status_code == 200

    def test_an_address_that_is_no_id_is_404(self, api):
        assert api.get(LIST + "nobody/").status_code == 404


class TestDetail:
    def test_it_tells_of_recipients_and_attempts_in_four_questions(self, api, acme_account):
        message = MessageFactory(account=acme_account, recipients=[])
        provider = ProviderFactory(tenant=acme_account.tenant, name="primary")
        for n in range(120):
            RecipientFactory(message=message, address=f"{n}@outside.example", provider=provider)
        DeliveryLogFactory.create_batch(3, message=message, provider=provider, error_text="No such user")
        with questions(3):
            told = api.get(of(message)).json()
        assert [one["address"] for one in told["recipients"]] == [f"{n}@outside.example" for n in range(100)]
        assert told["recipients"][0]["provider_name"] == "primary"
        assert {(one["provider_name"], one["error_text"]) for one in told["delivery_logs"]} == {
            ("primary", "No such user")
        }
        assert "progress" not in told["delivery_logs"][0]

    def test_all_of_them_have_lists_of_their_own(self, api, acme_account):
        message = MessageFactory(account=acme_account, recipients=["a@outside.example", "b@outside.example"])
        message.recipients.filter(address__startswith="b").update(status="bounced")
        attempts = DeliveryLogFactory.create_batch(2, message=message)
        EventFactory(message=message, data={"reason": "x"})
        EventFactory(message=message, type="held")
        with questions(2):
            rows = api.get(of(message, "recipients/")).json()["results"]
        assert [one["address"] for one in rows] == ["a@outside.example", "b@outside.example"]
        [row] = api.get(of(message, "recipients/?status=bounced")).json()["results"]
        assert row["address"] == "b@outside.example"
        assert ids(api.get(of(message, "delivery-logs/?ordering=-created_at"))) == [
            str(one.pk) for one in reversed(attempts)
        ]
        rows = api.get(of(message, "events/")).json()["results"]
        assert [(one["type"], one["data"]) for one in rows] == [("received", {"reason": "x"}), ("held", {})]
        assert len(ids(api.get(of(message, "events/?type=held")))) == 1
        assert api.get(of(message, "events/?colour=red")).status_code == 400


class TestBody:
    @pytest.fixture
    def reader(self, acme):
        return UserFactory(tenant=acme, role="owner", email="olga@acme.example", reads_bodies=True)

    def test_it_is_given_as_it_is_stored_and_each_look_is_in_the_audit(self, reader, acme_account, broker):
        raw = raw_message(body="<script>alert(1)</script>\r\n" * 20_000)
        message = accepted(acme_account, raw)
        answer = as_person(reader).get(of(message, "raw/"), headers={"Accept": "message/rfc822"})
        assert answer.streaming
        assert b"".join(answer.streaming_content) == raw
        assert answer["Content-Type"] == "message/rfc822"
        assert answer["Content-Disposition"] == f'attachment; filename="{message.pk}.eml"'
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Cache-Control"] == "no-store"
        entry = AuditEntry.objects.get(action="message.body_viewed")
        assert (entry.actor, entry.target_id, entry.tenant) == (reader, str(message.pk), acme_account.tenant)

    def test_without_the_permission_it_is_not_given(self, acme, acme_account, broker):
        message = accepted(acme_account)
        for role in ("owner", "admin", "user"):
            person = UserFactory(tenant=acme, role=role, reads_bodies=False)
            assert as_person(person).get(of(message, "raw/")).status_code == 403
        assert not AuditEntry.objects.filter(action="message.body_viewed").exists()

    def test_one_that_is_gone_is_410(self, reader, acme_account):
        gone = MessageFactory(account=acme_account, body_deleted_at=timezone.now())
        missing = MessageFactory(account=acme_account)
        codes = {"gone": gone, "missing": missing}
        told = {name: as_person(reader).get(of(message, "raw/")) for name, message in codes.items()}
        assert {name: (one.status_code, one.json()["code"]) for name, one in told.items()} == {
            "gone": (410, "body_deleted"),
            "missing": (410, "body_missing"),
        }
        assert not AuditEntry.objects.exists()

    def test_a_store_that_is_away_is_503(self, reader, acme_account, monkeypatch):
        def away(_):
            raise store.StoreUnavailable("away")

        monkeypatch.setattr(store, "open", away)
        answer = as_person(reader).get(of(MessageFactory(account=acme_account), "raw/"))
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


class TestActions:
    @pytest.mark.parametrize(
        ("status", "verb", "after"),
        [
            ("queued", "hold", "held"),
            ("held", "release", "queued"),
            ("failed", "retry", "queued"),
            ("dlq", "reprocess", "queued"),
            ("held", "cancel", "cancelled"),
        ],
    )
    def test_each_changes_the_message_beside_its_event_and_audit(
        self, api, anna, acme_account, broker, status, verb, after
    ):
        message = MessageFactory(account=acme_account, status=status)
        answer = api.post(of(message, f"{verb}/"))
        assert (answer.status_code, answer.json()["status"]) == (200, after)
        assert Message.objects.get().status == after
        assert Event.objects.get().data["by"] == "anna@acme.example"
        assert AuditEntry.objects.get().actor == anna

    def test_what_does_not_fit_is_409_and_nothing_is_changed(self, api, acme_account):
        message = MessageFactory(account=acme_account, status="delivered")
        answer = api.post(of(message, "cancel/"))
        assert (answer.status_code, answer.json()) == (
            409,
            {"code": "not_possible", "message": "The message is delivered.", "details": {}},
        )
        assert Message.objects.get().status == "delivered"
        assert not AuditEntry.objects.exists()

    def test_a_hold_tells_its_reason(self, api, acme_account):
        message = MessageFactory(account=acme_account)
        assert api.post(of(message, "hold/"), {"reason": "Wait."}, format="json").json()["status_reason"] == "Wait."

    def test_a_reroute_goes_to_a_provider_of_the_tenant(self, api, acme, acme_account, globex, broker):
        message = MessageFactory(account=acme_account, status="held")
        backup = ProviderFactory(tenant=acme, name="backup")
        ProviderFactory(tenant=globex, name="theirs")
        ProviderFactory(tenant=acme, name="off", enabled=False)
        where = of(message, "reroute/")
        assert api.post(where, {"provider": "theirs"}, format="json").json()["code"] == "bad_provider"
        assert api.post(where, {"provider": "off"}, format="json").status_code == 409
        assert api.post(where, {}, format="json").status_code == 400
        assert api.post(where, {"provider": "backup"}, format="json").status_code == 200
        assert Message.objects.get().routed_to == backup
        assert api.post(where, {"provider": None}, format="json").status_code == 200
        assert Message.objects.get().routed_to is None

    def test_a_user_may_look_and_not_act(self, acme, acme_account):
        message = MessageFactory(account=acme_account)
        user = as_person(UserFactory(tenant=acme, role="user"))
        assert user.get(of(message)).status_code == 200
        for verb in ("hold", "release", "retry", "reprocess", "cancel", "reroute"):
            assert user.post(of(message, f"{verb}/")).status_code == 403

    def test_an_application_cancels_what_it_has_scheduled_and_nothing_else(self, acme, acme_account):
        app = by_key(acme_account, "send")
        at = timezone.now() + timedelta(hours=1)
        mine = MessageFactory(account=acme_account, status="scheduled", scheduled_at=at, next_attempt_at=at)
        assert app.post(of(mine, "cancel/")).json()["status"] == "cancelled"
        assert Event.objects.get().data["by"].startswith("API key smk_")
        assert AuditEntry.objects.get().actor_label.startswith("API key smk_")
        assert app.post(of(MessageFactory(account=acme_account, status="held"), "cancel/")).status_code == 409
        others = MessageFactory(account=AccountFactory(tenant=acme), status="scheduled")
        assert app.post(of(others, "cancel/")).status_code == 404
        assert by_key(acme_account, "messages:read").post(of(mine, "cancel/")).status_code == 403


class TestExplain:
    def test_it_tells_the_route_and_why(self, api, acme, acme_account, broker):
        provider = ProviderFactory(tenant=acme, name="primary")
        message = accepted(acme_account, raw_message("X-Kind: invoice"))
        condition = {"field": "header", "name": "X-Kind", "op": "equals", "values": ["invoice"]}
        rule = RoutingRuleFactory(tenant=acme, name="invoices", conditions=[condition], providers=[provider])
        [route] = api.get(of(message, "explain/")).json()["routes"]
        assert (route["outcome"], route["rule"], route["sends"]) == ("Sent through primary.", str(rule.pk), True)
        [told] = route["rules"]
        assert told["checks"][0]["found"] == "what it holds is for those who may see bodies"
        assert by_key(acme_account, "messages:read").get(of(message, "explain/")).status_code == 403
