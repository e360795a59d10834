"""Rows of the accounts floor for tests."""

from functools import lru_cache

import factory
from django.contrib.auth.hashers import make_password
from django.utils import timezone
from factory.django import DjangoModelFactory

from accounts import models
from accounts.password_hashes import hash_generated

PASSWORD = "correct horse"


@lru_cache
def _user_password(password: str) -> str:
    return make_password(password)


class TenantFactory(DjangoModelFactory):
    class Meta:
        model = models.Tenant

    slug = factory.Sequence("tenant-{}".format)
    name = factory.LazyAttribute(lambda tenant: tenant.slug.title())


class UserFactory(DjangoModelFactory):
    """A person of one tenant; `operator=True` makes a platform operator instead."""

    class Meta:
        model = models.User

    class Params:
        plain_password = PASSWORD
        operator = factory.Trait(is_superuser=True, tenant=None, role="")

    email = factory.Sequence("person{}@people.example".format)
    tenant = factory.SubFactory(TenantFactory)
    role = models.User.Role.OWNER
    reads_bodies = factory.LazyAttribute(lambda user: user.role in ("owner", "admin"))
    password = factory.LazyAttribute(lambda user: _user_password(user.plain_password))


class AccountFactory(DjangoModelFactory):
    """An account that signs in with `password`, kept under the fast scheme so that tests do not pay for argon2."""

    class Meta:
        model = models.Account

    class Params:
        password = PASSWORD

    tenant = factory.SubFactory(TenantFactory)
    name = factory.Sequence("account {}".format)
    username = factory.LazyAttribute(lambda account: f"{account.name.replace(' ', '-')}@{account.tenant.slug}")
    password_hash = factory.LazyAttribute(lambda account: hash_generated(account.password))
    allowed_senders = factory.LazyAttribute(lambda account: [f"{account.tenant.slug}.example"])


class ApiKeyFactory(DjangoModelFactory):
    class Meta:
        model = models.ApiKey

    account = factory.SubFactory(AccountFactory)
    prefix = factory.Sequence("smk_{:08x}".format)
    key_hash = factory.LazyAttribute(lambda key: hash_generated(key.prefix))
    scopes = ["send"]


class QuotaWarningFactory(DjangoModelFactory):
    """Of an account's quota; `account=None, tenant=…` makes one of a tenant's own."""

    class Meta:
        model = models.QuotaWarning

    account = factory.SubFactory(AccountFactory)
    tenant = factory.SelfAttribute("account.tenant")
    month = factory.LazyFunction(lambda: timezone.now().date().replace(day=1))
    percent = 80
    used = 800
    most = 1000


class AuditEntryFactory(DjangoModelFactory):
    class Meta:
        model = models.AuditEntry

    tenant = factory.SubFactory(TenantFactory)
    actor_label = "somebody@people.example"
    action = "account.changed"
