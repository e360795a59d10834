"""What a provider's page in the admin says of its webhook."""

from __future__ import annotations

from django.conf import settings
from django.urls import reverse
from django.utils.html import format_html_join

from providers.models import Provider
from providers.webhooks import registry


def has_webhook(type_: str) -> bool:
    return registry.receiver_class(type_) is not None


UNKNOWN = "<this server>"
UNKNOWN_TOLD = (
    "In place of <this server> comes the name by which the world reaches this web; it is shown here once the "
    "platform operator has set WEB_PUBLIC_URL."
)


def address(provider: Provider) -> str:
    """Where the service is to send its events, as the world sees us."""
    origin = settings.WEB_PUBLIC_URL or f"https://{UNKNOWN}"
    return origin + reverse("webhook", args=[provider.pk])


def told(provider: Provider) -> str:
    """The address, and what is missing before anything sent there is taken."""
    receiver = registry.receiver(provider.type, provider.config or {})
    if receiver is None:
        return "This type has no webhooks: that a provider of it took a message is the last that is known."
    lines = [address(provider)]
    if not settings.WEB_PUBLIC_URL:
        lines.append(UNKNOWN_TOLD)
    if missing := ", ".join(receiver.missing()):
        lines.append(f"Nothing sent there is taken yet; missing: {missing}.")
    return format_html_join("", "<div>{}</div>", ((line,) for line in lines))
