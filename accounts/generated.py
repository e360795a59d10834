"""Secrets we make ourselves, and the note of when one was last used."""

from __future__ import annotations

import secrets
import string
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.models import Account, ApiKey

# Nothing that a shell, a URL or a printer's keypad stumbles over.
_ALPHABET = string.ascii_letters + string.digits
_NOTED_EVERY = timedelta(minutes=1)


def generate(length: int) -> str:
    """A random text of `length` letters and digits, each worth 5.95 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def note_use(row: QuerySet[Account] | QuerySet[ApiKey], last_used_at: datetime | None) -> None:
    """Write `last_used_at` of one row, at most once a minute whatever the number of uses and processes."""
    now = timezone.now()
    if last_used_at is None or now - last_used_at >= _NOTED_EVERY:
        stale = Q(last_used_at=None) | Q(last_used_at__lte=now - _NOTED_EVERY)
        row.filter(stale).update(last_used_at=now)
