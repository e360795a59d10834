"""Encryption of what must be readable again (provider credentials), under keys of its own that can be rotated."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models


class DecryptionError(Exception):
    """None of CREDENTIAL_KEYS opens the stored value."""


def _fernet() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.CREDENTIAL_KEYS])


def encrypt(value: Any) -> str:
    """`value` (JSON-serialisable) under the first of CREDENTIAL_KEYS."""
    return _fernet().encrypt(json.dumps(value, separators=(",", ":")).encode()).decode()


def decrypt(token: str) -> Any:
    """What `encrypt` was given, under any of CREDENTIAL_KEYS; raises DecryptionError."""
    try:
        return json.loads(_fernet().decrypt(token.encode()))
    except InvalidToken as error:
        raise DecryptionError("No key of CREDENTIAL_KEYS opens this value.") from error


def keyed_hashes(secret: str) -> list[str]:
    """HMAC-SHA-256 of a generated secret under each of CREDENTIAL_KEYS, the current key first.

    Fast on purpose: only for secrets of at least 128 random bits (SMTP-5, SEC-3).
    """
    return [
        hmac.new(hashlib.sha256(b"keyed-hash:" + key.encode()).digest(), secret.encode(), hashlib.sha256).hexdigest()
        for key in settings.CREDENTIAL_KEYS
    ]


def current_key_id() -> str:
    """What the first of CREDENTIAL_KEYS is called beside hashes made with it; it tells nothing of the key."""
    return hashlib.sha256(b"keyed-hash-id:" + settings.CREDENTIAL_KEYS[0].encode()).hexdigest()[:8]


class EncryptedJSONField(models.TextField):
    """A JSON value that is encrypted in the database. It cannot be queried, and its `repr` in forms is the caller's.

    A value that no key opens raises DecryptionError when the row is read: better loud than ciphertext sent as a
    password.
    """

    def from_db_value(self, value: str | None, _expression: Any, _connection: Any) -> Any:
        return None if value is None else decrypt(value)

    def get_prep_value(self, value: Any) -> str | None:
        return None if value is None else encrypt(value)

    def value_to_string(self, obj: models.Model) -> str:
        """Serialised (dumpdata) as ciphertext, never in the clear."""
        return encrypt(self.value_from_object(obj))

    def to_python(self, value: Any) -> Any:
        return decrypt(value) if isinstance(value, str) and value else value
