"""What every provider type promises (PRV-2, PRV-3, PRV-11, PRV-12), each on a strict stand-in of its service."""

import dataclasses
import re
import threading
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from providers import registry
from providers.base import Backend, RecipientStatus
from providers.exceptions import Misconfigured, PermanentFailure, ProviderError, TemporaryFailure
from providers.fidelity import Fidelity
from providers.tests.harness import HTTP, KEYS, TYPES, type_of
from providers.tests.messages import ANNA, BERT, CARA, DORA, PDF, PNG, letter, outbound, parse, text_only


def html_only():
    message = letter()
    message.set_content("<p>Grüße</p>\n", subtype="html")
    return message


def alternative():
    message = text_only()
    message.add_alternative("<p>Grüße</p>\n", subtype="html")
    return message


def one_attachment():
    message = text_only()
    message.add_attachment(PDF, maintype="application", subtype="pdf", filename="Rechnung März.pdf")
    return message


def many_attachments():
    message = one_attachment()
    message.add_attachment(PNG, maintype="image", subtype="png", filename="photo.png")
    message.add_attachment("größer;1\n".encode("latin-1"), maintype="text", subtype="csv", filename="latin.csv")
    return message


def inline_image():
    message = alternative()
    message.get_payload()[1].add_related(PNG, "image", "png", cid="<logo@acme>", filename="logo.png")
    return message


def nested():
    message = inline_image()
    message.make_mixed()
    message.add_attachment(PDF, maintype="application", subtype="pdf", filename="a.pdf")
    return message


def headers_only():
    return letter()


SHAPES = (
    text_only,
    html_only,
    alternative,
    one_attachment,
    many_attachments,
    inline_image,
    nested,
    headers_only,
)


def send_split(backend: Backend, message, recipients):
    """As delivery does: one call per group."""
    whole = outbound(message, recipients)
    results = {}
    for group in backend.split(whole):
        results.update(backend.send(whole.for_call(group, str(uuid.uuid4()))).recipients)
    return results


def test_every_registered_type_is_put_to_the_test():
    tested = {type_of(name) for name in TYPES}
    assert tested == set(registry._PATHS)
    assert set(registry.types()) == tested - {"memory"}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_a_message_arrives_as_it_was_written(rig, shape):
    message = shape()
    backend = rig.backend()
    result = backend.send(outbound(message))
    assert {r: one.status for r, one in result.recipients.items()} == {ANNA: RecipientStatus.DELIVERED}
    if rig.raw:
        (arrived,) = rig.raws()
        assert arrived.recipients == [ANNA]
        if backend.verdict(outbound(message)).fidelity is Fidelity.LOSSLESS:
            assert arrived.data == message.as_bytes()
        else:  # encoded anew for a 7-bit route
            assert arrived.data.isascii()
            assert dataclasses.replace(parse(arrived.data), headers=()) == dataclasses.replace(
                parse(message.as_bytes()), headers=()
            )
        return
    assert rig.service.refusals == []
    (mail,) = rig.mails()
    assert mail.recipients == [ANNA]
    assert mail.sender == "shop@acme.test"
    assert mail.subject == "Your order"
    content = outbound(message).content
    if content.text:
        assert mail.text == content.text
    else:
        assert not mail.text
    if content.html is not None:
        assert mail.html == content.html
    assert sorted(file.content for file in mail.files) == sorted(part.content for part in content.attachments)
    named = {attachment.filename for attachment in content.attachments}
    assert named <= {file.name for file in mail.files} | {"logo.png"}


def test_an_inline_image_is_referred_to_by_its_content_id_or_the_loss_is_named(structured_rig):
    backend, message = structured_rig.backend(), outbound(inline_image())
    backend.send(message)
    (mail,) = structured_rig.mails()
    kept = [file.cid for file in mail.files] == ["logo@acme"]
    assert kept == (structured_rig.type not in {"brevo", "postal", "scaleway"})
    assert kept != any("inline part" in entry for entry in backend.verdict(message).lost)


def test_custom_headers_arrive_or_the_loss_is_named(structured_rig):
    backend = structured_rig.backend()
    message = outbound(text_only(Bcc=CARA, In_Reply_To="<q@globex.test>", X_Note="größer"))
    lost = backend.verdict(message).lost
    backend.send(message)
    (mail,) = structured_rig.mails()
    arrived = {name.lower() for name in mail.headers} | ({"in-reply-to"} if "in_reply_to" in mail.payload else set())
    for name in ("Message-ID", "X-Order", "In-Reply-To", "X-Note"):
        assert (name.lower() in arrived) != (f"header {name}" in lost), name
    assert "bcc" not in arrived
    assert CARA not in str(mail.payload)


def test_blind_copies_are_reached_and_shown_to_nobody(rig):
    recipients = [ANNA, BERT, CARA, DORA]
    results = send_split(rig.backend(), text_only(Cc=f"Bert <{BERT}>"), recipients)
    assert set(results) == set(recipients)
    assert sorted(rig.reached()) == sorted(recipients)
    if not rig.raw:
        for mail in rig.mails():
            assert CARA not in mail.to + mail.cc or mail.recipients == [CARA]
            assert DORA not in mail.to + mail.cc or mail.recipients == [DORA]


def test_blind_copies_alone_do_not_see_each_other(rig):
    recipients = [BERT, CARA, DORA]
    results = send_split(rig.backend(), text_only(), recipients)
    assert {one.status for one in results.values()} == {RecipientStatus.DELIVERED}
    assert sorted(rig.reached()) == sorted(recipients)
    if not rig.raw:
        assert all(len(mail.to + mail.cc) <= 1 for mail in rig.mails())


def test_a_header_address_outside_the_envelope_is_not_mailed(rig):
    send_split(rig.backend(), text_only(To=f"{ANNA}, {BERT}", Cc=CARA), [ANNA])
    assert rig.reached() == [ANNA]


def test_an_address_in_two_headers_gets_one_copy(service_rig):
    send_split(service_rig.backend(), text_only(To=f"{ANNA}, ANNA@Globex.test", Cc=ANNA), [ANNA])
    assert service_rig.reached() == [ANNA]
    assert service_rig.service.refusals == []


def test_more_recipients_than_one_call_takes_are_split(rig):
    backend = rig.backend()
    recipients = [f"r{number}@globex.test" for number in range(backend.max_recipients + 5)]
    message = text_only(To=", ".join(recipients[:-3]))
    groups = backend.split(outbound(message, recipients))
    assert max(len(group) for group in groups) <= backend.max_recipients
    results = send_split(backend, message, recipients)
    assert set(results) == set(recipients)
    assert sorted(rig.reached()) == sorted(recipients)
    if not rig.raw:
        assert rig.service.refusals == []


def test_results_are_spelt_as_the_recipients_were_given(rig):
    spelt = ["Anna@Globex.test", BERT]
    results = send_split(rig.backend(), text_only(Cc=BERT), spelt)
    assert list(results) == spelt


def test_a_delivered_recipient_has_the_id_the_service_gave(service_rig):
    result = service_rig.backend().send(outbound(text_only(Cc=BERT), [ANNA, BERT]))
    ids = {one.provider_message_id for one in result.recipients.values()}
    assert service_rig.mails()[0].id in ids
    assert result.provider_message_id in ids


def test_many_messages_use_one_connection(service_rig):
    backend = service_rig.backend()
    for _ in range(5):
        backend.send(outbound(text_only()))
    assert (len(service_rig.mails()), service_rig.service.connections) == (5, 1)


def test_threads_share_a_backend_and_its_connections(rig):
    backend, sent = rig.backend(), threading.Barrier(4)

    def work(number):
        sent.wait(5)
        for step in range(5):
            backend.send(outbound(text_only(Subject=f"Message {number}-{step}")))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(rig.reached()) == 20
    if rig.service:
        assert rig.service.connections <= 4


def test_two_rows_of_a_type_use_their_own_credentials(rig):
    first, second = rig.backend(KEYS[0]), rig.backend(KEYS[1])
    for backend in (first, second, first):
        backend.send(outbound(text_only()))
    if rig.type == "stdout":
        return
    keys = [mail.key for mail in (rig.raws() if rig.raw else rig.mails())]
    assert sorted(keys) == sorted([KEYS[0], KEYS[1], KEYS[0]])


def test_a_backend_works_again_after_close(rig):
    backend = rig.backend()
    backend.send(outbound(text_only()))
    backend.close()
    backend.send(outbound(text_only()))
    assert rig.reached() == [ANNA, ANNA]


def test_a_wrong_key_is_the_rows_fault_and_appears_nowhere(network_rig):
    wrong = "wrong-key-" + "x" * 20
    config = network_rig.config()
    backend = registry.connect(
        network_rig.type, {name: wrong if value == KEYS[0] else value for name, value in config.items()}, 5
    )
    with pytest.raises(Misconfigured) as caught:
        backend.send(outbound(text_only()))
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caught.value.text + repr(backend)
    assert wrong not in told
    assert caught.value.code == "bad_credentials"
    assert network_rig.reached() == []


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (429, TemporaryFailure, "throttled"),
        (500, TemporaryFailure, "server_error"),
        (502, TemporaryFailure, "server_error"),
        (503, TemporaryFailure, "server_error"),
        (400, PermanentFailure, "bad_request"),
        (413, PermanentFailure, "too_large"),
        (302, Misconfigured, "wrong_url"),
        (404, Misconfigured, "wrong_url"),
    ],
)
def test_error_answers_without_a_known_body_go_by_their_status(service_rig, status, kind, code):
    service_rig.service.fail_next(status, b"<html>proxy says no</html>", {"Content-Type": "text/html"})
    with pytest.raises(kind) as caught:
        service_rig.backend().send(outbound(text_only()))
    assert (caught.value.code, caught.value.status_code) == (code, status)
    assert "<html>" not in caught.value.text
    assert service_rig.mails() == []


def test_throttling_names_the_time_the_service_named(service_rig):
    service_rig.service.fail_next(429, headers={"Retry-After": "17"})
    with pytest.raises(TemporaryFailure) as caught:
        service_rig.backend().send(outbound(text_only()))
    assert caught.value.retry_after == 17


def test_an_answer_that_never_comes_leaves_the_outcome_unknown(service_rig):
    service_rig.service.hang_next(0.6, take=True)
    with pytest.raises(TemporaryFailure) as caught:
        service_rig.backend(timeout=0.2).send(outbound(text_only()))
    assert (caught.value.code, caught.value.outcome_unknown) == ("timeout", True)


def test_a_connection_cut_after_the_request_leaves_the_outcome_unknown(service_rig):
    service_rig.service.reset_next(take=True)
    with pytest.raises(TemporaryFailure) as caught:
        service_rig.backend().send(outbound(text_only()))
    assert (caught.value.code, caught.value.outcome_unknown) == ("connection_lost", True)
    assert service_rig.service.requests == 1


def test_a_200_that_is_not_the_services_is_not_called_delivered(service_rig):
    backend = service_rig.backend()
    page, *others = (b"<html>Welcome to the hotel</html>", b"", b"{}", b"[]", b"null", b"3")
    # Graph says nothing but 2xx when it takes a message (PRV-6).
    for body in (page, *(() if service_rig.type == "msgraph" else others)):
        service_rig.service.fail_next(
            200, body, {"Content-Type": "text/html" if body[:1] == b"<" else "application/json"}
        )
        with pytest.raises(TemporaryFailure) as caught:
            backend.send(outbound(text_only()))
        assert (caught.value.code, caught.value.outcome_unknown) == ("bad_answer", True), body


def test_connections_closed_between_messages_are_replaced_without_a_failure(network_rig):
    backend = network_rig.backend()
    backend.send(outbound(text_only()))
    network_rig.service.close_idle()
    threading.Event().wait(0.05)  # until the end has arrived here
    backend.send(outbound(text_only()))
    assert network_rig.reached() == [ANNA, ANNA]
    assert network_rig.service.connections == 2


def test_nothing_listening_is_temporary_and_certain(network_rig):
    config = network_rig.config()
    network_rig.service.__exit__()
    backend = registry.connect(network_rig.type, config, 2)
    with pytest.raises(TemporaryFailure) as caught:
        backend.send(outbound(text_only()))
    assert (caught.value.code, caught.value.outcome_unknown) == ("connection_failed", False)


def test_an_idempotency_key_is_recognised_where_a_type_says_so(idempotent_rig):
    backend, message = idempotent_rig.backend(), outbound(text_only())
    first, again = backend.send(message), backend.send(message)
    assert idempotent_rig.reached() == [ANNA]
    assert again.provider_message_id == first.provider_message_id


def test_what_cannot_be_written_is_said_without_sending(service_rig):
    message = outbound(text_only(To="jörg@globex.test"), ["jörg@globex.test"], smtputf8=True)
    backend = service_rig.backend()
    if service_rig.type == "mailjet":
        backend.send(message)
        assert service_rig.reached() == ["jörg@globex.test"]
        return
    backend.verdict(message)  # says nothing, and does not raise
    with pytest.raises(PermanentFailure) as caught:
        backend.send(message)
    assert caught.value.code == "smtputf8_required"
    assert service_rig.service.requests == 0


def test_internationalised_domains_are_written_in_ascii(service_rig):
    recipient = "anna@bücher.example"
    results = send_split(service_rig.backend(), text_only(To=f"Anna <{recipient}>"), [recipient])
    assert list(results) == [recipient]
    assert service_rig.reached() == ["anna@xn--bcher-kva.example"]


def test_settings_are_checked_field_by_field(rig):
    cls = registry.backend_class(rig.type)
    with pytest.raises(Misconfigured) as caught:
        cls({"nonsense": 1})
    assert "nonsense: unknown setting" in caught.value.text
    for field in cls.config_fields:
        if field.required:
            assert f"{field.name}: required" in caught.value.text


def test_credentials_are_secret_fields_and_every_service_takes_another_address():
    for type_ in registry.types():
        fields = {field.name: field for field in registry.backend_class(type_).config_fields}
        for name, field in fields.items():
            assert (field.kind == "secret") == bool(re.search(r"key|token|secret|password", name)), (type_, name)
        if type_ in {type_of(name) for name in HTTP}:
            default = fields["base_url"].default
            # The address of Amazon depends on the region, and Postal is wherever people run it.
            assert default.startswith("https://") if default else type_ in {"ses", "postal"}
        elif type_ == "smtp":
            assert {"host", "port"} <= set(fields)


def test_only_development_types_are_sandboxes():
    sandboxes = {type_of(name) for name in TYPES if registry.backend_class(type_of(name)).sandbox}
    assert sandboxes == {"file", "stdout", "memory"}


def test_what_takes_messages_as_they_are_says_so_and_calls_them_lossless(rig):
    backend = rig.backend()
    assert backend.takes_raw == rig.raw
    message = letter()
    message.set_content("hi\n")
    as_it_is = rig.raw or rig.name == "msgraph"  # where header and envelope agree, as here
    assert (backend.verdict(outbound(message)).fidelity is Fidelity.LOSSLESS) == as_it_is


def test_an_unknown_type_is_a_wrong_row():
    with pytest.raises(Misconfigured, match="carrier-pigeon"):
        registry.connect("carrier-pigeon", {})


def test_narrowing_a_message_keeps_what_was_parsed():
    message = outbound(text_only(), [ANNA, BERT])
    content = message.content
    narrowed = message.for_call([BERT], "key-2")
    assert (narrowed.recipients, narrowed.idempotency_key) == ((BERT,), "key-2")
    assert narrowed.content is content
    assert message.recipients == (ANNA, BERT)
    assert {f.name for f in dataclasses.fields(narrowed)} == {f.name for f in dataclasses.fields(message)}


def test_failures_show_their_text_and_nothing_else():
    failure = TemporaryFailure("try later", code="throttled", status_code=429, retry_after=3)
    assert isinstance(failure, ProviderError)
    assert (str(failure), failure.retry_after, failure.outcome_unknown) == ("try later", 3, False)
