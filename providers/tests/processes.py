"""Real processes that race each other, as workers do: forked from the test, with connections of their own."""

import json
import os
import time
import traceback

from django.db import connections as databases

from providers import health


def race(count, act):
    """What `act(number)` returned in each of `count` processes, which all begin at the same moment."""
    databases.close_all()  # a child must not speak on its parent's connection
    start = time.time() + 0.3
    children = [_child(number, start, act) for number in range(count)]
    answers = []
    for pid, read in children:
        with os.fdopen(read) as pipe:
            answers.append(json.loads(pipe.read() or '"died"'))
        os.waitpid(pid, 0)
    return answers


def _child(number, start, act):
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    try:
        health.forget_all()
        time.sleep(max(0, start - time.time()))
        os.write(write, json.dumps(act(number)).encode())
        databases.close_all()
    except BaseException:  # noqa: BLE001 -- a child must never come back into the test runner
        os.write(write, json.dumps(traceback.format_exc()).encode())
    finally:
        os._exit(0)
