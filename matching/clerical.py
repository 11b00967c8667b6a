"""Clerical review: which candidates a person should look at, and what their decisions teach the model.

A candidate is neither plainly the client nor plainly somebody else when its match weight lies in a zone (Fellegi &
Sunter 1969, JASA 64(328): the "possible links" between two thresholds). Decisions about such pairs are a sample
truncated by that very zone; m is estimated from it as from truncated data (Turnbull 1976, JRSS B 38(3)).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from matching.errors import EstimationError, SchemaError
from matching.question import HANDLES_PER_ANSWER
from matching.weights import GROUPS, FieldWeights, MatchModel, question_group

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from matching.question import EncodedQuery, SearchResult
    from matching.schema import FieldSpec, LinkageSchema

    Floats: TypeAlias = NDArray[np.float64]

FORMAT: Final = "pulang-reviews-1"
MIN_SAME: Final = 100  # decisions "same" below which m is left alone: a level met by one pair in ten would be a guess
PRIOR_PAIRS: Final = 200.0  # pairs' worth of the trained m that every table begins with
MAX_SHIFT_BITS: Final = 1.0  # how far reviews, whatever they say, may move the weight of any level
MAX_COUNT: Final = 1_000_000  # of equal reviews in a file
MAX_ROUNDS: Final = 1_000
TOLERANCE: Final = 1e-7  # of a share; the model file keeps four digits
_MASK_BYTES: Final = 8


class ReviewDecision(StrEnum):
    """What a reviewer said of a pair."""

    SAME = "same"
    DIFFERENT = "different"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a candidate agrees with a question; all that is kept of the question.

    levels: per field of the schema, 0 missing. groups: which of a field's trained tables the question used, "" where
    the field was not asked. admitted: per field a bit mask of the levels that would have left the pair in the zone,
    everything else being as it is: what the selection let through.
    """

    levels: tuple[int, ...]
    groups: tuple[str, ...]
    admitted: tuple[int, ...]

    def pack(self) -> tuple[bytes, str, bytes]:
        """Return levels, groups and masks as a database keeps them."""
        masks = b"".join(mask.to_bytes(_MASK_BYTES, "little") for mask in self.admitted)
        return bytes(self.levels), ",".join(self.groups), masks

    @classmethod
    def unpack(cls, levels: bytes, groups: str, admitted: bytes) -> Agreement:
        """Return what was packed."""
        masks = [admitted[start : start + _MASK_BYTES] for start in range(0, len(admitted), _MASK_BYTES)]
        return cls(tuple(levels), tuple(groups.split(",")), tuple(int.from_bytes(mask, "little") for mask in masks))

    def check(self, schema: LinkageSchema) -> None:
        """Raise SchemaError when this cannot be an agreement under the schema."""
        sizes = {len(self.levels), len(self.groups), len(self.admitted), len(schema.fields)}
        good = len(sizes) == 1 and all(map(_fits, schema.fields, self.levels, self.groups, self.admitted))
        if not good:
            raise SchemaError("a review does not fit the schema: it was made under another one, or is torn")


def _fits(spec: FieldSpec, level: int, group: str, mask: int) -> bool:
    if not (0 <= level < spec.levels and 0 <= mask < 1 << spec.levels and not mask & 1):
        return False
    if not group:
        return level == 0 and mask == 0
    return group in GROUPS[spec.kind] and (level == 0 or bool(mask >> level & 1))


@dataclass(frozen=True, slots=True)
class Zone:
    """Between which match weights a person decides, in bits above log2 of the registry's persons; the upper is out.

    docs/matching.md, "Clerical review", says what such a bit is worth.
    """

    lower_bits: float
    upper_bits: float


def clerical_candidates(
    result: SearchResult, query: EncodedQuery, schema: LinkageSchema, zone: Zone
) -> dict[int, Agreement]:
    """Return the evidence classes of an answer that lie in the zone, by class index.

    By the registry's own null and without any prior: provinces' shares and the other registries' answers play no part.
    A class of more persons than an answer has handles is a crowd, and no caseworker could tell it apart.
    """
    fields = np.arange(len(schema.fields))
    table = result.bits.astype(np.float64)
    groups = tuple(question_group(query, name) or "" for name in schema.field_names)
    found: dict[int, Agreement] = {}
    for place, (levels, count) in enumerate(
        zip(result.evidence.class_levels, result.evidence.class_counts, strict=True)
    ):
        own = table[fields, levels]
        margin = float(own.sum()) - float(np.log2(max(result.evidence.size, 1)))
        if count > HANDLES_PER_ANSWER or not zone.lower_bits <= margin < zone.upper_bits:
            continue
        masks = []
        for f, spec in enumerate(schema.fields):
            other = margin - own[f] + table[f, : spec.levels]
            inside = (zone.lower_bits <= other) & (other < zone.upper_bits)
            inside[levels[f]] = True
            inside[0] = False
            masks.append(sum(1 << level for level in np.flatnonzero(inside).tolist()) if groups[f] else 0)
        found[place] = Agreement(tuple(map(int, levels)), groups, tuple(masks))
    return found


# --- decisions, and what they teach --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Review:
    """A decision about `count` pairs of one agreement; nothing says which pairs, whose, or when."""

    agreement: Agreement
    decision: ReviewDecision
    count: int = 1


def write_reviews(reviews: Iterable[Review], schema: LinkageSchema) -> str:
    """Return a reviews file's text. Equal reviews are counted together and sorted: their order says nothing."""
    counted: dict[tuple[Agreement, ReviewDecision], int] = {}
    for review in reviews:
        key = (review.agreement, review.decision)
        counted[key] = counted.get(key, 0) + review.count
    body = {
        "format": FORMAT,
        "fingerprint": schema.fingerprint.hex(),
        "reviews": sorted(
            (
                {
                    "levels": list(agreement.levels),
                    "groups": list(agreement.groups),
                    "admitted": list(agreement.admitted),
                    "decision": str(decision),
                    "count": count,
                }
                for (agreement, decision), count in counted.items()
            ),
            key=json.dumps,
        ),
    }
    return json.dumps(body, indent=1) + "\n"


def read_reviews(text: str, schema: LinkageSchema) -> tuple[Review, ...]:
    """Read a reviews file. Raises SchemaError when it is none, is torn, or was made under another schema."""
    try:
        body: dict[str, Any] = json.loads(text)
        if body["format"] != FORMAT:
            raise SchemaError(f"the reviews' format is not {FORMAT}")
        if body["fingerprint"] != schema.fingerprint.hex():
            raise SchemaError("the reviews were made under another schema")
        return tuple(_review(each, schema) for each in body["reviews"])
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        raise SchemaError("this is no file of reviews, or it is torn") from None


def _review(body: Mapping[str, Any], schema: LinkageSchema) -> Review:
    agreement = Agreement(*(tuple(body[key]) for key in ("levels", "groups", "admitted")))
    agreement.check(schema)
    if not (isinstance(body["count"], int) and 0 < body["count"] <= MAX_COUNT):
        raise ValueError("count")
    return Review(agreement, ReviewDecision(body["decision"]), body["count"])


def count_decisions(reviews: Sequence[Review]) -> dict[ReviewDecision, int]:
    """Return how many pairs were decided how. Raises EstimationError for fewer than MIN_SAME decisions "same"."""
    totals = {each: sum(r.count for r in reviews if r.decision is each) for each in ReviewDecision}
    if totals[ReviewDecision.SAME] < MIN_SAME:
        raise EstimationError(
            f"{totals[ReviewDecision.SAME]} reviews say `same`, at least {MIN_SAME} are needed: fewer would teach the "
            "model the chances of a few persons"
        )
    return totals


def learn(model: MatchModel, reviews: Sequence[Review]) -> MatchModel:
    """Return the model with m moved towards what reviewers called the same person.

    Per field and group: the most likely m of pairs truncated by the zone, PRIOR_PAIRS' worth of the trained m mixed in;
    then no level's weight may move by more than MAX_SHIFT_BITS. "different" says nothing of m, and u is the question's
    own null: such decisions are counted in the recipe only.
    Raises EstimationError for fewer than MIN_SAME decisions "same".
    """
    totals = count_decisions(reviews)
    same = [review for review in reviews if review.decision is ReviewDecision.SAME]
    fields: dict[str, Mapping[str, FieldWeights]] = {}
    for f, spec in enumerate(model.schema.fields):
        tables = dict(model.fields[spec.name])
        for group, weights in tables.items():
            here = [r for r in same if r.agreement.groups[f] == group and r.agreement.levels[f]]
            if here:
                levels = np.array([r.agreement.levels[f] for r in here])
                masks = [r.agreement.admitted[f] for r in here]
                counts = np.array([r.count for r in here], dtype=np.float64)
                seen = truncated_shares(weights.m, levels, masks, counts)
                tables[group] = replace(weights, m=bounded(seen, weights.m))
        fields[spec.name] = tables
    learnt = {
        "decisions": {str(each): count for each, count in totals.items()},
        "prior_pairs": PRIOR_PAIRS,
        "max_shift_bits": MAX_SHIFT_BITS,
    }
    return replace(model, fields=fields, recipe={**model.recipe, "reviews": learnt})


def truncated_shares(prior: Floats, levels: NDArray[Any], masks: Sequence[int], counts: Floats) -> Floats:
    """Return the shares per level that explain a truncated sample best, the prior counting as PRIOR_PAIRS whole pairs.

    prior: (levels,) shares, level 0 (missing) 0. levels, masks, counts: per kind of pair the level seen, the bit mask
    of the levels that could have been seen, how many pairs. For every pair seen, EM adds the pairs that the zone must
    have kept away (Turnbull's ghosts): m(outside the mask) / m(mask) of them, spread as m is outside.
    """
    whole = PRIOR_PAIRS * prior + np.bincount(levels, weights=counts, minlength=len(prior))
    by_mask: dict[int, float] = {}
    for mask, count in zip(masks, counts.tolist(), strict=True):
        by_mask[mask] = by_mask.get(mask, 0.0) + count
    allowed = np.array([[mask >> level & 1 for level in range(len(prior))] for mask in by_mask], dtype=np.float64)
    counts = np.array(list(by_mask.values()))
    shares = prior.copy()
    for _ in range(MAX_ROUNDS):
        kept_away = (counts / (allowed @ shares)) @ (1 - allowed)
        found = whole + kept_away * shares
        found[0] = 0.0
        found /= found.sum()
        moved = float(np.abs(found - shares).max())
        shares = found
        if moved < TOLERANCE:
            break
    return np.asarray(shares)


def bounded(shares: Floats, prior: Floats, bits: float = MAX_SHIFT_BITS) -> Floats:
    """Return the shares with none further than `bits` from the prior, summing to 1 as they did.

    They are multiplied by one factor and cut off at both bounds; the factor is found by bisection.
    """
    low, high = prior * 2.0**-bits, prior * 2.0**bits
    least, most = -64.0, 64.0  # of log2 of the factor
    for _ in range(100):
        middle = (least + most) / 2
        if float(np.clip(shares * 2.0**middle, low, high).sum()) < 1.0:
            least = middle
        else:
            most = middle
    return np.asarray(np.clip(shares * 2.0**most, low, high))
