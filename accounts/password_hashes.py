"""How secrets of accounts are kept: two schemes, told apart by their prefix (SMTP-5).

`keyed$<hex>` is an HMAC of a secret we generated, fast because there is nothing to guess in 128 random bits.
`$argon2id$…` is a password somebody chose, in the PHC string format. Anything else matches nothing.
"""

from __future__ import annotations

import hmac
import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from accounts.crypto import keyed_hashes

KEYED = "keyed$"
ARGON2 = "$argon2id$"
UNUSABLE = "!"

_argon2 = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Each check takes 19 MiB and a core: more at once would only make all of them slow.
_argon2_slots = threading.BoundedSemaphore(2)


def hash_generated(secret: str) -> str:
    """For secrets of at least 128 random bits only."""
    return KEYED + keyed_hashes(secret)[0]


def hash_chosen(password: str) -> str:
    """argon2id, 19 MiB, t=2, p=1; takes tens of milliseconds."""
    with _argon2_slots:
        return _argon2.hash(password)


def is_slow(stored: str) -> bool:
    """Whether `matches` takes tens of milliseconds for this stored value."""
    return stored.startswith(ARGON2)


def matches(secret: str, stored: str) -> bool:
    """Whether `stored` was made from `secret`, under any of the current keys; compares in constant time."""
    if is_slow(stored):
        try:
            with _argon2_slots:
                return _argon2.verify(stored, secret)
        except (VerificationError, InvalidHashError):
            return False
    wanted = stored.removeprefix(KEYED) if stored.startswith(KEYED) else ""
    found = [hmac.compare_digest(candidate.encode(), wanted.encode()) for candidate in keyed_hashes(secret)]
    return any(found)


def renewed(secret: str, stored: str) -> str | None:
    """A new value to store when `stored`, which `secret` matches, was made with old parameters or an old key."""
    if is_slow(stored):
        return hash_chosen(secret) if _argon2.check_needs_rehash(stored) else None
    current = hash_generated(secret)
    return None if hmac.compare_digest(current.encode(), stored.encode()) else current
