"""Hooks the project into Django and Celery once every model is loaded."""

from typing import Any

from celery.signals import worker_ready
from django.apps import AppConfig


class SmtpproxyConfig(AppConfig):
    name = "smtpproxy"
    verbose_name = "smtpproxy"

    def ready(self) -> None:
        """Imports wait for this moment, as Django asks: what they import uses models."""
        from smtpproxy import checks, probes  # noqa: F401, PLC0415 -- importing `checks` registers them

        def answer_probes(**_: Any) -> None:
            probes.serve_worker()

        worker_ready.connect(answer_probes, weak=False, dispatch_uid="probes")
