"""Setting up one's second factor: a picture for the app, a code to confirm it, recovery codes shown once (SEC-4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters

from accounts import audit, second_factor, sign_in
from accounts.look_as import as_oneself
from accounts.models import User
from accounts.sign_in import Refused
from accounts.tenant_admin import client_ip

if TYPE_CHECKING:
    from django.contrib.admin.widgets import AdminTextInputWidget as UnfoldAdminPasswordWidget
    from django.contrib.admin.widgets import AdminTextInputWidget as UnfoldAdminTextInputWidget
else:
    from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

WRONG_CODE = "This is not the code your app shows now. Is the clock of your phone right?"
WRONG_PASSWORD = "The password is wrong, or was wrong too often; try again later."  # noqa: S105


class ConfirmForm(forms.Form):
    code = forms.CharField(
        max_length=16,
        label="Code",
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
        help_text="The six digits your app shows.",
    )


class OwnPasswordForm(forms.Form):
    password = forms.CharField(
        label="Your password",
        strip=False,
        max_length=1024,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "current-password"}),
    )


@sensitive_post_parameters()
def page(request: HttpRequest) -> HttpResponse:
    """The second factor as it is: to be set up, or on."""
    person = as_oneself(request)
    on = second_factor.of(person) is not None
    return (_change if on else _set_up)(request, person)


def _set_up(request: HttpRequest, person: User) -> HttpResponse:
    form = ConfirmForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            codes = second_factor.confirm(person, form.cleaned_data["code"])
            if codes is not None:
                audit.record(person, "user.second_factor_added", person, ip=client_ip(request))
        if codes is not None:
            return _codes(request, codes)
        form.add_error("code", WRONG_CODE)
    factor = second_factor.begin(person)
    return _page(
        request,
        "admin/sign_in/set_up.html",
        title="Set up a second factor",
        form=form,
        wanted=second_factor.lacking(person),
        qr_code=second_factor.qr_code(factor),
        secret=second_factor.secret_text(factor),
    )


def _change(request: HttpRequest, person: User) -> HttpResponse:
    """New recovery codes, or sign in without from now on; both ask for the password."""
    form = OwnPasswordForm(request.POST or None)
    wanted = person.tenant is not None and person.tenant.second_factor_required
    if request.method == "POST" and form.is_valid():
        try:
            sign_in.check_own_password(person, form.cleaned_data["password"], client_ip(request))
        except Refused:
            form.add_error("password", WRONG_PASSWORD)
        else:
            if "renew" in request.POST:
                with transaction.atomic():
                    codes = second_factor.new_recovery_codes(person)
                    audit.record(person, "user.recovery_codes_renewed", person, ip=client_ip(request))
                return _codes(request, codes)
            if "remove" in request.POST and not wanted:
                return _remove(request, person)
    left = len(person.second_factor.recovery_hashes)
    return _page(
        request, "admin/sign_in/second_factor.html", title="Your second factor", form=form, left=left, wanted=wanted
    )


def _remove(request: HttpRequest, person: User) -> HttpResponse:
    with transaction.atomic():
        second_factor.remove(person)
        audit.record(person, "user.second_factor_removed", person, ip=client_ip(request))
    messages.success(request, "You sign in with your password alone from now on.")
    return HttpResponseRedirect(reverse("admin:account"))


def _codes(request: HttpRequest, codes: list[str]) -> HttpResponse:
    """Shown in the answer itself, so that they are kept nowhere on their way."""
    response = _page(request, "admin/sign_in/recovery_codes.html", title="Your recovery codes", codes=codes)
    response.headers["Cache-Control"] = "no-store"
    return response


def _page(request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
    response = TemplateResponse(request, template, {**admin.site.each_context(request), **context})
    response.headers["Cache-Control"] = "no-store"
    return response
