"""What services tell by webhook: believed only when it is the row's own service, and understood. EVT-1."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest

from providers.tests import webhook_services
from providers.tests.webhook_payloads import WHEN
from providers.tests.webhook_services import SERVICES, URL, Mailgun, Mandrill, Resend, SendGrid, as_request
from providers.webhooks import registry
from providers.webhooks.contract import ProviderEvent, Told, WebhookRefused

TYPES = tuple(SERVICES)
JANE = "Jane@outside.example"
MEANING = {
    "confirmed": (Told.CONFIRMED, False),
    "deferred": (Told.DEFERRED, False),
    "bounced": (Told.BOUNCED, True),
    "soft": (Told.BOUNCED, False),
    "complained": (Told.COMPLAINED, False),
    "failed": (Told.FAILED, False),
    "opened": (Told.OPENED, False),
    "clicked": (Told.CLICKED, False),
    "unsubscribed": (Told.UNSUBSCRIBED, True),
}
LEAST = {"confirmed", "bounced", "opened", "clicked"}


@pytest.fixture(autouse=True)
def _amazon(tmp_path):
    with webhook_services.amazon(tmp_path) as service, webhook_services.reaching(service):
        yield service


def receiver(service):
    return registry.receiver(service.type, service.config)


def refusal(service, request):
    with pytest.raises(WebhookRefused) as refused:
        receiver(service).receive(request)
    return refused.value.status


def answer(service, headers, body, *, text=False):
    """What is told, or the status of the refusal (with `text`: its words)."""
    try:
        told = receiver(service).receive(as_request(headers, body))
    except WebhookRefused as refused:
        return refused.text if text else refused.status
    return repr(told) if text else told


def test_every_type_that_has_webhooks_is_tested():
    assert set(TYPES) == set(registry.types())


@pytest.mark.parametrize("type_", TYPES)
def test_what_a_service_documents_is_understood(type_):
    service = SERVICES[type_]()
    assert set(service.kinds()) >= LEAST
    for kind in service.kinds():
        [event] = receiver(service).receive(service.request(service.event(kind, to=JANE)))
        assert (event.type, event.hard) == MEANING[kind], kind
        assert service.id in event.ids
        assert event.recipient == ("" if type_ == "resend" else JANE)
        assert event.event_id
        if not (type_ == "ses" and kind == "failed"):  # a Reject has no moment of its own
            assert event.occurred_at == WHEN, kind
        if kind in {"bounced", "soft", "failed"}:
            assert event.text, kind
        assert (event.url != "") == (kind == "clicked")
        assert ProviderEvent.from_json(json.loads(json.dumps(event.as_json()))) == event


@pytest.mark.parametrize("type_", TYPES)
def test_what_changes_nothing_for_a_recipient_is_left_out(type_):
    service = SERVICES[type_]()
    try:
        event = service.event("ignored")
    except KeyError:
        return
    assert receiver(service).receive(service.request(event)) == []


@pytest.mark.parametrize("type_", TYPES)
def test_the_same_told_again_has_the_same_id_and_another_event_another(type_):
    service = SERVICES[type_]()

    def id_of(event):
        return receiver(service).receive(service.request(event))[0].event_id

    ids = [id_of(service.event("bounced", to=JANE)) for _ in range(2)]
    assert ids[0] == ids[1]
    others = {id_of(service.event("confirmed", to=JANE)), id_of(service.event("opened", to=JANE, number=2))}
    assert len(others | set(ids)) == 3


@pytest.mark.parametrize("type_", TYPES)
def test_another_rows_secret_opens_nothing(type_):
    """acme's webhook, called with what globex's service signs."""
    acme, globex = SERVICES[type_](), SERVICES[type_]()
    assert refusal(acme, globex.request(globex.event("bounced"))) == 403


@pytest.mark.parametrize("type_", TYPES)
def test_a_row_without_its_secret_refuses_everything(type_):
    service = SERVICES[type_]()
    empty = registry.receiver(type_, {})
    assert empty.missing()
    with pytest.raises(WebhookRefused) as refused:
        empty.receive(service.request(service.event("bounced")))
    assert refused.value.status == 403


@pytest.mark.parametrize("type_", TYPES)
def test_without_a_proof_nothing_is_taken(type_):
    service = SERVICES[type_]()
    [(_, body)] = service.call([service.event("bounced")])
    if type_ in {"ses", "mailgun"}:  # they prove themselves in the body
        told = json.loads(body)
        told = {**told, "Signature": "AAAA"} if type_ == "ses" else {**told, "signature": {}}
        body = json.dumps(told).encode()
    assert refusal(service, as_request({"Content-Type": "application/json"}, body)) == 403


@pytest.mark.parametrize("type_", [t for t in TYPES if t not in {"postmark", "sparkpost", "brevo", "mailjet"}])
def test_a_word_changed_on_the_way_breaks_the_signature(type_):
    service = SERVICES[type_]()
    [(headers, body)] = service.call([service.event("bounced", to="jane@outside.example")])
    changed = body.replace(b"jane", b"joan")
    assert changed != body
    if type_ == "mailgun":  # its signature is not of the content: see the token
        receiver(service).receive(as_request(headers, body))
    assert refusal(service, as_request(headers, changed)) == 403


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize(
    "payload", ["not json", [], {}, None, 7, {"events": 7}, [None], [[]], [{"event": []}], {"Type": 1}]
)
def test_what_nobody_understands_is_malformed_and_never_our_fault(type_, payload):
    service = SERVICES[type_]()
    try:
        [(headers, body)] = service.call([payload]) if not service.batched else [service.signed(payload, URL, _now())]
    except TypeError:
        return
    assert answer(service, headers, body) in ([], 400, 403)


@pytest.mark.parametrize("type_", [t for t in TYPES if SERVICES[t].batched])
def test_an_event_nobody_understands_costs_its_neighbours_nothing(type_):
    service = SERVICES[type_]()
    batch = [service.event("bounced", to=JANE), {"event": None, "msys": 7}, service.event("opened", to=JANE)]
    told = receiver(service).receive(service.request(*batch))
    assert [event.type for event in told] == [Told.BOUNCED, Told.OPENED]


@pytest.mark.parametrize(
    ("type_", "incoming"),
    [
        ("sparkpost", {"msys": {"relay_message": {"rcpt_to": "in@acme.example", "content": {}}}}),
        ("mailtrap", {"event": "inbound", "event_id": "1", "email": "in@acme.example"}),
        ("postmark", {"RecordType": "Inbound", "MessageID": "1"}),
        ("postmark", {"MailboxHash": "", "Headers": [], "FromFull": {}}),
    ],
)
def test_mail_that_came_in_is_not_ours_to_refuse(type_, incoming):
    """EVT-1: what is refused is sent again and again, together with what stands beside it."""
    service = SERVICES[type_]()
    batch = [incoming, service.event("bounced", to=JANE)] if service.batched else [incoming]
    [(headers, body)] = service.call(batch)
    told = receiver(service).receive(as_request(headers, body))
    assert [event.type for event in told] == [Told.BOUNCED] * (len(batch) - 1)


@pytest.mark.parametrize("type_", TYPES)
def test_no_database_trips_over_what_is_told(type_):
    service = SERVICES[type_]()
    event = service.event("bounced", to="ja\x00ne\ud800@outside.example", when=WHEN)
    [told] = receiver(service).receive(service.request(event))
    if type_ not in {"resend", "postal"}:
        assert told.recipient == "jane@outside.example"
    assert told.as_json() == json.loads(json.dumps(told.as_json()).encode())


@pytest.mark.parametrize(
    ("type_", "age", "taken"),
    [
        ("sendgrid", timedelta(hours=24), True),
        ("sendgrid", timedelta(hours=26), False),
        ("sendgrid", -timedelta(hours=1), False),
        ("mailgun", timedelta(hours=8), True),
        ("mailgun", timedelta(hours=13), False),
        ("mailgun", -timedelta(hours=1), False),
        ("resend", timedelta(minutes=4), True),
        ("resend", timedelta(minutes=6), False),
        ("ses", timedelta(hours=1), True),
        ("ses", timedelta(hours=3), False),
        ("ses", -timedelta(hours=1), False),
    ],
)
def test_an_old_proof_is_none(type_, age, taken):
    service = SERVICES[type_]()
    request = service.request(service.event("bounced"), now=_now() - age)
    if taken:
        assert len(receiver(service).receive(request)) == 1
    else:
        assert refusal(service, request) == 403


def test_a_mailgun_token_is_good_for_one_story():
    service = Mailgun()
    [(headers, body)] = service.call([service.event("bounced")])
    first = receiver(service).receive(as_request(headers, body))
    # The same story again is Mailgun trying again.
    assert receiver(service).receive(as_request(headers, body)) == first
    told = json.loads(body)
    told["event-data"] = service.event("complained", to="somebody.else@outside.example")
    assert refusal(service, as_request(headers, json.dumps(told).encode())) == 403


def test_a_mailgun_token_stays_used_however_it_is_cut_off_from_its_timestamp():
    """EVT-1: the signature is of both in one piece, and 1700000000e0 is a timestamp too."""
    service = Mailgun()
    stamp, token = str(int(_now().timestamp())), "e0" + "7" * 48
    signature = hmac.new(service.secret.encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()

    def request(timestamp, token, word):
        block = {"timestamp": timestamp, "token": token, "signature": signature}
        body = json.dumps({"signature": block, "event-data": service.event(word)}).encode()
        return as_request({"Content-Type": "application/json"}, body)

    assert len(receiver(service).receive(request(stamp, token, "bounced"))) == 1
    assert refusal(service, request(f"{stamp}e0", token[2:], "complained")) == 403


@pytest.mark.parametrize(
    ("sg_message_id", "smtp_id", "known"),
    [
        ("14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0", "", "14c5d75ce93.dfd.64b469"),
        ("XBg2anf2TqCy6WXKQFhieQ.filter0905p1mdw1-4434-59E0C6FF-3.0", "", "XBg2anf2TqCy6WXKQFhieQ"),
        ("q9AzmzjRrOLQs9FZ1YvTA.recvd-5645d9c87f-78xgx-1-5F3A.1", "", "q9AzmzjRrOLQs9FZ1YvTA"),
        ("q9AzmzjRrOLQs9FZ1YvTA.0", "", "q9AzmzjRrOLQs9FZ1YvTA"),
        # A bounce that comes back later has no sg_message_id.
        (None, "<14c5d75ce93.dfd.64b469@ismtpd-555>", "14c5d75ce93.dfd.64b469"),
    ],
)
def test_sendgrids_longer_ids_lead_back_to_the_one_it_gave(sg_message_id, smtp_id, known):
    service = SendGrid()
    event = service.event("bounced") | {"sg_message_id": sg_message_id, "smtp-id": smtp_id}
    [told] = receiver(service).receive(service.request(event))
    assert known in told.ids


def test_leaving_one_group_of_mail_is_not_leaving_all():
    service = SendGrid()
    event = service.event("unsubscribed") | {"event": "group_unsubscribe", "asm_group_id": 10}
    [told] = receiver(service).receive(service.request(event))
    assert (told.type, told.hard) == (Told.UNSUBSCRIBED, False)


@pytest.mark.parametrize("type_", ["postmark", "sparkpost", "brevo", "mailjet"])
@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({"Authorization": "Bearer {secret}"}, True),
        ({"X-Webhook-Token": "{secret}"}, True),
        ({"Authorization": "Bearer wrong"}, False),
        ({"Authorization": "Bearer "}, False),
        ({"Authorization": "Basic !!!"}, False),
        ({"Authorization": "Basic YWNtZQ=="}, False),
        ({"X-Webhook-Token": ""}, False),
    ],
)
def test_the_secret_may_come_as_a_token_too(type_, headers, taken):
    service = SERVICES[type_]()
    [(_, body)] = service.call([service.event("bounced")])
    headers = {name: value.format(secret=service.secret) for name, value in headers.items()}
    request = as_request(headers, body)
    if taken:
        assert len(receiver(service).receive(request)) == 1
    else:
        assert refusal(service, request) == 403


def test_mandrills_signature_is_of_the_address_too():
    service = Mandrill()
    [(headers, body)] = service.call([service.event("bounced")], url=URL)
    assert refusal(service, as_request(headers, body, url=URL.rstrip("/"))) == 403


def test_a_resend_key_that_is_none_opens_nothing():
    service = Resend()
    request = service.request(service.event("bounced"))
    with pytest.raises(WebhookRefused) as refused:
        registry.receiver("resend", {"webhook_signing_key": "whsec_***"}).receive(request)
    assert refused.value.status == 403


@pytest.mark.parametrize("key", ["whsec_", "whsec_===="])
def test_a_resend_key_that_is_empty_opens_nothing(key):
    """EVT-1: whoever knows the address could sign with it."""
    service = Resend()
    body = json.dumps(service.event("bounced")).encode()
    stamp = str(int(_now().timestamp()))
    signature = base64.b64encode(hmac.new(b"", f"msg_1.{stamp}.".encode() + body, hashlib.sha256).digest()).decode()
    headers = {"svix-id": "msg_1", "svix-timestamp": stamp, "svix-signature": f"v1,{signature}"}
    with pytest.raises(WebhookRefused) as refused:
        registry.receiver("resend", {"webhook_signing_key": key}).receive(as_request(headers, body))
    assert refused.value.status == 403


def test_a_grouped_call_and_a_single_one_of_mailjet_and_brevo_are_both_read():
    for type_ in ("mailjet", "brevo"):
        service = SERVICES[type_]()
        one, other = service.event("bounced"), service.event("opened")
        for payload, count in ((one, 1), ([one, other], 2)):
            headers, body = service.signed(payload, URL, _now())
            assert len(receiver(service).receive(as_request(headers, body))) == count


def test_a_name_before_the_address_is_not_part_of_it():
    service = SERVICES["ses"]()
    [event] = receiver(service).receive(
        service.request(service.event("confirmed", to="Jane Doe <jane@outside.example>"))
    )
    assert event.recipient == "jane@outside.example"


def test_receivers_show_no_secret():
    for type_ in TYPES:
        service = SERVICES[type_]()
        made = receiver(service)
        assert all(str(value) not in repr(made) for value in service.config.values())
        [(headers, body)] = service.call([service.event("bounced")])
        for changed in ({}, headers | {"Authorization": "Basic eDp5"}):
            told = answer(service, changed, body, text=True)
            assert all(str(value) not in told for value in service.config.values())


def _now():
    return datetime.now(UTC)
