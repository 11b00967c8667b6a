"""The sweep monitor: patterns in one peer's questions that no honest caseworker makes. Pure; it sees encodings only.

Of every new question a keyed sketch is remembered: digests of its fields, and a MinHash of its name's filters, by which
two names can be told to be alike and not what they are. Repeated questions are not looked at: they tell nothing new.
Each pattern's limit is argued, and its false alarms measured, in docs/threat-model.md, "Sweeps".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from matching.question import CodeQuery, DateQuery, NameQuery, PlaceQuery
from matching.schema import PERSON_SCHEMA, TITLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from matching.question import EncodedQuery, Evidence, FieldQuery
    from matching.weights import MatchModel

FIELDS: Final = tuple(name for name in PERSON_SCHEMA.field_names if name != TITLE)  # a title is said with the name
NAMES: Final = ("name", "mother_name", "father_name")
HASHES: Final = 32  # of a name's MinHash: similarity to within 0.09 (one standard deviation)
FILTER_BITS: Final = 512
STRONG_BITS: Final = 6.0  # a candidate this far above "anybody in the registry" counts as found
DIGEST_BYTES: Final = 32

SKETCH: Final = np.dtype(
    [
        ("content", "<u8"),
        ("fields", "<u8", (len(FIELDS),)),  # keyed digest of each field's encoding, 0 where it was not given
        ("name", "<u2", (HASHES,)),
        ("rarity", "u1"),  # quarter bits of the rarest token
        ("whole_date", "u1"),  # 1 when the day of birth was given
    ]
)


class Pattern(StrEnum):
    """What the monitor alarms about."""

    BURST = "burst"  # more questions in ten minutes than hands can ask
    MANY_CASES = "many_cases"  # more cases of one operator in a day than anybody cares for
    NEAR_NAMES = "near_names"  # a name in ever new spellings
    ONE_NAME = "one_name"  # a name with ever new dates, places or mothers
    ONE_FIELD = "one_field"  # everything the same but one field, which goes through its values
    ORDERED = "ordered"  # each name resembles the one before: a list read in its order
    THIN = "thin"  # mostly names with next to nothing else: counting who bears them
    RARE_NAMES = "rare_names"  # mostly names hardly anybody bears: each finds one person or nobody
    MOSTLY_FOUND = "mostly_found"  # nearly everybody asked about lives here: a list of ours is being confirmed
    MANY_FOUND = "many_found"  # more people of ours in a month than a neighbour's clients, whatever is mixed in between


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a pattern is an alarm. Shares are of clients: a follow-up question is its client's."""

    burst: int = 40
    burst_within: timedelta = timedelta(minutes=10)
    cases: int = 85
    cases_within: timedelta = timedelta(days=1)
    near: float = 0.45  # Jaccard similarity of two names' bits, as MinHash estimates it
    near_names: int = 24
    one_name: int = 20
    one_field: int = 6
    follow_up: float = 0.6  # a name this much like one of the last questions' may be that client's
    follow_up_within: int = 6  # questions
    ordered_clients: int = 60
    ordered_z: float = 7.5
    clients: int = 60  # fewer say too little about shares
    thin_share: float = 0.5
    rare_quarter_bits: int = 60
    rare_share: float = 0.75
    found_share: float = 0.65
    found_clients: int = 140
    found_within: timedelta = timedelta(days=30)


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Seen:
    """One remembered question. operator, case: whose, as the peer says."""

    at: datetime
    operator: bytes
    case: str
    found: bool
    sketch: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A pattern with as many questions, names or cases as speak for it, and the operators they came from."""

    pattern: Pattern
    evidence: int
    operators: frozenset[bytes]


class Sketcher:
    """Makes sketches and content digests under the node's own key, so that a stolen database tells nothing by them."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        seed = int.from_bytes(self._digest(b"permutations", b"")[:16], "little")
        chance = np.random.Generator(np.random.PCG64(seed))
        order = [chance.permutation(FILTER_BITS) for _ in range(HASHES)]
        self._permutations: NDArray[np.uint16] = np.stack(order).astype(np.uint16)

    def content(self, query: EncodedQuery) -> bytes:
        """Return the digest of what a question asks, the same for the same words under the same epoch."""
        parts = [name.encode() + b"\0" + _canonical(value) for name, value in sorted(query.fields.items())]
        identity = query.fingerprint + query.epoch.to_bytes(4, "little")
        return self._digest(b"content", identity + b"".join(len(part).to_bytes(4, "little") + part for part in parts))

    def sketch(self, query: EncodedQuery) -> bytes:
        """Return the sketch of a question, SKETCH's bytes."""
        made = np.zeros(1, dtype=SKETCH)
        made["content"] = _number(self.content(query))
        for place, name in enumerate(FIELDS):
            value = query.fields.get(name)
            if value is not None:
                made["fields"][0, place] = _number(self._digest(name.encode(), _canonical(value))) or 1
        name_query = query.fields.get("name")
        if isinstance(name_query, NameQuery):
            made["name"] = self._min_hash(name_query)
            made["rarity"] = max(token.weight for token in name_query.tokens)
        date = query.fields.get("birth_date")
        made["whole_date"] = isinstance(date, DateQuery) and date.day != 0
        return made.tobytes()

    def _min_hash(self, name: NameQuery) -> NDArray[np.uint16]:
        union = np.bitwise_or.reduce([token.variants[0] for token in name.tokens])
        bits = np.unpackbits(union.astype("<u8").view(np.uint8), bitorder="little").astype(bool)
        lowest: NDArray[np.uint16] = self._permutations[:, bits].min(axis=1)
        return lowest

    def _digest(self, purpose: bytes, data: bytes) -> bytes:
        return hashlib.blake2b(purpose + b"\0" + data, digest_size=DIGEST_BYTES, key=self._key).digest()


def is_strong(evidence: Evidence, model: MatchModel, query: EncodedQuery, *, above_bits: float = STRONG_BITS) -> bool:
    """Whether somebody registered fits the question far better than anybody would by chance."""
    if not len(evidence.class_counts):
        return False
    bits = model.bits(query, evidence.histograms)
    weights = bits[np.arange(bits.shape[0]), evidence.class_levels].sum(axis=1)
    return bool(weights.max() >= np.log2(max(evidence.size, 1)) + above_bits)


def judge(ring: Sequence[Seen], limits: Limits = DEFAULT_LIMITS) -> tuple[Alarm, ...]:
    """Return the alarms that the newest question of a peer completes. ring: its questions, oldest first."""
    if not ring:
        return ()
    sketches = np.frombuffer(b"".join(each.sketch for each in ring), dtype=SKETCH)
    return tuple(
        Alarm(pattern, len(which) if evidence is None else evidence, frozenset(ring[place].operator for place in which))
        for pattern, which, evidence in (
            *_rates(ring, limits),
            *_clusters(sketches, limits),
            *_shares(ring, sketches, limits),
        )
    )


_Found = tuple[Pattern, list[int], int | None]  # pattern, the questions that speak for it, how much they say


def _rates(ring: Sequence[Seen], limits: Limits) -> list[_Found]:
    newest = ring[-1]
    found: list[_Found] = []
    recent = [place for place, each in enumerate(ring) if each.at > newest.at - limits.burst_within]
    if len(recent) >= limits.burst:
        found.append((Pattern.BURST, recent, None))
    day = [
        place
        for place, each in enumerate(ring)
        if each.operator == newest.operator and each.at > newest.at - limits.cases_within
    ]
    cases = len({ring[place].case for place in day})
    if cases >= limits.cases:
        found.append((Pattern.MANY_CASES, day, cases))
    return found


def _clusters(sketches: NDArray[np.void], limits: Limits) -> list[_Found]:
    """Look at the questions near the newest one."""
    newest = sketches[-1]
    found: list[_Found] = []
    names = sketches["fields"][:, 0]
    alike = _similarity(sketches["name"], newest["name"]) >= limits.near
    near = np.flatnonzero(alike)
    spellings = len(np.unique(names[near]))
    if spellings >= limits.near_names:
        found.append((Pattern.NEAR_NAMES, near.tolist(), spellings))
    same = np.flatnonzero(names == newest["fields"][0])
    contents = len(np.unique(sketches["content"][same]))
    if contents >= limits.one_name:
        found.append((Pattern.ONE_NAME, same.tolist(), contents))
    for place in range(len(FIELDS)):
        rest = np.delete(newest["fields"], place)
        if not newest["fields"][place] or not _tells(newest, place):
            continue
        others = np.delete(sketches["fields"], place, axis=1)
        group = np.flatnonzero((others == rest).all(axis=1) & (sketches["fields"][:, place] != 0))
        values = len(np.unique(sketches["fields"][group, place]))
        if values >= limits.one_field:
            found.append((Pattern.ONE_FIELD, group.tolist(), values))
    return found


def _tells(sketch: np.void, varied: int) -> bool:
    """Whether what stays the same is more than chance: a name, or a day of birth, beside the varied field."""
    named = any(sketch["fields"][FIELDS.index(name)] for name in NAMES if FIELDS.index(name) != varied)
    dated = sketch["whole_date"] and FIELDS.index("birth_date") != varied
    given = sum(bool(value) for place, value in enumerate(sketch["fields"]) if place != varied)
    return bool((named or dated) and given >= 2)


def _shares(ring: Sequence[Seen], sketches: NDArray[np.void], limits: Limits) -> list[_Found]:
    """Look at the last clients as a whole; of a client's questions the last one counts."""
    clients = _clients(sketches, limits)
    found: list[_Found] = []
    last = clients[-limits.clients :]
    if len(last) >= limits.clients:
        chosen = sketches[last]
        thin = (chosen["fields"][:, [FIELDS.index("mother_name"), FIELDS.index("birth_date")]] == 0).all(axis=1)
        rare = chosen["rarity"] >= limits.rare_quarter_bits
        here = np.array([ring[place].found for place in last])
        for pattern, marks, limit in (
            (Pattern.THIN, thin, limits.thin_share),
            (Pattern.RARE_NAMES, rare, limits.rare_share),
            (Pattern.MOSTLY_FOUND, here, limits.found_share),
        ):
            if marks.mean() >= limit:
                found.append((pattern, [place for place, mark in zip(last, marks, strict=True) if mark], None))
    since = ring[-1].at - limits.found_within
    found_lately = [place for place in clients if ring[place].found and ring[place].at > since]
    if len(found_lately) >= limits.found_clients:
        found.append((Pattern.MANY_FOUND, found_lately, None))
    last = clients[-limits.ordered_clients :]
    if len(last) >= limits.ordered_clients and _order(sketches["name"][last]) >= limits.ordered_z:
        found.append((Pattern.ORDERED, list(last), None))
    return found


def _clients(sketches: NDArray[np.void], limits: Limits) -> list[int]:
    """Return the last question of each client.

    A follow-up's name is much like a recent question's, and whatever both say besides is the same: it adds, and
    corrects the name at most. Another date or mother under the same name is another person.
    """
    count = len(sketches)
    fields = sketches["fields"][:, 1:]
    superseded = np.zeros(count, dtype=bool)
    for back in range(1, min(limits.follow_up_within, count - 1) + 1):
        later, earlier = slice(back, None), slice(None, -back)
        alike = (sketches["name"][later] == sketches["name"][earlier]).mean(axis=1) >= limits.follow_up
        both = (fields[later] != 0) & (fields[earlier] != 0)
        alike &= ~(both & (fields[later] != fields[earlier])).any(axis=1)
        superseded[:-back] |= alike
    return np.flatnonzero(~superseded).tolist()


def _order(names: NDArray[np.uint16]) -> float:
    """Return by how many standard errors neighbours in time are more alike than any two of these names."""
    pairs = (names[:, None, :] == names[None, :, :]).mean(axis=2)
    every = pairs[np.triu_indices(len(names), 1)]
    spread = float(every.std())
    neighbours = np.diagonal(pairs, 1)
    return 0.0 if spread == 0 else float((neighbours.mean() - every.mean()) / (spread / np.sqrt(len(neighbours))))


def _similarity(names: NDArray[np.uint16], name: NDArray[np.uint16]) -> NDArray[np.float64]:
    alike: NDArray[np.float64] = (names == name).mean(axis=1)
    return alike


def _canonical(value: FieldQuery) -> bytes:
    """Return bytes that are the same for the same encoding."""
    match value:
        case NameQuery(tokens):
            parts = sorted(
                bytes([token.weight, token.initial])
                + b"".join(sorted(row.astype("<u8").tobytes() for row in token.variants))
                + _words(token.near)
                + token.call.to_bytes(8, "little")
                for token in tokens
            )
            return b"".join(len(part).to_bytes(4, "little") + part for part in parts)
        case PlaceQuery(text, regencies, related, provinces):
            return b"\0".join(_words(words) for words in (text, regencies, related, provinces))
        case DateQuery(years, classes, month, day, swapped_month, swapped_day):
            tail = b"".join(part.to_bytes(8, "little") for part in (month, day, swapped_month, swapped_day))
            return _words(years) + b"\0" + classes.tobytes() + b"\0" + tail
        case CodeQuery(token):
            return token.to_bytes(8, "little")


def _words(words: NDArray[np.uint64]) -> bytes:
    return len(words).to_bytes(4, "little") + words.astype("<u8").tobytes()


def _number(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little")
