"""What `manage.py serve` says while it waits for its processes (OPS-1)."""

import os
import re
import sys

import pytest

from smtpproxy.serve import supervisor
from smtpproxy.serve.child import Child
from smtpproxy.serve.exceptions import CannotServe
from smtpproxy.serve.roles import Role
from smtpproxy.serve.supervisor import Supervisor


@pytest.fixture
def idle():
    code = "import time; time.sleep(60)"
    return Child(Role("idle", [sys.executable, "-c", code], patience=1.0, complains="nowhere"), os.environ)


@pytest.fixture
def keeper():
    keeper = Supervisor()
    yield keeper
    keeper.stop()


def test_it_names_what_has_not_answered_when_it_gives_up(idle, keeper, monkeypatch):
    monkeypatch.setattr(supervisor, "START_TIMEOUT", 0.2)
    with pytest.raises(CannotServe, match=re.escape("Not ready after 0 s: web, worker;")):
        keeper.start([idle], lambda: {"worker", "web"})


def test_it_says_what_it_waits_for_meanwhile(idle, keeper, monkeypatch, caplog):
    monkeypatch.setattr(supervisor, "START_TOLD", 0.2)
    answers = iter([{"worker", "web"}] * 5)
    with caplog.at_level("INFO"):
        keeper.start([idle], lambda: next(answers, ()))
    assert "still starting" in caplog.text
    assert idle.alive
