"""The one door to tenant data: SEC-1, SEC-2."""

import pytest
from django.contrib.auth.models import AnonymousUser, Group
from django.core.exceptions import ImproperlyConfigured

from accounts.models import Account, ApiKey, AuditEntry, Tenant, User
from accounts.tenancy import (
    Area,
    Verb,
    may_edit_user,
    may_grant_bodies,
    permits,
    roles_given_by,
    tenant_id_of,
    tenant_path,
    visible_to,
)
from accounts.tests.factories import AccountFactory, ApiKeyFactory, AuditEntryFactory, TenantFactory, UserFactory

# The columns of SEC-1: r read, c create, u update, d delete, a act
SEC_1 = {
    "owner": "tenant:rud accounts:crud users:crud providers:crud messages:ra bodies:r logs:r suppressions:crud "
    "webhooks:crud audit:r",
    "admin": "tenant:ru accounts:r users:crud providers:crud messages:ra bodies:r logs:r suppressions:crud "
    "webhooks:crud audit:r",
    "user": "tenant:r accounts:r users:r providers:r messages:r bodies: logs:r suppressions:r webhooks:r audit:",
    "viewer": "tenant:r accounts: users: providers: messages: bodies: logs:r suppressions: webhooks: audit:",
}
VERBS = {"r": Verb.READ, "c": Verb.CREATE, "u": Verb.UPDATE, "d": Verb.DELETE, "a": Verb.ACT}


def person(role, **fields):
    fields = {"tenant_id": Tenant().pk, "email": "p@acme.example", "reads_bodies": True, **fields}
    return User(role=role, **fields)


@pytest.mark.parametrize("role", SEC_1)
def test_a_role_permits_what_the_table_says_and_nothing_else(role):
    told = dict(column.split(":") for column in SEC_1[role].split())
    assert set(told) == set(Area)
    for area, letters in told.items():
        for letter, verb in VERBS.items():
            assert permits(person(role), Area(area), verb) == (letter in letters), (area, verb)


@pytest.mark.parametrize(
    "nobody",
    [
        AnonymousUser(),
        person("owner", is_active=False),
        person("owner", tenant_id=None),
        person(""),
        person("emperor"),
        User(is_superuser=True, is_active=False),
    ],
)
def test_who_is_nobody_may_nothing(nobody):
    assert not any(permits(nobody, area, verb) for area in Area for verb in Verb)
    assert roles_given_by(nobody) == ()
    assert not may_edit_user(nobody, person("viewer"))


@pytest.mark.parametrize("role", SEC_1)
def test_bodies_are_read_with_a_permission_besides_the_role(role):
    assert not permits(person(role, reads_bodies=False), Area.BODIES, Verb.READ)
    assert permits(person(role, reads_bodies=False), Area.LOGS, Verb.READ)


def test_owners_and_operators_grant_the_reading_of_bodies():
    may = {role: may_grant_bodies(person(role, reads_bodies=False)) for role in SEC_1}
    assert may == {"owner": True, "admin": False, "user": False, "viewer": False}
    assert may_grant_bodies(User(is_superuser=True))
    assert not may_grant_bodies(AnonymousUser())


def test_an_operator_may_everything():
    assert all(permits(User(is_superuser=True), area, verb) for area in Area for verb in Verb)


@pytest.mark.parametrize(
    ("actor", "given"),
    [
        (person("owner"), {"owner", "admin", "user", "viewer"}),
        (person("admin"), {"admin", "user", "viewer"}),
        (person("user"), set()),
        (person("viewer"), set()),
        (User(is_superuser=True), {"owner", "admin", "user", "viewer"}),
    ],
)
def test_an_admin_makes_no_owners_and_has_no_power_over_them(actor, given):
    assert set(roles_given_by(actor)) == given
    for role in User.Role.values:
        assert may_edit_user(actor, person(role)) == (role in given)
    assert may_edit_user(actor, User(is_superuser=True)) == actor.is_superuser


@pytest.mark.django_db
class TestVisibleTo:
    @pytest.fixture
    def rows(self, acme, globex):
        made = {}
        for tenant in (acme, globex):
            account = AccountFactory(tenant=tenant)
            made[tenant.slug] = {
                Tenant: tenant,
                User: UserFactory(tenant=tenant, role="viewer"),
                Account: account,
                ApiKey: ApiKeyFactory(account=account),
                AuditEntry: AuditEntryFactory(tenant=tenant),
            }
        return made

    @pytest.mark.parametrize("model", [Tenant, User, Account, ApiKey, AuditEntry])
    def test_tenant_people_see_their_tenants_rows_only(self, rows, model):
        for slug in ("acme", "globex"):
            row = rows[slug][model]
            assert list(visible_to(rows[slug][User], model)) == [row]
            assert list(visible_to(rows[slug][User], model.objects.filter(pk=row.pk))) == [row]
            assert tenant_id_of(row) == rows[slug][Tenant].pk

    def test_filters_of_the_caller_stay(self, rows):
        assert not visible_to(rows["acme"][User], Account.objects.filter(pk=rows["globex"][Account].pk)).exists()

    def test_operators_see_all(self, rows, operator):
        assert visible_to(operator, Account).count() == 2

    @pytest.mark.parametrize(
        "nobody", [AnonymousUser(), User(is_superuser=True, is_active=False), User(role="owner", tenant=None)]
    )
    def test_nobody_sees_nothing(self, rows, nobody):
        assert not visible_to(nobody, Account).exists()

    def test_what_belongs_to_the_platform_is_not_a_tenants(self, rows):
        entry = AuditEntryFactory(tenant=None)
        assert entry not in visible_to(rows["acme"][User], AuditEntry)
        assert tenant_id_of(entry) is None


def test_a_model_that_names_no_tenant_is_refused_loudly():
    with pytest.raises(ImproperlyConfigured):
        tenant_path(Group)


def test_tenants_of_the_factories_are_distinct(db):
    assert TenantFactory().slug != TenantFactory().slug
