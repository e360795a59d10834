"""OPS-2: the container files fit each other, the settings and the code. No engine runs them here."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands

from smtpproxy import settings

PROJECT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OURS = {"migrate", "smtp", "ingest", "worker", "beat", "web"}
DOCKERFILE = (PROJECT / "Dockerfile").read_text()
PROBE_PORTS = {
    "smtp": "SMTP_HEALTH_PORT",
    "ingest": "INGEST_HEALTH_PORT",
    "worker": "WORKER_HEALTH_PORT",
    "web": "WEB_PORT",
}


def _instructions(name):
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} (.+)$", joined, re.MULTILINE)


def test_every_role_runs_beside_database_and_broker():
    assert set(SERVICES) == OURS | {"postgres", "redis", "rabbitmq"}
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["rabbitmq", "ingest"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_role_is_the_same_image_and_has_few_rights(name):
    service = SERVICES[name]
    assert (service["image"], service["build"]) == ("smtpproxy:latest", ".")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", sorted(OURS - {"migrate"}))
def test_migrations_come_first(name):
    assert SERVICES[name]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "redis": {"condition": "service_healthy"},
        "rabbitmq": {"condition": "service_healthy", "required": False},
        "migrate": {"condition": "service_completed_successfully"},
    }
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_migrations_run_once():
    migrate = SERVICES["migrate"]
    assert migrate["command"][-2:] == ["migrate", "--no-input"]
    assert migrate["restart"] == "no"
    assert migrate["depends_on"] == {"postgres": {"condition": "service_healthy"}}


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_environment_variable_is_a_setting(name):
    assert set(SERVICES[name]["environment"]) <= set(settings.env.declared)


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_values_given_are_valid(name, tmp_path):
    values = {key: _filled_in(str(value)) for key, value in SERVICES[name]["environment"].items()}
    code = "from smtpproxy import settings as s; print(s.DATABASES['default']['HOST'], s.CELERY_BROKER_URL, s.DATA_DIR)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=PROJECT,
        env={**values, "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.stdout.split() == ["postgres", "redis://redis:6379/0", str(tmp_path)]


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_profile_rabbitmq_is_used_when_the_settings_say_so(name, tmp_path):
    """QUE-1."""
    given = {"QUEUE_TYPE": "rabbitmq", "RABBITMQ_PASSWORD": "p"}
    values = {key: _filled_in(str(value), given) for key, value in SERVICES[name]["environment"].items()}
    code = "from smtpproxy import settings as s; print(s.CELERY_BROKER_URL, s.SHARED_STATE_URL)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=PROJECT,
        env={**values, "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.stdout.split() == ["amqp://smtpproxy:p@rabbitmq:5672/", "redis://redis:6379/0"]
    assert SERVICES["rabbitmq"]["environment"]["RABBITMQ_DEFAULT_USER"] == "smtpproxy"


def _filled_in(value, given=()):
    """As compose fills it in from a `.env` that names only what is required, and what is `given`."""
    required = {"SECRET_KEY": "k", "CREDENTIAL_KEYS": "k", "POSTGRES_PASSWORD": "p", **dict(given)}

    def fill(match):
        name, _, otherwise = re.fullmatch(r"(\w+)(:\?|:-)(.*)", match[1]).groups()
        return required.get(name, otherwise)

    return re.sub(r"\$\{([^}]+)\}", fill, value)


def test_what_is_secret_has_no_default():
    text = (PROJECT / "docker-compose.yml").read_text()
    asked = dict(re.findall(r"\$\{(\w+)(:\?|:-|\})", text))
    assert {name for name, operator in asked.items() if operator == ":?"} == {
        "SECRET_KEY",
        "CREDENTIAL_KEYS",
        "POSTGRES_PASSWORD",
    }
    assert set(asked) - {"SECRET_KEY", "CREDENTIAL_KEYS", "QUEUE_TYPE"} == set(settings.COMPOSE_ONLY)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_probed(name):
    check = SERVICES[name]["healthcheck"]
    if name == "migrate":
        assert check == {"disable": True}
    else:
        assert check["test"][0] in ("CMD", "CMD-SHELL")
        assert check["retries"] >= 3


@pytest.mark.parametrize(("name", "setting"), PROBE_PORTS.items())
def test_probes_ask_the_port_the_service_answers_on(name, setting):
    port = SERVICES[name]["environment"][setting]
    assert f"http://127.0.0.1:{port}/readyz" in SERVICES[name]["healthcheck"]["test"][-1]


def test_published_ports_are_those_listened_on():
    smtp, web = SERVICES["smtp"], SERVICES["web"]
    listened = [smtp["environment"]["SMTP_PORT"], smtp["environment"]["SMTP_TLS_PORT"]]
    assert [port.rpartition(":")[2] for port in smtp["ports"]] == listened
    assert [port.rpartition(":")[2] for port in web["ports"]] == [web["environment"]["WEB_PORT"]]


def test_volumes_named_are_declared():
    used = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_stop_waits_longer_than_a_drain(name):
    longest = max(settings.SMTP["DRAIN_TIMEOUT"], settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT)
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > longest


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_command_exists(name):
    program, *arguments = SERVICES[name]["command"]
    if program == "python":
        assert arguments[0] == "manage.py"
        assert arguments[1] in get_commands()
    else:
        # Its own help knows every option that is given.
        subcommand = [argument for argument in arguments if argument in ("worker", "beat")]
        run = subprocess.run(
            [sys.executable, "-m", program, *(["--app", "smtpproxy"] if subcommand else []), *subcommand, "--help"],
            check=True,
            cwd=PROJECT,
            capture_output=True,
            text=True,
        )
        options = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
        assert options - {"--app", "--quiet"} <= set(re.findall(r"--[\w-]+", run.stdout))


def test_the_image_does_not_run_as_root():
    [user] = _instructions("USER")
    assert user == "10001:10001"


def test_the_image_holds_every_app_and_no_tests():
    copied = {shlex.split(line)[0] for line in _instructions("COPY") if not line.startswith("--from")}
    apps = {path.parent.name for path in PROJECT.glob("*/apps.py")}
    assert apps <= copied
    assert "**/tests" in (PROJECT / ".dockerignore").read_text().splitlines()


def test_what_the_image_copies_is_not_ignored():
    allowed = set(re.findall(r"^!(.+)$", (PROJECT / ".dockerignore").read_text(), re.MULTILINE))
    copied = {
        name for line in _instructions("COPY") if not line.startswith("--from") for name in shlex.split(line)[:-1]
    }
    assert copied == allowed
    assert all((PROJECT / name).exists() for name in allowed)


def test_the_image_installs_locked_requirements_by_hash():
    [install] = [line for line in _instructions("RUN") if "pip install" in line]
    assert install.count("--require-hashes") == install.count("pip install") == 2
    assert (PROJECT / "requirements/prod.txt").read_text().count("--hash=sha256:") > 100


def test_the_python_of_the_image_is_one_the_lock_is_good_for():
    bases = set(re.findall(r"^FROM python:(3\.\d+)-slim", DOCKERFILE, re.MULTILINE))
    assert bases <= {"3.11", "3.12", "3.13"}
    assert len(bases) == 1
