"""OPS-4: what is documented is what there is, both ways."""

import re
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from delivery import filters
from delivery.message_admin import FITS
from providers import registry
from smtpproxy import settings

PROJECT = Path(__file__).resolve().parents[2]
_ROW = re.compile(r"^\| `([A-Z0-9_]+)` \| (?:`([^`]*)`)? ?\| (.+) \|$", re.MULTILINE)
_EXAMPLE = re.compile(r"^#? ?([A-Z0-9_]+)=(.*)$", re.MULTILINE)


def _documented():
    return {name: (default, text) for name, default, text in _ROW.findall((PROJECT / "docs/settings.md").read_text())}


def _settings():
    files = {f"{name}_FILE" for name in settings.env.secrets}
    return {name: default for name, default in settings.env.declared.items() if name not in files}


def _written(value):
    """A default as people write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return ",".join(str(item) for item in value)
    data = str(django_settings.DATA_DIR)
    return "var" if str(value) == data else str(value).replace(data, "DATA_DIR")


def test_every_setting_is_documented_and_nothing_else():
    assert set(_documented()) == set(_settings())


def test_every_documented_default_is_the_real_one():
    wrong = {
        name: (default, _written(_settings()[name]))
        for name, (default, _) in _documented().items()
        # The data folder of a test run is not the usual one.
        if name != "DATA_DIR"
        and default != _written(_settings()[name]).replace("sqlite:///DATA_DIR", "sqlite:///DATA_DIR")
    }
    assert wrong == {}


def test_secrets_are_marked_and_nothing_else_is():
    assert {name for name, (_, text) in _documented().items() if text.startswith("*Secret.*")} == settings.env.secrets


def test_what_the_listener_reads_again_is_marked():
    """Marked are exactly the limits, not what a socket or a thread was made with."""
    live = {name for name, (_, text) in _documented().items() if "*Live" in text}
    assert "SMTP_MAX_RECIPIENTS" in live
    assert not live & {"SMTP_PORT", "SMTP_HOSTS", "SMTP_PROCESSES", "SMTP_THREADS", "DATABASE_URL"}


def test_the_example_file_names_every_setting_and_nothing_else():
    named = dict(_EXAMPLE.findall((PROJECT / ".env.example").read_text()))
    assert set(named) == set(_settings()) | set(settings.COMPOSE_ONLY)


def test_the_example_file_shows_the_defaults():
    named = dict(_EXAMPLE.findall((PROJECT / ".env.example").read_text()))
    documented = _documented()
    wrong = {
        name: value
        for name, value in named.items()
        if name in documented and value and value.replace("var/", "DATA_DIR/") != documented[name][0]
    }
    assert wrong == {}


@pytest.mark.parametrize("page", ["docs/providers.md", "docs/sizes.md"])
def test_the_tables_of_types_have_a_row_for_each(page):
    """PRV-1, PRV-8."""
    without = {"file", "stdout"} if page.endswith("sizes.md") else set()
    rows = set(re.findall(r"^\| `([a-z]+)` \|", (PROJECT / page).read_text().partition("<!-- verdicts")[0], re.M))
    assert rows == set(registry.types()) - without


def _readme():
    return (PROJECT / "README.md").read_text()


def test_the_commands_of_the_readme_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", _readme() + (PROJECT / "CONTRIBUTING.md").read_text()))
    assert {"run", "test"} <= named <= targets


def test_the_management_commands_named_exist():
    from django.core.management import get_commands

    texts = [
        path.read_text() for path in [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *PROJECT.glob("docs/*.md")]
    ]
    named = {name for text in texts for name in re.findall(r"manage\.py ([a-z_]+)", text)}
    assert "serve" in named
    assert named <= set(get_commands())


def _links(path):
    """The files a page leads to."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    return [(path.parent / link).resolve() for link in links if "://" not in link]


@pytest.mark.parametrize(
    "path", sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")]), ids=lambda path: path.name
)
def test_every_link_inside_the_project_leads_somewhere(path):
    assert [link for link in _links(path) if not link.exists()] == []


def test_every_page_of_the_documentation_can_be_reached_from_the_readme():
    seen, ahead = set(), [PROJECT / "README.md"]
    while ahead:
        page = ahead.pop()
        seen.add(page)
        ahead += [link for link in _links(page) if link.suffix == ".md" and link not in seen]
    assert set(PROJECT.glob("docs/**/*.md")) <= seen


def test_the_readme_names_every_service_we_speak_to():
    """PRV-1; `file` and `stdout` are no services."""
    names = {"ses": "Amazon SES", "msgraph": "Microsoft Graph", "smtp": "SMTP server"}
    told = _readme().partition("## Run it")[0].lower()
    services = [type_ for type_ in registry.types() if not registry.backend_class(type_).sandbox]
    assert [type_ for type_ in services if names.get(type_, type_).lower() not in told] == []


def test_the_commands_of_each_process_can_be_run_as_they_are_printed():
    """From a checkout with its environment in `.venv`."""
    rows = re.findall(r"^\| \w+ \| `([^`]+)` \| (?:any|exactly)", (PROJECT / "docs/operations.md").read_text(), re.M)
    assert len(rows) == 5
    assert all(row.startswith(".venv/bin/") for row in rows)
    programs = {row.split()[0].rpartition("/")[2] for row in rows}
    assert programs == {"python", "celery", "gunicorn"}


def _cells(page, heading):
    """The first two cells of each row of the table below a heading."""
    text = (PROJECT / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `?(\w+)`? \| ([^|]+) \|", text, re.MULTILINE)[1:])


def test_the_statuses_each_action_takes_are_those_that_are_told():
    """DEL-9."""
    told = _cells("docs/operating-messages.md", "What each action does")
    found = {name: set(action.statuses) for name, action in FITS.items()}
    assert {name: set(re.findall(r"`(\w+)`", statuses)) for name, statuses in told.items()} == found


def test_every_filter_is_told_and_no_other():
    """DEL-9."""
    assert set(_cells("docs/operating-messages.md", "All that a filter finds")) == set(filters.KEYS)


def test_the_settings_that_put_mail_off_are_among_what_to_watch():
    watched = (PROJECT / "docs/operations.md").read_text().partition("## What to watch")[2].partition("\n## ")[0]
    for name in ("QUEUE_MAX_DEPTH", "STORAGE_MIN_FREE_MB", "STORAGE_MIN_FREE_PERCENT"):
        assert f"`{name}`" in watched
