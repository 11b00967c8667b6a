"""Names the reference has never seen, as common and as rare as they were: letters exchanged, in some persons' names."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES: Final = ("name", "mother_name")
_SMALL: Final = str.maketrans("aiueobcdfghjklmnpqrstvwxyz", "uoaieptgkrmdlsnbfzvchjwyxq")
_EXCHANGED: Final = _SMALL | {ord(chr(of).upper()): ord(chr(to).upper()) for of, to in _SMALL.items()}


def exchanged(frame: pl.DataFrame, persons: Sequence[str], share: float, seed: int) -> pl.DataFrame:
    """Return rows with the letters of some persons' names exchanged, vowels for vowels and consonants for consonants.

    persons: whose each row is; the same person is always chosen, or never. share: of persons who are. A slip of the pen
    stays one; what names sound like, abbreviations and titles are lost.
    """
    chosen = [_draw(person, seed) < share for person in persons]
    columns = {
        name: [
            value.translate(_EXCHANGED) if its and value else value
            for its, value in zip(chosen, frame[name], strict=True)
        ]
        for name in NAMES
    }
    return frame.with_columns(pl.Series(name, values, dtype=pl.String) for name, values in columns.items())


def _draw(person: str, seed: int) -> float:
    digest = hashlib.blake2b(f"{seed} {person}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
