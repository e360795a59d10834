"""What a send API answers and what its webhook tells lead to each other, for every type with both. EVT-1."""

import pytest

from providers.tests.harness import TYPES, rigged, type_of
from providers.tests.messages import ANNA, BERT, outbound, plain
from providers.tests.webhook_services import SERVICES, amazon, reaching
from providers.webhooks import registry

NAMES = [name for name in TYPES if type_of(name) in SERVICES]


@pytest.fixture(autouse=True)
def _amazon(tmp_path):
    with amazon(tmp_path) as service, reaching(service):
        yield


def test_every_service_with_webhooks_and_a_stand_in_is_here():
    assert {type_of(name) for name in NAMES} == set(SERVICES)


def events_of(service, ids, recipient):
    told = registry.receiver(service.type, service.config)
    return told.receive(service.request(service.event("bounced", ids, recipient)))


@pytest.mark.parametrize("name", NAMES)
def test_an_event_names_the_message_as_the_send_api_did(name, tmp_path, monkeypatch):
    service = SERVICES[type_of(name)]()
    with rigged(name, tmp_path, monkeypatch) as rig:
        result = rig.backend().send(outbound(plain(To=f"{ANNA}, {BERT}"), [ANNA, BERT]))
    for recipient in (ANNA, BERT):
        id_ = result.recipients[recipient].provider_message_id
        assert id_
        [event] = events_of(service, id_, recipient)
        assert id_ in event.ids
