"""Choosing a password without the old one: asking for a link by mail, and following it (SEC-4, SEC-5)."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.forms import SetPasswordForm
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters

from accounts import audit, password_links, wall
from accounts.admin_page import themed
from accounts.models import User
from accounts.tenant_admin import client_ip

ASKED = (
    "If somebody signs in with this address, a link to choose a new password is on its way to it. It may take a "
    "minute; look among the junk as well."
)
DONE = "Your password is set, and you are signed out everywhere. Sign in with it."
KEPT = "password_link"
"""Under which the browser's session keeps the link that was followed, so that no address shows it any longer."""


class AddressForm(forms.Form):
    email = forms.EmailField(
        label="E-mail address", max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "username"})
    )


@csrf_protect
@never_cache
def ask(request: HttpRequest) -> HttpResponse:
    """Ask for a link; the answer is the same for every address."""
    form = themed(AddressForm(request.POST or None))
    if request.method == "POST" and form.is_valid():
        password_links.forgotten(form.cleaned_data["email"], client_ip(request), password_links.origin_of(request))
        messages.success(request, ASKED)
        return HttpResponseRedirect(reverse("admin:login"))
    return _page(request, title="Forgotten password", form=form, do="Send me a link")


@sensitive_post_parameters()
@csrf_protect
@never_cache
def set_password(request: HttpRequest) -> HttpResponse:
    """Choose a password, for whoever has followed a link that is good. Whoever has signed in here is another matter."""
    with wall.lifted():
        if "token" in request.GET:
            return _follow(request)
        user = password_links.owner_of(*request.session.get(KEPT, ("", "")))
        if user is None:
            return _page(request, title="This link is not good any more", gone=True)
        form = themed(SetPasswordForm(user, request.POST or None))
        if request.method == "POST" and form.is_valid():
            return _set(request, user, form)
        return _page(request, title="Choose a password", form=form, do="Set password", person=user)


def _follow(request: HttpRequest) -> HttpResponse:
    """Keep the link and leave its address, which goes into histories and to other sites. It is not used up by that:
    programs that look after mail follow links as well."""
    kept = (request.GET.get("user", ""), request.GET["token"])
    if password_links.owner_of(*kept) is None:
        request.session.pop(KEPT, None)
    else:
        request.session[KEPT] = kept
    return HttpResponseRedirect(reverse("admin:set_password"))


def _set(request: HttpRequest, user: User, form: Any) -> HttpResponse:
    invited = password_links.purpose_for(user) is password_links.Purpose.INVITATION
    with transaction.atomic():
        locked = User.objects.select_for_update(of=("self",)).get(pk=user.pk)
        if locked.password != user.password:  # the same link, at the same time
            return HttpResponseRedirect(reverse("admin:set_password"))
        form.save()  # ends all sessions, see User.save
        audit.record(user, "user.password_reset", user, {"invited": invited}, client_ip(request))
    request.session.pop(KEPT, None)
    messages.success(request, DONE)
    return HttpResponseRedirect(reverse("admin:login"))


def _page(request: HttpRequest, **context: Any) -> HttpResponse:
    context = {**admin.site.each_context(request), **context}
    return TemplateResponse(request, "admin/sign_in/forgotten.html", context)
