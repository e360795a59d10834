"""Signing in to the admin: a page for the password, and one for the code where there is a second factor (SEC-4)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, auth
from django.contrib.auth.views import LoginView, RedirectURLMixin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import FormView

from accounts import second_factor, sign_in
from accounts.models import User, UserSession
from accounts.sign_in import Refused
from accounts.tenant_admin import client_ip

if TYPE_CHECKING:
    from django.contrib.admin.forms import AdminAuthenticationForm as AuthenticationForm
    from django.contrib.admin.widgets import AdminTextInputWidget as UnfoldAdminTextInputWidget
else:
    from unfold.forms import AuthenticationForm
    from unfold.widgets import UnfoldAdminTextInputWidget

PENDING = "sign_in_pending"
PENDING_FOR = 300
"""Seconds between password and code."""


class PasswordForm(AuthenticationForm):
    """Address and password; what is wrong with them is not told."""

    def clean(self) -> dict[str, Any]:
        email, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if email and password:
            ip = client_ip(self.request) if self.request is not None else None
            try:
                self.user_cache = sign_in.check_password(email, password, ip)
            except Refused:
                raise ValidationError(sign_in.TOLD, code="refused") from None
        return self.cleaned_data


class PasswordView(LoginView):
    """The first step. Whoever has a second factor is not signed in yet afterwards."""

    form_class = PasswordForm
    template_name = "admin/login.html"
    next_page = "admin:index"

    def form_valid(self, form: Any) -> HttpResponse:
        user = form.get_user()
        if second_factor.of(user) is None:
            return enter(self.request, user, self.get_success_url())
        self.request.session.cycle_key()
        self.request.session[PENDING] = {
            "user": str(user.pk),
            "stamp": user.get_session_auth_hash(),
            "until": time.time() + PENDING_FOR,
            "next": self.get_redirect_url(),
        }
        return HttpResponseRedirect(reverse("admin:sign_in_code"))


def enter(request: HttpRequest, user: User, next_page: str) -> HttpResponse:
    """Sign the browser in for good."""
    auth.login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    sign_in.welcome(user, UserSession.Kind.ADMIN, client_ip(request))
    return HttpResponseRedirect(next_page)


class CodeForm(forms.Form):
    code = forms.CharField(
        max_length=64,
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false"}
        ),
        help_text="Six digits of your authenticator app, or one of your recovery codes.",
    )


@method_decorator([sensitive_post_parameters(), csrf_protect, never_cache], name="dispatch")
class CodeView(RedirectURLMixin, FormView):
    """The second step, for five minutes after the first."""

    form_class = CodeForm
    template_name = "admin/sign_in/code.html"
    next_page = "admin:index"
    person: User

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        person = _pending(request)
        if person is None:
            return HttpResponseRedirect(reverse("admin:login"))
        self.person = person
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form: CodeForm) -> HttpResponse:
        try:
            sign_in.check_code(self.person, form.cleaned_data["code"], client_ip(self.request))
        except Refused:
            form.add_error(None, sign_in.TOLD)
            return self.form_invalid(form)
        pending = self.request.session.pop(PENDING)
        return enter(self.request, self.person, pending["next"] or self.get_default_redirect_url())

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = {**admin.site.each_context(self.request), "title": "Second step"}
        return super().get_context_data(**context, **kwargs)


def _pending(request: HttpRequest) -> User | None:
    """Who has given the right password a moment ago, in this browser."""
    pending = request.session.get(PENDING)
    if not pending or time.time() > pending["until"]:
        request.session.pop(PENDING, None)
        return None
    person = User.objects.select_related("tenant", "second_factor").filter(pk=pending["user"], is_active=True).first()
    if person is None or not constant_time_compare(person.get_session_auth_hash(), pending["stamp"]):
        return None  # the password was changed meanwhile
    return person
