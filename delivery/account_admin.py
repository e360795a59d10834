"""A test message from an account's page, and links to its mail; completes the admin of accounts (ADM-2)."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import validate_email
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.http import urlencode

from accounts import shared_state, snippets
from accounts.account_admin import AccountAdmin
from accounts.admin_page import themed
from accounts.ids import uuid7
from accounts.models import Account
from accounts.tenancy import Area, Verb, permits, visible_to
from accounts.tenant_admin import client_ip, signed_in
from delivery import intake, letter
from delivery.exceptions import NotAccepted, Rejected
from delivery.models import ENDED_STATUSES, Message, MessageStatus
from delivery.submission import Accepted
from providers import trial
from providers.base import Mailbox

RESTING = {*ENDED_STATUSES, MessageStatus.HELD}
TOO_MANY = f"Not sent: that was more than {trial.PER_MINUTE} tests in a minute. Wait a little."
NOT_COUNTED = "Not sent: the shared store does not answer, so that nobody knows how many were sent already."


class SendForm(forms.Form):
    """Whom the test message is from, and whom it goes to."""

    sender = forms.CharField(max_length=254, label="From", widget=forms.EmailInput)
    recipient = forms.CharField(max_length=254, label="To", widget=forms.EmailInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        themed(self)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        for name, address in list(cleaned.items()):
            try:
                validate_email(address)
            except ValidationError as error:
                self.add_error(name, error)
        return cleaned


class SendingAccountAdmin(AccountAdmin):
    """Adds "Send a test message" to the page "Connect", and the way to what the account has sent."""

    def get_urls(self) -> list[URLPattern]:
        return [
            path(
                "<path:object_id>/sent/<uuid:message_id>/",
                self.admin_site.admin_view(self.sent_view),
                name="accounts_account_sent",
            ),
            *super().get_urls(),
        ]

    def get_links(self, request: HttpRequest, obj: Any) -> list[tuple[str, str]]:
        links = super().get_links(request, obj)
        if permits(request.user, Area.MESSAGES, Verb.READ):
            of_account = urlencode({"account__id__exact": obj.pk})
            links.append((f"{reverse('admin:delivery_message_changelist')}?{of_account}", "Messages"))
        return links

    def connect_context(self, request: HttpRequest, account: Account) -> dict[str, Any]:
        context = super().connect_context(request, account)
        if self.has_change_permission(request, account) and account.allowed_senders:
            initial = {"sender": snippets.sender(account), "recipient": signed_in(request).email}
            context["send_form"] = SendForm(initial=initial)
            context["send_url"] = reverse("admin:accounts_account_connect", args=[quote(account.pk)])
        return context

    def connect_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if request.method != "POST":
            return super().connect_view(request, object_id)
        account: Account = self.get_object(request, unquote(object_id))
        if not self.has_change_permission(request, account):
            raise PermissionDenied
        form = SendForm(request.POST)
        problem = "" if not form.is_valid() else self._may_not(request)
        if form.is_valid() and not problem:
            answer = self._send(request, account, form.cleaned_data["sender"], form.cleaned_data["recipient"])
            if isinstance(answer, uuid.UUID):
                return HttpResponseRedirect(reverse("admin:accounts_account_sent", args=[quote(account.pk), answer]))
            problem = answer
        if problem:
            form.add_error(None, problem)
        context = {**super().connect_context(request, account), "send_form": form, "send_url": request.path}
        return self.page(request, account, "connect", context)

    def _may_not(self, request: HttpRequest) -> str:
        try:
            return "" if trial.may_try(signed_in(request)) else TOO_MANY
        except shared_state.Unavailable:
            return NOT_COUNTED

    def _send(self, request: HttpRequest, account: Account, sender: str, recipient: str) -> uuid.UUID | str:
        """The id of the message that was accepted, or why it was not."""
        now, person = timezone.now(), signed_in(request)
        written = letter.Letter(
            from_=Mailbox("", sender),
            to=(Mailbox("", recipient),),
            subject=f"Test of the account {account.name}",
            text=(
                f"This is a test message of smtpproxy.\n\n{person.email} sent it from the account {account.username} "
                f"on {now:%Y-%m-%d at %H:%M:%S} UTC, through the rules and providers all its mail takes.\n"
            ),
            headers={"Auto-Submitted": "auto-generated"},  # RFC 3834: nobody's machine answers
        )
        # The entry comes first, so that nothing is sent without one.
        self.audit(request, "test_message", account, {"from": sender, "to": recipient})
        try:
            submission = letter.submit(
                written,
                letter.Limits.of(settings.SMTP),
                message_id=uuid7(),
                account_id=account.pk,
                source=Message.Source.HTTP,
                received_at=now,
                client_ip=client_ip(request),
            )
        except Rejected as error:
            return str(error)
        try:
            [answer] = intake.accept([submission])
        finally:
            submission.body.close()  # type: ignore[attr-defined]
        return answer.message_id if isinstance(answer, Accepted) else _why(answer)

    def sent_view(self, request: HttpRequest, object_id: str, message_id: uuid.UUID) -> HttpResponse:
        """What has become of a test message so far; the page asks again until it rests."""
        account = self._account(request, object_id)
        if not permits(request.user, Area.MESSAGES, Verb.READ):
            raise PermissionDenied
        message = visible_to(request.user, Message).filter(pk=message_id, account=account).first()
        if message is None:
            raise Http404
        context = {
            "message": message,
            "recipients": message.recipients.all(),
            "rests": message.status in RESTING,
            "message_url": reverse("admin:delivery_message_change", args=[message.pk]),
        }
        return self.page(request, account, "sent", context)


def _why(answer: NotAccepted) -> str:
    return f"Not accepted: {answer}"


admin.site.unregister(Account)
admin.site.register(Account, SendingAccountAdmin)
