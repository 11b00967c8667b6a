"""A parser under fuzz, and the things several targets are made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from matching.keys import FieldKeys
from matching.question import Client
from matching.schema import PERSON_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
EPOCH: Final = 1
BLINDLY: Final = 0.4  # share of inputs whose bytes are changed without regard to their form
CHANGES: Final = (1, 1, 1, 2, 3)  # at a time, by form
FEDERATION: Final = "fuzz.test"
PROVINCE: Final = "33"


@dataclass(frozen=True)
class Target:
    """One parser.

    feed: gives it one input. refusals: the errors it documents; anything else that leaves it is a crash. seeds: inputs
    to begin from, one at least accepted. mutate: makes another input of one without breaking the form around the
    change; without it, bytes are changed blindly. close: ends what goes on from one input to the next.
    """

    feed: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: Sequence[bytes]
    mutate: Callable[[bytes, Random], bytes] | None = None
    close: Callable[[], object] = lambda: None

    def varied(self, data: bytes, chance: Random, blindly: Callable[[bytes], bytes]) -> bytes:
        """Return another input: changed by its form, in one place or a few, or blindly."""
        if self.mutate is None or chance.random() < BLINDLY:
            return blindly(data)
        for _ in range(chance.choice(CHANGES)):
            data = self.mutate(data, chance)
        return data


def keys() -> FieldKeys:
    """Return the linkage keys of every target."""
    return FieldKeys.derive(bytes(range(32)), PERSON_SCHEMA, EPOCH)


def clients() -> list[Client]:
    """Return clients that use every field, few, and one."""
    return [
        Client(
            name="Contoh Nama",
            sex="L",
            born="1970-02-03",
            birthplace="Kebumen",
            mother_name="Siti Contoh",
            father_name="Made Contoh",
        ),
        Client(name="M. Contoh bin Nama", born="1958~3"),
        Client(name="Nama"),
    ]
