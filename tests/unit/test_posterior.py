"""Evidence of several provinces becomes one probability that means what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from matching.encoding import encode_client
from matching.errors import SchemaError
from matching.posterior import Outcome, combine, decide, next_question, weigh
from matching.question import Client, Evidence
from matching.schema import PERSON_SCHEMA
from matching.search import search
from matching.weights import MatchModel, load_model, round_counts
from tests.people import KEYS, TODAY, build, crowd

if TYPE_CHECKING:
    from pathlib import Path

MODEL = load_model()
DJOKO = Client("Djoko Soesilo", "L", "1958-04-03", "Kebumen", "Siti Aminah")
QUERY = encode_client(DJOKO, KEYS, TODAY)
OTHERS = tuple(code for code in MODEL.priors if code not in {"33", "35"})


def _evidence(tmp_path: Path, name: str, *, home: bool, size: int = 4000, seed: int = 5) -> Evidence:
    person = [("HOME", "JOKO SUSILO", "L", "1958-04-03", "KEBUMEN", "SITI AMINAH")] if home else []
    index, _ = build(tmp_path / name, [*crowd(size, seed), *person])
    return search(index, QUERY, MODEL).evidence


@pytest.fixture
def everywhere(tmp_path: Path) -> dict[str, Evidence]:
    nobody = _evidence(tmp_path, "other", home=False, seed=6)
    return {**dict.fromkeys(OTHERS, nobody), "33": _evidence(tmp_path, "33", home=True), "35": nobody}


def test_shares_add_up_to_one_whoever_answers(everywhere: dict[str, Evidence]) -> None:
    for silent in [(), ("35",), ("33", "35", "51")]:
        answers = {code: e for code, e in everywhere.items() if code not in silent}
        posterior = combine(answers, silent, MODEL, QUERY)
        total = sum(posterior.provinces.values()) + posterior.none + sum(posterior.unanswered.values())
        assert total == pytest.approx(1)
        assert set(posterior.unanswered) == set(silent)


def test_the_one_province_with_the_person_is_the_home(everywhere: dict[str, Evidence]) -> None:
    posterior = combine(everywhere, (), MODEL, QUERY)
    decision = decide(posterior, MODEL, QUERY)
    assert (decision.outcome, decision.province, decision.ask_for) == (Outcome.HOME_FOUND, "33", None)
    assert posterior.candidates[0].province == "33"
    assert posterior.candidates[0].count == 1
    assert all(bits > 0 for bits in posterior.candidates[0].field_bits.values())


def test_the_same_person_in_two_provinces_is_ambiguous(everywhere: dict[str, Evidence]) -> None:
    twice = {**everywhere, "35": everywhere["33"]}
    decision = decide(combine(twice, (), MODEL, QUERY), MODEL, QUERY)
    assert decision.outcome is Outcome.AMBIGUOUS
    assert decision.province is None


def test_nobody_like_the_client_anywhere_is_not_registered(everywhere: dict[str, Evidence]) -> None:
    nowhere = {**everywhere, "33": everywhere["35"]}
    posterior = combine(nowhere, (), MODEL, QUERY)
    assert decide(posterior, MODEL, QUERY).outcome is Outcome.NOT_REGISTERED


def test_a_silent_province_is_never_counted_as_none(everywhere: dict[str, Evidence]) -> None:
    nowhere = {code: e for code, e in everywhere.items() if code != "33"}
    posterior = combine(nowhere, ("33",), MODEL, QUERY)
    assert posterior.unanswered["33"] > 0.1
    assert decide(posterior, MODEL, QUERY).outcome is Outcome.INCOMPLETE


def test_nobody_answering_is_incomplete(everywhere: dict[str, Evidence]) -> None:
    posterior = combine({}, tuple(everywhere), MODEL, QUERY)
    assert decide(posterior, MODEL, QUERY).outcome is Outcome.INCOMPLETE
    assert posterior.provinces == {}


def test_a_home_found_while_one_is_silent_is_named_but_incomplete(everywhere: dict[str, Evidence]) -> None:
    answers = {code: e for code, e in everywhere.items() if code != "34"}
    decision = decide(combine(answers, ("34",), MODEL, QUERY), MODEL, QUERY)
    assert (decision.outcome, decision.province) == (Outcome.INCOMPLETE, "33")


def test_a_province_the_model_does_not_know_counts_as_an_average_one(everywhere: dict[str, Evidence]) -> None:
    posterior = combine({**everywhere, "99": everywhere["35"]}, ("98",), MODEL, QUERY)
    total = sum(posterior.provinces.values()) + posterior.none + sum(posterior.unanswered.values())
    assert total == pytest.approx(1)
    assert posterior.provinces["33"] > 0.9


def test_a_registry_said_to_hold_one_person_does_not_win_the_client(everywhere: dict[str, Evidence]) -> None:
    """A member that lies about its size must not pull clients to itself."""
    true = everywhere["33"]
    one_person = tuple(np.zeros_like(histogram) for histogram in true.histograms)
    for histogram, level in zip(one_person, true.class_levels[0], strict=True):
        histogram[level] = 1
    liar = Evidence(1, one_person, true.class_levels[:1].copy(), np.array([1]))
    decision = decide(combine({**everywhere, "35": liar}, (), MODEL, QUERY), MODEL, QUERY)
    assert decision.province != "35"


def _all_like_the_client(everywhere: dict[str, Evidence], size: int) -> Evidence:
    levels = everywhere["33"].class_levels[:1]
    histograms = [np.zeros_like(histogram) for histogram in everywhere["33"].histograms]
    for histogram, level in zip(histograms, levels[0], strict=True):
        histogram[level] = size
    return Evidence(size, tuple(histograms), levels, np.array([size]))


def test_who_is_silent_holds_as_much_as_if_the_client_were_at_home_nowhere_that_answered(
    everywhere: dict[str, Evidence],
) -> None:
    """For somebody at home where nobody answers, the other answers are what they are for a stranger."""
    model = replace(MODEL, none_factor=2.0)
    for silent in (("51",), ("33", "51"), tuple(everywhere)):
        answers = {code: e for code, e in everywhere.items() if code not in silent}
        posterior = combine(answers, silent, model, QUERY)
        nowhere = 1 - model.coverage * sum(model.priors.values())
        for code in silent:
            held = model.coverage * model.priors[code] / nowhere
            assert posterior.unanswered[code] / posterior.none == pytest.approx(held, rel=0.02)


def test_a_home_just_above_the_threshold_is_not_hidden_either(everywhere: dict[str, Evidence]) -> None:
    """The prior of the registry that is left out must not make the home fall below the threshold."""
    flat = replace(MODEL, temperature=0.27)
    home = combine(everywhere, (), flat, QUERY).provinces["33"]
    edge = replace(flat, release_threshold=home - 0.002)
    assert 0.9 < home < 0.99
    assert weigh(everywhere, (), edge, QUERY)[1].outcome is Outcome.HOME_FOUND
    liar = _all_like_the_client(everywhere, 10**6)
    posterior, decision = weigh({**everywhere, "35": liar}, (), replace(edge, absence_threshold=0.5), QUERY)
    assert posterior.none > 0.5
    assert decision.outcome is Outcome.AMBIGUOUS


@pytest.mark.parametrize("size", [10**5, 10**6, 10**7])
def test_no_single_registry_turns_a_home_into_not_registered(everywhere: dict[str, Evidence], size: int) -> None:
    """It says that all its persons are just like the client: whoever else is like them then looks like chance."""
    liar = _all_like_the_client(everywhere, size)
    posterior, decision = weigh({**everywhere, "51": liar}, (), MODEL, QUERY)
    assert posterior.none > MODEL.absence_threshold
    assert decision.outcome is Outcome.AMBIGUOUS
    _, decision = weigh({**everywhere, "33": everywhere["35"]}, (), MODEL, QUERY)
    assert decision.outcome is Outcome.NOT_REGISTERED


def test_no_crowd_makes_nowhere_more_than_some_twenty_times_likelier() -> None:
    assert 1.0 == MODEL.crowd.factor(np.array(0.0)) < MODEL.crowd.factor(np.array(1e300)) < 25


def test_a_common_name_weighs_less_than_a_rare_one(tmp_path: Path) -> None:
    """The question's own null: the same agreement, worth less where more persons reach it."""
    index, _ = build(tmp_path / "g", [*crowd(4000), ("X", "ZAENUDIN MZ", None, None, None, None)])

    def name_bits(name: str) -> float:
        query = encode_client(Client(name), KEYS, TODAY)
        evidence = search(index, query, MODEL).evidence
        bits = MODEL.bits(query, evidence.histograms)
        return float(bits[0, evidence.class_levels[0, 0]])

    assert name_bits("Siti Aminah") < name_bits("Zaenudin Mz") - 3


def test_a_rare_name_that_one_person_bears_weighs_more_and_one_that_many_bear_does_not(tmp_path: Path) -> None:
    """Rarity says what chance should give; but it explains away no more than some persons."""
    query = encode_client(Client("Zaenudin Qomarudin Mz"), KEYS, TODAY)
    blind = replace(
        MODEL,
        fields={
            name: {group: replace(weights, chance=None) for group, weights in groups.items()}
            for name, groups in MODEL.fields.items()
        },
    )
    gained = {}
    for bearers in (1, 40):
        rows = [(f"X{i}", "ZAENUDIN QOMARUDIN MZ", None, None, None, None) for i in range(bearers)]
        index, _ = build(tmp_path / str(bearers), [*crowd(4000), *rows])
        evidence = search(index, query, MODEL).evidence
        level = evidence.class_levels[0, 0]
        of_both = [model.bits(query, evidence.histograms, discounted=True)[0, level] for model in (MODEL, blind)]
        gained[bearers] = float(of_both[0] - of_both[1])
    assert gained[1] > 2
    assert abs(gained[40]) < 0.5


def test_the_shape_of_a_question_takes_off_every_answer(everywhere: dict[str, Evidence]) -> None:
    told = {name: dict.fromkeys(shapes, 0.0) for name, shapes in MODEL.shapes.items()}
    told["name"]["2"] = 3.0
    plain = combine(everywhere, (), replace(MODEL, shapes={**told, "name": {**told["name"], "2": 0.0}}), QUERY)
    less = combine(everywhere, (), replace(MODEL, shapes=told), QUERY)
    assert less.provinces["33"] / less.none == pytest.approx(plain.provinces["33"] / plain.none / 8)


def test_pooling_makes_a_name_rare_here_and_common_elsewhere_weigh_little(tmp_path: Path) -> None:
    query = encode_client(Client("Ketut Utami"), KEYS, TODAY)
    many = [(f"K{i}", "KETUT UTAMI", None, None, None, None) for i in range(300)]
    bali, _ = build(tmp_path / "51", [*crowd(1000), *many])
    java_rows = [row for row in crowd(1000) if row[1] != "ketut utami"]
    java, _ = build(tmp_path / "33", [*java_rows, many[0]])
    found = {"51": search(bali, query, MODEL).evidence, "33": search(java, query, MODEL).evidence}
    pooled = combine(found, (), MODEL, query)
    alone = combine({"33": found["33"]}, (), MODEL, query)
    assert pooled.provinces["33"] < alone.provinces["33"]


def test_evidence_of_another_shape_is_refused(everywhere: dict[str, Evidence]) -> None:
    bent = replace(everywhere["35"], histograms=everywhere["35"].histograms[:-1])
    with pytest.raises(ValueError, match="province 35"):
        combine({**everywhere, "35": bent}, (), MODEL, QUERY)


def test_the_next_question_is_about_something_not_yet_known() -> None:
    query = encode_client(Client("Slamet"), KEYS, TODAY)
    asked = next_question(MODEL, query)
    assert asked in {"birth_date", "mother_name"}
    richer = Client("Slamet", born="1958-04-03", mother_name="Siti Aminah")
    assert next_question(MODEL, encode_client(richer, KEYS, TODAY)) == "birthplace"
    everything = encode_client(DJOKO, KEYS, TODAY)
    assert next_question(MODEL, everything) is None


def test_counts_are_exact_to_four_and_half_octaves_above() -> None:
    assert round_counts(np.arange(7)).tolist() == [0, 1, 2, 3, 4, 6, 6]
    assert round_counts(np.array([1000, 1_000_000])).tolist() == [1024, 1048576]
    assert set(round_counts(np.arange(100_000)).tolist()) == {0, 1, 2, 3, 4} | {
        round(2 ** (k / 2)) for k in range(5, 34)
    }


@pytest.mark.parametrize("wrong", [{}, None, 10**400, float("nan"), -1, 2, "x", [0.5]])
@pytest.mark.parametrize("place", [0, 1])
def test_a_null_by_rarity_that_is_none_is_refused(wrong: object, place: int) -> None:
    body = json.loads(MODEL.to_json())
    body["fields"]["name"]["2"]["chance"][3][place] = wrong
    with pytest.raises(SchemaError):
        MatchModel.from_json(json.dumps(body), PERSON_SCHEMA)


@pytest.mark.parametrize("change", [{"zz": {"a": 1.0}}, {"name": {}}, {"name": 3}, {"sex": {"any": float("nan")}}])
def test_shapes_of_other_fields_or_groups_are_refused(change: dict[str, object]) -> None:
    body = json.loads(MODEL.to_json())
    body["shapes"] |= change
    with pytest.raises(SchemaError):
        MatchModel.from_json(json.dumps(body), PERSON_SCHEMA)


def test_the_shipped_model_is_of_the_shipped_schema_and_round_trips() -> None:
    assert MatchModel.from_json(MODEL.to_json(), PERSON_SCHEMA).to_json() == MODEL.to_json()
    for groups in MODEL.fields.values():
        for weights in groups.values():
            assert weights.m.sum() == pytest.approx(1, abs=0.01)
            assert weights.u0.sum() == pytest.approx(1, abs=0.01)
