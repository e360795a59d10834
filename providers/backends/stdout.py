"""Prints messages, for development."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from providers.base import Backend, OutboundMessage, SendResult
from providers.exceptions import Misconfigured

_printing = threading.Lock()


class StdoutBackend(Backend):
    """Prints envelope and message to standard output and delivers to nobody.

    It shows bodies by intent, so it refuses to work unless `DEBUG` or `STDOUT_PROVIDER_ALLOWED` is set (SEC-8).
    """

    type = "stdout"
    takes_raw = True
    sandbox = True

    def __init__(self, config: Mapping[str, Any], *, timeout: float = 30.0) -> None:
        super().__init__(config, timeout=timeout)
        if not (settings.DEBUG or getattr(settings, "STDOUT_PROVIDER_ALLOWED", False)):
            raise Misconfigured(
                "The stdout provider prints message bodies; set STDOUT_PROVIDER_ALLOWED to allow that.",
                code="not_allowed",
            )

    def check_connection(self) -> str:
        return "Prints to standard output."

    def send(self, message: OutboundMessage) -> SendResult:
        text = message.raw.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
        rule = "-" * 78
        with _printing:
            sys.stdout.write(
                f"{rule}\nmessage {message.message_id} attempt {message.idempotency_key}\n"
                f"MAIL FROM:<{message.mail_from}>\n"
                + "".join(f"RCPT TO:<{recipient}>\n" for recipient in message.recipients)
                + f"\n{text}\n{rule}\n"
            )
            sys.stdout.flush()
        return SendResult.all_delivered(message.recipients, message.idempotency_key, text="Printed.")
