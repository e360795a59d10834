"""One row of every table behind the second wall, all of one tenant."""

from django.contrib.auth.models import Group, Permission
from django.utils import timezone

from accounts.models import SecondFactor, User, UserSession
from delivery.models import (
    ArchiveRecipient,
    ArchiveReference,
    ArchiveText,
    EarlyEvent,
    OutboxEntry,
    QueueSetting,
    Receipt,
    Total,
    WebhookAttempt,
)
from delivery.tests.test_admin_permissions import rows_of


def rows_of_all(tenant):
    now = timezone.now()
    rows = rows_of(tenant)
    user, account, provider = (rows[name] for name in ("accounts.user", "accounts.account", "providers.provider"))
    delivery, copy, event = (
        rows[name] for name in ("delivery.webhookdelivery", "delivery.archivecopy", "delivery.event")
    )
    user.groups.add(Group.objects.get_or_create(name="unused")[0])
    user.user_permissions.add(Permission.objects.first())
    del rows["delivery.deadletter"]  # a message too
    return [
        *rows.values(),
        User.groups.through.objects.get(user=user),
        User.user_permissions.through.objects.get(user=user),
        UserSession.objects.create(user=user, kind="api", last_used_at=now, expires_at=now),
        SecondFactor.objects.create(user=user, secret={"key": "x"}),
        rows["providers.routingrule"].targets.get(),
        ArchiveRecipient.objects.create(copy=copy, address="a@b.example"),
        ArchiveReference.objects.create(tenant=tenant, message_id=f"<{tenant.pk}@b.example>", thread=copy.pk),
        ArchiveText.objects.create(copy=copy, tenant=tenant, words=""),
        EarlyEvent.objects.create(provider=provider, provider_event_id=str(tenant.pk), told={}, received_at=now),
        OutboxEntry.objects.create(tenant=tenant, channel="broker", event=event),
        Receipt.objects.create(account=account, source="http", key="k", fingerprint="f", created_at=now),
        Total.objects.create(hour=now, tenant=tenant, account=account, what="accepted", count=1),
        WebhookAttempt.objects.create(delivery=delivery, created_at=now),
    ]


PLATFORM = {QueueSetting}
"""Models all rows of which are the platform's."""
