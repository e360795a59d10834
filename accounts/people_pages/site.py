"""What these pages add to the admin as a whole: their addresses, the sign-in of its own, the user menu."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache

from accounts.look_as import person_of
from accounts.people_pages import enrolment, forgotten, look_as, own_account, sign_in

if TYPE_CHECKING:  # unfold has no types; its site is Django's with a theme
    from django.contrib.admin import AdminSite as UnfoldAdminSite
else:
    from unfold.sites import UnfoldAdminSite


class SignInSite(UnfoldAdminSite):
    """An admin with a sign-in in two steps, pages for one's own account, and looking as a tenant."""

    def get_urls(self) -> list[Any]:
        return [*self._pages(), *super().get_urls()]

    def _pages(self) -> list[URLPattern]:
        def inside(view: Callable[..., Any]) -> Callable[..., Any]:
            return self.admin_view(view)

        return [
            path("login/code/", sign_in.CodeView.as_view(), name="sign_in_code"),
            path("password/forgotten/", forgotten.ask, name="password_reset"),
            path("password/set/", forgotten.set_password, name="set_password"),
            path("account/", inside(own_account.account), name="account"),
            path("account/second-factor/", inside(enrolment.page), name="second_factor"),
            path("account/sessions/<uuid:session_id>/revoke/", inside(own_account.revoke), name="session_revoke"),
            path("accounts/user/<uuid:user_id>/sessions/", inside(own_account.sessions_of), name="user_sessions"),
            path("look-as/", inside(look_as.page), name="look_as"),
        ]

    @method_decorator(never_cache)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if request.method == "GET" and self.has_permission(request):
            return HttpResponseRedirect(reverse("admin:index", current_app=self.name))
        context = {
            **self.each_context(request),
            "title": "Sign in",
            "subtitle": None,
            "app_path": request.get_full_path(),
            REDIRECT_FIELD_NAME: request.GET.get(REDIRECT_FIELD_NAME, reverse("admin:index", current_app=self.name)),
            **(extra_context or {}),
        }
        return sign_in.PasswordView.as_view(extra_context=context)(request)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:  # noqa: ARG002
        return own_account.password(request)


def menu(request: HttpRequest) -> list[dict[str, Any]]:
    """The links of the user menu."""
    if not request.user.is_authenticated:
        return []
    links = [
        {"title": "Your account", "link": reverse("admin:account")},
        {"title": "Change password", "link": reverse("admin:password_change")},
    ]
    if person_of(request).is_superuser:
        links.append({"title": "Look as a tenant", "link": reverse("admin:look_as")})
    return links
