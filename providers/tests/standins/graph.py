"""Microsoft Graph v1.0 and the token endpoint of Entra ID: the published schema, and the pages named beside the rules.

One server plays all three hosts: sign-in, Graph, and the one that upload sessions lie on.
"""

from __future__ import annotations

import base64
import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

import jwt

from providers.tests.standins.graph_mail import Draft, accepted_from_json, accepted_from_mime
from providers.tests.standins.http import (
    SHARED,
    Accepted,
    File,
    Refused,
    Request,
    StandIn,
    strict_validator,
)

TENANT, CLIENT = "7d1b1c0e-acme-4e3c-9d2b-000000000001", "0c0ffee0-acme-4e3c-9d2b-000000000002"
SCOPE = "https://graph.microsoft.com/.default"
MAX_REQUEST = 4_000_000
PIECE_UNIT = 320 * 1024
AT_ONCE = 4
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class GraphStandIn(StandIn):
    """`closed` and `missing` are mailboxes that may not be used or do not exist, `unverified` senders nobody may send
    as, `bad_recipients` addresses it cannot resolve. `certificate` is the public key that may sign assertions."""

    type = "msgraph"
    path = ""
    credential = "client_secret"

    def prepare(self) -> None:
        self.unverified: set[str] = set()
        self.bad_recipients: set[str] = set()
        self.closed: set[str] = set()
        self.missing: set[str] = set()
        self.certificate: Any = None
        self.unseen = 0
        """How often a message that was sent is not found yet."""
        self.min_session = 3 * 1024 * 1024
        self.token_seconds = 3600
        self.tell_life: Callable[[int], Any] = lambda seconds: seconds
        """How the life of a token is written."""
        self.tokens: dict[str, tuple[str, float]] = {}
        self.drafts: dict[str, Draft] = {}
        self.sessions: dict[str, Session] = {}
        self.busy: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self.pieces: list[tuple[str, int, int]] = []
        """Every piece of a file that was taken: name, first octet and number of octets."""
        self.journal: list[str] = []
        """Every request that was served, as method and path."""
        path = SHARED / "esp" / "msgraph.json"
        endpoints = json.loads(path.read_text())["endpoints"] if path.exists() else []
        self.schemas = {
            endpoint["path"].partition("{id}/")[2]: strict_validator(endpoint["request"]["application/json"]["schema"])
            for endpoint in endpoints
            if "application/json" in endpoint["request"]
        }

    def config(self, key: str | None = None, **more: Any) -> dict[str, Any]:
        return {
            "tenant_id": TENANT,
            "client_id": CLIENT,
            "client_secret": key or self.keys[0],
            "base_url": f"{self.url}/v1.0",
            "login_url": self.url,
            **more,
        }

    def error(self, status: int) -> Any:
        name = {401: "InvalidAuthenticationToken", 429: "ApplicationThrottled", 503: "serviceNotAvailable"}
        return graph_error(name.get(status, "UnknownError"), "")

    def revoke(self) -> None:
        """No token that was given so far is good any more."""
        self.tokens.clear()

    def fail_after(self, number: int, *, take: bool) -> None:
        """Cut the connection of the request after the next `number`; with `take`, it is served all the same."""
        self._order(number, pass_=True)
        self._order(1, reset=True, take=take)

    def expire_sessions(self) -> None:
        self.sessions.clear()

    @property
    def octets_taken(self) -> int:
        return sum(size for _, _, size in self.pieces)

    def counts(self, request: Request) -> bool:
        return not request.path.endswith("/oauth2/v2.0/token")

    def entered(self, request: Request) -> None:
        mailbox = self._mailbox_of(request)
        if mailbox:
            with self._lock:
                self.busy[mailbox] += 1
                self.most_at_once[mailbox] = max(self.most_at_once[mailbox], self.busy[mailbox])

    def left(self, request: Request) -> None:
        mailbox = self._mailbox_of(request)
        if mailbox:
            with self._lock:
                self.busy[mailbox] -= 1

    def _mailbox_of(self, request: Request) -> str:
        if request.path.startswith("/upload/"):
            session = self.sessions.get(request.path.removeprefix("/upload/"))
            return session.draft.mailbox if session else ""
        match = re.match(r"/v1\.0/users/([^/]+)/", request.path)
        return unquote(match[1]).lower() if match else ""

    def serve(self, request: Request) -> tuple[int, Any, dict[str, str]]:
        self.journal.append(f"{request.method} {request.path}")
        if not self.counts(request):
            return self._token(request)
        if request.path.startswith("/upload/"):
            return self._upload(request)
        match = re.fullmatch(r"/v1\.0/users/([^/]+)/(.+)", request.path)
        if request.path == "/v1.0/users":
            self._authorized(request)
            raise Refused(403, graph_error("Authorization_RequestDenied", "Insufficient privileges."))
        if match is None:
            raise Refused(404, graph_error("UnknownError", "Resource not found for the segment."))
        key = self._authorized(request)
        mailbox = unquote(match[1]).lower()
        if self.busy[mailbox] > AT_ONCE:
            raise Refused(429, graph_error("ApplicationThrottled", "over its MailboxConcurrency limit"))
        if mailbox in self.missing:
            raise Refused(404, graph_error("ErrorInvalidUser", f"The requested user '{mailbox}' is invalid."))
        if mailbox in self.closed:
            raise Refused(403, graph_error("ErrorAccessDenied", "Access is denied. Check credentials and try again."))
        if len(request.body) > MAX_REQUEST:
            raise Refused(413, graph_error("ErrorRequestSizeExceeded", "The maximum request length is 4MB."))
        return self._mailbox(request, key, mailbox, match[2].split("/"))

    # Sign-in: https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow

    def _token(self, request: Request) -> tuple[int, Any, dict[str, str]]:
        if request.method != "POST" or request.headers.get("Content-Type") != "application/x-www-form-urlencoded":
            raise sign_in_error(400, "invalid_request", 900144, "The request body must contain 'grant_type'.")
        form = dict(parse_qsl(request.body.decode(), strict_parsing=True))
        if request.path != f"/{TENANT}/oauth2/v2.0/token":
            raise sign_in_error(400, "invalid_request", 90002, "Tenant not found.")
        if form.get("grant_type") != "client_credentials":
            raise sign_in_error(400, "unsupported_grant_type", 70003, "The grant type is not supported.")
        if form.get("scope") != SCOPE:
            raise sign_in_error(400, "invalid_scope", 70011, "The provided value for 'scope' is not valid.")
        if form.get("client_id") != CLIENT:
            raise sign_in_error(400, "unauthorized_client", 700016, "Application was not found in the directory.")
        key = form.get("client_secret", "")
        if form.get("client_assertion_type") == JWT_BEARER:
            key = self._asserted(form["client_assertion"])
        elif key not in self.keys:
            raise sign_in_error(401, "invalid_client", 7000215, "Invalid client secret provided.")
        token = f"eyJ0-{uuid.uuid4().hex}"
        self.tokens[token] = (key, time.time() + self.token_seconds)
        return (
            200,
            {
                "token_type": "Bearer",
                "expires_in": self.tell_life(self.token_seconds),
                "ext_expires_in": self.tell_life(self.token_seconds),
                "access_token": token,
            },
            {},
        )

    def _asserted(self, assertion: str) -> str:
        try:
            claims = jwt.decode(
                assertion, self.certificate, algorithms=["RS256", "PS256"], options={"verify_aud": False}
            )
        except jwt.InvalidTokenError as error:
            raise sign_in_error(
                401, "invalid_client", 700027, "Client assertion failed signature validation."
            ) from error
        if claims["iss"] != CLIENT or not claims["aud"].endswith(f"/{TENANT}/oauth2/v2.0/token"):
            raise sign_in_error(401, "invalid_client", 700023, "Client assertion audience claim does not match.")
        return "certificate"

    def _authorized(self, request: Request) -> str:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        key, until = self.tokens.get(token, ("", 0.0))
        if scheme != "Bearer" or until < time.time():
            raise Refused(401, graph_error("InvalidAuthenticationToken", "Lifetime validation failed."))
        return key

    # One mailbox

    def _mailbox(self, request: Request, key: str, mailbox: str, path: list[str]) -> tuple[int, Any, dict[str, str]]:
        match request.method, path:
            case "POST", ["sendMail"]:
                return self._send_mail(request, key, mailbox)
            case "POST", ["messages"]:
                return self._create(request, key, mailbox)
            case "GET", ["messages"] | ["mailFolders", "drafts", "messages"]:
                return self._list(request, mailbox, drafts=len(path) > 1)
            case _, ["messages", id_, *rest]:
                draft = self.drafts.get(unquote(id_))
                if draft is None or draft.mailbox != mailbox:
                    raise Refused(404, graph_error("ErrorItemNotFound", "The specified object was not found."))
                return self._message(request, draft, rest)
        raise Refused(405, self.error(405))

    def _send_mail(self, request: Request, key: str, mailbox: str) -> tuple[int, Any, dict[str, str]]:
        if request.headers.get("Content-Type") == "text/plain":
            mail = accepted_from_mime(self._mime(request.body), key, mailbox)
        else:
            payload = self._json(request, "sendMail")
            mail = accepted_from_json(payload["Message"], key, mailbox)
        self._take(mail)
        return 202, None, {"request-id": str(uuid.uuid4())}

    def _create(self, request: Request, key: str, mailbox: str) -> tuple[int, Any, dict[str, str]]:
        if request.headers.get("Prefer") != 'IdType="ImmutableId"':
            raise Refused(400, graph_error("BadRequest", "This stand-in wants immutable ids."))
        draft = Draft(id=f"AAkALgAA/{uuid.uuid4().hex}=", mailbox=mailbox, key=key)
        if request.headers.get("Content-Type") == "text/plain":
            draft.mime = self._mime(request.body)
        else:
            draft.message = self._json(request, "messages")
            draft.files = list(accepted_from_json(draft.message, key, mailbox).files)
        self.drafts[draft.id] = draft
        return 201, draft.shown(), {}

    def _list(self, request: Request, mailbox: str, *, drafts: bool) -> tuple[int, Any, dict[str, str]]:
        found = [d for d in self.drafts.values() if d.mailbox == mailbox and (d.is_draft or not drafts)]
        wanted = request.query.get("$filter")
        if wanted is not None:
            match = re.fullmatch(
                r"singleValueExtendedProperties/Any\(ep: ep/id eq '([^']+)' and ep/value eq '([^']+)'\)", wanted
            )
            if match is None:
                raise Refused(400, graph_error("ErrorInvalidUrlQueryFilter", "The query filter is not valid."))
            found = [d for d in found if d.properties.get(match[1]) == match[2]]
        return 200, {"value": [d.shown() for d in found[: int(request.query.get("$top", 10))]]}, {}

    def _message(self, request: Request, draft: Draft, rest: list[str]) -> tuple[int, Any, dict[str, str]]:
        match request.method, rest:
            case "GET", []:
                return 200, draft.shown(), {}
            case "GET", ["$value"]:
                return self._as_kept(request, draft)
            case "GET", ["attachments"]:
                return 200, {"value": [{"id": str(n), "name": f.name} for n, f in enumerate(draft.files)]}, {}
            case "DELETE", []:
                del self.drafts[draft.id]
                return 204, None, {}
        if request.method == "POST" and not draft.is_draft:
            raise Refused(404, graph_error("ErrorItemNotFound", "The specified object was not found."))
        match request.method, rest:
            case "POST", ["send"]:
                return self._send(request, draft)
            case "POST", ["attachments"]:
                return self._attach(self._json(request, "messages/{message-id}/attachments"), draft)
            case "POST", ["attachments", "createUploadSession"]:
                payload = self._json(request, "messages/{message-id}/attachments/createUploadSession")
                return self._begin(payload["AttachmentItem"], draft)
        raise Refused(405, self.error(405))

    def _as_kept(self, request: Request, draft: Draft) -> tuple[int, Any, dict[str, str]]:
        """https://learn.microsoft.com/en-us/graph/outlook-get-mime-message"""
        if request.headers.get("Prefer") != 'IdType="ImmutableId"':
            raise Refused(400, graph_error("ErrorInvalidIdMalformed", "Id is malformed."))
        if not draft.is_draft and self.unseen:
            self.unseen -= 1
            raise Refused(404, graph_error("ErrorItemNotFound", "The specified object was not found in the store."))
        return 200, draft.as_mime(), {"Content-Type": "text/plain"}

    def _send(self, request: Request, draft: Draft) -> tuple[int, Any, dict[str, str]]:
        if request.headers.get("Content-Length") != "0":
            raise Refused(411, graph_error("BadRequest", "Content-Length: 0 is required."))
        if draft.mime:
            mail = accepted_from_mime(draft.mime, draft.key, draft.mailbox)
        else:
            mail = accepted_from_json({**draft.message, "attachments": []}, draft.key, draft.mailbox)
            mail.files = draft.files
        mail.id = draft.id
        self._take(mail)
        draft.is_draft = False
        if draft.properties.get("Boolean 0x0E01") == "true":
            del self.drafts[draft.id]
        return 202, None, {"request-id": str(uuid.uuid4())}

    def _attach(self, payload: Mapping[str, Any], draft: Draft) -> tuple[int, Any, dict[str, str]]:
        [file] = accepted_from_json({"attachments": [payload]}, "", "").files
        draft.files.append(file)
        return 201, {"id": str(len(draft.files)), "name": file.name}, {}

    # Uploads: https://learn.microsoft.com/en-us/graph/outlook-large-attachments

    def _begin(self, item: Mapping[str, Any], draft: Draft) -> tuple[int, Any, dict[str, str]]:
        if item.get("attachmentType") != "file" or not item.get("name") or not isinstance(item.get("size"), int):
            raise Refused(400, graph_error("ErrorInvalidRequest", "attachmentType, name and size are required."))
        if item["size"] < self.min_session:
            code = "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize"
            raise Refused(400, graph_error(code, "Attachment size must be greater than the minimum size."))
        token = uuid.uuid4().hex
        self.sessions[token] = Session(draft, item)
        return (
            201,
            {"uploadUrl": f"{self.url}/upload/{token}", **self.sessions[token].told(), "@odata.context": "x"},
            {},
        )

    def _upload(self, request: Request) -> tuple[int, Any, dict[str, str]]:
        if "Authorization" in request.headers:
            raise Refused(401, graph_error("InvalidAuthenticationToken", "The URL is authorised by itself."))
        session = self.sessions.get(request.path.removeprefix("/upload/"))
        if session is None:
            raise Refused(404, graph_error("ErrorItemNotFound", "The upload session was not found."))
        if request.method == "DELETE":
            del self.sessions[request.path.removeprefix("/upload/")]
            return 204, None, {}
        if request.method == "GET":
            return 200, session.told(), {}
        if request.method != "PUT" or request.headers.get("Content-Type") != "application/octet-stream":
            raise Refused(400, graph_error("invalidRequest", "PUT application/octet-stream."))
        first = session.put(request)
        self.pieces.append((session.item["name"], first, len(request.body)))
        if not session.complete:
            return 200, session.told(), {}
        del self.sessions[request.path.removeprefix("/upload/")]
        session.draft.files.append(session.file())
        return 201, None, {"Location": f"{self.url}/attachments/{len(session.draft.files)}"}

    # Rules

    def _json(self, request: Request, schema: str) -> Any:
        if request.headers.get("Content-Type", "").partition(";")[0] != "application/json":
            raise Refused(415, graph_error("RequestBodyRead", "The content type is not supported."))
        try:
            payload = json.loads(request.body)
        except ValueError:
            raise Refused(400, graph_error("BadRequest", "Unable to read JSON request payload.")) from None
        validator = self.schemas.get(schema)
        if validator is not None and (wrong := self.check(validator, payload)):
            raise Refused(400, graph_error("RequestBodyRead", wrong))
        return payload

    def _mime(self, body: bytes) -> bytes:
        try:
            raw = base64.b64decode(body, validate=True)
        except ValueError:
            raw = b""
        if not raw:
            code = "ErrorMimeContentInvalidBase64String"
            raise Refused(400, graph_error(code, "Invalid base64 string for MIME content."))
        return raw

    def _take(self, mail: Accepted) -> None:
        if mail.sender.lower() in {sender.lower() for sender in self.unverified}:
            text = "The user account which was used to submit this request does not have the right to send mail on "
            raise Refused(403, graph_error("ErrorSendAsDenied", f"{text}behalf of the specified sending account."))
        if not mail.recipients:
            raise Refused(400, graph_error("ErrorInvalidRecipients", "A message can't be sent without recipients."))
        if len(mail.recipients) > 500:
            raise Refused(400, graph_error("ErrorInvalidRecipients", "Too many recipients."))
        for recipient in mail.recipients:
            if recipient in self.bad_recipients or not re.fullmatch(
                r"[!-?A-~]+@[A-Za-z0-9.-]+\.[A-Za-z0-9-]+", recipient
            ):
                text = f"At least one recipient is not valid., Recipient '{recipient}' is not resolved."
                raise Refused(400, graph_error("ErrorInvalidRecipients", text))
        self.accepted.append(mail)


class Session:
    """A file on its way, in order and without gaps."""

    def __init__(self, draft: Draft, item: Mapping[str, Any]) -> None:
        self.draft, self.item = draft, item
        self.content = bytearray()

    @property
    def complete(self) -> bool:
        return len(self.content) == self.item["size"]

    def told(self) -> dict[str, Any]:
        return {"expirationDateTime": "2099-01-01T00:00:00Z", "nextExpectedRanges": [f"{len(self.content)}-"]}

    def put(self, request: Request) -> int:
        """Take a piece; returns the number of its first octet."""
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", request.headers.get("Content-Range", ""))
        if match is None:
            raise Refused(400, graph_error("invalidRequest", "Content-Range is required."))
        first, last, total = (int(number) for number in match.groups())
        size = last - first + 1
        if total != self.item["size"] or size != len(request.body) or last >= total or size > 4 * 1024 * 1024:
            raise Refused(400, graph_error("invalidRange", "The byte range does not fit."))
        if first != len(self.content):
            raise Refused(416, graph_error("invalidRange", "Uploaded fragment overlaps with existing data."))
        if last + 1 < total and size % PIECE_UNIT:
            raise Refused(400, graph_error("invalidRange", "Pieces must be multiples of 320 KiB."))
        self.content += request.body
        return first

    def file(self) -> File:
        cid = self.item.get("contentId", "") if self.item.get("isInline") else ""
        return File(self.item["name"], self.item.get("contentType", ""), bytes(self.content), cid)


def graph_error(code: str, message: str) -> dict[str, Any]:
    """https://learn.microsoft.com/en-us/graph/errors"""
    inner = {"date": "2026-11-22T00:00:00", "request-id": str(uuid.uuid4()), "client-request-id": str(uuid.uuid4())}
    return {"error": {"code": code, "message": message, "innerError": inner}}


def sign_in_error(status: int, error: str, number: int, text: str) -> Refused:
    """https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes"""
    described = f"AADSTS{number}: {text}\r\nTrace ID: 0000\r\nTimestamp: 2026-11-22 00:00:00Z"
    return Refused(status, {"error": error, "error_description": described, "error_codes": [number]})
