"""Copies are found by what is known of them, by their text where the tenant wants that, and by their thread. ARC-2."""

import itertools

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from accounts import credentials
from accounts.models import AuditEntry, Tenant
from accounts.tests.api_client import signed_in
from accounts.tests.factories import AccountFactory, UserFactory
from delivery import archive_text, archive_threads, archiving, chores, deletion, retention, sender
from delivery.models import ArchiveCopy, ArchiveRecipient, ArchiveReference, ArchiveText
from delivery.tests.factories import ArchiveCopyFactory, MessageFactory
from delivery.tests.mail import accepted, raw_message

pytestmark = pytest.mark.django_db
LIST = "/api/v1/archive/"
INDEXED = connection.vendor == "postgresql"


@pytest.fixture
def client(acme):
    return signed_in(UserFactory(tenant=acme, role="admin"))


@pytest.fixture
def archiving_acme(acme):
    acme.archived = acme.full_text = True
    acme.save()
    return acme


def send(account, *headers, body="Hello.\r\n", **values):
    """The copy of a message that was sent with these headers."""
    message = accepted(account, raw_message(*headers, body=body), **values)
    sender.deliver([message.pk])
    archiving.run(chores.Turn())
    return ArchiveCopy.objects.get(message=message)


def found(client, **query):
    answer = client.get(LIST, query)
    assert answer.status_code == 200, answer.json()
    return {row["id"] for row in answer.json()["results"]}


def copy_of(account, **values):
    copy = ArchiveCopyFactory(message=MessageFactory(account=account), **values)
    for address in copy.recipients:
        ArchiveRecipient.objects.create(copy=copy, address=address)
    return copy


class TestSearch:
    @pytest.fixture
    def copy(self, acme_account):
        copy_of(acme_account, subject="Something else", mail_from="else@acme.example", recipients=["x@y.example"])
        return copy_of(
            acme_account,
            subject="Your Invoice 4711 of August",
            mail_from="Bills@acme.example",
            recipients=["anna@outside.example", "bert@outside.example"],
            message_id_header="<one@acme.example>",
            provider_message_id="SG-1",
        )

    @pytest.mark.parametrize(
        "query",
        [
            {"sender": "Bills@acme.example"},
            {"recipient": "bert@outside.example"},
            {"address": "anna@outside.example"},
            {"address": "Bills@acme.example"},
            {"subject": "august invoice"},
            {"subject": '"invoice 4711"'},
            {"message_id": "<one@acme.example>"},
            {"message_id": "one@acme.example"},
            {"provider_message_id": "SG-1"},
            {"sender": "Bills@acme.example", "subject": "invoice", "status": "pending"},
        ],
    )
    def test_a_copy_is_found(self, client, copy, query):
        copy.provider = copy.delivery_log.provider
        copy.save()
        assert found(client, **query) == {str(copy.pk)}

    @pytest.mark.parametrize("query", [{"subject": "invoice receipt"}, {"subject": "'"}, {"address": "bills"}])
    def test_what_is_in_none_is_not_found(self, client, copy, query):
        assert found(client, **query) == set()

    def test_another_tenants_copy_is_never_found(self, client, copy, globex_account):
        theirs = copy_of(globex_account, subject="Invoice", mail_from="Bills@acme.example", recipients=copy.recipients)
        for query in ({"subject": "invoice"}, {"address": copy.recipients[0]}, {"sender": copy.mail_from}):
            assert found(client, **query) == {str(copy.pk)}
        assert client.get(f"{LIST}{theirs.pk}/").status_code == 404

    def test_a_key_sees_its_accounts_copies(self, acme, acme_account, copy):
        copy_of(AccountFactory(tenant=acme))
        _, text = credentials.issue_api_key(acme_account, ["messages:read"])
        key = APIClient(headers={"Authorization": f"Bearer {text}"})
        assert len(found(key)) == 2
        assert key.get(f"{LIST}{copy.pk}/download/").status_code == 403
        assert key.get(LIST, {"text": "hello"}).status_code == 403

    def test_a_page_is_a_few_queries(self, client, acme_account, django_assert_max_num_queries):
        for _ in range(5):
            copy_of(acme_account)
        with django_assert_max_num_queries(4):
            assert len(found(client)) == 5

    @pytest.mark.parametrize(
        "term", ["august invoice", "from:Bills@acme.example", "to:bert@outside.example", "bert@outside.example"]
    )
    def test_the_admin_finds_the_same(self, client, acme, copy, term, admin_client):
        answer = admin_client.get(reverse("admin:delivery_archivecopy_changelist"), {"q": term})
        assert [row.pk for row in answer.context["cl"].result_list] == [copy.pk]

    @pytest.mark.skipif(not INDEXED, reason="SQLite has no such index")
    def test_words_of_subjects_are_looked_up_by_index(self, copy, client):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(
                "EXPLAIN SELECT id FROM delivery_archivecopy WHERE to_tsvector('simple'::regconfig, subject) @@ "
                "websearch_to_tsquery('simple'::regconfig, 'invoice')"
            )
            assert "archive_copy_subject" in str(cursor.fetchall())


@pytest.fixture
def admin_client(client, acme):

    client = Client()
    client.force_login(UserFactory(tenant=acme, role="admin"))
    return client


class TestDownload:
    def test_who_has_read_one_is_in_the_audit(self, client, archiving_acme, acme_account, box):
        copy = send(acme_account, "X-Mark: 7")
        answer = client.get(f"{LIST}{copy.pk}/download/")
        assert (answer.status_code, answer["Content-Type"]) == (200, "message/rfc822")
        assert b"X-Mark: 7" in answer.content
        assert AuditEntry.objects.get().action == "archivecopy.read"

    def test_one_that_is_not_made_yet_is_a_conflict(self, client, acme_account):
        answer = client.get(f"{LIST}{copy_of(acme_account).pk}/download/")
        assert (answer.status_code, answer.json()["code"]) == (409, "unreadable")

    def test_it_is_for_those_who_may_read_bodies(self, acme, acme_account):
        person = signed_in(UserFactory(tenant=acme, role="user"))
        copy = copy_of(acme_account)
        assert person.get(f"{LIST}{copy.pk}/").status_code == 200
        assert person.get(f"{LIST}{copy.pk}/download/").status_code == 403


class TestText:
    def test_words_of_the_text_are_found(self, client, archiving_acme, acme_account, box):
        copy = send(acme_account, body="The Heron is nesting.\r\n")
        send(acme_account, body="Nothing of the kind.\r\n")
        assert found(client, text="nesting heron") == {str(copy.pk)}
        assert found(client, text="greetings") != set()

    def test_html_is_found_as_it_is_read(self):
        html = "<style>p{}</style><p>caf&eacute;</p><p>au<b>tumn</b></p><script>evil()</script>"
        raw = raw_message("MIME-Version: 1.0", "Content-Type: text/html", body=html)
        words = archive_text.of(raw).split()
        assert {"café", "autumn", "Greetings"} <= set(words)
        assert not {"evil()", "<p>", "p{}"} & set(words)

    @pytest.mark.parametrize("body", ["a" * 3_000_000, "\x00 b", "<" * 200_000, "é ä " * 400_000])
    def test_text_is_bounded_and_fit_to_be_kept(self, body, acme, acme_account):
        for kind in ("plain", "html"):
            words = archive_text.of(raw_message(f"Content-Type: text/{kind}; charset=utf-8", body=body))
            assert len(words) <= archive_text.LONGEST
            ArchiveText.objects.create(copy=copy_of(acme_account), tenant=acme, words=words)

    def test_without_the_tenants_wish_nothing_is_kept(self, client, archiving_acme, acme_account, box):
        Tenant.objects.update(full_text=False)
        send(acme_account, body="The heron.\r\n")
        assert not ArchiveText.objects.exists()

    def test_it_ends_with_the_wish_and_with_the_copy(self, client, archiving_acme, acme_account, box):
        send(acme_account, body="The heron.\r\n")
        Tenant.objects.update(full_text=False)
        archiving_acme.refresh_from_db()
        assert found(client, text="heron") == set()
        assert retention.delete_texts(archiving_acme) == 1
        Tenant.objects.update(full_text=True)
        send(acme_account, body="The heron.\r\n")
        deletion.copies(ArchiveCopy.objects.all(), 10)
        assert not ArchiveText.objects.exists()
        assert not ArchiveReference.objects.exists()

    def test_searching_it_is_for_those_who_may_read_bodies(self, acme, archiving_acme, acme_account, box, client):
        send(acme_account, body="The heron.\r\n")
        user = UserFactory(tenant=acme, role="user")
        assert signed_in(user).get(LIST, {"text": "heron"}).status_code == 403
        assert found(client, text="heron")

    def test_a_copy_made_twice_is_indexed_once(self, archiving_acme, acme_account, box):
        copy = send(acme_account, body="The heron.\r\n")
        ArchiveCopy.objects.update(status="pending", next_attempt_at=copy.created_at)
        archiving.run(chores.Turn())
        assert ArchiveText.objects.count() == 1
        assert ArchiveCopy.objects.get().thread == copy.thread


CHAIN = (("<a@x>", ""), ("<b@x>", "<a@x>"), ("<c@x>", "<a@x> <b@x>"), ("<d@x>", "<c@x>"))


class TestThreads:
    def put(self, account, own, referred):
        headers = [f"Message-ID: {own}", *([f"References: {referred}"] if referred else [])]
        copy = copy_of(account, message_id_header=own)
        archive_threads.place(copy, archive_threads.named(raw_message(*headers)))
        return copy.pk

    @pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
    def test_whatever_order_copies_come_in_they_are_one_thread(self, acme_account, order):
        for number in order:
            self.put(acme_account, *CHAIN[number])
        alone = self.put(acme_account, "<z@x>", "<y@x>")
        threads = dict(ArchiveCopy.objects.values_list("pk", "thread"))
        assert len({thread for pk, thread in threads.items() if pk != alone}) == 1
        assert threads[alone] not in {thread for pk, thread in threads.items() if pk != alone}

    def test_answers_to_one_that_was_never_here_belong_together(self, acme_account):
        self.put(acme_account, "<b@x>", "<a@x>")
        self.put(acme_account, "<c@x>", "<a@x>")
        assert ArchiveCopy.objects.values("thread").distinct().count() == 1

    def test_another_tenants_ids_join_nothing(self, acme_account, globex_account):
        self.put(acme_account, "<a@x>", "")
        self.put(globex_account, "<b@x>", "<a@x>")
        assert ArchiveCopy.objects.values("thread").distinct().count() == 2

    def test_ids_are_read_as_they_come(self):
        folded = ["Message-ID: <1@x>", "References: <2@x>\r\n <3@x>,junk <2@x>", "In-Reply-To: Your mail <4@x>"]
        assert archive_threads.named(raw_message(*folded)) == ["<1@x>", "<2@x>", "<3@x>", "<4@x>"]
        many = " ".join(f"<{number}@y>" for number in range(1000))
        ids = archive_threads.named(raw_message("Message-ID: <own@x>", f"References: {many}"))
        assert (ids[:2], ids[-1], len(ids)) == (["<own@x>", "<0@y>"], "<999@y>", archive_threads.MOST)
        assert archive_threads.named(raw_message("References: " + "<" * 50_000)) == []

    def test_a_thread_is_listed_and_on_the_copys_page(self, client, archiving_acme, acme_account, box, admin_client):
        first = send(acme_account, "Message-ID: <a@acme.example>")
        second = send(acme_account, "Message-ID: <b@acme.example>", "In-Reply-To: <a@acme.example>")
        send(acme_account, "Message-ID: <c@acme.example>")
        listed = client.get(f"{LIST}{second.pk}/thread/").json()["results"]
        assert [row["id"] for row in listed] == [str(first.pk), str(second.pk)]
        page = admin_client.get(reverse("admin:delivery_archivecopy_change", args=[first.pk])).content.decode()
        assert reverse("admin:delivery_archivecopy_change", args=[second.pk]) in page

    def test_a_copy_from_before_there_were_threads_stands_alone(self, client, acme_account):
        copy = copy_of(acme_account)
        [row] = client.get(f"{LIST}{copy.pk}/thread/").json()["results"]
        assert (row["id"], row["thread"]) == (str(copy.pk), None)

    def test_ids_go_with_the_last_copy_of_their_thread(self, acme_account):
        one, two = self.put(acme_account, "<a@x>", ""), self.put(acme_account, "<b@x>", "<a@x>")
        deletion.copies(ArchiveCopy.objects.filter(pk=one), 10)
        assert ArchiveReference.objects.count() == 2
        deletion.copies(ArchiveCopy.objects.filter(pk=two), 10)
        assert not ArchiveReference.objects.exists()
