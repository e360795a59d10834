from django.apps import AppConfig


class DeliveryConfig(AppConfig):
    name = "delivery"
    verbose_name = "Messages"

    def ready(self) -> None:
        """Imports wait for this moment, as Django asks: what they import uses models."""
        from accounts import quotas  # noqa: PLC0415
        from delivery.quotas import count  # noqa: PLC0415

        quotas.count_with(count)
