"""Run the door for RabbitMQ."""

from __future__ import annotations

import sys
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from relay.ingest.server import serve


class Command(BaseCommand):
    help = "Take mail from the queues that INGEST_QUEUES names until SIGTERM."

    def handle(self, **options: Any) -> None:  # noqa: ARG002 - Django's own
        try:
            code = serve()
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        if code:
            sys.exit(code)
