"""Issue and verify every secret: SMTP passwords and API keys both come here (SMTP-4, SMTP-5, SEC-3)."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db.models import Value
from django.db.models.functions import Lower

from accounts import password_hashes
from accounts.api_keys import KeyIdentity, issue_api_key, revoke_api_key, rotate_api_key, verify_api_key
from accounts.generated import generate, note_use
from accounts.identity import AuthenticationFailed, Identity, identity_of, refusal, sender_allowed
from accounts.models import Account
from accounts.network_accounts import forget_network_accounts, identify_by_network

__all__ = (
    "AuthenticationFailed",
    "Identity",
    "KeyIdentity",
    "forget_cached",
    "identify_by_network",
    "issue_api_key",
    "issue_password",
    "revoke_api_key",
    "rotate_api_key",
    "sender_allowed",
    "set_password",
    "verify",
    "verify_again",
    "verify_api_key",
)

MAX_PASSWORD_LENGTH = 1024
_PROOF_KEY = os.urandom(32)


def issue_password(account: Account) -> str:
    """Give the account a new password of 190 random bits and return it: it cannot be shown again.

    The old password ends at once.
    """
    password = generate(32)
    account.password_hash = password_hashes.hash_generated(password)
    account.save(update_fields=["password_hash", "updated_at"])
    return password


def set_password(account: Account, chosen: str) -> None:
    """Give the account a password somebody chose; raises ValidationError for a weak or unusable one."""
    if not _usable(chosen):
        raise ValidationError("A password has at most 1024 characters and no NUL.", code="unusable_password")
    validate_password(chosen)
    account.password_hash = password_hashes.hash_chosen(chosen)
    account.save(update_fields=["password_hash", "updated_at"])


def verify(username: str, password: str, client_ip: str | None) -> Identity:
    """The account these credentials belong to; blocks on database and hashing, so call it from a thread.

    Raises AuthenticationFailed with code `unknown_account`, `wrong_password`, `account_suspended`,
    `tenant_suspended` or `network_not_allowed`, after the same time whichever it was: every refusal has paid for
    exactly one argon2 check, so that its time does not tell which accounts exist or how their password is kept.
    """
    account = _account_named(username)
    reason = "unknown_account" if account is None else refusal(account, client_ip)
    if account is None or reason:
        password_hashes.waste_a_check()
        raise AuthenticationFailed(reason)
    if not _password_is_right(account, password):
        raise AuthenticationFailed("wrong_password")
    _renew_hash(account, password)
    note_use(Account.objects.filter(pk=account.pk), account.last_used_at)
    return _signed_in(account)


def verify_again(identity: Identity, client_ip: str | None) -> Identity:
    """Who this is now, for a session that signed in some time ago; blocks on the database.

    Raises AuthenticationFailed when it would not be let in any more: with the codes of `verify`, or
    `password_changed`, also where only the way in which the password is kept has changed.
    """
    account = Account.objects.select_related("tenant").filter(pk=identity.account_id).first()
    reason = "unknown_account" if account is None else refusal(account, client_ip)
    if account is None or reason:
        raise AuthenticationFailed(reason)
    now = _signed_in(account)
    if now.proof != identity.proof:
        raise AuthenticationFailed("password_changed")
    return now


def _signed_in(account: Account) -> Identity:
    proof = hashlib.blake2b(account.password_hash.encode(), digest_size=16, key=_PROOF_KEY).hexdigest()
    return replace(identity_of(account), proof=proof)


def _account_named(username: str) -> Account | None:
    if not _usable(username):
        return None
    # Both sides are folded by the database, whose notion of lower case is the one the unique constraint uses.
    named = Account.objects.alias(folded=Lower("username")).filter(folded=Lower(Value(username)))
    return named.select_related("tenant").first()


def _usable(text: str) -> bool:
    """Whether database and hash functions take this text at all; what a client sends may hold anything."""
    if len(text) > MAX_PASSWORD_LENGTH or "\0" in text:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _password_is_right(account: Account, password: str) -> bool:
    if not _usable(password):
        password_hashes.waste_a_check()
        return False
    right = password_hashes.matches(password, account.password_hash)
    if not right and not password_hashes.is_slow(account.password_hash):
        password_hashes.waste_a_check()
    return right


def _renew_hash(account: Account, password: str) -> None:
    renewed = password_hashes.renewed(password, account.password_hash)
    if renewed:
        # Only over what was just verified: a password changed meanwhile stays changed.
        unchanged = Account.objects.filter(pk=account.pk, password_hash=account.password_hash)
        if unchanged.update(password_hash=renewed):
            account.password_hash = renewed


def forget_cached() -> None:
    """Drop all that this process remembers; the next question is answered from the database."""
    forget_network_accounts()
    password_hashes.forget_verified()
