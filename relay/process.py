"""One process with one listener and one event loop: signals in, exit code out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from relay.config import Config
from relay.handler import Domain
from relay.listener import Listener
from relay.sockets import Door

log = structlog.get_logger(__name__)

CLEAN, CUT_OFF = 0, 1
DATABASE_SECONDS = 5


def run(config: Config, doors: Sequence[Door], *, domain: Domain | None = None, lifeline: int | None = None) -> int:
    """Serve until SIGTERM or SIGINT, or until the other end of `lifeline` (a descriptor) is closed.

    Returns CLEAN when every connection could finish, else CUT_OFF. Does not return when a thread is stuck: the
    process then ends here, since the interpreter would wait for the thread for ever.
    """
    raise_file_limit()
    be_impatient_with_the_database()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        clean, threads_ended = runner.run(_serve(config, doors, domain, lifeline))
    if not threads_ended:
        log.error("a thread is stuck; leaving without it")
        logging.shutdown()
        sys.stdout.flush()
        os._exit(CUT_OFF)
    return CLEAN if clean else CUT_OFF


def raise_file_limit() -> None:
    """As many descriptors as the system lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def be_impatient_with_the_database() -> None:
    """A database that does not answer within five seconds is given up, and the client told to try later (ACC-7)."""
    options = connections.settings["default"].setdefault("OPTIONS", {})
    if connections["default"].vendor == "postgresql":
        options["options"] = f"{options.get('options', '')} -c statement_timeout={DATABASE_SECONDS * 1000}".strip()
        options["tcp_user_timeout"] = DATABASE_SECONDS * 1000
    else:
        options["timeout"] = DATABASE_SECONDS


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it can be had, else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(
    config: Config, doors: Sequence[Door], domain: Domain | None, lifeline: int | None
) -> tuple[bool, bool]:
    loop = asyncio.get_running_loop()
    stops: asyncio.Queue[str] = asyncio.Queue()
    listener = Listener(
        config,
        doors,
        database_threads=settings.SMTP_THREADS,
        accept_timeout=settings.SMTP_ACCEPT_TIMEOUT,
        domain=domain,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stops.put_nowait, number.name)
    loop.add_signal_handler(signal.SIGHUP, _reload, listener)
    if lifeline is not None:
        loop.add_reader(lifeline, _parent_died, loop, lifeline, stops)
    listener.start()
    if settings.SMTP_ON_START:
        import_string(settings.SMTP_ON_START)()
    _keep_collections_short()
    log.info("stopping", reason=await stops.get())
    drain = asyncio.ensure_future(listener.drain())
    hurry = asyncio.ensure_future(stops.get())
    await asyncio.wait((drain, hurry), return_when=asyncio.FIRST_COMPLETED)
    clean = drain.done() and drain.result()
    if not drain.done():
        log.warning("stopping at once", reason=hurry.result())
        drain.cancel()
        await listener.abort()
    hurry.cancel()
    return clean, await loop.run_in_executor(None, listener.close)


def _keep_collections_short() -> None:
    """What is loaded by now stays: looking through it at every full collection would hold up every client.

    The second collection tells the collector how little else there is, or it would wait for a quarter of all that.
    """
    gc.collect()
    gc.freeze()
    gc.collect()


def _reload(listener: Listener) -> None:
    try:
        listener.reload(settings.SMTP_RELOAD())
    except ImproperlyConfigured as error:
        log.error("settings not reloaded; the old ones stay", error=str(error))


def _parent_died(loop: asyncio.AbstractEventLoop, lifeline: int, stops: asyncio.Queue[str]) -> None:
    loop.remove_reader(lifeline)
    stops.put_nowait("parent gone")
