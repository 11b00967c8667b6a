"""The attacks read what they claim to read, and nothing where there is nothing to read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import leakage
from benchmarks.leakage import Finding, Guess, Target
from benchmarks.match import bench_keys, build_indexes, open_indexes
from benchmarks.populations import generate
from matching.at_rest import AtRestKey
from matching.keys import FieldKeys
from matching.schema import PERSON_SCHEMA
from node.cli.main import cli
from tests.people import NOW, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PERSONS = 1500


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder, keys = tmp_path_factory.mktemp("stolen"), bench_keys()
    population = generate(PERSONS, 60, "base", 1, provinces=(leakage.PROVINCE,))
    public = generate(PERSONS, 0, "base", 2, provinces=(leakage.PROVINCE,))
    build_indexes(population.registry, folder / "open", keys, NOW)
    build_indexes(population.registry, folder / "sealed", keys, NOW, at_rest=AtRestKey(bytes(range(32))))
    with open_indexes(folder / "open", keys) as indexes:
        yield Target(population, public, indexes[leakage.PROVINCE], keys, folder / "sealed" / leakage.PROVINCE)


def by_name(found: list[Finding]) -> dict[str, float]:
    return {finding.what: finding.value for finding in found}


def test_a_thief_of_the_files_learns_sizes_alone(target: Target) -> None:
    found = by_name(leakage.thief_of_files(target))
    assert found["persons registered, from the manifest"] == PERSONS
    assert found["blocks of 16 bytes that occur twice: what frequency attacks live on"] == 0
    opened = leakage.thief_of_files(replace(target, files=target.files.parents[1] / "open" / leakage.PROVINCE))
    assert by_name(opened)["blocks of 16 bytes that occur twice: what frequency attacks live on"] > 0


def test_a_thief_of_an_opened_index_reads_most_names(target: Target) -> None:
    """A law of this design, not a fault of the test: should this ever fail, the threat model has become too dark."""
    stolen, public = leakage.steal(target.index), leakage.public_names()
    truth = leakage.true_spellings(target, stolen)
    start = leakage.by_features(stolen, public, rarity=True)
    read = leakage.by_patterns(stolen, public, start, rarity=True)
    before = leakage.read_names(stolen, start, truth, public)
    after = leakage.read_names(stolen, read, truth, public)
    assert after["tokens"] > 2 * before["tokens"]
    assert after["persons, the whole name"] > 0.5


def test_near_forms_tell_a_thief_lengths_and_who_is_one_slip_apart(target: Target) -> None:
    stolen, public = leakage.steal(target.index), leakage.public_names()
    truth = leakage.true_spellings(target, stolen)
    numbers = {spelling: number for number, spelling in enumerate(public.spellings)}
    known = [(symbol, numbers[spelling]) for symbol, spelling in enumerate(truth) if spelling in numbers]
    symbols, names = np.array(known).T
    assert np.mean(stolen.near_forms[symbols] == public.near_forms[names]) > 0.9
    apart = [(numbers.get(truth[one] or "", -1), numbers.get(truth[other] or "", -1)) for one, other in stolen.slips]
    apart = [(one, other) for one, other in apart if one >= 0 <= other]
    assert np.mean([bool(public.near[one] & public.near[other]) for one, other in apart]) > 0.9
    start = leakage.by_features(stolen, public, rarity=True)
    before = leakage.by_patterns(stolen, public, start, rarity=True)
    after = leakage.by_slips(stolen, public, leakage.by_patterns(stolen, public, start, rarity=True, lengths=True))
    read = [leakage.read_names(stolen, guess, truth, public)["tokens"] for guess in (before, after)]
    assert read[1] >= read[0]


def test_reading_is_measured_against_the_truth(target: Target) -> None:
    stolen, public = leakage.steal(target.index), leakage.public_names()
    truth = leakage.true_spellings(target, stolen)
    numbers = {spelling: number for number, spelling in enumerate(public.spellings)}
    perfect = np.array([[numbers.get(spelling or "", -1)] for spelling in truth])
    right = leakage.read_names(stolen, Guess(perfect, np.zeros(perfect.shape)), truth, public)
    nothing = leakage.read_names(stolen, Guess(np.full_like(perfect, -1), np.zeros(perfect.shape)), truth, public)
    in_table = np.mean([spelling in numbers for spelling in truth if spelling is not None])
    assert right["tokens"] == pytest.approx(float(in_table))
    assert set(nothing.values()) == {0.0}


def test_every_person_of_a_stolen_index_is_counted_once_a_token(target: Target) -> None:
    stolen = leakage.steal(target.index)
    assert stolen.persons.sum() == sum(len(stolen.of_name[name]) for name in stolen.names)
    assert len(stolen.names) == target.index.size


def test_the_sexes_are_told_apart_by_the_names(target: Target) -> None:
    stolen, public = leakage.steal(target.index), leakage.public_names()
    turned = replace(stolen, first_sex=1 - stolen.first_sex)
    assert stolen.women_first(public) != turned.women_first(public)


def test_a_key_holder_reads_most_of_a_question(target: Target) -> None:
    found = by_name(leakage.key_holder(target))
    assert found["tokens of a received question's name"] > 0.6
    assert found["tokens of a stolen index"] > 0.6


def test_a_dictionary_under_another_key_reads_nothing(target: Target) -> None:
    other = FieldKeys.derive(SECRET, PERSON_SCHEMA, 1)
    assert not any(leakage.true_spellings(replace(target, keys=other), leakage.steal(target.index)))


def test_a_listener_sees_one_size_of_answer(target: Target) -> None:
    found = by_name(leakage.listener(target))
    assert found["sizes of an answer"] == 1
    assert found["sizes of a question"] > 1


def test_a_member_confirms_whom_it_can_describe(target: Target) -> None:
    found = leakage.member(target, seed=1)
    confirmed = [finding for finding in found if "confirmed" in finding.what]
    assert len(confirmed) == 4
    assert all(finding.value > 0.8 for finding in confirmed)
    values = by_name(found)
    assert values["year of birth found, all but the date known"] > 0.8
    assert 7 <= values["questions asked for that, a person"] <= 9


def test_the_command_writes_what_it_shows(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["bench", "leakage", "--persons", "500", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "leakage.json").read_text())
    assert (found["persons"], found["seed"]) == (500, 1)
    assert {each["attacker"] for each in found["findings"]} == {
        "listener outside TLS",
        "thief of an index's files",
        "thief of an opened index",
        "key holder",
        "curious member",
    }
    assert all(each["what"] in result.output for each in found["findings"])
