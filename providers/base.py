"""The contract between delivery and the e-mail services.

Delivery builds an `OutboundMessage`; a `Backend` hands it to one service and says per recipient what became of it.
Nothing here knows a table or a task.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, ClassVar

from providers.exceptions import BadSettings, TooLarge, Unsupported
from providers.fidelity import LOSSLESS, Fidelity, Verdict
from providers.progress import Progress, Unkept

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_UNPRINTABLE_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_KINDS: dict[type, str] = {int: "a whole number", bool: "true or false", str: "a text"}


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address of a header (RFC 5322 §3.4): decoded display name ("" when none) and `local@domain`."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """One part that is neither the text nor the HTML body.

    `content_type` is `maintype/subtype`, lower case. `content_id` is without angle brackets, "" when absent. `inline`
    is True for parts the HTML refers to or that ask for it by Content-Disposition. `parameters` are the remaining
    Content-Type parameters (`charset`, `method` …), lower-case names, without `name` and `boundary`.
    """

    filename: str
    content_type: str
    content: bytes
    content_id: str = ""
    inline: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Content:
    """A message taken apart, for providers that do not take raw MIME.

    `text` and `html` are None when the message has no such body (and "" when it is there and empty). `headers` are
    all top-level headers in order as (name, decoded value). `defects` names what was broken and how it was read;
    when it holds `original-attached`, the original message is among the attachments as `message/rfc822`, because the
    parts could not be told apart with certainty.
    """

    subject: str
    from_: tuple[Mailbox, ...]
    sender: Mailbox | None
    reply_to: tuple[Mailbox, ...]
    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...]
    text: str | None
    html: str | None
    attachments: tuple[Attachment, ...]
    headers: tuple[tuple[str, str], ...]
    defects: tuple[str, ...] = ()


@dataclass
class OutboundMessage:
    """One message for one call: the envelope recipients of this call, and the bytes or parts to send.

    `idempotency_key` is the id of the attempt that wrote the delivery log; a provider that honours such keys is
    given it. `raw` is the message as it may leave us: CRLF line ends, our Received line, no `Bcc:` and no control
    headers. `removed` names the headers it came with besides. `content` is parsed on first use.
    `envelope_recipients` are all recipients of the message, whatever became of them: a header address that is not
    among them is never mailed (PRV-3). `progress` is for backends whose send takes several requests
    (`Backend.resumes`).
    """

    message_id: str
    idempotency_key: str
    mail_from: str
    recipients: tuple[str, ...]
    envelope_recipients: tuple[str, ...]
    raw: bytes
    smtputf8: bool
    parse: Callable[[bytes], Content]
    removed: tuple[str, ...] = ()
    progress: Progress = field(default_factory=Unkept, repr=False)

    @cached_property
    def content(self) -> Content:
        return self.parse(self.raw)

    def parsed(self) -> OutboundMessage:
        """The message taken apart now, so that no later use of `content` has to."""
        _ = self.content
        return self

    def for_call(self, recipients: Sequence[str], idempotency_key: str) -> OutboundMessage:
        """The same message for some of its recipients (see `Backend.split`); what is parsed stays parsed."""
        narrowed = replace(self, recipients=tuple(recipients), idempotency_key=idempotency_key)
        if "content" in self.__dict__:
            narrowed.__dict__["content"] = self.content
        return narrowed


class RecipientStatus(StrEnum):
    """What one call did for one recipient."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RecipientResult:
    """`provider_message_id` is "" when the provider names none. `code` is the SMTP reply code or the service's own
    word, "" when there is nothing to say. `text` is scrubbed."""

    status: RecipientStatus
    provider_message_id: str = ""
    code: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class SendResult:
    """One call that was answered recipient by recipient.

    Every recipient of the call has an entry in `recipients`, spelt as it was given. Usually the service took the
    message for most of them; it may also have refused some, or, when it refuses a whole call for one bad address,
    that one has FAILED and the others are DEFERRED with the code `not_sent`.
    """

    recipients: Mapping[str, RecipientResult]
    provider_message_id: str = ""
    status_code: int | None = None
    text: str = ""

    @classmethod
    def all_delivered(
        cls, recipients: Sequence[str], provider_message_id: str, *, status_code: int | None = None, text: str = ""
    ) -> SendResult:
        """Every recipient was accepted under one provider message id."""
        one = RecipientResult(RecipientStatus.DELIVERED, provider_message_id)
        return cls(dict.fromkeys(recipients, one), provider_message_id, status_code, text)


@dataclass(frozen=True, slots=True)
class ConfigField:
    """One setting of a provider type, for forms and for checking `Provider.config`.

    `kind` is one of `str, text, int, bool, choice, secret`; a `text` has several lines. A secret is never shown again
    after entry. `low` and `high` are the bounds of an `int`, both included. `check` raises ValueError, with a text
    for people, for a value that cannot be used.
    """

    name: str
    label: str
    kind: str = "str"
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    help: str = ""
    low: int | None = None
    high: int | None = None
    check: Callable[[str], object] | None = None

    def problem(self, value: Any) -> str:
        """What is wrong with a value that was given, "" when nothing is. Never quotes the value: it may be secret."""
        expected = {"int": int, "bool": bool}.get(self.kind, str)
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            return f"must be {_KINDS[expected]}"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}"
        if isinstance(value, int) and not isinstance(value, bool):
            return self._out_of_bounds(value)
        if isinstance(value, str) and (_UNPRINTABLE if self.kind != "text" else _UNPRINTABLE_TEXT).search(value):
            return "must have no control characters"
        try:
            if self.check is not None and isinstance(value, str):
                self.check(value)
        except ValueError as error:
            return str(error)
        return ""

    def _out_of_bounds(self, value: int) -> str:
        low, high = self.low, self.high
        if (low is None or value >= low) and (high is None or value <= high):
            return ""
        bounds = [f"at least {low}" if low is not None else "", f"at most {high}" if high is not None else ""]
        return f"must be {' and '.join(filter(None, bounds))}"


@dataclass(frozen=True, slots=True)
class Quota:
    """What a service says this account may send, None where it names no limit.

    `per_second` may be a fraction. `per_day` counts recipients in any 24 hours, `sent` of them are used up.
    """

    per_second: float | None = None
    per_day: int | None = None
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may go through a provider, None where there is no limit: calls that begin in any second and in any
    minute, recipients in any 24 hours, calls at once."""

    per_second: float | None = None
    per_minute: int | None = None
    per_day: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """Something of which the service takes only so many calls at once: a mailbox, for example (PRV-6)."""

    name: str
    at_most: int


class Backend:
    """One provider row, ready to send. Made once per row and worker process and kept (PRV-11).

    `send` is called from several threads at once. Subclasses set the class attributes; what they do not name is
    "not supported".
    """

    type: ClassVar[str]
    config_fields: ClassVar[tuple[ConfigField, ...]] = ()
    takes_raw: bool = False
    """True when the bytes received are the bytes sent, so that nobody needs to parse them. A row may decide it."""
    max_recipients: ClassVar[int] = 1000
    """Recipients in one call; delivery splits larger groups."""
    max_size: int | None = None
    """Octets this provider takes, as it counts them; None when it names no limit. A row may decide it."""
    sandbox: ClassVar[bool] = False
    """True for types that deliver to nobody; they are used only where a row names them."""
    idempotent: bool = False
    """True when a second send with the same idempotency key is recognised by the provider. A row may decide it."""
    resumes: ClassVar[bool] = False
    """True when a send keeps its progress, so that the next one with the same key goes on where it stopped."""
    limits: ClassVar[Limits] = Limits()
    """What the service documents for every account; a row's own limits win, field by field."""
    keeps_sent: bool = False
    """True when the service can be asked for a message it was given, as it keeps it (`fetch_sent`). A row may decide
    it."""
    reads_quota: ClassVar[bool] = False
    """True when the service can be asked what this account may send (`quota`)."""

    def __init__(self, config: Mapping[str, Any], *, timeout: float = 30.0) -> None:
        """`config` is the decrypted `Provider.config`; `timeout` is in seconds and bounds each network wait.

        Raises BadSettings when a required field is missing or a value cannot be used.
        """
        self.config = self.check_config(config)
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"  # never the settings: they hold credentials (PRV-12)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must appear in no text this backend hands out."""
        return tuple(self.config[f.name] for f in self.config_fields if f.kind == "secret" and self.config[f.name])

    @classmethod
    def check_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in defaults and return the settings; raises BadSettings naming every field that is wrong."""
        known = {f.name: f for f in cls.config_fields}
        wrong = {name: "unknown setting" for name in config if name not in known}
        settings: dict[str, Any] = {}
        for name, spec in known.items():
            value = config.get(name)
            if value is None or value == "":
                if spec.required:
                    wrong[name] = "required"
                settings[name] = spec.default
                continue
            problem = spec.problem(value)
            if problem:
                wrong[name] = problem
            settings[name] = value
        if wrong:
            raise BadSettings(wrong)
        return settings

    @classmethod
    def reserved(cls, config: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG003
        """What only the platform's own rows may be set to, by setting, with a text that says so. A tenant's row with
        such settings is wrong: it would act with the server's own rights."""
        return {}

    def split(self, message: OutboundMessage) -> list[tuple[str, ...]]:
        """The groups of `message.recipients` that can share one call, in the order they should be sent.

        Every recipient is in exactly one group. Delivery makes one attempt per group
        (`send(message.for_call(group, key))`). The default cuts at `max_recipients`; a service that reads the
        recipients from headers cuts so that no blind copy is shown to anybody (PRV-3).
        """
        recipients, size = message.recipients, self.max_recipients
        return [recipients[start : start + size] for start in range(0, len(recipients), size)]

    def send(self, message: OutboundMessage) -> SendResult:
        """Hand the message to the service for `message.recipients`, one group of `split`.

        Raises TemporaryFailure, PermanentFailure (TooLarge, Unsupported) or Misconfigured when the call as a whole
        did not succeed; what the service refuses for single recipients is in the result.
        """
        raise NotImplementedError

    def verdict(self, message: OutboundMessage) -> Verdict:  # noqa: ARG002
        """What this provider does to the message, known before sending (PRV-4). Never raises ProviderError: of what
        cannot be sent at all nothing is lost, and `send` says why."""
        return LOSSLESS if self.takes_raw else Verdict(Fidelity.MAPPED)

    def check_size(self, message: OutboundMessage) -> None:
        """Raise TooLarge for a message this provider would refuse for its size, before anything is sent (PRV-8)."""
        size = self.counted_size(message)
        if self.max_size is not None and size > self.max_size:
            text = f"The message has {size:,} octets as this provider counts; it takes {self.max_size:,}."
            raise TooLarge(text, code="too_large")

    def counted_size(self, message: OutboundMessage) -> int:
        """The octets that count against `max_size`: those of the raw message, or of what the service is given."""
        return len(message.raw)

    @classmethod
    def largest(cls) -> int | None:
        """Octets of a raw message above which no row of this type takes it, as far as anybody can tell without asking
        and without reading the message; None when nobody can."""
        return cls.max_size

    def slots(self, message: OutboundMessage) -> tuple[Slot, ...]:  # noqa: ARG002
        """What a call for this message occupies while it lasts, besides the provider itself."""
        return ()

    def discard(self, state: Mapping[str, Any]) -> None:
        """Take away what a send that nobody goes on with has left at the service; `state` is its progress.

        Only where `resumes`. Raises ProviderError when it is still there.
        """
        raise NotImplementedError

    def fetch_sent(self, message: OutboundMessage, provider_message_id: str) -> bytes | None:  # noqa: ARG002
        """The MIME of a message that was sent, as the service keeps it; only where `keeps_sent` (ARC-1).

        `message` is what it was given, `provider_message_id` what it has called it. None when it has no such message,
        which soon after sending may only mean not yet. Raises ProviderError.
        """
        return None

    def check_connection(self) -> str:
        """Ask the service whether the settings work, without sending anything; returns its own words (PRV-13).

        Raises ProviderError when they do not. A service that offers nothing to ask raises Unsupported.
        """
        raise Unsupported("This service offers no way to check the settings; send a test message.", code="no_check")

    def quota(self) -> Quota:
        """What the service says this account may send; only where `reads_quota`. Raises ProviderError."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back connections. The backend may be used again afterwards."""
