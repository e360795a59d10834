import os
import threading

import pytest

from accounts import shared_state
from accounts.shared_state import Script, client, forget_everything, key

ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


def test_a_script_runs_on_the_server_and_again_after_it_has_forgotten_the_script():
    assert ADD([key("sum")], [2]) == 2
    client().script_flush()
    assert ADD([key("sum")], [3]) == 5


def test_nothing_is_left_of_the_test_before():
    assert client().exists(key("sum")) == 0


def test_only_our_keys_are_forgotten():
    client().set("somebody-else", 1, ex=5)
    client().set(key("ours"), 1)
    forget_everything()
    assert (client().exists(key("ours")), client().exists("somebody-else")) == (0, 1)


def test_a_server_that_is_away_is_told_at_once(settings):
    settings.SHARED_STATE_URL = "redis://127.0.0.1:9/0"
    with pytest.raises(shared_state.Unavailable):
        ADD([key("sum")], [1])


def test_threads_share_a_client_and_a_forked_child_has_its_own():
    ours = client()
    seen = []
    thread = threading.Thread(target=lambda: seen.append(client()))
    thread.start()
    thread.join()
    assert seen == [ours]
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, b"own" if client() is not ours else b"same")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 10) == b"own"
