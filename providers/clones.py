"""A second row of a provider, to be changed a little."""

from __future__ import annotations

from itertools import count

from providers.models import Provider

_COPIED = ("tenant_id", "type", "config", "retry_schedule", "per_second", "per_minute", "per_day", "concurrency")


def clone(provider: Provider) -> Provider:
    """A saved copy with the settings and secrets of this one; disabled, in no rule and without a default rank."""
    copy = Provider(**{name: getattr(provider, name) for name in _COPIED}, enabled=False)
    taken = set(Provider.objects.filter(tenant=provider.tenant_id).values_list("name", flat=True))
    names = (_name(provider.name, number) for number in count(1))
    copy.name = next(name for name in names if name not in taken)
    copy.save(force_insert=True)
    return copy


def _name(name: str, number: int) -> str:
    suffix = " (copy)" if number == 1 else f" (copy {number})"
    return name[: 100 - len(suffix)] + suffix
