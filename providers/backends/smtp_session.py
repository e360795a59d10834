"""One session with an SMTP server: connect, TLS, AUTH, and the verbs of a transaction with exact bytes.

`smtplib` does the connection and reads the replies. Its verbs are not used, because they rewrite addresses
(`quoteaddr`), stuff dots after bare line feeds, and take ASCII credentials only.
"""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass

from providers.backends.smtp_wire import Reply, path, stuffed
from providers.exceptions import Misconfigured, ProviderError, TemporaryFailure
from providers.scrub import scrub

PIPELINE = 50
"""Commands sent before their replies are read (RFC 2920): few enough that neither side's window fills up."""

_CHUNK = 128 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect and how. `security` is none, starttls or tls; `context` is used for both kinds of TLS."""

    host: str
    port: int
    security: str
    context: ssl.SSLContext
    timeout: float
    ehlo_name: str
    username: str
    password: str

    def __repr__(self) -> str:
        return f"<Target {self.host}:{self.port}>"


class Gone(Exception):
    """The server closed the session, or said 421, before it had taken anything."""

    def __init__(self, text: str, *, timed_out: bool = False) -> None:
        super().__init__(text)
        self.timed_out = timed_out


class _Client(smtplib.SMTP):
    def __init__(self, target: Target) -> None:
        self._context = target.context if target.security == "tls" else None
        super().__init__(target.host, target.port, local_hostname=target.ehlo_name, timeout=target.timeout)
        self.command_encoding = "utf-8"

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = super()._get_socket(host, port, timeout)  # type: ignore[misc]
        return self._context.wrap_socket(plain, server_hostname=host) if self._context else plain


class Session:
    """An open, greeted and authenticated session. Not for several threads at once."""

    def __init__(self, target: Target) -> None:
        """Raises TemporaryFailure when the server cannot be reached, Misconfigured when it turns us away for good."""
        self._secrets = (target.password,)
        self._signed_in = [f"signed in as {target.username}"] if target.username else []
        self._client = _opened(target)
        self.transactions = 0
        self.last_used = time.monotonic()
        try:
            self._greet(target)
        except smtplib.SMTPServerDisconnected as error:
            self.close()
            raise _unreachable(error) from error
        except smtplib.SMTPException as error:
            self.close()
            raise TemporaryFailure("The server's greeting makes no sense.", code="bad_answer") from error
        except ssl.SSLError as error:
            self.close()
            raise _tls_failed(error) from error
        except OSError as error:
            self.close()
            raise _unreachable(error) from error
        except ProviderError:
            self.close()
            raise
        except (ValueError, OverflowError) as error:
            self.close()
            raise _unusable() from error

    def offers(self, extension: str) -> bool:
        return self._client.has_extn(extension)

    @property
    def size_limit(self) -> int | None:
        """Octets the server takes (RFC 1870), None when it names no limit."""
        value = self._client.esmtp_features.get("size", "")
        return int(value) if value.isascii() and value.isdecimal() and int(value) else None

    # Verbs

    def mail(self, sender: str, parameters: Sequence[str]) -> Reply:
        """MAIL FROM. Raises Gone when the session has ended."""
        return self._command(" ".join((f"MAIL FROM:<{path(sender)}>", *parameters)))

    def rcpt(self, recipients: Sequence[str]) -> list[Reply]:
        """RCPT TO for each, in order, in one go where the server allows it. Raises Gone."""
        size = PIPELINE if self.offers("pipelining") else 1
        replies: list[Reply] = []
        for start in range(0, len(recipients), size):
            some = recipients[start : start + size]
            self._send("".join(f"RCPT TO:<{path(recipient)}>\r\n" for recipient in some).encode())
            replies += [self._reply() for _ in some]
        return replies

    def data(self) -> Reply:
        """DATA. Raises Gone."""
        return self._command("DATA")

    def content(self, raw: bytes) -> None:
        """The message and the final dot, byte for byte (RFC 5321 §4.5.2). Raises Gone: the server got no final dot."""
        self._send(stuffed(raw))

    def verdict(self, timeout: float) -> Reply:
        """The reply to the final dot, waiting `timeout` seconds. After Gone nobody knows what became of the message."""
        usual = self._client.timeout
        if self._client.sock:
            self._client.sock.settimeout(timeout)
        try:
            return self._reply(gone_on_421=False)
        finally:
            if self._client.sock:
                self._client.sock.settimeout(usual)
            self.transactions += 1
            self.last_used = time.monotonic()

    def told(self) -> str:
        """The reply to NOOP and what the server said of itself before. Raises TemporaryFailure."""
        try:
            reply = self._command("NOOP")
        except Gone as error:
            raise TemporaryFailure(str(error), code="timeout" if error.timed_out else "connection_lost") from error
        if not reply.positive:
            raise TemporaryFailure(str(reply), code="unavailable", status_code=reply.status_code)
        name = (self._client.ehlo_resp or self._client.helo_resp or b"").decode("utf-8", "replace").splitlines()[:1]
        version = getattr(self._client.sock, "version", None)
        offers = ", ".join(sorted(feature.upper() for feature in self._client.esmtp_features))
        parts = [str(reply), *name, version() if version else "no TLS", f"offers {offers or 'no extensions'}"]
        return scrub("; ".join([*parts, *self._signed_in]), self._secrets)

    def reset(self) -> bool:
        """RSET; False when the session is of no more use."""
        try:
            done = self._command("RSET").positive
        except Gone:
            return False
        self.last_used = time.monotonic()
        return done

    def close(self) -> None:
        """QUIT without waiting for the answer."""
        try:
            self._client.putcmd("QUIT")
        except (smtplib.SMTPException, OSError):
            pass
        finally:
            self._client.close()

    # Below the verbs

    def _command(self, line: str) -> Reply:
        self._send(f"{line}\r\n".encode())
        return self._reply()

    def _send(self, data: bytes) -> None:
        sock = self._client.sock
        try:
            if sock is None:
                raise OSError("not connected")
            for start in range(0, len(data), _CHUNK):  # the timeout is for each piece, not for a long message
                sock.sendall(memoryview(data)[start : start + _CHUNK])
        except OSError as error:
            self._client.close()
            raise Gone("The connection broke.", timed_out=isinstance(error, TimeoutError)) from error

    def _reply(self, *, gone_on_421: bool = True) -> Reply:
        try:
            code, text = self._client.getreply()
        except smtplib.SMTPServerDisconnected as error:
            raise Gone("The connection broke.", timed_out=isinstance(error.__context__, TimeoutError)) from error
        except smtplib.SMTPException as error:  # an endless line
            raise Gone("The server's reply makes no sense.") from error
        reply = Reply(code, scrub(text, self._secrets))
        if not 200 <= code < 600:  # whatever comes next would be read as the reply to something else
            self._client.close()
            raise Gone("The server's reply makes no sense.")
        if code == 421 and gone_on_421:
            self._client.close()
            raise Gone(str(reply))
        return reply

    def _greet(self, target: Target) -> None:
        self._client.ehlo_or_helo_if_needed()
        if target.security == "starttls":
            if not self.offers("starttls"):
                raise Misconfigured("The server does not offer STARTTLS.", code="tls_unavailable")
            try:
                self._client.starttls(context=target.context)
            except smtplib.SMTPResponseException as error:
                raise self._turned_away(error.smtp_code, error.smtp_error, "tls_unavailable") from error
            self._client.ehlo_or_helo_if_needed()
        if target.username:
            self._authenticate(target.username, target.password)

    def _authenticate(self, username: str, password: str) -> None:
        """AUTH PLAIN or LOGIN (RFC 4954), whichever is offered."""
        mechanisms = self._client.esmtp_features.get("auth", "").upper().split()
        if "PLAIN" in mechanisms:
            code, text = self._client.docmd("AUTH", f"PLAIN {_b64(f'{chr(0)}{username}{chr(0)}{password}')}")
        elif "LOGIN" in mechanisms:
            code, text = self._client.docmd("AUTH", "LOGIN")
            for answer in (username, password):
                if code == 334:
                    code, text = self._client.docmd(_b64(answer))
        else:
            raise Misconfigured("The server offers neither AUTH PLAIN nor AUTH LOGIN.", code="auth_unavailable")
        if code != 235:
            raise self._turned_away(code, text, "bad_credentials")

    def _turned_away(self, code: int, text: bytes | str, name: str) -> ProviderError:
        reply = Reply(code, scrub(text, self._secrets))
        if reply.temporary:
            return TemporaryFailure(str(reply), code="unavailable", status_code=reply.status_code)
        return Misconfigured(str(reply), code=name, status_code=reply.status_code)


def _opened(target: Target) -> _Client:
    try:
        return _Client(target)
    except smtplib.SMTPConnectError as error:
        reply = Reply(error.smtp_code, scrub(error.smtp_error))
        if reply.temporary:
            raise TemporaryFailure(str(reply), code="unavailable", status_code=reply.status_code) from error
        raise Misconfigured(str(reply), code="turned_away", status_code=reply.code) from error
    except ssl.SSLError as error:
        raise _tls_failed(error) from error
    except (smtplib.SMTPException, OSError) as error:
        raise _unreachable(error) from error
    except (ValueError, OverflowError) as error:
        raise _unusable() from error


def _unusable() -> Misconfigured:
    """A setting that resolver, socket or codec cannot take: nothing has been sent, and the text may quote a secret."""
    return Misconfigured("A setting cannot be used to connect: look at host, port and user name.", code="bad_config")


def _tls_failed(error: ssl.SSLError) -> ProviderError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Misconfigured(f"The certificate is not trusted: {error.verify_message}.", code="tls_certificate")
    return TemporaryFailure(f"TLS failed: {scrub(str(error.reason or error))}.", code="tls")


def _unreachable(error: Exception) -> TemporaryFailure:
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return TemporaryFailure("The server did not answer in time.", code="connect_timeout")
    detail = error.strerror if isinstance(error, OSError) and error.strerror else "the connection broke"
    return TemporaryFailure(f"Could not connect: {scrub(detail)}.", code="connection_failed")


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")
