"""Our transports in place of Celery's own, in this process; each is imported when a connection needs it."""

from kombu.transport import TRANSPORT_ALIASES

_REDIS = "smtpproxy.brokers.redis_transport:Transport"
_RABBITMQ = "smtpproxy.brokers.rabbitmq_transport:Transport"
_RABBITMQ_TLS = "smtpproxy.brokers.rabbitmq_transport:SSLTransport"
_SQS = "smtpproxy.brokers.sqs_transport:Transport"


def register() -> None:
    """Let every broker URL mean our transport."""
    TRANSPORT_ALIASES.update(redis=_REDIS, rediss=_REDIS, amqp=_RABBITMQ, amqps=_RABBITMQ_TLS, sqs=_SQS)
