"""What only a directory can do wrong (STO-2, ACC-2)."""

import errno
import io
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from accounts.ids import uuid7
from delivery import storage, store
from delivery.exceptions import BodyNotFound, StoreUnavailable
from delivery.tests.test_store import Bytes

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def place(settings, tmp_path):
    return use(settings, tmp_path / "new" / "messages")


def use(settings, location):
    options = {"location": str(location)}
    backend = "delivery.storage.DurableFileSystemStorage"
    settings.STORAGES = {**settings.STORAGES, "messages": {"BACKEND": backend, "OPTIONS": options}}
    return Path(location)


@pytest.fixture
def key():
    return store.key_for(uuid7())


def temporaries(place):
    return list((place / storage.INCOMING).iterdir())


def test_only_the_owner_can_read_bodies(place, key):
    store.put(key, io.BytesIO(b"private"))
    assert stat.S_IMODE((place / key).stat().st_mode) == 0o600
    for directory in (place, (place / key).parent, place / storage.INCOMING):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_key_that_holds_other_octets_is_not_overwritten(place, key):
    store.put(key, io.BytesIO(b"first"))
    with pytest.raises(FileExistsError):
        store.put(key, io.BytesIO(b"other"))
    assert store.read(key) == b"first"
    assert temporaries(place) == []


def test_djangos_own_save_is_durable_too(place):
    assert storages["messages"].save("x/y.eml", ContentFile(b"body")) == "x/y.eml"
    assert store.read("x/y.eml") == b"body"


def test_everything_is_synced_before_success_is_told(place, monkeypatch):
    """Each file, each directory that got a name, and the parent of each directory that was made."""
    synced = []
    real = os.fsync

    def fsync(fd):
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    keys = [store.key_for(uuid7()) for _ in range(20)]
    assert store.put_many([(key, Bytes(b"x")) for key in keys]) == [None] * 20
    directories = {str((place / key).parent) for key in keys}
    assert {str(place / key) for key in keys} <= set(synced)
    assert set(synced[-len(directories) :]) == directories
    assert {str(place), str(place.parent), str(place.parent.parent)} <= set(synced)


def test_the_same_octets_again_are_synced_again(place, monkeypatch, key):
    """Whoever wrote them first may not have come to it yet, and success must not be told before."""
    store.put(key, io.BytesIO(b"same"))
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    store.put(key, io.BytesIO(b"same"))
    assert synced == [str(place / key), str((place / key).parent)]
    assert temporaries(place) == []


def test_a_failing_fsync_is_not_success(place, monkeypatch, key):
    def fsync(fd):
        raise OSError(errno.EIO, "Input/output error")

    store.put("warm/up", io.BytesIO(b"x"))
    monkeypatch.setattr(os, "fsync", fsync)
    [error] = store.put_many([(key, Bytes(b"x"))])
    assert isinstance(error, StoreUnavailable)
    assert str(error) == "the message store failed: Input/output error"
    assert not (place / key).exists()
    assert temporaries(place) == []


def test_a_directory_where_nothing_can_be_made_is_unavailable(settings, tmp_path, key):
    (tmp_path / "file").write_text("not a directory")
    use(settings, tmp_path / "file" / "messages")
    with pytest.raises(StoreUnavailable):
        store.put(key, io.BytesIO(b"x"))


def test_a_full_disk_is_unavailable_and_leaves_nothing(settings, small_disk, key):
    place = use(settings, small_disk)
    store.put(key, io.BytesIO(b"fits"))
    big, small = store.put_many([("a/big", Bytes(bytes(4 * 1024 * 1024))), ("a/small", Bytes(b"fits too"))])
    assert isinstance(big, StoreUnavailable)
    assert "No space left" in str(big)
    assert small is None
    assert sorted(store.iterate()) == sorted([key, "a/small"])
    assert temporaries(place) == []


def test_a_read_only_disk_is_unavailable_for_writing_and_still_read(settings, small_disk, key):
    use(settings, small_disk)
    store.put(key, io.BytesIO(b"before"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreUnavailable, match="Read-only"):
        store.put("a/b", io.BytesIO(b"x"))
    with pytest.raises(StoreUnavailable, match="Read-only"):
        store.delete(key)
    assert store.read(key) == b"before"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(place)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_stuck_disk_costs_the_deadline_and_a_bounded_number_of_threads(settings, place, monkeypatch):
    """A FIFO that nobody writes to blocks whoever opens it, as a dead network disk does."""
    settings.STORAGE_TIMEOUT = 0.2
    place.mkdir(parents=True)
    os.mkfifo(place / "stuck")
    monkeypatch.setattr(store, "_door", store._Door())
    before = threading.active_count()
    refused = []
    attempts = [threading.Thread(target=note_refusal, args=(refused,)) for _ in range(store.CONCURRENT_OPERATIONS + 20)]
    begun = time.monotonic()
    for attempt in attempts:
        attempt.start()
    for attempt in attempts:
        attempt.join()
    assert time.monotonic() - begun < 5
    assert len(refused) == len(attempts)
    assert threading.active_count() - before <= store.CONCURRENT_OPERATIONS
    release_readers(place / "stuck")
    settings.STORAGE_TIMEOUT = 5
    store.put("a/b", io.BytesIO(b"the disk is back"))
    assert store.read("a/b") == b"the disk is back"


def note_refusal(refused):
    try:
        store.read("stuck")
    except StoreUnavailable as error:
        refused.append(error)


def release_readers(fifo):
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO  # noqa: PT017 - no reader is left
            return
        os.close(fd)
        time.sleep(0.01)
    pytest.fail("readers are still stuck")


def test_what_a_dead_process_left_is_not_listed_and_removed_by_the_next(place, key):
    leftovers = place / storage.INCOMING
    leftovers.mkdir(parents=True)
    (leftovers / "old").write_bytes(b"half a mess")
    (leftovers / "young").write_bytes(b"someone is at it")
    long_ago = time.time() - storage.ABANDONED_AFTER - 60
    os.utime(leftovers / "old", (long_ago, long_ago))
    assert list(store.iterate()) == []
    store.put(key, io.BytesIO(b"x"))
    assert [path.name for path in temporaries(place)] == ["young"]


def test_tidy_removes_directories_that_are_long_empty_and_no_others(place, key):
    store.put(key, io.BytesIO(b"x"))
    long_ago = time.time() - storage.EMPTY_AFTER - 60
    for name in ("00000001", "00000002"):
        (place / name).mkdir()
    os.utime(place / "00000001", (long_ago, long_ago))
    os.utime((place / key).parent, (long_ago, long_ago))
    store.tidy()
    assert sorted(path.name for path in place.iterdir()) == sorted([storage.INCOMING, "00000002", key[:8]])


def test_a_directory_removed_behind_our_back_is_made_again(place, key):
    store.put(key, io.BytesIO(b"x"))
    store.delete(key)
    (place / key).parent.rmdir()
    store.put(key, io.BytesIO(b"again"))
    assert store.read(key) == b"again"


def test_a_forked_child_can_write(place, key):
    store.put_many([(store.key_for(uuid7()), Bytes(b"x")) for _ in range(20)])
    child = os.fork()
    if child == 0:
        results = store.put_many([(store.key_for(uuid7()), Bytes(b"y")) for _ in range(20)])
        os._exit(0 if results == [None] * 20 else 1)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert status == 0
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the child never came back")


WRITER = """
import django, io, sys
django.setup()
from accounts.ids import uuid7
from delivery import store
class Bytes:
    size = 300_000
    def __init__(self, octet):
        self.octet = octet
    def open(self):
        return io.BytesIO(self.octet * self.size)
while True:
    keys = [store.key_for(uuid7()) for _ in range(10)] + store.keys_for([(uuid7(), 1) for _ in range(10)])
    items = [(key, Bytes(bytes([n]))) for n, key in enumerate(keys)]
    results = store.put_many(items)
    assert results == [None] * 20, results
    for key, _ in items:
        print(key, flush=False)
    sys.stdout.flush()
"""


def test_a_writer_killed_at_any_moment_leaves_no_half_body_under_its_name(place):
    environment = {**os.environ, "STORAGE_PATH": str(place), "DJANGO_SETTINGS_MODULE": "smtpproxy.settings"}
    acknowledged = []
    for lives in (0.05, 0.12, 0.2):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER)],
            cwd=django_settings.BASE_DIR,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        acknowledged.append(writer.stdout.readline().strip())
        time.sleep(lives)
        writer.kill()
        acknowledged += [line.strip() for line in writer.stdout.read().splitlines(keepends=True) if line[-1] == "\n"]
        writer.stdout.close()
        writer.wait()
    keys = list(store.iterate())
    assert set(acknowledged) <= set(keys)
    for key in keys:
        body = store.read(key)
        assert len(body) == 300_000
        assert set(body) == {body[0]}


def packed(place, count=6):
    keys = store.keys_for([(uuid7(), 4000) for _ in range(count)])
    assert store.put_many([(key, Bytes(bytes([n]) * 4000)) for n, key in enumerate(keys)]) == [None] * count
    return keys


class TestPacks:
    def test_small_bodies_share_one_file_and_one_sync(self, place, monkeypatch):
        packed(place)
        synced = []
        real = os.fsync
        monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd)))
        keys = packed(place, 40)
        assert len(list(place.glob("*/*.pack"))) == 2
        assert sorted(Path(path).suffix for path in synced if Path(path).is_file()) == [".pack"]
        assert len({key.rpartition("/")[0] for key in keys}) == 1

    def test_only_the_last_one_deleted_takes_the_file_along(self, place):
        keys = packed(place)
        [file] = place.glob("*/*.pack")
        before = file.stat()
        for key in keys[:-1]:
            store.delete(key)
        after = file.stat()
        assert after.st_mtime_ns == before.st_mtime_ns
        assert bytes([0]) * 3000 in file.read_bytes()
        assert store.read(keys[-1]) == bytes([5]) * 4000
        store.delete(keys[-1])
        assert not file.exists()

    def test_a_deleted_body_leaves_no_octet_on_the_disk(self, place):
        keys = store.keys_for([(uuid7(), 10), (uuid7(), 10)])
        store.put_many([(keys[0], Bytes(b"a secret 1")), (keys[1], Bytes(b"a secret 2"))])
        [file] = place.glob("*/*.pack")
        store.delete(keys[0])
        assert b"secret 1" not in file.read_bytes()
        assert store.read(keys[1]) == b"a secret 2"

    def test_threads_that_delete_all_leave_no_file(self, place):
        for _ in range(20):
            keys = packed(place, 4)
            with ThreadPoolExecutor(4) as threads:
                list(threads.map(store.delete, keys))
            assert list(place.glob("*/*.pack")) == []

    @pytest.mark.parametrize(
        "octets", [b"", b"SMTPPACK", b"no pack at all, but long enough", b"SMTPPACK\0\0\0\x09short"]
    )
    def test_a_damaged_file_is_our_failure_and_no_missing_body(self, place, octets):
        keys = packed(place)
        [file] = place.glob("*/*.pack")
        file.write_bytes(octets)
        with pytest.raises(StoreUnavailable):
            store.read(keys[0])
        [name] = store.iterate()
        store.delete(name)
        assert list(store.iterate()) == []

    @pytest.mark.parametrize("number", ["6", "99999999999999999999", "-1", "x", "\u0663"])
    def test_a_number_nobody_gave_out_is_no_body(self, place, number):
        [file] = {key.rpartition("/")[0] for key in packed(place)}
        with pytest.raises((BodyNotFound, SuspiciousFileOperation, StoreUnavailable)):
            store.read(f"{file}/{number}")

    @pytest.mark.parametrize("last", [False, True])
    def test_a_body_deleted_while_it_is_read_is_gone_and_never_zeros(self, place, monkeypatch, last):
        """STO-1: a reader gets the octets that were stored, or none."""
        keys = packed(place, 2)
        if last:
            store.delete(keys[1])
        real = os.pread

        def pread(fd, length, offset):
            if length == 4000:
                store.delete(keys[0])
            return real(fd, length, offset)

        monkeypatch.setattr(os, "pread", pread)
        with pytest.raises(BodyNotFound):
            store.read(keys[0])
