"""Messages that are too large for a provider, or for all an account can use: PRV-8."""

import pytest
from django.utils import timezone

from accounts.tests.factories import AccountFactory
from delivery import intake, routing, sizes
from delivery.exceptions import Rejected
from delivery.models import Message, MessageStatus
from delivery.submission import Accepted
from delivery.tests.mail import accepted, raw_message, submission
from delivery.tests.test_sender import deliver, logs, statuses
from providers import registry
from providers.backends.memory import MemoryBackend
from providers.exceptions import Misconfigured, TemporaryFailure
from providers.models import Provider
from providers.tests.factories import ProviderFactory, RoutingRuleFactory
from providers.tests.standins import PostmarkStandIn, SendGridStandIn

pytestmark = pytest.mark.django_db
MB = 1_000_000
TEN, FIFTEEN, TWENTY = 10 * 1024 * 1024, 15 * 1024 * 1024, 20 * 1024 * 1024


class TestAtDelivery:
    """Checked before anything is sent."""

    @pytest.fixture
    def providers(self, acme, broker):
        def make(*limits):
            for rank, limit in enumerate(limits):
                config = {"box": f"box {rank}", "max_size": limit}
                ProviderFactory(tenant=acme, name=f"provider {rank}", default_rank=rank, config=config)
            return [MemoryBackend.box(f"box {rank}") for rank in range(len(limits))]

        return make

    @pytest.fixture
    def message(self, acme_account):
        return lambda: accepted(acme_account, raw_message(body="x" * 2000))

    def test_too_large_for_one_goes_to_the_next_and_the_first_is_not_called(self, providers, message):
        small, large = providers(1000, 5000)
        one = message()
        deliver(one)
        assert (len(small.accepted), len(large.accepted)) == (0, 1)
        assert one.status == MessageStatus.DELIVERED
        assert logs(one) == [("provider 1", "delivered")]

    def test_too_large_for_all_fails_at_once_and_the_sizes_are_told(self, providers, message):
        boxes = providers(1000, 1500)
        one = message()
        deliver(one)
        assert [box.accepted for box in boxes] == [[], []]
        assert (one.status, one.next_attempt_at, logs(one)) == (MessageStatus.FAILED, None, [])
        assert one.status_reason.startswith("Too large for every provider of the route. provider 0: The message has 2,")
        assert "it takes 1,000." in one.status_reason
        assert "it takes 1,500." in one.status_reason
        assert [event.type for event in one.events.all()] == ["received", "failed"]
        assert {recipient.error_code for recipient in one.recipients.all()} == {"too_large"}

    def test_too_large_for_the_only_one_names_it(self, providers, message):
        providers(1000)
        one = message()
        deliver(one)
        assert one.status == MessageStatus.FAILED
        assert one.status_reason.startswith("provider 0: The message has 2,")

    def test_too_large_for_one_while_the_other_is_unhealthy_waits_for_the_other(self, providers, message):
        providers(1000, 5000)
        resting = Provider.objects.filter(name="provider 1")
        resting.update(unhealthy_until=timezone.now() + timezone.timedelta(minutes=5))
        one = message()
        deliver(one)
        assert (one.status, one.tries) == (MessageStatus.RETRYING, 0)
        assert statuses(one) == {"someone@outside.example": "deferred"}

    def test_too_large_for_one_while_the_other_is_misconfigured_waits_for_the_other(self, providers, message):
        _, large = providers(1000, 5000)
        large.answers.append(Misconfigured("Bad key.", code="bad_credentials"))
        one = message()
        deliver(one)
        assert (one.status, one.tries) == (MessageStatus.RETRYING, 0)

    def test_too_large_for_one_while_the_other_fails_for_a_moment_is_tried_again(self, providers, message):
        _, large = providers(1000, 5000)
        large.answers.append(TemporaryFailure("Mailbox busy.", code="mailbox_busy", status_code=450))
        one = message()
        deliver(one)
        assert (one.status, one.tries) == (MessageStatus.RETRYING, 1)

    def test_a_small_message_of_the_same_round_is_not_held_up(self, providers, message, acme_account):
        [box] = providers(1000)
        large, small = message(), accepted(acme_account)
        deliver(large, small)
        assert (large.status, small.status) == (MessageStatus.FAILED, MessageStatus.DELIVERED)
        assert len(box.accepted) == 1

    def test_real_types_are_asked_before_their_services(self, acme, acme_account, broker):
        with PostmarkStandIn() as postmark, SendGridStandIn() as sendgrid:
            ProviderFactory(tenant=acme, type="postmark", config=postmark.config(), default_rank=0)
            ProviderFactory(tenant=acme, type="sendgrid", config=sendgrid.config(), default_rank=1)
            line = "x" * 76 + "\r\n"
            one = accepted(acme_account, raw_message(body=line * (12 * MB // 78)))
            deliver(one)
            assert one.status == MessageStatus.DELIVERED
            assert (len(postmark.accepted), postmark.connections, len(sendgrid.accepted)) == (0, 0, 1)


class TestAtTheDoor:
    """What no provider of the account can take is refused before 250."""

    @pytest.fixture(autouse=True)
    def _broker(self, broker):
        pass

    def refused(self, account, size):
        """The limit that is told, None when the size may come in."""
        routing.forget()
        account.refresh_from_db()
        refusal = sizes.refusal(account, size)
        if refusal is None:
            return None
        assert (refusal.status, refusal.code) == ("5.3.4", "too_large_for_providers")
        assert f"{size:,}" in refusal.text
        return int(refusal.text.rpartition(" take ")[2].partition(" at most")[0].replace(",", ""))

    def make(self, tenant, type_, **fields):
        return ProviderFactory(tenant=tenant, type=type_, **fields)

    def test_the_largest_of_the_default_providers_counts(self, acme, acme_account):
        self.make(acme, "postmark")
        assert self.refused(acme_account, 10 * MB) is None
        assert TEN < self.refused(acme_account, 11 * MB) < 11 * MB
        self.make(acme, "mailjet", default_rank=1)
        assert self.refused(acme_account, 11 * MB) is None
        assert FIFTEEN < self.refused(acme_account, 17 * MB) < 17 * MB

    def test_base64_of_a_message_that_just_fits_is_let_in(self, acme, acme_account):
        self.make(acme, "postmark")
        assert self.refused(acme_account, TEN // 76 * 78) is None

    def test_a_provider_whose_limit_nobody_knows_takes_any_size(self, acme, acme_account):
        self.make(acme, "postmark")
        self.make(acme, "smtp", default_rank=1)
        assert self.refused(acme_account, 100 * MB) is None

    def test_an_unknown_type_takes_any_size(self, acme, acme_account):
        self.make(acme, "gone")
        assert self.refused(acme_account, 100 * MB) is None

    def test_without_any_provider_a_message_is_held_whatever_its_size(self, acme, acme_account):
        assert self.refused(acme_account, 100 * MB) is None

    def test_a_provider_that_is_disabled_or_another_tenants_does_not_count(self, acme, globex, acme_account):
        self.make(acme, "postmark")
        self.make(acme, "smtp", enabled=False)
        self.make(globex, "smtp")
        assert self.refused(acme_account, 11 * MB)

    def test_a_shared_provider_counts_where_the_tenant_may_use_it(self, acme, acme_account):
        self.make(acme, "postmark")
        self.make(None, "smtp")
        assert self.refused(acme_account, 11 * MB)
        acme.may_use_shared_providers = True
        acme.save()
        assert self.refused(acme_account, 11 * MB) is None

    def rule(self, acme, *conditions, **fields):
        return RoutingRuleFactory(tenant=acme, conditions=list(conditions), **fields)

    def test_a_rule_that_may_match_counts(self, acme, acme_account):
        self.make(acme, "postmark")
        large = self.make(acme, "sendgrid", default_rank=None)
        self.rule(acme, {"field": "recipient", "values": ["outside.example"]}, providers=[large])
        assert self.refused(acme_account, 12 * MB) is None
        assert self.refused(acme_account, 40 * MB)

    def test_a_rule_for_another_account_does_not(self, acme, acme_account):
        other = AccountFactory(tenant=acme, username="erp@acme")
        self.make(acme, "postmark")
        large = self.make(acme, "sendgrid", default_rank=None)
        self.rule(acme, {"field": "account", "values": ["ERP@acme"]}, providers=[large])
        assert self.refused(acme_account, 12 * MB)
        assert self.refused(other, 12 * MB) is None

    def test_a_rule_that_always_matches_leaves_the_rest_unused(self, acme, acme_account):
        small = self.make(acme, "postmark", default_rank=None)
        self.make(acme, "smtp")
        self.rule(acme, {"field": "account", "values": ["crm@acme"]}, providers=[small])
        assert self.refused(acme_account, 12 * MB)

    def test_a_rule_for_sizes_counts_for_those(self, acme, acme_account):
        self.make(acme, "postmark")
        large = self.make(acme, "sendgrid", default_rank=None)
        self.rule(acme, {"field": "size", "min": 5 * MB, "max": 20 * MB}, providers=[large])
        assert self.refused(acme_account, 15 * MB) is None
        assert self.refused(acme_account, 25 * MB)

    @pytest.mark.parametrize("action", ["hold", "reject", "discard"])
    def test_a_rule_that_sends_nowhere_takes_any_size(self, acme, acme_account, action):
        self.make(acme, "postmark")
        self.rule(acme, {"field": "recipient", "values": ["outside.example"]}, action=action)
        assert self.refused(acme_account, 100 * MB) is None

    def test_a_disabled_rule_does_not_count(self, acme, acme_account):
        self.make(acme, "postmark")
        self.rule(acme, action="discard", enabled=False)
        assert self.refused(acme_account, 12 * MB)

    def test_acceptance_refuses_and_keeps_nothing(self, acme, acme_account):
        self.make(acme, "postmark")
        large = submission(acme_account, raw_message(body="x" * 12 * MB))
        small = submission(acme_account)
        answers = intake.accept([large, small])
        assert [type(answer) for answer in answers] == [Rejected, Accepted]
        assert answers[0].status == "5.3.4"
        assert Message.objects.count() == 1

    def test_small_messages_cost_no_question(self, acme, acme_account, django_assert_num_queries):
        self.make(acme, "postmark")
        routing.forget()
        with django_assert_num_queries(0):
            assert sizes.refusal(acme_account, sizes.ALWAYS_TAKEN) is None

    def test_every_type_takes_what_nobody_asks_about(self):
        limits = [registry.backend_class(type_).largest() for type_ in registry.types()]
        assert all(limit is None or limit >= sizes.ALWAYS_TAKEN for limit in limits)
