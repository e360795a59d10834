"""Messages for the tests of the MIME room, and where the corpus of real mail lies."""

from pathlib import Path

import pytest

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpora"
FILES = sorted(CORPUS.glob("*.eml"))

needs_corpus = pytest.mark.skipif(not FILES, reason="the corpus of real mail (../shared/corpora) is not there")


def crlf(text: str | bytes) -> bytes:
    """A message written with plain newlines, as SMTP carries it."""
    data = text.encode() if isinstance(text, str) else text
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def leaf(content_type: str, body: str | bytes = "body", *headers: str) -> bytes:
    """A part with a Content-Type and further header lines."""
    head = "\n".join([f"Content-Type: {content_type}", *headers])
    return crlf(head) + b"\r\n\r\n" + (body.encode() if isinstance(body, str) else body)


def multipart(subtype: str, *parts: bytes, boundary: str = "outer", extra: str = "") -> bytes:
    """A multipart with its own Content-Type header, to be used as part or after other headers."""
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"{extra}\r\n\r\n'.encode()
    line = b"--" + boundary.encode()
    return head + b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"


def message(part: bytes, *headers: str) -> bytes:
    """A whole message around a part."""
    head = ["From: a@acme.example", "To: b@globex.example", "Subject: s", "MIME-Version: 1.0", *headers]
    return crlf("\n".join(head)) + b"\r\n" + part
