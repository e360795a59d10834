"""From what the broker brings to what becomes of it: read, fetch, write, and hand over for acceptance.

Everything here blocks on database, disk and network; it is called in threads, and may be done again at any time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import structlog
from django.utils import timezone

from accounts.ids import uuid7
from delivery import intake, receipts, refusals
from delivery.exceptions import Deferred, Rejected
from delivery.letter import Letter, Limits, submit
from delivery.mime import StreamedAttachment
from delivery.mime.compose import Item
from delivery.models import Message, Receipt
from delivery.submission import Accepted, Answer, Submission
from relay.ingest import payload, properties
from relay.ingest.config import Owned
from relay.ingest.fetch import Fetcher
from relay.ingest.incoming import Dead, Fetch, Incoming, Later, Outcome, Taken
from relay.ingest.payload import Pointer, SendEmail

log = structlog.get_logger(__name__)

ANSWERED_WITHIN = 10.0
"""Seconds in which whoever has accepted a message tells its publisher; after that another may take its place."""
LOOK_AGAIN = 1.0
UNFORESEEN = 15.0
WAIT = 5.0
"""Seconds where nobody knows when there will be room."""
LONGEST_WAIT = 15.0
"""Seconds after which it is looked all the same: a person may have made some."""
LONGEST_WAIT_FETCHED = 300.0
"""The same where everything that is pointed to has to be fetched for it."""
FETCH_WAITS = (5.0, 15.0, 30.0, 60.0)
"""Between the tries of what could not be fetched; after the last the message is given up."""
_ACCOUNT_CODES = {"suspended", "unknown_account"}
"""Refusals that an operator undoes: the mail waits in its queue meanwhile."""


class Work:
    """What is done with the messages of one queue."""

    def __init__(self, owned: Owned, limits: Limits, fetcher: Fetcher) -> None:
        self._owned = owned
        self._limits = limits
        self._fetcher = fetcher

    def take(self, batch: Sequence[Incoming]) -> list[Outcome]:
        """What becomes of each, in order. Those without attachments elsewhere are accepted together."""
        outcomes: dict[int, Outcome] = {}
        requests = {one.tag: request for one in batch if (request := self._read(one, outcomes)) is not None}
        known = receipts.find(self._place(request) for request in requests.values())
        for tag, request in requests.items():
            if receipt := known.get(self._place(request)):
                outcomes[tag] = _repeated(request, receipt, altered=receipt.fingerprint != request.fingerprint)
            elif request.pointers:
                outcomes[tag] = Fetch(request)
        fresh = [(one, requests[one.tag]) for one in batch if one.tag not in outcomes]
        with contextlib.ExitStack() as stack:
            self._hand_over([(one, request, self._inline(request)) for one, request in fresh], outcomes, stack)
        return self._told([outcomes[one.tag] for one in batch])

    def fetch(self, one: Incoming, request: SendEmail) -> Outcome:
        """What becomes of a message whose attachments lie elsewhere."""
        outcomes: dict[int, Outcome] = {}
        with contextlib.ExitStack() as stack:
            try:
                items = [self._fetched(item, stack) for item in request.attachments]
            except Rejected as error:
                return self._told([Dead(error.code, error.text)])[0]
            except Deferred as error:
                return _try_again(one, error)
            except Exception:
                log.exception("attachment not fetched")
                return _try_again(one, Deferred("It failed.", code="attachment_unreachable", status="4.3.0"))
            self._hand_over([(one, request, items)], outcomes, stack)
        return _costly(one, self._told([outcomes[one.tag]])[0])

    def _told(self, outcomes: list[Outcome]) -> list[Outcome]:
        """The same, with a row for each that was refused for good (SMTP-18)."""
        for outcome in outcomes:
            if isinstance(outcome, Dead):
                self._tell(outcome)
        return outcomes

    def _tell(self, dead: Dead) -> None:
        owned = self._owned
        try:
            refusals.tell(
                refusals.Refusal(
                    source=Message.Source.AMQP,
                    reason=dead.reason,
                    reply=dead.text,
                    username=owned.username,
                    account_id=owned.account_id,
                    tenant_id=owned.tenant_id,
                    session_id=owned.queue[:64],
                )
            )
        except Exception:  # the message goes to the dead letters all the same, with its reason
            log.exception("refusal left no row")

    def _read(self, one: Incoming, outcomes: dict[int, Outcome]) -> SendEmail | None:
        with _refusals(one, outcomes):
            if properties.unreadable(one.headers):
                outcomes[one.tag] = Dead("malformed", "Its AMQP properties cannot be read.")
                return None
            request = payload.read(one.body)
            if self._owned.is_owner(request.tenant, request.account):
                return request
            text = f"metadata names another tenant or account than {self._owned.queue} belongs to."
            outcomes[one.tag] = Dead("foreign_account", text)
        return None

    def _place(self, request: SendEmail) -> receipts.Place:
        return self._owned.account_id, Message.Source.AMQP.value, request.key

    @staticmethod
    def _inline(request: SendEmail) -> list[Item]:
        return [item for item in request.attachments if not isinstance(item, Pointer)]

    def _fetched(self, item: Item | Pointer, stack: contextlib.ExitStack) -> Item:
        if not isinstance(item, Pointer):
            return item
        spool = self._fetcher.fetch(item.where, item.size)
        stack.callback(spool.close)
        return StreamedAttachment(
            item.name, item.content_type, spool, item.content_id, bool(item.content_id), item.parameters
        )

    def _hand_over(
        self,
        fresh: Sequence[tuple[Incoming, SendEmail, list[Item]]],
        outcomes: dict[int, Outcome],
        stack: contextlib.ExitStack,
    ) -> None:
        ready: list[tuple[Incoming, SendEmail, Submission]] = []
        for one, request, items in fresh:
            with _refusals(one, outcomes):
                submission = self._submission(one, request, items)
                stack.callback(submission.body.close)  # type: ignore[attr-defined]  # it is a Spool
                ready.append((one, request, submission))
        if not ready:
            return
        answers = intake.accept([submission for _, _, submission in ready])
        for (one, request, _), answer in zip(ready, answers, strict=True):
            outcomes[one.tag] = _outcome(one, request, answer)

    def _submission(self, one: Incoming, request: SendEmail, items: list[Item]) -> Submission:
        letter = Letter(
            from_=request.from_,
            to=request.to,
            cc=request.cc,
            bcc=request.bcc,
            subject=request.subject,
            text=request.text,
            html=request.html,
            attachments=items,
        )
        return submit(
            letter,
            self._limits,
            message_id=uuid7(),
            account_id=self._owned.account_id,
            source=Message.Source.AMQP,
            received_at=one.received_at,
            session_id=self._owned.queue[:64],
            key=request.key,
            fingerprint=request.fingerprint,
        )


@contextlib.contextmanager
def _refusals(one: Incoming, outcomes: dict[int, Outcome]) -> Iterator[None]:
    """One message that cannot be read or written costs the others nothing."""
    try:
        yield
    except Rejected as error:
        outcomes[one.tag] = Dead(error.code, error.text)
    except Exception:
        log.exception("message not read")
        outcomes[one.tag] = _failed(one)


def _failed(one: Incoming) -> Later:
    """Our own failure: perhaps everybody's, perhaps this one's, so that the others need not wait for it."""
    one.failures += 1
    return Later(min(WAIT * 2 ** (one.failures - 1), 60.0), "internal")


def _outcome(one: Incoming, request: SendEmail, answer: Answer) -> Outcome:
    if isinstance(answer, Accepted):
        if answer.receipt is None:
            raise TypeError("what came under a key has a receipt")
        if answer.repeated:
            return _repeated(request, answer.receipt, altered=answer.altered)
        return Taken(request.publisher_message_id, answer.receipt)
    if isinstance(answer, Rejected) and answer.code not in _ACCOUNT_CODES:
        return Dead(answer.code, answer.text)
    if answer.code == "internal":
        return _failed(one)
    seconds = WAIT if answer.retry_after is None else answer.retry_after
    everything = answer.code != "key_in_use"
    return Later(min(max(seconds, LOOK_AGAIN), LONGEST_WAIT), answer.code, answer.text, everything)


def _repeated(request: SendEmail, receipt: Receipt, *, altered: bool) -> Outcome:
    """What was accepted before: told already, about to be told by who accepted it, or left untold by one who died."""
    if altered:
        return Dead("key_reused", "Another message came under this publisher_message_id before.")
    age = (timezone.now() - receipt.created_at).total_seconds()
    if receipt.told_at is None and 0 <= age < ANSWERED_WITHIN:
        return Later(LOOK_AGAIN, "being_told")
    return Taken(request.publisher_message_id, receipt)


def _costly(one: Incoming, outcome: Outcome) -> Outcome:
    """What waits for a quota or for room is fetched once more each time it is looked at: less and less often."""
    if not isinstance(outcome, Later) or not outcome.everything:
        return outcome
    one.failures += 1
    return replace(outcome, seconds=min(outcome.seconds * 2**one.failures, LONGEST_WAIT_FETCHED))


def _try_again(one: Incoming, error: Deferred) -> Outcome:
    if error.code != "attachment_unreachable":
        return Later(UNFORESEEN, error.code, error.text)
    if one.tries >= len(FETCH_WAITS):
        return Dead(error.code, error.text)
    one.tries += 1
    return Later(FETCH_WAITS[one.tries - 1], error.code, error.text)
