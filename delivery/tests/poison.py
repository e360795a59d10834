"""A backend that dies with its process."""

import os
import signal

from providers.base import Backend, OutboundMessage, SendResult


class PoisonBackend(Backend):
    type = "poison"
    takes_raw = True

    def send(self, message: OutboundMessage) -> SendResult:
        if b"POISON" in message.raw:
            os.kill(os.getpid(), signal.SIGKILL)
        return SendResult.all_delivered(message.recipients, "survived")
