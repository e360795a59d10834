"""Signing in, the same at every door: password, then a code where there is a second factor (SEC-4, SEC-5).

The client is told of a refusal that it was refused, and nothing else: `Refused.code` is for log and audit. Two codes
may be told, since they are only reached with the right password: `code_wanted` and `second_factor_lacking`.
"""

from __future__ import annotations

import structlog
from django.contrib.auth import authenticate

from accounts import audit, lockout, second_factor
from accounts.lockout import Attempt, LockedOut
from accounts.models import User
from accounts.sessions import person_refusal

log = structlog.get_logger(__name__)

TOLD = "Address, password or code is wrong, or signing in is not possible at the moment."
NOBODY = "not signed in"
"""How the audit names who has not shown to be anybody."""


MOST_LETTERS = 1024
"""Of a password: more would only cost time."""


class Refused(Exception):
    """Not signed in. `code`: `unknown`, `wrong_password`, `wrong_code`, `locked_out`, `deactivated`,
    `network_not_allowed`, `code_wanted` or `second_factor_lacking`. `wait` is in seconds, of a lockout."""

    def __init__(self, code: str, wait: int = 0) -> None:
        super().__init__(code)
        self.code = code
        self.wait = wait


def sign_in(email: str, password: str, code: str, client_ip: str | None) -> User:
    """Both steps at once, for the API: who this is. Raises Refused.

    A session is for the caller to begin; he calls `welcome` when he has.
    """
    user = check_password(email, password, client_ip)
    if second_factor.of(user) is not None:
        if not code:
            raise Refused("code_wanted")
        check_code(user, code, client_ip)
    elif second_factor.lacking(user):
        raise Refused("second_factor_lacking")
    return user


def check_password(email: str, password: str, client_ip: str | None) -> User:
    """The first step: whose address and password these are. Raises Refused.

    Every refusal but that of a lockout takes the time of a check of a password.
    """
    attempt = _charge(email, client_ip)
    usable = "\0" not in email + password and len(email) <= 254 and len(password) <= MOST_LETTERS
    user = authenticate(None, username=email.strip(), password=password) if usable else None
    if not isinstance(user, User):
        known = User.objects.select_related("tenant").filter(email__iexact=email.strip()).first() if usable else None
        reason = "unknown" if known is None else "wrong_password" if known.is_active else "deactivated"
        raise _refused(attempt, known, reason, client_ip)
    reason = person_refusal(user, client_ip)
    if reason:
        raise _refused(attempt, user, reason, client_ip)
    if second_factor.of(user) is None:
        lockout.succeeded(attempt)
    else:
        lockout.forgive(attempt)  # failures are forgotten only with the code: else each password would buy new guesses
    return user


def check_code(user: User, code: str, client_ip: str | None) -> None:
    """The second step: a code of the app or a recovery code, which is used up. Raises Refused."""
    attempt = _charge(user.email, client_ip)
    reason = person_refusal(user, client_ip)
    if reason:
        raise _refused(attempt, user, reason, client_ip)
    how = second_factor.check(user, code)
    if not how:
        raise _refused(attempt, user, "wrong_code", client_ip)
    lockout.succeeded(attempt)
    if how == "recovery":
        left = len(user.second_factor.recovery_hashes) - 1
        audit.record(user, "user.recovery_code_used", user, {"left": left}, client_ip)


def check_own_password(user: User, password: str, client_ip: str | None) -> None:
    """Whether somebody who is signed in knows the password; guesses are counted as at the door. Raises Refused."""
    attempt = _charge(user.email, client_ip)
    if "\0" in password or len(password) > MOST_LETTERS or not user.check_password(password):
        raise _refused(attempt, user, "wrong_password", client_ip)
    lockout.forgive(attempt)


def welcome(user: User, where: str, client_ip: str | None) -> None:
    """Put the sign-in into log and audit; `where` is the kind of the session."""
    audit.record(user, "user.signed_in", user, {"where": str(where)}, client_ip)
    log.info("signed in", user_id=str(user.pk), where=str(where))


def _charge(email: str, client_ip: str | None) -> Attempt:
    try:
        return lockout.charge(email, client_ip)
    except LockedOut as error:
        log.warning("sign-in refused", reason="locked_out", wait=error.wait, client_ip=client_ip)
        raise Refused("locked_out", error.wait) from None


def _refused(attempt: Attempt, user: User | None, reason: str, client_ip: str | None) -> Refused:
    """The refusal, told in log and audit. An unknown address is not kept: it may be a password in the wrong line."""
    log.warning("sign-in refused", reason=reason, user_id=str(user.pk) if user else None, client_ip=client_ip)
    if user is not None:
        audit.record(NOBODY, "user.sign_in_refused", user, {"reason": reason}, client_ip)
        if attempt.locks:
            audit.record(NOBODY, "user.locked_out", user, {"seconds": attempt.locks}, client_ip)
    return Refused(reason)
