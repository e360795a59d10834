"""Who is named where, for services that read the recipients from To, Cc and Bcc lists (PRV-3).

The envelope decides: a header address outside the envelope is not mailed, and an envelope recipient in no header is
a blind copy. Such services mail whatever their lists name, so one call names exactly the recipients of that call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import idna

from providers.base import Mailbox
from providers.exceptions import Unsupported


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call of a service takes. Every count is a number of recipients.

    `to_required`: a call without To is refused. `apart`: one call can give each recipient a copy of his own, so that
    blind copies without a visible recipient can share it. `utf8_local_part`: `jörg@…` can be written.
    """

    total: int
    to: int | None = None
    cc: int | None = None
    bcc: int | None = None
    to_required: bool = True
    apart: bool = False
    utf8_local_part: bool = False


@dataclass(frozen=True, slots=True)
class Addressing:
    """The lists of one call. With `apart`, each of `to` gets a copy that names only him."""

    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    apart: bool = False
    lost: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Mailbox, ...]:
        return self.to + self.cc + self.bcc


def ascii_address(address: str) -> str:
    """The address with its domain as A-labels (RFC 5891); the local part stays as it is.

    Raises Unsupported when the domain cannot be written so.
    """
    local, at, domain = address.rpartition("@")
    if domain.isascii():
        return address
    try:
        return f"{local}{at}{idna.encode(domain, uts46=True).decode('ascii')}"
    except idna.IDNAError:
        raise Unsupported(f"The domain {domain!r} has no ASCII form.", code="bad_domain") from None


def same(address: str) -> str:
    """A key that is equal for addresses a service takes for one and the same.

    RFC 5321 §2.4 lets local parts differ by case; no service does, and some refuse the second spelling as a
    duplicate.
    """
    try:
        return ascii_address(address.strip()).casefold()
    except Unsupported:
        return address.strip().casefold()


def has_utf8_local_part(address: str) -> bool:
    """True for addresses that need SMTPUTF8 however the domain is written (RFC 6531)."""
    return not address.rpartition("@")[0].isascii()


def address(to: Sequence[Mailbox], cc: Sequence[Mailbox], recipients: Sequence[str], limits: Limits) -> Addressing:
    """The lists for one call: display names from the header, addresses as the envelope spells them.

    `to` and `cc` are the header's, `recipients` those of this call. Raises Unsupported for an address the service
    cannot write, and for a call that would show blind copies to each other (see `groups`).
    """
    if not limits.utf8_local_part:
        for recipient in filter(has_utf8_local_part, recipients):
            raise Unsupported(f"This service cannot write the address {recipient!r}.", code="smtputf8_required")
    pending: dict[str, str] = {}
    for recipient in recipients:
        pending.setdefault(same(recipient), recipient)
    called = len(pending)
    shown_to, shown_cc = _take(to, pending), _take(cc, pending)
    blind = tuple(Mailbox("", ascii_address(recipient)) for recipient in pending.values())
    in_to = _distinct(to)
    in_cc = _distinct(box for box in cc if same(box.address) not in in_to)
    lost = [
        f"{name}: {len(boxes) - len(shown)} of {len(boxes)} not shown"
        for name, boxes, shown in (("To", in_to, shown_to), ("Cc", in_cc, shown_cc))
        if len(boxes) > len(shown)
    ]
    if limits.to_required and not shown_to and shown_cc:
        return Addressing(shown_cc, (), blind, lost=(*lost, "Cc: shown as To"))
    if shown_to or shown_cc or not limits.to_required:
        return Addressing(shown_to, shown_cc, blind, lost=tuple(lost))
    if called > 1 and not limits.apart:
        raise Unsupported("Blind copies without a visible recipient need a call each.", code="needs_split")
    return Addressing(blind, apart=called > 1, lost=(*lost, "To: shows only the recipient himself"))


def groups(
    to: Sequence[Mailbox], cc: Sequence[Mailbox], recipients: Sequence[str], limits: Limits
) -> list[tuple[str, ...]]:
    """The recipients cut into groups that `address` accepts and the service takes in one call.

    Visible recipients come first, in the order of the header, and share their calls with as many blind copies as fit.
    Further blind copies follow, alone where they would otherwise see each other. Recipients whose address the
    service cannot write have groups of their own, so that only they go elsewhere.
    """
    spelt: dict[str, list[str]] = {}
    foreign: list[str] = []
    for recipient in dict.fromkeys(recipients):
        if has_utf8_local_part(recipient) and not limits.utf8_local_part:
            foreign.append(recipient)
        else:
            spelt.setdefault(same(recipient), []).append(recipient)
    in_to = [key for key in _distinct(to) if key in spelt]
    in_cc = [key for key in _distinct(cc) if key in spelt and key not in in_to]
    if limits.to_required and not in_to:
        in_to, in_cc = in_cc, []
    visible = {*in_to, *in_cc}
    blind = [key for key in spelt if key not in visible]

    calls = list(_visible_calls(in_to, in_cc, blind, limits))
    if blind:
        if not limits.to_required:
            size = min(limits.total, limits.bcc or limits.total)
        else:
            size = min(limits.total, limits.to or limits.total) if limits.apart else 1
        calls += [blind[start : start + size] for start in range(0, len(blind), size)]
    cut = [tuple(recipient for key in call for recipient in spelt[key]) for call in calls]
    return cut + [(recipient,) for recipient in foreign]


def _visible_calls(in_to: list[str], in_cc: list[str], blind: list[str], limits: Limits) -> Iterator[list[str]]:
    """Calls that show somebody; takes the blind copies that travel along out of `blind`."""
    in_to, in_cc = in_to[:], in_cc[:]
    while in_to or in_cc:
        call = _pop(in_to, min(limits.total, limits.to or limits.total))
        if call or not limits.to_required:
            call += _pop(in_cc, min(limits.total - len(call), limits.cc or limits.total))
        else:  # no To left: the rest of the Cc list is promoted, as in `address`
            call = _pop(in_cc, min(limits.total, limits.to or limits.total))
        yield call + _pop(blind, min(limits.total - len(call), limits.bcc or limits.total))


def _pop(keys: list[str], count: int) -> list[str]:
    taken, keys[:] = keys[:count], keys[count:]
    return taken


def _distinct(boxes: Iterable[Mailbox]) -> dict[str, Mailbox]:
    """Mailboxes by key, each once, the first with a display name preferred."""
    found: dict[str, Mailbox] = {}
    for box in boxes:
        key = same(box.address)
        if key and (key not in found or (box.name and not found[key].name)):
            found[key] = box
    return found


def _take(boxes: Iterable[Mailbox], pending: dict[str, str]) -> tuple[Mailbox, ...]:
    """The mailboxes that are pending, which are pending no more."""
    return tuple(
        Mailbox(box.name, ascii_address(pending.pop(key))) for key, box in _distinct(boxes).items() if key in pending
    )
