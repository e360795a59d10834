import pytest

from delivery.models import MessageStatus
from delivery.tests.factories import DeliveryLogFactory, EventFactory, MessageFactory
from providers.tests.factories import ProviderFactory, RoutingRuleFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("status", MessageStatus.values)
def test_a_message_of_every_status_keeps_the_constraints(status):
    message = MessageFactory(status=status, recipients=["a@outside.example", "b@outside.example"])
    message.full_clean()
    assert message.recipients.count() == message.recipient_count == 2


def test_rows_made_for_one_message_share_its_tenant():
    log, event = DeliveryLogFactory(), EventFactory()
    assert log.tenant == log.message.tenant == log.account.tenant == log.provider.tenant
    assert event.tenant == event.message.tenant


def test_targets_of_a_rule_are_made_in_order(acme):
    first, second = ProviderFactory(tenant=acme), ProviderFactory(tenant=acme)
    rule = RoutingRuleFactory(tenant=acme, providers=[first, second])
    assert [target.provider for target in rule.targets.all()] == [first, second]
