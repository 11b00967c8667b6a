"""m is counted where there is something to count, and leans on all questions where there is little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from matching.encoding import encode_client
from matching.question import Client
from matching.schema import PERSON_SCHEMA
from matching.search import DATE_YEAR
from matching.training import SHARED_PAIRS, Truth, count_levels, untrained_model
from tests.people import KEYS, TODAY, build

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
