"""Who listens to what goes out: a queue on RabbitMQ, and a tenant's server for webhooks."""

import contextlib
import hmac
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import urlsplit

import amqp


class Consumer:
    """A queue of its own, bound to an exchange of its own; both go with it."""

    def __init__(self, url, *keys):
        self.exchange = f"test-{uuid.uuid4().hex}"
        parts = urlsplit(url)
        self.connection = amqp.Connection(f"{parts.hostname}:{parts.port or 5672}", parts.username, parts.password)
        self.connection.connect()
        self.channel = self.connection.channel()
        self.channel.exchange_declare(self.exchange, "topic", durable=True, auto_delete=False)
        self.queue = self.channel.queue_declare(exclusive=True).queue
        for key in keys or ("#",):
            self.channel.queue_bind(self.queue, self.exchange, key)

    def take(self):
        """The next message, None when there is none."""
        return self.channel.basic_get(self.queue, no_ack=True)

    def all(self):
        return list(iter(self.take, None))

    def told(self):
        """Routing key and payload of everything there is."""
        return [(message.delivery_info["routing_key"], json.loads(message.body)) for message in self.all()]

    def close(self):
        self.channel.exchange_delete(self.exchange)
        self.connection.close()


class Receiver:
    """A tenant's server for webhooks on this machine. It checks every signature by itself and keeps what it was told.

    `answer` is called with the handler and writes the answer; by default that is 204.
    """

    def __init__(self, secret="", port=0, answer=None):
        self.secrets, self.requests, self.answer = [secret], [], answer or (lambda handler: reply(handler, 204))
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                used = signed_by(self.headers["Smtpproxy-Signature"], body, receiver.secrets)
                receiver.requests.append(SimpleNamespace(headers=self.headers, body=body, secret_used=used))
                with contextlib.suppress(OSError):
                    receiver.answer(self)

            def log_message(self, *_args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads, block_on_close, request_queue_size = True, False, 50

            def handle_error(self, *_args):
                pass  # a client that goes away

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.02])
        self.thread.start()

    def told(self):
        """The payloads of the requests whose signature was right."""
        return [json.loads(one.body) for one in self.requests if one.secret_used]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def reply(handler, status, body=b"", **headers):
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def signed_by(header, body, secrets):
    """The secrets a signature is by, as docs/events.md says a receiver is to find out."""
    parts = [part.partition("=")[::2] for part in header.split(",")]
    (stamp,) = [value for name, value in parts if name == "t"]
    assert abs(time.time() - int(stamp)) < 300
    codes = [value for name, value in parts if name == "v1"]
    return [
        secret
        for secret in secrets
        if hmac.new(secret.encode(), f"{stamp}.".encode() + body, "sha256").hexdigest() in codes
    ]
