"""Further pages of an account: how to connect with it, and its API keys (ADM-2, SEC-3)."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from accounts import audit, credentials, quotas, snippets
from accounts.admin_page import themed
from accounts.forms import ApiKeyForm
from accounts.models import Account, ApiKey
from accounts.quota_admin import told
from accounts.quotas import Usage
from accounts.row_pages import IssuedOnceMixin
from accounts.tenant_admin import client_ip, signed_in

OVERLAPS = (
    ("0", "ends at once"),
    ("1", "works 1 more hour"),
    ("24", "works 24 more hours"),
    ("168", "works 7 more days"),
)
"""Hours for which an old key goes on working beside its successor."""


class NewKeyForm(ApiKeyForm):
    """A key for the account whose page it is on."""

    class Meta:
        model = ApiKey
        fields = ("name", "scopes", "expires_at")
        widgets = {"expires_at": forms.DateTimeInput(attrs={"type": "datetime-local"})}
        help_texts = {"expires_at": "In UTC; empty: never.", "name": "What will use it."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        themed(self)


class AccountPages(IssuedOnceMixin):
    """Mixed into the admin of accounts."""

    def get_urls(self) -> list[URLPattern]:
        views = {"connect": self.connect_view, "keys": self.keys_view}
        return [
            path(f"<path:object_id>/{name}/", self.admin_site.admin_view(view), name=f"accounts_account_{name}")
            for name, view in views.items()
        ] + super().get_urls()

    def get_links(self, request: HttpRequest, obj: Any) -> list[tuple[str, str]]:
        pages = (("connect", "Connect"), ("keys", "API keys"))
        return [
            *((reverse(f"admin:accounts_account_{name}", args=[quote(obj.pk)]), label) for name, label in pages),
            *super().get_links(request, obj),
        ]

    def page(self, request: HttpRequest, account: Account, name: str, context: dict[str, Any]) -> HttpResponse:
        """One of these pages, with tabs to the others."""
        change = reverse("admin:accounts_account_change", args=[quote(account.pk)])
        here = request.path
        links = [(change, "Settings"), *self.get_links(request, account)]
        whole = {
            **self.admin_site.each_context(request),
            "title": str(account.name),
            "lead": account.username,
            "opts": self.opts,
            "account": account,
            "page_tabs": [(url, label, url == here) for url, label in links],
            "may_change": self.has_change_permission(request, account),
            "media": self.media,
            **context,
        }
        return TemplateResponse(request, f"admin/accounts/account/{name}.html", whole)

    def _account(self, request: HttpRequest, object_id: str, *methods: str) -> Account:
        if request.method not in {"GET", "HEAD", *methods}:
            raise Http404
        account: Account = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, account):
            raise PermissionDenied
        return account

    # --- connect ----------------------------------------------------------------------------------------------------
    def connect_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Host, port and ready snippets; quotas and what is used of them."""
        account = self._account(request, object_id)
        return self.page(request, account, "connect", self.connect_context(request, account))

    def connect_context(self, request: HttpRequest, account: Account) -> dict[str, Any]:  # noqa: ARG002
        base = "admin:accounts_account_do"
        return {
            "door": snippets.door(),
            "snippets": snippets.all_for(account),
            "usages": [Bar.of(usage) for usage in reversed(quotas.usages(account))],
            "password_url": reverse(base, args=[quote(account.pk), "issue_new_password"]),
        }

    # --- API keys ---------------------------------------------------------------------------------------------------
    def keys_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The keys of the account; `what` makes, rotates or revokes one."""
        if request.method not in {"GET", "HEAD", "POST"}:
            return HttpResponseNotAllowed(["GET", "POST"])
        account = self._account(request, object_id, "POST")
        what = request.POST.get("what")
        if request.method == "POST" and not self.has_change_permission(request, account):
            raise PermissionDenied
        form = NewKeyForm(
            request.POST if what == "new" else None,
            instance=ApiKey(account=account),
            initial={"scopes": [ApiKey.Scope.SEND]},
        )
        if what == "new" and form.is_valid():
            return self._new_key(request, account, form)
        if what == "rotate":
            return self._rotate(request, account)
        if what == "revoke":
            return self._revoke(request, account)
        now = timezone.now()
        keys = list(account.api_keys.all()[:200])
        return self.page(
            request,
            account,
            "keys",
            {"form": form, "keys": [(key, _state(key, now)) for key in keys], "overlaps": OVERLAPS},
        )

    def _new_key(self, request: HttpRequest, account: Account, form: NewKeyForm) -> HttpResponse:
        told = form.cleaned_data
        with transaction.atomic():
            key, text = credentials.issue_api_key(
                account, told["scopes"], name=told["name"], expires_at=told["expires_at"]
            )
            self._audit_key(request, "created", key, {"scopes": [None, key.scopes]})
        return self._key_issued(request, account, "API key", text)

    def _key(self, request: HttpRequest, account: Account) -> ApiKey:
        try:
            found = account.api_keys.filter(pk=uuid.UUID(request.POST.get("key", "")), revoked_at=None).first()
        except ValueError:
            raise Http404 from None
        if found is None:
            raise Http404
        return found

    def _rotate(self, request: HttpRequest, account: Account) -> HttpResponse:
        old = self._key(request, account)
        hours = request.POST.get("overlap", "")
        if hours not in dict(OVERLAPS):
            raise Http404
        with transaction.atomic():
            try:
                key, text = credentials.rotate_api_key(old, overlap=timedelta(hours=int(hours)))
            except ValidationError as error:
                self.message_user(request, " ".join(error.messages), messages.ERROR)
                return HttpResponseRedirect(request.path)
            self._audit_key(request, "rotated", old, {"successor": key.prefix})
        note = f"The old key {old.prefix}… {dict(OVERLAPS)[hours]}."
        return self._key_issued(request, account, "New API key", text, note)

    def _revoke(self, request: HttpRequest, account: Account) -> HttpResponse:
        key = self._key(request, account)
        if request.POST.get("confirmed") != "yes":
            return self.page(request, account, "revoke", {"key": key})
        with transaction.atomic():
            credentials.revoke_api_key(key)
            self._audit_key(request, "revoked", key)
        self.message_user(request, f"{key} is revoked: requests with it are refused from now on.")
        return HttpResponseRedirect(request.path)

    def _audit_key(self, request: HttpRequest, verb: str, key: ApiKey, changes: dict[str, Any] | None = None) -> None:
        audit.record(signed_in(request), f"apikey.{verb}", key, changes, client_ip(request))

    def _key_issued(self, request: HttpRequest, account: Account, what: str, text: str, note: str = "") -> HttpResponse:
        answer = self.issued(request, account, what, text, note=note)
        answer.context_data["change_url"] = request.path  # type: ignore[attr-defined]
        return answer


class Bar:
    """What is used of a quota, as a bar."""

    def __init__(self, text: str, percent: int | None) -> None:
        self.text, self.percent = text, percent

    @classmethod
    def of(cls, usage: Usage) -> Bar:
        return cls(told(usage), usage.percent)

    @property
    def width(self) -> int:
        return min(self.percent or 0, 100)

    @property
    def tone(self) -> str:
        return "bar-bad" if self.width >= 100 else "bar-warning" if self.width >= 80 else ""


def _state(key: ApiKey, now: Any) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"
