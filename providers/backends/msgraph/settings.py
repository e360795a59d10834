"""The settings of a row of type msgraph."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

from providers.backends.msgraph import mailboxes
from providers.backends.msgraph.token import Application
from providers.base import ConfigField
from providers.exceptions import BadSettings

_PEM = re.compile(r"-----BEGIN ((?:RSA |EC )?PRIVATE KEY)-----(.+?)-----END \1-----")


def _tenant(text: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9.-]{1,255}", text):
        raise ValueError("must be the directory's id, or one of its domains")


def _thumbprint(text: str) -> None:
    if not re.fullmatch(r"[0-9A-Fa-f]{40}", text):
        raise ValueError("must be the 40 hexadecimal digits that Entra shows beside the certificate")


def _mailbox(text: str) -> None:
    if re.search(r"[\s/?#<>,;]", text):
        raise ValueError("must be an address, or the id of a user")


FIELDS = (
    ConfigField("tenant_id", "Directory (tenant) ID", required=True, check=_tenant),
    ConfigField("client_id", "Application (client) ID", required=True),
    ConfigField("client_secret", "Client secret", kind="secret", help="The value, not the id. Or a certificate below."),
    ConfigField("certificate_key", "Private key of a certificate", kind="secret", help="PEM, without a passphrase."),
    ConfigField("thumbprint", "Thumbprint of that certificate", check=_thumbprint, help="As Entra shows it."),
    ConfigField(
        "mailbox", "Mailbox", check=_mailbox, help="Also a shared one. Empty: the mailbox of the address in From."
    ),
    ConfigField(
        "mailboxes",
        "Mailbox by sender",
        kind="text",
        check=mailboxes.parse,
        help="Lines such as invoices@example.com = billing@example.com, or @example.com = office@example.com.",
    ),
    ConfigField(
        "save_to_sent_items",
        "Keep a copy in Sent Items",
        kind="bool",
        default=True,
        help="Without it, only signed, encrypted, calendar and report messages go out byte for byte.",
    ),
    ConfigField(
        "exactly_once",
        "Every message by draft",
        kind="bool",
        default=False,
        help="Each message has an id and is never sent twice; takes three requests instead of one, and Mail.ReadWrite.",
    ),
    ConfigField(
        "bcc_header",
        "Name blind copies in a Bcc header",
        kind="bool",
        default=False,
        help="Lets messages with blind copies go out byte for byte; Exchange takes the header out.",
    ),
    ConfigField(
        "max_message_mb",
        "Largest message, MB",
        kind="int",
        default=35,
        low=1,
        high=150,
        help="What the mailboxes may send; 35 unless the Exchange administrator has changed it.",
    ),
    ConfigField(
        "base_url",
        "Base URL",
        default="https://graph.microsoft.com/v1.0",
        help="https://graph.microsoft.us/v1.0 and others for national clouds.",
    ),
    ConfigField(
        "login_url",
        "Sign-in URL",
        help="Empty: that of the cloud the base URL lies in; where that is none of Microsoft's, the base URL's host.",
    ),
)


def application(config: Mapping[str, Any]) -> Application:
    """The application of a row. Raises BadSettings when it has no credential, or half of one."""
    secret, key, thumbprint = (config[name] or "" for name in ("client_secret", "certificate_key", "thumbprint"))
    if secret and (key or thumbprint):
        raise BadSettings({"client_secret": "must be empty with a certificate"})
    if secret:
        return Application(config["tenant_id"], config["client_id"], secret)
    if not key and not thumbprint:
        raise BadSettings({"client_secret": "required, or a certificate"})
    if not thumbprint:
        raise BadSettings({"thumbprint": "required with a certificate"})
    return Application(config["tenant_id"], config["client_id"], {"private_key": _pem(key), "thumbprint": thumbprint})


def _pem(text: str) -> str:
    """The key with the line ends that are lost in a field of one line."""
    match = _PEM.search(text)
    if match is None:
        raise BadSettings({"certificate_key": "must be a private key as PEM text, without a passphrase"})
    lines = textwrap.wrap("".join(match[2].split()), 64)
    return "\n".join([f"-----BEGIN {match[1]}-----", *lines, f"-----END {match[1]}-----", ""])
