"""What acceptance works on between its checks and its answer."""

from __future__ import annotations

from dataclasses import dataclass

from accounts.models import Account
from delivery.models import Message, Receipt, Recipient
from delivery.submission import Submission


@dataclass(slots=True)
class Admitted:
    """A submission that passed the checks, with its account and the rows it will become."""

    submission: Submission
    account: Account
    message: Message
    recipients: list[Recipient]
    receipt: Receipt | None = None
