"""What the reference names say about a token: how rare its sound is, and which short forms go with it."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from matching.names import expand_word
from matching.phonetics import spelling_and_sound, widen
from matching.tables import SoundCount, read_table, sound_counts, token_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

REFERENCE_PERSONS = 1_011_222  # names behind name_tokens.tsv: 970,259 + 27,827 + 13,136
MAX_WEIGHT = 255  # quarter bits; what a byte of an index holds
MAX_NICKNAMES = 12
_SEXED_PERSONS = 10  # bearers before a sound can count as a name of women or of men
_SEXED_SHARE = 0.85
_COMMON_NAME = 20  # a long form must be seen this often to be offered for a short one


def count_sounds() -> dict[str, SoundCount]:
    """Work out name_sounds.tsv from name_tokens.tsv, compounds taken apart as in a parsed name.

    The table ships, because working it out takes longer than a command should need to start.
    """
    sexes: dict[str, list[int]] = {}
    for token, n_f, n_m, *_ in read_table("name_tokens.tsv"):
        for part in expand_word(token.replace("'", "").replace("-", "")):
            pair = sexes.setdefault(spelling_and_sound(part)[1], [0, 0])
            pair[0] += int(n_f)
            pair[1] += int(n_m)
    meeting: dict[str, list[str]] = {}
    for sound in sexes:
        meeting.setdefault(widen(sound), []).append(sound)
    apart = {
        sound
        for wide, sounds in meeting.items()
        for sound in sounds
        if _sex_of(sexes[sound]) and sound != wide and _meets_other_sex(sound, sounds, sexes)
    }
    return {sound: SoundCount(n_f, n_m, sound in apart) for sound, (n_f, n_m) in sorted(sexes.items())}


def _meets_other_sex(sound: str, sounds: list[str], sexes: dict[str, list[int]]) -> bool:
    return any(_sex_of(sexes[other]) == -_sex_of(sexes[sound]) for other in sounds)


def _sex_of(counts: list[int]) -> int:
    """Return 1 for a name of women, -1 for a name of men, 0 if both bear it or few do."""
    n_f, n_m = counts
    if max(n_f, n_m) < _SEXED_PERSONS:
        return 0
    share = n_f / (n_f + n_m)
    return 1 if share >= _SEXED_SHARE else -1 if share <= 1 - _SEXED_SHARE else 0


def write_sounds() -> None:
    """Write matching/data/name_sounds.tsv anew, to be done after a change to the rules."""
    rows = (f"{sound}\t{n_f}\t{n_m}\t{apart:d}\n" for sound, (n_f, n_m, apart) in count_sounds().items())
    path = Path(__file__).parent / "data" / "name_sounds.tsv"
    path.write_text("sound\tn_f\tn_m\tapart\n" + "".join(rows), encoding="utf-8", newline="\n")


@cache
def _weights() -> tuple[dict[str, int], int]:
    weights = {sound: _weight(counts.n_f + counts.n_m) for sound, counts in sound_counts().items()}
    return weights, max(weights.values()) + 2  # half a bit rarer than the rarest sound seen


def _weight(count: float) -> int:
    return min(MAX_WEIGHT, max(1, round(4 * -math.log2(min(1.0, count / REFERENCE_PERSONS)))))


def token_weight(token: str) -> int:
    """Return the rarity of a token in quarter bits, 1 to 255: -log2 of the share of names that hold its sound.

    The sound and not the spelling is counted, for it is sounds that agree. An unseen token is worth a little more
    than the rarest one seen.
    """
    return sound_weight(spelling_and_sound(token)[1])


def sound_weight(sound: str) -> int:
    """Return the rarity of the tokens of a sound; see `token_weight`."""
    weights, unseen = _weights()
    return weights.get(sound, unseen)


def sound_weights(sounds: Iterable[str]) -> bytes:
    """Return the rarities of the tokens of many sounds."""
    weights, unseen = _weights()
    return bytes([weights.get(sound, unseen) for sound in sounds])


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


# The last two syllables, as Javanese call each other: Sutinah is Tinah, Rahmawati is Wati.
_CONSONANT = "[b-df-hj-np-tv-z]"
_LAST_SYLLABLES = re.compile(
    f"(?:ng|ny|{_CONSONANT})[aeiou](?:ng|ny|{_CONSONANT}{{1,2}})[aeiou](?:ng|{_CONSONANT})?$", re.MULTILINE
)
MIN_CALL_LETTERS = 4


@cache
def _called() -> dict[str, tuple[str, ...]]:
    called: dict[str, tuple[str, ...]] = {}
    for name, short in read_table("nicknames.tsv"):
        called[name] = (*called.get(name, ()), short)
    return called


def call_forms(token: str) -> set[str]:
    """Return what somebody of this name may be called instead: its nicknames, and its last two syllables."""
    forms = set(_called().get(token, ()))
    tail = _LAST_SYLLABLES.search(token)
    if tail is not None and MIN_CALL_LETTERS <= len(tail.group()) < len(token):
        forms.add(tail.group())
    return forms


def call_forms_of(tokens: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return `call_forms` of many tokens, one after the other, and how many are whose."""
    forms = dict.fromkeys((place for place, token in enumerate(tokens) if token in _called()), _NO_FORMS)
    line, stop = 0, len(tokens[0]) if tokens else 0  # where the token's line ends
    for tail in _LAST_SYLLABLES.finditer("\n".join(tokens)):
        while tail.end() > stop:
            line += 1
            stop += 1 + len(tokens[line])
        if line not in forms and MIN_CALL_LETTERS <= len(tail[0]) < len(tokens[line]):
            forms[line] = (tail[0],)
    counts = [0] * len(tokens)
    called: list[str] = []
    for place in sorted(forms):
        own = forms[place] or call_forms(tokens[place])
        called += own
        counts[place] = len(own)
    return called, counts


_NO_FORMS: tuple[str, ...] = ()


def nicknames(token: str) -> tuple[str, ...]:
    """Return tokens the same person may be called by, most common first: weak evidence, for the asking side only."""
    return _nicknames().get(token, ())
