"""The provider types as people choose among them: name, what it is, and what has to be at hand (ADM-2)."""

from __future__ import annotations

from dataclasses import dataclass

from providers import registry

_TOLD: dict[str, tuple[str, str, str]] = {
    "smtp": ("SMTP server", "Any mail server or smarthost that takes mail by SMTP.", "Host name, port, mostly a login"),
    "msgraph": (
        "Microsoft Graph",
        "Mailboxes of Microsoft 365 (Exchange Online).",
        "An app registration with Mail.Send: directory id, client id, secret or certificate",
    ),
    "ses": ("Amazon SES", "Amazon's e-mail service, by its API v2.", "Region and an access key"),
    "sendgrid": ("SendGrid", "Twilio SendGrid, by its API v3.", "API key with the permission Mail Send"),
    "mailgun": ("Mailgun", "Mailgun by Sinch, US and EU.", "Sending key and domain"),
    "postmark": ("Postmark", "Transactional and broadcast mail by Postmark.", "Server API token"),
    "sparkpost": ("SparkPost", "SparkPost by Bird, US and EU.", "API key that may transmit"),
    "brevo": ("Brevo", "The service that was Sendinblue.", "API key (v3)"),
    "mailjet": ("Mailjet", "The EU service of Sinch.", "API key and secret key"),
    "resend": ("Resend", "The e-mail API of Resend.", "API key"),
    "mailersend": ("MailerSend", "Transactional mail by MailerLite.", "API token"),
    "mandrill": ("Mandrill", "Mailchimp Transactional.", "API key"),
    "postal": ("Postal", "A Postal server you run yourself.", "API key and the server's address"),
    "scaleway": ("Scaleway", "Scaleway Transactional Email.", "Secret key and project id"),
    "mailtrap": ("Mailtrap", "Mailtrap's sending service.", "API token"),
    "file": ("Folder", "A folder on this server, for trying out: nothing is sent.", "A directory"),
    "stdout": ("Standard output", "Prints messages, for trying out: nothing is sent.", "Nothing"),
}


@dataclass(frozen=True, slots=True)
class Card:
    """A type that may be chosen. `sandbox` delivers to nobody."""

    type: str
    name: str
    what: str
    needs: str
    sandbox: bool


def card(type_: str) -> Card:
    """Raises Misconfigured for a type nobody knows."""
    sandbox = registry.backend_class(type_).sandbox
    name, what, needs = _TOLD.get(type_, (registry.label(type_), "", ""))
    return Card(type_, name, what, needs, sandbox)


def name(type_: str) -> str:
    """What a type is called; itself where nobody knows it."""
    return _TOLD[type_][0] if type_ in _TOLD else type_
