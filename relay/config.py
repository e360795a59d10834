"""The listener's configuration: the `SMTP` settings in typed form, one value that is swapped as a whole at reload."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from django.core.exceptions import ImproperlyConfigured

_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.IPv]+\]")
Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every `SMTP_*` setting under its name in lower case; times in seconds, sizes in octets."""

    hostname: str
    hosts: tuple[str, ...]
    port: int
    tls_port: int
    processes: int
    tls_mode: str
    allow_public_plaintext: bool
    tls_certificate: str
    tls_key: str
    max_message_size: int
    max_recipients: int
    max_received_headers: int
    max_connections: int
    max_connections_per_address: int
    max_new_connections_per_minute: int
    limit_exempt_networks: tuple[Network, ...]
    max_messages_per_connection: int
    max_auth_failures: int
    auth_failure_window: float
    idle_timeout_before_auth: float
    idle_timeout: float
    data_timeout: float
    data_min_rate: int
    spool_threshold: int
    spool_path: str
    bare_lf: str
    proxy_protocol_networks: tuple[Network, ...]
    drain_timeout: float
    log_level: str

    @classmethod
    def from_settings(cls, values: Mapping[str, Any]) -> Config:
        """The configuration out of `settings.SMTP`. Raises ImproperlyConfigured for what cannot be together."""
        known = {field.name: values[field.name.upper()] for field in fields(cls)}
        known["hosts"] = tuple(known["hosts"])
        for name in ("limit_exempt_networks", "proxy_protocol_networks"):
            known[name] = tuple(ip_network(entry) for entry in known[name])
        config = cls(**known)
        if not _HOSTNAME.fullmatch(config.hostname):
            raise ImproperlyConfigured(f"SMTP_HOSTNAME={config.hostname!r} is not a host name in ASCII.")
        if config.tls_key and not config.tls_certificate:
            raise ImproperlyConfigured("SMTP_TLS_KEY is given without SMTP_TLS_CERTIFICATE.")
        if not config.port and not config.serves_implicit_tls:
            raise ImproperlyConfigured("SMTP_PORT and SMTP_TLS_PORT are both 0: there is nothing to listen on.")
        return config

    @property
    def tls(self) -> bool:
        """Whether this listener speaks TLS itself."""
        return self.tls_mode != "none"

    @property
    def serves_implicit_tls(self) -> bool:
        return self.tls and self.tls_port > 0


def within(address: str, networks: Sequence[Network]) -> bool:
    """Whether `address` lies in one of `networks`."""
    if not networks:
        return False
    parsed = ip_address(address)
    return any(parsed in network for network in networks)
