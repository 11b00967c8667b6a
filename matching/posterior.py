"""Evidence from several provinces -> one calibrated posterior over provinces, with a "none of these" share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from matching.weights import question_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matching.question import EncodedQuery, Evidence
    from matching.weights import MatchModel

ASKABLE: Final = ("birth_date", "mother_name", "birthplace")  # registries seldom hold the father's name

MAX_COVER: Final = 16.0  # a registry may serve this many times its share of all registered persons, no more
MIN_GAIN_BITS: Final = 0.5  # a question that tells less is not worth a troubled person's patience


class Outcome(StrEnum):
    """What the provinces together say."""

    HOME_FOUND = "home_found"
    AMBIGUOUS = "ambiguous"
    NOT_REGISTERED = "not_registered"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One evidence class of one province.

    class_index: position in that province's answer. count: persons in the class (rounded). probability: that the
    client is one of them. field_bits: match weight per field asked about, 0 where the registry does not know it.
    """

    province: str
    class_index: int
    count: int
    probability: float
    field_bits: Mapping[str, float]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Posterior:
    """Probabilities that sum to 1: at home in each province that answered, in one that did not, in none of these."""

    provinces: Mapping[str, float]
    none: float
    unanswered: Mapping[str, float]
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to tell the caseworker. province: the likeliest home when it is above the release threshold."""

    outcome: Outcome
    province: str | None
    ask_for: str | None


def combine(
    answers: Mapping[str, Evidence], silent: Sequence[str], model: MatchModel, query: EncodedQuery
) -> Posterior:
    """Weigh the answers of all provinces together.

    answers: evidence per province code that answered. silent: codes that did not. Each keeps its prior, weighed as
    "none of these" is: for a client at home there, the answers of all others are what they are for one at home nowhere.
    The null is pooled over all that answered: one province's own null alone loses most of the gain. Weight of a class
    in province j: prior_j x count x 2^bits / size_j, less what questions of such a shape say too much; "none of
    these": 1 - sum of prior_j, where prior_j includes the chance that a client at home there is registered at all,
    times what the crowd says of chance (Crowd).
    """
    schema = model.schema
    levels = schema.levels
    for code, evidence in answers.items():
        shapes = tuple(len(histogram) for histogram in evidence.histograms)
        if shapes != levels or evidence.class_levels.shape[1:] != (len(levels),):
            raise ValueError(f"evidence of province {code} does not have the schema's shape")
    pooled = [
        np.sum([evidence.histograms[f] for evidence in answers.values()], axis=0)
        if answers
        else np.zeros(levels[f], dtype=np.int64)
        for f in range(len(levels))
    ]
    bits = model.bits(query, pooled, discounted=True)
    too_much = 2.0 ** model.shape_bits(query)
    prior = _priors(model, (*answers, *silent))
    prior |= _covered({code: evidence.size for code, evidence in answers.items()}, prior)
    likeness = 0.0  # of all registered persons: what each is worth, in multiples of a chance person
    likest = 0.0
    masses: dict[str, float] = {}
    shares: list[tuple[str, int, float]] = []
    for code, evidence in answers.items():
        weights = bits[np.arange(len(levels)), evidence.class_levels].sum(axis=1, dtype=np.float64)
        each = np.where(evidence.class_counts > 0, np.exp2(weights), 0.0)
        likeness += float((evidence.class_counts * each).sum())
        likest = max(likest, float(each.max(initial=0.0)))
        ratio = evidence.class_counts * each / evidence.size
        total = float(ratio.sum())
        # The temperature bends a province's whole likelihood ratio; its classes keep their shares of it.
        masses[code] = prior[code] * total**model.temperature / too_much
        shares += [(code, c, masses[code] * float(r) / total) for c, r in enumerate(ratio) if r > 0]
    persons = max(sum(evidence.size for evidence in answers.values()), 1)
    elsewhere = model.none_factor * float(model.crowd.factor(np.array((likeness - likest) / persons)))
    none_mass = elsewhere * (1.0 - sum(prior.values()))
    norm = sum(masses.values()) + none_mass + elsewhere * sum(prior[code] for code in silent)
    candidates = []
    for code, c, mass in sorted(shares, key=lambda item: -item[2]):
        row = answers[code].class_levels[c]
        asked = {
            name: float(bits[f, row[f]])
            for f, name in enumerate(schema.field_names)
            if question_group(query, name) is not None
        }
        missing = tuple(name for f, name in enumerate(schema.field_names) if name in asked and row[f] == 0)
        candidates.append(Candidate(code, c, int(answers[code].class_counts[c]), mass / norm, asked, missing))
    return Posterior(
        provinces={code: mass / norm for code, mass in sorted(masses.items(), key=lambda item: -item[1])},
        none=none_mass / norm,
        unanswered={code: elsewhere * prior[code] / norm for code in silent},
        candidates=tuple(candidates),
    )


def _priors(model: MatchModel, codes: Sequence[str]) -> dict[str, float]:
    """Return each province's prior times coverage; one the model does not know counts as an average one."""
    mean = sum(model.priors.values()) / len(model.priors)
    shares = {code: model.priors.get(code, mean) for code in codes}
    total = max(1.0, sum(shares.values()))
    return {code: model.coverage * share / total for code, share in shares.items()}


def _covered(sizes: Mapping[str, int], prior: Mapping[str, float]) -> dict[str, float]:
    """Return the priors of provinces that answered, each bounded by what its registry can cover.

    A province whose registry is tiny beside the others' cannot hold its share of the clients. Without this bound a
    registry said to hold one person would win any client it is a fair match for: count / size has no other limit.
    """
    persons, mass = sum(sizes.values()), sum(prior[code] for code in sizes)
    return {code: min(prior[code], MAX_COVER * mass * size / max(persons, 1)) for code, size in sizes.items()}


def decide(posterior: Posterior, model: MatchModel, query: EncodedQuery) -> Decision:
    """Turn a posterior into the caseworker's answer.

    A province above the release threshold is the home; only when every province answered is it *found*, and only
    then can "none of these" mean "not registered". Everything between is ambiguous, and names what to ask next.
    """
    top = max(posterior.provinces, key=lambda code: posterior.provinces[code], default=None)
    home = top if top is not None and posterior.provinces[top] >= model.release_threshold else None
    if posterior.unanswered:
        return Decision(Outcome.INCOMPLETE, home, next_question(model, query))
    if home is not None:
        return Decision(Outcome.HOME_FOUND, home, None)
    if posterior.none >= model.absence_threshold:
        return Decision(Outcome.NOT_REGISTERED, None, None)
    return Decision(Outcome.AMBIGUOUS, None, next_question(model, query))


def weigh(
    answers: Mapping[str, Evidence], silent: Sequence[str], model: MatchModel, query: EncodedQuery
) -> tuple[Posterior, Decision]:
    """Weigh all answers together and decide. "Not registered" must not hang on a single province's word.

    A registry that calls all its persons just like the client makes every other candidate look like chance. So when
    without one of the answers a home would be found, the outcome is ambiguous.
    """
    posterior = combine(answers, silent, model, query)
    decision = decide(posterior, model, query)
    if decision.outcome is Outcome.NOT_REGISTERED and _one_hides_a_home(answers, model, query):
        decision = Decision(Outcome.AMBIGUOUS, None, next_question(model, query))
    return posterior, decision


def _one_hides_a_home(answers: Mapping[str, Evidence], model: MatchModel, query: EncodedQuery) -> bool:
    for left_out in answers:
        others = {code: evidence for code, evidence in answers.items() if code != left_out}
        if not others:
            continue
        found = combine(others, (left_out,), model, query)
        # As if the one left out were no member: its own share must not save it.
        if max(found.provinces.values()) >= model.release_threshold * (1.0 - found.unanswered[left_out]):
            return True
    return False


def next_question(model: MatchModel, query: EncodedQuery) -> str | None:
    """Return the field whose answer would add most bits of evidence, None when everything is known in full.

    The gain of a field is the evidence a true pair carries in it on average (sum of m x log2(m / u0)) in its most
    telling form, less what the question already has of it.
    """
    gains: dict[str, float] = {}
    for name in ASKABLE:
        groups = model.fields.get(name)
        if groups is None:
            continue
        best = max(_expected_bits(weights.m, weights.u0) for weights in groups.values())
        group = question_group(query, name)
        if group is not None and name != "birth_date":
            continue  # who has said a name or a place has said what they know; a date can be asked for in full
        known = _expected_bits(groups[group].m, groups[group].u0) if group is not None else 0.0
        gains[name] = (best - known) * model.scales[name]
    best_field = max(gains, key=lambda field: gains[field], default=None)
    return best_field if best_field is not None and gains[best_field] > MIN_GAIN_BITS else None


def _expected_bits(m: np.typing.NDArray[np.float64], u0: np.typing.NDArray[np.float64]) -> float:
    good = (m > 0) & (u0 > 0)
    return float((m[good] * np.log2(m[good] / u0[good])).sum())
