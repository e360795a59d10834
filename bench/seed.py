"""Fill the private database of a measurement: one tenant, one account known by its network, one by its password, one
provider. Imported by `manage.py shell` in the environment the measurement made."""

from __future__ import annotations

import json

from accounts.credentials import issue_password
from accounts.models import Account, Tenant
from providers.models import Provider


def seed(provider_url: str) -> str:
    """Make the rows; the user and password to sign in with, as JSON."""
    tenant = Tenant.objects.create(slug="bench", name="Bench")
    senders = ["bench.example"]
    Account.objects.create(
        tenant=tenant,
        name="by network",
        username="network@bench",
        allowed_senders=senders,
        client_networks=["127.0.0.0/8"],
        network_authenticated=True,
    )
    signed = Account.objects.create(tenant=tenant, name="by password", username="signed@bench", allowed_senders=senders)
    Provider.objects.create(
        tenant=tenant,
        name="stand-in",
        type="sendgrid",
        config={"api_key": "SG.bench", "base_url": provider_url},
        default_rank=0,
    )
    return json.dumps({"user": signed.username, "password": issue_password(signed)})
