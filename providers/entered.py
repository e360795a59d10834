"""Settings as somebody enters them, put together with those that are stored; for the admin and the API (PRV-12).

A stored secret is never shown, so that leaving it out keeps it. It does not follow a change of server: who may edit a
provider could otherwise have it sent to a server of their own. Private and loopback addresses are for operators, unless
PROVIDER_PRIVATE_NETWORKS lets tenants use them; see `destinations` for what is known of an address when it is saved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.conf import settings

from providers import destinations
from providers.base import ConfigField

ENTER_AGAIN = "Enter it again: the server it is sent to has changed."
PRIVATE = "Private and local addresses are the platform operator's to use."
_DESTINATION = frozenset(
    {"host", "port", "base_url", "login_url", "security", "allow_plaintext", "verify_certificate", "ca_certificate"}
)
"""Settings that say who is given the secrets."""


def combine(
    specs: Sequence[ConfigField],
    entered: Mapping[str, Any],
    stored: Mapping[str, Any],
    *,
    removed: Collection[str] = (),
    by_operator: bool = False,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings to save, and what is wrong with single ones, by name. `entered` holds every setting that is to
    stay, but for secrets: an empty one stays as it is stored unless it is among `removed`."""
    elsewhere = _goes_elsewhere(specs, entered, stored)
    config: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for spec in specs:
        value = entered.get(spec.name)
        if spec.kind == "secret" and not value:
            value = None if spec.name in removed else stored.get(spec.name)
            if value and elsewhere:
                problems[spec.name] = ENTER_AGAIN
        if value not in (None, ""):
            config[spec.name] = value
    if not by_operator and not settings.PROVIDER_PRIVATE_NETWORKS and elsewhere:
        problems |= dict.fromkeys(destinations.private_settings(config), PRIVATE)
    return config, problems


def _goes_elsewhere(specs: Sequence[ConfigField], entered: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    watched = (spec for spec in specs if spec.name in _DESTINATION)
    return any((entered.get(spec.name) or None) != (stored.get(spec.name, spec.default) or None) for spec in watched)
