"""OPS-4: every setting is typed, a wrong or unknown value stops with one line that says what to give."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from smtpproxy.env import Env

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def env(tmp_path):
    return Env(tmp_path / ".env")


def _dotenv(tmp_path, text):
    (tmp_path / ".env").write_text(text)
    return Env(tmp_path / ".env")


@pytest.mark.parametrize(
    ("read", "raw", "value"),
    [
        (lambda env: env.str("X", "a"), "b c", "b c"),
        (lambda env: env.bool("X", False), "true", True),
        (lambda env: env.bool("X", True), "No", False),
        (lambda env: env.bool("X", True), "0", False),
        (lambda env: env.int("X", 1, low=1, high=9), "9", 9),
        (lambda env: env.seconds("X", 1.0), "0.5", 0.5),
        (lambda env: env.choice("X", "a", ["a", "b"]), "b", "b"),
        (lambda env: env.list("X"), "a, b ,,c", ["a", "b", "c"]),
        (lambda env: env.choices("X", ["a"], ["a", "b"]), "b,a", ["b", "a"]),
        (lambda env: env.ints("X", [1]), "30, 60", [30, 60]),
        (lambda env: env.networks("X"), "192.0.2.0/24, 2001:db8::1", ["192.0.2.0/24", "2001:db8::1/128"]),
        (lambda env: env.path("X", Path("/a")), "/b/../c", Path("/c")),
        (lambda env: env.secret("X"), "s3cret", "s3cret"),
        (lambda env: env.url("X", "redis://a", ["redis"]), "redis://b", "redis://b"),
    ],
)
def test_a_value_is_read_in_its_type(env, monkeypatch, read, raw, value):
    monkeypatch.setenv("X", f" {raw} ")
    assert read(env) == value


@pytest.mark.parametrize(
    ("read", "raw", "wanted"),
    [
        (lambda env: env.bool("X", True), "maybe", "give true or false"),
        (lambda env: env.int("X", 1, low=1, high=9), "10", "give a whole number from 1 to 9"),
        (lambda env: env.int("X", 1), "1.5", "give a whole number"),
        (lambda env: env.seconds("X", 1, low=0.2), "0.1", "at least 0.2"),
        (lambda env: env.seconds("X", 1), "nan", "a number of seconds"),
        (lambda env: env.seconds("X", 1), "inf", "a number of seconds"),
        (lambda env: env.seconds("X", 1), "1h", "a number of seconds"),
        (lambda env: env.choice("X", "a", ["a", "b"]), "c", "one of a, b"),
        (lambda env: env.choices("X", ["a"], ["a", "b"]), "a,c", "give one or more of: a, b"),
        (lambda env: env.choices("X", ["a"], ["a", "b"]), ",", "give one or more of: a, b"),
        (lambda env: env.ints("X", [1]), "30,0", "each from 1 to"),
        (lambda env: env.ints("X", [1]), "30;60", "a list of whole numbers"),
        (lambda env: env.networks("X"), "10.0.0.1/8", "a list of networks"),
    ],
)
def test_a_wrong_value_names_the_variable_and_what_it_may_be(env, monkeypatch, read, raw, wanted):
    monkeypatch.setenv("X", raw)
    with pytest.raises(ImproperlyConfigured) as raised:
        read(env)
    text = str(raised.value)
    assert text.startswith("X=")
    assert wanted in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "raw", ["mail.example", "ftp://mail.example", "https://", "https://a:b@c", "https://a?b", "https://a:x"]
)
def test_an_origin_is_scheme_and_host(env, monkeypatch, raw):
    monkeypatch.setenv("WEB_PUBLIC_URL", "https://mail.example:8443/")
    assert env.origin("WEB_PUBLIC_URL", "") == "https://mail.example:8443"
    monkeypatch.setenv("WEB_PUBLIC_URL", raw)
    with pytest.raises(ImproperlyConfigured, match="WEB_PUBLIC_URL"):
        env.origin("WEB_PUBLIC_URL", "")


def test_an_empty_value_is_the_default(env, monkeypatch):
    monkeypatch.setenv("X", "")
    assert env.int("X", 7) == 7


def test_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    env = _dotenv(tmp_path, "X=from-file\nY=from-file\n")
    monkeypatch.setenv("X", "from-environment")
    assert (env.str("X", ""), env.str("Y", "")) == ("from-environment", "from-file")
    assert "Y" not in os.environ


def test_the_file_knows_comments_quotes_and_export(tmp_path):
    env = _dotenv(tmp_path, "# a comment\n\n  # another\nexport A='x y'\nB=\"p#q\"\n C=1 \n")
    assert (env.str("A", ""), env.str("B", ""), env.int("C", 0)) == ("x y", "p#q", 1)


def test_a_line_that_is_no_assignment_stops_and_is_not_shown(tmp_path):
    with pytest.raises(ImproperlyConfigured, match="line 2 is not NAME=value") as raised:
        _dotenv(tmp_path, "A=1\nhunter2 hunter2\n")
    assert "hunter2" not in str(raised.value)


def test_the_file_is_read_anew_on_reload(tmp_path):
    env = _dotenv(tmp_path, "X=1\n")
    assert env.int("X", 0) == 1
    (tmp_path / ".env").write_text("X=2\n")
    env.reload()
    assert env.int("X", 0) == 2


def test_a_secret_may_stand_in_a_file_of_its_own(env, tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("s3cret\n")
    monkeypatch.setenv("KEY_FILE", str(tmp_path / "secret"))
    assert env.secret("KEY") == "s3cret"


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "cannot be read: No such file"), (b"", "is empty"), (b"\xff\xfe", "not text")]
)
def test_an_unusable_secret_file_stops(env, tmp_path, monkeypatch, content, problem):
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    monkeypatch.setenv("KEY_FILE", str(tmp_path / "secret"))
    with pytest.raises(ImproperlyConfigured, match=problem):
        env.secret("KEY")


def test_a_secret_given_twice_stops_without_being_shown(env, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", "hunter2")
    monkeypatch.setenv("KEY_FILE", str(tmp_path / "secret"))
    with pytest.raises(ImproperlyConfigured, match="KEY or KEY_FILE, not both") as raised:
        env.secret("KEY")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/d", "postgres://u:hunter2@h:port/d", "hunter2"])
def test_a_wrong_database_url_stops_without_being_shown(env, monkeypatch, url):
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ImproperlyConfigured, match=r"^DATABASE_URL ") as raised:
        env.database("DATABASE_URL", "sqlite:///x")
    assert "hunter2" not in str(raised.value)


def test_an_unknown_name_in_the_file_stops(tmp_path):
    env = _dotenv(tmp_path, "SMTP_PROT=25\nSOMETHING=1\n")
    env.int("SMTP_PORT", 2525)
    with pytest.raises(ImproperlyConfigured, match=r"SMTP_PROT \(did you mean SMTP_PORT\?\), SOMETHING\."):
        env.check_names(["SMTP_"])


def test_names_for_other_programs_may_stand_in_the_file(tmp_path):
    _dotenv(tmp_path, "POSTGRES_PASSWORD=x\n").check_names(["SMTP_"], besides=["POSTGRES_PASSWORD"])


def test_in_the_environment_only_names_that_look_misspelt_stop(env, monkeypatch):
    env.int("SMTP_PORT", 2525)
    monkeypatch.setenv("SMTP_SERVICE_HOST", "10.0.0.1")  # orchestrators set such names
    env.check_names(["SMTP_"])
    monkeypatch.setenv("SMTP_PRT", "25")
    with pytest.raises(ImproperlyConfigured, match=r"SMTP_PRT \(did you mean SMTP_PORT\?\)"):
        env.check_names(["SMTP_"])


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (
            "SMTP_PORT",
            "smtp",
            "Wrong configuration: SMTP_PORT='smtp' is not valid: give a whole number from 0 to 65535.",
        ),
        ("SMTP_PROT", "25", "Wrong configuration: Unknown settings: SMTP_PROT (did you mean SMTP_PORT?)."),
    ],
)
def test_a_wrong_setting_stops_every_command_with_one_line(tmp_path, name, value, text):
    environment = {**os.environ, "DATA_DIR": str(tmp_path), name: value}
    run = subprocess.run(
        [sys.executable, "manage.py", "check"],
        check=False,
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stderr.strip() == text
