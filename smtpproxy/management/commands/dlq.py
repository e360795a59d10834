"""`manage.py dlq redrive`: rings the broker has given up go back to their queues (QUE-3)."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from smtpproxy.brokers import redrive
from smtpproxy.brokers.exceptions import BrokerUnusable

EVERY = 1_000_000
"""More than a dead-letter queue should ever hold; a bound all the same, since rings may come back while others go."""


class Command(BaseCommand):
    help = "The broker's dead-letter queue: rings that no worker survived, or that none could read."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        action = actions.add_parser("redrive", help="Send rings back to the queues they came from.")
        action.add_argument("--limit", type=int, default=EVERY, help="how many at most; default: all")
        action.add_argument("--dry-run", action="store_true", help="only tell how many there are")

    def handle(self, *_args: Any, **options: Any) -> None:
        limit, dry_run = options["limit"], options["dry_run"]
        if limit < 1:
            raise CommandError("--limit must be 1 or more.")
        try:
            if dry_run:
                self.stdout.write(f"About {redrive.count()} in the dead-letter queue.")
                return
            sent = redrive.redrive(limit)
        except BrokerUnusable as error:
            raise CommandError(str(error)) from None
        except Exception as error:  # each broker's library has errors of its own
            raise CommandError(f"The broker ({settings.QUEUE_TYPE}) failed: {type(error).__name__}: {error}") from error
        for queue, number in sorted(sent.items()):
            self.stdout.write(f"{number} sent back to {queue}.")
        if not sent:
            self.stdout.write("The dead-letter queue is empty.")
