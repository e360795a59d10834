"""What is done about the signing in of others: sign them out, reset a second factor, unlock (SEC-4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse

from accounts import lockout, password_links, second_factor, sessions, shared_state
from accounts.models import User
from accounts.tenancy import may_edit_user
from accounts.tenant_admin import TenantModelAdmin


def has_password(user: User) -> bool:
    """Whether they have chosen one; asked of the database, since lists leave hashes out."""
    return User.objects.only("password").get(pk=user.pk).has_usable_password()


class SignInActions(TenantModelAdmin):
    """Buttons and facts of a person's page. Nobody acts on somebody they may not edit."""

    actions = ("send_invitation", "end_sessions", "reset_second_factor", "unlock")

    def get_buttons(self, request: HttpRequest, obj: User) -> Sequence[str]:
        if not may_edit_user(request.user, obj):
            return ()
        invited = obj.is_active and not has_password(obj)
        found = ["send_invitation"] if invited else []
        if sessions.active(obj).exists():
            found.append("end_sessions")
        if second_factor.of(obj) is not None:
            found.append("reset_second_factor")
        if request.user.is_superuser and lockout.locks(obj.email):
            found.append("unlock")
        return found

    def get_links(self, request: HttpRequest, obj: User) -> list[tuple[str, str]]:
        if not may_edit_user(request.user, obj):
            return []
        return [(reverse("admin:user_sessions", args=[obj.pk]), "Sessions")]

    def has_unlock_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def _each(self, request: HttpRequest, rows: QuerySet[User], verb: str, act: Callable[[User], object]) -> int:
        """Do it to those this person may edit, and audit what was done."""
        done = 0
        with transaction.atomic():
            for user in rows:
                if may_edit_user(request.user, user) and act(user):
                    self.audit(request, verb, user)
                    done += 1
        return done

    @admin.action(description="Send invitation again", permissions=["change"])
    def send_invitation(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """To those who have not chosen a password yet; others are left alone."""
        origin = password_links.origin_of(request)
        unreachable: list[str] = []

        def act(user: User) -> bool:
            if has_password(user) or not user.is_active:
                return False
            sent = password_links.invite(user, origin)
            if not sent:
                unreachable.append(user.email)
            return sent

        count = self._each(request, queryset, "invited", act)
        for email in unreachable[:20]:
            self.message_user(
                request, f"No invitation was sent. {password_links.BY_HAND.format(email)}", messages.WARNING
            )
        if count or not unreachable:
            self.message_user(request, f"{count} invited.")

    @admin.action(description="Sign out everywhere", permissions=["change"])
    def end_sessions(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        count = self._each(request, queryset, "sessions_ended", sessions.end_all)
        self.message_user(request, f"{count} signed out.")

    @admin.action(description="Reset second factor", permissions=["change"])
    def reset_second_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        count = self._each(request, queryset, "second_factor_reset", second_factor.remove)
        self.message_user(request, f"{count} sign in with their password alone, until they set up a new one.")

    @admin.action(description="Unlock sign-in", permissions=["unlock"])
    def unlock(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        def act(user: User) -> bool:
            lockout.unlock(user.email)
            return True

        try:
            count = self._each(request, queryset, "unlocked", act)
        except shared_state.Unavailable:
            self.message_user(request, "The server that counts failures does not answer; try again.", messages.ERROR)
            return
        self.message_user(request, f"{count} may try again at once.")

    @admin.display(description="second factor")
    def second_step(self, user: User) -> str:
        return "set up" if second_factor.of(user) is not None else "none"

    @admin.display(description="locked out")
    def locked_out(self, user: Any) -> str:
        locks = lockout.locks(user.email) if user.pk else []
        return ", ".join(f"{lock.address} for {lock.wait} s" for lock in locks) or "no"
