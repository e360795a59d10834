"""What an account hands over under a key of its own becomes one message, however often it is handed over (AMQP-1).

A receipt is written in the transaction of its message. The database alone decides who was first: whoever comes second,
in the same batch or in another process, finds the receipt and makes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from django.utils import timezone

from delivery.admitted import Admitted
from delivery.exceptions import Deferred
from delivery.models import Receipt
from delivery.submission import Accepted, Answer, Submission

Place = tuple[uuid.UUID, str, str]
"""Account, source and key: what is there once."""


def place_of(one: Submission | Receipt) -> Place:
    return one.account_id, str(one.source), one.key


def new(submission: Submission) -> Receipt | None:
    """The receipt it will have; None for what has no key."""
    if not submission.key:
        return None
    return Receipt(
        account_id=submission.account_id,
        source=submission.source,
        key=submission.key,
        fingerprint=submission.fingerprint,
        message_id=submission.message_id,
        created_at=timezone.now(),
    )


def apart(submissions: Sequence[Submission]) -> tuple[list[Submission], list[tuple[Submission, Submission]]]:
    """Those of a batch that may become messages, and those that repeat one of them, each with the one it repeats."""
    leaders: dict[Place, Submission] = {}
    first, again = [], []
    for one in submissions:
        leader = leaders.setdefault(place_of(one), one) if one.key else one
        if leader is one:
            first.append(one)
        else:
            again.append((one, leader))
    return first, again


def answer_known(submissions: Sequence[Submission], answers: dict[int, Answer]) -> list[Submission]:
    """Answer what was accepted before, whatever the rules would say today; returns the others."""
    keyed = [one for one in submissions if one.key]
    if not keyed:
        return list(submissions)
    found = find(place_of(one) for one in keyed)
    for one in keyed:
        if receipt := found.get(place_of(one)):
            answers[id(one)] = _repeat(one, receipt)
    return [one for one in submissions if id(one) not in answers]


def answer_again(again: Sequence[tuple[Submission, Submission]], answers: dict[int, Answer]) -> None:
    """Answer what repeats another of its batch, which is answered by now."""
    for one, leader in again:
        answer = answers.get(id(leader))
        if isinstance(answer, Accepted) and answer.receipt is not None:
            answers[id(one)] = _repeat(one, answer.receipt)
        elif answer is not None and one.fingerprint == leader.fingerprint:
            answers[id(one)] = answer
        else:
            answers[id(one)] = _in_use()


def write(admitted: Sequence[Admitted], answers: dict[int, Answer]) -> list[Admitted]:
    """Insert receipts, inside the transaction of their messages; returns those whose messages are to be written too.

    The others were handed over before, and are answered. Waits for another transaction that is writing the same
    receipt: if that fails, ours is written.
    """
    keyed = {one.receipt.pk: one for one in admitted if one.receipt is not None}
    if not keyed:
        return list(admitted)
    # In the order of keys, so that two writers never wait for each other in a circle.
    rows = sorted((one.receipt for one in keyed.values() if one.receipt is not None), key=place_of)
    Receipt.objects.bulk_create(rows, ignore_conflicts=True)
    found = find(place_of(row) for row in rows)
    mine = []
    for one in admitted:
        receipt = one.receipt and found.get(place_of(one.receipt))
        if receipt == one.receipt:
            mine.append(one)
        else:  # None: it was torn up a moment ago
            answers[id(one.submission)] = _repeat(one.submission, receipt) if receipt else _in_use()
    return mine


def tear_up(admitted: Iterable[Admitted]) -> None:
    """Forget that these were handed over: they are to be handed over again."""
    if keys := [one.receipt.pk for one in admitted if one.receipt is not None]:
        Receipt.objects.filter(pk__in=keys).delete()


def told(receipts: Iterable[uuid.UUID]) -> None:
    """Note that whoever handed these over has been told so."""
    Receipt.objects.filter(pk__in=[*receipts], told_at=None).update(told_at=timezone.now())


def find(places: Iterable[Place]) -> dict[Place, Receipt]:
    """The receipts there are, by their places."""
    wanted = set(places)
    found = Receipt.objects.filter(
        account_id__in={account for account, _, _ in wanted},
        source__in={source for _, source, _ in wanted},
        key__in={key for _, _, key in wanted},
    )
    return {place_of(receipt): receipt for receipt in found if place_of(receipt) in wanted}


def _repeat(submission: Submission, receipt: Receipt) -> Accepted:
    assert receipt.message_id is not None  # noqa: S101 - each is written with one
    altered = receipt.fingerprint != submission.fingerprint
    return Accepted(receipt.message_id, receipt=receipt, repeated=True, altered=altered)


def _in_use() -> Deferred:
    text = "Another message came under the same key at the same moment; please try again."
    return Deferred(text, code="key_in_use", status="4.3.0")
