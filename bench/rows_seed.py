"""Tenants, people, accounts and providers of a database that `bench.rows` fills. Imported by `manage.py shell`."""

from __future__ import annotations

import json

from accounts.api_keys import issue_api_key
from accounts.ids import first_at
from accounts.models import Account, ApiKey, Tenant, User
from bench.rows import PASSWORD, SHARES, SMALL
from delivery.models import Message
from providers.models import Provider

ACCOUNTS = 5


def seed() -> None:
    """Each tenant with an owner (`owner@<slug>.example`), five accounts and two providers; and an operator."""
    User.objects.create_superuser("operator@bench.example", PASSWORD)
    for slug in (*SHARES, *(f"small{number}" for number in range(SMALL))):
        tenant = Tenant.objects.create(slug=slug, name=slug.title())
        User.objects.create_user(f"owner@{slug}.example", PASSWORD, tenant=tenant, role=User.Role.OWNER)
        for number in range(1, ACCOUNTS + 1):
            Account.objects.create(
                tenant=tenant,
                name=f"app{number}",
                username=f"app{number}@{slug}",
                allowed_senders=[f"{slug}.example"],
            )
        for rank, (name, type_) in enumerate((("Main", "sendgrid"), ("Fallback", "smtp"))):
            config = {"api_key": "SG.bench"} if type_ == "sendgrid" else {"host": "smtp.bench.example"}
            Provider.objects.create(tenant=tenant, name=name, type=type_, config=config, default_rank=rank)


def caller() -> str:
    """A new API key of the largest tenant that may read and send, and messages to ask for, as JSON."""
    account = Account.objects.get(username="app1@big")
    _, key = issue_api_key(account, [scope.value for scope in ApiKey.Scope], name="load")
    newest, oldest = (Message.objects.filter(account=account).order_by(order).first() for order in ("-id", "id"))
    assert newest
    assert oldest
    step = (newest.accepted_at - oldest.accepted_at) / 200
    since = [first_at(oldest.accepted_at + number * step) for number in range(200)]
    found = (Message.objects.filter(account=account, pk__gte=start).order_by("id").first() for start in since)
    messages = [str(one.pk) for one in found if one]
    return json.dumps({"key": key, "sender": "app1@big.example", "messages": messages})
