"""The stronger word wins, in any order: SPEC §1, EVT-1."""

from itertools import combinations, permutations

import pytest
from django.utils import timezone

from delivery import precedence
from delivery.models import PENDING_STATUSES, Recipient, RecipientStatus
from delivery.tests.told import WORDS, told

STRENGTH = ("deferred", "soft", "confirmed", "failed", "bounced", "complained")
STATUS = {
    "deferred": "delivered",
    "soft": "bounced",
    "confirmed": "confirmed",
    "failed": "failed",
    "bounced": "bounced",
    "complained": "complained",
}


def delivered():
    return Recipient(address="a@b.example", status=RecipientStatus.DELIVERED, delivered_at=timezone.now())


def end_of(words):
    recipient = delivered()
    for word in words:
        precedence.apply(recipient, told(word))
    return recipient.status, recipient.error_text


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_whatever_the_order_the_strongest_word_stays(count):
    for words in combinations(WORDS, count):
        known = [word for word in words if word in STRENGTH]
        strongest = max(known, key=STRENGTH.index, default=None)
        expected = (STATUS[strongest], f"what was said of {strongest}") if strongest else ("delivered", "")
        for order in permutations(words):
            assert end_of(order) == expected, order


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("before", RecipientStatus.values)
def test_nothing_a_provider_tells_makes_a_recipient_pending(word, before):
    """A later claim of the same message would send it again."""
    recipient = Recipient(address="a@b.example", status=before, delivered_at=timezone.now())
    precedence.apply(recipient, told(word))
    assert recipient.status not in PENDING_STATUSES or recipient.status == before


def test_what_failed_here_before_any_provider_took_it_may_still_turn_out_to_have_arrived():
    recipient = Recipient(address="a@b.example", status=RecipientStatus.FAILED)
    assert precedence.apply(recipient, told("confirmed"))
    assert recipient.status == "confirmed"


def test_a_repeated_word_changes_nothing():
    recipient = delivered()
    assert precedence.apply(recipient, told("soft"))
    assert not precedence.apply(recipient, told("soft", number=2))
