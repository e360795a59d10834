"""Scaleway Transactional Email (https://www.scaleway.com/en/developers/api/transactional-email/)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

from anymail.backends.scaleway import EmailBackend, ScalewayPayload

from providers import destinations, http
from providers.backends.anymail import AnymailBackend, ExactParts
from providers.backends.letter import Abilities, Inline, Types
from providers.base import ConfigField, Mailbox
from providers.envelope import Addressing, Limits
from providers.exceptions import Misconfigured, ProviderError, Unsupported
from providers.http import Answer
from providers.scrub import scrub

# https://github.com/scaleway/scaleway-sdk-go/blob/master/scw/errors.go
_TEMPORARY = {
    "quotas_exceeded": "quota",
    "out_of_stock": "quota",
    "transient_state": "server_error",
    "locked": "server_error",
}
_RECIPIENT_ARGUMENT = re.compile(r"(to|cc|bcc)\b\W*(\d+)?")
_SHORT = re.compile(r"\b(?:at least|minimum|too short)\b", re.IGNORECASE)


class _Payload(ExactParts, ScalewayPayload):
    pass


def _base_url(text: str) -> str:
    if "{" in text:
        raise ValueError("must name the region")
    return destinations.base_url(text)


class ScalewayBackend(AnymailBackend):
    """At most 10 recipients and 2 MB, and a list of file types. Subject and bodies must have 10 characters: shorter
    ones are refused, and go to another provider."""

    type = "scaleway"
    config_fields = (
        ConfigField("secret_key", "Secret key", kind="secret", required=True),
        ConfigField("project_id", "Project", required=True, help="The id of the project."),
        ConfigField(
            "base_url",
            "Base URL",
            default="https://api.scaleway.com/transactional-email/v1alpha1/regions/fr-par",
            help="Ends with the region; without one it is fr-par.",
            check=_base_url,
        ),
    )
    root = "transactional-email/v1alpha1/regions/fr-par"
    # https://www.scaleway.com/en/docs/transactional-email/reference-content/tem-capabilities-and-limits/
    max_size = 2 * 1024 * 1024
    abilities = Abilities(
        limits=Limits(total=10), reply_tos=10, subject_required=True, inline=Inline.NONE, types=Types.FULL
    )
    esp = EmailBackend
    payload = _Payload
    credentials = ("secret_key", "project_id")

    def api_url(self, base_url: str) -> str:
        return base_url if "/regions/" in base_url else super().api_url(base_url)

    def ask(self) -> Answer:
        project = quote(self.config["project_id"], safe="")
        return self.client.get(f"domains?project_id={project}", {"X-Auth-Token": self.config["secret_key"]})

    def told(self, answer: Answer) -> str:
        domains = _body(answer).get("domains")
        if not isinstance(domains, list):
            return ""
        named = [f"{row.get('name')} ({row.get('status')})" for row in domains if isinstance(row, dict)]
        return f"The key is known; domains: {', '.join(named) or 'none'}."

    def words(self, answer: Answer) -> str:
        said = [str(_body(answer).get("message") or "")]
        said += [f"{name}: {text}" for name, text in _details(answer)]
        return "; ".join(filter(None, said))

    def refusal(self, answer: Answer, words: str) -> ProviderError:
        body, text = _body(answer), scrub(f"{answer.reason}: {words}", self.secrets)
        if code := _TEMPORARY.get(str(body.get("type"))):
            return http.temporary(answer, words, code=code, secrets=self.secrets)
        if body.get("type") == "not_found" and body.get("resource") == "project":
            return Misconfigured(text, code="bad_project", status_code=answer.status)
        if code := _unsupported(answer, words):
            return Unsupported(text, code=code, status_code=answer.status)
        return super().refusal(answer, words)

    def blamed(self, answer: Answer, words: str, addressing: Addressing) -> Collection[str] | None:  # noqa: ARG002
        found = [match for name, _ in _details(answer) if (match := _RECIPIENT_ARGUMENT.match(name))]
        if answer.status != 400 or not found:
            return None
        addresses: list[str] = []
        for match in found:
            boxes: tuple[Mailbox, ...] = getattr(addressing, match[1])
            addresses += [box.address for box in boxes[int(match[2]) : int(match[2]) + 1]] if match[2] else []
        return addresses


def _unsupported(answer: Answer, words: str) -> str:
    """Why another provider may take the message, "" when none would."""
    body = _body(answer)
    # precondition_failed: the domain has not been checked
    if body.get("type") == "precondition_failed" or (body.get("type"), body.get("resource")) == ("not_found", "domain"):
        return "sender_not_verified"
    if body.get("type") != "invalid_arguments":
        return ""
    for name, _ in _details(answer):
        if name.startswith("from"):
            return "sender_not_verified"
        if name.startswith("attachments"):
            return "attachment_refused"
    return "too_short" if _SHORT.search(words) else ""


def _body(answer: Answer) -> dict[str, Any]:
    body = answer.json()
    return body if isinstance(body, dict) else {}


def _details(answer: Answer) -> list[tuple[str, str]]:
    """Argument and explanation of each wrong argument."""
    details = _body(answer).get("details")
    return [
        (str(detail.get("argument_name") or ""), str(detail.get("help_message") or detail.get("reason") or ""))
        for detail in (details if isinstance(details, list) else [])
        if isinstance(detail, dict)
    ]
