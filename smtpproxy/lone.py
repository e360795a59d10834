"""A hint for those who start one process by itself and forget the broker."""

import redis
import structlog
from django.conf import settings

log = structlog.get_logger(__name__)

_PATIENCE = 2  # seconds, for a server on this machine


def look_for_broker() -> None:
    """Log an error that says what to do when the embedded broker is meant to be used and does not answer."""
    if settings.QUEUE_TYPE != "embedded" or _answers():
        return
    log.error(
        "no embedded broker answers",
        socket=str(settings.EMBEDDED_SOCKET),
        hint="QUEUE_TYPE=embedded is the broker that `manage.py serve` runs: start that, "
        "or set QUEUE_TYPE (and REDIS_URL) for processes that run by themselves",
    )


def _answers() -> bool:
    url = settings.SHARED_STATE_URL
    with redis.Redis.from_url(url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
