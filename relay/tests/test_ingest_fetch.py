"""Attachments by pointer: from the bucket for them, and from https URLs of the Internet (AMQP-1)."""

import contextlib
import http.server
import json
import ssl
import threading
import time

import boto3
import pytest
import trustme
from django.conf import settings
from moto.server import ThreadedMotoServer

from accounts.models import Account
from delivery import mime, receipts, store
from delivery.exceptions import Deferred, Rejected
from delivery.letter import Limits
from delivery.models import Message
from relay.ingest.config import Config, owners
from relay.ingest.fetch import Fetcher
from relay.ingest.incoming import Dead, Fetch, Incoming, Later, Taken
from relay.ingest.work import Work
from relay.tests.publishing import payload

LARGE = bytes(range(256)) * 200  # 51,200 octets
MOST = 100_000


class Files(http.server.BaseHTTPRequestHandler):
    """What lies at each path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        kind, _, rest = self.path[1:].partition("/")
        getattr(self, kind, self.missing)(rest)

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def missing(self, _):
        self.answer(404)

    def file(self, _):
        self.answer(200, LARGE)

    def status(self, code):
        self.answer(int(code))

    def moved(self, where):
        self.answer(302, Location=where)

    def endless(self, _):
        self.answer(200, b"x" * 10 * MOST, Content_Length="100000000")

    def short(self, _):
        self.close_connection = True
        self.answer(200, b"x", Content_Length="5")

    def packed(self, _):
        self.answer(200, b"x", Content_Encoding="gzip")

    def slow(self, _):
        """A byte at a time, for ever."""
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(path := tmp_path_factory.mktemp("ca") / "ca.pem")
    return ca, path


@pytest.fixture(scope="module")
def site(authority):
    """The URL of the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert("localhost").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def s3():
    """The endpoint of a store with buckets `parts` and `other`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t"
    )
    for bucket in ("parts", "other"):
        client.create_bucket(Bucket=bucket)
        for key in ("acme/report.pdf", "globex/report.pdf", "acmeplus/report.pdf"):
            client.put_object(Bucket=bucket, Key=key, Body=LARGE)
    yield endpoint
    server.stop()


@pytest.fixture
def fetcher(authority, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[1]))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "t")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "t")

    def make(**changes):
        values = {"PRIVATE_NETWORKS": True, "S3_BUCKET": "parts", "S3_REGION": "us-east-1", **changes}
        config = Config.from_settings({**settings.INGEST, **values})
        return Fetcher(config, Limits(MOST, 10, 10_000, str(tmp_path)), "acme")

    return make


def fetched(fetcher, where, size=None):
    with contextlib.closing(fetcher.fetch(where, size)) as spool, spool.open() as stream:
        return stream.read()


def problem(fetcher, where, size=None):
    with pytest.raises((Rejected, Deferred)) as raised:
        fetcher.fetch(where, size)
    return type(raised.value), raised.value.code


def test_a_file_is_fetched_to_disk_by_https(fetcher, site, tmp_path):
    spool = fetcher().fetch(f"{site}/file", len(LARGE))
    assert spool.on_disk
    spool.close()
    assert fetched(fetcher(), f"{site}/moved/{site}/moved//file") == LARGE


@pytest.mark.parametrize("where", ["acme/report.pdf", "s3://parts/acme/report.pdf", "S3://parts/acme/report.pdf"])
def test_an_object_of_the_tenant_is_fetched_from_the_bucket(fetcher, s3, where):
    assert fetched(fetcher(S3_ENDPOINT=s3), where, len(LARGE)) == LARGE


@pytest.mark.parametrize(
    "where",
    [
        "globex/report.pdf",
        "acmeplus/report.pdf",
        "/acme/report.pdf",
        "acme/../globex/report.pdf",
        "acme//report.pdf",
        "acme/",
        "acme",
        "s3://other/acme/report.pdf",
        "s3://parts/globex/report.pdf",
        "http://localhost/acme/report.pdf",
        "file:///etc/passwd",
        "ftp://localhost/x",
    ],
)
def test_nothing_but_the_tenants_own_objects_can_be_named(fetcher, s3, where):
    assert problem(fetcher(S3_ENDPOINT=s3), where) == (Rejected, "attachment_refused")


def test_without_a_bucket_no_key_leads_anywhere(fetcher):
    assert problem(fetcher(S3_BUCKET=""), "acme/report.pdf") == (Rejected, "attachment_refused")
    assert problem(fetcher(S3_BUCKET=""), "s3:///acme/report.pdf") == (Rejected, "attachment_refused")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("missing", (Rejected, "attachment_not_found")),
        ("status/410", (Rejected, "attachment_not_found")),
        ("status/403", (Rejected, "attachment_refused")),
        ("status/204", (Rejected, "attachment_refused")),
        ("status/429", (Deferred, "attachment_unreachable")),
        ("status/503", (Deferred, "attachment_unreachable")),
        ("short", (Deferred, "attachment_unreachable")),
        ("endless", (Rejected, "too_large")),
        ("packed", (Rejected, "attachment_refused")),
        ("moved/http://localhost/x", (Rejected, "attachment_refused")),
        ("moved/file:///etc/passwd", (Rejected, "attachment_refused")),
        ("moved//moved//moved//moved//file", (Rejected, "attachment_refused")),
        ("moved/", (Rejected, "attachment_refused")),
    ],
)
def test_what_cannot_be_had_is_told_from_what_cannot_be_had_now(fetcher, site, path, expected):
    assert problem(fetcher(), f"{site}/{path}") == expected


def test_an_object_that_is_not_there_is_told_from_a_store_that_is_away(fetcher, s3):
    assert problem(fetcher(S3_ENDPOINT=s3), "acme/nothing") == (Rejected, "attachment_not_found")
    assert problem(fetcher(S3_ENDPOINT="http://127.0.0.1:9"), "acme/x") == (Deferred, "attachment_unreachable")


def test_the_size_announced_has_to_be_true(fetcher, site):
    assert problem(fetcher(), f"{site}/file", 5) == (Rejected, "size_mismatch")
    assert problem(fetcher(), f"{site}/file", MOST + 1) == (Rejected, "too_large")


def test_what_trickles_in_is_given_up_in_time(fetcher, site):
    began = time.monotonic()
    assert problem(fetcher(FETCH_TIMEOUT=0.5), f"{site}/slow") == (Deferred, "attachment_unreachable")
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "2130706433", "0x7f.1", "169.254.169.254"])
def test_private_networks_are_not_reached(fetcher, site, name):
    port = site.rpartition(":")[2]
    assert problem(fetcher(PRIVATE_NETWORKS=False), f"https://{name}:{port}/file") == (Rejected, "attachment_refused")


def test_credentials_in_a_url_and_urls_that_are_none_are_refused(fetcher):
    for url in ("https://u:p@localhost/x", "https:///x", "https://localhost:port/x", "https:x"):
        assert problem(fetcher(), url) == (Rejected, "attachment_refused")


def test_an_untrusted_certificate_is_not_accepted(fetcher, site, monkeypatch, tmp_path):
    trustme.CA().cert_pem.write_to_path(other := tmp_path / "other.pem")
    fetch = fetcher()
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    assert problem(fetch, f"{site}/file") == (Deferred, "attachment_unreachable")


def test_no_reason_tells_a_url(fetcher, site):
    """SEC-8: a signed URL is a secret."""
    with pytest.raises(Rejected) as raised:
        fetcher().fetch(f"{site}/missing?signature=hunter2", None)
    assert "hunter2" not in raised.value.text


@pytest.fixture
def work(fetcher, acme_account):
    return Work(owners({"orders": acme_account.username})[0], Limits.of(settings.SMTP), fetcher())


def brought(where, **changes):
    attachment = {"name": "report.bin", "contentType": "application/x-y", "urlOrId": where}
    return Incoming(1, json.dumps(payload(attachments=[attachment], **changes)).encode())


def outcome(work, one):
    [first] = work.take([one])
    return work.fetch(one, first.request) if isinstance(first, Fetch) else first


@pytest.mark.django_db
def test_what_is_pointed_to_is_in_the_message_when_its_publisher_is_told(work, site):
    taken = outcome(work, brought(f"{site}/file"))
    message = Message.objects.get(pk=taken.receipt.message_id)
    assert [(a.filename, a.content) for a in mime.parse(store.read(message.store_key)).attachments] == [
        ("report.bin", LARGE)
    ]


@pytest.mark.django_db
def test_what_was_accepted_is_not_fetched_again(work, site):
    """It may be gone by then."""
    one = brought(f"{site}/file", publisher_message_id="order-1")
    first = outcome(work, one)
    receipts.told([first.receipt.pk])
    Files.file, kept = Files.missing, Files.file
    try:
        [again] = work.take([one])
    finally:
        Files.file = kept
    assert isinstance(again, Taken)
    assert again.receipt == first.receipt


@pytest.mark.django_db
def test_what_waits_for_a_quota_is_fetched_less_and_less_often(work, site, acme_account):
    """A month may be left: nobody wants to pay for the same file every few seconds until then."""
    Account.objects.filter(pk=acme_account.pk).update(status=Account.Status.SUSPENDED)
    one = brought(f"{site}/file")
    outcomes = [outcome(work, one) for _ in range(8)]
    assert all(each.everything for each in outcomes)
    assert [each.seconds for each in outcomes] == [10, 20, 40, 80, 160, 300, 300, 300]


@pytest.mark.django_db
def test_what_cannot_be_fetched_now_is_tried_five_times(work, site):
    one = brought(f"{site}/status/503")
    outcomes = [outcome(work, one) for _ in range(5)]
    assert [type(each) for each in outcomes] == [Later] * 4 + [Dead]
    assert [each.seconds for each in outcomes[:4]] == [5, 15, 30, 60]
    assert not any(each.everything for each in outcomes[:4])
    assert outcomes[4].reason == "attachment_unreachable"
    assert not Message.objects.exists()
