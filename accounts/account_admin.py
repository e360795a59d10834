"""The admin of accounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from accounts import credentials, quota_admin, snippets
from accounts.account_pages import AccountPages
from accounts.confirmation import asks
from accounts.forms import AccountForm
from accounts.models import Account
from accounts.row_pages import StatusMixin
from accounts.tenancy import Area

NO_DOMAINS = "This account may send nothing yet: enter the domains it may send from."
ENDS_AT_ONCE = (
    "The present password of this account ends at once: programs that use it are refused until they have the new one, "
    "which is shown once, on the next page."
)
TOLD = "Who is told; what cannot be told that way is told to the tenant's admins by e-mail."


@admin.register(Account)
class AccountAdmin(StatusMixin, AccountPages, quota_admin.UsageMixin):
    area = Area.ACCOUNTS
    form = AccountForm
    list_display = ("name", "username", "status", "senders", "this_month", "last_used_at")
    list_filter = ("status", "network_authenticated")
    search_fields = ("name", "username")
    empty_text = (
        "An account is what an application or a printer signs in with: a user name, a password, and the domains it may "
        "send from. Add one for each program, so that you can tell them apart."
    )
    actions = ("issue_new_password", "suspend", "activate")
    fieldsets = (
        (None, {"fields": ("tenant", "name", "username", "status")}),
        ("What it may send", {"fields": ("allowed_senders", "may_send_bounces", "transactional")}),
        ("Where from", {"fields": ("client_networks", "network_authenticated")}),
        ("When mail is not delivered", {"description": TOLD, "fields": ("failure_notice",)}),
        ("How much", {"fields": (*quota_admin.FIELDS, "usage")}),
        (None, {"fields": ("last_used_at", "created_at", "updated_at")}),
    )

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ("accounts/config.css",)}
        js = ("accounts/copy.js",)

    @admin.display(description="allowed sender domains")
    def senders(self, account: Account) -> str:
        return ", ".join(account.allowed_senders[:3]) + (" …" if len(account.allowed_senders) > 3 else "")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fixed: tuple[str, ...] = ("usage", "last_used_at", "created_at", "updated_at")
        if request.user.is_superuser:
            return fixed
        # Networks that stand for a password are a claim on addresses all tenants share: the operator's to grant.
        claimed = ("client_networks",) if obj is not None and obj.network_authenticated else ()
        # Who goes ahead of others is the operator's to say as well.
        return (*fixed, "network_authenticated", "transactional", *claimed)

    def get_buttons(self, request: HttpRequest, obj: Account) -> Sequence[str]:
        return ("issue_new_password", "suspend" if obj.status == Account.Status.ACTIVE else "activate")

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            request.issued_password = credentials.issue_password(obj)  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: Account, post_url_continue: str | None = None) -> HttpResponse:
        password: str = request.issued_password  # type: ignore[attr-defined]
        return self.password_issued(request, obj, "Password", password)

    def password_issued(self, request: HttpRequest, account: Account, what: str, password: str) -> HttpResponse:
        example = snippets.swaks(account, password)
        return self.issued(request, account, what, password, example=example, note="" if example else NO_DOMAINS)

    @admin.action(description="Issue a new password", permissions=["change"])
    @asks(lambda rows: ENDS_AT_ONCE if rows.count() == 1 else "", "Issue a new password")
    def issue_new_password(self, request: HttpRequest, queryset: QuerySet[Account]) -> HttpResponse | None:
        if len(queryset) != 1:
            self.message_user(request, "Choose one account: each password is shown once.", messages.ERROR)
            return None
        account = queryset[0]
        with transaction.atomic():
            password = credentials.issue_password(account)
            self.audit(request, "password_issued", account)
        return self.password_issued(request, account, "New password", password)
