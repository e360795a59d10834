"""What the scheduler does besides ringing. EVT-1."""

import pytest

from delivery import callbacks
from delivery.models import DeliveryLog, EarlyEvent
from delivery.tests.factories import DeliveryLogFactory
from delivery.tests.told import told
from providers.tests.factories import ProviderFactory
from smtpproxy import sweeps

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_sweep_applies_events_that_came_before_their_message_was_recorded(acme, acme_account):
    primary = ProviderFactory(tenant=acme, name="primary")
    attempt = DeliveryLogFactory(message__account=acme_account, provider=primary, status=DeliveryLog.Status.SENDING)
    assert callbacks.take(primary.pk, [told("confirmed")]).early == 1
    attempt.message.recipients.update(provider=primary, provider_message_id="memory-1", status="delivered")
    sweeps.sweep()
    assert attempt.message.recipients.get().status == "confirmed"
    assert not EarlyEvent.objects.exists()
