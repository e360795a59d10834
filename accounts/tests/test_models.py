"""What the database itself refuses, and what the models check before it comes to that."""

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from accounts.domains import covers
from accounts.models import Account, ApiKey, Tenant, User
from accounts.tests.factories import AccountFactory, ApiKeyFactory, AuditEntryFactory, UserFactory
from accounts.validators import sender_patterns

pytestmark = pytest.mark.django_db


def refused(constraint, model, **fields):
    """Insert past all forms; on PostgreSQL the error names the constraint."""
    expected = constraint if connection.vendor == "postgresql" else None
    with pytest.raises(IntegrityError, match=expected), transaction.atomic():
        model.objects.bulk_create([model(**fields)])


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("tenant_status_known", {"slug": "x", "status": "asleep"}),
        ("tenant_unknown_outcome_known", {"slug": "x", "unknown_outcome": "guess"}),
        ("slug", {"slug": "acme"}),
    ],
)
def test_a_wrong_tenant_is_refused(acme, constraint, fields):
    refused(constraint, Tenant, name="x", **fields)


@pytest.mark.parametrize(
    ("of_tenant", "role", "is_superuser"),
    [
        (False, "", False),
        (False, "owner", False),
        (True, "", False),
        (True, "emperor", False),
        (True, "owner", True),
        (True, "", True),
        (False, "owner", True),
    ],
)
def test_a_person_is_an_operator_or_of_a_tenant(acme, of_tenant, role, is_superuser):
    fields = {"tenant": acme if of_tenant else None, "role": role, "is_superuser": is_superuser}
    refused("user_operator_or_of_a_tenant", User, email="x@acme.example", **fields)
    with pytest.raises(ValidationError):
        User(email="x@acme.example", password="x", **fields).full_clean()


def test_an_address_signs_in_one_person_whatever_its_case(acme):
    UserFactory(tenant=acme, email="ann@acme.example")
    refused("user_email_unique", User, email="ANN@acme.example", tenant=acme, role="user")


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("account_username_unique", {"username": "CRM@ACME"}),
        ("account_name_unique_in_tenant", {"name": "crm"}),
        ("account_username_given", {"username": ""}),
        ("account_status_known", {"status": "asleep"}),
        ("account_network_authenticated_needs_networks", {"network_authenticated": True}),
    ],
)
def test_a_wrong_account_is_refused(acme, acme_account, constraint, fields):
    refused(constraint, Account, **{"tenant": acme, "name": "x", "username": "x", **fields})


def test_a_prefix_belongs_to_one_api_key(acme_account):
    key = ApiKeyFactory(account=acme_account)
    refused("prefix", ApiKey, account=acme_account, prefix=key.prefix, key_hash="x", scopes=[])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"allowed_senders": ["a b"]}, "allowed_senders"),
        ({"allowed_senders": ["*"]}, "allowed_senders"),
        ({"allowed_senders": ["user@acme.example"]}, "allowed_senders"),
        ({"allowed_senders": [".acme.example"]}, "allowed_senders"),
        ({"allowed_senders": ["mail.*.example"]}, "allowed_senders"),
        ({"allowed_senders": ["-acme.example"]}, "allowed_senders"),
        ({"allowed_senders": ["a" * 64 + ".example"]}, "allowed_senders"),
        ({"allowed_senders": "acme.example"}, "allowed_senders"),
        ({"allowed_senders": [1]}, "allowed_senders"),
        ({"client_networks": ["192.0.2.1/24"]}, "client_networks"),
        ({"client_networks": ["localhost"]}, "client_networks"),
        ({"client_networks": {"192.0.2.0/24": 1}}, "client_networks"),
        ({"network_authenticated": True}, "client_networks"),
    ],
)
def test_a_wrong_value_of_an_account_is_named(acme, fields, field):
    with pytest.raises(ValidationError) as caught:
        AccountFactory.build(tenant=acme, **fields).full_clean()
    assert field in caught.value.message_dict


def test_good_values_of_an_account_are_taken(acme):
    AccountFactory.build(
        tenant=acme,
        allowed_senders=["acme.example", "*.Acme.example", "bücher.example", "my_host.example", "localhost"],
        client_networks=["192.0.2.0/24", "192.0.2.1", "2001:db8::/32"],
        network_authenticated=True,
    ).full_clean()


def test_every_allowed_sender_pattern_that_is_taken_can_match():
    """What the validator lets in, `sender_allowed` understands."""
    for domain in ("acme.example", "bücher.example", "my_host.example", "localhost", "xn--bcher-kva.example"):
        sender_patterns([domain, f"*.{domain}"])
        assert covers(domain, domain)
        assert covers(f"*.{domain}", f"mail.{domain}")


def test_an_address_is_kept_in_lower_case_and_people_are_made_whole(acme):
    user = User.objects.create_user(" Ann@Acme.Example ", "a long pass phrase", tenant=acme, role="admin")
    assert user.email == "ann@acme.example"
    assert user.check_password("a long pass phrase")
    assert User.objects.get_by_natural_key("ANN@acme.example") == user
    with pytest.raises(ValidationError):
        User.objects.create_user("nobody@acme.example", "a long pass phrase")
    assert User.objects.count() == 1


def test_an_operator_is_made_without_a_tenant():
    operator = User.objects.create_superuser("op@platform.example", "a long pass phrase")
    assert (operator.is_superuser, operator.is_staff, operator.tenant, operator.role) == (True, True, None, "")


def test_deleting_a_tenant_takes_its_people_and_accounts_along(acme, acme_account):
    UserFactory(tenant=acme)
    ApiKeyFactory(account=acme_account)
    acme.delete()
    assert not User.objects.exists()
    assert not Account.objects.exists()
    assert not ApiKey.objects.exists()


def test_a_row_says_its_name(acme, acme_account):
    entry = AuditEntryFactory(tenant=acme, action="account.changed", target_type="accounts.account", target_id="1")
    key = ApiKeyFactory(account=acme_account, prefix="smk_12345678")
    assert [str(row) for row in (acme, acme_account, key, entry)] == [
        "Acme",
        "crm@acme",
        "smk_12345678…",
        "account.changed accounts.account 1",
    ]


def test_no_secret_is_in_the_name_or_repr_of_a_row(acme_account):
    for row in (acme_account, ApiKeyFactory(account=acme_account), UserFactory()):
        secret = getattr(row, "password_hash", "") or getattr(row, "key_hash", "") or row.password
        assert secret not in repr(row) + str(row)
