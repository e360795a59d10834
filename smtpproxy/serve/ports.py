"""The ports an installation listens on: free before it starts, answering when it has."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass

from django.conf import settings

from smtpproxy.serve.exceptions import CannotServe

# A listener that was killed a moment ago frees its port when the kernel has got round to it.
PATIENCE = 3.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 -- what people may configure


@dataclass(frozen=True, slots=True)
class Port:
    host: str
    number: int
    setting: str

    @property
    def tls(self) -> str:
        """How an SMTP port is secured: `starttls`, `implicit` or `none`."""
        if settings.SMTP["TLS_MODE"] == "none":
            return "none"
        return "implicit" if self.setting == "SMTP_TLS_PORT" else "starttls"

    @property
    def reachable_host(self) -> str:
        """Where this machine reaches it, also when it listens on every address."""
        return _ANY.get(self.host, self.host)

    @property
    def host_in_url(self) -> str:
        return f"[{self.reachable_host}]" if ":" in self.reachable_host else self.reachable_host


def ports() -> list[Port]:
    """SMTP first, the web last."""
    smtp = settings.SMTP
    numbers = {"SMTP_PORT": smtp["PORT"], "SMTP_TLS_PORT": smtp["TLS_PORT"] if smtp["TLS_MODE"] != "none" else 0}
    found = [Port(host, number, name) for name, number in numbers.items() if number for host in smtp["HOSTS"]]
    return [*found, Port(settings.WEB_HOST, settings.WEB_PORT, "WEB_PORT")]


def check_free() -> None:
    """Raises CannotServe, naming the setting, when something else listens there."""
    deadline = time.monotonic() + PATIENCE
    for port in ports():
        while problem := _problem(port):
            if time.monotonic() > deadline:
                raise CannotServe(f"Port {port.number} on {port.host}: {problem}. Choose another: {port.setting}=…")
            time.sleep(0.1)


def _problem(port: Port) -> str:
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((port.host, port.number))
            listener.listen()
        except OSError as error:
            return error.strerror or str(error)
    return ""


class Readiness:
    """Whether listener and web answer, asked at one port each. One that has answered is not asked again."""

    def __init__(self) -> None:
        self._waiting = [ports()[0], ports()[-1]]

    def __call__(self) -> bool:
        self._waiting = [port for port in self._waiting if not _answers(port)]
        return not self._waiting


def _answers(port: Port) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((port.reachable_host, port.number), timeout=1):
        return True
    return False
