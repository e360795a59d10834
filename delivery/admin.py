"""The admin of messages and what became of them; each page is a module of its own, registered by its import."""

from delivery import event_admin, log_admin, message_admin, recipient_admin, routing_admin, suppression_admin  # noqa: F401
