"""One way to run any provider type against its stand-in, for tests that hold for all of them."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from providers import registry
from providers.backends.memory import MemoryBackend
from providers.base import Backend
from providers.tests import standins
from providers.tests.standins import Accepted, SmtpSink, StandIn

# A type that sends in more than one way is here once for each way, under its name and what is special: "mailgun
# structured". `OPTIONS` holds the settings for it.
SERVICES: dict[str, type[StandIn]] = {
    cls.type: cls
    for cls in (
        standins.SendGridStandIn,
        standins.PostmarkStandIn,
        standins.BrevoStandIn,
        standins.MailjetStandIn,
        standins.ResendStandIn,
        standins.MailerSendStandIn,
        standins.MandrillStandIn,
        standins.GraphStandIn,
        standins.PostalStandIn,
        standins.ScalewayStandIn,
        standins.MailtrapStandIn,
    )
} | {"mailgun structured": standins.MailgunStandIn, "ses simple": standins.SesStandIn}
"""Services with an HTTP API that write the message anew."""
RAW_SERVICES: dict[str, type[StandIn]] = {
    cls.type: cls for cls in (standins.MailgunStandIn, standins.SesStandIn, standins.SparkPostStandIn)
}
"""Services with an HTTP API that take the message as it is."""
HTTP: dict[str, type[StandIn]] = {**SERVICES, **RAW_SERVICES}
MIXED: dict[str, type[StandIn]] = {"ses auto": standins.SesStandIn}
"""Ways of a service that take some messages as they are and write others anew; only the table of verdicts uses them."""
OPTIONS: dict[str, dict[str, Any]] = {
    "mailgun structured": {"format": "structured"},
    "ses": {"format": "raw"},
    "ses simple": {"format": "simple"},
}
RAW = (*RAW_SERVICES, "smtp", "file", "stdout", "memory")
TYPES = (*SERVICES, *RAW)
KEYS = ("key-of-acme-0123456789", "key-of-globex-9876543210")


@dataclass
class Raw:
    """One message that arrived as bytes."""

    key: str
    recipients: list[str]
    data: bytes


class Rig:
    """A provider type with its stand-in: makes backends for keys, and shows what arrived."""

    def __init__(self, name: str, directory: Path, capture: io.StringIO) -> None:
        self.name, self.type = name, type_of(name)
        self.directory, self.capture = directory, capture
        self.service: Any = None
        self.open: list[Backend] = []

    @property
    def raw(self) -> bool:
        return self.name in RAW

    def config(self, key: str = KEYS[0]) -> dict[str, Any]:
        match self.type:
            case "file":
                return {"directory": str(self.directory / key)}
            case "stdout":
                return {}
            case "memory":
                return {"box": key, "password": key}
            case "smtp":
                return self.service.config(username=f"user-{key}", password=key)
            case _:
                return self.service.config(key, **OPTIONS.get(self.name, {}))

    def backend(self, key: str = KEYS[0], timeout: float = 5.0) -> Backend:
        backend = registry.connect(self.type, self.config(key), timeout)
        self.open.append(backend)
        return backend

    def mails(self) -> list[Accepted]:
        """What a service with an HTTP API took, each mail as its recipients would get it."""
        return self.service.accepted

    def raws(self) -> list[Raw]:
        """What arrived as bytes."""
        match self.type:
            case "file":
                return [
                    Raw(path.parent.name, re.findall(r'"(\S+@\S+)"', _recipients(path)), path.read_bytes())
                    for path in sorted(self.directory.glob("*/*.eml"))
                ]
            case "memory":
                boxes = {key: MemoryBackend.box(key) for key in KEYS}
                return [Raw(key, list(m.recipients), m.raw) for key, box in boxes.items() for m in box.accepted]
            case "stdout":
                printed = self.capture.getvalue().split("-" * 78 + "\n")
                return [_printed(text) for text in printed if text.startswith("message ")]
            case "smtp":
                return [
                    Raw(mail.username.removeprefix("user-"), mail.recipients, mail.data)
                    for mail in self.service.accepted
                ]
            case _:
                return [Raw(mail.key, mail.recipients, mail.data) for mail in self.service.accepted]

    def reached(self) -> list[str]:
        """Every address that was mailed, as often as it was."""
        arrived = self.raws() if self.raw else self.mails()
        return [recipient for mail in arrived for recipient in mail.recipients]


def type_of(name: str) -> str:
    """The provider type of a name in `TYPES`."""
    return name.partition(" ")[0]


def _recipients(path: Path) -> str:
    text = path.with_suffix(".json").read_text()
    return text[text.index('"recipients"') : text.index('"smtputf8"')]


def _printed(text: str) -> Raw:
    envelope, _, message = text.partition("\n\n")
    data = message.removesuffix("\n").replace("\n", "\r\n").encode()
    return Raw("", re.findall(r"RCPT TO:<(.*)>", envelope), data)


@contextlib.contextmanager
def rigged(name: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A rig whose stand-in runs until the end of the block."""
    capture = io.StringIO()
    rig = Rig(name, directory, capture)
    with contextlib.ExitStack() as stack:
        if name in HTTP or name in MIXED:
            rig.service = stack.enter_context({**HTTP, **MIXED}[name](keys=KEYS))
        elif name == "smtp":
            rig.service = stack.enter_context(SmtpSink(users={f"user-{key}": key for key in KEYS}))
        elif name == "stdout":
            # Not sys.stdout itself, which pytest puts back between the phases of a test.
            monkeypatch.setattr("providers.backends.stdout.sys", SimpleNamespace(stdout=capture))
            monkeypatch.setattr("django.conf.settings.STDOUT_PROVIDER_ALLOWED", True, raising=False)
        MemoryBackend.reset()
        yield rig
        for backend in rig.open:
            backend.close()
        MemoryBackend.reset()
