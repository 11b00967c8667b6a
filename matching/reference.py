"""What the reference names say about a token: how rare its sound is, and which short forms go with it."""

from __future__ import annotations

import math
from functools import cache, lru_cache

from matching.names import expand_word
from matching.phonetics import token_forms
from matching.tables import read_table, token_counts

REFERENCE_PERSONS = 1_011_222  # names behind name_tokens.tsv: 970,259 + 27,827 + 13,136
MAX_WEIGHT = 255  # quarter bits; what a byte of an index holds
MAX_NICKNAMES = 12
_COMMON_NAME = 20  # a long form must be seen this often to be offered for a short one


@cache
def _sound_counts() -> dict[str, int]:
    """How many reference names hold each sound, compounds taken apart as in a parsed name."""
    sounds: dict[str, int] = {}
    for token, count in token_counts().items():
        for part in expand_word(token):
            sound = _sound(part)
            sounds[sound] = sounds.get(sound, 0) + count
    return sounds


@lru_cache(maxsize=1 << 16)
def _sound(token: str) -> str:
    return token_forms(token).sound


@cache
def _weights() -> tuple[dict[str, int], int]:
    weights = {sound: _weight(count) for sound, count in _sound_counts().items()}
    return weights, max(weights.values()) + 2  # half a bit rarer than the rarest sound seen


def _weight(count: float) -> int:
    return min(MAX_WEIGHT, max(1, round(4 * -math.log2(min(1.0, count / REFERENCE_PERSONS)))))


def token_weight(token: str) -> int:
    """Return the rarity of a token in quarter bits, 1 to 255: -log2 of the share of names that hold its sound.

    The sound and not the spelling is counted, for it is sounds that agree. An unseen token is worth a little more
    than the rarest one seen.
    """
    weights, unseen = _weights()
    return weights.get(_sound(token), unseen)


@cache
def _nicknames() -> dict[str, tuple[str, ...]]:
    """Both directions of every pair: short forms of a name, and the names a short form may stand for."""
    counts = token_counts()
    pairs = {(name, short) for name, short in read_table("nicknames.tsv")}
    for name, count in counts.items():
        if count < _COMMON_NAME or len(name) < 7:
            continue
        # Sukarno is called Karno, Suparman Parman; whoever is called Udin may be any of the -udins.
        if name.startswith("su") and counts.get(name[2:], 0) >= _COMMON_NAME:
            pairs.add((name, name[2:]))
        if name.endswith("udin"):
            pairs.add((name, "udin"))
    table: dict[str, set[str]] = {}
    for name, short in pairs:
        table.setdefault(name, set()).add(short)
        table.setdefault(short, set()).add(name)
    return {
        token: tuple(sorted(others, key=lambda other: (-counts.get(other, 0), other))[:MAX_NICKNAMES])
        for token, others in table.items()
    }


def nicknames(token: str) -> tuple[str, ...]:
    """Return tokens the same person may be called by, most common first: weak evidence, for the asking side only."""
    return _nicknames().get(token, ())
