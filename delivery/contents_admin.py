"""Pages with what is in a message. Each look of somebody who may read bodies leaves an audit row (ADM-4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from csp.constants import NONE, SELF, UNSAFE_INLINE
from csp.decorators import csp
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.http import content_disposition_header
from rest_framework.exceptions import APIException

from accounts import audit
from accounts.admin_page import AdminPage
from accounts.models import User
from accounts.tenancy import Area, visible_to
from accounts.tenant_admin import client_ip
from delivery import contents, message_page, safe_html
from delivery.api import raw
from delivery.models import Message

FRAMED: dict[str, Any] = {
    "sandbox": [True],
    "default-src": [NONE],
    "style-src": [UNSAFE_INLINE],
    "img-src": ["data:"],
    "form-action": [NONE],
    "base-uri": [NONE],
    "frame-ancestors": [SELF],
}
"""What the HTML of a message may do: look like itself. It can run, fetch, send and open nothing."""


class _Contents(AdminPage):
    """A view of one message this person may read; another tenant's is not there."""

    area = Area.BODIES
    title = "What is in the message"
    template_name = "admin/delivery/message/contents.html"

    @classmethod
    def may(cls, user: User) -> bool:
        return contents.may_read(user)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return super().dispatch(request, *args, **kwargs)
        except APIException as error:  # its body is gone, or the store does not answer
            return self.told(error)

    def told(self, error: APIException) -> HttpResponse:
        answer = self.page(self.message, str(self.kwargs.get("kind", "attachments")), problem=str(error.detail))
        answer.status_code = error.status_code
        return answer

    @property
    def message(self) -> Message:
        return get_object_or_404(visible_to(self.user, Message), pk=self.kwargs["key"])

    def looked(self, message: Message, what: str) -> None:
        audit.record(self.user, "message.body_viewed", message, {"part": what}, client_ip(self.request))

    def page(self, message: Message, kind: str, **context: Any) -> HttpResponse:
        return self.render(
            {
                "title": contents.KINDS.get(kind, self.title),
                "lead": message.subject[:200] or "(no subject)",
                "message": message,
                "shown": kind,
                "contents": message_page.links(self.user, message),
                "back": reverse("admin:delivery_message_change", args=[message.pk]),
                **context,
            }
        )


class ContentsPage(_Contents):
    """One kind of what is in it. The page around the HTML reads nothing itself; its frame does."""

    def get(self, request: HttpRequest, key: UUID, kind: str) -> HttpResponse:
        message = self.message
        if kind == "html":
            raw.opened(message).close()  # so that one that is gone is told of here
            return self.page(message, kind, frame=reverse("admin:delivery_message_html", args=[message.pk]))
        if kind not in contents.KINDS:
            raise Http404
        found = self._found(message, kind)
        self.looked(message, kind)
        return self.page(message, kind, **found)

    def _found(self, message: Message, kind: str) -> dict[str, Any]:
        if kind == "headers":
            return {"headers": contents.headers(message)}
        if kind == "source":
            return {"source": contents.source(message), "cut": message.size > contents.MOST_SOURCE}
        content = contents.content(message)
        if kind == "text":
            text = content.text or ""
            return {"text": text[: contents.MOST_TEXT], "cut": len(text) > contents.MOST_TEXT}
        return {"attachments": content.attachments}


@method_decorator(csp(FRAMED), name="dispatch")
class HtmlFrame(_Contents):
    """The HTML of a message, for the frame of its page; what is asked for here is what the audit tells."""

    def get(self, request: HttpRequest, key: UUID) -> HttpResponse:
        message = self.message
        content = contents.content(message)
        self.looked(message, "html")
        if content.html is None:
            return self._framed({"problem": "This message has no HTML."})
        clean = safe_html.clean(content.html, content.attachments)
        return self._framed(
            {
                "html": clean,
                "source": "" if clean is not None else content.html[: contents.MOST_TEXT],
                "remote": safe_html.remote(content.html),
            }
        )

    def told(self, error: APIException) -> HttpResponse:
        return self._framed({"problem": str(error.detail)}, error.status_code)

    def _framed(self, context: dict[str, Any], status: int = 200) -> HttpResponse:
        text = render_to_string("admin/delivery/message/frame.html", context)
        return HttpResponse(text, status=status, headers={"X-Frame-Options": "SAMEORIGIN"})


class Download(_Contents):
    """The message as it is stored."""

    def get(self, request: HttpRequest, key: UUID) -> HttpResponseBase:
        return raw.answer(self.user, client_ip(request), self.message)


class AttachmentDownload(_Contents):
    """One attachment, which no browser will show or guess the type of."""

    def get(self, request: HttpRequest, key: UUID, number: int) -> HttpResponse:
        message = self.message
        attachments = contents.content(message).attachments
        if not 1 <= number <= len(attachments):
            raise Http404
        one = attachments[number - 1]
        self.looked(message, f"attachment {number}")
        return HttpResponse(
            one.content,
            content_type="application/octet-stream",
            headers={
                "Content-Disposition": content_disposition_header(True, one.filename) or "attachment",
                "X-Content-Type-Options": "nosniff",
                "Content-Security-Policy": "default-src 'none'; sandbox",
            },
        )


def urls(admin_view: Callable[[Any], Any]) -> list[URLPattern]:
    """Below the address of messages."""
    base, name = "<uuid:key>/contents", "delivery_message"
    return [
        path(f"{base}/html/frame/", admin_view(HtmlFrame.as_view()), name=f"{name}_html"),
        path(f"{base}/message.eml", admin_view(Download.as_view()), name=f"{name}_download"),
        path(f"{base}/attachments/<int:number>/", admin_view(AttachmentDownload.as_view()), name=f"{name}_attachment"),
        path(f"{base}/<str:kind>/", admin_view(ContentsPage.as_view()), name=f"{name}_contents"),
    ]
