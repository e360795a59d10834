"""Which mailbox a message goes through: that of its sender, that of the row, or one chosen by the sender (PRV-6)."""

from __future__ import annotations

from providers.base import OutboundMessage
from providers.envelope import ascii_address
from providers.exceptions import PermanentFailure, ProviderError


def parse(text: str) -> dict[str, str]:
    """Lines `sender = mailbox` as a mapping; a sender is an address or `@domain`. Raises ValueError."""
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        sender, equals, mailbox = (part.strip() for part in line.partition("="))
        local, at, domain = sender.rpartition("@")
        if not equals or not at or not domain or not mailbox or any(c in sender + mailbox for c in " \t,;<>"):
            raise ValueError("must have lines such as invoices@example.com = billing@example.com")
        found[f"{local}@{domain}".lower()] = mailbox
    return found


class Mailboxes:
    """`of_row` is used for every sender that `by_sender` does not name; "" is the sender's own mailbox."""

    def __init__(self, of_row: str, by_sender: str) -> None:
        self.of_row = of_row
        self._by_sender = parse(by_sender)

    @property
    def one(self) -> bool:
        """Whether every message goes through the same mailbox, so that what is wrong with it is wrong with the row."""
        return bool(self.of_row) and not self._by_sender

    @property
    def example(self) -> str:
        """A mailbox to ask about the settings, "" when only a message names one."""
        return self.of_row or next(iter(self._by_sender.values()), "")

    def of(self, message: OutboundMessage) -> str:
        """The mailbox of a message, by the first address in From, else by the envelope sender.

        Raises PermanentFailure for a message without a sender where the row names no mailbox.
        """
        sender = next((box.address for box in message.content.from_ if "@" in box.address), message.mail_from)
        try:
            sender = ascii_address(sender)
        except ProviderError:
            sender = ""
        key = sender.lower()
        chosen = self._by_sender.get(key) or self._by_sender.get("@" + key.rpartition("@")[2])
        mailbox = chosen or self.of_row or sender
        if not mailbox:
            raise PermanentFailure("The message names no sender, and so no mailbox.", code="no_sender")
        return mailbox
