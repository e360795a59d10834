"""`manage.py consistency`: does every message have its body, and every body its message?"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from delivery import checking, store
from delivery.consistency import Check
from delivery.exceptions import StoreUnavailable
from delivery.findings import Report

REFUSED = (
    "Nothing was repaired: so much is missing that this may be the wrong database or the wrong store. See "
    "docs/consistency.md; --force repairs all the same."
)


class Command(BaseCommand):
    help = "Compare messages and archive copies with the message store. Exit code 1: something is wrong."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--repair", action="store_true", help="mend what is found, see docs/consistency.md")
        parser.add_argument("--force", action="store_true", help="repair also where very much is wrong")
        parser.add_argument("--json", action="store_true")

    def handle(self, **options: Any) -> None:
        try:
            report = self._check()
            refused = report.doubtful and not options["force"]
            if options["repair"] and not report.in_order and not refused:
                report = self._check(repair=True, most=checking.allowance(report))
            store.tidy()
        except StoreUnavailable as error:
            raise CommandError(str(error)) from error
        checking.tell(report)
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json()))
        else:
            self.stdout.write(f"{report.keys:,} keys")
            for kind, count in sorted(report.found.items()):
                self.stdout.write(f"{count:,} {kind}, {report.repaired[kind]:,} of them repaired")
                for name in report.examples[kind]:
                    self.stdout.write(f"  {name}")
        if options["repair"] and refused:
            self.stderr.write(REFUSED)
        if not report.in_order:
            sys.exit(1)

    @staticmethod
    def _check(**how: Any) -> Report:
        check = Check(repair=how.pop("repair", False), **how)
        check.run()
        return check.report
