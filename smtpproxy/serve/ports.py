"""The ports an installation listens on, free before it starts."""

from __future__ import annotations

import errno
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
    def host_setting(self) -> str:
        return "WEB_HOST" if self.setting == "WEB_PORT" else "SMTP_HOSTS"

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
    """Raises CannotServe, naming the setting, when something else listens there or the address is not ours."""
    deadline = time.monotonic() + PATIENCE
    for port in ports():
        while problem := _problem(port):
            text = problem.strerror or str(problem)
            if isinstance(problem, socket.gaierror) or problem.errno == errno.EADDRNOTAVAIL:
                raise CannotServe(f"{port.host_setting}: {port.host} is no address of this machine ({text}).")
            if time.monotonic() > deadline:
                raise CannotServe(f"Port {port.number} on {port.host}: {text}. Choose another: {port.setting}=…")
            time.sleep(0.1)


def _problem(port: Port) -> OSError | None:
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((port.host, port.number))
            listener.listen()
        except OSError as error:
            return error
    return None
