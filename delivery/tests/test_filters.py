"""DEL-9: one filter for everybody, checked where it comes in, which never reaches another tenant."""

from datetime import UTC, datetime, timedelta

import pytest

from accounts.ids import first_at
from accounts.models import Tenant
from accounts.tests.factories import AccountFactory, UserFactory
from delivery import filters, walk
from delivery.filters import BadFilter
from delivery.models import Message, MessageStatus
from delivery.tests.factories import DeliveryLogFactory, MessageFactory, RecipientFactory
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db
COMMAND = "manage.py messages"


@pytest.fixture
def person(acme):
    return UserFactory(tenant=acme, role="admin")


def matching(who=COMMAND, **given):
    """What a filter finds as the walk goes through it, which must be what the database says of it as a whole."""
    wanted = filters.parse(given, who)
    rows = filters.seen_by(who, Message)
    parts = [found.order_by("pk") for found, _ in walk.windows(rows, wanted, None, None)]
    walked = [key for found in parts for key in found.values_list("pk", flat=True)]
    assert walked == list(wanted.narrow(rows).order_by("pk").values_list("pk", flat=True))
    assert walk.count(rows, wanted) == walk.Count(len(walked))
    assert filters.restore(wanted.as_json()) == wanted
    return walked


@pytest.fixture
def found(acme_account):
    """A message each filter below finds, beside one that none of them does."""
    MessageFactory(account=AccountFactory(), subject="Lunch", mail_from="x@elsewhere.example", status="delivered")
    provider = ProviderFactory(tenant=acme_account.tenant, name="primary")
    message = MessageFactory(
        account=acme_account,
        status="dlq",
        status_reason="Gave up after 5 retries. 100% busy",
        subject="Rechnung für 50% März ☂",
        mail_from="Billing@acme.example",
        recipients=[],
        has_attachments=True,
    )
    RecipientFactory(message=message, address="Joe@outside.example", error_code="mailbox_busy")
    DeliveryLogFactory(message=message, provider=provider)
    return message


@pytest.mark.parametrize(
    "given",
    [
        {"tenant": "acme"},
        {"account": "crm@acme"},
        {"tenant": "acme", "account": "crm@acme"},
        {"status": "dlq"},
        {"status": "held, dlq"},
        {"status": ["held", "dlq"]},
        {"status": "dlq", "account": "crm@acme"},
        {"provider": "primary"},
        {"sender": "billing@ACME.example"},
        {"sender": "acme.example"},
        {"sender": "@acme.example"},
        {"recipient": "joe@outside.example", "tenant": "acme"},
        {"recipient": "outside.example", "status": "dlq"},
        {"address": "joe@outside.example", "subject": "März"},
        {"address": "billing@acme.example"},
        {"subject": "März rechnung"},
        {"subject": '"für 50%"'},
        {"error_code": "mailbox_busy"},
        {"reason": "gave up after 5"},
        {"reason": "100%"},
        {"has_attachments": "yes"},
        {"has_attachments": True, "accepted_from": "2020-01-01", "accepted_until": "2199-12-31T23:59:59+01:00"},
    ],
    ids=str,
)
def test_each_finds_what_it_says(found, given):
    assert matching(**given) == [found.pk]


@pytest.mark.parametrize(
    "given",
    [
        {"status": "held"},
        {"sender": "me.example"},
        {"sender": "<>"},
        {"recipient": "joe@outside.example.org"},
        {"subject": '"Rechnung März"'},
        {"subject": "50_"},
        {"reason": "%5"},
        {"has_attachments": "no", "tenant": "acme"},
        {"accepted_until": "2020-01-01"},
        {"accepted_from": "2199-01-01"},
        {"error_code": "mailbox"},
    ],
    ids=str,
)
def test_and_nothing_else(found, given):
    assert matching(**given) == []


@pytest.mark.parametrize(
    "given", [{"accepted_from": "1971-01-01"}, {"accepted_until": "9998-12-31T23:59:59-12:00"}], ids=str
)
def test_the_farthest_times_can_be_asked_for(found, given):
    assert walk.count(Message.objects.all(), filters.parse(given, COMMAND)).number == 2


def test_without_any_everything_is_meant(found):
    assert len(matching()) == 2


def test_the_empty_sender_can_be_asked_for(acme_account):
    bounce = MessageFactory(account=acme_account, mail_from="")
    MessageFactory(account=acme_account)
    assert matching(sender="<>") == [bounce.pk]


def test_a_provider_counts_when_it_was_the_last_or_was_chosen(found, acme):
    other = ProviderFactory(tenant=acme, name="other")
    assert matching(provider=str(other.pk)) == []
    DeliveryLogFactory(message=found, provider=other, attempt_number=2)
    assert (matching(provider="other"), matching(provider="primary")) == ([found.pk], [])
    Message.objects.filter(pk=found.pk).update(routed_to=ProviderFactory(tenant=acme, name="third"))
    assert matching(provider="third") == [found.pk]


def test_accepted_between_is_exact_at_its_ends(acme_account):
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    rows = [
        MessageFactory(account=acme_account, id=first_at(noon + ahead), accepted_at=noon + ahead)
        for ahead in (timedelta(seconds=-1), timedelta(0), timedelta(minutes=59), timedelta(hours=1))
    ]
    between = {"accepted_from": "2026-03-01T12:00", "accepted_until": "2026-03-01T14:00+01:00"}
    assert matching(**between) == [rows[1].pk, rows[2].pk]
    assert len(matching(accepted_from="2026-03-01", accepted_until="2026-03-02")) == 4


def test_many_windows_make_one_walk(acme_account, monkeypatch):
    monkeypatch.setattr(walk, "WINDOW", 3)
    rows = [
        MessageFactory(account=acme_account, status=status, subject=f"Number {number}", recipients=[])
        for number, status in enumerate(["held", "dlq", "queued", "held", "held", "dlq", "dlq", "held", "queued"] * 2)
    ]
    kept = [row.pk for row in rows if row.status != "queued"]
    assert matching(status="held,dlq") == kept
    assert matching(status="held,dlq", subject="number") == kept
    assert len(matching(subject="Number 1")) == 9
    assert len(matching(account="crm@acme")) == 18


def test_counting_ends_where_it_would_take_too_long(acme_account, monkeypatch):
    for _ in range(5):
        MessageFactory(account=acme_account, recipients=[])
    monkeypatch.setattr(walk, "WINDOW", 2)
    every, slow = filters.parse({}, COMMAND), filters.parse({"subject": "Subject"}, COMMAND)
    rows = Message.objects.all()
    assert (str(walk.count(rows, every)), str(walk.count(rows, slow))) == ("5", "5")
    monkeypatch.setattr(walk, "COUNT_SECONDS", 0.0)
    assert str(walk.count(rows, slow)) == "at least 2"
    monkeypatch.setattr(walk, "MOST_COUNTED", 3)
    monkeypatch.setattr(walk, "COUNT_SECONDS", 5.0)
    assert (str(walk.count(rows, every)), str(walk.count(rows, slow))) == ("more than 3", "more than 3")


class TestWhatCannotBeFollowed:
    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            ({"colour": "blue"}, "There is no filter 'colour'; there are tenant, account, status"),
            ({"status": "lost"}, "There is no status 'lost'"),
            ({"tenant": "nobody"}, "There is no tenant 'nobody'."),
            ({"account": "01900000-0000-7000-8000-000000000000"}, "There is no account"),
            ({"provider": "none"}, "There is no provider 'none'."),
            ({"sender": "not an address"}, "no address and no domain"),
            ({"recipient": "*@acme.example"}, "no address and no domain"),
            ({"recipient": "anna@"}, "no address and no domain"),
            ({"accepted_from": "yesterday"}, "is no time"),
            ({"accepted_until": "2026-02-30"}, "is no time"),
            ({"accepted_from": "1960-01-01"}, "is no time"),
            ({"accepted_from": "0001-01-01T00:00:00+14:00"}, "is no time"),
            ({"accepted_until": "9999-12-31T23:59:59-12:00"}, "is no time"),
            ({"has_attachments": "perhaps"}, "neither yes nor no"),
            ({"subject": ["a", "b"]}, "takes one value"),
            ({"subject": "a\x00b"}, "too long or no text"),
            ({"subject": "a\udcffb"}, "too long or no text"),
            ({"reason": "x" * 501}, "too long or no text"),
        ],
        ids=str,
    )
    def test_is_refused_with_a_reason(self, db, given, complaint):
        with pytest.raises(BadFilter) as refused:
            filters.parse(given, COMMAND)
        assert complaint in str(refused.value)

    def test_a_name_that_several_have_needs_more(self, acme, globex):
        for tenant in (acme, globex):
            ProviderFactory(tenant=tenant, name="primary")
        with pytest.raises(BadFilter, match="several providers"):
            filters.parse({"provider": "primary"}, COMMAND)
        assert filters.parse({"provider": "primary", "tenant": "globex"}, COMMAND).provider is not None

    def test_what_is_left_empty_is_left_aside(self, db):
        assert filters.parse({"status": "", "subject": "  ", "account": None}, COMMAND) == filters.MessageFilter()


class TestAnotherTenant:
    def test_its_messages_are_never_found(self, acme_account, globex_account, person):
        mine, theirs = MessageFactory(account=acme_account), MessageFactory(account=globex_account)
        assert matching(person) == [mine.pk]
        assert matching(person, status=str(MessageStatus.QUEUED)) == [mine.pk]
        assert matching() == [mine.pk, theirs.pk]

    def test_what_is_its_own_is_as_if_it_were_not_there(self, globex, globex_account, person):
        provider = ProviderFactory(tenant=globex, name="theirs")
        for given in (
            {"tenant": "globex"},
            {"tenant": str(globex.pk)},
            {"account": "erp@globex"},
            {"account": str(globex_account.pk)},
            {"provider": "theirs"},
            {"provider": str(provider.pk)},
        ):
            with pytest.raises(BadFilter, match="There is no "):
                filters.parse(given, person)

    def test_shared_providers_can_be_named_by_those_who_may_use_them(self, acme, person):
        shared = ProviderFactory(tenant=None, name="shared")
        with pytest.raises(BadFilter):
            filters.parse({"provider": "shared"}, person)
        Tenant.objects.filter(pk=acme.pk).update(may_use_shared_providers=True)
        assert filters.parse({"provider": "shared"}, person).provider == shared.pk


def test_people_read_names(found, acme):
    wanted = filters.parse(
        {"tenant": "acme", "provider": "primary", "status": "held,dlq", "has_attachments": "no"}, COMMAND
    )
    told = filters.in_words(wanted)
    assert told == {"tenant": "Acme", "provider": "primary", "status": "held, dlq", "has_attachments": "no"}
