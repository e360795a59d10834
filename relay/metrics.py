"""What the doors count (OBS-2). Reasons are the codes of replies, of which there are few."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

ENQUEUED = Counter("smtp_message_enqueued", "Messages answered with 250.")
REFUSED = Counter("smtp_messages_refused", "Messages not taken, by the code of the reason.", ["reason"])
INGESTED = Counter("ingest_messages", "Messages RabbitMQ has brought, by what became of them.", ["outcome"])
INGEST_DEPTH = Gauge(
    "ingest_queue_depth", "Messages that wait in a queue this door reads.", ["queue"], multiprocess_mode="max"
)


def refused(reason: str) -> None:
    """One message was answered with 4xx or 5xx."""
    REFUSED.labels(reason).inc()
