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
from typing import Any, TypeVar

import environ
from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}
_UNSET: Any = object()


class Env:
    """Reads variables from the process environment, then from `.env`; the environment wins."""

    def __init__(self, dotenv: Path | None = None) -> None:
        self.declared: dict[str, Any] = {}
        self._dotenv = dotenv
        self._from_file: dict[str, str] = {}
        self.reload()

    def reload(self) -> None:
        """Read `.env` anew (SMTP-15); the process environment itself cannot have changed."""
        self._from_file = {}
        if self._dotenv and self._dotenv.is_file():
            before = dict(os.environ)
            try:
                environ.Env.read_env(str(self._dotenv), overwrite=True)
                self._from_file = {name: value for name, value in os.environ.items() if before.get(name) != value}
            finally:
                for name in self._from_file:
                    if name in before:
                        os.environ[name] = before[name]
                    else:
                        del os.environ[name]

    def _raw(self, name: str, default: Any) -> str | None:
        self.declared[name] = default
        if name in os.environ:
            return os.environ[name]
        return self._from_file.get(name)

    def _read(self, name: str, default: T, parse: Callable[[str], T], wanted: str) -> T:
        raw = self._raw(name, default)
        if raw is None or raw == "":
            if default is _UNSET:
                raise ImproperlyConfigured(f"{name} is required: {wanted}.")
            return default
        try:
            return parse(raw.strip())
        except ValueError as error:
            raise ImproperlyConfigured(f"{name}={raw!r} is not valid: {wanted}.") from error

    def str(self, name: str, default: str = _UNSET) -> str:
        return self._read(name, default, str, "a text")

    def bool(self, name: str, default: bool) -> bool:
        def parse(raw: str) -> bool:
            if raw.lower() in _TRUE:
                return True
            if raw.lower() in _FALSE:
                return False
            raise ValueError(raw)

        return self._read(name, default, parse, "true or false")

    def int(self, name: str, default: int, *, low: int = 0, high: int = 2**53) -> int:
        def parse(raw: str) -> int:
            value = int(raw)
            if not low <= value <= high:
                raise ValueError(raw)
            return value

        return self._read(name, default, parse, f"a whole number from {low} to {high}")

    def seconds(self, name: str, default: float, *, low: float = 0) -> float:
        def parse(raw: str) -> float:
            value = float(raw)
            if not low <= value < float("inf"):
                raise ValueError(raw)
            return value

        return self._read(name, default, parse, f"a number of seconds, at least {low}")

    def choice(self, name: str, default: str, choices: Iterable[str]) -> str:
        allowed = tuple(choices)

        def parse(raw: str) -> str:
            if raw not in allowed:
                raise ValueError(raw)
            return raw

        return self._read(name, default, parse, f"one of {', '.join(allowed)}")

    def list(self, name: str, default: Iterable[str] = ()) -> list[str]:
        return self._read(name, list(default), lambda raw: [x.strip() for x in raw.split(",") if x.strip()], "a list")

    def choices(self, name: str, default: Iterable[str], choices: Iterable[str]) -> list[str]:
        """A comma-separated list out of `choices`."""
        allowed = tuple(choices)

        def parse(raw: str) -> list[str]:
            values = [x.strip() for x in raw.split(",") if x.strip()]
            if not values or not set(values) <= set(allowed):
                raise ValueError(raw)
            return values

        return self._read(name, list(default), parse, f"a list out of {', '.join(allowed)}")

    def ints(self, name: str, default: Iterable[int], *, low: int = 1) -> list[int]:
        def parse(raw: str) -> list[int]:
            values = [int(x) for x in raw.split(",")]
            if min(values) < low:
                raise ValueError(raw)
            return values

        return self._read(name, list(default), parse, f"a list of whole numbers, each at least {low}")

    def networks(self, name: str, default: Iterable[str] = ()) -> list[str]:
        def parse(raw: str) -> list[str]:
            return [str(ip_network(x.strip())) for x in raw.split(",") if x.strip()]

        return self._read(name, list(default), parse, "a list of networks such as 192.0.2.0/24")

    def path(self, name: str, default: Path) -> Path:
        return self._read(name, default, lambda raw: Path(raw).expanduser().resolve(), "a path")

    def secret(self, name: str, default: str = "") -> str:
        """The value of `NAME`, or the content of the file `NAME_FILE` names; never echoed in an error."""
        raw, file = self._raw(name, ""), self._raw(f"{name}_FILE", "")
        if raw and file:
            raise ImproperlyConfigured(f"Give {name} or {name}_FILE, not both.")
        if file:
            try:
                return Path(file).read_text().strip()
            except OSError as error:
                raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error.strerror}.") from error
        return raw or default

    def database(self, name: str, default: str) -> dict[str, Any]:
        """A Django database entry from a URL; only `sqlite` and `postgres` are known."""
        url = self.secret(name, default)
        if url.partition("://")[0] not in ("sqlite", "postgres", "postgresql"):
            raise ImproperlyConfigured(f"{name} must begin with sqlite:// or postgres://.")
        try:
            return dict(environ.Env.db_url_config(url))
        except ValueError:
            raise ImproperlyConfigured(f"{name} is not a valid database URL.") from None

    def check_names(self, prefixes: Iterable[str]) -> None:
        """Raise for variables that nothing asks for: any in `.env`, and in the environment those that look misspelt.

        In the environment only names with one of our `prefixes` that come close to a known one count, since
        orchestrators put names of their own there.
        """
        known = list(self.declared)
        suspects = [name for name in os.environ if name.startswith(tuple(prefixes)) and name not in self.declared]
        wrong = {name: difflib.get_close_matches(name, known, 1, 0.85) for name in suspects}
        wrong = {name: near for name, near in wrong.items() if near}
        for name in self._from_file:
            if name not in self.declared:
                wrong[name] = difflib.get_close_matches(name, known, 1, 0.6)
        if wrong:
            texts = [name + (f" (did you mean {near[0]}?)" if near else "") for name, near in sorted(wrong.items())]
            raise ImproperlyConfigured(f"Unknown settings: {', '.join(texts)}.")
