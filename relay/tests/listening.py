"""A listener on real sockets for tests: in a thread of this process, with every setting changeable."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
import uuid
from base64 import b64encode
from dataclasses import dataclass, field

from django.conf import settings

from accounts.credentials import AuthenticationFailed, Identity, sender_allowed
from delivery.submission import Accepted
from relay.config import Config
from relay.handler import Domain
from relay.listener import Listener
from relay.process import loop_factory
from relay.sockets import Door

ACME = Identity(uuid.UUID(int=1), uuid.UUID(int=2), "crm@acme", ("acme.example", "*.acme.example"), False)
BOUNCER = Identity(uuid.UUID(int=3), uuid.UUID(int=2), "bounces@acme", ("acme.example",), True)
PASSWORD = "correct horse"


@dataclass
class Recorder:
    """Stands below the listener where a test is about the conversation alone; keeps what was handed over."""

    messages: list = field(default_factory=list)
    bodies: list = field(default_factory=list)
    batches: list = field(default_factory=list)
    known_networks: dict = field(default_factory=dict)
    questions: list = field(default_factory=list)
    refusals: list = field(default_factory=list)
    answer: object = None

    def accept(self, submissions):
        self.batches.append(len(submissions))
        answers = []
        for submission in submissions:
            with submission.body.open() as stream:
                body = stream.read()
            assert len(body) == submission.body.size
            self.messages.append(submission)
            self.bodies.append(body)
            answers.append(self.answer(submission) if self.answer else Accepted(submission.message_id))
        return answers

    def verify(self, username, password, client_ip):
        self.questions.append((username, client_ip))
        for identity in (ACME, BOUNCER):
            if (username, password) == (identity.username, PASSWORD):
                return identity
        raise AuthenticationFailed("wrong_password")

    def verify_again(self, identity, client_ip):
        self.questions.append((identity.username, client_ip))
        return identity

    def identify(self, client_ip):
        return self.known_networks.get(client_ip)

    def domain(self):
        return Domain(
            accept=self.accept,
            verify=self.verify,
            verify_again=self.verify_again,
            identify_by_network=self.identify,
            sender_allowed=sender_allowed,
            keep_refusals=self.refusals.extend,
        )

    @property
    def body(self):
        """The only message, without the Received field put first."""
        [body] = self.bodies
        return without_trace(body)


def without_trace(body):
    assert body.startswith(b"Received: ")
    lines = body.split(b"\r\n")
    rest = next(number for number, line in enumerate(lines[1:], 1) if not line.startswith(b"\t"))
    return b"\r\n".join(lines[rest:])


def config(**changes):
    values = {**settings.SMTP, "MAX_NEW_CONNECTIONS_PER_MINUTE": 100_000, "MAX_CONNECTIONS_PER_ADDRESS": 5000}
    return {**values, **{name.upper(): value for name, value in changes.items()}}


class Running:
    """A listener in a thread. `port` speaks STARTTLS, `tls_port` implicit TLS."""

    def __init__(self, domain, *, accept_timeout=60, silent_after=5.0, threads=4, **changes):
        self._domain = domain
        self._config = config(**changes)
        self._options = {
            "accept_timeout": accept_timeout,
            "silent_after": silent_after,
            "database_threads": threads,
        }
        self.loop = None
        self.listener = None
        self.stopped = False
        self.clean = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        doors = [Door(self._socket(), False), Door(self._socket(), True)]
        self.port, self.tls_port = (door.socket.getsockname()[1] for door in doors)
        self._doors = doors
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_):
        self.stop(quickly=True)

    @staticmethod
    def _socket():
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        listening.setblocking(False)
        return listening

    def _run(self):
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self):
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.listener = Listener(Config.from_settings(self._config), self._doors, domain=self._domain, **self._options)
        self.listener.start()
        self._ready.set()
        await self._stop.wait()

    def run(self, work):
        """Run a coroutine, or call a function, in the listener's event loop."""

        async def call():
            return work()

        return asyncio.run_coroutine_threadsafe(work if asyncio.iscoroutine(work) else call(), self.loop)

    def drain(self):
        return self.run(self.listener.drain())

    def stop(self, *, quickly=False):
        if self.stopped:
            return
        self.stopped = True
        self.clean = self.run(self.listener.abort() if quickly else self.listener.drain()).result(60)
        self.threads_ended = self.listener.close()
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def reload(self, **changes):
        self._config = {**self._config, **{name.upper(): value for name, value in changes.items()}}
        self.run(lambda: self.listener.reload(self._config)).result(10)

    def client(self, **options):
        return Client(self.port, **options)


def client_context():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def cut_off(action, seconds=10):
    """Whether the server ends the connection while the client does something again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            action()
        except (OSError, EOFError):
            return True
    return False


class Client:
    """An SMTP client that sends exactly the octets it is told to."""

    def __init__(self, port, *, tls=False, greeted=True, timeout=20, source="127.0.0.1"):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout, source_address=(source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = client_context().wrap_socket(self.socket)
        self._received = b""
        self.greeting = self.reply() if greeted else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def reply(self):
        """The next reply, all its lines, as text without the last CR LF."""
        lines = []
        while True:
            while b"\r\n" not in self._received:
                data = self.socket.recv(65536)
                if not data:
                    raise EOFError(self._received)
                self._received += data
            line, _, self._received = self._received.partition(b"\r\n")
            lines.append(line.decode("ascii"))
            if line[3:4] != b"-":
                return "\n".join(lines)

    def command(self, line):
        """Send a line and give back the reply."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def commands(self, *lines):
        return [self.command(line) for line in lines]

    def at_end(self):
        """Whether the server has closed, and says nothing more."""
        with contextlib.suppress(ConnectionResetError, ssl.SSLError):
            return self._received == b"" and self.socket.recv(65536) == b""
        return True

    def starttls(self):
        assert self.command("STARTTLS").startswith("220")
        self.socket = client_context().wrap_socket(self.socket)

    def hello(self, *, tls=True):
        """EHLO, and STARTTLS with a second EHLO."""
        reply = self.command("EHLO client.example")
        if tls:
            self.starttls()
            reply = self.command("EHLO client.example")
        return reply

    def sign_in(self, username="crm@acme", password=PASSWORD):
        self.hello()
        token = b64encode(f"\0{username}\0{password}".encode()).decode()
        assert self.command(f"AUTH PLAIN {token}").startswith("235")
        return self

    def envelope(self, *recipients, sender="app@acme.example"):
        """MAIL, RCPT and DATA, up to the 354."""
        assert self.command(f"MAIL FROM:<{sender}>").startswith("250")
        for recipient in recipients or ("bob@example.org",):
            assert self.command(f"RCPT TO:<{recipient}>").startswith("250")
        assert self.command("DATA").startswith("354")

    def message(self, data, *recipients, **options):
        """A whole transaction; `data` goes out as it is, followed by the end marker."""
        self.envelope(*recipients, **options)
        self.send(data + b".\r\n")
        return self.reply()
