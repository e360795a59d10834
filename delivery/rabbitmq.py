"""Where a RabbitMQ is, from its URL, for those who speak AMQP 0-9-1 to it themselves."""

from __future__ import annotations

from typing import Any

from kombu.utils.url import url_to_parts

CONNECT_TIMEOUT = 5.0
TIMEOUT = 20.0
"""Seconds for one answer, or one piece of what is sent."""


def address(url: str, name: str) -> dict[str, Any]:
    """The arguments of `amqp.Connection`; `name` is shown by the broker."""
    parts = url_to_parts(url)
    host = parts.hostname or "127.0.0.1"
    secure = parts.scheme == "amqps"
    port = parts.port or (5671 if secure else 5672)
    return {
        "host": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "userid": parts.username or "guest",
        "password": parts.password or "guest",
        "virtual_host": parts.path or "/",
        "ssl": {"server_hostname": host, "context": {"check_hostname": True}} if secure else False,
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": TIMEOUT,
        "write_timeout": TIMEOUT,
        "client_properties": {"connection_name": name},
    }


def password(url: str) -> str:
    """What no log may show."""
    return str(url_to_parts(url).password or "")
