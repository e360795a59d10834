"""API-2, API-3, DEL-11: a message by JSON or as raw MIME, accepted as by SMTP; the same key and body once."""

import base64
import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, connections
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.api_keys import issue_api_key
from accounts.models import Account
from accounts.tests.factories import UserFactory
from delivery import intake, mime, queue, ringing, store
from delivery.exceptions import StoreUnavailable
from delivery.models import Message, MessageStatus, Receipt
from delivery.pressure import pressure
from delivery.tests.api import as_person, by_key, questions
from delivery.tests.mail import raw_message

pytestmark = pytest.mark.django_db
SEND = "/api/v1/messages/"
LETTER = {"from": "Crm <crm@acme.example>", "to": ["someone@outside.example"], "subject": "Hello", "text": "Hi."}


@pytest.fixture
def app(acme_account, broker):
    return by_key(acme_account, "send")


def post(app, letter=None, **headers):
    octets = json.dumps(LETTER if letter is None else letter)
    return app.post(SEND, octets, content_type="application/json", headers=headers)


def post_mime(app, raw, query="", **headers):
    return app.post(SEND + query, raw, content_type="message/rfc822", headers=headers)


def stored(answer):
    assert answer.status_code == 202, answer.json()
    return Message.objects.get(pk=answer.json()["id"])


def refused(answer):
    body = answer.json()
    assert set(body) == {"code", "message", "details"}
    return answer.status_code, body["code"]


def addresses(message):
    return [one.address for one in message.recipients.order_by("pk")]


class TestJson:
    def test_it_becomes_a_message_with_all_that_was_given(self, app):
        answer = post(
            app,
            {
                "from": {"address": "crm@acme.example", "name": "Crm"},
                "to": ["Ann <ann@outside.example>", "bob@outside.example"],
                "cc": "cc@outside.example",
                "bcc": ["blind@outside.example"],
                "reply_to": "help@acme.example",
                "subject": "Angebot für Sie",
                "text": "Grüße",
                "html": '<p>Grüße</p><img src="cid:logo">',
                "attachments": [
                    {"name": "a.bin", "content": base64.b64encode(bytes(range(256))).decode()},
                    {"name": "logo.png", "content_type": "image/png", "content": "iVBORw==", "content_id": "logo"},
                ],
                "headers": {"X-Order": "42"},
            },
        )
        message = stored(answer)
        assert answer.json() == {"id": str(message.pk), "status": "queued", "scheduled_at": None}
        assert answer["Location"] == f"/api/v1/messages/{message.pk}"
        assert (message.source, message.mail_from, message.status) == ("http", "crm@acme.example", "queued")
        assert addresses(message) == [f"{name}@outside.example" for name in ("ann", "bob", "cc", "blind")]
        raw = store.read(message.store_key)
        assert b"blind@" not in raw
        content = mime.parse(raw)
        assert (content.subject, content.text.strip()) == ("Angebot für Sie", "Grüße")
        assert [(one.filename, one.inline) for one in content.attachments] == [("logo.png", True), ("a.bin", False)]
        assert content.attachments[1].content == bytes(range(256))
        assert mime.header_values(raw, "x-order") == ["42"]
        assert mime.header_values(raw, "reply-to") == ["help@acme.example"]

    @pytest.mark.parametrize(
        ("change", "code", "where"),
        [
            ({"from": None}, "missing_field", "from"),
            ({"to": ["nobody"]}, "bad_address", "to[0]"),
            ({"to": ["a@b.example, c@d.example"]}, "bad_address", "to[0]"),
            ({"to": []}, "no_recipients", None),
            ({"subject": "a\nBcc: x@y.example"}, "bad_field", "subject"),
            ({"attachments": [{"name": "a", "content": "%"}]}, "bad_field", "attachments[0].content"),
            ({"attachments": [{"name": "a"}]}, "missing_field", "attachments[0].content"),
            ({"headers": {"From": "ceo@acme.example"}}, "bad_field", None),
            ({"headers": {"X-A": "1\r\n2"}}, "bad_field", "headers.X-A"),
            ({"send_at": "tomorrow"}, "bad_send_at", "send_at"),
            ({"send_at": "2199-01-01T00:00:00Z"}, "bad_send_at", None),
            ({"template": "x"}, "unknown_field", "template"),
            ({"text": "\ud800"}, "bad_field", None),
        ],
    )
    def test_what_cannot_be_a_message_is_refused_with_its_place(self, app, change, code, where):
        answer = post(app, {name: value for name, value in {**LETTER, **change}.items() if value is not None})
        assert refused(answer) == (400, code)
        assert list(answer.json()["details"]) == ([where] if where else [])
        assert not Message.objects.exists()

    @pytest.mark.parametrize("octets", [b"", b"[]", b"{", b'{"from": 1, "from": 2}', b"\xff", b"[" * 5000])
    def test_what_is_no_json_object_is_refused(self, app, octets):
        answer = app.post(SEND, octets, content_type="application/json")
        assert refused(answer)[0] == 400

    def test_what_it_says_of_the_limit_is_the_listeners(self, app, settings):
        settings.SMTP = {**settings.SMTP, "MAX_MESSAGE_SIZE": 3000, "MAX_RECIPIENTS": 2}
        assert refused(post(app, {**LETTER, "text": "x\n" * 2000})) == (413, "too_large")
        assert refused(post(app, {**LETTER, "text": "x\n" * 20000})) == (413, "too_large")
        many = [f"{n}@outside.example" for n in range(3)]
        assert refused(post(app, {**LETTER, "to": many})) == (400, "too_many_recipients")


class TestMime:
    def test_it_is_kept_as_it_was_written_behind_one_received_field(self, app):
        raw = raw_message("Cc: cc@outside.example", "Bcc: <blind@outside.example>", body="Gr\u00fc\u00dfe\r\n.\r\n")
        message = stored(post_mime(app, raw))
        kept = store.read(message.store_key)
        assert kept.endswith(raw)
        assert kept[: -len(raw)].startswith(b"Received: from unknown ([127.0.0.1]) by ")
        assert b"with HTTP" in kept[: -len(raw)]
        assert (message.mail_from, message.client_ip) == ("crm@acme.example", "127.0.0.1")
        assert addresses(message) == ["someone@outside.example", "cc@outside.example", "blind@outside.example"]

    @pytest.mark.parametrize(
        ("query", "headers"),
        [
            ("", {"X-Mail-From": "<bounces@acme.example>", "X-Rcpt-To": 'a@x.example, "b,c"@x.example'}),
            ("?mail_from=bounces%40acme.example&rcpt_to=a%40x.example&rcpt_to=%22b,c%22%40x.example", {}),
        ],
    )
    def test_the_envelope_may_be_given_beside_it(self, app, query, headers):
        message = stored(post_mime(app, raw_message(), query, **headers))
        assert (message.mail_from, addresses(message)) == ("bounces@acme.example", ["a@x.example", '"b,c"@x.example'])

    def test_sender_stands_for_from_where_the_envelope_is_not_given(self, app):
        message = stored(post_mime(app, raw_message("Sender: robot@acme.example")))
        assert (message.mail_from, message.header_from) == ("robot@acme.example", "crm@acme.example")

    def test_only_an_account_that_may_send_bounces_has_the_empty_sender(self, app, acme_account):
        headers = {"X-Mail-From": "<>", "X-Rcpt-To": "a@x.example"}
        assert refused(post_mime(app, raw_message(), **headers)) == (403, "sender_not_allowed")

    def test_lone_line_feeds_are_mended_as_by_smtp(self, app, settings):
        raw = raw_message(body="one\ntwo\r\nthree\n")
        assert store.read(stored(post_mime(app, raw)).store_key).endswith(b"one\r\ntwo\r\nthree\r\n")
        settings.SMTP = {**settings.SMTP, "BARE_LF": "reject"}
        assert refused(post_mime(app, raw)) == (400, "bare_lf")

    @pytest.mark.parametrize(
        ("raw", "headers", "code"),
        [
            (raw_message(body="a\rb"), {}, "bare_cr"),
            (raw_message(body="a\r"), {}, "bare_cr"),
            (raw_message(body="a\0b"), {}, "nul_octet"),
            (raw_message(), {"X-Rcpt-To": "nobody"}, "bad_address"),
            (raw_message(), {"X-Rcpt-To": ""}, "bad_address"),
            (b"Subject: x\r\nTo: a@b.example\r\n\r\n", {}, "no_from"),
            (b"From: crm@acme.example\r\n\r\n", {}, "no_recipients"),
            (b"From: crm@acme.example\r\nTo: Undisclosed:;\r\n\r\n", {}, "no_recipients"),
            (raw_message(*["Received: x"] * 60), {}, "loop"),
            (raw_message("X-Send-At: tomorrow"), {}, "bad_send_at"),
            (b"", {}, "no_length"),
        ],
    )
    def test_what_cannot_be_taken_is_refused(self, app, raw, headers, code):
        assert refused(post_mime(app, raw, **headers)) == (400, code)
        assert not Message.objects.exists()

    def test_an_envelope_given_twice_is_refused(self, app):
        answer = post_mime(app, raw_message(), "?mail_from=crm@acme.example", **{"X-Mail-From": "crm@acme.example"})
        assert refused(answer) == (400, "bad_field")

    def test_the_limit_of_the_listener_holds(self, app, settings):
        settings.SMTP = {**settings.SMTP, "MAX_MESSAGE_SIZE": 3000}
        assert refused(post_mime(app, raw_message(body="x\r\n" * 1100))) == (413, "too_large")
        # With its line ends mended it is too large.
        assert refused(post_mime(app, raw_message(body="\n" * 2000))) == (413, "too_large")

    def test_a_large_one_is_on_disk_while_it_comes_in(self, app, settings, tmp_path):
        settings.SMTP = {**settings.SMTP, "SPOOL_THRESHOLD": 1024, "SPOOL_PATH": str(tmp_path / "spool")}
        raw = raw_message(body="A line of some length\r\n" * 20_000)
        assert store.read(stored(post_mime(app, raw)).store_key).endswith(raw)
        assert (tmp_path / "spool").is_dir()


class TestWhoMaySend:
    def test_a_person_never_does_whatever_their_role(self, acme, operator):
        for person in (operator, UserFactory(tenant=acme, role="owner")):
            assert post(as_person(person)).status_code == 403

    def test_nobody_does_without_a_key_or_with_one_that_may_not(self, client, acme_account):
        assert client.post(SEND, LETTER, content_type="application/json").status_code == 401
        assert post(by_key(acme_account, "messages:read")).status_code == 403

    def test_another_domain_is_refused_in_envelope_and_header(self, app):
        assert refused(post(app, {**LETTER, "from": "ceo@globex.example"})) == (403, "sender_not_allowed")
        raw = raw_message(sender="ceo@globex.example")
        answer = post_mime(app, raw, **{"X-Mail-From": "crm@acme.example", "X-Rcpt-To": "a@x.example"})
        assert refused(answer) == (403, "header_sender_not_allowed")

    def test_a_suspended_account_is_refused(self, app, acme_account):
        Account.objects.update(status=Account.Status.SUSPENDED)
        assert post(app).status_code == 401

    @pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", ""])
    def test_another_type_of_content_is_415(self, app, kind):
        assert app.generic("POST", SEND, b"x", content_type=kind).status_code == 415

    def test_so_is_a_compressed_one(self, app):
        answer = app.generic("POST", SEND, b"x", "application/json", HTTP_CONTENT_ENCODING="gzip")
        assert answer.status_code == 415


class TestNotNow:
    def test_a_quota_is_429_with_the_seconds_to_wait(self, app, acme_account):
        acme_account.messages_per_minute = 1
        acme_account.save()
        stored(post(app))
        answer = post(app)
        assert refused(answer) == (429, "quota_minute")
        assert 1 <= int(answer["Retry-After"]) <= 61

    def test_back_pressure_is_503(self, app, settings):
        settings.QUEUE_MAX_DEPTH = 1
        pressure.forget()
        stored(post(app))
        stored(post(app))
        pressure.forget()
        answer = post(app)
        pressure.forget()
        assert refused(answer) == (503, "queue_full")
        assert int(answer["Retry-After"]) >= 1

    def test_a_broker_that_is_away_is_503_and_what_came_in_is_never_sent_by_itself(self, app, monkeypatch):
        def fails(*_):
            raise queue.RingFailed("away")

        monkeypatch.setattr(ringing, "RING_WAITS", (0.0,))
        monkeypatch.setattr(queue, "ring", fails)
        answer = post(app, **{"Idempotency-Key": "1"})
        assert refused(answer) == (503, "enqueue_failed")
        assert answer["Retry-After"]
        assert Message.objects.get().status == MessageStatus.ENQUEUE_FAILED
        monkeypatch.undo()
        stored(post(app, **{"Idempotency-Key": "1"}))

    def test_a_store_that_is_away_is_503_and_leaves_nothing(self, app, monkeypatch):
        monkeypatch.setattr(store, "put_many", lambda items: [StoreUnavailable("away") for _ in items])
        assert refused(post(app)) == (503, "internal")
        assert not Message.objects.exists()


class TestSchedule:
    def test_it_waits_for_its_time(self, app):
        at = timezone.now().replace(microsecond=0) + timedelta(hours=1)
        answer = post(app, {**LETTER, "send_at": at.isoformat()})
        message = stored(answer)
        assert (message.status, message.next_attempt_at) == ("scheduled", at)
        assert answer.json()["status"] == "scheduled"
        assert datetime.fromisoformat(answer.json()["scheduled_at"]) == at

    def test_so_does_mime_with_the_header(self, app):
        answer = post_mime(app, raw_message("X-Send-At: " + (timezone.now() + timedelta(hours=1)).isoformat()))
        assert (stored(answer).status, answer.json()["status"]) == ("scheduled", "scheduled")

    def test_a_time_that_has_passed_is_now(self, app):
        answer = post(app, {**LETTER, "send_at": datetime(2020, 1, 1, tzinfo=UTC).isoformat()})
        assert (stored(answer).status, answer.json()["scheduled_at"]) == ("queued", None)


class TestAgain:
    KEY = {"Idempotency-Key": "order-1"}

    def test_the_same_key_and_body_is_the_same_answer_and_no_second_message(self, app):
        letter = {**LETTER, "send_at": (timezone.now() + timedelta(hours=1)).isoformat()}
        first = post(app, letter, **self.KEY)
        turned_round = json.dumps(dict(reversed(letter.items())), indent=2)
        again = app.post(SEND, turned_round, content_type="application/json", headers=self.KEY)
        assert (again.status_code, again.json(), again["Location"]) == (202, first.json(), first["Location"])
        assert "Idempotent-Replayed" not in first
        assert again["Idempotent-Replayed"] == "true"
        assert Message.objects.count() == 1

    def test_with_another_body_it_is_a_conflict(self, app):
        first = stored(post(app, **self.KEY))
        assert refused(post(app, {**LETTER, "text": "Other."}, **self.KEY)) == (409, "key_reused")
        assert refused(post_mime(app, raw_message(), **self.KEY)) == (409, "key_reused")
        assert Message.objects.get() == first

    def test_mime_is_the_same_with_the_same_octets_and_envelope(self, app):
        first = post_mime(app, raw_message(), **self.KEY)
        assert post_mime(app, raw_message(), **self.KEY).json() == first.json()
        assert refused(post_mime(app, raw_message(), "?rcpt_to=b@x.example", **self.KEY)) == (409, "key_reused")

    def test_another_account_may_use_the_same_key(self, app, globex_account):
        stored(post(app, **self.KEY))
        stored(post(by_key(globex_account, "send"), {**LETTER, "from": "erp@globex.example"}, **self.KEY))

    @pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
    def test_a_key_that_is_none_is_refused(self, app, key):
        assert refused(post(app, **{"Idempotency-Key": key})) == (400, "bad_field")

    def test_what_was_refused_leaves_its_key_free(self, app):
        assert post(app, {**LETTER, "from": "ceo@globex.example"}, **self.KEY).status_code == 403
        stored(post(app, **self.KEY))
        assert Receipt.objects.count() == 1


@pytest.mark.skipif(connection.vendor != "postgresql", reason="threads cannot share SQLite's database in memory")
@pytest.mark.django_db(transaction=True)
def test_equal_requests_at_the_same_moment_make_one_message(acme_account, broker):
    _, key = issue_api_key(acme_account, ["send"])
    together, answers = threading.Barrier(4), []

    def send():
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
        together.wait()
        answers.append(post(client, **{"Idempotency-Key": "once"}))
        connections.close_all()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer for answer in answers) == 1
    assert Message.objects.count() == 1


def test_a_request_asks_the_database_a_bounded_number_of_questions(app):
    """PERF-5: signing in, the receipt, the rows; whatever the number of recipients."""
    post(app)
    many = [f"{n}@outside.example" for n in range(200)]
    pieces = 0 if connection.vendor == "postgresql" else 4  # SQLite takes so many values in one statement only
    with questions(8 + pieces):
        stored(post(app, {**LETTER, "to": many}))
    with questions(11 + pieces):
        stored(post(app, {**LETTER, "to": many}, **{"Idempotency-Key": "1"}))


def test_no_refusal_tells_what_goes_on_inside(app, monkeypatch):
    monkeypatch.setattr(intake, "_store", lambda *_: 1 / 0)
    answer = post(app)
    assert refused(answer) == (503, "internal")
    assert "division" not in answer.content.decode()
