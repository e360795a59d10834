"""Every test of this floor has an empty broker, empty boxes, and providers connected anew."""

import pytest
import redis
from django.conf import settings

from delivery import routing
from providers import connections
from providers.backends.memory import MemoryBackend
from providers.tests.factories import ProviderFactory


@pytest.fixture(autouse=True)
def _forget_routes_and_connections():
    routing.forget()
    yield
    connections.forget_all()
    MemoryBackend.reset()


@pytest.fixture
def broker():
    """The broker's own connection, its queues empty before and after."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def box(acme, broker):
    """acme's default provider: everything it is sent lies in this box."""
    ProviderFactory(tenant=acme, name="primary")
    return MemoryBackend.box()
