from django.apps import AppConfig


class ProvidersConfig(AppConfig):
    name = "providers"
    verbose_name = "Providers and routing"

    def ready(self) -> None:
        """Imports wait for this moment, as Django asks: what they import uses models."""
        from accounts import changes  # noqa: PLC0415
        from providers import connections  # noqa: PLC0415
        from providers.models import Provider, RoutingRule, RoutingTarget  # noqa: PLC0415

        changes.watch(Provider, lambda provider: provider.tenant_id)
        changes.watch(RoutingRule, lambda rule: rule.tenant_id)
        changes.watch(RoutingTarget, lambda target: target.rule.tenant_id)
        changes.on("provider", connections.heard)
