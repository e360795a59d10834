"""Whether RabbitMQ has our queues as we declare them (QUE-4)."""

from __future__ import annotations

from collections.abc import Iterator

from amqp.exceptions import ChannelError
from celery import current_app
from django.conf import settings


def look() -> None:
    """Raises what the library raises when the broker does not answer, or refuses us."""
    with current_app.connection_for_write() as connection:
        connection.connect()


def faults() -> Iterator[str]:
    """Queues that exist and are of another kind, a sentence each; those that are missing are made.

    Raises what the library raises when the broker does not answer.
    """
    for queue in settings.CELERY_TASK_QUEUES:
        with current_app.connection_for_write() as connection:
            try:
                queue.bind(connection.default_channel).declare()
            except ChannelError as error:
                yield (
                    f"The queue {queue.name} cannot be used: {error.reply_text}. If it is of another kind, delete it "
                    "while no worker runs: what is due is in the database."
                )
