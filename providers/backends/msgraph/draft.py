"""Sending by draft: a message that is known by its id can be asked about, and is sent once (PRV-6, DEL-5).

What was done is saved before anything that must not be done twice. `step` says how far it came:

- `creating`: a draft may be there whose id is not known; it is looked for by the mark it carries.
- `filling`: `draft` is its id, `files` what is attached so far. Nothing has been sent.
- `sending`: the order to send may have been given; the draft is asked whether it was.

https://learn.microsoft.com/en-us/graph/outlook-immutable-id
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from providers.backends.msgraph import errors
from providers.backends.msgraph.api import Api, nothing_sent, unreadable
from providers.backends.msgraph.letters import MARK, attached
from providers.backends.msgraph.upload import SMALL, Upload
from providers.base import Attachment
from providers.exceptions import TemporaryFailure
from providers.http import Answer
from providers.progress import Progress


class Draft:
    """One message on its way through one mailbox. `create` is the body of the request that makes the draft and its
    content type; `files` are what is attached to it one by one: all of the message's attachments, or none."""

    def __init__(
        self,
        api: Api,
        mailbox: str,
        progress: Progress,
        key: str,
        *,
        create: tuple[bytes, str],
        files: Sequence[Attachment],
        seconds: float,
    ) -> None:
        """`seconds` bounds the uploads of this call; what is left goes on in the next."""
        self._api, self._progress, self._key = api, progress, key
        self._create, self._files = create, files
        self._until = time.monotonic() + seconds
        self._state: dict[str, Any] = dict(progress.state)
        self._mailbox: str = self._state.get("mailbox") or mailbox
        self._unseen = False

    def send(self) -> tuple[str, Answer | None]:
        """Send the message once, whatever was done for it before; returns the id of the draft, and Graph's answer,
        None when it had been sent earlier. Raises ProviderError."""
        if self._state.get("step") == "sending":
            if self._was_sent():
                return self._state["draft"], None
        else:
            self._prepare()
            self._save(step="sending")
        return self._state["draft"], self._send()

    def _prepare(self) -> None:
        kept = [entry["facts"] for entry in self._state.get("files", ())]
        if self._state.get("draft") and kept != [_facts(file) for file in self._files]:
            self._start_afresh()  # the row's settings, or the message's form, have changed meanwhile
        for _ in range(2):
            try:
                self._made()
                self._fill()
            except _Gone:
                # Somebody has taken it away, or nobody can say what is attached. It was never sent.
                self._start_afresh()
            else:
                return
        raise TemporaryFailure("The draft is taken away again and again.", code="draft_gone")

    def _start_afresh(self) -> None:
        take_away(self._api, self._state)
        self._state = {}

    def _made(self) -> None:
        """There is a draft whose id is kept."""
        if self._state.get("step") == "creating":
            found = find(self._api, self._mailbox, self._key)
            if found:
                self._save(step="filling", draft=found)
        if self._state.get("draft"):
            return
        files = [{"facts": _facts(file), "status": "waiting"} for file in self._files]
        self._save(step="creating", mailbox=self._mailbox, key=self._key, files=files)
        with nothing_sent():
            answer = self._api.call("POST", self._mailbox, "messages", *self._create)
        told = self._api.expect(answer).json()
        id_ = told.get("id") if isinstance(told, Mapping) else None
        if not isinstance(id_, str) or not id_ or not id_.isascii():
            raise unreadable(answer)
        self._save(step="filling", draft=id_)

    # Files

    def _fill(self) -> None:
        for number, file in enumerate(self._files):
            entry = self._state["files"][number]
            if entry["status"] == "done":
                continue
            if entry["status"] == "uploading" or len(file.content) >= SMALL:
                self._upload(number, file)
            elif entry["status"] == "waiting" or not self._attached(number):
                self._attach(number, file)
            self._note(number, status="done", session="")

    def _attach(self, number: int, file: Attachment) -> None:
        self._note(number, status="attaching")
        answer = self._api.ask("POST", self._mailbox, f"{self._path}/attachments", attached(file))
        if answer.status == 413:  # where the limit is a little lower than ours
            self._upload(number, file)
        else:
            self._expect(answer)

    def _upload(self, number: int, file: Attachment) -> None:
        Upload(
            self._api,
            self._mailbox,
            self._path,
            file,
            until=self._until,
            note=lambda **changes: self._note(number, **changes),
            landed=lambda: self._attached(number),
        ).run(self._state["files"][number], self._expect)

    def _attached(self, number: int) -> bool:
        """Whether a file is there whose answer was lost. They are attached one after the other, so that it is when
        more of its name are there than are noted as done."""
        answer = self._api.ask("GET", self._mailbox, f"{self._path}/attachments?$select=id,name")
        told = answer.json()
        listed = told.get("value") if isinstance(told, Mapping) else None
        if not 200 <= answer.status < 300 or not isinstance(listed, list):
            if answer.status < 300 or answer.status in {400, 404, 405, 410, 501}:
                raise _Gone
            raise self._api.failure(answer)
        name = self._files[number].filename
        there = sum(1 for one in listed if isinstance(one, Mapping) and one.get("name") == name)
        noted = sum(1 for entry in self._state["files"] if entry["status"] == "done" and entry["facts"][0] == name)
        return there > noted

    # Sending

    def _send(self) -> Answer | None:
        answer = self._api.call("POST", self._mailbox, f"{self._path}/send", b"")
        if 200 <= answer.status < 300:
            return answer
        if answer.status == 404 and self._unseen:
            return None
        if not_found(answer):
            # Seen a moment ago, or filled by us, and never sent: somebody has deleted it.
            self._save(step="", draft="", files=[])
            raise TemporaryFailure("The draft was taken away before it was sent.", code="draft_gone", status_code=404)
        raise self._api.failure(answer)

    def _was_sent(self) -> bool:
        """Whether the draft that was to be sent is none any more: it lies in Sent Items, or is gone."""
        answer = self._api.ask("GET", self._mailbox, f"{self._path}?$select=id,isDraft")
        if not_found(answer):
            return True
        told = answer.json()
        if 200 <= answer.status < 300 and isinstance(told, Mapping) and isinstance(told.get("isDraft"), bool):
            return not told["isDraft"]
        if answer.status in {404, 405, 501} or 200 <= answer.status < 300:
            # It does not say. To order it again does no harm: what was sent is not there to be sent.
            self._unseen = True
            return False
        raise self._api.failure(answer)

    # State

    @property
    def _path(self) -> str:
        return f"messages/{quote(self._state['draft'], safe='')}"

    def _note(self, number: int, **changes: Any) -> None:
        files = [dict(entry) for entry in self._state["files"]]
        files[number] |= changes
        self._save(files=files)

    def _save(self, **changes: Any) -> None:
        state = {**self._state, **changes}
        self._progress.save(state)
        self._state = state

    def _expect(self, answer: Answer) -> Answer:
        if not_found(answer):
            raise _Gone
        return self._api.expect(answer)


class _Gone(Exception):
    """The draft is not there any more, or what it holds cannot be told."""


def find(api: Api, mailbox: str, key: str) -> str:
    """The id of a draft made with this mark and never noted, "" when there is none or Graph cannot look for it.

    https://learn.microsoft.com/en-us/graph/api/singlevaluelegacyextendedproperty-get
    """
    condition = f"singleValueExtendedProperties/Any(ep: ep/id eq '{MARK}' and ep/value eq '{key}')"
    # In Drafts only: one that was deleted lies in another folder, with its attachments.
    path = f"mailFolders/drafts/messages?$filter={quote(condition)}&$select=id,isDraft"
    answer = api.ask("GET", mailbox, path)
    if answer.status == 429 or answer.status >= 500:
        raise api.failure(answer)
    told = answer.json()
    found = told.get("value") if 200 <= answer.status < 300 and isinstance(told, Mapping) else None
    for one in found if isinstance(found, list) else ():
        if isinstance(one, Mapping) and one.get("isDraft") is True and isinstance(one.get("id"), str):
            return str(one["id"])
    return ""


def take_away(api: Api, state: Mapping[str, Any]) -> None:
    """Delete the draft of an unfinished send, unless it was sent; what cannot be deleted stays in Drafts.

    Raises ProviderError when there was no answer.
    """
    mailbox, draft = state.get("mailbox"), state.get("draft")
    if not mailbox:
        return
    if not draft and state.get("step") == "creating":
        draft = find(api, mailbox, str(state.get("key", "")))
    if not draft:
        return
    path = f"messages/{quote(draft, safe='')}"
    if state.get("step") == "sending":
        told = api.ask("GET", mailbox, f"{path}?$select=id,isDraft").json()
        if not isinstance(told, Mapping) or told.get("isDraft") is not True:
            return
    answer = api.ask("DELETE", mailbox, path)
    if answer.status == 429 or answer.status >= 500:
        raise api.failure(answer)


def _facts(file: Attachment) -> list[Any]:
    return [file.filename, len(file.content)]


def not_found(answer: Answer) -> bool:
    return answer.status == 404 and any(code in errors.NOT_FOUND for code in errors.codes(answer))
