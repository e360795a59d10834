"""Why a provider did not take a message. One type per decision the caller has to make."""

from collections.abc import Mapping


class ProviderError(Exception):
    """A call to a provider failed.

    `code` is for machines and stable (`throttled`, `timeout`, `bad_credentials` …). `text` is for people: the
    provider's own words, scrubbed of credentials and bodies. `status_code` is the provider's reply code (HTTP status
    or SMTP code), None when no answer came. `retry_after` is in seconds and None when the provider named no time.
    """

    def __init__(
        self,
        text: str,
        *,
        code: str,
        status_code: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.status_code = status_code
        self.retry_after = retry_after


class TemporaryFailure(ProviderError):
    """Trying again later may work: 429, 5xx, timeout, connection error, throttling, anything unknown.

    `outcome_unknown` is True when the request had left us in full and the provider's own answer did not come back, so
    that it may have taken the message all the same (a read timeout, a connection lost after the final dot, an answer
    that cannot be read, a gateway's 502 or 504 in the provider's place).
    """

    def __init__(
        self,
        text: str,
        *,
        code: str,
        status_code: int | None = None,
        retry_after: float | None = None,
        outcome_unknown: bool = False,
    ) -> None:
        super().__init__(text, code=code, status_code=status_code, retry_after=retry_after)
        self.outcome_unknown = outcome_unknown


class PermanentFailure(ProviderError):
    """This message will never be taken by this provider: bad recipient, blocked sender, bad request."""


class TooLarge(PermanentFailure):
    """This provider cannot carry a message of this size; another one may."""


class Unsupported(PermanentFailure):
    """This provider will not carry this message, another one may: it cannot say what the message says (an SMTPUTF8
    address, 8-bit lines), or this sender is not allowed there (`sender_not_verified`, `sender_refused`)."""


class Misconfigured(ProviderError):
    """The provider row is wrong (credentials, domain not verified): unhealthy until somebody mends it."""


class BadSettings(Misconfigured):
    """Settings that cannot work, found before anything was sent: `problems` says what is wrong, by setting."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {text}" for name, text in problems.items()), code="bad_config")
        self.problems = dict(problems)


class Paused(ProviderError):
    """The service was not called: it has not answered lately, and has a pause (PRV-10)."""


class Unfinished(Paused):
    """A send of several requests has used up its time and keeps its progress: it goes on in the next attempt, and with
    no other provider (PRV-6)."""


class Limited(Paused):
    """The service was not called: a limit is used up, or it asked everybody to slow down (PRV-9)."""
