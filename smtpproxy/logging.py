"""One JSON line per record, ours and the libraries' alike, with the ids bound to the work at hand (OBS-1)."""

from __future__ import annotations

import logging
import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import structlog

from providers.scrub import scrub_credentials

HIDDEN = "***"
_SECRET_NAME = re.compile(
    r"passw(or)?d|secret|authorization|credential|api_?key|access_?key|private_?key|token|cookie", re.IGNORECASE
)
_SUCCESS = frozenset({"message accepted", "attempt", "message"})
# PostgreSQL shows the row that broke a constraint, password hashes and addresses included.
_ROW_IN_ERROR = re.compile(r"\bDETAIL:.*?(?=\n[A-Z]+:|\Z)", re.DOTALL)
_PROCESSES = frozenset({"serve", "runsmtp", "runingest"})  # of manage.py; they run until they are stopped
# What tells too much at INFO: of every message, connection or sweep.
_QUIET = (
    "amqp",
    "botocore",
    "celery.app.trace",
    "celery.beat",
    "celery.worker.strategy",
    "kombu",
    "mail.log",
    "urllib3",
)


def scrub(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Hide what is a secret by its name, and credentials inside texts, at any depth (SEC-8)."""
    return {name: _scrubbed(name, value) for name, value in event.items()}


def _scrubbed(name: Any, value: Any) -> Any:
    if isinstance(name, str) and _SECRET_NAME.search(name) and value is not None:
        return HIDDEN
    if isinstance(value, str):
        return scrub_credentials(_ROW_IN_ERROR.sub(f"DETAIL: {HIDDEN}", value))
    if isinstance(value, Mapping):
        return {key: _scrubbed(key, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_scrubbed("", inner) for inner in value]
    return value


class Sample:
    """Keeps the success lines of a share of the messages (OBS-1): all lines of one message or none.

    Comes first, so that a line nobody will read costs next to nothing.
    """

    def __init__(self, rate: float) -> None:
        self._below = round(rate * 2**32)

    def __call__(self, _logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        succeeded = method == "info" and event.get("event") in _SUCCESS
        if succeeded and zlib.crc32(str(event.get("message_id")).encode()) >= self._below:
            raise structlog.DropEvent
        return event


_COMMON: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]
_RENDER: list[Any] = [
    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
    # Never with local variables: they hold passwords and bodies.
    structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
    scrub,
    structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
]


def command_answers(argv: Sequence[str]) -> bool:
    """Whether this is a command whose standard output is its answer, to be read by people or as `--json`."""
    return PurePath(argv[0]).name == "manage.py" and argv[1:2] != [] and argv[1] not in _PROCESSES


def configure(config: Mapping[str, Any]) -> None:
    """Set up the root logger; called by Django with LOGGING, once per process."""
    handler = logging.StreamHandler(sys.stderr if command_answers(sys.argv) else sys.stdout)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_COMMON, processors=_RENDER))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config["level"])
    for name in _QUIET:
        logging.getLogger(name).setLevel("WARNING")
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            Sample(config.get("sample_rate", 1.0)),
            *_COMMON,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
