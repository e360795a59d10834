"""The `.env` file: `NAME=value` lines, read without touching the environment of the process."""

from __future__ import annotations

import io
import re
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

_ASSIGNMENT = re.compile(r"(export )?[A-Za-z_][A-Za-z_0-9]*=")


def read(path: Path) -> dict[str, str]:
    """What the file says; nothing when there is none.

    Values may stand in single or double quotes; a `#` only begins a comment at the start of a line. Raises
    ImproperlyConfigured, which names the line but never shows it: it may hold a secret.
    """
    if not path.exists():
        return {}
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{path} cannot be read: {error}.") from None
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#") and not _ASSIGNMENT.match(line):
            raise ImproperlyConfigured(f"{path}, line {number} is not NAME=value.")
    values: dict[str, str] = {}

    class Parser(environ.Env):
        ENVIRON = values

    Parser.read_env(io.StringIO("\n".join(lines)), overwrite=True)
    return values
