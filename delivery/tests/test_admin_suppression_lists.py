"""Lists of suppressed addresses come and go as CSV files: EVT-2, SEC-1, SEC-2."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from accounts.models import AuditEntry
from accounts.tests.factories import UserFactory
from delivery import suppression_lists
from delivery.models import Suppression
from delivery.tests.factories import SuppressionFactory

pytestmark = pytest.mark.django_db
IMPORT = "/admin/delivery/suppression/import/"
EXPORT = "/admin/delivery/suppression/export/"


@pytest.fixture
def admin(client, acme):
    person = UserFactory(tenant=acme, role="admin")
    client.force_login(person)
    return person


def file(text):
    return SimpleUploadedFile("list.csv", text.encode(), content_type="text/csv")


LIST = (
    "address,reason,text\nNew@Example.com,bounced,gone\nknown@example.com\nnew@example.com\nnobody\nx@y.example,odd\n"
)


def test_a_file_is_counted_first_and_taken_when_that_is_confirmed(client, admin, acme):
    SuppressionFactory(tenant=acme, address="known@example.com", text="mine")
    answer = client.post(IMPORT, {"file": file(LIST)})
    context = answer.context
    assert (context["new"], context["known"], context["listed"].repeated) == (1, 1, 1)
    assert [line for line, _ in context["bad"]] == [5, 6]
    assert Suppression.objects.count() == 1
    page = client.post(IMPORT, {"content": context["content"], "confirmed": "yes"}, follow=True).content.decode()
    assert "1 address added." in page
    added = Suppression.objects.get(address="new@example.com")
    assert (added.tenant, added.reason, added.text) == (acme, "bounced", "gone")
    assert Suppression.objects.get(address="known@example.com").text == "mine"
    entry = AuditEntry.objects.get(action="suppression.imported")
    assert (entry.tenant, entry.changes) == (acme, {"added": 1, "bad_lines": 2})


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "There is nothing to add."), ("a\0b", "The file is no CSV."), ("x@y.example\n" * 20_001, "20,000 lines")],
)
def test_a_file_that_cannot_be_taken_is_told(client, admin, text, told):
    sent = {"file": file(text or "\n")}
    assert told in client.post(IMPORT, sent).content.decode()
    assert not Suppression.objects.exists()


def test_no_file_is_told_at_the_field(client, admin):
    assert "Choose a file." in client.post(IMPORT, {}).content.decode()


def test_semicolons_and_other_columns_are_read():
    listed = suppression_lists.read("note;Email\nbecause;a@x.example\n".encode("utf-8-sig"))
    assert [(one.address, one.text) for one in listed.entries] == [("a@x.example", "because")]


def test_the_export_can_be_imported_again_and_holds_own_rows_only(client, admin, acme, globex):
    SuppressionFactory(tenant=acme, address="a@x.example", reason="complained", text="=1+1")
    SuppressionFactory(tenant=globex, address="theirs@x.example")
    answer = client.get(EXPORT)
    octets = b"".join(answer.streaming_content)
    assert "attachment" in answer.headers["Content-Disposition"]
    assert b"theirs" not in octets
    assert b"'=1+1" in octets  # no formula for whoever opens it in a spreadsheet
    [entry] = suppression_lists.read(octets).entries
    assert (entry.address, entry.reason) == ("a@x.example", "complained")


def test_an_operator_says_for_which_tenant(client, operator, acme, globex):
    client.force_login(operator)
    assert client.post(IMPORT, {"file": file("a@x.example")}).context["form"].errors["tenant_"]
    sent = {"content": "a@x.example", "tenant_": str(globex.pk), "confirmed": "yes"}
    client.post(IMPORT, sent)
    assert Suppression.objects.get().tenant == globex


def test_a_tenant_imports_for_itself_only(client, admin, globex):
    client.post(IMPORT, {"content": "a@x.example", "tenant_": str(globex.pk), "confirmed": "yes"})
    assert not Suppression.objects.filter(tenant=globex).exists()


@pytest.mark.parametrize(("role", "may_import", "may_export"), [("user", 403, 200), ("viewer", 403, 403)])
def test_roles(client, acme, role, may_import, may_export):
    client.force_login(UserFactory(tenant=acme, role=role))
    assert client.get(IMPORT).status_code == may_import
    assert client.post(IMPORT, {"content": "a@x.example", "confirmed": "yes"}).status_code == may_import
    assert client.get(EXPORT).status_code == may_export
