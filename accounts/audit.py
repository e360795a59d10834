"""Who did what: audit entries with the values before and after, secrets masked (SEC-5)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import Case, F, GenericIPAddressField, Q, QuerySet, Value, When

from accounts.crypto import EncryptedJSONField
from accounts.models import AuditEntry, User
from accounts.tenancy import Person, tenant_id_of

MASK = "***"
SECRET_FIELDS = frozenset({"password", "password_hash", "key_hash", "recovery_hashes", "token_hash"})
_UNTOLD = frozenset({"updated_at", "last_used_at", "last_login"})


def values(row: models.Model) -> dict[str, Any]:
    """What a row holds, by field; the settings of an encrypted field each under `field.setting`.

    Unmasked: for comparing in memory only, never to be kept.
    """
    found: dict[str, Any] = {}
    for field in row._meta.concrete_fields:
        value = field.value_from_object(row)
        if isinstance(field, EncryptedJSONField) and isinstance(value, dict):
            found |= {f"{field.name}.{name}": setting for name, setting in value.items()}
        else:
            found[field.name] = value
    return found


def _masked_fields(model: type[models.Model]) -> set[str]:
    return {*SECRET_FIELDS, *(field.name for field in model._meta.fields if isinstance(field, EncryptedJSONField))}


def differences(
    model: type[models.Model],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    shown: Collection[str] = (),
) -> dict[str, list[Any]]:
    """Field → [before, after] of what differs, None where there was nothing; secrets are masked.

    Settings in encrypted fields are masked too, but for those named in `shown`.
    """
    masked = _masked_fields(model)
    changed: dict[str, list[Any]] = {}
    for name in sorted({*before, *after} - _UNTOLD):
        old, new = before.get(name), after.get(name)
        if old != new:
            secret = name.partition(".")[0] in masked and name not in shown
            changed[name] = [_plain(old, secret), _plain(new, secret)]
    return changed


def told(row: models.Model) -> dict[str, Any]:
    """What a row holds, by field, secrets and settings in encrypted fields masked."""
    masked = _masked_fields(type(row))
    return {
        name: _plain(value, name.partition(".")[0] in masked)
        for name, value in values(row).items()
        if name not in _UNTOLD
    }


def _plain(value: Any, secret: bool) -> Any:
    """`value` as JSON holds it; nothing at all is told even of the length of a secret."""
    if value is None or value == "":
        return None
    if secret:
        return MASK
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, bool | int | float | str | list | dict) else str(value)


def record(
    actor: User | str,
    action: str,
    target: models.Model,
    changes: Mapping[str, Any] | None = None,
    ip: str | None = None,
) -> AuditEntry:
    """Write one entry; call it in the transaction that does what it tells of, and before a deletion.

    `actor` is a person, or the name of the command that acted. `action` reads `account.suspended`. `changes` is what
    `differences` gave, or plain facts; it must hold no secret.
    """
    entry = _entry(actor, action, target, changes, ip)
    entry.save(force_insert=True)
    return entry


def record_each(
    actor: User | str,
    action: str,
    targets: Iterable[models.Model],
    ip: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """As `record`, for one action on many rows."""
    AuditEntry.objects.bulk_create([_entry(actor, action, target, changes, ip) for target in targets], batch_size=500)


def told_to(person: Person, entries: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
    """With `told_by` and `told_ip`: tenants are not told which operator acted, nor from where."""
    knows_all = isinstance(person, User) and person.is_superuser
    untold = Q(pk=None) if knows_all else Q(by_operator=True)
    return entries.annotate(
        told_by=Case(When(untold, then=Value("the platform operator")), default=F("actor_label")),
        told_ip=Case(
            When(untold, then=Value(None)), default=F("client_ip"), output_field=GenericIPAddressField(null=True)
        ),
    )


def _entry(
    actor: User | str, action: str, target: models.Model, changes: Mapping[str, Any] | None, ip: str | None
) -> AuditEntry:
    if isinstance(actor, User):
        actor = actor.looking_from or actor
    return AuditEntry(
        tenant_id=tenant_id_of(target),
        actor=actor if isinstance(actor, User) else None,
        actor_label=actor.email if isinstance(actor, User) else actor,
        by_operator=isinstance(actor, User) and actor.is_superuser,
        action=action,
        target_type=target._meta.label_lower,
        target_id=str(target.pk),
        target_label=str(target)[:255],
        changes=dict(changes or {}),
        client_ip=ip or None,
    )
