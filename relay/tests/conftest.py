"""A running listener for every test of the conversation."""

import pytest

from relay.tests.listening import ACME, Recorder, Running


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def listen(recorder):
    """Start a listener with changed settings; it is stopped after the test."""
    running = []

    def start(**changes):
        one = Running(changes.pop("domain", None) or recorder.domain(), **changes).__enter__()
        running.append(one)
        return one

    yield start
    for one in running:
        one.stop(quickly=True)


@pytest.fixture
def listener(listen):
    return listen()


@pytest.fixture
def client(listener):
    """Connected and greeted, nothing said yet."""
    with listener.client() as connected:
        yield connected


@pytest.fixture
def signed_in(client):
    return client.sign_in()


@pytest.fixture
def printer(listener, recorder):
    """Authenticated by its network alone, in clear."""
    recorder.known_networks["127.0.0.1"] = ACME
    with listener.client() as connected:
        connected.command("EHLO printer.example")
        yield connected
