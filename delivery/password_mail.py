"""The mail with a link to choose a password: handed straight to a provider, and kept nowhere (SEC-4, SEC-8).

As a message of the tenant it could be read by whoever may read bodies there. Neither task, log nor audit has the link:
it is made when the letter is written.
"""

from __future__ import annotations

import uuid
from itertools import chain

import structlog
from django.conf import settings

from accounts import audit, password_links
from accounts.models import Account, User
from accounts.password_links import Purpose
from delivery import queue, routing
from delivery.own_mail import reachable
from providers import trial
from providers.models import Provider

log = structlog.get_logger(__name__)

ACTOR = "mail to choose a password"
MOST_TRIED = 3
"""Providers one after the other; each may take as long as a trial does."""

_LETTERS = {
    Purpose.RESET: (
        "Choose a new password",
        "Somebody, probably you, has forgotten the password of {email}. Choose a new one here:\n\n{link}\n\n"
        "The link is good once, for {time}. If it was not you, do nothing: your password stays as it is.\n",
    ),
    Purpose.INVITATION: (
        "Your invitation to smtpproxy",
        "You are invited to sign in{where} as {email}. Choose a password here:\n\n{link}\n\n"
        "The link is good once, for {time}. After that, whoever invited you can send another.\n",
    ),
}


def ring(user_id: uuid.UUID, purpose: Purpose, origin: str) -> None:
    """Have a worker send it. Never raises: the person asks again."""
    try:
        queue.ring_password_link(user_id, purpose.value, origin)
    except queue.RingFailed as error:
        log.error("link to choose a password not rung for", user_id=str(user_id), error=str(error))


def can_send(user: User) -> bool:
    """Whether there is a provider for it."""
    return bool(providers_for(user))


def providers_for(user: User) -> list[Provider]:
    """Those the mail may go through, in order: the defaults of the person's tenant, then the platform's.

    To owners the platform's go first: an admin of the tenant can see what passes through one that he has set up, and
    has no power over owners (SEC-1).
    """
    shared = Provider.objects.defer("config").filter(tenant=None, enabled=True, default_rank__isnull=False)
    common = list(shared.order_by("default_rank", "name"))
    own = [] if user.tenant is None else list(routing.load(user.tenant).defaults)
    order = chain(common, own) if user.role == User.Role.OWNER else chain(own, common)
    return list({provider.pk: provider for provider in order}.values())


def send(user_id: str, purpose: str, origin: str) -> None:
    """Send it through the first provider that takes it. What cannot be sent is told in log and audit."""
    try:
        key, wanted = uuid.UUID(user_id), Purpose(purpose)
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("unknown payload dropped", error=type(error).__name__)
        return
    user = User.objects.select_related("tenant").filter(pk=key, is_active=True).first()
    if user is None or (wanted is Purpose.INVITATION and user.has_usable_password()):
        return  # nobody has the address that was asked for, or the password is chosen meanwhile
    for provider in providers_for(user)[:MOST_TRIED]:
        tried = trial.send_letter(provider, _letter(user, wanted, origin))
        if tried.good:
            audit.record(ACTOR, "user.password_link_sent", user, {"purpose": purpose, "provider": provider.name})
            return
        log.warning("link not taken", user_id=user_id, provider_id=str(provider.pk), code=tried.code)
    log.error("link to choose a password not sent", user_id=user_id, purpose=purpose)
    audit.record(ACTOR, "user.password_link_not_sent", user, {"purpose": purpose})


def _letter(user: User, purpose: Purpose, origin: str) -> trial.Letter:
    subject, text = _LETTERS[purpose]
    seconds = settings.PASSWORD_RESET_TIMEOUT if purpose is Purpose.RESET else settings.INVITATION_MAX_AGE
    text = text.format(
        email=user.email,
        where=f" for {user.tenant}" if user.tenant else "",
        link=password_links.link(user, purpose, origin),
        time=_time(seconds),
    )
    return trial.Letter(sender_for(user), reachable(user.email), subject, text)


def sender_for(user: User) -> str:
    """An address the providers should take mail from: one for all, or in a domain the tenant sends from."""
    if settings.NOTICE_FROM:
        return str(settings.NOTICE_FROM)
    patterns = Account.objects.filter(tenant=user.tenant_id).order_by("pk").values_list("allowed_senders", flat=True)
    domains = (one for listed in patterns[:20] for one in listed if isinstance(one, str) and one.isascii())
    own = next((one for one in domains if user.tenant_id and not one.startswith("*")), settings.SMTP["HOSTNAME"])
    return f"no-reply@{own}"


def _time(seconds: int) -> str:
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return f"{seconds} seconds"
