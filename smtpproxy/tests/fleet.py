"""Listener, worker and scheduler as processes of their own, on one broker and on the database of the test run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import smtplib
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from accounts.tests.factories import AccountFactory, TenantFactory
from delivery.models import Message, MessageStatus
from delivery.tests.workers import Scheduler, Worker, database_url
from providers.tests.factories import ProviderFactory, RoutingRuleFactory
from relay.tests.processes import Program
from smtpproxy.tests.brokers import Server
from smtpproxy.tests.services import wait_until

HASTY = {"DELIVERY_LEASE": "4", "PROVIDER_TIMEOUT": "2", "SWEEP_INTERVAL": "0.3"}
POISONED = "poisoned.example"
"""Mail to this domain kills the process that sends it (see poison_settings.py)."""


class Fleet:
    """Sends as acme, which is known by its network; mail goes to `service`, a stand-in."""

    def __init__(self, broker: Server, folder: Path, service) -> None:
        self.broker, self.folder, self.service = broker, folder, service
        tenant = TenantFactory(slug="acme")
        AccountFactory(
            tenant=tenant,
            username="crm@acme",
            allowed_senders=["acme.example"],
            client_networks=["127.0.0.0/8"],
            network_authenticated=True,
        )
        ProviderFactory(tenant=tenant, name="primary", type=service.type, config=service.config())
        poison = ProviderFactory(tenant=tenant, name="poison", type="poison", config={}, default_rank=None)
        to_poisoned = [{"field": "recipient", "values": [POISONED]}]
        RoutingRuleFactory(tenant=tenant, priority=1, conditions=to_poisoned, providers=[poison])
        self.environment = {
            "DATABASE_URL": database_url(),
            "CREDENTIAL_KEYS": ",".join(settings.CREDENTIAL_KEYS),
            "DATA_DIR": str(folder),
            "STORAGE_PATH": str(folder / "messages"),
            "DJANGO_SETTINGS_MODULE": "smtpproxy.tests.poison_settings",
            **HASTY,
            **broker.settings,
        }

    def start(self) -> None:
        self.worker = Worker(self.folder / "worker.log", **self.environment)
        self.scheduler = Scheduler(self.folder / "scheduler.log", **self.environment)
        extra = {**self.environment, "SMTP_TLS_MODE": "none", "SMTP_LIMIT_EXEMPT_NETWORKS": "127.0.0.0/8"}
        self.listener = Program(self.folder, **{name: value for name, value in extra.items() if name != "DATA_DIR"})
        self.listener.environment |= {"DATA_DIR": extra["DATA_DIR"]}
        self.listener.__enter__()
        wait_until(lambda: " ready." in self.worker.log(), "the start of the worker")

    def stop(self) -> None:
        for process in (getattr(self, "worker", None), getattr(self, "scheduler", None)):
            if process is not None:
                process.stop()
        if hasattr(self, "listener"):
            self.listener.__exit__()
        call_command("flush", interactive=False, verbosity=0)

    def send(self, recipient: str, subject: str = "Hello", body: str = "Hello.") -> str:
        """The id of the message, which was answered with 250; raises smtplib.SMTPDataError for another answer."""
        with smtplib.SMTP("127.0.0.1", self.listener.port, timeout=60) as client:
            client.ehlo()
            client.mail("crm@acme.example")
            client.rcpt(recipient)
            lines = ["From: crm@acme.example", f"To: {recipient}", f"Subject: {subject}", "", body, ""]
            code, text = client.data("\r\n".join(lines).encode())
            if code != 250:
                raise smtplib.SMTPDataError(code, text)
            return text.decode().rpartition(" ")[2]

    @contextlib.contextmanager
    def paused(self):
        """The worker does nothing meanwhile, and does not know it."""
        os.killpg(self.worker.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.worker.process.pid, signal.SIGCONT)

    def until_delivered(self, *ids: str, seconds: float = 60) -> None:
        def all_are() -> bool:
            return Message.objects.filter(pk__in=ids, status=MessageStatus.DELIVERED).count() == len(set(ids))

        wait_until(all_are, f"the delivery of {len(ids)}", seconds)

    def taken(self, recipient: str) -> int:
        """How often the service took the mail to this recipient."""
        return sum(recipient in mail.recipients for mail in self.service.accepted)

    def told(self, event: str) -> list[dict]:
        """The log lines of the worker with this event."""
        lines = [line for line in self.worker.log().splitlines() if f'"{event}"' in line]
        return [json.loads(line) for line in lines]

    @staticmethod
    def a_minute_later(*ids: str) -> None:
        """Rings count as lost by now, and what nobody has claimed is due."""
        due = timezone.now() - timedelta(seconds=1)
        Message.objects.filter(pk__in=ids).update(rung_at=None)
        Message.objects.filter(pk__in=ids, status=MessageStatus.QUEUED).update(next_attempt_at=due)
