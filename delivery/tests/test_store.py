"""One contract, two stores (STO-1, STO-2, STO-3): a local directory, and a bucket of moto's S3 server, encrypted or not
(STO-4)."""

import io
import socket
import tracemalloc
import uuid
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from django.core.exceptions import SuspiciousFileOperation
from moto.server import ThreadedMotoServer

from accounts.ids import uuid7
from delivery import archive, packs, store
from delivery.consistency import Check
from delivery.exceptions import BodyNotFound, StoreUnavailable
from delivery.findings import NO_COPY, NO_ROW, STRANGE

BUCKET = "acme-messages"
MEGABYTE = 1024 * 1024
KEY = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="


class Bytes:
    """A body in memory; `size` may be made to lie."""

    def __init__(self, content, size=None):
        self.content = content
        self.size = len(content) if size is None else size

    def open(self):
        return io.BytesIO(self.content)

    def header_block(self):
        return self.content


class Broken(Bytes):
    def open(self):
        raise FileNotFoundError("spool file is gone")


class Generated:
    """A body that exists nowhere as a whole."""

    def __init__(self, size):
        self.size = size

    def open(self):
        return Zeros(self.size)

    def header_block(self):
        return b""


class Zeros(io.RawIOBase):
    def __init__(self, size):
        self._size, self._at = size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self._at

    def seek(self, offset, whence=io.SEEK_SET):
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size=-1):
        left = self._size - self._at
        count = left if size is None or size < 0 else min(size, left)
        self._at += count
        return bytes(count)


@pytest.fixture(scope="session")
def s3_server():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_options(s3_server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    client = boto3.client("s3", region_name="eu-central-1", endpoint_url=s3_server)
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield {
        "bucket_name": BUCKET,
        "location": f"mail/{uuid.uuid4().hex}",
        "region_name": "eu-central-1",
        "endpoint_url": s3_server,
    }
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    for entry in (entry for page in pages for entry in page.get("Contents", ())):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def silent_server():
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(params=["local", "s3", "local encrypted", "s3 encrypted"])
def kind(request, settings, tmp_path):
    settings.STORAGE_KEYS = [KEY] if "encrypted" in request.param else []
    if "local" in request.param:
        backend, options = "delivery.storage.DurableFileSystemStorage", {"location": str(tmp_path / "a" / "messages")}
    else:
        backend = "delivery.storage_s3.MessageS3Storage"
        options = request.getfixturevalue("s3_options")
    settings.STORAGES = {**settings.STORAGES, "messages": {"BACKEND": backend, "OPTIONS": options}}
    return request.param.split()[0]


@pytest.fixture
def key():
    return store.key_for(uuid7())


def test_keys_spread_over_directories_by_time():
    first = uuid.UUID(int=(0x0123456789AB << 80) | (7 << 76) | (2 << 62))
    assert store.key_for(first) == "01234567/01234567-89ab-7000-8000-000000000000.eml"


@pytest.mark.usefixtures("kind")
class TestContract:
    def test_what_was_put_is_read_and_opened_octet_for_octet(self, key):
        content = bytes(range(256)) * 40 + b"\r\n.\r\n"
        store.put(key, io.BytesIO(content))
        assert store.read(key) == content
        with store.open(key) as stream:
            assert stream.read(10) == content[:10]
            assert stream.read() == content[10:]

    def test_a_stream_is_stored_from_where_it_stands(self, key):
        stream = io.BytesIO(b"read alreadythe rest")
        stream.seek(12)
        store.put(key, stream)
        assert store.read(key) == b"the rest"

    def test_an_empty_body_is_a_body(self, key):
        assert store.put_many([(key, Bytes(b""))]) == [None]
        assert store.read(key) == b""

    def test_many_are_stored_together(self):
        items = [(store.key_for(uuid7()), Bytes(b"body %d" % n)) for n in range(40)]
        assert store.put_many(items) == [None] * 40
        assert [store.read(key) for key, _ in items] == [body.content for _, body in items]

    def test_messages_accepted_together_are_stored_and_forgotten_one_by_one(self):
        messages = {uuid7(): b"body %d" % n for n in range(5)} | {uuid7(): bytes(100_000), uuid7(): b""}
        keys = store.keys_for([(id_, len(content)) for id_, content in messages.items()])
        contents = dict(zip(keys, messages.values(), strict=True))
        assert len(contents) == 7
        assert store.put_many([(key, Bytes(content)) for key, content in contents.items()]) == [None] * 7
        assert store.put_many([(key, Bytes(content)) for key, content in contents.items()]) == [None] * 7
        assert {key: store.read(key) for key in keys} == contents
        with store.open(keys[1]) as stream:
            assert stream.read() == b"body 1"
        gone, left = keys[1::2], keys[::2]
        for key in (*gone, *gone):
            store.delete(key)
            with pytest.raises(BodyNotFound):
                store.read(key)
        assert {key: store.read(key) for key in left} == {key: contents[key] for key in left}
        assert set(store.iterate()) == set(left)
        for key in left:
            store.delete(key)
        assert list(store.iterate()) == []

    def test_a_body_that_cannot_be_read_harms_none_of_those_accepted_with_it(self):
        ids = [uuid7() for _ in range(4)]
        keys = store.keys_for([(id_, 4) for id_ in ids])
        bodies = [Bytes(b"good"), Bytes(b"bad", size=4), Broken(b"x"), Bytes(b"fine")]
        outcomes = store.put_many(list(zip(keys, bodies, strict=True)))
        assert [isinstance(outcome, StoreUnavailable) for outcome in outcomes] == [False, True, True, False]
        assert set(store.iterate()) == {keys[0], keys[3]}
        assert (store.read(keys[0]), store.read(keys[3])) == (b"good", b"fine")

    def test_no_items_are_no_work(self):
        assert store.put_many([]) == []

    def test_a_missing_body_is_an_error_of_its_own(self, key):
        with pytest.raises(BodyNotFound):
            store.read(key)
        with pytest.raises(BodyNotFound):
            store.open(key)

    def test_delete_may_be_repeated(self, key):
        store.put(key, io.BytesIO(b"gone"))
        store.delete(key)
        store.delete(key)
        with pytest.raises(BodyNotFound):
            store.read(key)

    def test_iterate_names_every_key_lazily(self):
        keys = {f"{n:08x}/{uuid7()}.eml" for n in range(5)}
        assert store.put_many([(key, Bytes(b"x")) for key in keys]) == [None] * 5
        names = store.iterate()
        assert {next(names), *names} == keys

    def test_iterate_over_an_empty_store_names_nothing(self):
        assert list(store.iterate()) == []

    def test_iterate_leaves_out_what_is_younger(self, key):
        store.put(key, io.BytesIO(b"x"))
        now = datetime.now(UTC)
        assert list(store.iterate(older_than=now - timedelta(hours=1))) == []
        assert list(store.iterate(older_than=now + timedelta(hours=1))) == [key]

    def test_iterate_goes_folder_by_folder_and_begins_where_it_is_told(self):
        keys = ["01a20000/a.eml", "01a20001/b.eml", "01a2000f/c.eml", "archive/202611/01a20000/d.gz"]
        for key in reversed(keys):
            store.put(key, io.BytesIO(b"x"))
        assert list(store.iterate()) == keys
        assert list(store.iterate(start="01a20001/")) == keys[1:]
        assert list(store.iterate(start="01a20002/")) == keys[2:]
        assert list(store.iterate(start="archive/202611/01a20000/")) == keys[3:]
        assert list(store.iterate(start="archive/202612/")) == []

    def test_putting_the_same_again_is_no_error(self, key):
        for _ in range(2):
            assert store.put_many([(key, Bytes(b"same"))]) == [None]
        assert store.read(key) == b"same"

    def test_a_body_that_ends_early_is_not_stored(self, key):
        other = store.key_for(uuid7())
        short, whole = store.put_many([(key, Bytes(b"only this", size=5000)), (other, Bytes(b"whole"))])
        assert isinstance(short, StoreUnavailable)
        assert whole is None
        assert list(store.iterate()) == [other]

    def test_a_body_that_cannot_be_read_is_not_stored_and_harms_no_other(self, key):
        other = store.key_for(uuid7())
        broken, whole = store.put_many([(key, Broken(b"x")), (other, Bytes(b"whole"))])
        assert isinstance(broken, StoreUnavailable)
        assert whole is None
        assert list(store.iterate()) == [other]

    @pytest.mark.parametrize(
        "bad",
        ["", "/etc/passwd", "../x", "a/../../x", "a/..", "a//b", ".incoming/x", "a/.b", "a\\b", "a\0b", "a/", "a\n"],
    )
    def test_a_key_that_leads_elsewhere_is_refused_by_every_operation(self, bad):
        for operation in (store.read, store.open, store.delete, lambda key: store.put(key, io.BytesIO(b"x"))):
            with pytest.raises(SuspiciousFileOperation):
                operation(bad)
        assert list(store.iterate()) == []

    def test_thirty_megabytes_pass_without_being_held_twice(self, key):
        size = 30 * MEGABYTE
        store.put("warm/up", io.BytesIO(b"x"))
        tracemalloc.start()
        try:
            assert store.put_many([(key, Generated(size))]) == [None]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # moto's server lives in this process and keeps the object: hence less than a second copy, not less than one.
        assert peak < 2.5 * size
        with store.open(key) as stream:
            assert sum(len(chunk) for chunk in iter(lambda: stream.read(MEGABYTE), b"")) == size


@pytest.mark.django_db
@pytest.mark.usefixtures("kind")
def test_a_consistency_check_reads_every_store_alike():
    """In one order, whatever lies before, in and behind the archive's folder (STO-6)."""
    strange = ["archive/readme.txt", "b/readme.txt", "notes/readme.txt"]
    for one in (packs.key_for(uuid7()), archive.key_for(uuid7()), *strange):
        store.put(one, io.BytesIO(b"x"))
    check = Check(repair=True, now=datetime.now(UTC) + timedelta(hours=2))
    assert check.run() is None
    assert check.report.found == {NO_ROW: 1, NO_COPY: 1, STRANGE: 3}
    assert check.report.keys == 5
    assert sorted(store.iterate()) == strange
    for one in strange:
        store.delete(one)


def test_a_bucket_that_is_not_there_is_our_fault_not_a_missing_body(s3_options, settings, key):
    options = {**s3_options, "bucket_name": "globex-has-none"}
    settings.STORAGES = {
        **settings.STORAGES,
        "messages": {"BACKEND": "delivery.storage_s3.MessageS3Storage", "OPTIONS": options},
    }
    with pytest.raises(StoreUnavailable):
        store.read(key)
    with pytest.raises(StoreUnavailable):
        store.put(key, io.BytesIO(b"x"))
    with pytest.raises(StoreUnavailable):
        list(store.iterate())


def test_an_s3_server_that_does_not_answer_is_given_up_in_time(silent_server, s3_options, settings, key):
    settings.STORAGE_TIMEOUT = 1
    options = {**s3_options, "endpoint_url": silent_server}
    settings.STORAGES = {
        **settings.STORAGES,
        "messages": {"BACKEND": "delivery.storage_s3.MessageS3Storage", "OPTIONS": options},
    }
    with pytest.raises(StoreUnavailable):
        store.put(key, io.BytesIO(b"x"))
