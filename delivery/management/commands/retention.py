"""`manage.py retention`: delete now what the scheduled rounds would delete."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Tenant
from delivery import chores, retention
from delivery.exceptions import StoreUnavailable


class Command(BaseCommand):
    help = "Delete bodies, messages and archive copies whose days are over; with --dry-run only count them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="delete nothing")
        parser.add_argument("--tenant", metavar="SLUG", help="of this tenant only")

    def handle(self, **options: Any) -> None:
        tenants = Tenant.objects.order_by("slug")
        if options["tenant"]:
            tenants = tenants.filter(slug=options["tenant"])
            if not tenants:
                raise CommandError(f"There is no tenant {options['tenant']}.")
        for tenant in tenants:
            try:
                tally = retention.survey(tenant) if options["dry_run"] else self._delete(tenant)
            except StoreUnavailable as error:
                raise CommandError(str(error)) from error
            self.stdout.write(
                f"{tenant.slug}: {tally.bodies} bodies, {tally.messages} messages, {tally.copies} archive copies"
            )

    @staticmethod
    def _delete(tenant: Tenant) -> retention.Tally:
        tally, pace = retention.Tally(), retention.Pace()
        while not retention.visit(tenant, _AllTheTime(), tally, pace):
            pass
        return tally


class _AllTheTime(chores.Turn):
    def out_of_time(self) -> bool:
        return False
