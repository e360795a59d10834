"""The fixed cast: acme sends, globex must be refused."""

import os
import socket
from urllib.parse import urlsplit

import pytest
import structlog

from accounts import credentials, quota_warnings, quotas, shared_state
from accounts.api import limits as requests
from accounts.tests.factories import AccountFactory, TenantFactory, UserFactory
from delivery import caps, intake, outbox
from providers import health, limits
from smtpproxy.tests import environment

WHOLE_PROCESSES = ("smtpproxy", "bench")
"""Their tests start real processes and wait for them: begun first, so that no test process has them left at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.nodeid.partition("/")[0] not in WHOLE_PROCESSES)


@pytest.fixture
def acme(db):
    return TenantFactory(slug="acme", name="Acme")


@pytest.fixture
def globex(db):
    return TenantFactory(slug="globex", name="Globex")


@pytest.fixture
def acme_account(acme):
    """Signs in as crm@acme with "correct horse" and may send from acme.example."""
    return AccountFactory(tenant=acme, name="crm", username="crm@acme")


@pytest.fixture
def globex_account(globex):
    return AccountFactory(tenant=globex, name="erp", username="erp@globex")


@pytest.fixture
def operator(db):
    return UserFactory(email="operator@platform.example", operator=True)


@pytest.fixture(scope="session")
def rabbitmq():
    """The URL of a RabbitMQ that other tests use as well: everything made there has a name of its own."""
    url = os.environ.get("TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or 5672), timeout=2).close()
    except OSError:
        environment.missing("RabbitMQ")
    return url


@pytest.fixture(autouse=True)
def _loggers_can_be_listened_to():
    """A logger that has been used keeps its processors, and `capture_logs` would hear nothing of it. Before each test,
    since tests of logging configure it anew."""
    structlog.configure(cache_logger_on_first_use=False)


@pytest.fixture(autouse=True)
def _nothing_remembered():
    """Rows of one test must not answer the questions of the next."""
    credentials.forget_cached()
    intake.forget_accounts()
    outbox.forget()
    quotas.forget_everything()
    quota_warnings.forget_noted()
    health.forget_all()
    limits.forget()
    caps.forget()
    requests.forget()


@pytest.fixture(autouse=True)
def _nothing_shared():
    """Limits, quotas and health of one test must not reach the next."""
    yield
    if shared_state.in_use():
        shared_state.forget_everything()
