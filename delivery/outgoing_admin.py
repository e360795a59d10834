"""The admin of tenants' webhooks, and of what they were sent (EVT-3, ADM-2)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

import structlog
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from accounts import audit, shared_state
from accounts.confirmation import asks, counted
from accounts.crypto import DecryptionError
from accounts.row_pages import IssuedOnceMixin
from accounts.tenancy import Area
from accounts.tenant_admin import VisibleRelatedFilter, signed_in
from delivery.exceptions import ControlRefused
from delivery.models import Webhook, WebhookDelivery
from delivery.outgoing import signatures, webhooks
from delivery.webhook_forms import ReplayForm, WebhookForm
from providers import trial

log = structlog.get_logger(__name__)

ONE = "Choose one webhook."
TOO_MANY = f"Not sent: that was more than {trial.PER_MINUTE} tests in a minute. Wait a little."
OFFERED = timedelta(days=1)
"""What is offered for replay where the webhook is not failing."""
KEPT = "encrypted, to sign with,"
STANDING = ("enabled", "disabled_reason", "failing_since", "failures", "next_attempt_at", "created_at", "updated_at")


NEW_ONE = (
    "From now on requests are signed with a new secret, which is shown once, on the next page. The present one signs "
    "beside it for 24 hours, so that nothing is lost while you exchange it."
)


def _given_up(rows: QuerySet[Webhook]) -> str:
    failed = WebhookDelivery.objects.filter(webhook__in=rows, status=WebhookDelivery.Status.FAILED)
    count = failed.order_by()[: webhooks.MOST_REPLAYED + 1].count()
    return f"{counted(count, 'delivery', 'deliveries')} that were given up will be sent again." if count else ""


@admin.register(Webhook)
class WebhookAdmin(IssuedOnceMixin):
    area = Area.WEBHOOKS
    form = WebhookForm
    secret_fields = IssuedOnceMixin.secret_fields | {"secrets"}
    list_display = ("name", "url", "account", "enabled", "failing_since", "disabled_reason")
    list_filter = ("enabled", ("account", VisibleRelatedFilter))
    list_select_related = ("account",)
    search_fields = ("name", "url")
    actions = ("send_test", "replay_failed", "issue_new_secret", "enable", "disable")
    readonly_fields = STANDING
    empty_text = (
        "A webhook tells a program of yours what becomes of your mail: each event is posted to its address, signed, "
        "and tried again until it is taken."
    )

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ("accounts/config.css",)}
        js = ("accounts/copy.js",)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        mine = (None, {"fields": ("tenant", "name", "url", "account", "event_types")})
        return [mine] if obj is None else [mine, ("How it stands", {"fields": STANDING})]

    def get_buttons(self, request: HttpRequest, obj: Webhook) -> Sequence[str]:
        failed = obj.deliveries.filter(status=WebhookDelivery.Status.FAILED).exists()
        again = ("replay_failed",) if failed else ()
        return ("send_test", *again, "issue_new_secret", "disable" if obj.enabled else "enable")

    def get_links(self, request: HttpRequest, obj: Webhook) -> list[tuple[str, str]]:
        sent = f"{reverse('admin:delivery_webhookdelivery_changelist')}?webhook__id__exact={obj.pk}"
        links = [*super().get_links(request, obj), (sent, "Deliveries")]
        if self.has_change_permission(request, obj):
            links.append((reverse("admin:delivery_webhook_replay", args=[quote(obj.pk)]), "Replay"))
        return links

    # --- making and changing --------------------------------------------------------------------------------------
    def save_model(self, request: HttpRequest, obj: Webhook, form: Any, change: bool) -> None:
        if not change:
            obj.secrets = signatures.renewed({})
            super().save_model(request, obj, form, change)
            request.issued_secret = obj.secrets["current"]  # type: ignore[attr-defined]
            return
        if not form.changed_data:
            return
        before = Webhook.objects.filter(pk=obj.pk).values(*form.changed_data).get()
        # These alone: how it stands may have changed while somebody typed.
        obj.save(update_fields=[*form.changed_data, "updated_at"])
        after = Webhook.objects.filter(pk=obj.pk).values(*before).get()
        self.audit(request, "changed", obj, audit.differences(Webhook, before, after))
        if "url" in form.changed_data:
            webhooks.moved(obj)

    def response_add(self, request: HttpRequest, obj: Webhook, post_url_continue: str | None = None) -> HttpResponse:
        return self._secret_issued(request, obj, "Secret", request.issued_secret)  # type: ignore[attr-defined]

    def _secret_issued(self, request: HttpRequest, obj: Webhook, what: str, secret: str) -> HttpResponse:
        note = (
            "Each request has a header Smtpproxy-Signature: t=<seconds since 1970>,v1=<hex>. v1 is the HMAC-SHA-256 of "
            "t, a full stop and the body as it came, with the whole secret as key; docs/events.md has it as code."
        )
        return self.issued(request, obj, what, secret, note=note, kept=KEPT)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        return [f"{webhook} and everything it was sent" for webhook in objs], {"webhooks": len(objs)}, set(), []

    def delete_model(self, request: HttpRequest, obj: Webhook) -> None:
        self.audit(request, "deleted", obj, {"url": [obj.url, None]})
        webhooks.remove(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        with transaction.atomic():
            for webhook in queryset:
                self.delete_model(request, webhook)

    # --- actions --------------------------------------------------------------------------------------------------
    @admin.action(description="Send a test", permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        if len(queryset) != 1:
            self.message_user(request, ONE, messages.ERROR)
            return
        try:
            may = trial.may_try(signed_in(request))
        except shared_state.Unavailable as error:
            log.warning("tests not counted", error=str(error))
            may = True
        if not may:
            self.message_user(request, TOO_MANY, messages.ERROR)
            return
        webhook = queryset[0]
        self.audit(request, "tested", webhook)
        try:
            answer = webhooks.test(webhook)
        except DecryptionError:
            self.message_user(request, "Its secret cannot be read: issue a new one.", messages.ERROR)
            return
        said = f"It answered {answer.status}" if answer.status else "No answer"
        text = f"{said} after {answer.duration_ms} ms. {answer.text}"
        self.message_user(request, text, messages.SUCCESS if answer.good else messages.ERROR)

    @admin.action(description="Issue a new secret", permissions=["change"])
    @asks(
        lambda rows: NEW_ONE if rows.count() == 1 else "",
        "Issue a new secret",
    )
    def issue_new_secret(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> HttpResponse | None:
        if len(queryset) != 1:
            self.message_user(request, f"{ONE} Each secret is shown once.", messages.ERROR)
            return None
        webhook = queryset[0]
        with transaction.atomic():
            secret = webhooks.rotate(webhook)
            self.audit(request, "secret_issued", webhook)
        return self._secret_issued(request, webhook, "New secret", secret)

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        with transaction.atomic():
            chosen = list(queryset.filter(enabled=False))
            waiting = 0
            for webhook in chosen:
                waiting += webhooks.enable(webhook)
                self.audit(request, "enabled", webhook, {"enabled": [False, True]})
        self.message_user(request, f"{len(chosen)} enabled. {waiting} deliveries that have waited are sent now.")
        if chosen:
            self.message_user(request, "What has happened since they were disabled is sent by Replay.")

    @admin.action(description="Disable", permissions=["change"])
    @asks(
        lambda rows: (
            f"{counted(rows.count(), 'webhook')} will be told of nothing more. What is pending waits until it "
            "is enabled again; what happens meanwhile can be sent by Replay."
        ),
        "Disable",
    )
    def disable(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        with transaction.atomic():
            chosen = list(queryset.filter(enabled=True))
            for webhook in chosen:
                webhooks.disable(webhook, f"Disabled by {signed_in(request).email}.")
                self.audit(request, "disabled", webhook, {"enabled": [True, False]})
        self.message_user(request, f"{len(chosen)} disabled.")

    @admin.action(description="Replay what was given up", permissions=["change"])
    @asks(_given_up, "Replay")
    def replay_failed(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        for webhook in queryset:
            with transaction.atomic():
                try:
                    count = webhooks.replay_failed(webhook)
                except ControlRefused as error:
                    self.message_user(request, f"{webhook}: {error}", messages.ERROR)
                    continue
                self.audit(request, "replayed", webhook, {"deliveries": count})
            self.message_user(request, f"{webhook}: {count} are sent again.")

    # --- replay of a time -----------------------------------------------------------------------------------------
    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.replay_view)
        return [path("<path:object_id>/replay/", view, name="delivery_webhook_replay"), *super().get_urls()]

    def replay_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Everything that was recorded in a time, sent again."""
        if request.method not in {"GET", "HEAD", "POST"}:
            return HttpResponseNotAllowed(["GET", "POST"])
        webhook: Webhook = self.get_object(request, unquote(object_id))
        if not self.has_change_permission(request, webhook):
            raise PermissionDenied
        now = timezone.now()
        offered = {"since": webhook.failing_since or now - OFFERED, "until": now}
        form = ReplayForm(request.POST or None, initial=offered)
        count = None
        if request.method == "POST" and form.is_valid() and request.POST.get("confirmed") != "yes":
            count = self._counted(webhook, form)
        elif request.method == "POST" and form.is_valid() and self._replay(request, webhook, form):
            return HttpResponseRedirect(reverse("admin:delivery_webhook_change", args=[quote(webhook.pk)]))
        context = {
            **self.admin_site.each_context(request),
            "title": f"Replay {webhook}",
            "opts": self.opts,
            "webhook": webhook,
            "form": form,
            "count": count,
            "media": self.media + form.media,
        }
        return TemplateResponse(request, "admin/delivery/webhook/replay.html", context)

    def _counted(self, webhook: Webhook, form: ReplayForm) -> int | None:
        try:
            return len(webhooks.recorded(webhook, form.cleaned_data["since"], form.cleaned_data["until"]))
        except ControlRefused as error:
            form.add_error(None, str(error))
            return None

    def _replay(self, request: HttpRequest, webhook: Webhook, form: ReplayForm) -> bool:
        since, until = form.cleaned_data["since"], form.cleaned_data["until"]
        try:
            with transaction.atomic():
                count = webhooks.replay_range(webhook, since, until)
                told = {"since": since.isoformat(), "until": until.isoformat(), "events": count}
                self.audit(request, "replayed", webhook, told)
        except ControlRefused as error:
            form.add_error(None, str(error))
            return False
        self.message_user(request, f"{count} events are sent again.")
        return True
