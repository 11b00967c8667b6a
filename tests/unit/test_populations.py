from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from rapidfuzz.distance import OSA

from benchmarks.errors_model import (
    Description,
    ErrorModel,
    Person,
    respell,
    slip,
    spelling_1901,
    spelling_1947,
    spelling_today,
)
from benchmarks.name_model import CUSTOM_NAMES, MALE, NO_TOKEN, name_model, read_table
from benchmarks.places_model import place_model
from benchmarks.populations import TEN_PROVINCES, TODAY, Population, Recipe, generate, populate, write

if TYPE_CHECKING:
    from pathlib import Path

JAVA = ("33", "34", "35")
ANYBODY = Person(
    name="Contoh", registered_name="CONTOH", is_male=True, born=dt.date(1970, 2, 3),
    registered_born=dt.date(1970, 2, 3),
    default_date=False, place=0, registered_place=None, mother="contoh", registered_mother=None, custom="jawa",
    province="33",
)  # fmt: skip


@pytest.fixture(scope="module")
def population() -> Population:
    return generate(40_000, 2_000, "base", seed=5)


@pytest.fixture(scope="module")
def javanese() -> pl.DataFrame:
    return generate(40_000, 0, "base", seed=6, provinces=JAVA).registry


def words(names: pl.Series) -> pl.Series:
    return names.str.replace(r"^(H|HJ|Hj)\. ", "").str.split(",").list.first().str.split(" ").list.len()


# --- same seed, same bytes ------------------------------------------------------------------------------------------


def test_the_same_seed_writes_the_same_bytes_whatever_python_hashes_by(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from benchmarks.populations import Recipe, populate\n"
        f"populate(Recipe(2000, 60, 'high', 3), Path({str(tmp_path / 'other')!r}))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    write(generate(2000, 60, "high", 3), tmp_path / "here")
    for name in ("registry.csv", "queries.csv", "truth.csv", "errors.csv"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


def test_another_seed_makes_other_persons() -> None:
    assert not generate(500, 0, "base", 1).registry.equals(generate(500, 0, "base", 2).registry)


def test_the_number_of_clients_leaves_the_registries_alone() -> None:
    assert generate(1000, 10, "base", 1).registry.equals(generate(1000, 200, "base", 1).registry)


# --- registries -----------------------------------------------------------------------------------------------------


def test_registries_are_as_large_as_their_provinces_or_equal() -> None:
    by_population = Recipe(1003, 0, "base", 1).sizes
    assert sum(by_population.values()) == 1003
    assert by_population["32"] > by_population["35"] > by_population["51"]
    assert set(Recipe(1003, 0, "base", 1, equal=True).sizes.values()) == {100, 101}


@pytest.mark.parametrize("sex", ["L", "P"])
@pytest.mark.parametrize("born", [1950, 1965, 1980, 1995])
def test_one_word_names_on_java_are_as_common_as_the_table_says(javanese: pl.DataFrame, sex: str, born: int) -> None:
    measured = next(
        float(row["share_1"])
        for row in read_table("matching", "name_words_by_cohort.tsv")
        if int(row["born_from"]) == born and row["sex"] == {"L": "m", "P": "f"}[sex]
    )
    years = javanese["birth_date"].str.slice(0, 4).cast(pl.Int32)
    cohort = javanese.filter((javanese["sex"] == sex) & years.is_between(born, born + 4))
    drawn = float((words(cohort["name"]) == 1).sum()) / cohort.height
    assert drawn == pytest.approx(measured, abs=0.06)


def test_few_balinese_and_timorese_have_one_word_names(population: Population) -> None:
    for code in ("51", "53"):
        names = population.registry.filter(pl.col("province") == code)["name"]
        assert float((words(names) == 1).sum()) / len(names) < 0.12


def test_balinese_names_carry_their_markers(population: Population) -> None:
    names = population.registry.filter(pl.col("province") == "51")["name"]
    marked = names.str.contains(r"(?i)^(I|Ni|Ida|Anak|Gusti|Desak|Wayan|Made|Nyoman|Ketut|Putu|Kadek|Komang|Gede) ")
    assert marked.sum() / len(names) > 0.75


def test_one_word_names_collide_about_as_often_as_real_ones() -> None:
    # Real: of 297,000 one-word names, 14 % are the only one of their kind and 55 % one of more than twenty.
    model, count = name_model(), 420_000
    rng = np.random.Generator(np.random.PCG64(1))
    shares = rng.choice([CUSTOM_NAMES.index(name) for name in ("jawa", "sunda", "umum")], count).astype(np.int32)
    sex, nowhere = rng.integers(0, 2, count).astype(np.int32), np.full(count, -1, np.int32)
    drawn = model.draw(rng, shares, sex, np.full(count, 1962, np.int32), nowhere)
    only = drawn[drawn[:, 1] == NO_TOKEN, 0]
    _, at, times = np.unique(only, return_inverse=True, return_counts=True)
    assert (times[at] == 1).mean() == pytest.approx(0.14, abs=0.06)
    assert (times[at] > 20).mean() == pytest.approx(0.55, abs=0.1)


def test_nobody_bears_the_same_word_twice_in_a_row(population: Population) -> None:
    for name in population.registry["name"].head(5_000):
        tokens = name.split()
        assert all(one != other for one, other in pairwise(tokens))


def test_mothers_are_not_called_muhammad(population: Population) -> None:
    mothers = population.registry["mother_name"].drop_nulls()
    assert mothers.str.contains(r"(?i)\b(muhammad|abdul)\b").sum() / len(mothers) < 0.005


def test_default_dates_are_as_common_as_the_error_table_says(population: Population) -> None:
    rates = ErrorModel.rates("base")
    days = population.registry["birth_date"].drop_nulls().str.slice(5)
    for day, key in (("07-01", "default_1_july"), ("12-31", "default_31_december"), ("01-01", "default_1_january")):
        assert (days == day).sum() / len(days) == pytest.approx(rates[key] + 1 / 365, abs=0.006), day


def test_the_old_were_written_down_with_default_dates_more_often(population: Population) -> None:
    registry = population.registry.drop_nulls("birth_date")
    old = registry.filter(registry["birth_date"] < "1955")["birth_date"]
    young = registry.filter(registry["birth_date"] > "1990")["birth_date"]
    shares = [float(days.str.ends_with("-07-01").sum()) / len(days) for days in (old, young)]
    assert shares[0] > 5 * shares[1]


def test_migrants_live_in_jakarta_and_lampung(population: Population) -> None:
    regencies = {row.name.upper() for row in place_model().regencies if row.code.startswith(("33", "34", "35"))}

    def born_on_java(code: str) -> float:
        places = population.registry.filter(pl.col("province") == code)["birthplace"].drop_nulls().str.to_uppercase()
        return float(places.is_in(list(regencies)).sum()) / len(places)

    assert born_on_java("31") > 0.15
    assert born_on_java("18") > 0.12
    assert born_on_java("53") < 0.05


def test_a_recipe_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(ValueError, match="no registry is modelled for province 11"):
        Recipe(100, 1, "base", 1, provinces=("11",))
    with pytest.raises(ValueError, match="at least one person"):
        Recipe(5, 1, "base", 1)
    with pytest.raises(ValueError, match="more registered clients"):
        Recipe(10, 100, "base", 1)


# --- clients --------------------------------------------------------------------------------------------------------


def test_registered_clients_are_in_the_registry_and_the_others_nowhere(population: Population) -> None:
    truth = population.truth
    named = truth.drop_nulls("record_id")
    assert named.height == 1_400
    assert named.join(population.registry, on=["record_id", "province"], how="anti").height == 0
    assert truth.filter(pl.col("record_id").is_null())["province"].null_count() == 600
    assert truth["query_id"].to_list() == population.queries["query_id"].to_list()


def test_clients_come_from_every_province(population: Population) -> None:
    assert set(population.truth["province"].drop_nulls()) == set(TEN_PROVINCES)


def test_birth_dates_of_clients_are_years_or_days(population: Population) -> None:
    for born in population.queries["birth_date"].drop_nulls():
        assert re.fullmatch(r"\d{4}", born) or dt.date.fromisoformat(born) <= TODAY


def test_exact_copies_of_names_are_as_common_as_the_error_table_says(population: Population) -> None:
    both = population.queries.join(population.truth, on="query_id").join(
        population.registry.select("record_id", registered="name"), on="record_id"
    )
    same = (both["name"].str.to_lowercase() == both["registered"].str.to_lowercase()).sum() / both.height
    assert same == pytest.approx(ErrorModel.rates("base")["name_exact"], abs=0.05)


@pytest.mark.parametrize(
    ("key", "words_needed"), [("token_dropped", 2), ("token_added", 1), ("nickname", 1), ("order", 2), ("initial", 3)]
)
def test_errors_of_names_are_about_as_common_as_the_error_table_says(
    population: Population, key: str, words_needed: int
) -> None:
    both = (
        population.queries.join(population.truth, on="query_id")
        .join(population.errors, on="query_id")
        .join(population.registry.select("record_id", registered="name"), on="record_id")
    )
    fitting = both.filter(words(both["registered"]) >= words_needed)
    share = fitting["operations"].str.contains(f"name:{key}", literal=True).sum() / fitting.height
    rate = ErrorModel.rates("base")[key]
    assert 0.3 * rate < share < 1.6 * rate


@pytest.mark.parametrize("worse", [("low", "base"), ("base", "high")])
def test_a_harder_profile_leaves_less_known(worse: tuple[str, str]) -> None:
    known = [generate(1_000, 500, profile, 1).queries for profile in worse]  # type: ignore[arg-type]
    assert sum(known[0].null_count().row(0)) < sum(known[1].null_count().row(0))


def test_every_row_of_the_error_table_happens() -> None:
    happened = {operation for person in people(3_000) for operation in person.operations}
    keys = {operation.partition(":")[2] for operation in happened}
    registered = {"default_1_july", "default_31_december", "default_1_january", "day_15"}  # done to registries
    assert {row["key"] for row in read_table("benchmarks", "client_errors.tsv")} - registered - {"name_exact"} <= keys


def people(count: int) -> list[Description]:
    """Describe persons of every custom and age, with the many errors of the high profile."""
    rng = np.random.Generator(np.random.PCG64(9))
    model, names = ErrorModel("high", TODAY), name_model()
    custom = rng.integers(0, len(CUSTOM_NAMES), count).astype(np.int32)
    sex = rng.integers(0, 2, count).astype(np.int32)
    year = rng.integers(1930, 2027, count).astype(np.int32)
    area = rng.integers(0, 10, count).astype(np.int32)
    drawn = names.draw(rng, custom, sex, year, area)
    found = []
    for row in range(count):
        name = " ".join(names.vocabulary[token] for token in drawn[row] if token != NO_TOKEN)
        born = min(dt.date(int(year[row]), 3, 9), TODAY)
        place = int(rng.integers(len(place_model().regencies)))
        person = Person(
            name, f"H. {name}" if row % 10 == 0 else name, bool(sex[row] == MALE), born, born, row % 5 == 0, place, "X",
            "siti aminah", "SITI AMINAH", CUSTOM_NAMES[custom[row]], "32",
        )  # fmt: skip
        found.append(model.describe(rng, person))
    return found


# --- spellings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("today", "of_1947", "of_1901"),
    [  # the pairs by which the reforms of 1947 and 1972 are usually explained
        ("sukarno", "sukarno", "soekarno"),
        ("cahyono", "tjahjono", "tjahjono"),
        ("joko", "djoko", "djoko"),
        ("yusuf", "jusuf", "joesoef"),
        ("nyoman", "njoman", "njoman"),
        ("syarif", "sjarif", "sjarif"),
        ("akhmad", "achmad", "achmad"),
        ("budi", "budi", "boedi"),
    ],
)
def test_old_spellings_follow_the_reforms(today: str, of_1947: str, of_1901: str) -> None:
    assert spelling_1947(today) == of_1947
    assert spelling_1901(today) == of_1901


@pytest.mark.parametrize(
    ("old", "today"), [("soekarno", "sukarno"), ("tjahjono", "cahyono"), ("djoko", "joko"), ("sjarif", "syarif")]
)
def test_old_spellings_are_read_back(old: str, today: str) -> None:
    assert spelling_today(old) == today


@pytest.mark.parametrize("modern", ["jaya", "sanjaya", "panjaitan", "yusuf"])
def test_modern_spellings_are_left_alone(modern: str) -> None:
    assert spelling_today(modern) == modern


@pytest.mark.parametrize("token", ["yuniarsi", "dhimas", "khoiri", "zaelani", "tiyono", "sutrisna"])
def test_a_token_without_a_group_is_respelt_by_its_sound(token: str) -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    spelt = {respell(rng, token, ANYBODY) for _ in range(50)}
    assert all(other and other != token and OSA.distance(other, token) <= 2 for other in spelt)


def test_a_slip_is_one_edit_and_never_of_the_first_letter() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    for _ in range(300):
        slipped = slip(rng, "Sutrisno")
        assert OSA.distance(slipped, "Sutrisno") <= 1
        assert slipped[0] == "S" or slipped[1] == "S"


def test_writing_in_blocks_is_writing_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The block is part of the recipe: what must not matter is who holds the registry in memory.
    write(generate(3_000, 50, "base", 8), tmp_path / "memory")
    populate(Recipe(3_000, 50, "base", 8), tmp_path / "stream")
    for name in ("registry.csv", "queries.csv"):
        assert (tmp_path / "memory" / name).read_bytes() == (tmp_path / "stream" / name).read_bytes()


def test_unknown_names_are_as_common_as_before_and_a_clients_are_those_of_its_record(tmp_path: Path) -> None:
    populate(Recipe(3000, 600, "low", 5), tmp_path / "known")
    populate(Recipe(3000, 600, "low", 5), tmp_path / "unknown", unknown_names=0.5)

    def names(kind: str, file: str, key: str) -> dict[str, str | None]:
        return dict(pl.read_csv(tmp_path / kind / file, infer_schema=False).select(key, "name").iter_rows())

    known, unknown = (names(kind, "registry.csv", "record_id") for kind in ("known", "unknown"))
    chosen = {person for person in known if known[person] != unknown[person]}
    assert 0.45 < len(chosen) / len(known) < 0.55
    of_known, of_unknown = (Counter(of[person] for person in chosen) for of in (known, unknown))
    assert sorted(of_known.values()) == sorted(of_unknown.values())
    asked, asked_unknown = (names(kind, "queries.csv", "query_id") for kind in ("known", "unknown"))
    truth = pl.read_csv(tmp_path / "unknown" / "truth.csv", infer_schema=False)
    for query, home in truth.drop_nulls().select("query_id", "record_id").iter_rows():
        assert (asked[query] != asked_unknown[query]) == (home in chosen and bool(asked[query]))
