"""What services with a JSON API have in common: one request for one letter, and its answer read (PRV-3, PRV-7)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from providers import destinations, http
from providers.backends.letter import Abilities, Letter, compose
from providers.base import Backend, OutboundMessage, RecipientResult, RecipientStatus, SendResult
from providers.envelope import Addressing, groups, same
from providers.exceptions import Misconfigured, PermanentFailure, ProviderError, TemporaryFailure, Unsupported
from providers.fidelity import Verdict
from providers.http import Answer, HttpClient
from providers.scrub import scrub

NOT_SENT = RecipientResult(
    RecipientStatus.DEFERRED, code="not_sent", text="Not sent: the service refused another recipient of the same call."
)


@dataclass(frozen=True, slots=True)
class Request:
    """A POST below the base URL. `origin` is whatever the backend needs again to read the answer."""

    path: str
    body: bytes
    headers: Mapping[str, str]
    origin: Any = None

    def __repr__(self) -> str:
        return f"<Request {self.path}>"  # the headers hold credentials, the body holds mail


class StructuredBackend(Backend):
    """Subclasses name their `abilities` and say how a letter is written and what the answers mean."""

    abilities: Abilities
    max_recipients: ClassVar[int]
    root: ClassVar[str] = ""
    """Where the API begins below its host; a base URL may name it or leave it out."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "abilities" in cls.__dict__:
            cls.max_recipients = cls.abilities.limits.total

    def __init__(self, config: Mapping[str, Any], *, timeout: float = 30.0) -> None:
        super().__init__(config, timeout=timeout)
        self.client = HttpClient(self.api_url(self.config["base_url"]), timeout=timeout)

    def split(self, message: OutboundMessage) -> list[tuple[str, ...]]:
        content = message.content
        return groups(content.to, content.cc, message.recipients, self.abilities.limits)

    def counted_size(self, message: OutboundMessage) -> int:
        """Bodies, and files after base64: what these services mean by the size of a message. A text that came in as
        it is grows by a third as a file; line ends of base64 are gone."""
        if self.takes_raw:
            return super().counted_size(message)
        content = message.content
        bodies = sum(len(body.encode("utf-8", "replace")) for body in (content.text, content.html) if body)
        return bodies + sum(-(-len(attachment.content) // 3) * 4 for attachment in content.attachments)

    @classmethod
    def largest(cls) -> int | None:
        # A file of that size takes 78 octets raw, line ends and all, for every 76 that are counted.
        return None if cls.max_size is None else cls.max_size * 78 // 76

    def verdict(self, message: OutboundMessage) -> Verdict:
        try:
            letter = compose(message, self.abilities)
        except ProviderError:
            return Verdict.mapped(())  # nothing will be sent; `send` says why
        return Verdict.mapped(letter.lost, broken=letter.broken)

    def send(self, message: OutboundMessage) -> SendResult:
        letter = compose(message, self.abilities)
        return self.exchange(self.request(letter, message), letter.addressing, message)

    def check_connection(self) -> str:
        answer = self.ask()
        if not 200 <= answer.status < 300:
            raise self.refusal(answer, self.words(answer))
        told = self.told(answer)
        if not told:
            text = f"{answer.reason}, but not an answer of this service: look at the base URL."
            raise Misconfigured(text, code="wrong_url", status_code=answer.status)
        return scrub(told, self.secrets)

    def close(self) -> None:
        self.client.close()

    # What a subclass says

    def api_url(self, base_url: str) -> str:
        """What the paths of requests are below, from the base URL as people write it."""
        return destinations.api_url(base_url, self.root)

    def ask(self) -> Answer:
        """Ask the service something that needs the credentials and sends nothing; raises Unsupported where there is
        nothing to ask."""
        raise Unsupported("This service offers no way to check the settings; send a test message.", code="no_check")

    def told(self, answer: Answer) -> str:  # noqa: ARG002
        """The service's words in a 2xx answer to `ask`, "" when it does not look like this service's. Raises
        ProviderError where the credentials are good and of no use."""
        return ""

    def request(self, letter: Letter, message: OutboundMessage) -> Request:
        """Write the request. Raises Unsupported or PermanentFailure for what cannot be written."""
        raise NotImplementedError

    def accepted(self, answer: Answer, request: Request, message: OutboundMessage) -> SendResult:
        """Read a 2xx answer."""
        raise NotImplementedError

    def words(self, answer: Answer) -> str:
        """The service's own explanation of an error, without anything of the message."""
        raise NotImplementedError

    def refusal(self, answer: Answer, words: str) -> ProviderError:
        """What an error answer means; the default goes by the status alone."""
        return http.failure(answer, words, secrets=self.secrets)

    def blamed(self, answer: Answer, words: str, addressing: Addressing) -> Collection[str] | None:  # noqa: ARG002
        """The addresses because of which the service refused the call.

        Empty: a recipient is at fault, the service does not say which. None: it was something else.
        """
        return None

    # What they share

    def exchange(self, request: Request, addressing: Addressing, message: OutboundMessage) -> SendResult:
        """Make the call and read the answer."""
        answer = self.client.post(request.path, request.body, request.headers)
        if not 200 <= answer.status < 300:
            return self.refused(answer, addressing, message)
        return self.accepted(answer, request, message)

    def refused(self, answer: Answer, addressing: Addressing, message: OutboundMessage) -> SendResult:
        """Fail the recipients that are to blame and put off the others; otherwise raise what the answer means."""
        words = self.words(answer)
        text = scrub(f"{answer.reason}: {words}", self.secrets)
        blamed = self.blamed(answer, words, addressing)
        if blamed is None:
            raise self.refusal(answer, words)
        keys = {same(address) for address in blamed} or (
            {same(box.address) for box in addressing.all if box.address.lower() in words.lower()}
        )
        if len(addressing.all) == 1:
            keys = {same(addressing.all[0].address)}
        if not keys:
            raise PermanentFailure(text, code="bad_recipient", status_code=answer.status)
        bad = RecipientResult(RecipientStatus.FAILED, code="bad_recipient", text=text)
        results = {recipient: bad if same(recipient) in keys else NOT_SENT for recipient in message.recipients}
        return SendResult(results, status_code=answer.status, text=text)

    def unreadable(self, answer: Answer) -> TemporaryFailure:
        """A success that does not look like this service's: it may have taken the message, or be something else."""
        return TemporaryFailure(
            f"{answer.reason}, but not an answer of this service.",
            code="bad_answer",
            status_code=answer.status,
            outcome_unknown=True,
        )
