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


def lines(provider: Provider) -> list[str]:
    """The address, and what is missing before anything sent there is taken; for types that have webhooks."""
    receiver = registry.receiver(provider.type, provider.config or {})
    found = [address(provider)]
    if not settings.WEB_PUBLIC_URL:
        found.append(UNKNOWN_TOLD)
    if receiver is not None and (missing := ", ".join(receiver.missing())):
        found.append(f"Nothing sent there is taken yet; missing: {missing}.")
    return found


def told(provider: Provider) -> str:
    """The lines as a page shows them."""
    if not has_webhook(provider.type):
        return "This type has no webhooks: that a provider of it took a message is the last that is known."
    return format_html_join("", "<div>{}</div>", ((line,) for line in lines(provider)))
