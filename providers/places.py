"""Moving rows of an ordered list (RTE-6): where each comes to stand, and the numbers that say so."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from providers.ordering import STEP


class Conflict(Exception):
    """The order that is asked for does not fit what there is; the text says why."""


def moved(now: Sequence[str], key: str, where: str) -> list[str]:
    """The order after `key` has gone `up` or `down` by one, or to a place counted from 1. Raises Conflict."""
    after = [one for one in now if one != key]
    at = now.index(key)
    if where in ("up", "down"):
        to = at - 1 if where == "up" else at + 1
    elif where.isascii() and where.isdecimal() and len(where) < 9:
        to = int(where) - 1
    else:
        raise Conflict("Say where it shall stand: up, down, or a number.")
    after.insert(max(0, min(to, len(after))), key)
    return after


def placed(now: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The order in which `wanted` stand as asked for, in the places they have now; all others keep theirs.

    A list shows some rows of many at times (a page, a filter). Raises Conflict for keys that come twice.
    """
    if len(set(wanted)) != len(wanted):
        raise Conflict("One of the rows is named twice.")
    chosen, queue = set(wanted), iter(wanted)
    return [next(queue) if key in chosen else key for key in now]


def numbered(numbers: Sequence[int]) -> list[int]:
    """Numbers for as many places, rising: the given ones where they rise already, else new ones in steps of ten."""
    if all(low < high for low, high in pairwise(numbers)):
        return list(numbers)
    return [STEP * place for place in range(1, len(numbers) + 1)]
