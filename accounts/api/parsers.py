"""What a request may hold at all: JSON whose texts a database can keep (API-3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from rest_framework import exceptions, parsers


class StrictJSON(parsers.JSONParser):
    """JSON without NULs and half characters in its texts, and no deeper than a sane client nests it; else ParseError.

    PostgreSQL keeps neither in a text, and none of our fields has a use for them.
    """

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            given = super().parse(stream, media_type, parser_context)
            _check(given)
        except RecursionError as error:
            raise exceptions.ParseError("JSON parse error - nested too deep") from error
        return given


def usable(text: str) -> bool:
    """Whether a database takes this text."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _check(value: Any) -> None:
    if isinstance(value, str):
        if not usable(value):
            raise exceptions.ParseError("A text holds a NUL or half of a surrogate pair.")
    elif isinstance(value, list):
        for each in value:
            _check(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            _check(name)
            _check(each)
