"""The fixed cast: acme sends, globex must be refused."""

import pytest
import structlog

from accounts import credentials, quota_warnings, quotas, shared_state
from accounts.tests.factories import AccountFactory, TenantFactory, UserFactory
from delivery import intake
from providers import health, limits


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


@pytest.fixture(autouse=True, scope="session")
def _loggers_can_be_listened_to():
    """A logger that has been used keeps its processors, and `capture_logs` would hear nothing of it."""
    structlog.configure(cache_logger_on_first_use=False)


@pytest.fixture(autouse=True)
def _nothing_remembered():
    """Rows of one test must not answer the questions of the next."""
    credentials.forget_cached()
    intake.forget_accounts()
    quotas.forget_everything()
    quota_warnings.forget_noted()
    health.forget_all()
    limits.forget()


@pytest.fixture(autouse=True)
def _nothing_shared():
    """Limits, quotas and health of one test must not reach the next."""
    yield
    if shared_state.in_use():
        shared_state.forget_everything()
