"""Large attachments, uploaded in pieces that survive the worker (PRV-6).

https://learn.microsoft.com/en-us/graph/outlook-large-attachments
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from providers.backends.msgraph.api import Api, unreadable
from providers.base import Attachment
from providers.exceptions import TemporaryFailure, Unfinished
from providers.http import Answer

SMALL = 3 * 1024 * 1024
"""Octets from which a file needs an upload session; below, one is refused."""
PIECE = 12 * 320 * 1024
"""Octets of one request: below 4 MB, and a multiple of 320 KiB."""
MAX_SESSIONS = 3
"""Sessions begun for one file in one call, before it is left for later."""
MAX_STUCK = 5
"""Pieces of one call of which the service keeps nothing, before the rest is left for later."""
_START = re.compile(r"\s*([0-9]{1,12})")


class Upload:
    """One file. `entry` is what is kept of it: `session` is the address, `bytes` what the service had at last."""

    def __init__(
        self,
        api: Api,
        mailbox: str,
        draft_path: str,
        file: Attachment,
        *,
        until: float,
        note: Callable[..., None],
        landed: Callable[[], bool],
    ) -> None:
        """`until` is a time of the monotonic clock, `note` keeps changes of the entry, and `landed` tells whether the
        file is attached, once its session is gone."""
        self._api, self._mailbox, self._draft_path, self._file = api, mailbox, draft_path, file
        self._until, self._note, self._landed = until, note, landed
        self._size = len(file.content)

    def run(self, entry: Mapping[str, Any], expect: Callable[[Answer], Answer]) -> None:
        """Until the service has the file. Raises ProviderError, sure that nothing was sent."""
        session, place = str(entry.get("session") or ""), int(entry.get("bytes") or 0)
        known: int | None = self._resume(session, place) if session else None
        for _ in range(MAX_SESSIONS):
            if known is None:
                if session and self._landed():
                    return
                session, known = self._begin(expect), 0
            known = self._put_all(session, known)
            if known == self._size:
                return
            known = None
        raise TemporaryFailure("The upload session is lost again and again.", code="session_lost")

    def _begin(self, expect: Callable[[Answer], Answer]) -> str:
        file = self._file
        item: dict[str, Any] = {
            "attachmentType": "file",
            "name": file.filename,
            "size": self._size,
            "contentType": file.content_type,
        }
        if file.inline:
            item |= {"isInline": True, "contentId": file.content_id}
        path = f"{self._draft_path}/attachments/createUploadSession"
        answer = expect(self._api.ask("POST", self._mailbox, path, {"AttachmentItem": item}))
        told = answer.json()
        url = told.get("uploadUrl") if isinstance(told, Mapping) else None
        if not isinstance(url, str) or "://" not in url or not url.isascii():
            raise unreadable(answer)
        self._note(status="uploading", session=url, bytes=0)
        return url

    def _resume(self, session: str, place: int) -> int | None:
        """Where the service wants the file to go on; None when the session is gone, the whole size when it has all."""
        answer = self._api.upload("GET", self._mailbox, session, None, {"Accept": "application/json"})
        if answer.status in {405, 501}:
            return place  # it does not tell; what is kept is not more than it has
        return self._next(answer)

    def _put_all(self, session: str, place: int) -> int | None:
        """Put the pieces from `place` on; None when the session was lost on the way."""
        stuck = 0
        while place < self._size:
            if time.monotonic() > self._until:
                raise Unfinished("The upload goes on in the next attempt.", code="continues")
            piece = self._file.content[place : place + PIECE]
            end = place + len(piece)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Range": f"bytes {place}-{end - 1}/{self._size}",
            }
            answer = self._api.upload("PUT", self._mailbox, session, piece, headers)
            if answer.status in {409, 416}:  # it has another part of the file than we thought
                told = self._resume(session, place)
                if told is None or told == place:
                    return None
                place = told
            else:
                told = self._next(answer, end)
                if told is None:
                    return None
                place = told
            stuck += place <= end - len(piece)
            if stuck == MAX_STUCK:
                raise TemporaryFailure("The upload does not get on.", code="upload_stuck")
            self._note(bytes=place)
        return place

    def _next(self, answer: Answer, end: int | None = None) -> int | None:
        """The place that an answer of the session names; `end` is that of a piece it has just been given."""
        if 200 <= answer.status < 300:
            told = answer.json()
            ranges = told.get("nextExpectedRanges") if isinstance(told, Mapping) else None
            if isinstance(ranges, list) and ranges and (start := _START.match(str(ranges[0]))):
                return min(int(start[1]), self._size)
            if answer.status == 201 or (isinstance(ranges, list) and not ranges):
                return self._size
            if end is not None:
                return end
            raise unreadable(answer)
        if answer.status == 429 or answer.status >= 500:
            self._api.expect(answer)
        # Its authorisation, which is part of its address, has ended with it; or it is done.
        return None
