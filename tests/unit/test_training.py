"""m is counted where there is something to count, and leans on all questions where there is little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from matching.encoding import encode_client
from matching.question import Client, NameQuery
from matching.schema import PERSON_SCHEMA
from matching.search import DATE_YEAR
from matching.training import (
    SHARED_PAIRS,
    RarityTally,
    Truth,
    calibrate,
    count_levels,
    gather_evidence,
    untrained_model,
)
from matching.weights import rarity_band
from tests.people import KEYS, TODAY, build, crowd

if TYPE_CHECKING:
    from pathlib import Path


def test_a_group_of_questions_never_met_has_what_holds_for_all(tmp_path: Path) -> None:
    index, _ = build(tmp_path / "33", [("1", "JOKO SUSILO", "L", "1958-04-03", "KEBUMEN", None)])
    query = encode_client(Client("Joko Susilo", born="1958"), KEYS, TODAY)
    clients = 30
    counted = count_levels(
        {"33": index}, [query] * clients, [Truth("33", 0)] * clients, untrained_model(PERSON_SCHEMA, {"33": 1.0}, {})
    )["birth_date"]
    of_a_day, of_a_year = counted["day"].m, counted["year"].m
    assert of_a_day.sum() == pytest.approx(1)
    assert of_a_day[0] == of_a_year[0] == 0
    assert of_a_day.argmax() == DATE_YEAR
    assert (of_a_day == counted["band"].m).all()
    found = clients + SHARED_PAIRS * of_a_day[DATE_YEAR]
    assert of_a_year[DATE_YEAR] == pytest.approx(found / (clients + SHARED_PAIRS))


def test_what_a_mothers_initial_agrees_in_is_known_from_other_initials(tmp_path: Path) -> None:
    index, _ = build(tmp_path / "33", [("1", "JOKO SUSILO", "L", "1958", "KEBUMEN", "SITI"), ("2", "SRI", *[None] * 4)])
    queries = [
        *[encode_client(Client("Joko Susilo", mother_name="Siti"), KEYS, TODAY)] * 200,
        *[encode_client(Client("S."), KEYS, TODAY)] * 200,
    ]
    row = {index.record_id(row): row for row in range(index.size)}
    truths = [Truth("33", row["1"])] * 200 + [Truth("33", row["2"])] * 200
    counted = count_levels({"33": index}, queries, truths, untrained_model(PERSON_SCHEMA, {"33": 1.0}, {}))
    own, mothers = counted["name"]["1initial"].m, counted["mother_name"]["1initial"].m
    assert mothers.argmax() == own.argmax()
    assert mothers.argmax() != counted["mother_name"]["1"].m.argmax()


def test_the_null_of_rare_names_does_not_count_the_person_looked_for(tmp_path: Path) -> None:
    rows = [("1", "JOKO SUSILO", "L", "1958", "KEBUMEN", None), ("2", "SITI AMINAH", *[None] * 4)]
    index, _ = build(tmp_path / "33", rows)
    query = encode_client(Client("Joko Susilo"), KEYS, TODAY)
    rarity, model = RarityTally(), untrained_model(PERSON_SCHEMA, {"33": 1.0}, {})
    counted = count_levels({"33": index}, [query] * 9, [Truth("33", 0)] * 9, model, rarity=rarity)
    asked = query.fields["name"]
    assert isinstance(asked, NameQuery)
    taught = rarity.taught(counted)
    chance = taught["name"]["2"].chance
    assert chance is not None
    here = chance[rarity_band(asked.tokens)]
    assert here[1] == pytest.approx(1, abs=0.01)  # only Siti is left, and she has nothing in common
    assert here[-1] < 0.01
    assert taught["mother_name"]["2"].chance is not None
    assert taught["sex"]["any"].chance is None


def test_shapes_take_nothing_off_the_average_question(tmp_path: Path) -> None:
    index, _ = build(tmp_path / "33", [*crowd(300), ("X", "JOKO SUSILO", "L", "1958", "KEBUMEN", None)])
    asked = [Client("Joko Susilo"), Client("Joko", born="1958"), Client("Zaenudin Mz", "L", "1990")] * 4
    queries = [encode_client(client, KEYS, TODAY) for client in asked]
    home = {index.record_id(row): row for row in range(index.size)}["X"]
    truths = [Truth("33", home), Truth("33", home), Truth(None)] * 4
    model = untrained_model(PERSON_SCHEMA, {"33": 1.0}, {})
    found = calibrate(model, gather_evidence({"33": index}, queries, model), queries, truths)
    shapes = [found.shape_bits(query) for query in queries]
    assert sum(shapes) == pytest.approx(0, abs=1e-6)
    assert max(shapes) > 0
