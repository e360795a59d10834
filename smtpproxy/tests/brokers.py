"""Private brokers that a test may kill and start again: one class for each QUEUE_TYPE.

Each knows the settings of the processes that use it, whether what lay in it outlives a kill, and how to put a thing
of no known format into a queue, or to read what lies there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import amqp
import boto3
import kombu
import redis

from accounts.tests.ports import free_port
from delivery import queues
from smtpproxy import lifeline, sockets
from smtpproxy.brokers import names
from smtpproxy.serve import broker as embedded
from smtpproxy.tests.services import port_answers, wait_until

QUEUES = queues.NAMES
REGION = "eu-central-1"


class Server:
    """A server process in a group of its own, with a folder for its data."""

    type = ""
    keeps = False
    """Whether rings outlive a kill."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"smtpproxy-{self.type}-"))
        self.port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def settings(self) -> dict[str, str]:
        """The environment of the processes that use it; REDIS_URL is whoever else's."""
        raise NotImplementedError

    def run(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / "output").open("ab") as output:
            process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
                cwd=self.folder,
                process_group=0,
                preexec_fn=lifeline.tied_to_parent(),  # noqa: PLW1509 -- it only makes two system calls
            )
        self.processes.append(process)
        return process

    def launch(self) -> None:
        """Start it, and do not wait for it."""
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def ready(self) -> None:
        """Return once it answers and has its queues."""
        wait_until(self.answers, f"the start of {self.type}", 90)

    def start(self) -> None:
        self.launch()
        self.ready()

    def kill(self) -> None:
        """SIGKILL, as a machine that loses power would."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def put(self, queue: str, entry: bytes) -> None:
        """Lay something into a queue, whatever it is."""
        raise NotImplementedError

    def put_task(self, queue: str, envelope: dict[str, Any]) -> None:
        """Lay a task there, given as Redis and SQS keep it."""
        self.put(queue, json.dumps(envelope).encode())

    def waiting(self, queue: str) -> int:
        """What lies in a queue, or has been taken from it and is not acknowledged (RabbitMQ: what lies there, as it
        counted some seconds ago)."""
        raise NotImplementedError

    def has(self, queue: str) -> bool:
        """Whether there is a queue besides those we know; only RabbitMQ can have one."""
        return False

    def forget(self) -> None:
        """Empty every queue, behind everybody's back."""
        raise NotImplementedError


class Redis(Server):
    """Keeps nothing."""

    type = "redis"

    def options(self) -> list[str]:
        return ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def settings(self) -> dict[str, str]:
        return {"QUEUE_TYPE": "redis", "REDIS_URL": self.url}

    def launch(self) -> None:
        self.run(embedded.binary(), "--dir", str(self.folder), *self.options())

    def answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), self.client() as client:
            return bool(client.ping())
        return False

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def put(self, queue: str, entry: bytes) -> None:
        with self.client() as client:
            client.lpush(queue, entry)

    def waiting(self, queue: str) -> int:
        with self.client() as client:
            return int(client.llen(queue)) + int(client.hlen("unacked"))

    def forget(self) -> None:
        with self.client() as client:
            client.delete(*QUEUES, "unacked", "unacked_index")


class Embedded(Redis):
    """As `manage.py serve` runs it: on a unix socket, written to disk."""

    type = "embedded"
    keeps = True

    @property
    def url(self) -> str:
        return sockets.redis_url(sockets.broker_socket(self.folder))

    @property
    def settings(self) -> dict[str, str]:
        return {"QUEUE_TYPE": "embedded", "DATA_DIR": str(self.folder)}

    def launch(self) -> None:
        socket, data = sockets.broker_socket(self.folder), self.folder / "broker"
        embedded.prepare(socket, data)
        self.run(*embedded.command(socket, data))


class RabbitMq(Server):
    """A node of its own; its port mapper (epmd) is ours too, so that none is left behind."""

    type = "rabbitmq"
    keeps = True

    def __init__(self) -> None:
        super().__init__()
        self.mapper, self.distribution = free_port(), free_port()

    @staticmethod
    def program() -> Path | None:
        """The server itself; what is on the PATH is a wrapper that changes the user on Debian."""
        found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
        on_path = shutil.which("rabbitmq-server")
        return found[-1] if found else Path(on_path) if on_path else None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def settings(self) -> dict[str, str]:
        return {"QUEUE_TYPE": "rabbitmq", "RABBITMQ_URL": self.url}

    def launch(self) -> None:
        program, epmd = self.program(), shutil.which("epmd")
        if program is None or epmd is None:
            raise FileNotFoundError("RabbitMQ is not installed")
        self.run(epmd, "-port", str(self.mapper), "-address", "127.0.0.1")
        self.run(
            str(program),
            HOME=str(self.folder),
            ERL_EPMD_PORT=str(self.mapper),
            RABBITMQ_NODENAME=f"smtpproxy-{self.port}@localhost",
            RABBITMQ_NODE_IP_ADDRESS="127.0.0.1",
            RABBITMQ_NODE_PORT=str(self.port),
            RABBITMQ_DIST_PORT=str(self.distribution),
            RABBITMQ_MNESIA_BASE=str(self.folder / "mnesia"),
            RABBITMQ_LOG_BASE=str(self.folder / "log"),
            RABBITMQ_PID_FILE=str(self.folder / "pid"),
            RABBITMQ_CONFIG_FILE=str(self.folder / "none"),
            RABBITMQ_CONF_ENV_FILE=str(self.folder / "none"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(self.folder / "plugins"),
        )

    def answers(self) -> bool:
        with contextlib.suppress(OSError, kombu.exceptions.OperationalError), self.connect() as connection:
            connection.connect()
            return True
        return False

    def connect(self) -> kombu.Connection:
        """The library's own transport, not ours."""
        return kombu.Connection(self.url.replace("amqp://", "pyamqp://"), connect_timeout=2)

    def put(self, queue: str, entry: bytes, **properties: Any) -> None:
        with self.connect() as connection, connection.channel() as channel:
            message = channel.prepare_message(entry, **properties)
            channel.basic_publish_confirm(message, exchange="", routing_key=queue, timeout=5)

    def put_task(self, queue: str, envelope: dict[str, Any]) -> None:
        self.put(
            queue,
            base64.b64decode(envelope["body"]),
            content_type=envelope["content-type"],
            content_encoding=envelope["content-encoding"],
            headers=envelope["headers"],
            properties={"delivery_mode": 2},
        )

    def put_properties(self, queue: str, properties: bytes) -> None:
        """A message whose properties are these octets, sound or not."""

        class Message(amqp.Message):
            def _serialize_properties(self) -> bytes:
                return properties

        with self.connect() as connection, connection.channel() as channel:
            channel.basic_publish_confirm(Message(b"[]"), exchange="", routing_key=queue, timeout=5)

    def waiting(self, queue: str) -> int:
        with self.connect() as connection, connection.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)

    def has(self, queue: str) -> bool:
        with self.connect() as connection, connection.channel() as channel:
            try:
                channel.queue_declare(queue, passive=True)
            except amqp.NotFound:
                return False
            return True

    def forget(self) -> None:
        with self.connect() as connection, connection.channel() as channel:
            for queue in QUEUES:
                channel.queue_purge(queue)


class Sqs(Server):
    """moto's server, which keeps nothing: its queues are made anew when it starts, as if they had been kept.

    For a moment it has none; a worker that starts just then ends, as it would without them.
    """

    type = "sqs"
    visibility = 60
    most_receives = 5

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/123456789012/mail"

    @property
    def settings(self) -> dict[str, str]:
        return {
            "QUEUE_TYPE": "sqs",
            "SQS_QUEUE_URL": self.url,
            "SQS_DLQ_URL": f"{self.url}-dead",
            "SQS_REGION": REGION,
            "SQS_WAIT_TIME": "1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def client(self) -> Any:
        return boto3.client(
            "sqs",
            region_name=REGION,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def launch(self) -> None:
        self.run(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port))

    def answers(self) -> bool:
        return port_answers(self.port)

    def ready(self) -> None:
        super().ready()
        client = self.client()
        dead = client.create_queue(QueueName="mail-dead")["QueueUrl"]
        arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": self.most_receives})
        attributes = {"VisibilityTimeout": str(self.visibility), "RedrivePolicy": policy}
        for queue in QUEUES:
            client.create_queue(QueueName=names.sqs_url(self.url, queue).rpartition("/")[2], Attributes=attributes)

    def put(self, queue: str, entry: bytes) -> None:
        body = base64.b64encode(entry).decode()
        self.client().send_message(QueueUrl=names.sqs_url(self.url, queue), MessageBody=body)

    def waiting(self, queue: str) -> int:
        counted = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.client().get_queue_attributes(QueueUrl=names.sqs_url(self.url, queue), AttributeNames=counted)
        return sum(int(number) for number in found["Attributes"].values())

    def forget(self) -> None:
        reset = urllib.request.Request(f"http://127.0.0.1:{self.port}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset, timeout=10).close()
        self.ready()


TYPES: dict[str, type[Server]] = {each.type: each for each in (Embedded, Redis, Sqs, RabbitMq)}


def why_not(type_: str) -> str:
    """What is missing on this machine to run a broker of a type, or ""."""
    if type_ == "rabbitmq" and (RabbitMq.program() is None or shutil.which("epmd") is None):
        return "RabbitMQ is not installed"
    return ""
