"""One's own account: name, password, where one is signed in (SEC-4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, auth, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters

from accounts import audit, second_factor, session_middleware, sessions, sign_in
from accounts.look_as import as_oneself
from accounts.models import User, UserSession
from accounts.sign_in import Refused
from accounts.tenancy import may_edit_user, visible_to
from accounts.tenant_admin import client_ip

if TYPE_CHECKING:
    from django.contrib.admin.forms import AdminPasswordChangeForm as AdminOwnPasswordChangeForm
    from django.contrib.admin.widgets import AdminTextInputWidget as UnfoldAdminTextInputWidget
else:
    from unfold.forms import AdminOwnPasswordChangeForm
    from unfold.widgets import UnfoldAdminTextInputWidget


class NameForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ("name",)
        widgets = {"name": UnfoldAdminTextInputWidget()}


class OwnPasswordForm(AdminOwnPasswordChangeForm):
    """Asks for the present password, whose guessing is slowed down as at the door."""

    ip: str | None = None

    def clean_old_password(self) -> str:
        given = str(self.cleaned_data["old_password"])
        try:
            sign_in.check_own_password(self.user, given, self.ip)
        except Refused:
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect") from None
        return given


def account(request: HttpRequest) -> HttpResponse:
    """Name and sessions; links to password and second factor."""
    person = as_oneself(request)
    form = NameForm(request.POST or None, instance=person)
    if request.method == "POST" and form.is_valid():
        before = User.objects.get(pk=person.pk).name
        with transaction.atomic():
            User.objects.filter(pk=person.pk).update(name=form.cleaned_data["name"])
            if before != form.cleaned_data["name"]:
                changed = {"name": [before or None, form.cleaned_data["name"] or None]}
                audit.record(person, "user.changed", person, changed, client_ip(request))
        messages.success(request, "Saved.")
        return HttpResponseRedirect(reverse("admin:account"))
    return _page(
        request,
        "admin/sign_in/account.html",
        title="Your account",
        form=form,
        person=person,
        factor=second_factor.of(person),
        sessions=sessions.active(person),
        this_session=sessions.of(request),
    )


@sensitive_post_parameters()
def password(request: HttpRequest) -> HttpResponse:
    """Change one's own password; all other sessions end."""
    person = as_oneself(request)
    form = OwnPasswordForm(person, request.POST or None)
    form.ip = client_ip(request)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            form.save()
            audit.record(person, "user.password_changed", person, ip=client_ip(request))
            auth.update_session_auth_hash(request, person)
            session_middleware.begin(None, request, person)  # the one before has ended with the password
        messages.success(request, "Your password was changed. You are signed out everywhere else.")
        return HttpResponseRedirect(reverse("admin:account"))
    return _page(request, "admin/sign_in/password.html", title="Change your password", form=form)


def sessions_of(request: HttpRequest, user_id: Any) -> HttpResponse:
    """Where somebody else is signed in, for who may edit them."""
    person = _editable(request, user_id)
    return _page(
        request,
        "admin/sign_in/sessions.html",
        title=f"Sessions of {person}",
        person=person,
        sessions=sessions.active(person),
        this_session=sessions.of(request),
    )


def revoke(request: HttpRequest, session_id: Any) -> HttpResponse:
    """End a session: one's own, or of somebody one may edit."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    me = as_oneself(request)
    session = UserSession.objects.select_related("user").filter(pk=session_id).first()
    if session is None or (session.user_id != me.pk and not _may_edit(request, session.user)):
        raise Http404
    with transaction.atomic():
        if sessions.end(session, UserSession.End.REVOKED):
            audit.record(me, "user.session_revoked", session.user, {"kind": session.kind}, client_ip(request))
    messages.success(request, "Signed out there.")
    own = session.user_id == me.pk
    page = reverse("admin:account") if own else reverse("admin:user_sessions", args=[session.user_id])
    return HttpResponseRedirect(page)


def _may_edit(request: HttpRequest, other: User) -> bool:
    visible = visible_to(request.user, User).filter(pk=other.pk).exists()
    return visible and may_edit_user(request.user, other)


def _editable(request: HttpRequest, user_id: Any) -> User:
    person = get_object_or_404(visible_to(request.user, User), pk=user_id)
    if not may_edit_user(request.user, person):
        raise PermissionDenied
    return person


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context})
