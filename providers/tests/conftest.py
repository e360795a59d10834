import pytest

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
