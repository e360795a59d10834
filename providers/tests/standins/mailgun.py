"""Mailgun /v3/{domain}/messages and messages.mime: the published schema, and the error texts of its documentation."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import getaddresses
from typing import Any

import pytest

from providers.tests.standins.http import SHARED, Accepted, File, Refused, StandIn, valid_address

DOMAIN = "mg.acme.test"
MAX_SIZE = 25 * 1024 * 1024


@dataclass
class Field:
    """A part of a form; `filename` is None for what is no file."""

    name: str
    content: bytes
    filename: str | None = None
    content_type: str = "text/plain"

    @property
    def text(self) -> str:
        return self.content.decode("utf-8")


class MailgunStandIn(StandIn):
    """Mailgun asks nothing about the sender; `bad_recipients` are no valid addresses to it, and it names none."""

    type = "mailgun"
    path = f"/v3/{DOMAIN}/messages"
    content_type = "multipart/form-data"
    credential = "api_key"

    def prepare(self) -> None:
        self.bad_recipients: set[str] = set()
        self.domain_state = "active"
        path = SHARED / "esp" / "mailgun.json"
        if not path.exists():
            pytest.skip(f"the vendors' request schemas are not there: {path}")
        self.known = {
            endpoint["path"].rpartition("/")[2]: endpoint["request"]["multipart/form-data"]["schema"]["properties"]
            for endpoint in json.loads(path.read_text())["endpoints"]
        }

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path, self.path + ".mime")

    def config(self, key: str | None = None, **more: Any) -> dict[str, Any]:
        return super().config(key, **{"domain": DOMAIN, **more})

    def read(self, body: bytes, headers: Mapping[str, str], path: str) -> Any:
        match = re.search(r'boundary="?([^";]+)"?', headers.get("Content-Type", ""))
        if not match:
            raise ValueError("no boundary")
        return path.rpartition("/")[2], parse_form(body, match[1].encode())

    def authorized(self, headers: Mapping[str, str], payload: Any) -> str | None:
        scheme, _, login = headers.get("Authorization", "").partition(" ")
        try:
            user, _, key = base64.b64decode(login, validate=True).decode().partition(":")
        except ValueError:
            return None
        return key if (scheme, user) == ("Basic", "api") and key in self.keys else None

    def error(self, status: int) -> Any:
        return b"Forbidden" if status == 401 else {"message": f"error {status}"}

    def show(self, path: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if not self.authorized(headers, None):
            raise Refused(401, self.error(401))
        if path != f"/v4/domains/{DOMAIN}":
            raise Refused(404, {"message": "Domain not found"})
        return 200, {"domain": {"name": DOMAIN, "state": self.domain_state, "type": "custom"}}, {}

    def take(self, payload: Any, key: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        endpoint, fields = payload
        self._check(self.known[endpoint], fields)
        if sum(len(field.content) for field in fields) > MAX_SIZE:
            raise Refused(413, b"")
        mail = self._mime(fields, key) if endpoint == "messages.mime" else self._structured(fields, key)
        if len(mail.recipients) > 1000:
            raise _bad("Too many recipients; max is 1000")
        mail.id = mail.id or f"<{uuid.uuid4()}@{DOMAIN}>"
        self.accepted.append(mail)
        return 200, {"id": mail.id, "message": "Queued. Thank you."}, {}

    def _check(self, known: Mapping[str, Any], fields: list[Field]) -> None:
        options = 0
        for field in fields:
            prefix = field.name[:2]
            if field.name not in known and prefix not in {"h:", "v:"}:
                raise _bad(f"unknown parameter {field.name}")
            rule = known.get(field.name, {"type": "string"})
            binary = rule.get("format") == "binary" or rule.get("items", {}).get("format") == "binary"
            if binary != (field.filename is not None):
                raise _bad(f"'{field.name}' parameter is {'not a' if binary else 'a'} file")
            if not binary and "enum" in rule and field.text not in rule["enum"]:
                raise _bad(f"'{field.name}' parameter is not valid")
            if prefix in {"o:", "h:", "v:"}:
                options += len(field.name) + len(field.content)
            if prefix == "h:" and not re.fullmatch(r"[!-9;-~]+", field.name[2:]):
                raise _bad(f"Header name must be pure ASCII: {field.name[2:]}")
        if options > 16 * 1024:
            raise _bad("Send options (parameters starting with o:, h:, or v:) are limited to 16 kB total")

    def _recipients(self, fields: list[Field], name: str) -> list[str]:
        addresses = [a for _, a in getaddresses([f.text for f in fields if f.name == name])]
        for address in addresses:
            if not valid_address(address) or address in self.bad_recipients:
                raise _bad(f"'{name}' parameter is not a valid address. please check documentation")
        return addresses

    def _mime(self, fields: list[Field], key: str) -> Accepted:
        to, files = self._recipients(fields, "to"), [field for field in fields if field.name == "message"]
        if not to:
            raise _bad("to parameter is missing")
        if len(files) != 1:
            raise _bad("message parameter is missing")
        raw = files[0].content
        found = re.search(rb"^message-id:\s*(<[^>\s]+>)", raw.partition(b"\r\n\r\n")[0], re.IGNORECASE | re.MULTILINE)
        mail = Accepted(key, _plain(fields), "", to, [], [], "", None, None, id=found[1].decode() if found else "")
        mail.data = raw
        return mail

    def _structured(self, fields: list[Field], key: str) -> Accepted:
        single = {field.name: field.text for field in fields if field.filename is None}
        for name in ("from", "to", "subject"):
            if name not in single:
                raise _bad(f"{name} parameter is missing")
        sender = getaddresses([single["from"]])[0][1]
        if not valid_address(sender):
            raise _bad("from parameter is not a valid address. please check documentation")
        if not single.get("text") and not single.get("html"):
            raise _bad("Need at least one of 'text', 'html', 'amp-html' or 'template' parameters specified")
        lists = {name: self._recipients(fields, name) for name in ("to", "cc", "bcc")}
        return Accepted(
            key,
            _plain(fields),
            sender,
            **lists,
            subject=single["subject"],
            text=single.get("text"),
            html=single.get("html"),
            files=[_file(field) for field in fields if field.name in {"attachment", "inline"}],
            headers={name[2:]: value for name, value in single.items() if name[:2] == "h:"},
        )


def parse_form(body: bytes, boundary: bytes) -> list[Field]:
    """The parts of a multipart/form-data body, read strictly (RFC 7578, RFC 2046 §5.1). Raises ValueError."""
    delimiter = b"\r\n--" + boundary
    pieces = (b"\r\n" + body).split(delimiter)
    if len(pieces) < 2 or pieces[0] or pieces[-1] not in {b"--", b"--\r\n"}:
        raise ValueError("no form")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> Field:
    head, separator, content = piece.partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"\r\n"):
        raise ValueError("a part without header")
    headers = dict(line.split(": ", 1) for line in head[2:].decode("utf-8").split("\r\n"))
    match = re.fullmatch(r'form-data; name="([^"\\]+)"(?:; filename="([^"\\/]*)")?', headers["Content-Disposition"])
    if not match:
        raise ValueError("a part without name")
    return Field(match[1], content, match[2], headers.get("Content-Type", "text/plain"))


def _plain(fields: list[Field]) -> dict[str, list[str]]:
    plain: dict[str, list[str]] = {}
    for field in fields:
        if field.filename is None:
            plain.setdefault(field.name, []).append(field.text)
    return plain


def _file(field: Field) -> File:
    if not field.filename or not field.content:
        raise _bad(f"'{field.name}' parameter is not a file")
    cid = field.filename if field.name == "inline" else ""
    return File(field.filename, field.content_type.partition(";")[0], field.content, cid)


def _bad(message: str) -> Refused:
    return Refused(400, {"message": message})
