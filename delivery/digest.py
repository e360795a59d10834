"""What a tenant's admins are told of mail that was not delivered or is held (DEL-8, DEL-10). Pure: words only."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from providers.scrub import scrub

MOST_MESSAGES = 50
"""Messages named in one digest; of more their number is told."""
MOST_RECIPIENTS = 5
"""Recipients named of one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """A message, and why it did not reach some of its recipients, as (address, reason). `link` is "" for none."""

    key: str
    subject: str
    sender: str
    account: str
    accepted_at: datetime
    failed: Sequence[tuple[str, str]]
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """`count` are all messages it is about, `named` those it names. `held` is how many wait for a person, `why_held`
    the reason of one of them; `unhealthy` are providers as (name, reason). `links` lead to lists, by what they show."""

    tenant: str
    count: int
    named: Sequence[Undelivered]
    held: int = 0
    why_held: str = ""
    unhealthy: Sequence[tuple[str, str]] = ()
    links: dict[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        told = [f"{_messages(self.count)} not delivered"] if self.count else []
        told += [f"{_messages(self.held)} held"] if self.held else []
        return scrub(f"{self.tenant}: {', '.join(told)}")

    def text(self) -> str:
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        if self.held:
            wait = "waits" if self.held == 1 else "wait"
            yield f"{_messages(self.held)} of {scrub(self.tenant)} {wait} until somebody releases them."
            yield from _wrapped(f"Why: {self.why_held}" if self.why_held else "", "")
            yield from self._link("held")
            yield ""
        for name, reason in self.unhealthy:
            yield from _wrapped(f"Provider {name} is not used at the moment: {reason}", "")
        if self.unhealthy:
            yield ""
        if self.count:
            was = "was" if self.count == 1 else "were"
            yield f"{_messages(self.count)} of {scrub(self.tenant)} {was} not delivered to everybody:"
        for one in self.named:
            yield ""
            yield from _about(one)
        more = self.count - len({one.key for one in self.named})
        if more > 0:
            yield ""
            yield f"... and {_messages(more)} more."
            yield from self._link("notices")
        if self.count:
            yield ""
            yield "These recipients are not tried again by themselves: a message can be tried"
            yield "again on its page."

    def _link(self, what: str) -> Iterator[str]:
        if what in self.links:
            yield self.links[what]


def _about(one: Undelivered) -> Iterator[str]:
    yield f"{one.accepted_at:%Y-%m-%d %H:%M:%S} UTC  {scrub(one.subject)[:150] or '(no subject)'}"
    yield f"    from {scrub(one.sender) or 'the empty sender'}, account {scrub(one.account)}, id {one.key}"
    for address, reason in one.failed[:MOST_RECIPIENTS]:
        yield from _wrapped(f"{address}: {reason or 'no reason was given'}", "    ")
    if len(one.failed) > MOST_RECIPIENTS:
        yield f"    ... and {len(one.failed) - MOST_RECIPIENTS:,} more recipients"
    if one.link:
        yield f"    {one.link}"


def _messages(count: int) -> str:
    return f"{count:,} message{'' if count == 1 else 's'}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        scrub(text), 76, initial_indent=indent, subsequent_indent=f"{indent}    ", break_long_words=False
    )
