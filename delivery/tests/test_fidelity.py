"""Who carries a message is also a question of what becomes of it on the way: PRV-4, RTE-2, DEL-8."""

from collections import Counter
from datetime import timedelta
from types import MappingProxyType

import pytest
from django.utils import timezone

from delivery import fidelity, routing, sender
from delivery.models import DeliveryLog, Message, MessageStatus
from delivery.tests.mail import accepted, raw_message
from providers import connections, registry
from providers.backends.memory import MemoryBackend
from providers.exceptions import Misconfigured, TemporaryFailure
from providers.fidelity import LOSSLESS, Fidelity, Verdict
from providers.models import Provider
from providers.tests.factories import ProviderFactory, RoutingRuleFactory, RoutingTargetFactory
from providers.tests.messages import outbound
from providers.tests.standins import SendGridStandIn

pytestmark = pytest.mark.django_db

LOSSY = Verdict(Fidelity.LOSSY, ("header X-Kind", "header List-Id"))
MAPPED = Verdict(Fidelity.MAPPED)
BROKEN = Verdict(Fidelity.BROKEN, ("signature (multipart/signed)",))
SIGNED = raw_message(
    'Content-Type: multipart/signed; boundary="b"',
    body="--b\r\n\r\nHi\r\n--b\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n",
)
LOST = TemporaryFailure("No answer", code="timeout", outcome_unknown=True)


def deliver(message):
    sender.deliver([message.pk])
    message.refresh_from_db()
    return message


def make_due(message):
    Message.objects.filter(pk=message.pk).update(next_attempt_at=timezone.now() - timedelta(seconds=1))


def set_lossless(tenant, mode):
    tenant.lossless = mode
    tenant.save()


def asked(message):
    return [log.provider_name for log in message.delivery_logs.order_by("attempt_number")]


@pytest.fixture
def candidates(acme, broker):
    """acme's default providers in this order, each with a verdict of its own for every message."""

    def make(**verdicts):
        for rank, (name, verdict) in enumerate(verdicts.items()):
            ProviderFactory(tenant=acme, name=name, default_rank=rank, config={"box": name})
            MemoryBackend.box(name).verdict = verdict

    return make


class TestSpecial:
    """The default: only signed, encrypted, calendar and report messages look for a provider that leaves them whole."""

    def test_a_signed_message_goes_to_the_provider_that_leaves_it_whole(self, acme_account, candidates):
        candidates(first=BROKEN, second=LOSSLESS)
        message = deliver(accepted(acme_account, SIGNED))
        assert asked(message) == ["second"]
        assert message.delivery_logs.get().fidelity == "lossless"

    def test_a_plain_message_goes_to_the_first(self, acme_account, candidates):
        candidates(first=LOSSY, second=LOSSLESS)
        assert asked(deliver(accepted(acme_account))) == ["first"]

    def test_the_others_stay_as_fallbacks_the_best_first(self, acme_account, candidates):
        candidates(broken=BROKEN, lossy=LOSSY, lossless=LOSSLESS, mapped=MAPPED, second=LOSSLESS)
        for name in ("lossless", "second", "mapped", "lossy"):
            MemoryBackend.box(name).answers.append(TemporaryFailure("Busy", code="throttled", status_code=429))
        message = deliver(accepted(acme_account, SIGNED))
        assert asked(message) == ["lossless", "second", "mapped", "lossy", "broken"]
        assert message.status == MessageStatus.DELIVERED

    def test_what_would_be_lost_is_kept_with_the_attempt(self, acme_account, candidates):
        candidates(first=LOSSY)
        log = deliver(accepted(acme_account, SIGNED)).delivery_logs.get()
        assert (log.fidelity, log.lost) == ("lossy", ["header X-Kind", "header List-Id"])

    def test_an_unhealthy_lossless_provider_is_passed_over(self, acme_account, candidates):
        candidates(first=BROKEN, second=LOSSLESS)
        Provider.objects.filter(name="second").update(unhealthy_until=timezone.now() + timedelta(hours=1))
        assert asked(deliver(accepted(acme_account, SIGNED))) == ["first"]

    def test_a_row_that_is_wrong_keeps_its_place_and_is_named(self, acme, acme_account, candidates, caplog):
        candidates(second=LOSSY)
        ProviderFactory(tenant=acme, name="wrong", default_rank=None, type="smtp", config={})
        Provider.objects.filter(name="wrong").update(default_rank=0)
        Provider.objects.filter(name="second").update(default_rank=1)
        assert asked(deliver(accepted(acme_account, SIGNED))) == ["second"]
        assert "provider.unhealthy" in caplog.text
        assert Provider.objects.get(name="wrong").unhealthy_until is not None

    def test_a_message_that_cannot_be_taken_apart_in_time_goes_to_who_takes_it_whole(
        self, acme, acme_account, broker, monkeypatch
    ):
        """MIM-3."""
        with SendGridStandIn() as service:
            ProviderFactory(tenant=acme, name="json", type="sendgrid", config=service.config())
            ProviderFactory(tenant=acme, name="raw", default_rank=1)
            monkeypatch.setattr("django.conf.settings.DELIVERY_PREPARE_TIMEOUT", 0.2)
            monkeypatch.setattr("delivery.mime.parse", _endless)
            message = deliver(accepted(acme_account, SIGNED))
            assert (asked(message), service.requests) == (["raw"], 0)

    def test_a_real_service_that_breaks_a_signature_is_known_before_it_is_asked(self, acme, acme_account, broker):
        with SendGridStandIn() as service:
            ProviderFactory(tenant=acme, name="json", type="sendgrid", config=service.config())
            ProviderFactory(tenant=acme, name="raw", default_rank=1)
            assert asked(deliver(accepted(acme_account, SIGNED))) == ["raw"]
            assert asked(deliver(accepted(acme_account))) == ["json"]
            assert len(service.accepted) == 1

    def test_a_plain_message_or_a_single_candidate_is_not_looked_into(self, acme_account, candidates, monkeypatch):
        """The way of most mail costs nothing more."""
        monkeypatch.setattr(fidelity, "judge", _endless)
        candidates(first=BROKEN)
        assert asked(deliver(accepted(acme_account, SIGNED))) == ["first"]
        candidates(second=LOSSLESS)
        routing.forget()
        assert asked(deliver(accepted(acme_account))) == ["first"]


def _endless(*_):
    while True:
        pass


class TestPreferred:
    def test_every_message_goes_to_the_provider_that_leaves_it_whole(self, acme, acme_account, candidates):
        set_lossless(acme, "preferred")
        candidates(first=LOSSY, second=LOSSLESS)
        assert asked(deliver(accepted(acme_account))) == ["second"]

    def test_it_goes_out_changed_where_nobody_leaves_it_whole(self, acme, acme_account, candidates):
        set_lossless(acme, "preferred")
        candidates(first=BROKEN, second=MAPPED)
        assert asked(deliver(accepted(acme_account))) == ["second"]

    def test_among_equals_the_weights_decide(self, acme):
        """RTE-2: the order drawn by weight is kept among providers of the same verdict."""
        rule = RoutingRuleFactory(tenant=acme)
        for name, weight in (("heavy", 3), ("light", 1), ("lossy", 9)):
            provider = ProviderFactory(tenant=acme, name=name, default_rank=None)
            RoutingTargetFactory(rule=rule, provider=provider, weight=weight)
        targets = list(rule.targets.select_related("provider"))
        verdicts = {"heavy": LOSSLESS, "light": LOSSLESS, "lossy": LOSSY}
        first = Counter()
        for _ in range(4000):
            drawn = [fidelity.Judged(p, verdicts[p.name]) for p in routing.ordered(targets)]
            chosen = fidelity.choose("preferred", drawn)
            assert chosen[2].provider.name == "lossy"
            first[chosen[0].provider.name] += 1
        assert 0.72 < first["heavy"] / 4000 < 0.78  # four standard deviations on either side of 0.75


class TestRequired:
    @pytest.fixture(autouse=True)
    def _required(self, acme):
        set_lossless(acme, "required")

    def test_nothing_goes_through_a_provider_that_would_change_it(self, acme_account, candidates):
        candidates(first=LOSSY, second=LOSSLESS, third=MAPPED)
        MemoryBackend.box("second").answers.append(TemporaryFailure("Busy", code="throttled", status_code=429))
        message = deliver(accepted(acme_account))
        assert asked(message) == ["second"]
        assert message.status == MessageStatus.RETRYING

    def test_where_nobody_leaves_it_whole_it_is_held_and_says_why(self, acme_account, candidates, caplog):
        """DEL-8."""
        candidates(first=LOSSY, second=BROKEN)
        message = deliver(accepted(acme_account))
        assert message.status == MessageStatus.HELD
        assert "first: headers lost: X-Kind, List-Id; second: signature broken" in message.status_reason
        assert message.events.last().type == "held"
        assert not message.delivery_logs.exists()
        assert any("no lossless provider" in r.getMessage() and r.levelname == "ERROR" for r in caplog.records)
        assert MemoryBackend.box("first").accepted == []

    def test_release_does_not_undo_the_demand(self, acme_account, candidates):
        candidates(first=LOSSY)
        message = deliver(accepted(acme_account))
        Message.objects.filter(pk=message.pk).update(status="queued", released=True, next_attempt_at=timezone.now())
        assert deliver(message).status == MessageStatus.HELD

    def test_recipients_of_another_route_are_served(self, acme, acme_account, candidates):
        candidates(first=LOSSLESS)
        lossy = ProviderFactory(tenant=acme, name="lossy", default_rank=None, config={"box": "lossy"})
        MemoryBackend.box("lossy").verdict = LOSSY
        RoutingRuleFactory(
            tenant=acme, conditions=[{"field": "recipient", "values": ["other.example"]}], providers=[lossy]
        )
        message = deliver(accepted(acme_account, None, ["a@outside.example", "b@other.example"]))
        assert MemoryBackend.box("first").recipients() == ["a@outside.example"]
        assert {r.address: str(r.status) for r in message.recipients.all()} == {
            "a@outside.example": "delivered",
            "b@other.example": "pending",
        }
        assert message.status == MessageStatus.HELD

    def test_an_unhealthy_lossless_provider_is_waited_for(self, acme_account, candidates):
        """RET-6: no other is used, and no try is used up."""
        candidates(first=LOSSLESS, second=LOSSY)
        Provider.objects.filter(name="first").update(unhealthy_until=timezone.now() + timedelta(hours=1))
        message = deliver(accepted(acme_account))
        assert (message.status, message.tries, asked(message)) == (MessageStatus.RETRYING, 0, [])

    def test_a_row_that_is_wrong_is_waited_for(self, acme, acme_account, candidates):
        candidates(second=LOSSY)
        ProviderFactory(tenant=acme, name="wrong", type="smtp", config={})
        message = deliver(accepted(acme_account))
        assert (message.status, asked(message)) == (MessageStatus.RETRYING, [])
        assert Provider.objects.get(name="wrong").unhealthy_until is not None

    def test_a_call_that_would_change_it_after_all_is_not_made(self, acme, acme_account, broker, monkeypatch):
        """A verdict for all recipients together need not hold for those of one call."""
        monkeypatch.setattr(registry, "_PATHS", MappingProxyType({"fickle": f"{__name__}.FickleBackend"}))
        ProviderFactory(tenant=acme, name="fickle", type="fickle")
        message = deliver(accepted(acme_account, None, ["a@outside.example", "b@outside.example"]))
        assert message.status == MessageStatus.HELD
        assert "fickle would change the message (mapped, nothing lost)" in message.status_reason
        assert not message.delivery_logs.exists()
        one = deliver(accepted(acme_account, None, ["a@outside.example"]))
        assert one.status == MessageStatus.HELD


class FickleBackend(MemoryBackend):
    """Leaves a message whole only when all of several recipients are in one call, of which it takes one."""

    type = "fickle"
    max_recipients = 1

    def verdict(self, message):
        return LOSSLESS if len(message.recipients) > 1 else MAPPED


def test_who_must_say_what_became_of_an_attempt_stays_the_first(acme, acme_account, broker, tmp_path):
    """DEL-5: a provider that knows the key again is asked again, whatever another would do to the message."""
    set_lossless(acme, "preferred")
    with SendGridStandIn() as service:
        ProviderFactory(tenant=acme, name="raw", config={"box": "raw"})
        ProviderFactory(tenant=acme, name="json", default_rank=1, type="sendgrid", config=service.config())
        file = ProviderFactory(tenant=acme, name="file", default_rank=2, type="file", config={"directory": "/nowhere"})
        file.config = {"directory": str(tmp_path)}
        file.save()
        message = accepted(acme_account)
        log = DeliveryLog.objects.create(
            message=message,
            tenant=acme,
            account=acme_account,
            provider=file,
            provider_name="file",
            status="unknown",
            attempt_number=1,
            idempotency_key=message.pk,
            recipients=["someone@outside.example"],
            created_at=timezone.now(),
        )
        message.recipients.update(status="unknown")
        Message.objects.filter(pk=message.pk).update(attempts=1, claims=1)
        deliver(message)
        assert asked(message) == ["file", "file"]
        assert {one.idempotency_key for one in message.delivery_logs.all()} == {log.idempotency_key}


def test_a_row_that_cannot_be_read_does_not_stop_the_judging(acme):
    good = ProviderFactory(tenant=acme, name="good")
    wrong = ProviderFactory(tenant=acme, name="wrong", type="smtp", config={})
    with pytest.raises(Misconfigured):
        connections.backend_for(wrong)
    judged = fidelity.judge([wrong, good], outbound(raw_message()), ["a@outside.example"])
    assert [(one.provider.name, one.lossless, one.unusable) for one in judged] == [
        ("wrong", True, True),
        ("good", True, False),
    ]
    assert "host: required" in judged[0].told
