"""Hooks the project into Django and Celery once every model is loaded."""

from typing import Any

from celery.signals import beat_init, worker_init, worker_ready, worker_shutdown
from django.apps import AppConfig


class SmtpproxyConfig(AppConfig):
    name = "smtpproxy"
    verbose_name = "smtpproxy"

    def ready(self) -> None:
        """Imports wait for this moment, as Django asks: what they import uses models."""
        from accounts import hearing  # noqa: PLC0415
        from delivery import lanes, worker_notes  # noqa: PLC0415
        from smtpproxy import checks, lone, probes  # noqa: F401, PLC0415 -- importing `checks` registers them
        from smtpproxy.brokers import looks  # noqa: PLC0415

        def look_for_broker(**_: Any) -> None:
            lone.look_for_broker()

        def keep_a_process_free(sender: Any, **_: Any) -> None:
            """Slow mail must not keep all processes of this worker busy; they are forked after this."""
            lanes.open_for(sender.concurrency, list(sender.app.amqp.queues.consume_from))

        def look_at_queues(**_: Any) -> None:
            looks.before_work()

        def answer_probes(sender: Any = None, **_: Any) -> None:
            probes.serve_worker()
            if "prefork" not in type(getattr(sender, "pool", None)).__module__:
                hearing.listen()  # tasks run in this very process

        def note_queues(sender: Any, **_: Any) -> None:
            note = worker_notes.Note(list(sender.app.amqp.queues.consume_from))
            note.keep()
            worker_shutdown.connect(lambda **_: note.withdraw(), weak=False, dispatch_uid="note")

        def hear_of_changes(**_: Any) -> None:
            hearing.listen()

        worker_init.connect(look_for_broker, weak=False, dispatch_uid="broker")
        worker_init.connect(look_at_queues, weak=False, dispatch_uid="queues")
        worker_init.connect(keep_a_process_free, weak=False, dispatch_uid="lanes")
        beat_init.connect(look_for_broker, weak=False, dispatch_uid="broker")
        beat_init.connect(hear_of_changes, weak=False, dispatch_uid="changes")
        worker_ready.connect(answer_probes, weak=False, dispatch_uid="probes")
        worker_ready.connect(note_queues, weak=False, dispatch_uid="note")
