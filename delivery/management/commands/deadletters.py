"""`manage.py deadletters`: look at what was given up, and try it again."""

from __future__ import annotations

from delivery import control
from delivery.management.operate import OperateCommand
from delivery.models import DEAD_LETTERS


class Command(OperateCommand):
    help = "List and show dead letters; reprocess them, by id or all that a filter finds."
    name = "deadletters"
    verbs = {"reprocess": control.reprocess}
    statuses = tuple(str(status) for status in DEAD_LETTERS)
