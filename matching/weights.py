"""Match weights: m from training, u from the question's own null, log2(m / u) per agreement level."""

from __future__ import annotations

import json
from bisect import bisect
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from matching.errors import SchemaError
from matching.fields import YearClass
from matching.question import CodeQuery, DateQuery, NameQuery, PlaceQuery
from matching.schema import MAX_LEVELS, PERSON_SCHEMA, FieldKind, LinkageSchema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from matching.question import EncodedQuery, TokenQuery

MODEL_FORMAT: Final = "pulang-model-3"
NEARNESS: Final = 3  # far, one slip away, called so
TOKEN_STEPS: Final = 17  # sixteenths, both ends included
NAME_STEPS: Final = 33  # thirty-seconds
MAX_SCALE: Final = 10.0
MAX_FACTOR: Final = 1e9
MAX_DISCOUNT: Final = 10.0  # persons
MAX_LIKENESS: Final = 1000.0  # of 700 clients described worst (60,000 persons, seed 5150) the largest was 1,235
MIN_WEIGHT_BITS: Final = -12.0  # no single field may veto: every field is sometimes plain wrong
EXACT_UP_TO: Final = 4
RARE_WEIGHT: Final = 72  # quarter bits; rarer than every name the reference knows, and more often a slip of the pen
RARITY_EDGES: Final = (20, 28, 36, 44, 52, 60, 68, 76, 84, 92, 104, 120, 144)  # quarter bits, all tokens of a name
RARITY_BANDS: Final = len(RARITY_EDGES) + 1
SHAPE_EDGES: Final = (36, 52, 68, 84, 104)  # of the same; broader, for the shape of a question
TRUSTED_PERSONS: Final = 1.0  # as many, by chance, are what a name's rarity is trusted like; .7 to 2 do as well
MAX_EXPLAINED: Final = 3.0  # persons, whom a rare name may explain away; more of them, and the name is not rare
MAX_SHAPE_BITS: Final = 20.0


@dataclass(frozen=True, slots=True)
class FieldWeights:
    """What training says of one field for questions of one group.

    m, u0: (levels,) shares of true pairs and of random pairs per level, level 0 (missing) left out: m[0] = u0[0] = 0.
    chance: (RARITY_BANDS, levels), u0 by how rare the name that was said is; None where there is no rarity.
    """

    m: NDArray[np.float64]
    u0: NDArray[np.float64]
    chance: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Crowd:
    """How likely a description like the client's is among people who are not registered: 1 + slope x d ** power.

    d: how likely it is among the registered ones but for the likeliest of them, as a multiple of what independent
    fields would give. Names, places and years go together; where they do, chance agreements are as common as d says.
    No registry says more than MAX_LIKENESS: one that lies about its persons must not turn an answer into "nowhere".
    """

    slope: float
    power: float

    def factor(self, likeness: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return by how much "none" is likelier than independent fields would make it. likeness: d, any shape."""
        return np.asarray(1.0 + self.slope * np.clip(likeness, 0.0, MAX_LIKENESS) ** self.power, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class MatchModel:
    """Everything trained: tables of the kernels, m by field and group, and the calibration of the posterior.

    token_table: (3, 17, 17) uint8, similarity by nearness, Dice of spelling and of sound in sixteenths. name_cells:
    (33, 33) uint8, level by shares of rarity found and used in thirty-seconds. scales: per field, how much of its
    evidence is its own (dependent fields share some). pseudo_count: persons' worth of u0 mixed into the question's
    null, but for names whose rarity says more. discounts: persons taken off each level of that null, by field.
    temperature, none_factor, crowd, shapes: calibration of the posterior, see docs/matching.md; shapes: by field and
    `question_shape`, bits taken off every answer's evidence. priors: share of clients at home in each province.
    """

    schema: LinkageSchema
    token_table: NDArray[np.uint8]
    initial_similarity: int
    name_cells: NDArray[np.uint8]
    fields: Mapping[str, Mapping[str, FieldWeights]]
    scales: Mapping[str, float]
    pseudo_count: float
    discounts: Mapping[str, float]
    temperature: float
    none_factor: float
    crowd: Crowd
    shapes: Mapping[str, Mapping[str, float]]
    coverage: float
    priors: Mapping[str, float]
    release_threshold: float
    absence_threshold: float
    recipe: Mapping[str, Any]

    def bits(
        self, query: EncodedQuery, histograms: Sequence[NDArray[np.int64]], *, discounted: bool = False
    ) -> NDArray[np.float32]:
        """Return the match weight of every level for this question, (fields, 64) float32, in bits.

        histograms: per field, persons per level, over all registries whose answers are weighed together; that is the
        question's own null. A missing value weighs 0. discounted: the person looked for may be among those counted, so
        each level is worth a little less than its count (absolute discounting); and a name's rarity, where it is known,
        says what should have been counted by chance. Not discounted, weights go by what was counted alone.
        Source: Fellegi & Sunter 1969; Ney, Essen & Kneser 1994; docs/matching.md, "Weights".
        """
        out = np.zeros((len(self.schema.fields), MAX_LEVELS), dtype=np.float32)
        for f, (spec, histogram) in enumerate(zip(self.schema.fields, histograms, strict=True)):
            group = question_group(query, spec.name)
            if group is None:
                continue
            weights = self.fields[spec.name][group]
            counts = np.asarray(histogram, dtype=np.float64).copy()
            counts[0] = 0
            discount = self.discounts[spec.name] if discounted else 0.0
            match query.fields[spec.name]:
                case NameQuery(tokens) if discounted and weights.chance is not None:
                    u = _null_of_rarity(counts, weights.chance[rarity_band(tokens)], discount)
                case _:
                    met = np.maximum(counts - discount, 0.0) + self.pseudo_count * weights.u0
                    u = met / (counts.sum() + self.pseudo_count)
            with np.errstate(divide="ignore", invalid="ignore"):
                bits = np.where(u > 0, np.log2(weights.m / u), 0.0)
            bits = np.clip(bits, MIN_WEIGHT_BITS, None) * self.scales[spec.name]
            bits[0] = 0
            out[f, : spec.levels] = bits
        return out

    def shape_bits(self, query: EncodedQuery) -> float:
        """Return by how many bits every answer to such a question says too much; 0 on average over questions."""
        return sum(self.shapes[name][key] for name in query.fields for key in question_shape(query, name))

    def to_json(self) -> str:
        """Return the model file's text."""
        body = {
            "format": MODEL_FORMAT,
            "fingerprint": self.schema.fingerprint.hex(),
            "recipe": dict(self.recipe),
            "token_table": self.token_table.tolist(),
            "initial_similarity": self.initial_similarity,
            "name_cells": self.name_cells.tolist(),
            "fields": {
                name: {group: _shares_of(weights) for group, weights in sorted(groups.items())}
                for name, groups in self.fields.items()
            },
            "scales": {name: round(scale, 4) for name, scale in self.scales.items()},
            "pseudo_count": self.pseudo_count,
            "discounts": dict(self.discounts),
            "temperature": round(self.temperature, 4),
            "none_factor": round(self.none_factor, 4),
            "crowd": {name: round(value, 4) for name, value in asdict(self.crowd).items()},
            "shapes": {
                name: {key: round(bits, 4) for key, bits in sorted(shapes.items())}
                for name, shapes in self.shapes.items()
            },
            "coverage": self.coverage,
            "priors": dict(self.priors),
            "release_threshold": self.release_threshold,
            "absence_threshold": self.absence_threshold,
        }
        return json.dumps(body, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, text: str, schema: LinkageSchema) -> MatchModel:
        """Read a model file. Raises SchemaError when it was trained for another schema or is not a model."""
        try:
            body = json.loads(text)
            if body["format"] != MODEL_FORMAT:
                raise SchemaError(f"the weight table's format is not {MODEL_FORMAT}")
            if body["fingerprint"] != schema.fingerprint.hex():
                raise SchemaError("the weight table was trained for another schema: train it again")
            model = cls(
                schema=schema,
                token_table=np.array(body["token_table"], dtype=np.uint8),
                initial_similarity=int(body["initial_similarity"]),
                name_cells=np.array(body["name_cells"], dtype=np.uint8),
                fields={
                    name: {
                        g: FieldWeights(**{of: np.array(w[of], dtype=np.float64) for of in w})
                        for g, w in groups.items()
                    }
                    for name, groups in body["fields"].items()
                },
                scales=body["scales"],
                pseudo_count=float(body["pseudo_count"]),
                discounts={name: float(body["discounts"][name]) for name in schema.field_names},
                temperature=float(body["temperature"]),
                none_factor=float(body["none_factor"]),
                crowd=Crowd(**{name: float(value) for name, value in body["crowd"].items()}),
                shapes={
                    name: {key: float(bits) for key, bits in shapes.items()} for name, shapes in body["shapes"].items()
                },
                coverage=float(body["coverage"]),
                priors=body["priors"],
                release_threshold=float(body["release_threshold"]),
                absence_threshold=float(body["absence_threshold"]),
                recipe=body["recipe"],
            )
            model._check()
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            raise SchemaError("the weight table is not one of ours, or torn") from None
        return model

    def _check(self) -> None:
        """Raise ValueError for tables of another form: the kernels read them without looking."""
        shapes = (self.token_table.shape, self.name_cells.shape)
        _require(shapes == ((NEARNESS, TOKEN_STEPS, TOKEN_STEPS), (NAME_STEPS, NAME_STEPS)))
        names = [spec.levels for spec in self.schema.fields if spec.kind is FieldKind.NAME]
        _require(0 <= self.initial_similarity <= np.iinfo(np.uint8).max)
        _require(int(self.name_cells.max()) < min(names, default=MAX_LEVELS))
        for spec in self.schema.fields:
            _require(self.fields[spec.name].keys() == set(GROUPS[spec.kind]))
            for weights in self.fields[spec.name].values():
                for share in (weights.m, weights.u0):
                    _require(share.shape == (spec.levels,) and bool(((share >= 0) & (share <= 1)).all()))
                if weights.chance is not None:
                    _require(spec.kind is FieldKind.NAME and weights.chance.shape == (RARITY_BANDS, spec.levels))
                    _require(bool(((weights.chance >= 0) & (weights.chance <= 1)).all()))
                    _require(bool((weights.chance[:, 1:] > 0).all()))
            _require(self.shapes[spec.name].keys() == set(SHAPES[spec.kind]))
            _require(all(abs(bits) <= MAX_SHAPE_BITS for bits in self.shapes[spec.name].values()))
            _require(0 < self.scales[spec.name] <= MAX_SCALE)
            _require(0 <= self.discounts[spec.name] < MAX_DISCOUNT)
        _require(self.shapes.keys() == set(self.schema.field_names))
        calibration = (self.pseudo_count, self.temperature, self.none_factor)
        _require(all(0 < each < MAX_FACTOR for each in calibration))
        _require(0 <= self.crowd.slope < MAX_FACTOR and 0 < self.crowd.power <= MAX_SCALE)
        shares = (self.coverage, self.release_threshold, self.absence_threshold, *self.priors.values())
        _require(all(0 <= share <= 1 for share in shares))

    def with_priors(self, priors: Mapping[str, float]) -> MatchModel:
        """Return this model for another set of provinces; shares are normalised."""
        total = sum(priors.values())
        return replace(self, priors={code: share / total for code, share in priors.items()})


def _require(condition: object) -> None:
    if not condition:
        raise ValueError


def _rounded(values: NDArray[np.float64], digits: int = 4) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values]


def _shares_of(weights: FieldWeights) -> dict[str, list[Any]]:
    shares: dict[str, list[Any]] = {"m": _rounded(weights.m), "u0": _rounded(weights.u0)}
    if weights.chance is not None:
        shares["chance"] = [_rounded(band, 3) for band in weights.chance]
    return shares


def _null_of_rarity(counts: NDArray[np.float64], chance: NDArray[np.float64], discount: float) -> NDArray[np.float64]:
    """Return the share of persons who reach each level of a name by chance.

    counts: persons per level. chance: what the name's rarity lets expect. The mean of a gamma distribution that is
    worth TRUSTED_PERSONS before anybody is counted: of a name that nobody should bear, whoever bears it is rather the
    person looked for than chance. Of at most MAX_EXPLAINED persons, though: names are not always as rare as the
    reference has it. Source: Clayton & Kaldor 1987, Biometrics 43(3).
    """
    persons = counts.sum()
    expected = np.maximum(chance, 1e-12)  # of level 0, which has no weight
    u = (np.maximum(counts - discount, 0.0) + TRUSTED_PERSONS) / (persons + TRUSTED_PERSONS / expected)
    return np.asarray(np.maximum(u, (counts - MAX_EXPLAINED) / max(persons, 1.0)))


@cache
def load_model() -> MatchModel:
    """Return the model that ships with the package, for PERSON_SCHEMA."""
    text = resources.files("matching").joinpath("data", "model.json").read_text(encoding="ascii")
    return MatchModel.from_json(text, PERSON_SCHEMA)


def question_group(query: EncodedQuery, field: str) -> str | None:
    """Return which of a field's trained tables a question uses; None when the field is not asked.

    Names by their number of tokens (a one-word name that agrees says less) and by whether one of them is an initial
    (which agrees in part only) or rarer than all that are known (it may be misspelt), dates by what is known of them.
    Places by what was named: a regency, a district (of one regency or several; villages are called like districts), a
    province or island, nothing known.
    """
    match query.fields.get(field):
        case None:
            return None
        case NameQuery(tokens):
            return f"{min(len(tokens), 3)}{_name_kind(tokens)}"
        case DateQuery() as asked:
            if asked.month or asked.day:
                return "day"
            return "year" if int((asked.year_classes == YearClass.EXACT).sum()) <= 1 else "band"
        case PlaceQuery() as asked:
            return _place_kind(asked)
        case CodeQuery():
            return "any"


def rarity_band(tokens: Sequence[TokenQuery], edges: Sequence[int] = RARITY_EDGES) -> int:
    """Return which band the rarity of a name lies in: of all its tokens, but initials."""
    return bisect(edges, sum(token.weight for token in tokens if not token.initial))


def question_shape(query: EncodedQuery, field: str) -> tuple[str, ...]:
    """Return what a field adds to the shape of a question: its group, and how rare the name is."""
    group = question_group(query, field)
    if group is None:
        return ()
    match query.fields[field]:
        case NameQuery(tokens):
            return group, RARITIES[rarity_band(tokens, SHAPE_EDGES)]
        case _:
            return (group,)


def _name_kind(tokens: Sequence[TokenQuery]) -> str:
    if any(token.initial for token in tokens):
        return "initial"
    return "rare" if any(token.weight >= RARE_WEIGHT for token in tokens) else ""


def _place_kind(asked: PlaceQuery) -> str:
    if not len(asked.regencies):
        return "vague" if len(asked.provinces) else "unknown"
    if not asked.district:
        return "regency"
    return "district" if len(asked.regencies) == 1 else "districts"


GROUPS: Final[dict[FieldKind, tuple[str, ...]]] = {
    FieldKind.NAME: ("1", "2", "3", "1rare", "2rare", "3rare", "1initial", "2initial", "3initial"),
    FieldKind.DATE: ("day", "year", "band"),
    FieldKind.PLACE: ("regency", "district", "districts", "vague", "unknown"),
    FieldKind.CODE: ("any",),
}
RARITIES: Final = tuple(f"rarity{band}" for band in range(len(SHAPE_EDGES) + 1))
SHAPES: Final[dict[FieldKind, tuple[str, ...]]] = {**GROUPS, FieldKind.NAME: (*GROUPS[FieldKind.NAME], *RARITIES)}


def round_counts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Round counts to half octaves (powers of the square root of 2); exact up to 4.

    What leaves a province says how crowded a level is, never exactly how many persons it holds.
    """
    values = np.asarray(counts, dtype=np.int64)
    octaves = np.round(2 * np.log2(np.maximum(values, 1))) / 2
    return np.where(values <= EXACT_UP_TO, values, np.round(2.0**octaves).astype(np.int64))
