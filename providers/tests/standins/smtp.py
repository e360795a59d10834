"""A mail server on loopback that keeps exactly what it was sent, and refuses what it is told to refuse."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_PATH = re.compile(r"(?:FROM|TO):<([^>]*)>((?: [A-Z0-9=-]+)*)", re.IGNORECASE)
CUT = "cut"
"""As a reply: close the connection without one."""


@dataclass
class Mail:
    """One transaction that got 250. `data` is what was between DATA and the final dot, dots unstuffed."""

    mail_from: str
    parameters: list[str]
    recipients: list[str]
    data: bytes
    session: int
    tls: bool
    username: str


@dataclass
class SmtpSink:
    """A server for one test.

    `features` are announced in EHLO beside AUTH and STARTTLS. With `users`, MAIL needs a login. `tls` is a server
    context; `implicit` wraps the connection at once, otherwise STARTTLS is offered.

    Orders: `replies[verb]` is a list of replies for the next times that verb is used (MAIL, DATA, `.` for the final
    dot, EHLO, AUTH, RSET, STARTTLS, CONNECT), `refused[address]` a standing reply to RCPT. A reply may be CUT or a
    number of seconds to stay silent.
    """

    features: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 26214400", "ENHANCEDSTATUSCODES")
    users: dict[str, str] = field(default_factory=dict)
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    tls: ssl.SSLContext | None = None
    implicit: bool = False
    replies: dict[str, list[Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    max_recipients: int = 100

    accepted: list[Mail] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    """Every command line, credentials included."""
    connections: int = 0
    delay: float = 0.0
    """Seconds before the reply to each final dot."""

    def __enter__(self) -> SmtpSink:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.host, self.port = self._listener.getsockname()
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.close_idle()

    def config(self, **more: Any) -> dict[str, Any]:
        """Settings of a provider row that uses this server."""
        security = "none" if self.tls is None else "tls" if self.implicit else "starttls"
        return {"host": "localhost", "port": self.port, "security": security, "ehlo_name": "client.test", **more}

    def close_idle(self) -> None:
        """Close every open connection, as a server does that has waited long enough."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                number = self.connections
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            _Session(self, connection, number).run()
        except (OSError, ssl.SSLError, _Closed):
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    def take_order(self, verb: str) -> Any:
        with self._lock:
            waiting = self.replies.get(verb)
            return waiting.pop(0) if waiting else None


class _Closed(Exception):
    pass


class _Session:
    def __init__(self, sink: SmtpSink, connection: socket.socket, number: int) -> None:
        self.sink, self.connection, self.number = sink, connection, number
        self.buffer = b""
        self.encrypted, self.username, self.greeted = False, "", False
        self.mail: Mail | None = None

    def run(self) -> None:
        self.connection.settimeout(30)
        if self.sink.implicit and self.sink.tls:
            self._encrypt()
        self.say("CONNECT", "220 sink.test ESMTP")
        while True:
            line = self.line().decode("utf-8", "surrogateescape")
            self.sink.commands.append(line)
            verb, _, argument = line.partition(" ")
            handler: Callable[[str], None] | None = getattr(self, f"do_{verb.lower()}", None)
            if handler is None:
                self.say(verb.upper(), "500 5.5.1 What?")
            else:
                handler(argument)

    # Bytes

    def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self.fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def fill(self) -> None:
        more = self.connection.recv(1 << 16)
        if not more:
            raise _Closed
        self.buffer += more

    def say(self, verb: str, reply: str) -> bool:
        """Reply, unless there are other orders; True when the usual reply was given."""
        order = self.sink.take_order(verb)
        if order == CUT:
            self.connection.close()
            raise _Closed
        if isinstance(order, int | float):
            time.sleep(order)
            raise _Closed
        text = order or reply
        self.connection.sendall(text.encode() + b"\r\n")
        if text.startswith("421"):
            raise _Closed
        return order is None or str(order).startswith(reply[:3])

    def _encrypt(self) -> None:
        assert self.sink.tls
        plain = self.connection
        self.connection = self.sink.tls.wrap_socket(plain, server_side=True)
        self.sink._open.discard(plain)
        self.sink._open.add(self.connection)
        self.encrypted, self.buffer, self.greeted = True, b"", False

    # Verbs

    def do_ehlo(self, _: str) -> None:
        self.greeted, self.mail = True, None
        features = list(self.sink.features)
        if self.sink.users:
            features.append("AUTH " + " ".join(self.sink.mechanisms))
        if self.sink.tls and not self.encrypted:
            features.append("STARTTLS")
        lines = ["sink.test", *features]
        self.say("EHLO", "\r\n".join(f"250{'-' if n < len(lines) else ' '}{text}" for n, text in enumerate(lines, 1)))

    def do_helo(self, _: str) -> None:
        self.greeted = True
        self.say("HELO", "250 sink.test")

    def do_starttls(self, _: str) -> None:
        if self.say("STARTTLS", "220 2.0.0 Go ahead"):
            self._encrypt()

    def do_auth(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        if mechanism.upper() == "PLAIN":
            _, username, password = base64.b64decode(initial).decode().split("\0")
        else:
            username, password = self._ask("VXNlcm5hbWU6"), self._ask("UGFzc3dvcmQ6")
        good = self.sink.users.get(username) == password
        if self.say("AUTH", "235 2.7.0 Welcome" if good else "535 5.7.8 Authentication failed") and good:
            self.username = username

    def _ask(self, prompt: str) -> str:
        self.connection.sendall(f"334 {prompt}\r\n".encode())
        return base64.b64decode(self.line()).decode()

    def do_mail(self, argument: str) -> None:
        match = _PATH.fullmatch(argument)
        offered = {feature.partition(" ")[0] for feature in self.sink.features}
        parameters = (match[2] if match else "").split()
        known = {"SIZE": "SIZE", "BODY": "8BITMIME", "SMTPUTF8": "SMTPUTF8"}
        if not self.greeted or self.mail:
            self.say("MAIL", "503 5.5.1 Bad sequence")
        elif self.sink.users and not self.username:
            self.say("MAIL", "530 5.7.0 Authentication required")
        elif not match or (not match[1].isascii() and "SMTPUTF8" not in parameters):
            self.say("MAIL", "501 5.1.7 Bad sender address syntax")
        elif any(known.get(parameter.partition("=")[0]) not in offered for parameter in parameters):
            self.say("MAIL", "555 5.5.4 Unsupported option")
        elif self.say("MAIL", "250 2.1.0 Ok"):
            self.mail = Mail(match[1], parameters, [], b"", self.number, self.encrypted, self.username)

    def do_rcpt(self, argument: str) -> None:
        match = _PATH.fullmatch(argument)
        if self.mail is None:
            self.say("RCPT", "503 5.5.1 Need MAIL")
        elif not match or "@" not in match[1]:
            self.say("RCPT", "501 5.1.3 Bad recipient address syntax")
        elif match[1] in self.sink.refused:
            self.say("RCPT", self.sink.refused[match[1]])
        elif len(self.mail.recipients) >= self.sink.max_recipients:
            self.say("RCPT", "452 4.5.3 Too many recipients")
        elif self.say("RCPT", "250 2.1.5 Ok"):
            self.mail.recipients.append(match[1])

    def do_data(self, _: str) -> None:
        if self.mail is None or not self.mail.recipients:
            self.say("DATA", "554 5.5.1 No valid recipients")
            return
        if not self.say("DATA", "354 End data with <CR><LF>.<CR><LF>"):
            return
        self.mail.data = self._content()
        mail, self.mail = self.mail, None
        if "BODY=8BITMIME" not in mail.parameters and not mail.data.isascii():
            self.say(".", "554 5.6.1 8-bit data not announced")
            return
        if self.sink.delay:
            time.sleep(self.sink.delay)
        self.sink.accepted.append(mail)  # before the reply, which the test may see at once
        taken = False
        try:
            taken = self.say(".", f"250 2.0.0 Ok: queued as {self.number:04X}{len(self.sink.accepted):04X}")
        finally:
            if not taken:
                self.sink.accepted.remove(mail)

    def _content(self) -> bytes:
        """Up to <CRLF>.<CRLF> and nothing else, with the dots taken off again."""
        data = b"\r\n" + self.buffer
        self.buffer = b""
        while (end := data.find(b"\r\n.\r\n")) < 0:
            self.fill()
            data, self.buffer = data + self.buffer, b""
        self.buffer = data[end + 5 :]
        return (data[: end + 2].replace(b"\r\n..", b"\r\n."))[2:]

    def do_rset(self, _: str) -> None:
        self.mail = None
        self.say("RSET", "250 2.0.0 Ok")

    def do_noop(self, _: str) -> None:
        self.say("NOOP", "250 2.0.0 Ok")

    def do_quit(self, _: str) -> None:
        self.say("QUIT", "221 2.0.0 Bye")
        raise _Closed
