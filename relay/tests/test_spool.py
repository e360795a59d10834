"""A message in memory, and above a threshold in a file without a name (ACC-6)."""

import os
import subprocess
import sys
import threading

import pytest

from delivery.spool import Spool
from delivery.submission import Accepted
from relay.tests.listening import ACME

HEADER = b"Received: x\r\nSubject: y\r\n\r\n"


def filled(tmp_path, data, *, threshold, step=1000):
    spool = Spool(threshold, str(tmp_path / "spool"))
    for start in range(0, len(data), step):
        spool.write(data[start : start + step])
        if spool.overfull:
            spool.spill()
    if spool.on_disk:
        spool.spill()
    return spool


@pytest.fixture(params=[10**9, 2000], ids=["memory", "file"])
def threshold(request):
    return request.param


DATA = HEADER + bytes(range(256)) * 100


def test_what_is_read_is_what_was_written(tmp_path, threshold):
    spool = filled(tmp_path, DATA, threshold=threshold)
    assert spool.on_disk == (threshold == 2000)
    assert spool.size == len(DATA)
    with spool.open() as stream:
        assert stream.read() == DATA
    with spool.open() as stream:
        assert stream.read(10) == DATA[:10]
        stream.seek(-5, os.SEEK_END)
        assert stream.read() == DATA[-5:]
        assert stream.seek(0) == 0
        assert stream.readline() == b"Received: x\r\n"


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (DATA, HEADER),
        (b"no: body\r\n", b"no: body\r\n"),
        (b"", b""),
        (b"\r\n\r\nbody", b"\r\n\r\n"),
        (b"a: " + b"x" * 600_000 + b"\r\n\r\nbody", b"a: " + b"x" * 600_000 + b"\r\n\r\n"),
    ],
)
def test_the_header_block_goes_to_the_empty_line(tmp_path, threshold, data, header):
    assert filled(tmp_path, data, threshold=threshold).header_block() == header


def test_streams_are_independent_of_each_other_and_of_close(tmp_path, threshold):
    spool = filled(tmp_path, DATA, threshold=threshold)
    streams = [spool.open() for _ in range(8)]
    spool.close()
    found = []
    readers = [threading.Thread(target=lambda s=stream: found.append(s.read())) for stream in streams]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert found == [DATA] * 8
    for stream in streams:
        stream.close()


def test_memory_holds_no_more_than_the_threshold_and_a_block(tmp_path):
    spool = Spool(10_000, str(tmp_path))
    for _ in range(1000):
        spool.write(b"x" * 1000)
        if spool.overfull:
            spool.spill()
        assert sum(map(len, spool._chunks)) <= 256 * 1024 + 1000
    spool.spill()
    assert spool.size == 1_000_000


def test_descriptors_are_given_back(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        spool = filled(tmp_path, DATA, threshold=2000)
        with spool.open() as stream:
            stream.read(1)
        spool.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_process_that_is_killed_leaves_no_file(tmp_path):
    script = (
        "import os, signal, sys\n"
        "from delivery.spool import Spool\n"
        f"spool = Spool(10, {str(tmp_path)!r})\n"
        "spool.write(b'secret' * 1000); spool.spill()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    ended = subprocess.run([sys.executable, "-c", script], cwd=root, check=False)
    assert ended.returncode == -9
    assert list(tmp_path.iterdir()) == []


def test_a_big_message_is_spooled_and_nothing_is_left_behind(listen, recorder, tmp_path):
    recorder.known_networks["127.0.0.1"] = ACME
    kinds = []
    running = listen(spool_threshold=10_000, spool_path=str(tmp_path / "spool"))
    recorder.answer = lambda one: kinds.append(one.body.on_disk) or Accepted(one.message_id)
    before = len(os.listdir("/proc/self/fd"))
    with running.client() as client:
        client.command("EHLO x")
        line = b"y" * 98 + b"\r\n"
        assert client.message(line * 50).startswith("250")
        assert client.message(line * 20_000).startswith("250")
        client.envelope()
        client.send(line * 20_000)  # and goes away
    assert kinds == [False, True]
    assert recorder.bodies[1].endswith(line * 20_000)
    running.stop()
    assert list((tmp_path / "spool").iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= before
