"""The settings of this door in typed form."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from accounts.models import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every `INGEST_*` setting under its name in lower case; times in seconds."""

    url: str = field(repr=False)
    queues: Mapping[str, str]
    declare: bool
    prefetch: int
    reply_queue: str
    dead_letter_queue: str
    s3_bucket: str
    s3_region: str
    s3_endpoint: str
    private_networks: bool
    fetch_timeout: float

    @classmethod
    def from_settings(cls, values: Mapping[str, Any]) -> Config:
        """The configuration out of `settings.INGEST`."""
        return cls(**{one.name: values[one.name.upper()] for one in fields(cls)})

    def dead_letters(self, queue: str) -> str:
        """Where goes what came by a queue and cannot be taken."""
        return self.dead_letter_queue or f"{queue}.dead"

    @property
    def own_queues(self) -> set[str]:
        """Those nobody is answered into."""
        return {*self.queues, *(self.dead_letters(queue) for queue in self.queues)}


@dataclass(frozen=True, slots=True)
class Owned:
    """A queue and whose it is, as it was when we started."""

    queue: str
    account_id: uuid.UUID
    username: str
    tenant_id: uuid.UUID
    tenant: str

    def is_owner(self, tenant: str, account: str) -> bool:
        """Whether these are the names, or the ids, of the owner; an empty one says nothing."""
        return tenant in ("", self.tenant, str(self.tenant_id)) and (
            account.lower() in ("", self.username.lower(), str(self.account_id))
        )


def owners(queues: Mapping[str, str]) -> list[Owned]:
    """Whose the queues are. Raises ImproperlyConfigured for a name that is no account's."""
    found = []
    for queue, username in queues.items():
        account = Account.objects.select_related("tenant").filter(username__iexact=username).first()
        if account is None:
            raise ImproperlyConfigured(f"INGEST_QUEUES: {queue} belongs to {username}, and there is no such account.")
        found.append(Owned(queue, account.pk, account.username, account.tenant_id, account.tenant.slug))
    return found
