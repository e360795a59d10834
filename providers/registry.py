"""Provider type → backend. A new type is one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from django.utils.module_loading import import_string

from providers.base import Backend
from providers.exceptions import BadSettings, Misconfigured

_PATHS: dict[str, str] = {
    "sendgrid": "providers.backends.sendgrid.SendGridBackend",
    "postmark": "providers.backends.postmark.PostmarkBackend",
    "brevo": "providers.backends.brevo.BrevoBackend",
    "mailjet": "providers.backends.mailjet.MailjetBackend",
    "resend": "providers.backends.resend.ResendBackend",
    "mailersend": "providers.backends.mailersend.MailerSendBackend",
    "mandrill": "providers.backends.mandrill.MandrillBackend",
    "mailgun": "providers.backends.mailgun.MailgunBackend",
    "ses": "providers.backends.ses.SesBackend",
    "msgraph": "providers.backends.msgraph.backend.MsGraphBackend",
    "sparkpost": "providers.backends.sparkpost.SparkPostBackend",
    "postal": "providers.backends.postal.PostalBackend",
    "scaleway": "providers.backends.scaleway.ScalewayBackend",
    "mailtrap": "providers.backends.mailtrap.MailtrapBackend",
    "smtp": "providers.backends.smtp.SmtpBackend",
    "file": "providers.backends.file.FileBackend",
    "stdout": "providers.backends.stdout.StdoutBackend",
    "memory": "providers.backends.memory.MemoryBackend",
}
_LABELS: dict[str, str] = {
    "ses": "Amazon SES",
    "msgraph": "Microsoft Graph (Exchange Online)",
    "smtp": "any SMTP server",
    "file": "a folder on this server, for trying out",
    "stdout": "standard output, for trying out",
}
"""What a type is, where its name does not say so."""
_FOR_TESTS = frozenset({"memory"})


def types() -> tuple[str, ...]:
    """The types people may choose; the one that only tests use is not among them."""
    return tuple(type_ for type_ in _PATHS if type_ not in _FOR_TESTS)


def offered(*, by_operator: bool) -> tuple[str, ...]:
    """The types this person may add; those that act on our own machine are the operator's."""
    return tuple(type_ for type_ in types() if by_operator or not backend_class(type_).sandbox)


def label(type_: str) -> str:
    """The type as people are offered it."""
    told = _LABELS.get(type_)
    return f"{type_}: {told}" if told else type_


def backend_class(type_: str) -> type[Backend]:
    """The backend of a type. Raises Misconfigured for a type nobody knows."""
    try:
        path = _PATHS[type_]
    except KeyError:
        raise Misconfigured(f"There is no provider type {type_!r}.", code="unknown_type") from None
    return cast(type[Backend], import_string(path))


def connect(type_: str, config: Mapping[str, Any], timeout: float = 30.0, *, shared: bool = False) -> Backend:
    """A backend made from decrypted settings; connections are opened when the first message needs one.

    `shared` is True for the platform's own rows, which may use what is `reserved`. Raises Misconfigured for an
    unknown type or settings that cannot work.
    """
    cls = backend_class(type_)
    backend = cls(config, timeout=timeout)
    if not shared and (problems := cls.reserved(config)):
        raise BadSettings(problems)
    return backend
