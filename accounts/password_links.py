"""Links with which people choose a password: those who forgot theirs, and those who are invited (SEC-4).

A link is good once, for `PASSWORD_RESET_TIMEOUT` or `INVITATION_MAX_AGE` seconds, and until the person signs in or has
another address. It is made where it is sent: what travels there names the person only. Sending mail is for the floors
above, which hook it in by `send_with`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from urllib.parse import urlencode

import structlog
from django.conf import settings
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.http import base36_to_int

from accounts import asking, wall
from accounts.ids import uuid7
from accounts.models import User

log = structlog.get_logger(__name__)

BY_HAND = "No provider can send it: an operator makes the link with `manage.py resetlink {}` and hands it over."
"""What is told where no mail can be sent."""


class Purpose(StrEnum):
    """What a link is for."""

    RESET = "reset"
    INVITATION = "invitation"


Send = Callable[[uuid.UUID, Purpose, str], None]
"""Has the link of this person mailed, soon; the text is where the admin is reached, if no setting says it."""
CanSend = Callable[[User], bool]


class _Invitations(PasswordResetTokenGenerator):
    """As Django's, with a salt and an age of their own."""

    key_salt = "accounts.password_links.invitation"

    def check_token(self, user: User | None, token: str | None) -> bool:
        if user is None or not token:
            return False
        try:
            made = base36_to_int(token.partition("-")[0])
        except ValueError:
            return False
        secrets = (self.secret, *self.secret_fallbacks)
        genuine = [constant_time_compare(self._make_token_with_timestamp(user, made, one), token) for one in secrets]
        return any(genuine) and self._num_seconds(self._now()) - made <= settings.INVITATION_MAX_AGE


_TOKENS = {Purpose.RESET: PasswordResetTokenGenerator(), Purpose.INVITATION: _Invitations()}
_hooks: list[tuple[Send, CanSend]] = []


def send_with(send: Send, can_send: CanSend) -> None:
    """Have links mailed by `send`; once, when Django starts."""
    _hooks[:] = [(send, can_send)]


def link(user: User, purpose: Purpose, origin: str) -> str:
    """The address of the page where this person chooses a password. A secret: whoever has it is that person."""
    query = urlencode({"user": user.pk, "token": _TOKENS[purpose].make_token(user)})
    return f"{settings.WEB_PUBLIC_URL or origin}{reverse('admin:set_password')}?{query}"


def owner_of(user_id: object, token: str) -> User | None:
    """Whose link this is; None for one that is wrong, used or too old, or of somebody who may not sign in."""
    try:
        user = User.objects.filter(pk=uuid.UUID(str(user_id)), is_active=True).first()
    except (ValueError, ValidationError):
        return None
    if user is None or not any(tokens.check_token(user, token) for tokens in _TOKENS.values()):
        return None
    return user


def purpose_for(user: User) -> Purpose:
    """What a link would be for now: who has no password yet is invited."""
    return Purpose.RESET if user.has_usable_password() else Purpose.INVITATION


def origin_of(request: HttpRequest) -> str:
    """Where this request has reached the admin; links begin with it unless `WEB_PUBLIC_URL` says better. Raises
    DisallowedHost."""
    return f"{request.scheme}://{request.get_host()}"


def forgotten(email: str, client_ip: str | None, origin: str) -> None:
    """Have a link mailed to whoever has this address. The same is done, and takes as long, when nobody has it."""
    if not asking.may_ask(email, client_ip):
        log.warning("too many links for forgotten passwords asked for", client_ip=client_ip)
        return
    with wall.lifted():
        user = User.objects.filter(email__iexact=email.strip(), is_active=True).first()
    log.info("link for a forgotten password asked for", user_id=str(user.pk) if user else None, client_ip=client_ip)
    for send, _ in _hooks:
        send(user.pk if user else uuid7(), Purpose.RESET, origin)


def can_send(user: User) -> bool:
    """Whether there is a provider that mail to this person may go through."""
    with wall.lifted():
        return any(able(user) for _, able in _hooks)


def invite(user: User, origin: str) -> bool:
    """Have a link mailed to somebody who has no password yet, once the transaction is committed; whether there is a
    provider for it. Without one nothing is done, see BY_HAND."""
    if not can_send(user):
        return False
    for send, _ in _hooks:
        transaction.on_commit(partial(send, user.pk, Purpose.INVITATION, origin), robust=True)
    return True
