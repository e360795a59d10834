"""The services as senders of webhooks: each signs as the vendor does, with the secret of one provider row."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import secrets
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from providers.tests import webhook_payloads
from providers.webhooks import aws, ses
from providers.webhooks.contract import WebhookRequest

URL = "https://mail.example/webhooks/0192a3b4-0000-7000-8000-000000000001/"
REGION = "eu-west-1"


class Service:
    """One account of a service, with one webhook. `config` is what its provider row is told."""

    batched = False
    id = "0a1b2c3d4e5f60718293a4b5"
    """A message id as the service's send API names it."""

    def __init__(self) -> None:
        self.secret = secrets.token_urlsafe(24)

    @property
    def type(self) -> str:
        return type(self).__name__.lower()

    @property
    def config(self) -> dict[str, Any]:
        return {"webhook_signing_key": self.secret}

    def event(self, kind: str, id_: str | None = None, to: str = "jane@outside.example", **more: Any) -> Any:
        more.setdefault("when", webhook_payloads.WHEN)
        return getattr(webhook_payloads, self.type)(kind, id_ or self.id, to, **more)

    def kinds(self) -> list[str]:
        known = []
        for kind in webhook_payloads.KINDS:
            try:
                self.event(kind)
            except KeyError:
                continue
            known.append(kind)
        return known

    def call(
        self, events: Sequence[Any], *, url: str = URL, now: datetime | None = None
    ) -> list[tuple[dict[str, str], bytes]]:
        """Headers and body of the requests that tell of these events."""
        now = now or datetime.now(UTC)
        told = [list(events)] if self.batched else list(events)
        return [self.signed(one, url, now) for one in told]

    def request(self, *events: Any, url: str = URL, now: datetime | None = None) -> WebhookRequest:
        [(headers, body)] = self.call(events, url=url, now=now)
        return as_request(headers, body, url=url)

    def signed(self, payload: Any, url: str, now: datetime) -> tuple[dict[str, str], bytes]:
        raise NotImplementedError


def as_request(headers: dict[str, str], body: bytes, *, url: str = URL, **more: Any) -> WebhookRequest:
    return WebhookRequest("POST", {name.lower(): value for name, value in headers.items()}, body, url=url, **more)


def dumps(payload: Any) -> bytes:
    return json.dumps(payload).encode()


class SendGrid(Service):
    batched = True
    id = "14c5d75ce93.dfd.64b469"

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())

    @property
    def config(self) -> dict[str, Any]:
        der = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return {"webhook_verification": base64.b64encode(der).decode()}

    def signed(self, payload: Any, url: str, now: datetime) -> tuple[dict[str, str], bytes]:
        body, stamp = dumps(payload), str(int(now.timestamp()))
        signature = self.key.sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))
        return {
            "Content-Type": "application/json",
            "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": stamp,
        }, body


class Mailgun(Service):
    id = "<20261120123045.1.ABCDEF@mg.acme.example>"

    def signed(self, payload: Any, url: str, now: datetime) -> tuple[dict[str, str], bytes]:
        stamp, token = str(int(now.timestamp())), secrets.token_hex(25)
        signature = hmac.new(self.secret.encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
        block = {"timestamp": stamp, "token": token, "signature": signature}
        return {"Content-Type": "application/json"}, dumps({"signature": block, "event-data": payload})


class _Shared(Service):
    @property
    def config(self) -> dict[str, Any]:
        return {"webhook_username": "acme", "webhook_password": self.secret}

    def signed(self, payload: Any, url: str, now: datetime) -> tuple[dict[str, str], bytes]:
        credentials = base64.b64encode(f"acme:{self.secret}".encode()).decode()
        return {"Content-Type": "application/json", "Authorization": f"Basic {credentials}"}, dumps(payload)


class Postmark(_Shared):
    id = "883953f4-6105-42a2-a16a-77a8eac79483"


class Mailjet(_Shared):
    batched = True
    id = "576460756513665525"


class Brevo(_Shared):
    id = "<202611201230.12345678910@smtp-relay.mailin.fr>"


class SparkPost(_Shared):
    batched = True
    id = "65832150921904138"


class Resend(Service):
    id = "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"

    def __init__(self) -> None:
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()

    def signed(self, payload: Any, url: str, now: datetime, id_: str = "") -> tuple[dict[str, str], bytes]:
        body, stamp = dumps(payload), str(int(now.timestamp()))
        id_ = id_ or "msg_" + hashlib.sha256(body).hexdigest()[:27]  # the same each time the same is told
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        signature = hmac.new(key, f"{id_}.{stamp}.".encode() + body, hashlib.sha256).digest()
        return {
            "Content-Type": "application/json",
            "svix-id": id_,
            "svix-timestamp": stamp,
            "svix-signature": "v1,bm9uc2Vuc2U= v1," + base64.b64encode(signature).decode(),
        }, body


class MailerSend(Service):
    id = "62fb66bef54a112e920b5493"
    header = "Signature"

    def signed(self, payload: Any, url: str, now: datetime) -> tuple[dict[str, str], bytes]:
        body = dumps(payload)
        signature = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        return {"Content-Type": "application/json", self.header: signature}, body


class Mailtrap(MailerSend):
    batched = True
    id = "8ba2a2a0-5d5b-11ee-8f3c-0242ac120002"
    header = "Mailtrap-Signature"

    def signed(self, payload: Any, url: str, now: datetime) -> tuple[dict[str, str], bytes]:
        return super().signed({"events": payload}, url, now)


class Mandrill(Service):
    batched = True
    id = "abc123abc123abc123abc123"

    def signed(self, payload: Any, url: str, now: datetime) -> tuple[dict[str, str], bytes]:
        form = {"mandrill_events": json.dumps(payload)}
        signed = url + "".join(name + form[name] for name in sorted(form))
        signature = hmac.new(self.secret.encode(), signed.encode(), hashlib.sha1).digest()
        return {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Mandrill-Signature": base64.b64encode(signature).decode(),
        }, urlencode(form).encode()


class Postal(Service):
    id = "12345"

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def config(self) -> dict[str, Any]:
        pem = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return {"webhook_verification": pem.decode()}

    def signed(self, payload: Any, url: str, now: datetime) -> tuple[dict[str, str], bytes]:
        body = dumps(payload)
        signature = self.key.sign(body, padding.PKCS1v15(), hashes.SHA1())
        return {"Content-Type": "application/json", "X-Postal-Signature": base64.b64encode(signature).decode()}, body


@cache
def _signing_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def certificate(
    name: str = "sns.amazonaws.com", *, begins: timedelta = -timedelta(days=30), lasts: timedelta = timedelta(days=90)
) -> bytes:
    """A certificate for the key with which the SNS of these tests signs."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Amazon RSA 2048 M02")]))
        .public_key(_signing_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + begins + lasts)
        .sign(_signing_key(), hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


class Ses(Service):
    """SES and the SNS topic it tells. `version` is that of the signature."""

    id = "0102018f3c2b1a09-11111111-2222-3333-4444-555555555555-000000"
    host = f"sns.{REGION}.amazonaws.com"

    def __init__(self, version: str = "2") -> None:
        self.topic = f"arn:aws:sns:{REGION}:123456789012:mail-{secrets.token_hex(4)}"
        self.version = version

    @property
    def config(self) -> dict[str, Any]:
        return {"webhook_topics": self.topic}

    def signed(self, payload: Any, url: str, now: datetime, **changes: Any) -> tuple[dict[str, str], bytes]:
        message = payload if isinstance(payload, str) else json.dumps(payload)
        body = {
            "Type": "Notification",
            "MessageId": secrets.token_hex(16),
            "TopicArn": self.topic,
            "Subject": "Amazon SES Email Event Notification",
            "Message": message,
            "Timestamp": now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z",
            "UnsubscribeURL": f"https://{self.host}/?Action=Unsubscribe&SubscriptionArn={self.topic}:1",
            **changes,
        }
        return {"Content-Type": "text/plain; charset=UTF-8"}, dumps(self.sign(body))

    def subscription(self, now: datetime | None = None, **changes: Any) -> tuple[dict[str, str], bytes]:
        """The request by which SNS asks whether it may send here."""
        token = secrets.token_hex(32)
        query = urlencode({"Action": "ConfirmSubscription", "TopicArn": self.topic, "Token": token})
        more = {"Type": "SubscriptionConfirmation", "Token": token, "SubscribeURL": f"https://{self.host}/?{query}"}
        return self.signed("You have chosen to subscribe.", URL, now or datetime.now(UTC), **more | changes)

    def sign(self, body: dict[str, Any]) -> dict[str, Any]:
        names = ["Message", "MessageId"]
        if body["Type"] == "Notification":
            names += ["Subject", "Timestamp", "TopicArn", "Type"]
        else:
            names += ["SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        text = "".join(f"{name}\n{body[name]}\n" for name in names if name in body)
        kind = hashes.SHA1() if self.version == "1" else hashes.SHA256()
        signature = _signing_key().sign(text.encode(), padding.PKCS1v15(), kind)
        return {
            "SignatureVersion": self.version,
            "SigningCertURL": f"https://{self.host}/SimpleNotificationService-0123456789abcdef.pem",
            "Signature": base64.b64encode(signature).decode(),
            **body,
        }


class Amazon:
    """An HTTPS server that holds Amazon's certificates and takes confirmations. `aws` reaches it, under the names and
    with all the checks of the real one."""

    def __init__(self) -> None:
        self.pem = certificate()
        self.fetched: list[str] = []
        self.confirmed: list[dict[str, list[str]]] = []
        self.status = 200
        self.aws: aws.Aws


@contextmanager
def amazon(tmp_path: Any, *, name: str = Ses.host) -> Iterator[Amazon]:
    """`name` is what its TLS certificate says."""
    service, authority = Amazon(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = parse_qs(parts.query)
            if parts.path.endswith(".pem"):
                service.fetched.append(self.path)
            elif asked.get("Action") == ["ConfirmSubscription"]:
                service.confirmed.append(asked)
            self.send_response(service.status)
            self.end_headers()
            self.wfile.write(service.pem)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    service.aws = aws.Aws(connect_to=("127.0.0.1", server.server_address[1]), ca_certs=str(tmp_path / "ca.pem"))
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def reaching(service: Amazon) -> Iterator[None]:
    """Every receiver of SES reaches this Amazon."""
    ses.SesReceiver.aws = service.aws
    try:
        yield
    finally:
        ses.SesReceiver.aws = None


SERVICES: dict[str, type[Service]] = {
    cls.__name__.lower(): cls
    for cls in (
        SendGrid,
        Ses,
        Mailgun,
        Postmark,
        SparkPost,
        Brevo,
        Mailjet,
        Resend,
        MailerSend,
        Mandrill,
        Mailtrap,
        Postal,
    )
}
