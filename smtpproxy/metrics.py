"""`/metrics` in Prometheus' text format: in the web, and on the probe ports of listener and worker (OBS-2)."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from django.conf import settings
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, REGISTRY, CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

import relay.metrics  # noqa: F401 -- every floor's counters are known, whoever is asked
from delivery.metrics import StateCollector
from smtpproxy import metrics_folder

PATH = "/metrics"
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_FORWARDED = ("x-forwarded-for", "forwarded")

disable_created_metrics()
_state = StateCollector()


def allowed(client: str, headers: Mapping[str, str]) -> bool:
    """With METRICS_TOKEN who has the token; without it who comes from METRICS_NETWORKS, and not through a proxy, which
    would lend anybody its own address. `headers` knows no case."""
    if settings.METRICS_TOKEN:
        given = headers.get("authorization") or ""
        return hmac.compare_digest(given.encode(), f"Bearer {settings.METRICS_TOKEN}".encode())
    if any(headers.get(name) for name in _FORWARDED):
        return False
    try:
        address = ip_address(client)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in ip_network(network) for network in settings.METRICS_NETWORKS)


def render() -> bytes:
    """The counters of every process of this role, and what is read from the database and the broker. May open
    a connection to the database in the calling thread."""
    return generate_latest(_counters()) + generate_latest(_installation())


def _counters() -> CollectorRegistry:
    if metrics_folder.VARIABLE not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return registry


def _installation() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_state)
    return registry
