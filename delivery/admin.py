"""The admin of messages and what became of them; each page is a module of its own, registered by its import."""

from delivery import (  # noqa: F401
    account_admin,
    archive_admin,
    bulk_admin,
    event_admin,
    log_admin,
    message_admin,
    notice_admin,
    outgoing_admin,
    outgoing_delivery_admin,
    provider_admin,
    queue_admin,
    recipient_admin,
    refused_admin,
    routing_admin,
    suppression_admin,
)
