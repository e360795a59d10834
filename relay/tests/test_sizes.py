"""A size that no provider of the account takes, as a client meets it: PRV-8, RFC 1870."""

import pytest

from accounts.tests.factories import PASSWORD, AccountFactory
from delivery import routing
from delivery.models import Message
from providers.tests.factories import ProviderFactory
from relay.handler import Domain
from relay.tests.listening import Client, Running

HEADER = b"From: App <app@acme.example>\r\nTo: bob@example.org\r\n\r\n"


@pytest.mark.django_db(transaction=True)
@pytest.mark.redis
class TestOnTheRealFloors:
    @pytest.fixture
    def running(self, acme, acme_account):
        routing.forget()
        ProviderFactory(tenant=acme, type="postmark")
        with Running(Domain()) as one:
            yield one
        assert one.threads_ended

    @pytest.fixture
    def client(self, running):
        with Client(running.port) as connected:
            yield connected.sign_in(username="crm@acme", password=PASSWORD)

    def test_it_is_refused_at_mail_with_the_limit_and_why(self, client):
        reply = client.command("MAIL FROM:<app@acme.example> SIZE=12000000")
        assert reply == (
            "552 5.3.4 The message has 12,000,000 octets; the providers this account can use take 10,761,701 at most"
        )
        assert client.command("MAIL FROM:<app@acme.example> SIZE=10000000").startswith("250")

    def test_a_client_that_announces_nothing_is_told_after_the_message(self, client):
        assert client.message(HEADER + b"x" * 76 * 1000 + (b"x" * 76 + b"\r\n") * 140_000).startswith("552 5.3.4 The ")
        assert client.message(HEADER + b"small\r\n").startswith("250")
        assert Message.objects.count() == 1

    def test_the_servers_own_limit_stays_the_one_that_is_announced(self, client):
        assert "SIZE 26214400" in client.command("EHLO client.example")

    def test_another_tenants_account_is_not_bound_by_it(self, running, globex):
        AccountFactory(tenant=globex, username="erp@globex")
        ProviderFactory(tenant=globex, type="smtp")
        with Client(running.port) as connected:
            connected.sign_in(username="erp@globex", password=PASSWORD)
            assert connected.command("MAIL FROM:<app@globex.example> SIZE=12000000").startswith("250")


def test_when_nobody_can_say_mail_is_taken_and_acceptance_decides(recorder, listen):
    def fails(account_id, size):
        raise RuntimeError("the database is away")

    domain = recorder.domain()
    object.__setattr__(domain, "size_refusal", fails)
    with listen(domain=domain).client() as client:
        client.sign_in()
        assert client.command("MAIL FROM:<app@acme.example> SIZE=12000000").startswith("250")


def test_small_sizes_are_not_asked_about(recorder, listen):
    asked = []
    domain = recorder.domain()
    object.__setattr__(domain, "size_refusal", lambda _, size: asked.append(size))
    with listen(domain=domain).client() as client:
        client.sign_in()
        for size in (0, 5000, 1024 * 1024, 1024 * 1024 + 1):
            assert client.command(f"MAIL FROM:<app@acme.example> SIZE={size}").startswith("250")
            client.command("RSET")
    assert asked == [1024 * 1024 + 1]
