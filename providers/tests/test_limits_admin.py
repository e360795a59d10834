"""Limits in the admin: PRV-9."""

import pytest

from providers import limits
from providers.backends.memory import MemoryBackend
from providers.exceptions import TemporaryFailure
from providers.models import Provider
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def page(client, operator, acme):
    client.force_login(operator)
    provider = ProviderFactory(tenant=acme, type="sendgrid", config={"api_key": "SG.secret"}, per_minute=10)
    return client, provider, f"/admin/providers/provider/{provider.pk}/change/"


def test_the_page_says_what_the_limits_are_doing(page):
    client, provider, url = page
    limits.ask(provider, MemoryBackend({}), tenant_id=provider.tenant_id, cost=3)
    failure = TemporaryFailure("Slow down", code="throttled", status_code=429, retry_after=30)
    limits.throttled(provider, MemoryBackend({}), failure, tenant_id=provider.tenant_id, age=0)
    text = client.get(url).content.decode()
    assert "slowed down to" in text
    assert "as the service asked" in text
    assert "calls in the last minute: 1" in text


def test_limits_are_saved(page):
    client, provider, url = page
    form = dict(client.get(url).context["adminform"].form.initial)
    form = {name: "" if value is None else value for name, value in form.items()}
    form |= {"tenant": str(provider.tenant_id), "per_second": "2.5", "per_minute": "", "concurrency": "4"}
    answer = client.post(url, form)
    assert answer.status_code == 302, answer.context["errors"]
    row = Provider.objects.get(pk=provider.pk)
    assert (row.per_second, row.per_minute, row.per_day, row.concurrency) == (2.5, None, None, 4)


def test_the_page_is_there_when_the_shared_store_is_not(page, settings):
    client, _, url = page
    settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"
    assert "not known" in client.get(url).content.decode()
