"""Which word about a recipient wins (SPEC §1): complained > bounced > failed > confirmed > deferred > delivered.

Providers tell what became of mail they took in any order, and more than once. Two of their words do not mean the same
as ours of that name:

- *deferred* by a provider means that it goes on trying. The recipient stays `delivered` and shows what was said: here
  `deferred` is a recipient that an attempt still has to serve, and the mail would be sent a second time.
- A *soft* bounce ends like a hard one when nothing else comes, but says less than *confirmed*: services go on trying
  after some of them.
"""

from __future__ import annotations

from delivery.models import Recipient, RecipientStatus
from providers.webhooks.contract import ProviderEvent, Told

TOLD = "status IN ('confirmed', 'bounced', 'complained') OR (status = 'failed' AND delivered_at IS NOT NULL)"
"""SQL: the recipient's status is a provider's word after delivery. A worker that records what it knows from before
leaves it alone. (A recipient that failed before any provider took it has no `delivered_at`.)"""

DEFERRED = "provider_deferred"
"""Error code of a recipient that is delivered and of whom the provider said that it goes on trying."""
SOFT_BOUNCE = "soft_bounce"

_RANKS = {
    RecipientStatus.DELIVERED: 1,
    RecipientStatus.CONFIRMED: 4,
    RecipientStatus.FAILED: 5,
    RecipientStatus.BOUNCED: 6,
    RecipientStatus.COMPLAINED: 7,
}
_DEFERRED_RANK, _SOFT_RANK = 2, 3
_STATUSES = {
    Told.CONFIRMED: RecipientStatus.CONFIRMED,
    Told.FAILED: RecipientStatus.FAILED,
    Told.BOUNCED: RecipientStatus.BOUNCED,
    Told.COMPLAINED: RecipientStatus.COMPLAINED,
}


def apply(recipient: Recipient, event: ProviderEvent) -> bool:
    """Let the event change the recipient, in memory, if it says more than what is known; returns whether it did.

    Whatever order events come in, the same events leave the same status.
    """
    if event.type is Told.DEFERRED:
        status, code, rank = RecipientStatus.DELIVERED, DEFERRED, _DEFERRED_RANK
        if recipient.status != RecipientStatus.DELIVERED:
            return False  # one that is ours to send again stays so
    elif event.type in _STATUSES:
        status, code = _STATUSES[event.type], event.code
        rank = _RANKS[status]
        if event.type is Told.BOUNCED and not event.hard:
            code, rank = SOFT_BOUNCE, _SOFT_RANK
    else:
        return False
    if rank <= _rank(recipient):
        return False
    recipient.status, recipient.error_code, recipient.error_text = status, code[:64], event.text[:1000]
    return True


def _rank(recipient: Recipient) -> int:
    status = RecipientStatus(recipient.status)
    if status is RecipientStatus.FAILED and recipient.delivered_at is None:
        return 0  # our own word, before any provider took the mail
    if status is RecipientStatus.DELIVERED and recipient.error_code == DEFERRED:
        return _DEFERRED_RANK
    if status is RecipientStatus.BOUNCED and recipient.error_code == SOFT_BOUNCE:
        return _SOFT_RANK
    return _RANKS.get(status, 0)
