"""`manage.py runsmtp`: one process or several, until told to stop."""

from __future__ import annotations

import logging
import sys

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from relay import certificates, process, sockets
from relay.config import Config
from relay.handler import Domain
from relay.supervisor import UNUSABLE, Supervisor

log = structlog.get_logger(__name__)


def serve(*, processes: int | None = None, domain: Domain | None = None) -> int:
    """Listen as `settings.SMTP` says, and return the exit code after SIGTERM or SIGINT.

    Raises ImproperlyConfigured before anything is served when the configuration cannot work.
    """
    config = Config.from_settings(settings.SMTP)
    count = processes or config.processes
    if sockets.refuse_public_plaintext(config):
        log.warning("SMTP_TLS_MODE=none: passwords and mail are taken in clear")
    certificates.context(config)  # made here, if it has to be, and found wrong here, if it is
    if count == 1:
        return process.run(config, sockets.open_doors(config), domain=domain)
    held = sockets.reserve(config)
    connections.close_all()  # no connection may be shared with a child

    def child(lifeline: int) -> int:
        try:
            code = process.run(config, sockets.open_doors(config, shared=True), domain=domain, lifeline=lifeline)
        except ImproperlyConfigured as error:
            log.error("listener process cannot work", error=str(error))
            code = UNUSABLE
        logging.shutdown()
        sys.stdout.flush()
        return code

    try:
        return Supervisor(count, child, config.drain_timeout).run()
    finally:
        for holder in held:
            holder.close()
