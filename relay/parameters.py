"""ESMTP parameters after a path (RFC 5321 §4.1.1.11)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PARAMETER = re.compile(r"(?P<keyword>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[^\x00-\x20=\x7f]+))?\Z")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+\Z")  # RFC 3461 §4


class BadParameter(ValueError):
    """A parameter is malformed, given twice, or has a value it may not have."""


class UnknownParameter(ValueError):
    """A parameter that is not announced."""


@dataclass(frozen=True, slots=True)
class MailParameters:
    """What MAIL FROM may say: the size the client expects (octets) and whether addresses are internationalised.

    BODY and AUTH are checked for form only: 8-bit text is taken whether announced or not, and who sent the mail to
    our client makes no difference here.
    """

    size: int | None = None
    smtputf8: bool = False


def split(text: str) -> dict[str, str | None]:
    """Keywords in upper case with their values. Raises BadParameter."""
    found: dict[str, str | None] = {}
    for word in text.split():
        match = _PARAMETER.match(word)
        if match is None or match["keyword"].upper() in found:
            raise BadParameter(word)
        found[match["keyword"].upper()] = match["value"]
    return found


def for_mail(text: str) -> MailParameters:
    """The parameters of MAIL. Raises BadParameter or UnknownParameter."""
    found = split(text)
    size: int | None = None
    smtputf8 = False
    for keyword, value in found.items():
        if keyword == "SIZE":
            if value is None or not (value.isascii() and value.isdigit()) or len(value) > 20:
                raise BadParameter(keyword)
            size = int(value)
        elif keyword == "BODY":
            if value is None or value.upper() not in ("7BIT", "8BITMIME"):
                raise BadParameter(keyword)
        elif keyword == "SMTPUTF8":
            if value is not None:
                raise BadParameter(keyword)
            smtputf8 = True
        elif keyword == "AUTH":
            if value is None or not (value == "<>" or _XTEXT.match(value)):
                raise BadParameter(keyword)
        else:
            raise UnknownParameter(keyword)
    return MailParameters(size=size, smtputf8=smtputf8)
