"""SIGTERM: finish what is under way, send the idle away (SMTP-15)."""

import threading
import time

import pytest

from delivery.submission import Accepted
from relay.tests.listening import ACME, Client


@pytest.fixture
def known(recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    return recorder


def test_an_idle_client_is_told_and_the_door_is_shut(listen):
    running = listen()
    with running.client() as idle:
        done = running.drain()
        assert idle.reply().startswith("421 4.3.2")
        assert idle.at_end()
        assert done.result(10) is True
        with pytest.raises(ConnectionRefusedError):
            Client(running.port)


def test_a_message_on_its_way_is_finished(listen, known):
    running = listen()
    with running.client() as busy:
        busy.command("EHLO x")
        busy.envelope()
        busy.send(b"Subject: half\r\n")
        done = running.drain()
        time.sleep(0.1)
        busy.send(b"\r\nhello\r\n.\r\n")
        assert busy.reply().startswith("250 2.0.0 Ok: queued as")
        assert busy.reply().startswith("421 4.3.2")
        assert done.result(10) is True
    assert known.body == b"Subject: half\r\n\r\nhello\r\n"


def test_a_message_that_is_being_accepted_gets_its_answer(listen, known):
    release = threading.Event()

    def slowly(submission):
        release.wait(10)
        return Accepted(submission.message_id)

    known.answer = slowly
    running = listen()
    with running.client() as waiting:
        waiting.command("EHLO x")
        waiting.envelope()
        waiting.send(b"\r\n.\r\n")
        time.sleep(0.1)
        done = running.drain()
        time.sleep(0.1)
        assert not done.done()
        release.set()
        assert waiting.reply().startswith("250")
        assert waiting.reply().startswith("421 4.3.2")
        assert done.result(10) is True


def test_a_login_dialogue_is_not_waited_for(listen):
    running = listen()
    with running.client() as halfway:
        halfway.hello()
        halfway.command("AUTH LOGIN")
        done = running.drain()
        assert halfway.reply().startswith("421 4.3.2")
        assert done.result(10) is True


def test_a_tls_handshake_is_not_waited_for(listen):
    running = listen()
    silent = Client(running.tls_port, greeted=False)
    time.sleep(0.1)
    assert running.drain().result(10) is True
    assert silent.at_end()


def test_who_does_not_finish_in_time_is_cut_off(listen, known):
    running = listen(drain_timeout=0.4)
    with running.client() as endless:
        endless.command("EHLO x")
        endless.envelope()
        began = time.monotonic()
        assert running.drain().result(10) is False
        assert time.monotonic() - began < 5
        assert endless.at_end()
    assert known.messages == []


def test_clients_in_the_backlog_are_told_too(listen):
    running = listen(max_connections=1)
    with running.client():
        running.run(lambda: [task.cancel() for task in running.listener._accepting]).result(5)
        unseen = Client(running.port, greeted=False)
        assert running.drain().result(10) is True
        assert unseen.reply().startswith("421 4.3.2")
