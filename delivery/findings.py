"""What a consistency check finds, and whether it is to be believed (STO-6)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

EXAMPLES = 20
"""Findings of a kind that are named; the others are counted."""
NEEDED = "messages to be sent without their body"
ENDED = "messages that have ended without their body"
NO_ROW = "bodies without a message"
LEFT = "bodies whose message says that they are gone"
NO_OCTETS = "archive copies without their octets"
NO_COPY = "octets without an archive copy"
STRANGE = "keys that are not ours"
DAMAGED = "packs of bodies that are damaged"
FEW = 10
"""So much may be wrong anywhere without anybody doubting that database and store belong together..."""
PER_KEY = 1000
"""...and one in so many keys."""


@dataclass(slots=True)
class Report:
    """What was looked at and found. `repaired` counts those of `found` that are mended."""

    keys: int = 0
    found: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def in_order(self) -> bool:
        """Nothing is wrong any more."""
        return self.found == self.repaired

    @property
    def doubtful(self) -> bool:
        """Whether so much is missing on one side or the other that they may not belong together: a database restored
        from a backup, or a copy of another one, a store that is not mounted, a folder or bucket that others use too."""
        return self.missing > max(FEW, self.keys // PER_KEY)

    @property
    def missing(self) -> int:
        return sum(self.found[kind] for kind in (NEEDED, ENDED, NO_ROW, NO_OCTETS, NO_COPY))

    def note(self, kind: str, example: str, repaired: bool) -> None:
        self.found[kind] += 1
        self.repaired[kind] += repaired
        if len(named := self.examples.setdefault(kind, [])) < EXAMPLES:
            named.append(example)

    def as_json(self) -> dict[str, object]:
        found = {kind: {"found": n, "repaired": self.repaired[kind]} for kind, n in sorted(self.found.items())}
        return {"in_order": self.in_order, "keys": self.keys, "found": found, "examples": self.examples}
