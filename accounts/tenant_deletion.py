"""The end of a tenant: asked for by its owner, confirmed, and put off by a day in which it can be taken back (SEC-6).

Meanwhile the tenant is suspended. What belongs to it is then removed by the floor that keeps most of it; the audit
stays.
"""

from __future__ import annotations

from datetime import timedelta

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import audit
from accounts.models import Tenant, User

GRACE = timedelta(hours=24)


class Unfitting(Exception):
    """It is asked for already, or there is nothing to take back; says which."""


def ask(tenant: Tenant, confirmation: str, actor: User, ip: str | None) -> None:
    """Have the tenant deleted when the grace is over, and suspend it until then.

    Raises ValidationError unless `confirmation` is the tenant's slug, and Unfitting.
    """
    if confirmation != tenant.slug:
        raise ValidationError({"slug": "This is not the short name of the tenant."})
    with transaction.atomic():
        locked = Tenant.objects.select_for_update().get(pk=tenant.pk)
        if locked.deletes_at is not None:
            raise Unfitting("The tenant is to be deleted already.")
        locked.deletes_at = timezone.now() + GRACE
        locked.status_before_deletion, locked.status = locked.status, Tenant.Status.SUSPENDED
        _save(locked, "deletion_asked", actor, ip, [None, locked.deletes_at.isoformat()])
    tenant.refresh_from_db()


def cancel(tenant: Tenant, actor: User, ip: str | None) -> None:
    """Keep the tenant after all, as it was before. Raises Unfitting."""
    with transaction.atomic():
        locked = Tenant.objects.select_for_update().get(pk=tenant.pk)
        if locked.deletes_at is None:
            raise Unfitting("The tenant is not to be deleted.")
        if locked.deletes_at <= timezone.now():
            raise Unfitting("It is too late: the tenant is being deleted.")
        before, locked.deletes_at = locked.deletes_at.isoformat(), None
        locked.status, locked.status_before_deletion = locked.status_before_deletion, ""
        _save(locked, "deletion_cancelled", actor, ip, [before, None])
    tenant.refresh_from_db()


def _save(tenant: Tenant, verb: str, actor: User, ip: str | None, change: list[str | None]) -> None:
    tenant.save(update_fields=["deletes_at", "status", "status_before_deletion", "updated_at"])
    audit.record(actor, f"tenant.{verb}", tenant, {"deletes_at": change}, ip)


def due() -> QuerySet[Tenant]:
    """Tenants whose grace is over."""
    return Tenant.objects.filter(deletes_at__lte=timezone.now())
