"""`manage.py messages`: look at messages, and hold, release, retry, cancel or re-route them."""

from __future__ import annotations

from delivery import control
from delivery.management.operate import OperateCommand


class Command(OperateCommand):
    help = "List and show messages; hold, release, retry, cancel and reroute them, by id or all that a filter finds."
    name = "messages"
    verbs = {
        "hold": control.hold,
        "release": control.release,
        "retry": control.retry,
        "cancel": control.cancel,
        "reroute": control.reroute,
    }
