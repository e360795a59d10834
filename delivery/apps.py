from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class DeliveryConfig(AppConfig):
    name = "delivery"
    verbose_name = "Messages"

    def ready(self) -> None:
        """Imports wait for this moment, as Django asks: what they import uses models."""
        from accounts import changes, quotas  # noqa: PLC0415
        from delivery import archiving, bulk, caps, checking, chores, hours, queues, retention, telling, tenant_removal  # noqa: PLC0415
        from delivery.models import QueueSetting, Webhook  # noqa: PLC0415
        from delivery.outgoing import posting, relay  # noqa: PLC0415
        from delivery.quotas import count  # noqa: PLC0415

        quotas.count_with(count)

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
