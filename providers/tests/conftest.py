import pytest

from providers import registry
from providers.tests.harness import SERVICES, TYPES, rigged


@pytest.fixture(params=TYPES)
def rig(request, tmp_path, monkeypatch):
    """Every registered type in turn, on its stand-in."""
    with rigged(request.param, tmp_path, monkeypatch) as rig:
        yield rig


@pytest.fixture(params=tuple(SERVICES))
def service_rig(request, tmp_path, monkeypatch):
    """Every type with an HTTP API in turn, on its stand-in."""
    with rigged(request.param, tmp_path, monkeypatch) as rig:
        yield rig


@pytest.fixture(params=(*SERVICES, "smtp"))
def network_rig(request, tmp_path, monkeypatch):
    """Every type that talks to a server in turn, on its stand-in."""
    with rigged(request.param, tmp_path, monkeypatch) as rig:
        yield rig


@pytest.fixture(params=[type_ for type_ in TYPES if registry.backend_class(type_).idempotent])
def idempotent_rig(request, tmp_path, monkeypatch):
    """Every type that says it knows an idempotency key again."""
    with rigged(request.param, tmp_path, monkeypatch) as rig:
        yield rig
