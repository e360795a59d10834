"""Rows without bodies, bodies without rows, and the same of copies: found, and mended on demand. STO-6, ACC-2."""

import contextlib
import io
import json
import os
import random
import time
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone
from structlog.testing import capture_logs

from accounts.ids import first_at, uuid7
from delivery import archive, checking, chores, consistency, findings, intake, matching, packs, store
from delivery.consistency import Check, Position
from delivery.findings import DAMAGED, ENDED, LEFT, NEEDED, NO_COPY, NO_OCTETS, NO_ROW, STRANGE
from delivery.models import ArchiveCopy, Event, Message
from delivery.tests.factories import ArchiveCopyFactory, MessageFactory
from delivery.tests.mail import submission

pytestmark = pytest.mark.django_db

OLD = timedelta(hours=3)


@pytest.fixture(autouse=True)
def place(settings, tmp_path):
    """A message store of its own: what other tests leave is not ours to find."""
    options = {"BACKEND": "delivery.storage.DurableFileSystemStorage", "OPTIONS": {"location": str(tmp_path / "mail")}}
    settings.STORAGES = {**settings.STORAGES, "messages": options}
    return tmp_path / "mail"


def key_at(moment):
    return UUID(int=first_at(moment).int | random.getrandbits(62))


def age(place, hours=2):
    """Everything in the store was written so long ago."""
    then = time.time() - hours * 3600
    for path in place.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def put(key):
    store.put(key, io.BytesIO(b"Subject: x\r\n\r\n"))


def message(account, *, ago=OLD, body=True, **values):
    id_ = key_at(timezone.now() - ago)
    made = MessageFactory(id=id_, account=account, store_key=packs.key_for(id_), **values)
    if body:
        put(made.store_key)
    return made


def copy(account, *, ago=OLD, octets=True, **values):
    moment = timezone.now() - ago
    id_ = key_at(moment)
    made = ArchiveCopyFactory(
        id=id_,
        message=message(account, status="delivered"),
        store_key=archive.key_for(id_),
        created_at=moment,
        **{"status": "kept", **values},
    )
    if octets:
        put(made.store_key)
    return made


def check(place, **options):
    age(place)
    made = Check(repair=options.pop("repair", False), **options)
    assert made.run() is None
    return made.report


def check_again():
    one = Check(repair=False)
    one.run()
    return one.report


def test_an_empty_installation_is_in_order(place):
    assert check(place).in_order


def test_what_belongs_together_is_in_order(place, acme_account, broker):
    intake.accept([submission(acme_account) for _ in range(5)])
    assert any(".pack/" in key for key in store.iterate())
    for _ in range(3):
        message(acme_account)
        copy(acme_account)
    message(acme_account, body=False, body_deleted_at=timezone.now(), status="delivered")
    report = check(place)
    assert report.found == {}
    assert report.keys == 14


@pytest.mark.parametrize("status", ["queued", "retrying", "held", "scheduled"])
def test_a_message_to_be_sent_without_its_body_is_the_alarming_kind(place, acme_account, status):
    lost = message(acme_account, body=False, status=status)
    with capture_logs() as logs:
        report = check(place)
    assert report.found == {NEEDED: 1}
    assert report.examples == {NEEDED: [str(lost.pk)]}
    assert not report.in_order
    assert ("message without its body", "error") in [(entry["event"], entry["log_level"]) for entry in logs]
    lost.refresh_from_db()
    assert lost.status == status

    assert check(place, repair=True).in_order
    lost.refresh_from_db()
    assert (lost.status, lost.next_attempt_at) == ("storage_error", None)
    assert lost.recipients.get().status == "failed"
    assert Event.objects.get(message=lost).type == "dead_letter"


def test_one_that_a_worker_has_in_its_hands_is_left_to_it(place, acme_account):
    message(acme_account, body=False, status="processing", lease=uuid7())
    report = check(place, repair=True)
    assert report.found == {NEEDED: 1}
    assert not report.in_order
    assert Message.objects.get().status == "processing"


def test_one_that_is_held_stays_held_when_the_repair_dies(place, acme_account, monkeypatch):
    lost = message(acme_account, body=False, status="held")

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(consistency.claims, "park", die)
    with pytest.raises(KeyboardInterrupt):
        check(place, repair=True)
    lost.refresh_from_db()
    assert (lost.status, lost.next_attempt_at) == ("held", None)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no clock of its own")
def test_a_clock_that_is_ahead_makes_nothing_old(place, acme_account, monkeypatch):
    """The body of a message that is being accepted at this moment has no row yet."""
    put(packs.key_for(uuid7()))
    real = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: real() + timedelta(hours=2))
    one = Check(repair=True)
    one.run()
    assert one.report.found == {}
    assert len(list(store.iterate())) == 1


def test_of_one_that_has_ended_the_row_says_that_its_body_is_gone(place, acme_account):
    message(acme_account, body=False, status="delivered")
    assert check(place).found == {ENDED: 1}
    assert check(place, repair=True).in_order
    assert Message.objects.get().body_deleted_at is not None
    assert check(place).found == {}


def test_a_body_without_a_message_is_deleted(place, acme_account):
    kept = message(acme_account)
    orphan = packs.key_for(key_at(timezone.now() - OLD))
    put(orphan)
    assert check(place).found == {NO_ROW: 1}
    assert orphan in set(store.iterate())
    assert check(place, repair=True).in_order
    assert set(store.iterate()) == {kept.store_key}


def test_a_body_whose_row_says_it_is_gone_is_deleted(place, acme_account):
    """Deletion marks first: this is what it leaves when it dies in between."""
    message(acme_account, status="delivered", body_deleted_at=timezone.now() - OLD)
    assert check(place, repair=True).repaired == {LEFT: 1}
    assert not list(store.iterate())


def test_a_body_that_is_being_deleted_at_this_moment_is_no_finding(place, acme_account, monkeypatch):
    message(acme_account, status="delivered", body_deleted_at=timezone.now())
    assert check(place).found == {}
    orphan = packs.key_for(key_at(timezone.now() - OLD))
    put(orphan)
    real = consistency._named
    monkeypatch.setattr(consistency, "_named", lambda keys: (store.delete(orphan), real(keys))[1])
    assert check(place, repair=True).found == {}


def test_a_pack_whose_last_body_was_deleted_by_a_process_that_died_goes(place, acme_account, broker, monkeypatch):
    intake.accept([submission(acme_account) for _ in range(2)])
    monkeypatch.setattr(packs.os, "unlink", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    for one in Message.objects.order_by("pk"):
        with contextlib.suppress(KeyboardInterrupt):
            packs.delete(str(place / packs.split(one.store_key)[0]), packs.split(one.store_key)[1])
    monkeypatch.undo()
    Message.objects.update(status="delivered", next_attempt_at=None, body_deleted_at=timezone.now() - OLD)
    assert len(list(place.rglob("*.pack"))) == 1
    assert check(place, repair=True).repaired == {LEFT: 1}
    assert not list(place.rglob("*.pack"))


def test_a_damaged_pack_is_told_of_and_keeps_nobody_from_checking_the_rest(place, acme_account, broker):
    intake.accept([submission(acme_account) for _ in range(2)])
    [pack] = place.rglob("*.pack")
    pack.write_bytes(b"x" * pack.stat().st_size)
    put(packs.key_for(key_at(timezone.now() - OLD)))
    age(place)
    one = Check(repair=True, now=timezone.now() + OLD)
    one.run()
    assert one.report.found == {DAMAGED: 1, NO_ROW: 1}
    assert pack.exists()
    assert set(Message.objects.values_list("status", flat=True)) == {"queued"}


def test_of_a_pack_only_what_nobody_needs_is_deleted(place, acme_account, broker):
    intake.accept([submission(acme_account) for _ in range(4)])
    gone = Message.objects.first()
    key = gone.store_key
    gone.recipients.all().delete()
    Event.objects.filter(message=gone).delete()
    gone.delete()
    report = check(place, repair=True)
    assert report.repaired == {NO_ROW: 1}
    assert report.examples[NO_ROW] == [key]
    assert all(store.read(one.store_key) for one in Message.objects.all())


def test_what_is_young_is_left_alone(place, acme_account):
    message(acme_account, ago=timedelta(minutes=50), body=False)
    put(packs.key_for(key_at(timezone.now())))
    assert Check(repair=True).run() is None
    assert len(list(store.iterate())) == 1
    assert Message.objects.get().status == "queued"


def test_a_body_far_from_its_own_time_is_found_all_the_same(place, acme_account):
    """Its pack is named after a message whose client took ten minutes to send it."""
    first = key_at(timezone.now() - OLD - timedelta(minutes=10))
    late = message(acme_account, body=False)
    Message.objects.filter(pk=late.pk).update(store_key=f"{first.hex[:8]}/{first}.eml")
    put(f"{first.hex[:8]}/{first}.eml")
    assert check(place, repair=True).found == {}
    assert len(list(store.iterate())) == 1


def test_keys_that_are_not_ours_are_told_of_and_never_touched(place, acme_account):
    put("notes/readme.txt")
    put("archive/readme.txt")
    report = check(place, repair=True)
    assert report.found == {STRANGE: 2}
    assert not report.in_order
    assert list(store.iterate()) == ["archive/readme.txt", "notes/readme.txt"]


class TestTheWrongDatabaseOrStore:
    """A database from a backup, or a copy of one; a folder others use too; a store that is not mounted."""

    @pytest.fixture(params=["bodies nobody knows", "bodies that are gone", "ended", "copies", "octets"])
    def wrong(self, request, place, acme_account):
        for _ in range(findings.FEW + 1):
            match request.param:
                case "bodies nobody knows":
                    put(packs.key_for(key_at(timezone.now() - OLD)))
                case "bodies that are gone":
                    message(acme_account, body=False, status="held")
                case "ended":
                    message(acme_account, body=False, status="dlq")
                case "copies":
                    copy(acme_account, octets=False)
                case "octets":
                    put(archive.key_for(key_at(timezone.now() - OLD)))
        age(place)

    @staticmethod
    def everything():
        rows = Message.objects.order_by("pk").values_list("pk", "status", "body_deleted_at")
        return list(rows), list(ArchiveCopy.objects.order_by("pk").values_list("pk", "status")), list(store.iterate())

    @pytest.mark.usefixtures("wrong")
    def test_nothing_is_touched_unless_a_person_insists(self, settings, capsys):
        before = self.everything()
        settings.CONSISTENCY_REPAIR = True
        with capture_logs() as logs:
            checking.run(chores.Turn())
        assert "consistency not repaired: too much is wrong" in [entry["event"] for entry in logs]
        assert self.everything() == before
        with pytest.raises(SystemExit) as ended:
            call_command("consistency", "--repair")
        assert ended.value.code == 1
        assert "wrong store" in capsys.readouterr().err
        assert self.everything() == before
        call_command("consistency", "--repair", "--force")
        assert self.everything() != before
        assert check_again().found == {}

    def test_one_in_a_thousand_is_no_reason_for_doubt(self):
        report = findings.Report(keys=100_000)
        report.found[NO_ROW] = 100
        assert not report.doubtful
        report.found[NEEDED] = 1
        assert report.doubtful

    def test_a_store_that_goes_away_after_it_was_looked_at_costs_little(self, place, acme_account, settings):
        settings.CONSISTENCY_REPAIR = True
        put(packs.key_for(key_at(timezone.now() - OLD)))
        for _ in range(30):
            message(acme_account, status="held")
        age(place)
        turn = chores.Turn()
        real = consistency.Check.run

        def run(self, stop):
            if self._most:
                for path in place.rglob("*.eml"):
                    path.unlink()
            return real(self, stop)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(consistency.Check, "run", run)
            checking.run(turn)
        assert Message.objects.filter(status="storage_error").count() == 1 + findings.FEW


def test_a_copy_without_its_octets_has_failed(place, acme_account):
    lost = copy(acme_account, octets=False)
    assert check(place).found == {NO_OCTETS: 1}
    assert check(place, repair=True).in_order
    lost.refresh_from_db()
    assert (lost.status, lost.error_text) == ("failed", "The copy is not in the message store.")


def test_octets_without_a_copy_are_deleted_but_not_those_of_one_that_is_being_made(place, acme_account):
    kept = copy(acme_account)
    made = copy(acme_account, status="pending")
    ArchiveCopy.objects.filter(pk=made.pk).update(store_key="")
    put(archive.key_for(kept.pk, 1))
    put(archive.key_for(key_at(timezone.now() - OLD)))
    report = check(place, repair=True)
    assert report.repaired == {NO_COPY: 2}
    assert {key for key in store.iterate() if key.startswith("archive/")} == {kept.store_key, made.store_key}


def test_a_store_that_is_away_is_no_loss(place, acme_account, monkeypatch):
    message(acme_account, body=False, status="held")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(type(store._storage()), "open_stream", fail)
    with pytest.raises(CommandError, match="Input/output error"):
        call_command("consistency", "--repair")
    assert Message.objects.get().status == "held"


@pytest.fixture
def ruins(acme_account, place):
    """Many of everything, at random times; what is wrong with them."""
    random.seed(20)
    wrong = Counter()
    for _ in range(60):
        ago = timedelta(minutes=random.uniform(70, 140))
        match random.randrange(6):
            case 0 | 1:
                message(acme_account, ago=ago)
            case 2:
                message(acme_account, ago=ago, body=False)
                wrong[NEEDED] += 1
            case 3:
                put(packs.key_for(key_at(timezone.now() - ago)))
                wrong[NO_ROW] += 1
            case 4:
                copy(acme_account, ago=ago, octets=False)
                wrong[NO_OCTETS] += 1
            case 5:
                copy(acme_account, ago=ago)
    return wrong


def test_a_check_in_many_parts_finds_what_one_in_a_piece_finds(place, ruins, monkeypatch):
    monkeypatch.setattr(matching, "PAGE", 2)
    assert check(place).found == ruins
    found, position, parts = Counter(), Position(), 0
    while position is not None:
        asked = iter([False, False, False])
        one = Check(repair=False, position=position)
        position = one.run(lambda asked=asked: next(asked, True))
        found += one.report.found
        parts += 1
        assert parts < 500
    assert found == ruins
    assert parts > 5


def test_repairing_once_leaves_nothing_to_repair(place, ruins):
    assert check(place, repair=True).repaired == ruins
    assert check(place).found == {}


class TestScheduled:
    def test_it_tells_and_repairs_only_where_that_is_wanted(self, place, acme_account, settings):
        message(acme_account, body=False, status="held")
        age(place)
        assert checking.CHORE.due()
        with capture_logs() as logs:
            checking.run(chores.Turn())
        [told] = [entry for entry in logs if entry["event"] == "consistency"]
        assert (told["log_level"], told["found"]) == ("error", {NEEDED: {"found": 1, "repaired": 0}})
        assert not checking.CHORE.due()
        settings.CONSISTENCY_REPAIR = True
        with capture_logs() as logs:
            checking.run(chores.Turn())
        assert [entry["log_level"] for entry in logs if entry["event"] == "consistency"] == ["info"]

    def test_it_goes_on_where_its_time_was_over(self, place, ruins):
        age(place)
        with capture_logs() as logs:
            for _ in range(200):
                turn = chores.Turn()
                asked = iter([False] * 20)
                turn.out_of_time = lambda asked=asked: next(asked, True)
                checking.run(turn)
                if any(entry["event"] == "consistency" for entry in logs):
                    break
                assert checking.CHORE.due()
        [told] = [entry for entry in logs if entry["event"] == "consistency"]
        assert {kind: one["found"] for kind, one in told["found"].items()} == ruins


class TestCommand:
    def test_it_ends_well_when_all_is_in_order(self, place, acme_account, capsys):
        message(acme_account)
        age(place)
        call_command("consistency")
        assert capsys.readouterr().out == "1 keys\n"

    def test_it_ends_with_1_while_something_is_wrong(self, place, acme_account, capsys):
        lost = message(acme_account, body=False)
        with pytest.raises(SystemExit) as ended:
            call_command("consistency", "--json")
        assert ended.value.code == 1
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert told["found"] == {NEEDED: {"found": 1, "repaired": 0}}
        assert told["examples"] == {NEEDED: [str(lost.pk)]}
        call_command("consistency", "--repair")
        assert f"1 {NEEDED}, 1 of them repaired\n  {lost.pk}" in capsys.readouterr().out


def test_windows_are_those_of_the_keys():
    id_ = uuid7()
    assert matching.window_of(packs.key_for(id_)) == id_.int >> 96
    assert matching.window_of(f"{id_.hex[:8]}/{id_}.pack/17") == id_.int >> 96
    assert matching.copy_of(archive.key_for(id_)) == matching.copy_of(archive.key_for(id_, 3)) == id_
    assert matching.window_of("notes/x") is matching.copy_of("archive/x") is None
    moment = consistency._moment(id_.int >> 96)
    assert first_at(moment).int >> 96 == id_.int >> 96
