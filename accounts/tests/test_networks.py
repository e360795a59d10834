"""Client networks: SMTP-13."""

import logging

import pytest

from accounts import credentials, networks
from accounts.credentials import AuthenticationFailed, identify_by_network, verify
from accounts.models import Account, Tenant
from accounts.tests.factories import AccountFactory


@pytest.mark.parametrize(
    ("client", "listed", "allowed"),
    [
        ("192.0.2.7", [], True),
        (None, [], True),
        ("not an address", [], True),
        ("192.0.2.7", ["192.0.2.0/24"], True),
        ("192.0.2.7", ["192.0.2.7"], True),
        ("192.0.3.7", ["192.0.2.0/24"], False),
        ("192.0.3.7", ["192.0.2.0/24", "192.0.3.0/25"], True),
        ("::ffff:192.0.2.7", ["192.0.2.0/24"], True),
        ("192.0.2.7", ["::ffff:192.0.2.0/120"], True),
        ("192.0.3.7", ["::ffff:192.0.2.0/120"], False),
        ("2001:db8::1", ["2001:db8::/32"], True),
        ("2001:db8::1", ["192.0.2.0/24"], False),
        ("192.0.2.7", ["::/0"], False),
        ("192.0.2.7", ["0.0.0.0/0"], True),
        (None, ["0.0.0.0/0"], False),
        ("not an address", ["0.0.0.0/0"], False),
        ("192.0.2.7", ["garbage"], False),
    ],
)
def test_a_client_is_allowed_by_its_address(client, listed, allowed):
    assert networks.allowed(networks.address(client), listed) is allowed


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("of_account", "of_tenant", "let_in"),
    [
        ([], [], True),
        (["192.0.2.0/24"], [], True),
        (["198.51.100.0/24"], [], False),
        ([], ["192.0.2.0/24"], True),
        ([], ["198.51.100.0/24"], False),
        (["192.0.2.7"], ["192.0.2.0/24"], True),
        (["192.0.2.0/24"], ["198.51.100.0/24"], False),
    ],
)
def test_networks_of_account_and_tenant_both_count(acme_account, of_account, of_tenant, let_in):
    Account.objects.filter(pk=acme_account.pk).update(client_networks=of_account)
    Tenant.objects.filter(pk=acme_account.tenant_id).update(client_networks=of_tenant)
    if let_in:
        assert verify("crm@acme", "correct horse", "192.0.2.7")
    else:
        with pytest.raises(AuthenticationFailed) as caught:
            verify("crm@acme", "correct horse", "192.0.2.7")
        assert caught.value.code == "network_not_allowed"


@pytest.mark.django_db
class TestIdentifyByNetwork:
    def printer(self, tenant, *client_networks, **fields):
        return AccountFactory(
            tenant=tenant, client_networks=list(client_networks), **{"network_authenticated": True, **fields}
        )

    def test_an_account_is_known_by_its_network_alone(self, acme):
        printer = self.printer(acme, "192.0.2.0/24", "2001:db8::/64")
        for client in ("192.0.2.9", "::ffff:192.0.2.9", "2001:db8::9"):
            assert identify_by_network(client).account_id == printer.pk
        for client in ("192.0.3.9", "2001:db9::9", "", "nonsense"):
            assert identify_by_network(client) is None

    def test_never_without_being_marked_so(self, acme):
        self.printer(acme, "192.0.2.0/24", network_authenticated=False)
        assert identify_by_network("192.0.2.9") is None

    def test_not_when_account_or_tenant_is_suspended(self, acme, globex):
        self.printer(acme, "192.0.2.0/24", status="suspended")
        self.printer(globex, "198.51.100.0/24")
        Tenant.objects.filter(pk=globex.pk).update(status="suspended")
        assert identify_by_network("192.0.2.9") is None
        assert identify_by_network("198.51.100.9") is None

    def test_not_from_outside_the_networks_of_the_tenant(self, acme):
        self.printer(acme, "192.0.2.0/24")
        Tenant.objects.filter(pk=acme.pk).update(client_networks=["192.0.2.0/28"])
        assert identify_by_network("192.0.2.9")
        assert identify_by_network("192.0.2.99") is None

    def test_the_most_specific_network_wins_and_then_the_oldest_account(self, acme):
        wide, narrow = self.printer(acme, "192.0.2.0/24"), self.printer(acme, "192.0.2.0/28", "10.0.0.0/8")
        self.printer(acme, "192.0.2.0/28")
        assert identify_by_network("192.0.2.9").account_id == narrow.pk
        assert identify_by_network("192.0.2.99").account_id == wide.pk

    def test_an_address_claimed_by_two_tenants_is_nobodys_and_the_log_says_so_once(self, acme, globex, caplog):
        self.printer(acme, "192.0.2.0/24")
        self.printer(globex, "192.0.2.9/32")
        with caplog.at_level(logging.WARNING):
            assert identify_by_network("192.0.2.9") is None
            assert identify_by_network("192.0.2.9") is None
        assert len([record for record in caplog.records if "several tenants" in record.getMessage()]) == 1
        assert identify_by_network("192.0.2.10").tenant_id == acme.pk

    def test_answers_are_kept_for_at_most_two_seconds(self, acme, django_assert_num_queries, monkeypatch):
        self.printer(acme, "192.0.2.0/24")
        now = [1000.0]
        monkeypatch.setattr("accounts.network_accounts.time.monotonic", lambda: now[0])
        with django_assert_num_queries(1):
            for _ in range(5):
                assert identify_by_network("192.0.2.9")
        Account.objects.update(status="suspended")
        assert identify_by_network("192.0.2.9")
        now[0] += 2.0
        assert identify_by_network("192.0.2.9") is None

    def test_forgetting_asks_the_database_anew(self, acme):
        assert identify_by_network("192.0.2.9") is None
        self.printer(acme, "192.0.2.0/24")
        assert identify_by_network("192.0.2.9") is None
        credentials.forget_cached()
        assert identify_by_network("192.0.2.9")
