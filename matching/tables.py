"""Reads the tables shipped in matching/data."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple


def read_table(name: str) -> list[tuple[str, ...]]:
    """Return the rows of `name`, a tab-separated file of matching/data, without its header."""
    text = files("matching").joinpath("data", name).read_text(encoding="utf-8")
    return [tuple(line.split("\t")) for line in text.splitlines()[1:]]


@cache
def token_counts() -> dict[str, int]:
    """Return how often each name token occurs in the reference names, both sexes together.

    Spellings that differ only by an apostrophe or a hyphen are one token, as they are for `parse_name`.
    """
    counts: dict[str, int] = {}
    for token, n_f, n_m, *_ in read_table("name_tokens.tsv"):
        plain = token.replace("'", "").replace("-", "")
        counts[plain] = counts.get(plain, 0) + int(n_f) + int(n_m)
    return counts


class SoundCount(NamedTuple):
    """How many women and men among the reference names hold a sound.

    apart: in its wide form this sound would meet one of the other sex, so it keeps to itself.
    """

    n_f: int
    n_m: int
    apart: bool


@cache
def sound_counts() -> dict[str, SoundCount]:
    """Return name_tokens.tsv counted by sound, worked out ahead by `matching.reference.count_sounds`."""
    rows = read_table("name_sounds.tsv")
    return {sound: SoundCount(int(n_f), int(n_m), apart == "1") for sound, n_f, n_m, apart in rows}
