"""The settings by which a row knows its own service's webhooks. Backends name them among their `config_fields`.

A row without them refuses every webhook: nothing is trusted that cannot be checked.
"""

from __future__ import annotations

from providers.base import ConfigField
from providers.webhooks import keys

_USERNAME = ConfigField(
    "webhook_username",
    "Webhook user name",
    default="smtpproxy",
    help="Put into the webhook's address at the service: https://USER:PASSWORD@…",
)
_PASSWORD = ConfigField(
    "webhook_password",
    "Webhook password",
    kind="secret",
    help="Choose a long one. Without it no webhook of this provider is taken.",
)
SHARED_SECRET = (_USERNAME, _PASSWORD)
"""For services that do not sign what they send: Postmark, Mailjet, Brevo, SparkPost."""


def _signing_secret(help_: str) -> tuple[ConfigField, ...]:
    return (ConfigField("webhook_signing_key", "Webhook signing key", kind="secret", help=help_),)


_NEEDED = "Without it no webhook of this provider is taken."
SENDGRID = (
    ConfigField(
        "webhook_verification",
        "Webhook verification key",
        kind="text",
        check=keys.elliptic,
        help=f"Settings, Mail Settings, Event Webhook, Signature verification. {_NEEDED}",
    ),
)
POSTAL = (
    ConfigField(
        "webhook_verification",
        "Webhook public key",
        kind="text",
        check=keys.rsa_key,
        help=f"The key of the Postal installation (postal default-dkim-record, p=…). {_NEEDED}",
    ),
)
SES = (
    ConfigField(
        "webhook_topics",
        "SNS topics",
        kind="text",
        check=keys.topics,
        help=f"ARNs of the topics that tell of this account's mail, one a line. {_NEEDED}",
    ),
)
MAILGUN = _signing_secret(f"HTTP webhook signing key of the account, under API security. {_NEEDED}")
RESEND = _signing_secret(f"Signing secret of the webhook, beginning with whsec_. {_NEEDED}")
MAILERSEND = _signing_secret(f"Signing secret of the webhook. {_NEEDED}")
MANDRILL = _signing_secret(f"Key of the webhook, shown in the list of webhooks. {_NEEDED}")
MAILTRAP = _signing_secret(f"Signature of the webhook. {_NEEDED}")
