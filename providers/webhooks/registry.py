"""Provider type → receiver of its webhooks. A type that is not here has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from django.utils.module_loading import import_string

from providers.webhooks.receiver import Receiver

_PATHS: dict[str, str] = {
    "sendgrid": "providers.webhooks.sendgrid.SendGridReceiver",
    "ses": "providers.webhooks.ses.SesReceiver",
    "mailgun": "providers.webhooks.mailgun.MailgunReceiver",
    "postmark": "providers.webhooks.postmark.PostmarkReceiver",
    "sparkpost": "providers.webhooks.sparkpost.SparkPostReceiver",
    "brevo": "providers.webhooks.brevo.BrevoReceiver",
    "mailjet": "providers.webhooks.mailjet.MailjetReceiver",
    "resend": "providers.webhooks.resend.ResendReceiver",
    "mailersend": "providers.webhooks.mailersend.MailerSendReceiver",
    "mandrill": "providers.webhooks.mandrill.MandrillReceiver",
    "mailtrap": "providers.webhooks.mailtrap.MailtrapReceiver",
    "postal": "providers.webhooks.postal.PostalReceiver",
}


def types() -> tuple[str, ...]:
    return tuple(_PATHS)


def receiver_class(type_: str) -> type[Receiver] | None:
    return cast(type[Receiver], import_string(_PATHS[type_])) if type_ in _PATHS else None


def receiver(type_: str, config: Mapping[str, Any]) -> Receiver | None:
    """What takes the webhooks of a row of this type; None when the type has no webhooks."""
    found = receiver_class(type_)
    return found(config) if found is not None else None
