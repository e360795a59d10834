"""A connection that has ended leaves nothing behind (PERF-3)."""

import gc
import time
import weakref

import pytest

from relay import listener as module
from relay.tests.listening import ACME, Client


@pytest.fixture
def ended(monkeypatch):
    """Weak references to every connection from now on; the collector is off, so that only circles keep them alive."""
    made = []

    class Watched(module.SMTPProtocol):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(weakref.ref(self))

    monkeypatch.setattr(module, "SMTPProtocol", Watched)
    gc.disable()
    yield made
    gc.enable()


def plain(running):
    with running.client() as client:
        client.command("EHLO x")
        client.message(b"Subject: x\r\n")


def implicit_tls(running):
    with Client(running.tls_port, tls=True) as client:
        client.command("EHLO x")


def login(running):
    with running.client() as client:
        client.sign_in().message(b"Subject: x\r\n")
        client.command("QUIT")


def broken_off(running):
    with running.client() as client:
        client.command("EHLO x")
        client.envelope()
        client.send(b"half")


@pytest.mark.parametrize("session", [plain, implicit_tls, login, broken_off])
def test_its_memory_does_not_wait_for_the_garbage_collector(listen, recorder, ended, session):
    recorder.known_networks["127.0.0.1"] = ACME
    running = listen()
    for _ in range(3):
        session(running)
    end = time.monotonic() + 5
    while any(reference() for reference in ended) and time.monotonic() < end:
        time.sleep(0.02)
    assert [reference() for reference in ended] == [None] * 3
