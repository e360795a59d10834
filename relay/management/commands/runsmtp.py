"""Run the SMTP listener."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from relay.server import serve


class Command(BaseCommand):
    help = "Take mail by SMTP until SIGTERM; SIGHUP reads limits, log level and certificates anew."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--processes", type=int, metavar="N", help="how many share the ports (SMTP_PROCESSES)")

    def handle(self, *, processes: int | None, **options: Any) -> None:  # noqa: ARG002 - Django's own
        if processes is not None and not 1 <= processes <= 64:
            raise CommandError("--processes takes a number from 1 to 64")
        try:
            code = serve(processes=processes)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        if code:
            sys.exit(code)
