"""Whatever comes in, the linkage core keeps its promises: arithmetic, order, round trips, and no value in an error."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from matching.encoding import MIN_NEAR_LETTERS, FilterEncoder, encode_client, filter_words, near_forms
from matching.errors import FieldValueError
from matching.fields import parse_born, parse_registry_date, parse_sex
from matching.index import half_weights
from matching.kernels import (
    CLASS_SLOTS,
    ROWS_PER_CLASS,
    collect_classes,
    collect_rows,
    level_histogram,
    name_levels,
    token_similarity,
)
from matching.names import parse_name
from matching.phonetics import token_forms, wide_sound
from matching.places import resolve_place
from matching.posterior import combine
from matching.question import CLASSES_PER_ANSWER, Client, Evidence, NameQuery
from matching.schema import NAME_LEVELS, PERSON_SCHEMA, FieldKind
from matching.search import (
    DATE_1,
    DATE_2,
    DATE_3_4,
    DATE_FAR,
    DATE_SAME,
    DATE_YEAR,
    DATE_YEAR_OTHER_DAY,
    DATE_YEAR_PART,
    DATE_YEAR_SWAPPED,
)
from matching.training import token_table
from matching.weights import GROUPS, load_model, round_counts
from tests.people import FIRST, KEYS, LAST, SECRET, TODAY, build
from tests.vectors import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

MODEL = load_model()
ENCODER = FilterEncoder(PERSON_SCHEMA.field("name"), KEYS)
QUICK = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
TOKEN = st.text("abcdefghijklmnopqrstuvwxyz", min_size=2, max_size=14)
TOKENS = st.lists(TOKEN, min_size=1, max_size=8, unique=True)
COMMON = st.lists(st.sampled_from((*FIRST, *LAST)), min_size=1, max_size=5, unique=True)


def similarities(asked: int, stored: Sequence[int]) -> list[int]:
    """Similarity of one filter with others, through the kernel."""
    filters = filter_words(stored)
    out = np.zeros(len(stored), dtype=np.uint8)
    words = tuple(np.uint64(word) for word in filter_words([asked])[0])
    far = np.zeros(len(stored), dtype=np.uint8)
    token_similarity(
        filters, half_weights(filters), words, False, far, MODEL.token_table, MODEL.initial_similarity, out
    )
    return [int(value) for value in out]


# --- Similarity


@QUICK
@given(TOKEN, st.integers(0, 14), st.text("aeinst", max_size=4))
def test_similarity_is_symmetric_and_greatest_on_equal_tokens(one: str, at: int, more: str) -> None:
    other = one[:at] + more + one[at:][:3]  # a token that has much in common with the first
    a, b = ENCODER.any(one), ENCODER.any(other)
    assert similarities(a, [b]) == similarities(b, [a])
    assert similarities(a, [a, b])[0] == 255


@QUICK
@given(TOKENS)
def test_an_empty_filter_is_like_no_token(tokens: list[str]) -> None:
    assert similarities(0, [ENCODER.any(token) for token in tokens]) == [0] * len(tokens)


@QUICK
@given(TOKEN, TOKENS)
def test_another_reading_never_makes_a_token_less_alike(token: str, stored: list[str]) -> None:
    """Spellings of one question token share one result: it only rises."""
    filters = filter_words([ENCODER.any(each) for each in stored])
    out = np.zeros(len(stored), dtype=np.uint8)
    before, far = out.copy(), out.copy()
    forms = token_forms(token)
    for sound in (forms.sound, *forms.alternates):
        words = tuple(np.uint64(word) for word in filter_words([ENCODER.token(forms, sound)])[0])
        token_similarity(
            filters, half_weights(filters), words, False, far, MODEL.token_table, MODEL.initial_similarity, out
        )
        assert (out >= before).all()
        before = out.copy()


@QUICK
@given(st.text("aeinstklu", min_size=5, max_size=15), st.integers(0, 14), st.sampled_from("aeio"), st.integers(0, 3))
def test_tokens_one_slip_apart_share_a_near_form(token: str, at: int, letter: str, kind: int) -> None:
    at %= len(token) - 1
    left_out, added = token[:at] + token[at + 1 :], token[:at] + letter + token[at:]
    exchanged = token[:at] + letter + token[at + 1 :]
    swapped = token[:at] + token[at + 1] + token[at] + token[at + 2 :]
    other = (left_out, added, exchanged, swapped)[kind]
    assert near_forms(token) & near_forms(other)


@given(st.text("abcdefghijklmnopqrstuvwxyz", max_size=MIN_NEAR_LETTERS - 1))
def test_a_short_token_is_near_to_none(token: str) -> None:
    assert near_forms(token) == set()


def test_more_likeness_never_makes_a_token_less_alike() -> None:
    table = token_table().astype(int)
    assert (np.diff(table, axis=1) >= 0).all()
    assert (np.diff(table, axis=2) >= 0).all()
    assert (table[1:] >= table[0]).all()
    assert (table == 255).sum() == 3
    assert (table[:, 16, 16] == 255).all()


# --- The fast code and the plain code


def plain_bits(token: str) -> set[int]:
    spelling, sound = (
        plain.field_key(SECRET, PERSON_SCHEMA.fingerprint, 1, "name", purpose) for purpose in ("spelling", "sound")
    )
    if len(token) == 1:
        return plain.filter_bits(spelling, sound, token, "", "")
    forms = token_forms(token)
    return plain.filter_bits(spelling, sound, forms.spelling, forms.sound, wide_sound(forms.sound))


@QUICK
@given(st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=14), TOKENS)
def test_filters_and_similarities_are_the_plain_ones(asked: str, stored: list[str]) -> None:
    masks = [ENCODER.any(token) for token in (asked, *stored)]
    bits = [plain_bits(token) for token in (asked, *stored)]
    assert [mask.to_bytes(64, "little") for mask in masks] == [plain.filter_bytes(each) for each in bits]
    filters = filter_words(masks)
    out = np.zeros(len(masks), dtype=np.uint8)
    initial = len(asked) == 1
    words = tuple(np.uint64(word) for word in filters[0])
    near = (np.arange(len(masks)) % 3).astype(np.uint8)
    token_similarity(
        filters, half_weights(filters), words, initial, near, MODEL.token_table, MODEL.initial_similarity, out
    )
    table = MODEL.token_table.tolist()
    expected = [
        plain.similarity(
            bits[0], each, table, initial=initial, initial_similarity=MODEL.initial_similarity, near=int(mark)
        )
        for each, mark in zip(bits, near, strict=True)
    ]
    assert out.tolist() == expected


@st.composite
def registries(
    draw: st.DrawFn,
) -> tuple[NDArray[np.uint32], list[NDArray[np.uint8]], NDArray[np.float32], NDArray[np.int64]]:
    """Rows of value numbers, a level per value, bits per level, an order to look at the fields in."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    fields, persons = draw(st.integers(1, 6)), draw(st.integers(0, 60))
    values = [draw(st.integers(1, 5)) for _ in range(fields)]
    rows = np.stack([rng.integers(0, count, persons) for count in values], axis=1).astype(np.uint32)
    levels = [rng.integers(0, 4, count).astype(np.uint8) for count in values]
    bits = np.zeros((fields, 64), dtype=np.float32)
    bits[:, :4] = rng.integers(-12, 13, (fields, 4))  # whole numbers: sums are exact in any order
    return rows.reshape(persons, fields), levels, bits, rng.permutation(fields)


@QUICK
@given(st.integers(0, 2**32), st.integers(1, 300), st.integers(0, 20))
def test_persons_per_level_are_those_of_a_plain_count(seed: int, values: int, others: int) -> None:
    rng = np.random.default_rng(seed)
    levels = np.full(values, rng.integers(0, 64), dtype=np.uint8)
    levels[rng.integers(0, values, others)] = rng.integers(0, 64, others)
    counts = rng.integers(0, 1 << 40, values)
    expected = np.zeros(64, dtype=np.int64)
    np.add.at(expected, levels, counts)
    out = np.zeros(64, dtype=np.int64)
    level_histogram(levels, counts, int(counts.sum()), out)
    assert out.tolist() == expected.tolist()


@QUICK
@given(registries(), st.integers(-20, 30))
def test_one_pass_over_the_persons_counts_and_lists_what_a_plain_loop_does(
    registry: tuple[NDArray[np.uint32], list[NDArray[np.uint8]], NDArray[np.float32], NDArray[np.int64]], floor: int
) -> None:
    rows, levels, bits, order = registry
    fields = rows.shape[1]
    bases = np.append(0, np.cumsum([len(level) for level in levels])[:-1]).astype(np.int64)
    best = np.array([bits[f][levels[f]].max() for f in range(fields)], dtype=np.float32)
    rest = np.append(np.cumsum(best[order][::-1])[::-1][1:], 0).astype(np.float32)
    flat = np.concatenate(levels)
    reached = [tuple(int(levels[f][row[f]]) for f in range(fields)) for row in rows]
    weights = [sum(float(bits[f, level]) for f, level in enumerate(each)) for each in reached]

    found, weighed = np.zeros(len(rows), np.uint32), np.zeros(len(rows), np.float32)
    block = np.ascontiguousarray(rows.T)
    count = collect_rows(block, flat, bases, bits, order, rest, np.float32(floor), found, weighed)
    expected = [row for row, weight in enumerate(weights) if weight >= floor]
    assert found[:count].tolist() == expected
    assert weighed[:count].tolist() == [weights[row] for row in expected]

    codes, counts = np.zeros(CLASS_SLOTS, np.uint64), np.zeros(CLASS_SLOTS, np.int64)
    some = np.zeros((CLASS_SLOTS, ROWS_PER_CLASS), np.uint32)
    lost = collect_classes(block, flat, bases, bits, order, rest, np.float32(floor), 0, codes, counts, some)
    assert lost == 0
    assert sorted(counts[counts > 0].tolist()) == sorted(Counter(reached[row] for row in expected).values())


# --- Encoding


@QUICK
@given(COMMON, st.randoms(use_true_random=False))
def test_encoding_is_deterministic_and_free_of_the_order_of_tokens(tokens: list[str], random: object) -> None:
    def encoded(words: Sequence[str]) -> list[tuple[bytes, int]]:
        asked = encode_client(Client(" ".join(words)), KEYS, TODAY).fields["name"]
        assert isinstance(asked, NameQuery)
        return sorted((token.variants.tobytes(), token.weight) for token in asked.tokens)

    shuffled = list(tokens)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert encoded(tokens) == encoded(tokens) == encoded(shuffled)


def refusal(call: Callable[..., object], *arguments: object) -> str:
    """Return what a refusal says, nothing when there is none; any other exception is a bug and comes through."""
    try:
        call(*arguments)
    except FieldValueError as error:
        return f"{error} {error!r}".lower()
    return ""


NAMED = ("name", "sex", "born", "birthplace", "mother_name", "father_name")
CANARY = "qzxwv"
ANYTHING = st.text(max_size=60) | st.from_regex(r"[0-9]{1,4}[-/. ~][0-9A-Za-z]{1,9}[-/. ]?[0-9]{0,4}", fullmatch=True)


@settings(QUICK, max_examples=200)
@example(parts=("", ""), field="name")
@example(parts=("31-02-", ""), field="born")
@example(parts=("\N{ARABIC LETTER MEEM}" * 20, "\N{PILE OF POO}"), field="name")
@example(parts=("x" * 10_000, ""), field="name")
@given(parts=st.tuples(ANYTHING, ANYTHING), field=st.sampled_from(NAMED))
def test_any_text_is_encoded_or_refused_without_being_repeated(parts: tuple[str, str], field: str) -> None:
    for value in (parts[0], CANARY.join(parts)):
        client = replace(Client("Slamet"), **{field: value})
        assert CANARY not in refusal(encode_client, client, KEYS, TODAY)


PARSERS: tuple[Callable[[str], object], ...] = (
    parse_name,
    resolve_place,
    parse_registry_date,
    parse_sex,
    lambda text: parse_born(text, TODAY),
)


@settings(QUICK, max_examples=200)
@given(ANYTHING, st.sampled_from(PARSERS))
def test_any_text_is_parsed_or_refused_without_being_repeated(text: str, parse: Callable[[str], object]) -> None:
    assert CANARY not in refusal(parse, text + CANARY)
    assert refusal(parse, text) == refusal(parse, text)


# --- Weights


@QUICK
@given(COMMON, st.data())
def test_the_more_of_a_name_is_found_the_higher_its_level(tokens: list[str], data: st.DataObject) -> None:
    """Who holds fewer of the tokens asked for, and no others, never reaches a higher level."""
    stored = data.draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)))
    some = [token for token, kept in zip(tokens, stored, strict=True) if kept] or tokens[:1]
    weights = np.array([ENCODER.rules.weight(token) for token in tokens], dtype=np.uint8)
    order = np.argsort(-weights.astype(int), kind="stable")
    asked = [tokens[at] for at in order]
    masks = [ENCODER.any(token) for token in tokens]
    similarity = np.array([similarities(ENCODER.any(token), masks) for token in asked], dtype=np.uint8)
    members = np.array([*(tokens.index(token) for token in some), *range(len(tokens))], dtype=np.uint32)
    offsets = np.array([0, 0, len(some), len(members)], dtype=np.int64)
    out = np.zeros(3, dtype=np.uint8)
    name_levels(
        offsets, members, similarity, similarity.max(axis=0), weights, weights[order].copy(), MODEL.name_cells, out
    )
    assert out[0] == 0
    assert 0 < out[1] <= out[2] == MODEL.name_cells.max()


@pytest.mark.parametrize("field", ["name", "mother_name"])
@pytest.mark.parametrize("group", GROUPS[FieldKind.NAME])
def test_trained_weights_rise_with_how_much_of_a_name_was_found(field: str, group: str) -> None:
    """Nothing, less than half, more than half of the steps. Within a half, common names blur the order."""
    table = MODEL.fields[field][group]
    half = 2 + (NAME_LEVELS - 2) // 2
    parts = [slice(1, 2), slice(2, half), slice(half, NAME_LEVELS)]
    bits = [float(np.log2(table.m[part].sum() / table.u0[part].sum())) for part in parts]
    assert bits[0] < 0
    assert bits == sorted(set(bits))


@pytest.mark.parametrize(
    ("group", "rising"),
    [
        ("day", (DATE_FAR, DATE_1, DATE_YEAR_PART, DATE_SAME)),
        ("day", (DATE_YEAR_OTHER_DAY, DATE_YEAR_SWAPPED, DATE_SAME)),
        ("day", (DATE_YEAR_OTHER_DAY, DATE_YEAR_PART, DATE_SAME)),
        ("year", (DATE_FAR, DATE_3_4, DATE_2, DATE_1, DATE_YEAR)),
    ],
)
def test_trained_weights_rise_with_how_much_of_a_date_agrees(group: str, rising: tuple[int, ...]) -> None:
    table = MODEL.fields["birth_date"][group]
    bits = [float(np.log2(table.m[level] / table.u0[level])) for level in rising]
    assert bits == sorted(set(bits))


COUNTS = st.lists(st.integers(0, 2**40), min_size=1, max_size=30)


@QUICK
@given(st.data(), st.integers(1, 10**6))
def test_a_level_that_more_persons_reach_weighs_less(data: st.DataObject, more: int) -> None:
    query = encode_client(Client("Joko Susilo", "L", "1958", "Kebumen", "Siti"), KEYS, TODAY)
    histograms = [
        np.array(data.draw(st.lists(st.integers(0, 10**6), min_size=levels, max_size=levels)), dtype=np.int64)
        for levels in PERSON_SCHEMA.levels
    ]
    before = MODEL.bits(query, histograms)
    f = data.draw(st.integers(0, len(histograms) - 1))
    level = data.draw(st.integers(1, PERSON_SCHEMA.levels[f] - 1))
    histograms[f][level] += more
    after = MODEL.bits(query, histograms)
    assert after[f, level] <= before[f, level]
    others = np.arange(64) != level
    assert (after[f, others] >= before[f, others] - 1e-4).all()
    assert (after[:, 0] == 0).all()


@QUICK
@given(COUNTS)
def test_rounding_keeps_order_small_counts_and_the_half_octave(counts: list[int]) -> None:
    values = np.sort(np.array(counts, dtype=np.int64))
    rounded = round_counts(values)
    assert (np.diff(rounded) >= 0).all()
    assert (rounded[values <= 4] == values[values <= 4]).all()
    assert (np.abs(np.log2(rounded[values > 4] / values[values > 4])) <= 0.25 + 0.1).all()


# --- Posterior


@st.composite
def evidence(draw: st.DrawFn) -> Evidence:
    """What any registry may answer."""
    size = draw(st.integers(1, 10**7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.integers(0, 12))
    histograms = tuple(rng.integers(0, 4**scale + 1, levels) for levels in PERSON_SCHEMA.levels)
    classes = draw(st.integers(0, CLASSES_PER_ANSWER))
    levels = np.stack([rng.integers(0, count, classes) for count in PERSON_SCHEMA.levels], axis=1)
    return Evidence(size, histograms, levels.astype(np.uint8), rng.integers(0, size + 1, classes))


@QUICK
@given(
    st.dictionaries(st.sampled_from(sorted(MODEL.priors)), evidence(), max_size=4),
    st.sets(st.sampled_from([*sorted(MODEL.priors), "99"]), max_size=4),
    st.sampled_from([Client("Joko"), Client("Joko Susilo", "L", "1958-04-03", "Kebumen", "Siti Aminah")]),
)
def test_probabilities_sum_to_one_whatever_the_provinces_answer(
    answers: dict[str, Evidence], silent: set[str], client: Client
) -> None:
    quiet = sorted(silent - answers.keys())
    found = combine(answers, quiet, MODEL, encode_client(client, KEYS, TODAY))
    shares = [*found.provinces.values(), found.none, *found.unanswered.values()]
    assert sum(shares) == pytest.approx(1.0, abs=1e-9)
    assert all(0 <= share <= 1 for share in shares)
    assert list(found.unanswered) == quiet
    for code, share in found.provinces.items():
        held = sum(each.probability for each in found.candidates if each.province == code)
        assert held == pytest.approx(share, abs=1e-9)


# --- The index

NAMES = st.sampled_from((*FIRST, *LAST)) | st.text(max_size=12)
ROWS = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.none() | NAMES,
        st.none() | st.sampled_from(["L", "P", "x"]),
        st.none() | st.sampled_from(["1958-04-03", "1958", "?", "31-02-1960"]),
        st.none() | st.sampled_from(["KEBUMEN", "Kota Bogor", "nowhere"]),
        st.none() | NAMES,
    ),
    min_size=1,
    max_size=25,
)


@settings(QUICK, max_examples=30)
@given(ROWS, st.integers(1, 30))
def test_an_index_gives_back_the_ids_and_counts_of_any_batch(rows: list[tuple[str | None, ...]], size: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pulang-property-"))
    try:
        rows = [*rows, ("last", "Slamet", "L", "1958", "KEBUMEN", None)]  # an index holds at least one person
        index, issues = build(folder / "g", rows, size=size)
        kept = [row for row in rows if parse_name(row[1] or "").tokens or parse_name(row[1] or "").mother]
        kept = [row for row in kept if row[0] and len(row[0].encode()) <= 255]
        ids = [index.record_id(at) for at in range(index.size)]
        assert Counter(ids) == Counter(row[0] for row in kept)
        assert sum(issue.rejected for issue in issues) == len(rows) - len(kept)
        numbers = index.numbers()
        for f, name in enumerate(PERSON_SCHEMA.field_names):
            counts = index.array(f"{name}.counts")
            assert np.bincount(numbers[f], minlength=len(counts)).tolist() == counts.tolist()
        sexes = Counter((row[0], row[2] in {"L", "P"}) for row in kept)
        known = (numbers[PERSON_SCHEMA.field_names.index("sex")] > 0).tolist()
        assert Counter(zip(ids, known, strict=True)) == sexes
        index.verify(folder / "g")
    finally:
        shutil.rmtree(folder)
