from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class DeliveryConfig(AppConfig):
    name = "delivery"
    verbose_name = "Messages"

    def ready(self) -> None:
        """Imports wait for this moment, as Django asks: what they import uses models."""
        from accounts import changes, password_links, quotas  # noqa: PLC0415
        from delivery import (  # noqa: PLC0415
            archiving,
            bulk,
            caps,
            checking,
            chores,
            hours,
            old_sessions,
            password_mail,
            queues,
            retention,
            telling,
            tenant_removal,
        )
        from delivery.models import QueueSetting, Webhook  # noqa: PLC0415
        from delivery.outgoing import posting, relay  # noqa: PLC0415
        from delivery.quotas import count  # noqa: PLC0415

        quotas.count_with(count)
        password_links.send_with(password_mail.ring, password_mail.can_send)

        def make_queue_settings(using: str, **_: Any) -> None:
            """A row for each queue there is something to set for."""
            rows = [QueueSetting(name=name) for name, queue in queues.TABLE.items() if queue.kind != "scans"]
            QueueSetting.objects.using(using).bulk_create(rows, ignore_conflicts=True)

        post_migrate.connect(make_queue_settings, sender=self, weak=False, dispatch_uid="queue settings")
        changes.watch(Webhook, lambda webhook: webhook.tenant_id)
        changes.watch(QueueSetting, lambda _: None)
        changes.on("queue_setting", lambda _: caps.forget())
        chores.register(bulk.CHORE)
        chores.register(hours.CHORE)
        chores.register(relay.PUBLISH)
        chores.register(relay.FAN_OUT)
        chores.register(retention.CHORE)
        chores.register(tenant_removal.CHORE)
        chores.register(archiving.CHORE)
        chores.register(checking.CHORE)
        chores.register(telling.CHORE)
        chores.register(posting.CHORE)
        chores.register(old_sessions.CHORE)
