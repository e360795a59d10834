from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Tenants and accounts"

    def ready(self) -> None:
        """Imports wait for this moment, as Django asks: what they import uses models."""
        from accounts import changes, session_middleware, wall, wall_policies  # noqa: PLC0415
        from accounts.models import Account, ApiKey, Tenant  # noqa: PLC0415

        wall.connect()
        post_migrate.connect(wall_policies.after_migrate, sender=self, dispatch_uid="tenant wall")
        changes.watch(Tenant, lambda tenant: tenant.pk)
        changes.watch(Account, lambda account: account.tenant_id)
        changes.watch(ApiKey, lambda key: key.account.tenant_id)
        session_middleware.connect()
