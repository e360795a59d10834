"""How exactly a provider would carry a message, known before sending (PRV-4)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum


class Fidelity(StrEnum):
    """From best to worst.

    LOSSLESS: the bytes received are the bytes sent, trace headers and removed blind copies apart. MAPPED: taken apart
    and written anew by the service, with nothing known to be lost. LOSSY: mapped, and something stays behind. BROKEN:
    a signature no longer verifies, or what was encrypted cannot be opened.
    """

    LOSSLESS = "lossless"
    MAPPED = "mapped"
    LOSSY = "lossy"
    BROKEN = "broken"

    @property
    def rank(self) -> int:
        """0 for the best."""
        return tuple(Fidelity).index(self)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a provider does to one message; `lost` names each thing that stays behind or changes."""

    fidelity: Fidelity
    lost: tuple[str, ...] = ()

    @classmethod
    def mapped(cls, lost: Collection[str], *, broken: bool = False) -> Verdict:
        """For services that write the message anew."""
        if broken:
            return cls(Fidelity.BROKEN, tuple(lost))
        return cls(Fidelity.LOSSY if lost else Fidelity.MAPPED, tuple(lost))

    def __str__(self) -> str:
        headers = [entry.removeprefix("header ") for entry in self.lost if entry.startswith("header ")]
        others = [entry for entry in self.lost if not entry.startswith("header ")]
        match self.fidelity:
            case Fidelity.LOSSLESS:
                said = ["lossless"]
            case Fidelity.MAPPED:
                said = ["mapped" if self.lost else "mapped, nothing lost"]
            case Fidelity.BROKEN:
                said = ["signature broken"]
            case _:
                said = []
        if headers:
            said.append(f"headers lost: {', '.join(headers)}")
        return "; ".join([*said, *others])


LOSSLESS = Verdict(Fidelity.LOSSLESS)
