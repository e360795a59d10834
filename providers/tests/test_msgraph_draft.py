"""Sending by draft: sent once and uploaded once, wherever a worker stopped (PRV-6, DEL-5)."""

import itertools
import os

import pytest

from providers import registry
from providers.backends.msgraph.upload import PIECE
from providers.base import RecipientStatus
from providers.exceptions import Misconfigured, PermanentFailure, ProviderError, TemporaryFailure, Unfinished
from providers.progress import Unkept
from providers.tests.messages import ANNA, BERT, CARA, PDF, SENDER, outbound, text_only
from providers.tests.standins import GraphStandIn
from providers.tests.standins.graph import graph_error

MB = 1024 * 1024
LARGE = os.urandom(2 * PIECE + 12_345)


@pytest.fixture
def graph():
    with GraphStandIn() as service:
        yield service


def backend(graph, **options):
    return registry.connect("msgraph", graph.config(**options), 5)


def with_files(*files, recipients=(ANNA,), **headers):
    message = text_only(**headers)
    for name, content in files:
        message.add_attachment(content, maintype="application", subtype="zip", filename=name)
    return outbound(message, recipients)


def large():
    """Needs a session for one of its three files; two have the same name."""
    return with_files(("a.zip", PDF), ("big.zip", LARGE), ("a.zip", PDF + b"2"))


class Dying(Unkept):
    """A worker that dies at one of its savings: before the state is kept, or right after."""

    def __init__(self, state, at, *, kept):
        super().__init__(state)
        self.left, self.kept = at, kept

    def save(self, state):
        self.left -= 1
        if self.left == 0 and not self.kept:
            raise Death
        super().save(state)
        if self.left == 0:
            raise Death


class Death(Exception):
    pass


def test_a_large_file_is_uploaded_in_pieces_and_sent(graph):
    message = large()
    result = backend(graph).send(message)
    [mail] = graph.accepted
    assert {file.name: len(file.content) for file in mail.files} == {"a.zip": len(PDF) + 1, "big.zip": len(LARGE)}
    assert [file.content for file in mail.files] == [PDF, LARGE, PDF + b"2"]
    assert [size for _, _, size in graph.pieces] == [PIECE, PIECE, 12_345]
    assert graph.refusals == []
    assert result.provider_message_id == mail.id
    assert mail.subject == "Your order"
    assert mail.recipients == [ANNA]


def test_an_inline_image_may_be_large(graph):
    message = text_only()
    message.add_alternative('<img src="cid:logo">', subtype="html")
    message.get_payload()[1].add_related(LARGE, "image", "png", cid="<logo>", filename="logo.png")
    backend(graph).send(outbound(message))
    assert [(file.cid, file.type) for file in graph.accepted[0].files] == [("logo", "image/png")]


def test_a_small_message_may_go_by_draft_as_mime(graph):
    message = outbound(text_only())
    result = backend(graph, exactly_once=True).send(message)
    assert graph.accepted[0].payload == {"mime": message.raw}
    assert [request.split("/")[-1] for request in graph.journal[1:]] == ["messages", "send"]
    assert result.recipients[ANNA].provider_message_id == graph.accepted[0].id != ""


def test_no_copy_is_left_in_sent_items_where_none_is_wanted(graph):
    backend(graph, save_to_sent_items=False).send(large())
    assert len(graph.accepted) == 1
    assert graph.drafts == {}


def requests_of_one_send():
    with GraphStandIn() as graph:
        backend(graph).send(large())
        return len(graph.journal) - 1


def pieces_taken_twice(graph):
    return len(graph.pieces) - len(set(graph.pieces))


@pytest.mark.parametrize("taken", [True, False])
def test_a_connection_lost_at_any_request_changes_nothing_of_the_outcome(taken):
    """The same key, and what was kept of it: one mail, with all its files once."""
    requests = requests_of_one_send()
    for number in range(requests):
        with GraphStandIn() as graph:
            sender, message = backend(graph), large()
            graph.fail_after(number, take=taken)
            with pytest.raises(TemporaryFailure) as caught:
                sender.send(message)
            last = number == requests - 1  # only of the order to send nobody knows what came of it
            assert caught.value.outcome_unknown == last, number
            sender.send(message)
            sender.send(message)
            [mail] = graph.accepted
            assert [file.content for file in mail.files] == [PDF, LARGE, PDF + b"2"], number
            assert pieces_taken_twice(graph) == 0, number


@pytest.mark.parametrize("kept", [True, False])
def test_a_worker_that_dies_at_any_saving_changes_nothing_of_the_outcome(kept):
    for number in itertools.count(1):
        with GraphStandIn() as graph:
            message = large()
            message.progress = Dying({}, number, kept=kept)
            try:
                backend(graph).send(message)
            except Death:
                message.progress = Unkept(message.progress.state)
                backend(graph).send(message)
                backend(graph).send(message)
            else:
                break
            [mail] = graph.accepted
            assert [file.content for file in mail.files] == [PDF, LARGE, PDF + b"2"], number
            assert pieces_taken_twice(graph) == 0, number
            assert len(graph.drafts) == 1, number
    assert number > 8


def test_a_session_that_has_expired_is_begun_anew_for_that_file(graph):
    message = large()
    message.progress = Dying({}, 7, kept=True)
    with pytest.raises(Death):
        backend(graph).send(message)
    assert graph.pieces
    graph.expire_sessions()
    message.progress = Unkept(message.progress.state)
    backend(graph).send(message)
    [mail] = graph.accepted
    assert [file.content for file in mail.files] == [PDF, LARGE, PDF + b"2"]
    assert pieces_taken_twice(graph) >= 1


def test_a_service_that_has_more_than_was_noted_is_believed(graph):
    message = large()
    message.progress = Dying({}, 7, kept=False)
    with pytest.raises(Death):
        backend(graph).send(message)
    assert [size for _, _, size in graph.pieces] == [PIECE, PIECE]
    message.progress = Unkept(message.progress.state)
    backend(graph).send(message)
    assert [size for _, _, size in graph.pieces] == [PIECE, PIECE, 12_345]


def test_a_draft_that_somebody_has_deleted_is_made_again(graph):
    message = large()
    graph.fail_next(503, at="PUT ")
    sender = backend(graph)
    with pytest.raises(TemporaryFailure):
        sender.send(message)
    graph.drafts.clear()
    graph.expire_sessions()
    sender.send(message)
    assert [file.content for file in graph.accepted[0].files] == [PDF, LARGE, PDF + b"2"]


def test_a_draft_whose_id_was_lost_is_found_again(graph):
    message = large()
    sender = backend(graph)
    graph.reset_next(take=True, at=r"/messages$")
    with pytest.raises(TemporaryFailure) as caught:
        sender.send(message)
    assert caught.value.outcome_unknown is False
    sender.send(message)
    assert (len(graph.drafts), len(graph.accepted)) == (1, 1)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_service_that_cannot_be_asked_about_a_draft_sends_once_all_the_same(graph, status):
    message, sender = large(), backend(graph)
    graph.reset_next(take=True, at="/send$")
    with pytest.raises(TemporaryFailure) as caught:
        sender.send(message)
    assert caught.value.outcome_unknown is True
    graph.fail_next(status, b"", at="GET .*/messages/[^/]+$")
    result = sender.send(message)
    assert result.recipients[ANNA].status is RecipientStatus.DELIVERED
    assert len(graph.accepted) == 1


def test_a_draft_that_is_gone_after_the_order_to_send_was_sent(graph):
    """Where no copy is kept, or somebody was quick to delete it."""
    message, sender = large(), backend(graph, save_to_sent_items=False)
    graph.reset_next(take=True, at="/send$")
    with pytest.raises(TemporaryFailure):
        sender.send(message)
    assert sender.send(message).recipients[ANNA].status is RecipientStatus.DELIVERED
    assert len(graph.accepted) == 1


def test_a_send_that_was_refused_is_ordered_again(graph):
    message, sender = large(), backend(graph)
    graph.fail_next(503, headers={"Retry-After": "5"}, at="/send$")
    with pytest.raises(TemporaryFailure) as caught:
        sender.send(message)
    assert (caught.value.retry_after, caught.value.outcome_unknown) == (5, False)
    sender.send(message)
    assert len(graph.accepted) == 1
    assert pieces_taken_twice(graph) == 0


@pytest.mark.parametrize("at", ["/messages$", "/attachments$", "createUploadSession", "PUT "])
def test_throttling_on_the_way_is_certain_and_names_its_time(graph, at):
    graph.fail_next(429, headers={"Retry-After": "17"}, at=at)
    with pytest.raises(TemporaryFailure) as caught:
        backend(graph).send(large())
    assert (caught.value.code, caught.value.retry_after) == ("throttled", 17)
    assert caught.value.outcome_unknown is False


def test_a_gateway_that_fails_on_the_way_leaves_no_doubt(graph):
    graph.fail_next(504, at="PUT ")
    with pytest.raises(TemporaryFailure) as caught:
        backend(graph).send(large())
    assert caught.value.outcome_unknown is False


def test_a_refused_sender_is_told_when_the_draft_is_sent(graph):
    graph.unverified.add(SENDER)
    with pytest.raises(PermanentFailure) as caught:
        backend(graph).send(large())
    assert caught.value.code == "sender_not_verified"


def test_a_recipient_that_cannot_be_resolved_fails_the_call_for_good(graph):
    graph.bad_recipients.add(ANNA)
    with pytest.raises(PermanentFailure) as caught:
        backend(graph).send(large())
    assert caught.value.code == "bad_recipient"


def test_a_file_the_service_calls_too_large_for_one_request_is_uploaded(graph):
    """What Graph takes in one request ends some octets before the 3 MB of its documentation."""
    graph.min_session = 2 * MB
    graph.fail_next(413, at="/attachments$")
    backend(graph).send(with_files(("a.zip", b"x" * (3 * MB - 100))))
    assert [len(file.content) for file in graph.accepted[0].files] == [3 * MB - 100]


def test_a_token_that_ends_in_the_middle_is_replaced(graph):
    message, sender = large(), backend(graph)
    graph.fail_next(401, at="createUploadSession")
    sender.send(message)
    assert len(graph.accepted) == 1


def test_pieces_carry_no_authorisation_of_ours(graph):
    backend(graph).send(large())
    assert graph.refusals == []
    assert any(request.startswith("PUT /upload/") for request in graph.journal)


def test_an_upload_that_takes_too_long_goes_on_later(graph, settings):
    settings.DELIVERY_LEASE = 0
    message, sender = large(), backend(graph)
    with pytest.raises(Unfinished):
        sender.send(message)
    settings.DELIVERY_LEASE = 600
    sender.send(message)
    assert len(graph.accepted) == 1


class TestDiscard:
    def test_an_unfinished_draft_is_deleted(self, graph):
        message, sender = large(), backend(graph)
        graph.fail_next(503, at="PUT ")
        with pytest.raises(TemporaryFailure):
            sender.send(message)
        sender.discard(message.progress.state)
        assert graph.drafts == {}

    def test_one_whose_id_was_lost_is_found_and_deleted(self, graph):
        message, sender = large(), backend(graph)
        graph.reset_next(take=True, at=r"/messages$")
        with pytest.raises(TemporaryFailure):
            sender.send(message)
        sender.discard(message.progress.state)
        assert graph.drafts == {}

    def test_one_that_was_sent_stays(self, graph):
        message, sender = large(), backend(graph)
        sender.send(message)
        sender.discard(message.progress.state)
        assert len(graph.drafts) == 1

    def test_one_that_is_not_there_any_more_is_no_trouble(self, graph):
        message, sender = large(), backend(graph)
        graph.fail_next(503, at="PUT ")
        with pytest.raises(TemporaryFailure):
            sender.send(message)
        graph.drafts.clear()
        sender.discard(message.progress.state)

    def test_a_service_that_does_not_answer_is_told(self, graph):
        message, sender = large(), backend(graph)
        graph.fail_next(503, at="PUT ")
        with pytest.raises(TemporaryFailure):
            sender.send(message)
        graph.fail_next(503, at="DELETE ")
        with pytest.raises(ProviderError):
            sender.discard(message.progress.state)

    def test_nothing_is_left_of_what_never_began(self, graph):
        backend(graph).discard({})
        assert graph.journal == []


def test_settings_changed_in_the_middle_do_not_mix_two_forms(graph):
    message = with_files(("a.zip", b"x" * (2 * MB)), ("b.zip", b"y" * MB), recipients=[ANNA, CARA])
    graph.fail_next(503, at="/attachments$")
    with pytest.raises(TemporaryFailure):
        backend(graph).send(message)
    smaller = with_files(("a.zip", b"x"), recipients=[ANNA, CARA])
    smaller.progress = message.progress
    backend(graph, mailbox="other@acme.test").send(smaller)
    [mail] = graph.accepted
    assert [file.content for file in mail.files] == [b"x"]
    assert len(graph.drafts) == 1


def test_upload_addresses_that_lead_elsewhere_are_not_followed(graph):
    graph.fail_next(201, {"uploadUrl": "ftp://127.0.0.1/x"}, at="createUploadSession")
    with pytest.raises(TemporaryFailure) as caught:
        backend(graph).send(large())
    assert caught.value.code == "bad_answer"


@pytest.mark.parametrize(
    "url", ["http://[::1", "https://shop:key@127.0.0.1/x", "http://127.0.0.1:99999/x", "\ud800://x"]
)
def test_upload_addresses_that_are_none_are_told(graph, url):
    graph.fail_next(201, {"uploadUrl": url}, at="createUploadSession")
    with pytest.raises(TemporaryFailure) as caught:
        backend(graph).send(large())
    assert (caught.value.code, caught.value.outcome_unknown) == ("bad_answer", False)
    assert "key" not in caught.value.text


def test_an_upload_of_which_nothing_is_kept_is_left_for_later(graph):
    graph.fail_next(202, {"nextExpectedRanges": ["0-"]}, times=50, at="PUT ")
    message = large()
    with pytest.raises(TemporaryFailure) as caught:
        backend(graph).send(message)
    assert (caught.value.code, caught.value.outcome_unknown) == ("upload_stuck", False)
    assert sum(1 for request in graph.journal if request.startswith("PUT ")) == 0
    assert message.progress.state["files"][1]["bytes"] == 0


@pytest.mark.parametrize("id_", ["", 7, None, "\ud800"])
def test_a_draft_whose_id_is_none_is_no_draft(graph, id_):
    graph.fail_next(201, {"id": id_}, at="POST /v1.0/users/shop@acme.test/messages")
    with pytest.raises(TemporaryFailure, match="not an answer of this service"):
        backend(graph, exactly_once=True).send(outbound(text_only()))


def test_a_draft_without_an_id_is_no_draft(graph):
    graph.fail_next(201, {}, at="/messages$")
    with pytest.raises(TemporaryFailure) as caught:
        backend(graph, exactly_once=True).send(outbound(text_only(), [ANNA, BERT]))
    assert (caught.value.code, caught.value.outcome_unknown) == ("bad_answer", False)


def test_bad_credentials_on_the_way_are_the_rows_fault(graph):
    graph.fail_next(401, graph_error("InvalidAuthenticationToken", "x"), times=2, at="createUploadSession")
    with pytest.raises(Misconfigured):
        backend(graph).send(large())
