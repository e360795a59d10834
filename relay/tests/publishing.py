"""A publisher of `SendEmail` messages, with queues of its own on a real RabbitMQ."""

import json
import time
import uuid

import amqp

from delivery import rabbitmq


def payload(**changes):
    """A message acme may send; None takes a field away."""
    fields = {
        "publisher_message_id": str(uuid.uuid4()),
        "from": "Crm <crm@acme.example>",
        "to": ["ann@outside.example"],
        "subject": "Greetings",
        "body": {"contentType": "text/plain", "content": "Hello.\n"},
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


class Raw(amqp.Message):
    """A message with properties as no library of Python would write them (AMQP 0-9-1 §4.2.6.1)."""

    def __init__(self, body, properties):
        super().__init__(body)
        self.octets = properties

    def _serialize_properties(self):
        return self.octets


class Publisher:
    """Queues `queue`, `dead` and `replies`, all gone when closed."""

    def __init__(self, url):
        self.url = url
        name = f"test-ingest-{uuid.uuid4().hex}"
        self.queue, self.dead, self.replies = name, f"{name}.dead", f"{name}.replies"
        self.connect()

    def connect(self):
        self.connection = amqp.Connection(**rabbitmq.address(self.url, "test"), confirm_publish=True)
        self.connection.connect()
        self.channel = self.connection.channel()

    def declare(self, *names):
        """Before the door has made them."""
        for name in names or (self.queue, self.dead, self.replies):
            self.channel.queue_declare(name, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})

    def publish(self, content, *, queue=None, **properties):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send(amqp.Message(body, **properties), queue)

    def send(self, message, queue=None):
        self.channel.basic_publish(message, "", queue or self.queue, mandatory=True)

    def take(self, queue, many=1, seconds=15):
        """So many messages of a queue, and no more for the moment."""
        found, until = [], time.monotonic() + seconds
        while len(found) < many and time.monotonic() < until:
            if message := self.channel.basic_get(queue, no_ack=True):
                found.append(message)
            else:
                time.sleep(0.02)
        assert len(found) == many, f"{len(found)} of {many} messages in {queue}"
        return found

    def answers(self, many=1, seconds=15):
        return [json.loads(message.body) for message in self.take(self.replies, many, seconds)]

    def depth(self, queue=None):
        """Messages that nobody has taken; those in somebody's hands aside."""
        return self.channel.queue_declare(queue or self.queue, passive=True).message_count

    def close(self):
        for name in (self.queue, self.dead, self.replies):
            self.channel.queue_delete(name)
        self.connection.close()
