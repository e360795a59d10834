"""Everything that takes, sends and tells, as processes of their own: listener, door for RabbitMQ, worker, scheduler."""

from __future__ import annotations

import base64
import json
import os
import smtplib
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.core.management import call_command

from accounts import shared_state
from accounts.tests.factories import PASSWORD, AccountFactory, TenantFactory, UserFactory
from accounts.tests.ports import free_port
from delivery.models import Message
from delivery.tests.factories import WebhookFactory
from delivery.tests.subscribers import Consumer, Receiver
from delivery.tests.workers import Scheduler, Worker, database_url
from providers.tests.factories import ProviderFactory
from providers.tests.standins import SmtpSink
from relay.tests.processes import Program
from relay.tests.publishing import Publisher
from smtpproxy.tests.services import wait_until

CRM = "crm@acme.example"
ADMIN = "admin@people.example"
STORAGE_KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
WEBHOOK_SECRET = "whsec_of_the_whole"
SECRETS = {"password": PASSWORD, "webhook": WEBHOOK_SECRET, "store": STORAGE_KEY}
_TICKS = os.sysconf("SC_CLK_TCK")


class Ingest(Worker):
    """The door for RabbitMQ."""

    command = ("manage.py", "runingest")


class Whole:
    """Sends as crm@acme, which signs in with a password; mail goes to `service`, a mail server.

    `webhook` is acme's, at an address where nobody answers until `open_receiver` is called.
    """

    def __init__(self, folder: Path, redis_url: str, rabbitmq_url: str, service: SmtpSink) -> None:
        self.folder, self.redis_url, self.service = folder, redis_url, service
        self.store = folder / "messages"
        self.consumer, self.publisher = Consumer(rabbitmq_url), Publisher(rabbitmq_url)
        self.publisher.declare(self.publisher.replies)
        self._events: list[tuple[str, dict[str, Any]]] = []
        self.tenant = TenantFactory(slug="acme", archived=True)
        self.account = AccountFactory(tenant=self.tenant, name="crm", username="crm@acme", may_send_bounces=True)
        self.provider = ProviderFactory(tenant=self.tenant, name="primary", type="smtp", config=service.config())
        UserFactory(tenant=self.tenant, role="admin", email=ADMIN)
        self.port, self.receiver = free_port(), None
        self.webhook = WebhookFactory(
            tenant=self.tenant, url=f"http://127.0.0.1:{self.port}/hook", secret=WEBHOOK_SECRET
        )
        self.environment = {
            "DATABASE_URL": database_url(),
            "CREDENTIAL_KEYS": ",".join(settings.CREDENTIAL_KEYS),
            "DATA_DIR": str(folder),
            "STORAGE_PATH": str(self.store),
            "STORAGE_KEYS": STORAGE_KEY,
            "QUEUE_TYPE": "redis",
            "REDIS_URL": redis_url,
            "SWEEP_INTERVAL": "0.5",
            "DELIVERY_RETRY_SCHEDULE": "1",
            "NOTICE_DIGEST_INTERVAL": "1",
            "EVENTS_URL": rabbitmq_url,
            "EVENTS_EXCHANGE": self.consumer.exchange,
            "WEBHOOK_PRIVATE_NETWORKS": "true",
            "INGEST_URL": rabbitmq_url,
            "INGEST_QUEUES": f"{self.publisher.queue}=crm@acme",
            "INGEST_REPLY_QUEUE": self.publisher.replies,
            "SMTP_LIMIT_EXEMPT_NETWORKS": "127.0.0.0/8",
        }

    def start(self) -> None:
        self.worker = Worker(self.folder / "worker.log", **self.environment)
        self.scheduler = Scheduler(self.folder / "scheduler.log", **self.environment)
        self.ingest = Ingest(self.folder / "ingest.log", **self.environment)
        self.listener = Program(self.folder)
        self.listener.port, self.listener.tls_port = free_port(), free_port()
        ports = {"SMTP_PORT": str(self.listener.port), "SMTP_TLS_PORT": str(self.listener.tls_port)}
        self.listener.environment |= self.environment | ports
        self.listener.__enter__()
        wait_until(lambda: " ready." in self.worker.log(), "the start of the worker")
        wait_until(lambda: "changes are heard" in self.listener.log(), "the start of the listener")

    def stop(self) -> None:
        for name in ("worker", "scheduler", "ingest"):
            if hasattr(self, name):
                getattr(self, name).stop()
        if hasattr(self, "listener"):
            self.listener.__exit__()
        if self.receiver is not None:
            self.receiver.close()
        self.publisher.close()
        self.consumer.close()

    @staticmethod
    def forget() -> None:
        """Leave the database as it was."""
        call_command("flush", interactive=False, verbosity=0)

    # --- Mail ---------------------------------------------------------------------------------------------------------
    def send(self, *recipients: str, sender: str = CRM, header: str = "", body: str = "Hello.\r\n") -> str:
        """The id of a message that was answered with 250; `letter` makes what was sent."""
        with smtplib.SMTP("127.0.0.1", self.listener.port, timeout=30) as client:
            client.starttls()
            client.login("crm@acme", PASSWORD)
            client.mail(sender, ["BODY=8BITMIME"])
            for recipient in recipients:
                assert client.rcpt(recipient)[0] == 250
            code, text = client.data(letter(recipients[0], header, body))
        assert code == 250, text
        return text.decode().rpartition(" ")[2]

    def sign_in(self) -> int:
        """The reply code to AUTH."""
        with smtplib.SMTP("127.0.0.1", self.listener.port, timeout=30) as client:
            client.starttls()
            try:
                return client.login("crm@acme", PASSWORD)[0]
            except smtplib.SMTPAuthenticationError as refused:
                return refused.smtp_code

    def until(self, status: str, *ids: str, seconds: float = 40) -> None:
        def all_are() -> bool:
            return Message.objects.filter(pk__in=ids, status=status).count() == len(ids)

        wait_until(all_are, f"{status} of {len(ids)}", seconds)

    def sent_to(self, recipient: str) -> list[Any]:
        """What the provider was sent for this recipient."""
        return [mail for mail in self.service.accepted if recipient in mail.recipients]

    def until_sent_to(self, recipient: str, seconds: float = 40) -> Any:
        wait_until(lambda: bool(self.sent_to(recipient)), f"mail to {recipient}", seconds)
        [mail] = self.sent_to(recipient)
        return mail

    # --- Events -------------------------------------------------------------------------------------------------------
    def published(self) -> list[tuple[str, dict[str, Any]]]:
        """Routing key and payload of everything that came to a queue bound to the exchange."""
        self._events += self.consumer.told()
        return self._events

    def open_receiver(self) -> Receiver:
        if self.receiver is None:
            self.receiver = Receiver(WEBHOOK_SECRET, port=self.port)
        return self.receiver

    # --- What goes on inside ------------------------------------------------------------------------------------------
    def begin_again(self, chore: str) -> None:
        """What is done from time to time is due now."""
        with redis.Redis.from_url(self.redis_url) as client:
            client.delete(shared_state.key("chore-begun", chore))

    def logs(self) -> dict[str, str]:
        return {name: getattr(self, name).log() for name in ("listener", "ingest", "worker", "scheduler")}

    def lines(self) -> list[dict[str, Any]]:
        """Every line of JSON, with the name of its process as `process`."""
        return [
            {**json.loads(line), "process": name}
            for name, log in self.logs().items()
            for line in log.splitlines()
            if line.startswith("{")
        ]

    def seconds_of_cpu(self) -> dict[str, float]:
        """What each process has used up until now, its children included."""
        used = dict.fromkeys(("listener", "ingest", "worker", "scheduler"), 0.0)
        groups = {getattr(self, name).process.pid: name for name in used}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) in groups:
                used[groups[int(fields[2])]] += (int(fields[11]) + int(fields[12])) / _TICKS
        return used


def letter(to: str, header: str = "", body: str = "Hello.\r\n") -> bytes:
    head = f"From: Crm <{CRM}>\r\nTo: {to}\r\nSubject: To {to}\r\n{header}"
    return (
        f"{head}MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
        f"\r\n{body}"
    ).encode()
