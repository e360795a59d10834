"""`manage.py rotate_keys`: encrypt everything in the database under the first of CREDENTIAL_KEYS."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from accounts import rotation


class Command(BaseCommand):
    help = (
        "Encrypt provider credentials and other secrets in the database anew, under the first of CREDENTIAL_KEYS, and "
        "say what still needs an older key. May be repeated and run beside everything else."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="change nothing")

    def handle(self, **options: Any) -> None:
        unreadable = 0
        for model, column in rotation.columns():
            tally = rotation.rotate(model, column, dry_run=options["dry_run"])
            done = "to be encrypted anew" if options["dry_run"] else "encrypted anew"
            name = f"{model._meta.label} {column}"
            self.stdout.write(f"{name}: {tally.current} under the first key, {tally.rotated} {done}")
            for key in tally.unreadable:
                self.stderr.write(f"{name}: no key of CREDENTIAL_KEYS opens that of row {key}")
            unreadable += len(tally.unreadable)
        for what, count in rotation.hashes_under_old_keys().items():
            self.stdout.write(f"{what}: {count} are hashes under an older key, until each is used once or replaced")
        if unreadable:
            sys.exit(1)
