"""`/webhooks/<provider id>/`: where providers tell what became of mail (EVT-1).

200 only after the commit; 403 for whom we do not believe, 400 for what we do not understand, 503 for our own trouble,
so that the service sends again. What is not there is 404, and says no more than that.
"""

from __future__ import annotations

import uuid

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from accounts.crypto import DecryptionError
from delivery import callbacks
from providers.models import Provider
from providers.webhooks import registry
from providers.webhooks.contract import WebhookRefused, WebhookRequest
from providers.webhooks.receiver import Receiver

log = structlog.get_logger(__name__)

MAX_BODY = 8 * 1024 * 1024
"""Octets of one call. The largest batches of the services stay far below."""


@csrf_exempt
def webhook(request: HttpRequest, provider_id: str) -> HttpResponse:
    """One call by a provider. HEAD and GET are how some of them see whether the address is there."""
    try:
        return _answer(request, provider_id)
    except WebhookRefused as refusal:
        if refusal.status != 404:
            log.warning("webhook refused", provider_id=provider_id[:36], status=refusal.status, reason=refusal.text)
        return _text(refusal.status, refusal.text)
    except callbacks.TooManyEarly:
        log.error("webhook put off: too many events wait for their messages", provider_id=provider_id)
    except (DatabaseError, InterfaceError, DecryptionError) as error:
        log.error("webhook put off", provider_id=provider_id, error=type(error).__name__)
    except Exception:
        log.exception("webhook put off", provider_id=provider_id)
    return _text(503, "Try again later.", {"Retry-After": "60"})


def _answer(request: HttpRequest, provider_id: str) -> HttpResponse:
    pk, receiver = _receiver(provider_id)
    if request.method in {"GET", "HEAD"}:
        return _text(200, "This is a webhook.")
    if request.method != "POST":
        return _text(405, "Use POST.", {"Allow": "GET, HEAD, POST"})
    callbacks.take(pk, receiver.receive(_told(request)))
    return _text(200, "Thank you.")


def _receiver(provider_id: str) -> tuple[uuid.UUID, Receiver]:
    """Raises WebhookRefused (404) in one way for whatever is not there."""
    try:
        pk = uuid.UUID(provider_id)
    except ValueError:
        raise WebhookRefused(404, "There is no such webhook.") from None
    # One that is switched off sends no more, but mail it has taken may still bounce.
    provider = Provider.objects.filter(pk=pk).first()
    receiver = registry.receiver(provider.type, provider.config or {}) if provider is not None else None
    if receiver is None:
        raise WebhookRefused(404, "There is no such webhook.")
    return pk, receiver


def _told(request: HttpRequest) -> WebhookRequest:
    try:
        body = request.read(MAX_BODY + 1)
    except (UnreadablePostError, OSError):
        raise WebhookRefused(400, "The body was not received in full.") from None
    if len(body) > MAX_BODY:
        raise WebhookRefused(413, "The body is too large.")
    origin = settings.WEB_PUBLIC_URL or f"{request.scheme}://{request.get_host()}"
    return WebhookRequest(
        method=request.method or "",
        headers={name.lower(): value for name, value in request.headers.items()},
        body=body,
        url=origin + request.get_full_path(),
        query=request.META.get("QUERY_STRING", ""),
        remote_address=request.META.get("REMOTE_ADDR", ""),
    )


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> HttpResponse:
    return HttpResponse(text + "\n", status=status, content_type="text/plain; charset=utf-8", headers=headers)
