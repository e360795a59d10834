"""What the commands `messages` and `deadletters` share: they count first, ask, and act as the command they are (DEL-9).

Exit codes: 0 done, 1 not done or not all of it (refused, not confirmed, stopped), 2 wrong usage.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError
from django.db.models import QuerySet
from django.utils import timezone

from delivery import bulk, control, filters
from delivery.filters import BadFilter, MessageFilter
from delivery.management import shown
from delivery.models import BulkAction, Message
from providers.models import Provider

WRONG_USAGE = 2
TELL_EVERY = 5.0
"""Seconds between two lines that say how far it has come."""


class OperateCommand(BaseCommand):
    name: ClassVar[str]
    verbs: ClassVar[Mapping[str, Callable[..., control.Outcome]]]
    statuses: ClassVar[Sequence[str]] = ()
    """What it is about; empty: every message."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("verb", choices=["list", "show", *self.verbs])
        parser.add_argument("ids", nargs="*", metavar="ID", type=uuid.UUID)
        parser.add_argument(
            "--filter",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            dest="given",
            help=f"may be given several times; all must hold. Keys: {', '.join(filters.KEYS)}",
        )
        parser.add_argument("--all", action="store_true", help="instead of a filter: every one there is")
        if "reroute" in self.verbs:
            parser.add_argument("--to", metavar="PROVIDER", help="reroute: name or id")
            parser.add_argument("--to-rules", action="store_true", help="reroute: back to what the rules say")
        parser.add_argument("--pace", type=int, metavar="N", help="with a filter: messages a minute at most")
        parser.add_argument("--background", action="store_true", help="with a filter: leave it to the workers")
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--limit", type=int, default=50, metavar="N", help="list: lines at most (50)")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, **options: Any) -> None:
        self.options = options
        try:
            self._do()
        except (OperationalError, InterfaceError) as error:
            told = (str(error).splitlines() or [type(error).__name__])[0]
            raise CommandError(f"The database does not answer: {told}", returncode=1) from error

    def _do(self) -> None:
        options = self.options
        verb, ids = options["verb"], options["ids"]
        wanted = self._wanted(options["given"])
        if verb in {"list", "show"} and any(options[name] for name in ("pace", "background", "dry_run")):
            raise CommandError("list and show only look: no --pace, --background, --dry-run.", returncode=WRONG_USAGE)
        if verb == "list":
            self._list(wanted)
        elif verb == "show":
            self._show(ids)
        elif bool(ids) + bool(options["given"]) + options["all"] != 1:
            raise CommandError("Give ids, --filter or --all.", returncode=WRONG_USAGE)
        elif ids:
            self._act_on(verb, list(dict.fromkeys(ids)), self._provider(verb, wanted))
        else:
            self._act_on_all(verb, wanted, self._provider(verb, wanted))

    # --- what is meant --------------------------------------------------------------------------------------
    def _wanted(self, given: Sequence[str]) -> MessageFilter:
        asked: dict[str, list[str]] = {}
        for pair in given:
            key, equals, value = pair.partition("=")
            if not (equals and value.strip()):
                raise CommandError(f"--filter takes KEY=VALUE, not {pair!r}.", returncode=WRONG_USAGE)
            asked.setdefault(key.strip(), []).append(value)
        if self.statuses:
            asked.setdefault("status", list(self.statuses))
        try:
            wanted = filters.parse(asked, self._actor)
        except BadFilter as error:
            raise CommandError(str(error), returncode=WRONG_USAGE) from error
        if self.statuses and not set(wanted.status) <= set(self.statuses):
            raise CommandError(f"Here status is one of {', '.join(self.statuses)}.", returncode=WRONG_USAGE)
        return wanted

    def _provider(self, verb: str, wanted: MessageFilter) -> Provider | None:
        """Where to re-route, None for the rules; nothing else takes one."""
        to, to_rules = self.options.get("to"), self.options.get("to_rules", False)
        if (verb == "reroute") != (bool(to) + to_rules == 1):
            text = "reroute takes --to PROVIDER or --to-rules." if verb == "reroute" else f"{verb} takes no provider."
            raise CommandError(text, returncode=WRONG_USAGE)
        if not to:
            return None
        try:
            key = filters.find_provider(self._actor, to, wanted.tenant)
        except BadFilter as error:
            raise CommandError(str(error), returncode=WRONG_USAGE) from error
        return Provider.objects.defer("config").get(pk=key)

    @property
    def _actor(self) -> str:
        return f"manage.py {self.name}"

    def _rows(self) -> QuerySet[Message]:
        rows = Message.objects.select_related("tenant", "account")
        return rows.filter(status__in=self.statuses) if self.statuses else rows

    # --- looking --------------------------------------------------------------------------------------------
    def _list(self, wanted: MessageFilter) -> None:
        if self.options["ids"] or self.options["limit"] < 1:
            raise CommandError("list takes --filter and a --limit above 0, and no ids.", returncode=WRONG_USAGE)
        newest = wanted.narrow(self._rows()).order_by("-pk")[: self.options["limit"]]
        rows = [shown.summary(message) for message in newest]
        self._print(rows, shown.table(rows))

    def _show(self, ids: Sequence[uuid.UUID]) -> None:
        if not ids:
            raise CommandError("show takes ids.", returncode=WRONG_USAGE)
        found = self._rows().in_bulk(ids)
        for id_ in ids:
            if id_ not in found:
                raise CommandError(f"There is no such message: {id_}", returncode=1)
        told = [shown.detail(found[id_]) for id_ in dict.fromkeys(ids)]
        self._print(told, [line for one in told for line in (*shown.lines(one), "")][:-1])

    # --- acting ---------------------------------------------------------------------------------------------
    def _act_on(self, verb: str, ids: Sequence[uuid.UUID], provider: Provider | None) -> None:
        if self.options["pace"] is not None or self.options["background"]:
            raise CommandError("--pace and --background go with --filter or --all.", returncode=WRONG_USAGE)
        known = Message.objects.filter(pk__in=ids).count()
        if not self._confirmed(verb, f"{known:,}"):
            return
        more = {"provider": provider} if verb == "reroute" else {}
        outcome = self.verbs[verb](ids, actor=self._actor, **more)
        refused = {str(id_): reason for id_, reason in outcome.refused.items()}
        told = {"changed": outcome.changed, "done": [str(id_) for id_ in outcome.done], "refused": refused}
        each = [f"{id_}  done" for id_ in outcome.done] + [f"{id_}  not: {why}" for id_, why in refused.items()]
        self._print(told, [*each, f"{outcome.changed:,} of {len(ids):,} done."])
        if refused:
            sys.exit(1)

    def _act_on_all(self, verb: str, wanted: MessageFilter, provider: Provider | None) -> None:
        counted = bulk.count(wanted, self._actor)
        if not self._confirmed(verb, str(counted)):
            return
        try:
            row = bulk.begin(
                verb, wanted, actor=self._actor, provider=provider, pace=self.options["pace"], counted=counted
            )
        except ValueError as error:
            raise CommandError(str(error), returncode=WRONG_USAGE) from error
        if not self.options["background"]:
            self._work_off(row)
        row.refresh_from_db()
        told = {
            "bulk_action": str(row.pk),
            "status": str(row.status),
            "found": str(counted),
            "changed": row.changed,
            "refused": row.refused,
            "reasons": row.reasons,
            "note": row.note,
        }
        self._print(told, _summary(row))
        if not self.options["background"] and (row.refused or row.status != BulkAction.Status.DONE):
            sys.exit(1)

    def _work_off(self, row: BulkAction) -> None:
        """Here and now, beside workers that do the same; until it has ended or somebody has paused it."""
        told_at = time.monotonic()
        try:
            while row.status == BulkAction.Status.RUNNING:
                if not bulk.step(row) and row.next_page_at is not None:
                    left = (row.next_page_at - timezone.now()).total_seconds()
                    time.sleep(min(1.0, max(0.05, left)))
                row.refresh_from_db()
                if time.monotonic() - told_at > TELL_EVERY:
                    self.stderr.write(f"{row.changed:,} done, {row.refused:,} not")
                    told_at = time.monotonic()
        except (KeyboardInterrupt, OperationalError, InterfaceError) as error:
            text = f"{type(error).__name__}: the workers go on with bulk action {row.pk}; the admin can stop it."
            raise CommandError(text, returncode=1) from error

    def _confirmed(self, verb: str, number: str) -> bool:
        """Whether to go on; a dry run says how many there are and does not."""
        if self.options["dry_run"]:
            self._print({"found": number}, [f"{number} found; nothing was done."])
            return False
        if self.options["yes"]:
            return True
        self.stderr.write(f"{number} found. {verb.capitalize()} them? [y/N] ", ending="")
        self.stderr.flush()
        if _answer() not in {"y", "yes"}:
            raise CommandError("Not confirmed; nothing was done.", returncode=1)
        return True

    def _print(self, told: Any, lines: Any) -> None:
        if self.options["json"]:
            self.stdout.write(json.dumps(told, indent=2, ensure_ascii=False))
        else:
            for line in lines:
                self.stdout.write(line)


def _answer() -> str:
    """What somebody types; "" where nobody can, or who was asked breaks off."""
    try:
        return sys.stdin.readline().strip().lower() if sys.stdin else ""
    except KeyboardInterrupt:
        return ""


def _summary(row: BulkAction) -> list[str]:
    reasons = [f"{number:,} not: {why}" for why, number in row.reasons.items()]
    end = f"Bulk action {row.pk} is {row.status}: {row.changed:,} done. {row.note}".rstrip()
    return [*reasons, end]
