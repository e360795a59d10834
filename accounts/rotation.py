"""Encrypt anew, under the first of CREDENTIAL_KEYS, all that is encrypted in the database (PRV-12)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.apps import apps
from django.conf import settings
from django.db import models
from django.db.models import TextField, Value
from django.db.models.functions import Cast

from accounts import password_hashes
from accounts.crypto import EncryptedJSONField
from accounts.models import Account, ApiKey, SecondFactor

PAGE = 2000
"""Rows of which one statement looks for values: few enough for the database's time limit, whatever is in them."""


@dataclass(slots=True)
class Tally:
    """Of one encrypted column: values under the first key already, those that were under another, and the keys of
    rows whose value no key opens, which are left as they are."""

    current: int = 0
    rotated: int = 0
    unreadable: list[Any] = field(default_factory=list)


def columns() -> list[tuple[type[models.Model], str]]:
    """Every encrypted field of every model, found by its type."""
    return [
        (model, column.name)
        for model in apps.get_models()
        if model._meta.managed and not model._meta.proxy
        for column in model._meta.local_concrete_fields
        if isinstance(column, EncryptedJSONField)
    ]


def rotate(model: type[models.Model], column: str, *, dry_run: bool) -> Tally:
    """Encrypt every value of a column anew that is not under the first key; with `dry_run` only count.

    Each row is one statement that changes it only while it holds what was read, so this may be broken off, repeated,
    and run beside anything that writes.
    """
    tally, keys = Tally(), [Fernet(key) for key in settings.CREDENTIAL_KEYS]
    for key, token in _values(model, column):
        _rotate_row(_Row(model, column, key), token, keys, tally, dry_run=dry_run)
    return tally


@dataclass(frozen=True, slots=True)
class _Row:
    model: type[models.Model]
    column: str
    key: Any

    def token(self) -> str | None:
        """As it is stored; None when there is nothing, or no such row any more."""
        found: str | None = (
            _stored(self.model, self.column).filter(pk=self.key).values_list("stored", flat=True).first()
        )
        return found

    def replace(self, old: str, new: str) -> bool:
        unchanged = _stored(self.model, self.column).filter(pk=self.key, stored=old)
        return bool(unchanged.update(**{self.column: Value(new, output_field=TextField())}))


def _rotate_row(row: _Row, token: str | None, keys: list[Fernet], tally: Tally, *, dry_run: bool) -> None:
    while token is not None:
        if _opens(keys[0], token):
            tally.current += 1
            return
        try:
            anew = MultiFernet(keys).rotate(token.encode()).decode()
        except InvalidToken:
            tally.unreadable.append(row.key)
            return
        if dry_run or row.replace(token, anew):
            tally.rotated += 1
            return
        token = row.token()  # somebody wrote it meanwhile, perhaps under an old key still


def _opens(key: Fernet, token: str) -> bool:
    try:
        key.decrypt(token.encode())
    except InvalidToken:
        return False
    return True


def _stored(model: type[models.Model], column: str) -> Any:
    """Rows with their ciphertext as `stored`: read by its name the field would decrypt it."""
    return model._base_manager.annotate(stored=Cast(column, TextField()))


def _values(model: type[models.Model], column: str) -> Iterator[tuple[Any, str]]:
    """Keys and ciphertexts of all rows that hold something, in pages by primary key."""
    rows, last = model._base_manager.order_by("pk"), None
    while True:
        left = rows if last is None else rows.filter(pk__gt=last)
        end = left.values_list("pk", flat=True)[PAGE - 1 : PAGE].first()
        page = _stored(model, column).filter(**{f"{column}__isnull": False}).order_by("pk")
        if last is not None:
            page = page.filter(pk__gt=last)
        if end is not None:
            page = page.filter(pk__lte=end)
        yield from list(page.values_list("pk", "stored"))
        if end is None:
            return
        last = end


def hashes_under_old_keys() -> dict[str, int]:
    """How many generated passwords, API keys and recovery codes are kept as hashes under another than the first key.

    A hash can only be made anew when its secret is used; until then the old key is needed.
    """
    current = password_hashes.current_prefix()
    passwords = Account.objects.filter(password_hash__startswith=password_hashes.KEYED)
    keys = ApiKey.objects.filter(key_hash__startswith=password_hashes.KEYED, revoked_at=None)
    codes = [
        stored
        for hashes in SecondFactor.objects.values_list("recovery_hashes", flat=True)
        for stored in hashes
        if not stored.startswith(current)
    ]
    return {
        "passwords": passwords.exclude(password_hash__startswith=current).count(),
        "API keys": keys.exclude(key_hash__startswith=current).count(),
        "recovery codes": len(codes),
    }
