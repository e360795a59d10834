"""The door for RabbitMQ is a role like others: OPS-1, OBS-3."""

import pytest

from relay.ingest import server
from smtpproxy import health
from smtpproxy.serve import roles


def test_serve_runs_it_where_queues_are_named(settings):
    assert "ingest" not in [role.name for role in roles.roles()]
    settings.INGEST = {**settings.INGEST, "QUEUES": {"orders": "crm@acme"}}
    [role] = [role for role in roles.roles() if role.name == "ingest"]
    assert role.command[-1] == "runingest"
    assert role.patience >= server.PATIENCE


class Reader:
    def __init__(self, queue, connected):
        self.queue, self.connected = queue, connected


def test_it_is_ready_when_every_queue_is_read(monkeypatch):
    monkeypatch.setattr(server, "_consumers", [Reader("a", True), Reader("b", False)])
    with pytest.raises(health.Unhealthy, match="not read: b"):
        health.ingest()
    server._consumers[1].connected = True
    health.ingest()
