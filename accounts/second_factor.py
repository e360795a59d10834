"""Second factors: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for the day it is lost (SEC-4)."""

from __future__ import annotations

import secrets
from datetime import datetime

import pyotp
import segno
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import password_hashes
from accounts.models import SecondFactor, User

ISSUER = "smtpproxy"
STEP = 30
"""Seconds a code is good for; the one before and the one after count as well, since clocks differ."""
RECOVERY_CODES = 10
# 16 of 32 letters are 80 bits: guesses are limited, and who has the key of these hashes opens the secret besides.
_LETTERS = "abcdefghjkmnpqrstuvwxyz023456789"


def of(user: User) -> SecondFactor | None:
    """The person's second factor, if a code has confirmed it."""
    factor: SecondFactor | None = getattr(user, "second_factor", None)
    return factor if factor is not None and factor.confirmed_at is not None else None


def lacking(user: User) -> bool:
    """Whether the tenant wants a second factor of everybody, and this person has none yet."""
    return user.tenant is not None and user.tenant.second_factor_required and of(user) is None


def begin(user: User) -> SecondFactor:
    """The person's unconfirmed factor, with a new secret if there is none; a confirmed one stays as it is."""
    factor, _ = SecondFactor.objects.get_or_create(user=user, defaults={"secret": {"totp": pyotp.random_base32()}})
    return factor


def address(factor: SecondFactor) -> str:
    """The `otpauth://` address that an app reads; it holds the secret."""
    return _totp(factor).provisioning_uri(name=factor.user.email, issuer_name=ISSUER)


def qr_code(factor: SecondFactor) -> str:
    """`address` as an SVG picture in a data URI; black on white, so that it reads in dark mode as well."""
    return str(segno.make(address(factor), error="m").svg_data_uri(scale=5, border=4, light="#fff"))


def secret_text(factor: SecondFactor) -> str:
    """The secret for typing in, in groups of four."""
    secret: str = factor.secret["totp"]
    return " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))


def confirm(user: User, code: str, *, now: datetime | None = None) -> list[str] | None:
    """Let the factor count from now on if this is its code, and return recovery codes; None if it is not."""
    with transaction.atomic():
        factor = SecondFactor.objects.select_for_update().filter(user=user, confirmed_at=None).first()
        if factor is None or not _claim_code(factor, code, now or timezone.now()):
            return None
        factor.confirmed_at = timezone.now()
        codes = _draw(factor)
        factor.save(update_fields=["confirmed_at", "recovery_hashes"])
    _forget(user)
    return codes


def check(user: User, code: str, *, now: datetime | None = None) -> str:
    """How this code is right, "app" or "recovery"; "" when it is not. A right code is used up by this call."""
    with transaction.atomic():
        factor = SecondFactor.objects.select_for_update().filter(user=user, confirmed_at__isnull=False).first()
        if factor is None:
            return ""
        if _claim_code(factor, code, now or timezone.now()):
            return "app"
        return "recovery" if _claim_recovery(factor, code) else ""


def new_recovery_codes(user: User) -> list[str]:
    """Ten new codes in the place of the old; there must be a confirmed factor."""
    with transaction.atomic():
        factor = SecondFactor.objects.select_for_update().get(user=user, confirmed_at__isnull=False)
        codes = _draw(factor)
        factor.save(update_fields=["recovery_hashes"])
    return codes


def remove(user: User) -> bool:
    """Sign in with the password alone from now on; returns whether there was anything to remove."""
    removed, _ = SecondFactor.objects.filter(user=user).delete()
    _forget(user)
    return bool(removed)


def _forget(user: User) -> None:
    user._state.fields_cache.pop("second_factor", None)


def _totp(factor: SecondFactor) -> pyotp.TOTP:
    return pyotp.TOTP(factor.secret["totp"], interval=STEP)


def _claim_code(factor: SecondFactor, code: str, now: datetime) -> bool:
    digits = "".join(code.split())
    if not (len(digits) == 6 and digits.isascii() and digits.isdigit()):
        return False
    totp, current = _totp(factor), int(now.timestamp()) // STEP
    for step in (current - 1, current, current + 1):
        if secrets.compare_digest(totp.generate_otp(step), digits):
            unused = SecondFactor.objects.filter(Q(last_step=None) | Q(last_step__lt=step), pk=factor.pk)
            return bool(unused.update(last_step=step))
    return False


def _claim_recovery(factor: SecondFactor, code: str) -> bool:
    plain = _plain(code)
    left = [stored for stored in factor.recovery_hashes if not password_hashes.matches(plain, stored)]
    if len(left) == len(factor.recovery_hashes):
        return False
    factor.recovery_hashes = left
    factor.save(update_fields=["recovery_hashes"])
    return True


def _draw(factor: SecondFactor) -> list[str]:
    codes = ["".join(secrets.choice(_LETTERS) for _ in range(16)) for _ in range(RECOVERY_CODES)]
    factor.recovery_hashes = [password_hashes.hash_generated(code) for code in codes]
    return ["-".join(code[at : at + 4] for at in range(0, 16, 4)) for code in codes]


def _plain(code: str) -> str:
    """As it was drawn, however it was typed; texts no code can be are cut short."""
    return "".join(letter for letter in code[:64].lower() if letter.isalnum())
