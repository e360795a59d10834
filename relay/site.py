"""What all connections of one listener process have in common."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from delivery.refusals import Recorder
from relay.config import Config
from relay.handler import Handler
from relay.limits import AuthFailures
from relay.threads import Threads


@dataclass(slots=True)
class Site:
    """`config` and `tls` are replaced at reload; whoever needs them reads them anew each time."""

    config: Config
    tls: ssl.SSLContext | None
    handler: Handler
    threads: Threads
    auth_failures: AuthFailures
    refusals: Recorder
