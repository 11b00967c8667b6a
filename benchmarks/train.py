"""Trains the weight table that ships, from made-up populations of known truth. The recipe travels in the file."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.match import bench_keys, build_indexes, clients, open_indexes
from benchmarks.places_model import place_model
from benchmarks.populations import TEN_PROVINCES, TODAY, Recipe, generate
from matching.encoding import QueryEncoder
from matching.errors import FieldValueError
from matching.schema import PERSON_SCHEMA
from matching.training import RarityTally, Truth, calibrate, count_levels, gather_evidence, untrained_model
from matching.weights import FieldWeights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.errors_model import Profile
    from benchmarks.populations import Population
    from matching.index import EncodedIndex
    from matching.question import EncodedQuery, Evidence
    from matching.weights import MatchModel

# Nobody knows how wrong real descriptions are: one population of each profile, so that none is favoured.
PROFILES: Final[tuple[Profile, ...]] = ("low", "base", "high")


@dataclass(frozen=True)
class Training:
    """What to train on: a population per profile, seeds counting up from `seed`."""

    persons: int = 100_000
    clients: int = 6_000
    seed: int = 9_000

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The populations."""
        return tuple(Recipe(self.persons, self.clients, profile, self.seed + i) for i, profile in enumerate(PROFILES))


@dataclass(frozen=True)
class _School:
    indexes: Mapping[str, EncodedIndex]
    queries: Sequence[EncodedQuery]
    truths: Sequence[Truth]


def train(training: Training, progress: Callable[[int], None] = lambda _: None) -> MatchModel:
    """Train a model; progress is called with the number of clients just worked through (each is visited twice)."""
    people = place_model().population
    total = sum(people[code] for code in TEN_PROVINCES)
    priors = {code: round(people[code] / total, 4) for code in TEN_PROVINCES}
    model = untrained_model(PERSON_SCHEMA, priors, {**asdict(training), "profiles": list(PROFILES)}).with_priors(priors)
    with ExitStack() as stack:
        schools = [
            _school(generate(recipe.persons, recipe.clients, recipe.profile, recipe.seed), stack)
            for recipe in training.recipes
        ]
        rarity = RarityTally()
        counted = [
            count_levels(s.indexes, s.queries, s.truths, model, lambda: progress(1), rarity=rarity) for s in schools
        ]
        model = replace(model, fields=rarity.taught(_mean(counted)))
        evidence: list[Mapping[str, Evidence]] = []
        for school in schools:
            evidence += gather_evidence(school.indexes, school.queries, model, lambda: progress(1))
        queries = [query for school in schools for query in school.queries]
        truths = [truth for school in schools for truth in school.truths]
        return calibrate(model, evidence, queries, truths)


def _school(population: Population, stack: ExitStack) -> _School:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pulang-train-")))
    keys = bench_keys()
    build_indexes(population.registry, folder, keys, datetime.now(UTC))
    indexes = stack.enter_context(open_indexes(folder, keys))
    rows = {index.record_id(row): (code, row) for code, index in indexes.items() for row in range(index.size)}
    homes = dict(population.truth.select("query_id", "record_id").iter_rows())
    encoder = QueryEncoder(keys)
    queries, truths = [], []
    for query_id, client in clients(population.queries):
        try:
            queries.append(encoder.encode(client, TODAY))
        except FieldValueError:
            continue  # a newborn without a name cannot be asked about
        home = homes[query_id]
        truths.append(Truth(*rows[home]) if home in rows else Truth(None))
    return _School(indexes, queries, truths)


def _mean(counted: Sequence[Mapping[str, Mapping[str, FieldWeights]]]) -> dict[str, dict[str, FieldWeights]]:
    """Average the tables of several populations."""
    return {
        name: {
            group: FieldWeights(
                np.mean([tables[name][group].m for tables in counted], axis=0),
                np.mean([tables[name][group].u0 for tables in counted], axis=0),
            )
            for group in groups
        }
        for name, groups in counted[0].items()
    }
