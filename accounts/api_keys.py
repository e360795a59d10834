"""API keys of accounts: shown once, kept as a keyed hash with a visible prefix (SEC-3).

A key reads `smk_<8 characters>_<43 characters>`; the part before the second underscore is the visible prefix.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from accounts import changes, password_hashes
from accounts.generated import generate, note_use
from accounts.identity import AuthenticationFailed, Identity, identity_of, refusal
from accounts.models import Account, ApiKey

_UNKNOWN = password_hashes.KEYED + "0" * 64


@dataclass(frozen=True, slots=True)
class KeyIdentity:
    """Whom an API key acts for, and with which scopes."""

    key_id: uuid.UUID
    identity: Identity
    scopes: frozenset[str]
    label: str = ""

    is_authenticated = True
    """What frameworks ask of whoever signed in."""
    is_superuser = False

    @property
    def account_id(self) -> uuid.UUID:
        return self.identity.account_id

    @property
    def tenant_id(self) -> uuid.UUID:
        return self.identity.tenant_id

    def __str__(self) -> str:
        return self.label


def issue_api_key(
    account: Account, scopes: Iterable[str], *, name: str = "", expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """A new key of 256 random bits, and its text, which cannot be shown again.

    Raises ValidationError for an unknown scope.
    """
    key = ApiKey(account=account, name=name, scopes=sorted(set(scopes)), expires_at=expires_at)
    text = draw(key)
    key.full_clean()
    key.save(force_insert=True)
    return key, text


def draw(key: ApiKey) -> str:
    """Give a key that is not saved yet its prefix and hash, and return its text."""
    key.prefix = f"smk_{generate(8)}"
    text = f"{key.prefix}_{generate(43)}"
    key.key_hash = password_hashes.hash_generated(text)
    return text


def verify_api_key(text: str, client_ip: str | None) -> KeyIdentity:
    """Whom this key acts for; one query.

    Raises AuthenticationFailed with code `unknown_key`, `key_revoked`, `key_expired`, `account_suspended`,
    `tenant_suspended` or `network_not_allowed`.
    """
    key = _key_with_prefix(text.rpartition("_")[0]) if text.isascii() and "\0" not in text else None
    if not password_hashes.matches(text if key else "", key.key_hash if key else _UNKNOWN) or key is None:
        raise AuthenticationFailed("unknown_key")
    if key.revoked_at is not None:
        raise AuthenticationFailed("key_revoked")
    if key.expires_at is not None and key.expires_at <= timezone.now():
        raise AuthenticationFailed("key_expired")
    reason = refusal(key.account, client_ip)
    if reason:
        raise AuthenticationFailed(reason)
    _renew_hash(key, text)
    note_use(ApiKey.objects.filter(pk=key.pk), key.last_used_at)
    return KeyIdentity(key.pk, identity_of(key.account), frozenset(key.scopes), f"API key {key.prefix}…")


def _key_with_prefix(prefix: str) -> ApiKey | None:
    return ApiKey.objects.filter(prefix=prefix).select_related("account__tenant").first()


def _renew_hash(key: ApiKey, text: str) -> None:
    renewed = password_hashes.renewed(text, key.key_hash)
    if renewed:
        ApiKey.objects.filter(pk=key.pk, key_hash=key.key_hash).update(key_hash=renewed)


def revoke_api_key(key: ApiKey) -> None:
    """The key is refused from now on; a key revoked before keeps its time."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
    changes.announce("api_key", key.account.tenant_id, key.pk)
    key.refresh_from_db(fields=["revoked_at"])


def rotate_api_key(key: ApiKey, *, overlap: timedelta, expires_at: datetime | None = None) -> tuple[ApiKey, str]:
    """A new key with the old one's account, name and scopes, and its text.

    The old key goes on working for `overlap`, or less if it was to end sooner.
    """
    ends = timezone.now() + overlap
    with transaction.atomic():
        old = ApiKey.objects.select_for_update(of=("self",)).select_related("account").get(pk=key.pk)
        successor = issue_api_key(old.account, old.scopes, name=old.name, expires_at=expires_at)
        if old.expires_at is None or old.expires_at > ends:
            old.expires_at = ends
            old.save(update_fields=["expires_at", "updated_at"])
    key.expires_at = old.expires_at
    return successor
