"""Every model of this floor; each file holds those that are changed together."""

from delivery.models.archive import ArchiveCopy, ArchiveRecipient, ArchiveReference, ArchiveText, Total
from delivery.models.event import EarlyEvent, Event, EventType
from delivery.models.message import (
    DEAD_LETTERS,
    DUE_STATUSES,
    ENDED_STATUSES,
    PENDING_STATUSES,
    DeadLetter,
    DeliveryLog,
    Message,
    MessageStatus,
    Recipient,
    RecipientStatus,
)
from delivery.models.operation import BulkAction, Notice, QueueSetting, Receipt
from delivery.models.refusal import RefusedSession
from delivery.models.suppression import Suppression, check_address
from delivery.models.webhook import OutboxEntry, Webhook, WebhookAttempt, WebhookDelivery

__all__ = [
    "DEAD_LETTERS",
    "DUE_STATUSES",
    "ENDED_STATUSES",
    "PENDING_STATUSES",
    "ArchiveCopy",
    "ArchiveRecipient",
    "ArchiveReference",
    "ArchiveText",
    "BulkAction",
    "DeadLetter",
    "DeliveryLog",
    "EarlyEvent",
    "Event",
    "EventType",
    "Message",
    "MessageStatus",
    "Notice",
    "OutboxEntry",
    "QueueSetting",
    "Receipt",
    "Recipient",
    "RecipientStatus",
    "RefusedSession",
    "Suppression",
    "Total",
    "Webhook",
    "WebhookAttempt",
    "WebhookDelivery",
    "check_address",
]
