"""QUE-7: what waits in each queue and who looks at it, in the command and in the admin."""

import io
import json
import re
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from accounts import shared_state
from accounts.models import AuditEntry
from accounts.tests.factories import UserFactory
from delivery import caps, queue, queue_states, queues, worker_notes
from delivery.models import QueueSetting
from delivery.tests.factories import MessageFactory
from delivery.tests.test_caps import large, set_queue

pytestmark = pytest.mark.django_db


@pytest.fixture
def busy(acme_account, globex_account, broker):
    """Two tenants' mail, some of it for later, and rings for some."""
    now = timezone.now()
    for account, name, status, seconds in (
        (acme_account, queues.LARGE, "queued", 50),
        (globex_account, queues.LARGE, "retrying", -90),
        (globex_account, queues.LARGE, "retrying", 30),
        (acme_account, queues.LARGE, "processing", 500),
        (acme_account, queues.FRESH, "scheduled", -5),
        (acme_account, queues.FRESH, "scheduled", 86_400),
    ):
        values = {"queue": name, "status": status, "next_attempt_at": now + timedelta(seconds=seconds)}
        message = MessageFactory(account=account, **values)
        queue.ring([message.pk], name)
    MessageFactory(account=acme_account, status="held")


def told():
    out = io.StringIO()
    call_command("queues", "--json", stdout=out)
    return json.loads(out.getvalue())


def test_the_command_tells_what_is_due_under_way_and_rung_for(busy):
    set_queue(queues.LARGE, paused=True, most_at_once=4)
    found = told()
    assert list(found) == list(queues.NAMES)
    assert 90 <= found[queues.LARGE].pop("oldest_seconds") < 100
    assert found[queues.LARGE] == {
        "rings": 4,
        "workers": 0,
        "paused": True,
        "most_at_once": 4,
        "under_way": 1,
        "messages": {"queued": 1, "processing": 1, "retrying": 1, "scheduled": 0},
    }
    assert found[queues.FRESH]["messages"]["scheduled"] == 1
    assert found["events"]["rings"] == 0
    assert found["events"]["messages"] == {}


def test_the_command_writes_a_line_for_each_queue(busy):
    out = io.StringIO()
    call_command("queues", stdout=out)
    head, *lines = out.getvalue().splitlines()
    assert head.split()[:3] == ["queue", "rings", "workers"]
    assert [line.split()[0] for line in lines] == list(queues.NAMES)
    assert lines[2].split()[1:4] == ["4", "0", "2"]


def test_a_worker_is_counted_for_the_queues_it_looks_at_until_it_stops_or_dies(broker):
    one, other = worker_notes.Note(["events", queues.LARGE]), worker_notes.Note([queues.LARGE])
    for note in (one, one, other):
        note.write()
    assert worker_notes.counts() == {"events": 1, queues.LARGE: 2}
    assert told()[queues.LARGE]["workers"] == 2
    one.withdraw()
    assert worker_notes.counts() == {queues.LARGE: 1}
    ttl = shared_state.client().ttl(other._key)
    assert 0 < ttl <= worker_notes.LASTS


def test_what_the_broker_does_not_say_is_unknown_and_the_rest_is_told(busy, settings, monkeypatch):
    monkeypatch.setattr(queue, "waiting", _fail)
    out = io.StringIO()
    call_command("queues", stdout=out)
    assert out.getvalue().splitlines()[3].split()[:4] == [queues.LARGE, "?", "0", "2"]
    assert queue_states.states()[2].rings is None


def _fail(_):
    raise queue.RingFailed("away")


def test_there_is_a_row_for_every_queue_of_mail_and_chores():
    assert set(QueueSetting.objects.values_list("name", flat=True)) == {
        name for name, one in queues.TABLE.items() if one.kind != "scans"
    }


class TestAdmin:
    LIST = "admin:delivery_queuesetting_changelist"
    PAGE = "admin:delivery_queuesetting_change"

    def test_operators_see_every_queue_with_what_is_in_it(self, client, operator, busy):
        client.force_login(operator)
        page = client.get(reverse(self.LIST)).content.decode()
        for name, one in queues.TABLE.items():
            assert (name in page) is (one.kind != "scans")
        assert re.search(r'<td class="field-due [^>]*>2</td>', page)

    def test_nobody_else_sees_or_changes_any(self, client, acme, busy):
        row = QueueSetting.objects.get(name=queues.LARGE)
        for role in ("owner", "admin", "viewer"):
            client.force_login(UserFactory(tenant=acme, role=role))
            assert client.get(reverse(self.LIST)).status_code == 403
            assert client.post(reverse(self.PAGE, args=[row.pk]), {"paused": "on"}).status_code in (403, 404)
        row.refresh_from_db()
        assert not row.paused

    def test_a_change_holds_at_once_and_is_audited(self, client, operator, acme_account, broker):
        client.force_login(operator)
        row = QueueSetting.objects.get(name=queues.LARGE)
        assert not caps.paused(queues.LARGE)
        answer = client.post(reverse(self.PAGE, args=[row.pk]), {"paused": "on", "most_at_once": "2"})
        assert answer.status_code == 302
        caps.forget()  # said by the change itself once it is committed, which a test's transaction never is
        assert caps.restricted()[queues.LARGE] == caps.Cap(True, 2)
        entry = AuditEntry.objects.get(target_id=str(row.pk))
        assert entry.action == "queuesetting.changed"
        assert large(acme_account)

    def test_a_queue_of_chores_can_be_paused_but_has_no_number_of_messages(self, client, operator):
        client.force_login(operator)
        row = QueueSetting.objects.get(name="webhooks")
        client.post(reverse(self.PAGE, args=[row.pk]), {"paused": "on", "most_at_once": "2"})
        row.refresh_from_db()
        assert (row.paused, row.most_at_once) == (True, None)
        row.most_at_once = 3
        with pytest.raises(ValidationError):
            row.full_clean()
