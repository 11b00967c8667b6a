"""What reviewers' decisions may teach the model: planted shares are found through the zone, and nothing moves far."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matching.clerical import (
    MAX_SHIFT_BITS,
    MIN_SAME,
    Agreement,
    Review,
    ReviewDecision,
    bounded,
    learn,
    read_reviews,
    truncated_shares,
    write_reviews,
)
from matching.errors import EstimationError, SchemaError
from matching.schema import PERSON_SCHEMA
from matching.weights import GROUPS, MatchModel, load_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEEDS = st.integers(0, 2**32 - 1)
LEVELS = 9
SAME, DIFFERENT = ReviewDecision.SAME, ReviewDecision.DIFFERENT


def shares(rng: np.random.Generator, levels: int = LEVELS) -> NDArray[np.float64]:
    found = np.concatenate([[0.0], rng.dirichlet(np.full(levels - 1, 4.0)) + 0.02])
    return np.asarray(found / found.sum())


def truncated_sample(
    rng: np.random.Generator, planted: NDArray[np.float64], pairs: int
) -> tuple[NDArray[np.int64], list[int]]:
    """Draw pairs, of which only those of middling weight are kept; the other fields' weight is noise."""
    bits = np.linspace(-6, 6, len(planted))  # the field's weight by level
    level = rng.choice(len(planted), size=pairs, p=planted)
    rest = rng.normal(0, 5, size=pairs)
    inside = (rest[:, None] + bits >= -4) & (rest[:, None] + bits < 7)
    inside[:, 0] = False
    kept = inside[np.arange(pairs), level]
    masks = [sum(1 << at for at in np.flatnonzero(row).tolist()) for row in inside[kept]]
    return level[kept], masks


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_planted_shares_are_found_through_the_zone_that_selected_the_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prior = shares(rng)
    planted = bounded(shares(rng), prior, bits=0.8)
    levels, masks = truncated_sample(rng, planted, 60_000)
    found = bounded(truncated_shares(prior, levels, masks, np.ones(len(levels))), prior)
    assert np.abs(found - planted).max() < 0.02
    assert found.sum() == pytest.approx(1)


def test_counting_what_was_reviewed_would_miss_the_planted_shares() -> None:
    rng = np.random.default_rng(5)
    planted = np.concatenate([[0.0], np.full(LEVELS - 1, 1 / (LEVELS - 1))])
    levels, masks = truncated_sample(rng, planted, 60_000)
    counted = np.bincount(levels, minlength=LEVELS) / len(levels)
    found = truncated_shares(planted, levels, masks, np.ones(len(levels)))
    assert np.abs(counted - planted).max() > 0.03
    assert np.abs(found - planted).max() < 0.01


@given(SEEDS, st.integers(1, 10**6))
@settings(max_examples=12, deadline=None)
def test_no_set_of_reviews_moves_a_level_further_than_the_bound(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    model = load_model()
    reviews = [Review(agreement(rng), SAME, count) for _ in range(5)] + [Review(agreement(rng), SAME, MIN_SAME)]
    taught = learn(model, reviews)
    for name, groups in model.fields.items():
        for group, before in groups.items():
            after = taught.fields[name][group]
            assert after.m.sum() == pytest.approx(1, abs=5e-4)  # four digits of each level in the file
            at = before.m > 0
            assert np.abs(np.log2(after.m[at] / before.m[at])).max() <= MAX_SHIFT_BITS + 1e-6
            assert np.array_equal(after.u0, before.u0)


def agreement(rng: np.random.Generator) -> Agreement:
    levels, groups, masks = [], [], []
    for spec in PERSON_SCHEMA.fields:
        asked = rng.random() < 0.8
        level = int(rng.integers(0, spec.levels)) if asked else 0
        mask = int(rng.integers(0, 1 << (spec.levels - 1), dtype=np.int64)) << 1 | (1 << level if level else 0)
        levels.append(level)
        groups.append(str(rng.choice(GROUPS[spec.kind])) if asked else "")
        masks.append(mask if asked else 0)
    return Agreement(tuple(levels), tuple(groups), tuple(masks))


def one_sided(level: int, mask: int) -> Agreement:
    """Sex alone: nothing but what this field says is taught."""
    return Agreement(
        tuple(level if name == "sex" else 0 for name in PERSON_SCHEMA.field_names),
        tuple("any" if name == "sex" else "" for name in PERSON_SCHEMA.field_names),
        tuple(mask if name == "sex" else 0 for name in PERSON_SCHEMA.field_names),
    )


def test_a_wicked_set_moves_the_weights_to_the_bound_and_no_further() -> None:
    """A thousand reviews that call people of the other sex the same person."""
    model = load_model()
    before = model.fields["sex"]["any"].m
    after = learn(model, [Review(one_sided(1, 0b110), SAME, 1000)]).fields["sex"]["any"].m
    assert after[1] / before[1] == pytest.approx(2**MAX_SHIFT_BITS)
    assert after[2] > after[1], "agreement still speaks for, disagreement against"


def test_a_pair_the_zone_could_not_have_shown_otherwise_teaches_nothing() -> None:
    """Only one level would have left the pair in the zone: that it was seen says nothing of how often it occurs."""
    model = load_model()
    taught = learn(model, [Review(one_sided(1, 0b010), SAME, 1000)])
    assert taught.fields["sex"]["any"].m == pytest.approx(model.fields["sex"]["any"].m, rel=1e-3)


def test_too_few_decisions_are_refused_and_others_do_not_count_towards_them() -> None:
    enough = [Review(one_sided(2, 0b110), SAME, MIN_SAME)]
    assert learn(load_model(), enough).recipe["reviews"]["decisions"]["same"] == MIN_SAME
    with pytest.raises(EstimationError, match="99 reviews say"):
        learn(load_model(), [Review(one_sided(2, 0b110), SAME, 99), Review(one_sided(2, 0b110), DIFFERENT, 5000)])


def test_reviews_that_say_different_leave_m_alone() -> None:
    same = [Review(one_sided(2, 0b110), SAME, 200)]
    with_others = learn(load_model(), [*same, Review(one_sided(1, 0b110), DIFFERENT, 5000)])
    assert np.array_equal(with_others.fields["sex"]["any"].m, learn(load_model(), same).fields["sex"]["any"].m)


def test_a_taught_model_survives_its_file_with_its_recipe() -> None:
    taught = learn(load_model(), [Review(one_sided(2, 0b110), SAME, 200)])
    again = MatchModel.from_json(taught.to_json(), PERSON_SCHEMA)
    assert again.recipe["reviews"] == taught.recipe["reviews"]
    assert again.fields["sex"]["any"].m == pytest.approx(taught.fields["sex"]["any"].m, rel=1e-3)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_what_is_read_whatever_the_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reviews = [Review(agreement(rng), SAME if number % 2 else DIFFERENT, number + 1) for number in range(4)]
    text = write_reviews(reviews, PERSON_SCHEMA)
    assert set(read_reviews(text, PERSON_SCHEMA)) == set(reviews)
    assert write_reviews(reversed(reviews), PERSON_SCHEMA) == text
    assert all(Agreement.unpack(*review.agreement.pack()) == review.agreement for review in reviews)


GOOD = write_reviews([Review(one_sided(2, 0b110), SAME, 3)], PERSON_SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "[" * 100_000,
        GOOD[:-20],
        GOOD.replace("pulang-reviews-1", "pulang-reviews-9"),
        GOOD.replace(PERSON_SCHEMA.fingerprint.hex(), "00" * 32),
        GOOD.replace('"count": 3', '"count": 0'),
        GOOD.replace('"count": 3', '"count": 1e3'),
        GOOD.replace('"same"', '"perhaps"'),
        GOOD.replace('"any"', '"day"'),
        GOOD.replace('"levels": [\n    0', '"levels": [\n    99'),
        GOOD.replace('"levels": [\n    0', '"levels": [\n    null'),
        GOOD.replace('"admitted": [\n    0', '"admitted": [\n    6'),
    ],
)
def test_a_file_that_is_not_of_reviews_is_refused(text: str) -> None:
    assert text != GOOD
    with pytest.raises(SchemaError):
        read_reviews(text, PERSON_SCHEMA)


def test_a_review_says_nothing_of_who_or_when() -> None:
    names = {field.name for kind in (Agreement, Review) for field in dataclasses.fields(kind)}
    assert names == {"levels", "groups", "admitted", "agreement", "decision", "count"}


@given(SEEDS, st.floats(0, 3))
@settings(max_examples=50, deadline=None)
def test_bounded_shares_sum_to_one_and_stay_where_they_are_when_they_may(seed: int, bits: float) -> None:
    rng = np.random.default_rng(seed)
    prior, wanted = shares(rng), shares(rng)
    found = bounded(wanted, prior, bits)
    assert found.sum() == pytest.approx(1)
    inside: Any = np.abs(np.log2(np.divide(wanted[1:], prior[1:]))) < bits
    if inside.all():
        assert found == pytest.approx(wanted)
