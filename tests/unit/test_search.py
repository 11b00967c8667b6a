"""A search finds the person among the crowd, says how sure each field is, and gives no more away than it must."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from matching.encoding import FieldWarning, client_warnings, encode_client
from matching.errors import FieldValueError, SchemaMismatchError
from matching.keys import FieldKeys
from matching.question import CLASSES_PER_ANSWER, HANDLES_PER_ANSWER, Client, NameQuery
from matching.schema import PERSON_SCHEMA
from matching.search import (
    CODE_DIFFERENT,
    CODE_SAME,
    DATE_1,
    DATE_1_OTHER_DAY,
    DATE_FAR,
    DATE_FAR_OTHER_DAY,
    DATE_FAR_SAME_DAY,
    DATE_NEAR_SAME_DAY,
    DATE_SAME,
    DATE_YEAR,
    DATE_YEAR_OTHER_DAY,
    DATE_YEAR_SWAPPED,
    PLACE_DIFFERENT,
    PLACE_RELATED,
    PLACE_SAME,
    PLACE_SAME_REGENCY,
    field_levels,
    search,
)
from matching.weights import load_model, question_group
from tests.people import KEYS, SECRET, TODAY, Row, build, crowd

if TYPE_CHECKING:
    from pathlib import Path

    from matching.index import EncodedIndex

MODEL = load_model()
DJOKO = Client("Djoko Soesilo", "L", "1958", "Kebumen", "Siti Aminah")


def _index(tmp_path: Path, *persons: Row) -> EncodedIndex:
    index, _ = build(tmp_path / "g", [*crowd(3000), *persons])
    return index


def _level(tmp_path: Path, field: str, stored: str | None, asked: str | None) -> int:
    """Agreement level of one stored value with one asked value."""
    values = {"name": "Slamet", "sex": None, "birth_date": None, "birthplace": None, "mother_name": None}
    row = {**values, field: stored}
    index, _ = build(tmp_path / "one", [("1", *row.values())])
    question = {**values, field: asked}
    client = Client(
        str(question["name"]), question["sex"], question["birth_date"], question["birthplace"], question["mother_name"]
    )
    levels = field_levels(index, encode_client(client, KEYS, TODAY), MODEL, field)
    return int(levels[index.numbers()[PERSON_SCHEMA.field_names.index(field), 0]])


@pytest.mark.parametrize(
    "registered",
    ["JOKO SUSILO", "DJOKO SOESILO", "SUSILO JOKO", "JOKO SUSILA", "H. JOKO SUSILO, S.PD", "JOKO SUSILO WIBOWO"],
)
def test_an_old_spelling_finds_its_person_first(tmp_path: Path, registered: str) -> None:
    index = _index(tmp_path, ("HOME", registered, "L", "1958-04-03", "KEBUMEN", "SITI AMINAH"))
    result = search(index, encode_client(DJOKO, KEYS, TODAY), MODEL)
    assert index.record_id(result.candidates[0][1]) == "HOME"


@pytest.mark.parametrize(
    ("stored", "asked", "level"),
    [
        ("1958-04-03", "1958-04-03", DATE_SAME),
        ("1958-04-03", "1958-03-04", DATE_YEAR_SWAPPED),
        ("1958-04-03", "1958-08-20", DATE_YEAR_OTHER_DAY),
        ("1958-04-03", "1958", DATE_YEAR),
        ("1958-07-01", "1958-08-20", DATE_YEAR),  # 1 July is what registries write for "some day"
        ("1959-04-03", "1958", DATE_1),
        ("1959-04-03", "1958-08-20", DATE_1_OTHER_DAY),
        ("1959-04-03", "1958-04-03", DATE_NEAR_SAME_DAY),
        ("1990-04-03", "1958", DATE_FAR),
        ("1990-04-03", "1958-08-20", DATE_FAR_OTHER_DAY),
        ("1990-04-03", "1958-04-03", DATE_FAR_SAME_DAY),
        (None, "1958", 0),
        ("1958", None, 0),
    ],
)
def test_level_of_a_birth_date(tmp_path: Path, stored: str | None, asked: str | None, level: int) -> None:
    assert _level(tmp_path, "birth_date", stored, asked) == level


@pytest.mark.parametrize(
    ("stored", "asked", "level"),
    [
        ("KEBUMEN", "Kebumen", PLACE_SAME),
        ("GOMBONG", "Kebumen", PLACE_SAME_REGENCY),  # a district of Kebumen
        ("KOTA TANGERANG SELATAN", "Kabupaten Tangerang", PLACE_RELATED),
        ("KEBUMEN", "Ende", PLACE_DIFFERENT),
        ("KEBUMEN", None, 0),
        (None, "Kebumen", 0),
    ],
)
def test_level_of_a_birthplace(tmp_path: Path, stored: str | None, asked: str | None, level: int) -> None:
    assert _level(tmp_path, "birthplace", stored, asked) == level


@pytest.mark.parametrize(
    ("stored", "asked", "level"), [("L", "L", CODE_SAME), ("L", "P", CODE_DIFFERENT), (None, "P", 0)]
)
def test_level_of_sex(tmp_path: Path, stored: str | None, asked: str, level: int) -> None:
    assert _level(tmp_path, "sex", stored, asked) == level


def test_names_agree_more_the_more_of_them_agrees(tmp_path: Path) -> None:
    order = ["SUNARTI", "JOKO", "SUSILO", "JOKO SUSILO WIBOWO", "JOKO SUSILO"]
    weights = []
    for i, name in enumerate(order):
        room = tmp_path / str(i)
        room.mkdir()
        level = _level(room, "name", name, "Djoko Soesilo")
        groups = MODEL.fields["name"]["2"]
        weights.append(float(np.log2(groups.m[level] / groups.u0[level])))
    assert weights == sorted(weights)
    assert weights[0] < 0 < weights[-1]


def test_an_initial_agrees_with_the_name_it_may_stand_for(tmp_path: Path) -> None:
    (tmp_path / "same").mkdir()
    (tmp_path / "other").mkdir()
    fitting = _level(tmp_path / "same", "name", "JOKO SUSILO", "Joko S.")
    unfitting = _level(tmp_path / "other", "name", "JOKO WIBOWO", "Joko S.")
    assert fitting > unfitting


@pytest.mark.parametrize(
    ("client", "field", "group"),
    [
        (Client("Joko Susilo"), "name", "2"),
        (Client("Joko S."), "name", "2initial"),
        (Client("Joko", mother_name="Siti A. Rahayu"), "mother_name", "3initial"),
        (Client("Joko", birthplace="Kebumen"), "birthplace", "regency"),
        (Client("Joko", birthplace="Kec. Adimulyo, Kebumen"), "birthplace", "regency"),
        (Client("Joko", birthplace="Adimulyo"), "birthplace", "district"),
        (Client("Joko", birthplace="Kec. Depok"), "birthplace", "districts"),
        (Client("Joko", birthplace="Jawa Tengah"), "birthplace", "vague"),
        (Client("Joko", birthplace="Entah"), "birthplace", "unknown"),
        (Client("Joko"), "birthplace", None),
    ],
)
def test_what_was_said_decides_which_weights_hold(client: Client, field: str, group: str | None) -> None:
    assert question_group(encode_client(client, KEYS, TODAY), field) == group


def test_another_place_says_less_against_a_person_when_only_a_district_was_named() -> None:
    regency, district, districts = (MODEL.fields["birthplace"][g].m for g in ("regency", "district", "districts"))
    assert regency[PLACE_DIFFERENT] < district[PLACE_DIFFERENT] < districts[PLACE_DIFFERENT]


def _name_level(tmp_path: Path, stored: str, asked: str, **left_out: Any) -> int:
    index, _ = build(tmp_path, [("1", stored, None, None, None, None)])
    query = encode_client(Client(asked), KEYS, TODAY)
    said = query.fields["name"]
    assert isinstance(said, NameQuery)
    tokens = tuple(replace(token, **left_out) for token in said.tokens)
    query = replace(query, fields={"name": NameQuery(tokens)})
    return int(field_levels(index, query, MODEL, "name")[1])


@pytest.mark.parametrize(("stored", "asked"), [("SUPRIYADI", "Supiryadi"), ("HERMANTO", "Hermando")])
def test_a_slip_of_the_pen_agrees_more_for_its_near_forms(tmp_path: Path, stored: str, asked: str) -> None:
    near = _name_level(tmp_path / "a", stored, asked)
    assert near > _name_level(tmp_path / "b", stored, asked, near=np.empty(0, np.uint64))


@pytest.mark.parametrize(("stored", "asked"), [("SUTINAH", "Tinah"), ("GUNAWAN", "Wawan"), ("JAMALUDIN", "Udin")])
def test_what_somebody_is_called_agrees_with_the_name(tmp_path: Path, stored: str, asked: str) -> None:
    called = _name_level(tmp_path / "a", stored, asked)
    assert called > _name_level(tmp_path / "b", stored, asked, call=0)


def test_nobody_is_called_by_a_longer_name(tmp_path: Path) -> None:
    """Sutinah is called Tinah; who says that they are called Sutinah is not therefore Tinah."""
    with_call = _name_level(tmp_path / "a", "WAWAN", "Gunawan")
    assert with_call == _name_level(tmp_path / "b", "WAWAN", "Gunawan", call=0)


@pytest.mark.parametrize(
    ("stored", "asked", "level"),
    [
        ("H. SLAMET", "Haji Slamet", CODE_SAME),
        ("SLAMET", "Haji Slamet", CODE_DIFFERENT),
        ("SLAMET, S.PD", "Haji Slamet", CODE_DIFFERENT),
        ("H. SLAMET", "Slamet", 0),
        ("H. SLAMET", "Bapak Slamet", 0),
    ],
)
def test_level_of_a_title_that_was_said_with_the_name(tmp_path: Path, stored: str, asked: str, level: int) -> None:
    index, _ = build(tmp_path / "one", [("1", stored, None, None, None, None)])
    levels = field_levels(index, encode_client(Client(asked), KEYS, TODAY), MODEL, "title")
    assert levels[index.numbers()[PERSON_SCHEMA.field_names.index("title"), 0]] == level


def test_counts_of_every_field_add_up_to_the_registry(tmp_path: Path) -> None:
    index, _ = build(tmp_path / "g", crowd(40))  # so few that rounding leaves most counts exact
    evidence = search(index, encode_client(DJOKO, KEYS, TODAY), MODEL).evidence
    sex = PERSON_SCHEMA.field_names.index("sex")
    assert abs(int(evidence.histograms[sex].sum()) - 40) <= 8


def test_classes_count_what_a_plain_loop_counts(tmp_path: Path) -> None:
    index = _index(tmp_path, *[(f"T{i}", "JOKO SUSILO", "L", "1958-04-03", "KEBUMEN", "SITI AMINAH") for i in range(3)])
    query = encode_client(DJOKO, KEYS, TODAY)
    result = search(index, query, MODEL)
    levels = [field_levels(index, query, MODEL, name) for name in PERSON_SCHEMA.field_names]
    rows = index.numbers()
    everyone = [tuple(int(levels[f][row[f]]) for f in range(len(rows))) for row in rows.T]
    first = tuple(int(level) for level in result.evidence.class_levels[0])
    assert everyone.count(first) == result.evidence.class_counts[0] == 3


def test_blocks_of_any_size_give_the_same_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*crowd(500), *[(f"T{i}", "JOKO SUSILO", "L", "1958-04-03", "KEBUMEN", "SITI AMINAH") for i in range(3)]]
    query = encode_client(DJOKO, KEYS, TODAY)
    found = []
    for size in (1 << 20, 64):
        monkeypatch.setattr("matching.index.BLOCK_PERSONS", size)
        index, _ = build(tmp_path / str(size), rows)
        result = search(index, query, MODEL)
        ids = {index.record_id(row) for place, row in result.candidates if place == 0}
        found.append((result.evidence.class_levels.tolist(), result.evidence.class_counts.tolist(), ids))
        histograms = [histogram.tolist() for histogram in result.evidence.histograms]
        assert histograms == [histogram.tolist() for histogram in search(index, query, MODEL).evidence.histograms]
    assert found[0] == found[1]
    assert found[0][2] == {"T0", "T1", "T2"}


def test_an_answer_holds_few_handles_and_classes(tmp_path: Path) -> None:
    index = _index(tmp_path)
    result = search(index, encode_client(Client("Siti"), KEYS, TODAY), MODEL)
    assert len(result.candidates) <= HANDLES_PER_ANSWER
    assert len(result.evidence.class_counts) <= CLASSES_PER_ANSWER


def test_another_epoch_is_refused_before_any_arithmetic(tmp_path: Path) -> None:
    index = _index(tmp_path)
    later = encode_client(DJOKO, FieldKeys.derive(SECRET, PERSON_SCHEMA, 2), TODAY)
    with pytest.raises(SchemaMismatchError, match=r"epoch 1.*epoch 2"):
        search(index, later, MODEL)


def test_a_deadline_stops_a_search(tmp_path: Path) -> None:
    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        search(_index(tmp_path), encode_client(DJOKO, KEYS, TODAY), MODEL, check=stop)


def test_under_another_key_the_same_client_looks_like_nobody(tmp_path: Path) -> None:
    """What an outsider without the key could do with a stolen index: no better than chance."""
    index = _index(tmp_path, ("HOME", "JOKO SUSILO", "L", "1958-04-03", "KEBUMEN", "SITI AMINAH"))
    foreign = FieldKeys.derive(SECRET[::-1], PERSON_SCHEMA, 1)
    result = search(index, encode_client(DJOKO, foreign, TODAY), MODEL)
    home = index.size - 1
    assert home not in [row for _, row in result.candidates]


@pytest.mark.parametrize(
    ("client", "field"),
    [
        (Client("  ...  "), "name"),
        (Client("محمد"), "name"),
        (Client("Slamet", born="1958-02-31"), "birth_date"),
        (Client("Slamet", born="sometime"), "birth_date"),
        (Client("Slamet", sex="banana"), "sex"),
    ],
)
def test_what_cannot_be_read_is_an_error_without_the_value(client: Client, field: str) -> None:
    with pytest.raises(FieldValueError) as caught:
        encode_client(client, KEYS, TODAY)
    assert caught.value.field in {field, "born"}
    assert "banana" not in str(caught.value)
    assert "sometime" not in str(caught.value)


def test_what_helps_less_than_it_seems_is_a_warning() -> None:
    assert client_warnings(replace(DJOKO, birthplace="Atlantis Raya")) == (FieldWarning("birthplace", "unknown_place"),)
    assert client_warnings(DJOKO) == ()
    assert client_warnings(Client("A. B.")) == (FieldWarning("name", "only_initials"),)


def test_a_ten_thousand_letter_name_is_encoded_in_bounds() -> None:
    query = encode_client(Client("Slamet " * 2000), KEYS, TODAY)
    assert len(query.fields["name"].tokens) <= 6  # type: ignore[union-attr]


def test_a_client_never_prints() -> None:
    assert "Djoko" not in repr(DJOKO)
    assert "Kebumen" not in repr(DJOKO)
    assert "uint64" not in repr(encode_client(DJOKO, KEYS, TODAY))
