"""RET-5, DEL-9: dead letters and bulk actions by the API."""

import pytest
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import AuditEntry
from accounts.tests.factories import UserFactory
from delivery import bulk, chores
from delivery.filters import MessageFilter
from delivery.models import BulkAction, Message
from delivery.tests.api import as_person, by_key, questions
from delivery.tests.factories import DeliveryLogFactory, MessageFactory
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db
DLQ, BULK = "/api/v1/dlq/", "/api/v1/bulk-actions/"


@pytest.fixture
def anna(acme):
    return UserFactory(tenant=acme, role="admin", email="anna@acme.example")


@pytest.fixture
def api(anna):
    return as_person(anna)


def post(api, url, **given):
    return api.post(url, given, format="json")


class TestDeadLetters:
    def test_they_are_listed_with_their_last_error_in_one_question(self, api, acme_account):
        MessageFactory(account=acme_account, status="failed")
        dead = MessageFactory(account=acme_account, status="dlq", status_reason="Retries are used up.")
        DeliveryLogFactory(message=dead, error_text="first")
        DeliveryLogFactory(message=dead, error_text="last")
        lost = MessageFactory(account=acme_account, status="storage_error")
        with questions(1):
            rows = api.get(DLQ).json()["results"]
        assert [(row["id"], row["last_error"]) for row in rows] == [(str(lost.pk), None), (str(dead.pk), "last")]
        assert [row["id"] for row in api.get(DLQ + "?status=dlq").json()["results"]] == [str(dead.pk)]
        assert api.get(f"{DLQ}{dead.pk}/").json()["recipients"]

    def test_what_is_no_dead_letter_or_another_tenants_is_404(self, api, acme_account, globex_account):
        assert api.get(f"{DLQ}{MessageFactory(account=acme_account).pk}/").status_code == 404
        assert api.get(f"{DLQ}{MessageFactory(account=globex_account, status='dlq').pk}/").status_code == 404

    def test_by_ids_each_has_its_result_and_the_answer_a_count(self, api, acme_account, globex_account, broker):
        dead = [MessageFactory(account=acme_account, status="dlq", tries=5) for _ in range(2)]
        theirs = MessageFactory(account=globex_account, status="dlq")
        alive = MessageFactory(account=acme_account)
        asked = [str(one.pk) for one in (*dead, theirs, alive)] + [str(uuid7())]
        told = post(api, DLQ + "reprocess/", ids=asked).json()
        assert (told["reprocessed"], told["refused"]) == (2, 3)
        assert [(one["id"], one["reprocessed"]) for one in told["results"]] == list(
            zip(asked, [True, True, False, False, False], strict=True)
        )
        assert {one["reason"] for one in told["results"]} == {"", "There is no such dead letter."}
        assert {(one.status, one.tries) for one in Message.objects.filter(pk__in=[one.pk for one in dead])} == {
            ("queued", 0)
        }
        assert Message.objects.get(pk=theirs.pk).status == "dlq"
        assert AuditEntry.objects.filter(action="message.reprocessed").count() == 2

    def test_one_whose_body_is_gone_says_so(self, api, acme_account):
        dead = MessageFactory(account=acme_account, status="dlq", body_deleted_at=timezone.now())
        [result] = post(api, DLQ + "reprocess/", ids=[str(dead.pk)]).json()["results"]
        assert (result["reprocessed"], result["reason"]) == (False, "Its body is no longer stored.")

    def test_by_filter_they_are_counted_first_and_then_a_bulk_action(self, api, acme_account, globex_account, broker):
        MessageFactory.create_batch(3, account=acme_account, status="dlq")
        held = MessageFactory(account=acme_account, status="held")
        theirs = MessageFactory(account=globex_account, status="dlq")
        answer = post(api, DLQ + "reprocess/", filter={"account": "crm@acme"}, dry_run=True)
        assert (answer.status_code, answer.json()) == (200, {"count": 3, "more": False})
        assert not BulkAction.objects.exists()
        answer = post(api, DLQ + "reprocess/", filter={})
        assert (answer.status_code, answer.json()["counted"]) == (202, 3)
        bulk.run(chores.Turn())
        told = api.get(answer["Location"]).json()
        assert (told["status"], told["changed"], told["refused"]) == ("done", 3, 0)
        assert Message.objects.get(pk=held.pk).status == "held"
        assert Message.objects.get(pk=theirs.pk).status == "dlq"

    @pytest.mark.parametrize(
        "given",
        [{}, {"ids": [], "filter": {}}, {"ids": ["x"]}, {"ids": []}, {"filter": {"colour": "red"}}, {"filter": 5}],
    )
    def test_what_is_neither_is_refused(self, api, given):
        assert post(api, DLQ + "reprocess/", **given).status_code == 400

    def test_users_and_applications_do_not_reprocess(self, acme, acme_account):
        app = by_key(acme_account, "send", "messages:read")
        assert app.get(DLQ).status_code == 200
        for client in (app, as_person(UserFactory(tenant=acme, role="user"))):
            assert post(client, DLQ + "reprocess/", ids=[str(uuid7())]).status_code == 403


class TestBulkActions:
    def test_one_is_counted_begun_paused_resumed_and_stopped(self, api, anna, acme_account, globex_account):
        MessageFactory.create_batch(2, account=acme_account)
        MessageFactory(account=globex_account)
        wanted = {"action": "hold", "filter": {"status": ["queued"]}, "pace": 60}
        assert post(api, BULK, **wanted, dry_run=True).json() == {"count": 2, "more": False}
        answer = post(api, BULK, **wanted)
        told = answer.json()
        assert answer.status_code == 202
        assert (told["actor"], told["counted"], told["pace"], told["status"]) == (anna.email, 2, 60, "running")
        for verb, status in (("pause", "paused"), ("resume", "running"), ("stop", "stopped")):
            answer = api.post(f"{BULK}{told['id']}/{verb}/")
            assert (answer.status_code, answer.json()["status"]) == (200, status)
            assert api.post(f"{BULK}{told['id']}/{verb}/").status_code == 409
        assert [row["id"] for row in api.get(BULK + "?status=stopped").json()["results"]] == [told["id"]]
        assert [entry.action for entry in AuditEntry.objects.order_by("pk")] == [
            f"bulkaction.{verb}" for verb in ("begun", "paused", "resumed", "stopped")
        ]

    def test_a_reroute_names_its_provider(self, api, acme, globex):
        backup = ProviderFactory(tenant=acme, name="backup")
        ProviderFactory(tenant=globex, name="theirs")
        told = post(api, BULK, action="reroute", filter={}, provider="backup").json()
        assert told["provider"] == str(backup.pk)
        assert post(api, BULK, action="reroute", filter={}, provider="theirs").json()["code"] == "bad_provider"
        assert post(api, BULK, action="reroute", filter={}).status_code == 400
        assert post(api, BULK, action="hold", filter={}, provider="backup").status_code == 400

    @pytest.mark.parametrize(
        "given",
        [
            {"action": "hold"},
            {"action": "delete", "filter": {}},
            {"action": "hold", "filter": {}, "pace": 0},
            {"action": "hold", "filter": {"status": 5}},
            {"action": "hold", "filter": {"status": ["lost"]}},
        ],
    )
    def test_what_cannot_be_followed_is_refused(self, api, given):
        assert post(api, BULK, **given).status_code == 400
        assert not BulkAction.objects.exists()

    def test_what_an_operator_has_begun_is_seen_and_not_turned(self, api, acme, operator, globex):
        ours = bulk.begin("hold", MessageFilter(tenant=acme.pk), actor=operator)
        theirs = bulk.begin("hold", MessageFilter(tenant=globex.pk), actor=operator)
        assert api.get(f"{BULK}{ours.pk}/").json()["actor"] == "the platform operator"
        answer = api.post(f"{BULK}{ours.pk}/stop/")
        assert (answer.status_code, answer.json()["code"]) == (403, "begun_by_operator")
        assert api.get(f"{BULK}{theirs.pk}/").status_code == 404
        assert api.post(f"{BULK}{theirs.pk}/stop/").status_code == 404
        assert as_person(operator).get(f"{BULK}{theirs.pk}/").json()["actor"] == operator.email

    def test_users_and_applications_begin_none(self, acme, acme_account):
        for client in (by_key(acme_account, "send", "messages:read"), as_person(UserFactory(tenant=acme, role="user"))):
            assert post(client, BULK, action="hold", filter={}).status_code == 403
