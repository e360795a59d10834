"""The embedded server is the shared store too: what `make run` starts counts limits, quotas and health (QUE-1)."""

import subprocess
import tempfile
from pathlib import Path

import pytest

from accounts import shared_state
from accounts.shared_state import Script, key
from smtpproxy import sockets
from smtpproxy.serve import broker
from smtpproxy.tests.services import wait_until

ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture
def embedded(settings):
    with tempfile.TemporaryDirectory(prefix="smtpproxy-") as folder:  # short: socket paths are limited
        socket = Path(folder) / "broker.sock"
        server = subprocess.Popen(broker.command(socket, Path(folder)))
        try:
            wait_until(lambda: socket.exists() and broker.answers(socket), "the start of the embedded server")
            settings.SHARED_STATE_URL = sockets.redis_url(socket)
            yield server
        finally:
            server.terminate()
            server.wait(10)


def test_the_embedded_server_is_the_shared_store(embedded):
    assert ADD([key("sum")], [2]) == 2
    assert shared_state.client().get(key("sum")) == b"2"


def test_an_embedded_server_that_has_gone_is_told_as_any_other(embedded):
    embedded.terminate()
    embedded.wait(10)
    with pytest.raises(shared_state.Unavailable):
        ADD([key("sum")], [2])
