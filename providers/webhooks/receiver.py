"""What every type's receiver of webhooks does: check who speaks, then read what was said."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parseaddr
from typing import Any, ClassVar, TypeVar

import structlog
from anymail.exceptions import AnymailConfigurationError

from providers.base import ConfigField
from providers.scrub import scrub
from providers.webhooks import auth, fields
from providers.webhooks.contract import ProviderEvent, Told, WebhookRefused, WebhookRequest, fingerprint

log = structlog.get_logger(__name__)

T = TypeVar("T")
_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, OSError, AssertionError)
"""What reading an event of an unexpected shape raises."""


class Receiver:
    """The webhooks of one provider row. `config` is its decrypted settings; nothing global is looked at."""

    fields: ClassVar[tuple[ConfigField, ...]]

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = {spec.name: config.get(spec.name) or spec.default for spec in self.fields}
        secrets = (self.config[spec.name] for spec in self.fields if spec.kind == "secret")
        self.secrets = tuple(secret for secret in secrets if secret)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def missing(self) -> tuple[str, ...]:
        """Labels of the settings without which no webhook is taken."""
        return tuple(spec.label for spec in self.fields if not self.config[spec.name])

    def receive(self, request: WebhookRequest) -> list[ProviderEvent]:
        """What the service tells; kinds of events that mean nothing here are left out.

        Raises WebhookRefused, always before anything of the body is believed.
        """
        if self.missing():
            raise auth.refused("The provider's webhook secret is not set.")
        self.verify(request)
        return self.parse(request)

    def verify(self, request: WebhookRequest) -> None:
        """Raise WebhookRefused (403) unless the row's own service sent this."""
        raise NotImplementedError

    def parse(self, request: WebhookRequest) -> list[ProviderEvent]:
        """Read the events of a request that has been verified; raises WebhookRefused (400)."""
        raise NotImplementedError

    def each(self, items: object, read: Callable[[Any], Iterable[ProviderEvent]]) -> list[ProviderEvent]:
        """Read every item. One that cannot be read costs its neighbours nothing; when none can, the call is refused."""
        if not isinstance(items, list):
            raise WebhookRefused(400, "The body is not what this service sends.")
        found: list[ProviderEvent] = []
        wrong = 0
        for item in items:
            try:
                found.extend(read(item))
            except AnymailConfigurationError:  # how Anymail says that an event tells of mail that came in
                log.warning("webhook event of incoming mail", receiver=type(self).__name__)
            except MALFORMED as error:
                wrong += 1
                log.warning("webhook event not understood", receiver=type(self).__name__, error=type(error).__name__)
        if wrong and wrong == len(items):
            raise WebhookRefused(400, "The body is not what this service sends.")
        return found

    def event(
        self,
        told: Told,
        ids: Sequence[object],
        recipient: object,
        occurred_at: datetime,
        *,
        event_id: object = None,
        code: object = "",
        text: object = "",
        hard: bool = False,
        url: object = "",
    ) -> ProviderEvent:
        """One event, made fit for the database. Without an id of the service's own, it is known by what it says."""
        spelt = tuple(dict.fromkeys(spelling for id_ in ids for spelling in _spellings(id_)))
        address = plain(recipient, 1000)
        address = (parseaddr(address)[1] if "<" in address else address)[:320]  # some repeat the header's name
        text = text or (code if told in {Told.BOUNCED, Told.FAILED} else "")
        own = plain(event_id, 2000) or fingerprint(told, *spelt[:1], address.lower(), occurred_at.isoformat(), code)
        return ProviderEvent(
            type=told,
            ids=spelt,
            recipient=address,
            event_id=own if len(own) <= 255 else fingerprint(own),
            occurred_at=_fit(occurred_at),
            code=plain(code, 64),
            text=scrub(str(text), self.secrets) if text else "",
            hard=hard,
            url=plain(url, 2000),
        )


class SharedSecretReceiver(Receiver):
    """For services that sign nothing: the secret travels in the address of the webhook (basic authentication), or as
    bearer token where the service can send one."""

    fields = fields.SHARED_SECRET

    def verify(self, request: WebhookRequest) -> None:
        given = auth.basic(request)
        if given is not None:
            right = auth.equal(given[0], self.config["webhook_username"])
            right &= auth.equal(given[1], self.config["webhook_password"])
        else:
            right = auth.equal(auth.bearer(request), self.config["webhook_password"])
        if not right:
            raise auth.refused("User name, password or token are wrong or missing.")


def _fit(when: datetime) -> datetime:
    """The time in UTC; now where the service has sent one that is none, such as the year 1 of an empty field, which no
    database would give back."""
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return aware.astimezone(UTC) if 2000 <= when.year < 2200 else datetime.now(UTC)


def plain(value: object, length: int) -> str:
    """Text without what no database takes; "" for None."""
    return "" if value is None else _UNFIT.sub("", str(value)).strip()[:length]


def _spellings(value: object) -> tuple[str, ...]:
    """A message id with and without its angle brackets: services mix the two."""
    text = plain(value, 255)
    bare = text.removeprefix("<").removesuffix(">")
    return (text, bare if bare != text else f"<{bare}>") if bare else ()
