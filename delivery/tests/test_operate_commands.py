"""`manage.py messages` and `manage.py deadletters`: DEL-9, RET-5, STO-7."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import AuditEntry
from delivery import bulk, chores, control
from delivery.models import BulkAction, Event, Message
from delivery.tests.factories import DeliveryLogFactory, MessageFactory
from delivery.tests.mail import accepted, raw_message
from delivery.tests.test_bulk import many
from delivery.tests.workers import database_url
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db


def run(command, *arguments, code=0):
    """What it printed, and that it ended with this code."""
    out, ended = io.StringIO(), 0
    try:
        call_command(command, *map(str, arguments), stdout=out, stderr=io.StringIO())
    except SystemExit as exit_:
        ended = exit_.code
    except CommandError as error:
        ended = error.returncode
        out.write(str(error))
    assert ended == code, out.getvalue()
    return out.getvalue()


def run_json(*arguments, code=0):
    return json.loads(run(*arguments, "--json", code=code))


@pytest.fixture
def answer(monkeypatch):
    def type_(text):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    return type_


def statuses():
    return set(Message.objects.values_list("status", flat=True))


class TestById:
    def test_each_has_its_result_and_there_is_a_count(self, acme_account, broker):
        held, delivered = (MessageFactory(account=acme_account, status=status) for status in ("held", "delivered"))
        nobody = uuid7()
        told = run_json("messages", "release", held.pk, delivered.pk, nobody, "--yes", code=1)
        assert told == {
            "changed": 1,
            "done": [str(held.pk)],
            "refused": {str(delivered.pk): "The message is delivered.", str(nobody): control.NO_SUCH},
        }

    def test_when_all_is_done_the_code_says_so(self, acme_account, broker):
        rows = [MessageFactory(account=acme_account) for _ in range(2)]
        assert "2 of 2 done." in run("messages", "hold", *(row.pk for row in rows), "--yes")
        assert statuses() == {"held"}
        assert set(AuditEntry.objects.values_list("action", "actor_label")) == {("message.held", "manage.py messages")}

    def test_rerouting_needs_to_know_where_to(self, acme, globex, acme_account, broker):
        message = MessageFactory(account=acme_account)
        other = ProviderFactory(tenant=acme, name="other")
        assert "--to PROVIDER" in run("messages", "reroute", message.pk, "--yes", code=2)
        assert "no provider 'nowhere'" in run("messages", "reroute", message.pk, "--to", "nowhere", "--yes", code=2)
        assert "takes no provider" in run("messages", "hold", message.pk, "--to", "other", "--yes", code=2)
        run("messages", "reroute", message.pk, "--to", "other", "--yes")
        assert Message.objects.get().routed_to == other
        run("messages", "reroute", message.pk, "--to-rules", "--yes")
        assert Message.objects.get().routed_to is None


class TestByFilter:
    def test_they_are_counted_first_and_nothing_is_done_unless_somebody_says_yes(self, acme_account, broker, answer):
        MessageFactory(account=acme_account)
        for said in ("n\n", "\n", "", "perhaps\n"):
            answer(said)
            assert "nothing was done" in run("messages", "hold", "--filter", "status=queued", code=1)
        assert statuses() == {"queued"}
        answer("y\n")
        run("messages", "hold", "--filter", "status=queued")
        assert statuses() == {"held"}

    def test_who_breaks_off_at_the_question_has_done_nothing(self, acme_account, broker, monkeypatch):
        class Interrupted:
            def readline(self):
                raise KeyboardInterrupt

        MessageFactory(account=acme_account)
        for stdin in (Interrupted(), None):  # None: the terminal is closed
            monkeypatch.setattr(sys, "stdin", stdin)
            assert "nothing was done" in run("messages", "hold", "--all", code=1)
        assert statuses() == {"queued"}

    def test_a_dry_run_only_counts(self, acme_account, broker):
        many(acme_account, 3)
        assert run_json("messages", "cancel", "--all", "--dry-run") == {"found": "3"}
        assert run("messages", "cancel", "--all", "--dry-run", "--yes") == "3 found; nothing was done.\n"
        assert (statuses(), BulkAction.objects.count()) == ({"queued"}, 0)

    def test_what_is_done_is_a_bulk_action_of_the_command(self, acme_account, globex_account, broker):
        many(acme_account, 300)
        many(acme_account, 2, "delivered")
        many(globex_account, 1)
        told = run_json(
            "messages", "hold", "--filter", "tenant=acme", "--filter", "sender=acme.example", "--yes", code=1
        )
        row = BulkAction.objects.get()
        assert told == {
            "bulk_action": str(row.pk),
            "status": "done",
            "found": "302",
            "changed": 300,
            "refused": 2,
            "reasons": {"The message is delivered.": 2},
            "note": "",
        }
        assert (row.actor_label, row.by_command) == ("manage.py messages", True)
        assert Message.objects.get(tenant=globex_account.tenant).status == "queued"

    def test_it_can_be_left_to_the_workers_at_a_pace(self, acme_account, broker):
        many(acme_account, 30)
        told = run_json("messages", "hold", "--all", "--pace", 60, "--background", "--yes")
        assert (told["status"], told["changed"], BulkAction.objects.get().pace) == ("running", 0, 60)
        chores.do("bulk", "a worker")
        assert Message.objects.filter(status="held").count() == 10

    def test_it_keeps_the_pace_itself(self, acme_account, broker, monkeypatch):
        monkeypatch.setattr(bulk, "STEP", 0.5)
        many(acme_account, 10)
        begun = time.monotonic()
        run("messages", "hold", "--all", "--pace", 600, "--yes")
        assert time.monotonic() - begun > 0.4
        assert statuses() == {"held"}

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["hold"], "Give ids, --filter or --all."),
            (["hold", "--all", "--filter", "status=queued"], "Give ids, --filter or --all."),
            (["hold", "--filter", "colour=blue"], "There is no filter 'colour'"),
            (["hold", "--filter", "status"], "KEY=VALUE"),
            (["hold", "--filter", "status="], "KEY=VALUE"),
            (["list", "--filter", "tenant=nobody"], "There is no tenant"),
            (["hold", "--all", "--yes", "--pace", "0"], "pace"),
            (["show"], "takes ids"),
            (["list", "--limit", "0"], "--limit"),
        ],
        ids=str,
    )
    def test_wrong_usage_is_said_and_does_nothing(self, acme_account, broker, arguments, complaint):
        MessageFactory(account=acme_account)
        assert complaint in run("messages", *arguments, code=2)
        assert (statuses(), BulkAction.objects.count()) == ({"queued"}, 0)

    @pytest.mark.parametrize("option", [["--pace", "5"], ["--background"], ["--dry-run"]], ids=str)
    def test_looking_takes_nothing_that_is_for_acting(self, acme_account, option):
        assert "only look" in run("messages", "list", *option, code=2)

    @pytest.mark.parametrize("verb", [["list"], ["hold", "--all", "--yes"]], ids=str)
    def test_a_database_that_is_away_is_said_in_one_line(self, acme_account, verb):
        def away(*_):
            raise OperationalError("connection refused\n\tIs the server running?")

        with connection.execute_wrapper(away):
            told = run("messages", *verb, code=1)
        assert told == "The database does not answer: connection refused"


class TestLooking:
    def test_a_list_has_the_newest_first_and_cannot_steer_the_terminal(self, acme_account, broker):
        rows = [MessageFactory(account=acme_account, subject=f"Number {n}\x1b[31m") for n in range(3)]
        assert [row["id"] for row in run_json("messages", "list", "--limit", 2)] == [str(rows[2].pk), str(rows[1].pk)]
        page = run("messages", "list", "--filter", 'subject="Number 1"')
        assert str(rows[1].pk) in page
        assert str(rows[0].pk) not in page
        assert "\x1b" not in page
        assert rows[1].accepted_at.isoformat(timespec="seconds") in page

    def test_a_message_is_shown_with_recipients_attempts_and_events_and_no_body(self, acme_account, broker):
        message = accepted(acme_account, raw_message(body="Very private words.\r\n"))
        DeliveryLogFactory(message=message, error_text="550 no such user", provider__name="primary")
        control.hold([message.pk], actor=None)
        [told] = run_json("messages", "show", message.pk)
        assert (told["status"], told["tenant"], told["account"]) == ("held", "acme", "crm@acme")
        assert told["recipients"][0]["address"] == "someone@outside.example"
        assert told["attempts"][0]["error_text"] == "550 no such user"
        assert [event["type"] for event in told["events"]] == ["received", "held"]
        assert all(event["occurred_at"] <= timezone.now().isoformat() for event in told["events"])
        page = run("messages", "show", message.pk)
        assert "Held by the system." in page
        assert "550 no such user" in page
        assert "private" not in page + json.dumps(told)
        assert "no such message" in run("messages", "show", uuid7(), code=1)


class TestDeadLetters:
    @pytest.fixture
    def dead(self, acme_account, broker):
        MessageFactory(account=acme_account, status="failed")
        return [MessageFactory(account=acme_account, status=s) for s in ("dlq", "storage_error", "enqueue_failed")]

    def test_only_they_are_listed_shown_and_counted(self, dead, acme_account):
        assert {row["id"] for row in run_json("deadletters", "list")} == {str(row.pk) for row in dead}
        assert [row["id"] for row in run_json("deadletters", "list", "--filter", "status=dlq")] == [str(dead[0].pk)]
        assert run_json("deadletters", "reprocess", "--all", "--dry-run") == {"found": "3"}
        assert "status is one of" in run("deadletters", "list", "--filter", "status=failed", code=2)
        failed = Message.objects.get(status="failed")
        assert "no such message" in run("deadletters", "show", failed.pk, code=1)
        assert run_json("deadletters", "show", dead[1].pk)[0]["status"] == "storage_error"

    def test_they_are_reprocessed_by_id_and_all_at_once(self, dead):
        failed = Message.objects.get(status="failed")
        told = run_json("deadletters", "reprocess", dead[0].pk, failed.pk, "--yes", code=1)
        assert told["refused"] == {str(failed.pk): "The message is failed."}
        told = run_json("deadletters", "reprocess", "--all", "--yes")
        assert (told["found"], told["changed"]) == ("2", 2)
        assert statuses() == {"queued", "failed"}
        assert BulkAction.objects.get().actor_label == "manage.py deadletters"


@pytest.mark.django_db(transaction=True)
def test_a_command_that_is_killed_in_the_middle_leaves_the_rest_to_the_workers(acme_account, broker):
    if connection.vendor != "postgresql":
        pytest.skip("a test database in memory cannot be shared with another process")
    ids = many(acme_account, 3000)
    command = subprocess.Popen(
        [sys.executable, "manage.py", "messages", "hold", "--all", "--yes", "--pace", "24000"],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": database_url()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not BulkAction.objects.filter(changed__gt=0).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        command.send_signal(signal.SIGKILL)
        command.wait()
    row = BulkAction.objects.get()
    assert 0 < row.changed < 3000, "it was killed too late or never began"
    BulkAction.objects.update(pace=None, next_page_at=timezone.now())
    while bulk.due():
        bulk.run(chores.Turn())
    row.refresh_from_db()
    assert (row.status, row.changed, row.refused) == ("done", 3000, 0)
    assert Counter(Event.objects.values_list("message", flat=True)) == dict.fromkeys(ids, 1)
