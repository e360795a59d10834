"""The file type: exact bytes, an envelope beside them, nothing overwritten."""

import json
import os

import pytest

from providers import registry
from providers.exceptions import Misconfigured, TemporaryFailure
from providers.tests.messages import ANNA, BERT, outbound, text_only


def backend(directory):
    return registry.connect("file", {"directory": str(directory)})


def test_the_envelope_lies_beside_the_message(tmp_path):
    message = outbound(b"Subject: x\r\n\r\n\xff\x00.\r\n", [ANNA, BERT], mail_from="", smtputf8=True)
    result = backend(tmp_path / "new" / "folder").send(message)
    (eml,) = (tmp_path / "new" / "folder").glob("*.eml")
    assert eml.read_bytes() == message.raw
    envelope = json.loads(eml.with_suffix(".json").read_text())
    assert envelope.pop("written_at")
    assert envelope == {
        "message": message.message_id,
        "attempt": message.idempotency_key,
        "mail_from": "",
        "recipients": [ANNA, BERT],
        "smtputf8": True,
        "size": len(message.raw),
    }
    assert result.provider_message_id == eml.name


def test_each_attempt_has_a_file_and_a_repeated_one_has_the_same(tmp_path):
    first = outbound(text_only())
    for message in (first, first, first.for_call([BERT], "another")):
        backend(tmp_path).send(message)
    assert len(list(tmp_path.glob("*.eml"))) == 2
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".eml", ".eml", ".json", ".json"]


def test_ids_cannot_lead_out_of_the_directory(tmp_path):
    message = outbound(text_only(), key="../../etc/passwd")
    message.message_id = "/abs/../x"
    backend(tmp_path / "in").send(message)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_directory_that_is_a_file_is_a_wrong_row(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured) as caught:
        backend(tmp_path / "file").send(outbound(text_only()))
    assert caught.value.code == "not_writable"


def test_a_relative_directory_is_a_wrong_row():
    with pytest.raises(Misconfigured, match="absolute"):
        registry.connect("file", {"directory": "mail"})


def test_a_full_disk_is_temporary_and_leaves_no_half_file(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TemporaryFailure, match="No space left"):
        backend(tmp_path).send(outbound(text_only()))
    assert list(tmp_path.iterdir()) == []
