"""Reads the tables shipped in matching/data."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


def read_table(name: str) -> list[tuple[str, ...]]:
    """Return the rows of `name`, a tab-separated file of matching/data, without its header."""
    text = files("matching").joinpath("data", name).read_text(encoding="utf-8")
    return [tuple(line.split("\t")) for line in text.splitlines()[1:]]


@cache
def token_counts() -> dict[str, int]:
    """How often each name token occurs in the reference names, both sexes together.

    Spellings that differ only by an apostrophe or a hyphen are one token, as they are for `parse_name`.
    """
    counts: dict[str, int] = {}
    for token, n_f, n_m, *_ in read_table("name_tokens.tsv"):
        plain = token.replace("'", "").replace("-", "")
        counts[plain] = counts.get(plain, 0) + int(n_f) + int(n_m)
    return counts
