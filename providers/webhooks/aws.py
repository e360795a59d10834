"""The two things fetched from Amazon SNS: its signing certificates, and the confirmation of a subscription.

Both addresses come in a request from outside, so that they are only followed to Amazon's own hosts, over TLS with the
usual trust, without redirects, and with bounds on time and size.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from urllib.parse import urlsplit

import urllib3
from cryptography import x509
from cryptography.x509.oid import NameOID
from urllib3.exceptions import HTTPError

from providers.webhooks import auth
from providers.webhooks.contract import WebhookRefused, WebhookRequest

HOST = re.compile(r"sns\.([a-z]{2}(?:-[a-z]+)+-[0-9]{1,2})\.amazonaws\.com(?:\.cn)?")
CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[0-9a-f]{1,64}\.pem")
TIMEOUT = urllib3.Timeout(connect=3, read=5)
MOST = 64 * 1024
"""Octets of an answer."""
_KEPT = 32


def region_of(url: str) -> str:
    """The region of an address at Amazon SNS; raises WebhookRefused (403) for any other address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise auth.refused("The address is not one of Amazon SNS.") from None
    match = HOST.fullmatch(parts.netloc)  # nothing but the host: no user, no port
    if parts.scheme != "https" or port is not None or match is None or parts.fragment:
        raise auth.refused("The address is not one of Amazon SNS.")
    return match[1]


class Aws:
    """How Amazon SNS is reached. A test that has a server of its own makes one that connects there: the address is
    checked all the same, and so is the server's certificate, against the authority it names."""

    def __init__(self, *, connect_to: tuple[str, int] | None = None, ca_certs: str | None = None) -> None:
        self._connect_to, self._ca_certs = connect_to, ca_certs
        self._certificates: OrderedDict[str, x509.Certificate] = OrderedDict()
        self._lock = threading.Lock()

    def certificate(self, url: str, request: WebhookRequest) -> x509.Certificate:
        """The signing certificate at `url`, kept once fetched.

        Raises WebhookRefused: 403 when it is not Amazon's or not valid now, 503 when it cannot be fetched.
        """
        region_of(url)
        parts = urlsplit(url)
        if not CERTIFICATE_PATH.fullmatch(parts.path) or parts.query:
            raise auth.refused("The address is not one of Amazon's certificates.")
        with self._lock:
            known = self._certificates.get(url)
        certificate = known or _parsed(self._get(url))
        _check(certificate, request)
        if known is None:
            with self._lock:
                self._certificates[url] = certificate
                while len(self._certificates) > _KEPT:
                    self._certificates.popitem(last=False)
        return certificate

    def confirm(self, url: str) -> None:
        """Call the address by which a subscription is confirmed; raises WebhookRefused."""
        region_of(url)
        self._get(url)

    def _get(self, url: str) -> bytes:
        parts = urlsplit(url)
        name = str(parts.hostname)
        host, port = self._connect_to or (name, 443)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        with urllib3.HTTPSConnectionPool(
            host,
            port,
            timeout=TIMEOUT,
            retries=False,
            cert_reqs="CERT_REQUIRED",
            ca_certs=self._ca_certs,
            server_hostname=name,
            assert_hostname=name,
        ) as pool:
            try:
                answer = pool.request("GET", target, headers={"Host": name}, redirect=False, preload_content=False)
                body = answer.read(MOST + 1)
                answer.close()
            except (HTTPError, OSError):
                raise WebhookRefused(503, "Amazon SNS cannot be reached.") from None
        if answer.status != 200 or len(body) > MOST:
            raise WebhookRefused(503, f"Amazon SNS answered with status {answer.status}.")
        return body


def _parsed(body: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(body)
    except ValueError:
        raise WebhookRefused(503, "Amazon SNS did not send a certificate.") from None


def _check(certificate: x509.Certificate, request: WebhookRequest) -> None:
    now = request.received_at
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise auth.refused("The signing certificate is not valid now.")
    names = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if not any(re.fullmatch(r"sns(?:[.-][a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?", name) for name in names):
        raise auth.refused("The signing certificate is not one of Amazon SNS.")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return
    if constraints.ca:
        raise auth.refused("The signing certificate is an authority's.")


AWS = Aws()
