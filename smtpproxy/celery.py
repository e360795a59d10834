"""The Celery application. Tasks carry ids only; what is due is in the database (ACC-8, DEL-1)."""

import os
from typing import Any

from celery import Celery
from celery.signals import celeryd_init, setup_logging, worker_process_init
from django.conf import settings

from accounts import hearing
from smtpproxy import lifeline
from smtpproxy.brokers import aliases

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "smtpproxy.settings")

aliases.register()
app = Celery("smtpproxy")
app.config_from_object("django.conf:settings", namespace="CELERY")
# Celery would close the database connection before and after every task, a fifth of what a worker can deliver.
app.conf.CELERY_DB_REUSE_MAX = 10**9
app.autodiscover_tasks()


@setup_logging.connect
def keep_our_logging(**_: Any) -> None:
    """Being connected is enough: Celery then leaves the handlers that Django set up alone."""


@celeryd_init.connect
def look_at_our_queues(**_: Any) -> None:
    """Those of WORKER_QUEUES, unless the command line names others (`-Q`)."""
    app.amqp.queues.select(settings.WORKER_QUEUES)


@worker_process_init.connect
def end_with_the_worker(**_: Any) -> None:
    """A process of the pool goes at once with a worker that was killed; what it was sending is claimed again."""
    lifeline.tie_to(os.getppid())


@worker_process_init.connect
def hear_of_changes(**_: Any) -> None:
    """Each process of the pool remembers things of its own (AMQP-4)."""
    hearing.listen()
