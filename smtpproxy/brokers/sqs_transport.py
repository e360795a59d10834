"""Celery's SQS transport, which no payload and no bad answer can bring down (QUE-3, QUE-8)."""

from __future__ import annotations

from typing import Any

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from kombu.asynchronous.aws.sqs import connection
from kombu.asynchronous.http import get_client
from kombu.transport import SQS
from kombu.transport.SQS.exceptions import AccessDeniedQueueException

from smtpproxy import payloads
from smtpproxy.brokers import envelopes

log = structlog.get_logger(__name__)

library: Any = SQS  # its types leave out what is extended here
AsyncSQSConnection: Any = connection.AsyncSQSConnection

MOST_POLLS = 64
"""Queues one worker can listen to at once; the library's ten would leave others waiting for their turn."""
PAUSE = 2.0
"""Seconds between questions to a service that does not answer."""


ERRORS = (ClientError, BotoCoreError, OSError)
"""What a call of the service raises."""
_NOT_GIVEN_BACK = "ring not given back; it comes again when its visibility timeout ends"


class Receiver(AsyncSQSConnection):
    """Asks for messages. Whatever the service answers, the worker lives and asks again: the library's own ends it for
    an answer such as 403 (credentials that have run out) and trips over one that did not come."""

    failing = False

    def _on_list_ready(self, parent: Any, markers: Any, operation: str, response: Any) -> Any:
        try:
            if response.status == self.STATUS_CODE_OK:
                found = super()._on_list_ready(parent, markers, operation, response)
                self._note("")
                return found
            reason = f"HTTP {response.status}"
        except Exception as error:  # noqa: BLE001 -- an answer that cannot be read is as good as none
            reason = type(error).__name__
        self._note(reason)
        return {}

    def _note(self, reason: str) -> None:
        if reason and not self.failing:
            log.error("SQS gives no messages", error=reason)
        elif self.failing and not reason:
            log.warning("SQS gives messages again")
        self.failing = bool(reason)


class Channel(library.Channel):
    """Takes envelopes only. All queues share one client each way: making one takes a tenth of a second."""

    _asynsqs: Any = None

    def sqs(self, queue: str | None = None) -> Any:  # noqa: ARG002
        return super().sqs()

    def asynsqs(self, queue: str | None = None) -> Any:  # noqa: ARG002
        if self._asynsqs is None:
            self._asynsqs = Receiver(
                sqs_connection=self.sqs(), region=self.region, http_client=get_client(max_clients=MOST_POLLS)
            )
        return self._asynsqs

    def _loop1(self, queue: str, messages_fetched: Any = None) -> None:
        if self.connection is None:  # the worker has connected anew since this question was asked
            return
        if not messages_fetched and self.asynsqs().failing:
            self.hub.call_later(PAUSE, self._schedule_queue, queue)
        else:
            super()._loop1(queue, messages_fetched)

    def _on_messages_ready(self, queue: str, qname: str, messages: dict[str, Any]) -> int:
        """`queue` is the URL. Each message is looked at before the library makes anything of it."""
        found = messages.get("Messages") or []
        if self.connection is None:
            self._give_back(queue, found)
            return 0
        sound = [message for message in found if self._sound(queue, qname, message)]
        taken = super()._on_messages_ready(queue, qname, {"Messages": sound}) if sound else 0
        return int(taken) + len(found) - len(sound)

    def _give_back(self, url: str, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            try:
                self._sqs.change_message_visibility(
                    QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
                )
            except ERRORS as error:
                log.warning(_NOT_GIVEN_BACK, error=_code(error))

    def _restore(self, message: Any, *args: Any) -> None:
        """The library's own ends the worker when the service has forgotten the message, or its receipt has run out."""
        try:
            super()._restore(message, *args)
        except ERRORS as error:
            log.warning(_NOT_GIVEN_BACK, error=_code(error))

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """A right that is missing does not end the worker either; the ring comes back until the service gives it up."""
        try:
            super().basic_ack(delivery_tag, multiple)
        except AccessDeniedQueueException:
            log.error("ring not deleted: sqs:DeleteMessage is denied")

    def _sound(self, url: str, name: str, message: dict[str, Any]) -> bool:
        entry = self._decode_python_message_body(message["Body"])
        kind = envelopes.flaw(entry, self)
        if kind:
            payloads.dropped(name, kind, len(entry))
            try:
                self.sqs().delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            except ERRORS as error:  # it comes again, and goes to the dead letters in the end
                log.warning("unknown payload not deleted", queue=name, error=_code(error))
        return not kind


def _code(error: Exception) -> str:
    """What the service called it, or its name."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__


class Transport(library.Transport):
    """An error the service names, too, is a reason to connect anew, not to end the worker."""

    Channel = Channel
    connection_errors = (*library.Transport.connection_errors, ClientError)
