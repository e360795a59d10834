import pytest

from providers import registry
from providers.tests.harness import HTTP, SERVICES, TYPES, rigged, type_of
from providers.tests.standins import SesStandIn


@pytest.fixture(params=TYPES)
def rig(request, tmp_path, monkeypatch):
    """Every registered type in turn, on its stand-in."""
    with rigged(request.param, tmp_path, monkeypatch) as rig:
        yield rig


@pytest.fixture(params=tuple(HTTP))
def service_rig(request, tmp_path, monkeypatch):
    """Every type with an HTTP API in turn, on its stand-in."""
    with rigged(request.param, tmp_path, monkeypatch) as rig:
        yield rig


@pytest.fixture(params=tuple(SERVICES))
def structured_rig(request, tmp_path, monkeypatch):
    """Every type that writes the message anew in turn, on its stand-in."""
    with rigged(request.param, tmp_path, monkeypatch) as rig:
        yield rig


@pytest.fixture(params=(*HTTP, "smtp"))
def network_rig(request, tmp_path, monkeypatch):
    """Every type that talks to a server in turn, on its stand-in."""
    with rigged(request.param, tmp_path, monkeypatch) as rig:
        yield rig


@pytest.fixture(params=[type_ for type_ in TYPES if registry.backend_class(type_of(type_)).idempotent])
def idempotent_rig(request, tmp_path, monkeypatch):
    """Every type that says it knows an idempotency key again."""
    with rigged(request.param, tmp_path, monkeypatch) as rig:
        yield rig


@pytest.fixture
def ses():
    """Amazon SES."""
    with SesStandIn() as service:
        yield service


@pytest.fixture
def ses_of(ses):
    """Backends for it, by settings."""
    made = []

    def make(**settings):
        made.append(registry.connect("ses", ses.config(**settings), timeout=5))
        return made[-1]

    yield make
    for backend in made:
        backend.close()
