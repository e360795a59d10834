"""`manage.py serve`: listener, worker, scheduler and web under one command."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from smtpproxy.serve.exceptions import CannotServe
from smtpproxy.serve.run import serve


class Command(BaseCommand):
    help = "Run everything on this machine: SMTP listener, worker, scheduler and web. One Ctrl-C stops all."
    requires_migrations_checks = False

    def handle(self, *_args: Any, **_options: Any) -> None:
        try:
            serve(self.stdout.write)
        except CannotServe as error:
            raise CommandError(str(error)) from None
