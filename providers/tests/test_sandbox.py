"""The stdout and memory types."""

import pytest

from providers import registry
from providers.backends.memory import MemoryBackend
from providers.base import RecipientResult, RecipientStatus
from providers.exceptions import Misconfigured, TemporaryFailure
from providers.fidelity import Verdict
from providers.tests.messages import ANNA, BERT, outbound, text_only


@pytest.fixture(autouse=True)
def _empty_boxes():
    MemoryBackend.reset()
    yield
    MemoryBackend.reset()


def test_stdout_is_refused_outside_debug_unless_told_so(settings):
    settings.DEBUG, settings.STDOUT_PROVIDER_ALLOWED = False, False
    with pytest.raises(Misconfigured) as caught:
        registry.connect("stdout", {})
    assert caught.value.code == "not_allowed"
    settings.STDOUT_PROVIDER_ALLOWED = True
    registry.connect("stdout", {})
    settings.DEBUG, settings.STDOUT_PROVIDER_ALLOWED = True, False
    registry.connect("stdout", {})


def test_stdout_prints_envelope_and_message(settings, capsys):
    settings.DEBUG = True
    registry.connect("stdout", {}).send(outbound(text_only(), [ANNA, BERT]))
    printed = capsys.readouterr().out
    assert f"MAIL FROM:<shop@acme.test>\nRCPT TO:<{ANNA}>\nRCPT TO:<{BERT}>\n\nFrom: Acme Shop" in printed
    assert "Grüße" in printed


def test_memory_fails_and_refuses_as_it_is_told():
    box, backend = MemoryBackend.box("a"), registry.connect("memory", {"box": "a"})
    refusal = RecipientResult(RecipientStatus.FAILED, code="550", text="no such user")
    box.answers += [TemporaryFailure("later", code="throttled"), {BERT: refusal}]
    box.verdict = Verdict.mapped(("signature",), broken=True)
    message = outbound(text_only(), [ANNA, BERT])
    with pytest.raises(TemporaryFailure, match="later"):
        backend.send(message)
    result = backend.send(message)
    assert result.recipients[BERT] == refusal
    assert result.recipients[ANNA].status is RecipientStatus.DELIVERED
    assert backend.send(message).recipients[BERT].status is RecipientStatus.DELIVERED
    assert backend.verdict(message).lost == ("signature",)
    assert box.recipients() == [ANNA, BERT, ANNA, BERT]
    assert MemoryBackend.box("b").accepted == []
