"""Domains as people write them, compared as the DNS sees them (SMTP-6)."""

from __future__ import annotations

from functools import lru_cache

import idna


@lru_cache(maxsize=4096)
def canonical(domain: str) -> str:
    """Lower case, every label as A-label (RFC 5890), so that both spellings of a domain are equal.

    Raises ValueError for what is no domain name. Underscores are let through, since real hosts carry them.
    """
    if len(domain) > 253:
        raise ValueError("A domain name has at most 253 characters.")
    return ".".join(_label(label) for label in idna.uts46_remap(domain, std3_rules=False).split("."))


def _label(label: str) -> str:
    if not label or len(label) > 63:
        raise ValueError("A label has 1 to 63 characters.")
    if label.isascii():
        if not label.replace("-", "").replace("_", "").isalnum():
            raise ValueError("A label has letters, digits, hyphens and underscores.")
        return label
    return idna.alabel(label).decode("ascii")


def covers(pattern: str, domain: str) -> bool:
    """Whether `pattern` (`example.com`, or `*.example.com` for what is below it) covers `domain`."""
    below = pattern.startswith("*.")
    try:
        base, name = canonical(pattern.removeprefix("*.")), canonical(domain)
    except ValueError:
        return False
    return name.endswith("." + base) if below else name == base
