"""How secrets of accounts are kept: two schemes, told apart by their prefix (SMTP-5).

`keyed$<key id>$<hex>` is an HMAC of a secret we generated, fast because there is nothing to guess in 128 random bits.
`$argon2id$…` is a password somebody chose, in the PHC string format. Anything else matches nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
import time
from collections import OrderedDict

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from accounts.crypto import current_key_id, keyed_hashes

KEYED = "keyed$"
ARGON2 = "$argon2id$"
UNUSABLE = "!"

_argon2 = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Each check takes 19 MiB and a core: more at once would only make all of them slow.
_argon2_slots = threading.BoundedSemaphore(2)


class _Verified:
    """Passwords found right within the last minutes, as keyed hashes that are worthless outside of this process.

    The stored hash is part of the key, so a changed password is forgotten by the change itself.
    """

    def __init__(self, *, seconds: float, size: int) -> None:
        self.seconds, self.size = seconds, size
        self._key = os.urandom(32)
        self._until: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def _entry(self, secret: str, stored: str) -> bytes:
        text = stored.encode() + b"\0" + secret.encode()
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()

    def knows(self, secret: str, stored: str) -> bool:
        with self._lock:
            return self._until.get(self._entry(secret, stored), 0.0) > time.monotonic()

    def add(self, secret: str, stored: str) -> None:
        entry = self._entry(secret, stored)
        with self._lock:
            self._until[entry] = time.monotonic() + self.seconds
            self._until.move_to_end(entry)
            while len(self._until) > self.size:
                self._until.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._until.clear()


_verified = _Verified(seconds=300, size=10_000)
# Made from random bytes nobody kept, with the parameters above.
_WASTED = "$argon2id$v=19$m=19456,t=2,p=1$rVnr8jtRA8eNhfJYmaUtXQ$yNbBlK4DUUny0PQMzuZNZBCuflZY1MLXUKIyFDezUB0"


def hash_generated(secret: str) -> str:
    """For secrets of at least 128 random bits only."""
    return current_prefix() + keyed_hashes(secret)[0]


def current_prefix() -> str:
    """What every stored value begins with that is a hash under the first key."""
    return f"{KEYED}{current_key_id()}$"


def hash_chosen(password: str) -> str:
    """argon2id, 19 MiB, t=2, p=1; takes tens of milliseconds."""
    with _argon2_slots:
        return _argon2.hash(password)


def is_slow(stored: str) -> bool:
    """Whether `matches` takes tens of milliseconds for this stored value, unless it has met the secret before."""
    return stored.startswith(ARGON2)


def matches(secret: str, stored: str) -> bool:
    """Whether `stored` was made from `secret`, under any of the current keys; compares in constant time.

    A chosen password found right is remembered for five minutes, so that clients who reconnect do not pay again.
    """
    if is_slow(stored):
        return _verified.knows(secret, stored) or _argon2_matches(secret, stored)
    wanted = stored.rpartition("$")[2] if stored.startswith(KEYED) else ""
    found = [hmac.compare_digest(candidate.encode(), wanted.encode()) for candidate in keyed_hashes(secret)]
    return any(found)


def _argon2_matches(secret: str, stored: str) -> bool:
    with _argon2_slots:
        # Whoever waited for a slot behind the same client need not pay for what that one has just found out.
        if _verified.knows(secret, stored):
            return True
        try:
            _argon2.verify(stored, secret)
        except (VerificationError, InvalidHashError):
            return False
        _verified.add(secret, stored)
        return True


def waste_a_check() -> None:
    """Take as long as an argon2 check takes, so that a refusal's time says nothing."""
    _argon2_matches("whatever", _WASTED)


def renewed(secret: str, stored: str) -> str | None:
    """A new value to store when `stored`, which `secret` matches, was made with old parameters or an old key."""
    if is_slow(stored):
        return hash_chosen(secret) if _argon2.check_needs_rehash(stored) else None
    current = hash_generated(secret)
    return None if hmac.compare_digest(current.encode(), stored.encode()) else current


def forget_verified() -> None:
    """Drop the passwords remembered in this process."""
    _verified.clear()
