"""Suppressed addresses over the API: looked at, added, removed, taken in and given out as a whole. EVT-2,
API-1, API-3."""

import csv
import io

import pytest
from django.db import connection
from rest_framework.test import APIClient

from accounts import credentials
from accounts.models import AuditEntry
from accounts.tests.api_client import signed_in
from accounts.tests.factories import UserFactory
from delivery import suppression_list
from delivery.models import Suppression
from delivery.suppression_list import Entry
from delivery.tests.factories import SuppressionFactory

pytestmark = pytest.mark.django_db
LIST = "/api/v1/suppressions/"
IMPORT, EXPORT = f"{LIST}import/", f"{LIST}export/"


@pytest.fixture
def client(acme):
    return signed_in(UserFactory(tenant=acme, role="admin"))


def take_in(client, *addresses):
    return client.post(IMPORT, {"rows": [{"address": address} for address in addresses]}, format="json")


def listed(client, **query):
    return [row["address"] for row in client.get(LIST, query).json()["results"]]


def test_an_address_is_added_as_entered_by_a_person_and_removed(client, acme):
    answer = client.post(LIST, {"address": "Anna@Outside.Example", "text": "asked", "reason": "bounced"}, format="json")
    assert answer.status_code == 201, answer.json()
    row = Suppression.objects.get()
    assert (row.tenant, row.address, row.reason, row.text) == (acme, "anna@outside.example", "manual", "asked")
    assert client.post(LIST, {"address": "anna@outside.EXAMPLE"}, format="json").status_code == 400
    assert client.post(LIST, {"address": "nobody"}, format="json").status_code == 400
    assert client.delete(f"{LIST}{row.pk}/").status_code == 204
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {"suppression.created", "suppression.deleted"}


def test_each_filter_narrows(client, acme, globex):
    for address, reason in (("anna@outside.example", "manual"), ("bert@else.example", "bounced")):
        SuppressionFactory(tenant=acme, address=address, reason=reason)
    SuppressionFactory(tenant=globex, address="anna@globex.example")
    assert listed(client, address="Anna@Outside.example") == ["anna@outside.example"]
    assert listed(client, domain="else.example") == listed(client, reason="bounced") == ["bert@else.example"]
    assert len(listed(client)) == 2


class TestImport:
    def test_each_row_is_told_what_became_of_it(self, client, acme):
        SuppressionFactory(tenant=acme, address="known@outside.example", text="as it was")
        answer = take_in(client, "New@outside.example", "known@Outside.example", "nobody", "new@OUTSIDE.example", "")
        told = answer.json()
        assert [row["status"] for row in told["rows"]] == ["added", "known", "refused", "known", "refused"]
        assert (told["added"], told["known"], told["refused"]) == (1, 2, 2)
        assert told["rows"][2]["error"]
        assert Suppression.objects.get(address="known@outside.example").text == "as it was"
        assert AuditEntry.objects.get().target_label == "new@outside.example"

    @pytest.mark.parametrize(
        "text",
        [
            "address,text\r\nanna@outside.example,asked\r\n",
            "\ufeffText;x,ADDRESS\nasked,anna@outside.example",
            "anna@outside.example\n\n",
        ],
    )
    def test_csv_is_taken_with_or_without_a_header(self, client, text):
        answer = client.generic("POST", IMPORT, text.encode(), content_type="text/csv")
        assert answer.json()["added"] == 1, answer.json()
        assert Suppression.objects.get().address == "anna@outside.example"

    def test_what_is_no_list_is_refused_whole(self, client, settings):
        assert client.generic("POST", IMPORT, b"\xff\xfe", content_type="text/csv").status_code == 400
        assert client.post(IMPORT, {"rows": "anna"}, format="json").status_code == 400
        assert client.post(IMPORT, "x", content_type="text/plain").status_code == 415
        many = [f"a{number}@outside.example" for number in range(suppression_list.MOST + 1)]
        assert take_in(client, *many).status_code == 400
        big = b"x" * (5 * 1024 * 1024 + 1)
        assert client.generic("POST", IMPORT, big, content_type="text/csv").status_code == 413
        assert not Suppression.objects.exists()

    def test_many_are_a_few_queries(self, acme, django_assert_max_num_queries):
        entries = [Entry(f"a{number}@outside.example") for number in range(1000)]
        pieces = 0 if connection.vendor == "postgresql" else 8  # SQLite takes so many values in one statement only
        with django_assert_max_num_queries(3 + pieces):
            outcomes, made = suppression_list.take_in(acme, entries)
        assert len(made) == len(outcomes) == 1000

    def test_an_operator_says_whose_list(self, operator, acme):
        client = signed_in(operator)
        assert take_in(client, "anna@outside.example").status_code == 400
        given = {"rows": [{"address": "anna@outside.example"}], "tenant": str(acme.pk)}
        assert client.post(IMPORT, given, format="json").json()["added"] == 1
        url = f"{IMPORT}?tenant={acme.pk}"
        assert client.generic("POST", url, b"bert@outside.example", content_type="text/csv").json()["added"] == 1

    def test_nobody_fills_another_tenants_list(self, client, globex):
        given = {"rows": [{"address": "anna@outside.example"}], "tenant": str(globex.pk)}
        assert client.post(IMPORT, given, format="json").status_code == 400

    def test_a_key_of_the_scope_fills_its_tenants(self, acme_account):
        _, text = credentials.issue_api_key(acme_account, ["suppressions"])
        client = APIClient(headers={"Authorization": f"Bearer {text}"})
        assert take_in(client, "anna@outside.example").json()["added"] == 1
        assert Suppression.objects.get().tenant == acme_account.tenant
        assert AuditEntry.objects.get().actor_label.startswith("API key smk_")


class TestExport:
    def read(self, client, **query):
        answer = client.get(EXPORT, query)
        assert answer["Content-Type"].startswith("text/csv")
        return b"".join(answer.streaming_content).decode()

    def test_it_is_everything_the_filters_leave(self, client, acme, globex):
        SuppressionFactory(tenant=acme, address="anna@outside.example", text='said "no",\nthen left')
        SuppressionFactory(tenant=acme, address="bert@outside.example", reason="bounced")
        SuppressionFactory(tenant=globex)
        rows = list(csv.DictReader(io.StringIO(self.read(client))))
        assert {row["address"] for row in rows} == {"anna@outside.example", "bert@outside.example"}
        assert 'said "no",\nthen left' in {row["text"] for row in rows}
        assert len(self.read(client, reason="bounced").splitlines()) == 2

    def test_what_is_given_out_can_be_taken_in_and_is_no_formula(self, client, acme):
        SuppressionFactory(tenant=acme, address='=cmd("x")@outside.example', text="=1+1")
        text = self.read(client)
        assert not any(cell.startswith("=") for row in csv.reader(io.StringIO(text)) for cell in row)
        Suppression.objects.all().delete()
        answer = client.generic("POST", IMPORT, text.encode(), content_type="text/csv")
        assert answer.json()["added"] == 1
        row = Suppression.objects.get()
        assert (row.address, row.text) == ('=cmd("x")@outside.example', "=1+1")
