"""Why a message is not taken. Each carries text for people and a `code` for machines; replies and API errors come
from the same object."""


class NotAccepted(Exception):
    """A submission that was not accepted; nothing of it is kept.

    `code` is stable and for machines, `text` for people, `status` the enhanced status code (RFC 3463) a listener
    answers with, `retry_after` the seconds until trying again may help, None when nobody knows.
    """

    def __init__(self, text: str, *, code: str, status: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.status = status
        self.retry_after = retry_after


class Rejected(NotAccepted):
    """A named rule says no; sending the same again will not help (5xx)."""


class Deferred(NotAccepted):
    """Not now: our own failure, a limit, or a full queue; the client may try again (4xx)."""


class BodyNotFound(Exception):
    """The message store holds nothing under this key."""


class StoreUnavailable(Exception):
    """The message store failed or did not answer within its deadline; temporary."""


class CopyUnreadable(Exception):
    """An archive copy is not there, or is not what was archived."""


class ControlRefused(Exception):
    """An operator's action does not fit the message's present status; nothing was changed."""


class ExchangeUnavailable(Exception):
    """The broker that events are published to did not answer, refused, or did not confirm; temporary."""
