"""Settings from the environment: typed, checked at start, secrets also from files (OPS-4).

`django-environ` reads the `.env` file and parses URLs; this module adds what a wrong value deserves, a text that says
which variable is wrong and what it may be. Every variable that is asked for is remembered in `Env.declared`, so that a
misspelt one can be told from one that is not ours.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from smtpproxy import dotenv

T = TypeVar("T")
# The methods below are named after the types they give, and hide them from the annotations in the class.
Text: TypeAlias = str
Texts: TypeAlias = list[str]
Whole: TypeAlias = int
Wholes: TypeAlias = list[int]
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


def _split(raw: str) -> list[str]:
    return [item.strip() for item in raw.split(",") if item.strip()]


class Env:
    """Reads variables from the process environment, then from `.env`; the environment wins.

    An empty value means the default. Every reader raises ImproperlyConfigured, with one line that names the variable
    and what it may be.
    """

    def __init__(self, dotenv_path: Path | None = None) -> None:
        self.declared: dict[str, Any] = {}
        self.secrets: set[str] = set()
        self._dotenv_path = dotenv_path
        self._from_file: dict[str, str] = {}
        self.reload()

    def reload(self) -> None:
        """Read `.env` anew (SMTP-15); the process environment itself cannot have changed."""
        self._from_file = dotenv.read(self._dotenv_path) if self._dotenv_path else {}

    def _raw(self, name: Text, default: Any) -> Text:
        self.declared[name] = default
        return os.environ.get(name, self._from_file.get(name, "")).strip()

    def _read(self, name: Text, default: T, parse: Callable[[Text], T], wanted: Text) -> T:
        raw = self._raw(name, default)
        if not raw:
            return default
        try:
            return parse(raw)
        except ValueError:
            raise ImproperlyConfigured(f"{name}={raw!r} is not valid: give {wanted}.") from None

    def str(self, name: Text, default: Text) -> Text:
        return self._read(name, default, str, "a text")

    def bool(self, name: Text, default: bool) -> bool:
        def parse(raw: Text) -> bool:
            if raw.lower() in _TRUE:
                return True
            if raw.lower() in _FALSE:
                return False
            raise ValueError(raw)

        return self._read(name, default, parse, "true or false")

    def int(self, name: Text, default: Whole, *, low: Whole = 0, high: Whole = 2**53) -> Whole:
        def parse(raw: Text) -> Whole:
            value = int(raw)
            if not low <= value <= high:
                raise ValueError(raw)
            return value

        return self._read(name, default, parse, f"a whole number from {low} to {high}")

    def seconds(self, name: Text, default: float, *, low: float = 0) -> float:
        def parse(raw: Text) -> float:
            value = float(raw)
            if not low <= value < float("inf"):
                raise ValueError(raw)
            return value

        return self._read(name, default, parse, f"a number of seconds, at least {low}")

    def share(self, name: Text, default: float) -> float:
        def parse(raw: Text) -> float:
            value = float(raw)
            if not 0 <= value <= 1:
                raise ValueError(raw)
            return value

        return self._read(name, default, parse, "a number from 0 to 1")

    def choice(self, name: Text, default: Text, choices: Iterable[Text]) -> Text:
        allowed = tuple(choices)

        def parse(raw: Text) -> Text:
            if raw not in allowed:
                raise ValueError(raw)
            return raw

        return self._read(name, default, parse, f"one of {', '.join(allowed)}")

    def list(self, name: Text, default: Iterable[Text] = ()) -> Texts:
        return self._read(name, [*default], _split, "a list with commas between")

    def pairs(self, name: Text) -> dict[Text, Text]:
        """A list of `key=value`, no key twice."""

        def parse(raw: Text) -> dict[Text, Text]:
            entries = [item.partition("=") for item in _split(raw)]
            found = {key.strip(): value.strip() for key, _, value in entries}
            if len(found) < len(entries) or not all(key and value for key, value in found.items()):
                raise ValueError(raw)
            return found

        return self._read(name, {}, parse, "a list of key=value with commas between, each key once")

    def choices(self, name: Text, default: Iterable[Text], choices: Iterable[Text]) -> Texts:
        """A comma-separated list out of `choices`."""
        allowed = tuple(choices)

        def parse(raw: Text) -> Texts:
            values = _split(raw)
            if not values or not set(values) <= set(allowed):
                raise ValueError(raw)
            return values

        return self._read(name, [*default], parse, f"one or more of: {', '.join(allowed)}")

    def ints(self, name: Text, default: Iterable[Whole], *, low: Whole = 1, high: Whole = 2**53) -> Wholes:
        def parse(raw: Text) -> Wholes:
            values = [int(item) for item in raw.split(",")]
            if min(values) < low or max(values) > high:
                raise ValueError(raw)
            return values

        return self._read(name, [*default], parse, f"a list of whole numbers, each from {low} to {high}")

    def counts(self, name: Text, names: Iterable[Text]) -> dict[Text, Whole]:
        """A list such as `one=4,other=2`, of `names` only; by default empty."""
        allowed = tuple(names)

        def parse(raw: Text) -> dict[Text, Whole]:
            pairs = [item.partition("=")[::2] for item in _split(raw)]
            counts = {key.strip(): int(value) for key, value in pairs}
            if len(counts) < len(pairs) or not set(counts) <= set(allowed) or min(counts.values(), default=1) < 1:
                raise ValueError(raw)
            return counts

        wanted = f"a list such as {allowed[0]}=4, out of: {', '.join(allowed)}"
        return self._read(name, {}, parse, wanted)

    def networks(self, name: Text, default: Iterable[Text] = ()) -> Texts:
        def parse(raw: Text) -> Texts:
            return [str(ip_network(item)) for item in _split(raw)]

        return self._read(name, [*default], parse, "a list of networks such as 192.0.2.0/24")

    def path(self, name: Text, default: Path) -> Path:
        return self._read(name, default, lambda raw: Path(raw).expanduser().resolve(), "a path")

    def secret(self, name: Text, default: Text = "") -> Text:
        """The value of `NAME`, or the content of the file `NAME_FILE` names; never echoed in an error."""
        self.secrets.add(name)
        value, file = self._raw(name, default), self._raw(f"{name}_FILE", "")
        if value and file:
            raise ImproperlyConfigured(f"Give {name} or {name}_FILE, not both.")
        if not file:
            return value or default
        try:
            value = Path(file).expanduser().read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE={file!r} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise ImproperlyConfigured(f"{name}_FILE={file!r} is not text in UTF-8.") from None
        if not value:
            raise ImproperlyConfigured(f"{name}_FILE={file!r} is empty.")
        return value

    def url(self, name: Text, default: Text, schemes: Iterable[Text]) -> Text:
        """A URL, which may hold a password and is therefore read as a secret; it may be empty where `default` is."""
        value, allowed = self.secret(name, default), tuple(schemes)
        if (value or default) and value.partition("://")[0] not in allowed:
            raise ImproperlyConfigured(f"{name} must begin with {' or '.join(f'{each}://' for each in allowed)}.")
        return value

    def origin(self, name: Text, default: Text) -> Text:
        """Scheme, host and perhaps a port and a path, without a slash at the end: what other addresses begin with."""

        def parse(raw: Text) -> Text:
            parts = urlsplit(raw)
            whole = parts.scheme in {"http", "https"} and parts.hostname
            if not whole or parts.query or parts.fragment or "@" in raw:
                raise ValueError(raw)
            _ = parts.port  # raises for one that is none
            return raw.rstrip("/")

        return self._read(name, default, parse, "an address such as https://mail.example.com")

    def database(self, name: Text, default: Text) -> dict[Text, Any]:
        """A Django database entry from a URL; only `sqlite` and `postgres` are known."""
        url = self.url(name, default, ("sqlite", "postgres", "postgresql"))
        try:
            return dict(environ.Env.db_url_config(url))
        except (ValueError, ImproperlyConfigured):
            raise ImproperlyConfigured(f"{name} is not a valid database URL.") from None

    def check_names(self, prefixes: Iterable[Text], besides: Iterable[Text] = ()) -> None:
        """Raise for variables that nothing asks for: any in `.env`, and in the environment those that look misspelt.

        In the environment only names with one of our `prefixes` that come close to a known one count, since
        orchestrators put names of their own there. Names in `besides` may stand in `.env` though nothing asks for them.
        """
        known = [*self.declared]
        suspects = [name for name in os.environ if name.startswith(tuple(prefixes)) and name not in self.declared]
        wrong = {name: difflib.get_close_matches(name, known, 1, 0.85) for name in suspects}
        wrong = {name: near for name, near in wrong.items() if near}
        for name in self._from_file:
            if name not in self.declared and name not in besides:
                wrong[name] = difflib.get_close_matches(name, known, 1, 0.6)
        if wrong:
            texts = [name + (f" (did you mean {near[0]}?)" if near else "") for name, near in sorted(wrong.items())]
            raise ImproperlyConfigured(f"Unknown settings: {', '.join(texts)}.")
