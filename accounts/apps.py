from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Tenants and accounts"

    def ready(self) -> None:
        """Imports wait for this moment, as Django asks: what they import uses models."""
        from accounts import changes, session_middleware  # noqa: PLC0415
        from accounts.models import Account, ApiKey, Tenant  # noqa: PLC0415

        changes.watch(Tenant, lambda tenant: tenant.pk)
        changes.watch(Account, lambda account: account.tenant_id)
        changes.watch(ApiKey, lambda key: key.account.tenant_id)
        session_middleware.connect()
