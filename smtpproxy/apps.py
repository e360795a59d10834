"""Hooks the project into Django and Celery once every model is loaded."""

from typing import Any

from celery.signals import beat_init, worker_init, worker_ready
from django.apps import AppConfig


class SmtpproxyConfig(AppConfig):
    name = "smtpproxy"
    verbose_name = "smtpproxy"

    def ready(self) -> None:
        """Imports wait for this moment, as Django asks: what they import uses models."""
        from smtpproxy import checks, lone, probes  # noqa: F401, PLC0415 -- importing `checks` registers them

        def look_for_broker(**_: Any) -> None:
            lone.look_for_broker()

        def answer_probes(**_: Any) -> None:
            probes.serve_worker()

        worker_init.connect(look_for_broker, weak=False, dispatch_uid="broker")
        beat_init.connect(look_for_broker, weak=False, dispatch_uid="broker")
        worker_ready.connect(answer_probes, weak=False, dispatch_uid="probes")
