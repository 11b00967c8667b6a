from __future__ import annotations

import csv
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from benchmarks import match
from benchmarks.populations import TODAY, Population, generate, write
from matching.weights import load_model
from node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
PROVINCES = ("33", "35", "51")


@pytest.fixture(scope="module")
def population() -> Population:
    return generate(900, 30, "low", seed=4, provinces=PROVINCES)


@pytest.fixture(scope="module")
def files(population: Population, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("population")
    write(population, folder)
    return folder


@pytest.fixture(scope="module")
def federation(population: Population, tmp_path_factory: pytest.TempPathFactory) -> Iterator[match.Federation]:
    folder, keys = tmp_path_factory.mktemp("indexes"), match.bench_keys()
    match.build_indexes(population.registry, folder, keys, NOW)
    with match.open_indexes(folder, keys) as indexes:
        yield match.Federation(indexes, match.for_provinces(load_model(), PROVINCES), keys, TODAY)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_query_gets_probabilities_that_sum_to_one(
    population: Population, federation: match.Federation, tmp_path: Path
) -> None:
    match.write_results(tmp_path, match.match_all(population.queries, federation, threads=2), PROVINCES)
    shares: dict[str, float] = {}
    for row in rows(tmp_path / "provinces.csv"):
        shares[row["query_id"]] = shares.get(row["query_id"], 0.0) + float(row["probability"])
    assert shares.keys() == set(population.queries["query_id"])
    assert all(share == pytest.approx(1, abs=1e-5) for share in shares.values())


def test_most_registered_clients_of_a_small_population_are_found(
    population: Population, federation: match.Federation, files: Path, tmp_path: Path
) -> None:
    matches = match.write_results(tmp_path, match.match_all(population.queries, federation, threads=2), PROVINCES)
    truth = match.read_truth(files / "truth.csv", population.queries, population.registry)
    assert match.measure(matches, truth).top1 >= 0.9
    best = {row["query_id"]: row["record_id"] for row in rows(tmp_path / "candidates.csv") if row["rank"] == "1"}
    found = sum(best.get(query) == home[0] for query, home in truth.items() if home)
    assert found >= 0.8 * population.truth["record_id"].count()


def test_a_query_without_a_name_is_refused_and_counted_as_lost(federation: match.Federation, tmp_path: Path) -> None:
    queries = pl.DataFrame([("Q1", "...", "L", None, None, None)], schema=match.QUERY_COLUMNS, orient="row")
    matches = match.write_results(tmp_path, match.match_all(queries, federation, threads=1), PROVINCES)
    assert [row["query_id"] for row in rows(tmp_path / "refused.csv")] == ["Q1"]
    assert match.measure(matches, {"Q1": ("33-00000001", "33")}).top1 == 0


def test_an_interrupted_run_keeps_what_it_has(
    population: Population, federation: match.Federation, tmp_path: Path
) -> None:
    def stopped() -> Iterator[match.Match]:
        for number, each in enumerate(match.match_all(population.queries, federation, threads=1)):
            if number == 5:
                raise KeyboardInterrupt
            yield each

    assert len(match.write_results(tmp_path, stopped(), PROVINCES)) == 5
    assert len({row["query_id"] for row in rows(tmp_path / "provinces.csv")}) == 5


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("query_id,name\nQ1,Siti\n", "4 columns are missing, 0 are unknown"),
        ("query_id,name,sex,birth_date,birthplace,mother_name,nik\n", "0 columns are missing, 1 are unknown"),
        ("query_id,name,sex,birth_date,birthplace,mother_name\n", "a header and no rows"),
        ("query_id,name,sex,birth_date,birthplace,mother_name\nQ1,a,b,c,d,e,f,g\n", "as many values in every row"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "queries.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        match.read_table(path, match.QUERY_COLUMNS)


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "queries.csv"
    path.write_bytes("query_id,name,sex,birth_date,birthplace,mother_name\nQ1,Andr\xe9,L,,,\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        match.read_table(path, match.QUERY_COLUMNS)


def test_a_truth_of_another_population_is_refused(population: Population, files: Path, tmp_path: Path) -> None:
    other = tmp_path / "truth.csv"
    other.write_text((files / "truth.csv").read_text().replace("33-", "99-"))
    with pytest.raises(ConfigError, match=r"0 unknown queries, [1-9][0-9]* unknown records"):
        match.read_truth(other, population.queries, population.registry)


ENDLESS = "Siti " + "a" * 10_000
ODD_NAMES = (ENDLESS, "Ahmad \U0001f600", "\u0639\u0644\u064a", "\U0001f600\U0001f600", "x" * 10_000, "\x00")


def registry_of(*rows: tuple[str | None, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(match.REGISTRY_COLUMNS, pl.String), orient="row")


def queries_of(*names: str) -> pl.DataFrame:
    rows = [(f"Q{i}", name, None, None, None, None) for i, name in enumerate(names)]
    return pl.DataFrame(rows, schema=dict.fromkeys(match.QUERY_COLUMNS, pl.String), orient="row")


def answer(registry: pl.DataFrame, queries: pl.DataFrame, folder: Path) -> tuple[list[match.Match], dict[str, int]]:
    keys = match.bench_keys()
    issues = match.build_indexes(registry, folder, keys, NOW)
    with match.open_indexes(folder, keys) as indexes:
        model = match.for_provinces(load_model(), sorted(indexes))
        return list(match.match_all(queries, match.Federation(indexes, model, keys, TODAY), 1)), dict(issues)


def test_odd_names_are_answered_or_refused_and_none_is_lost(tmp_path: Path) -> None:
    rows = [(f"33-{i}", "33", name, None, None, None, None) for i, name in enumerate(ODD_NAMES)]
    known = ("33-ok", "33", "Siti Aminah", "P", "1958-04-03", "KEBUMEN", "Sumiati")
    folder = tmp_path / "indexes"
    folder.mkdir()
    matches, issues = answer(registry_of(known, *rows), queries_of("Siti Aminah", *ODD_NAMES), folder)
    assert len(matches) == 1 + len(ODD_NAMES)
    assert matches[0].records[0][0] == "33-ok"
    refused = [each.refused for each in matches if each.posterior is None]
    # Nothing is left of Arabic script, of emoji alone and of a control character.
    assert len(refused) == 3
    assert issues == {"name: empty, or nothing is left after normalising": 3}
    assert not {name for name in ODD_NAMES if any(name in reason for reason in refused if reason)}


def test_a_registry_of_one_row_with_nothing_but_a_name_is_searched(tmp_path: Path) -> None:
    matches, issues = answer(
        registry_of(("33-1", "33", "Sutrisno", None, None, None, None)), queries_of("Sutrisno"), tmp_path
    )
    assert matches[0].records[0][:2] == ("33-1", "33")
    assert issues == {}


def test_a_province_without_a_usable_row_is_counted_and_the_others_answer(tmp_path: Path) -> None:
    registry = registry_of(
        ("33-1", "33", "Sutrisno", None, None, None, None),
        ("35-1", "35", "...", None, None, None, None),
        ("33-1", "33", "Lestari", None, None, None, None),
        ("99", None, "Wibowo", None, None, None, None),
    )
    matches, issues = answer(registry, queries_of("Sutrisno"), tmp_path)
    assert matches[0].posterior is not None
    assert list(matches[0].posterior.provinces) == ["33"]
    assert issues["province: not one of its persons can be found"] == 1
    assert issues["province: missing"] == 1
    assert issues["record_id: not the first of that id in its province"] == 1


def test_a_registry_without_a_usable_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not one row of the registry can be used") as raised:
        match.build_indexes(registry_of(("1", "33", None, *[None] * 4)), tmp_path, match.bench_keys(), NOW)
    assert "1 times" in str(raised.value.hint)


@pytest.mark.parametrize("code", ["../33", "3 3", "33/35", ""])
def test_a_province_that_is_no_code_makes_no_folder(tmp_path: Path, code: str) -> None:
    path = tmp_path / "registry.csv"
    path.write_text(f"{','.join(match.REGISTRY_COLUMNS)}\n33-1,{code},Siti,,,,\n")
    if code:
        with pytest.raises(ConfigError, match="1 rows have a province"):
            match.read_registry(path)
    else:
        assert match.read_registry(path)["province"].null_count() == 1


@pytest.mark.parametrize("ids", ["Q1\nQ1", "Q1\n", 'Q1\n""'])
def test_queries_without_an_id_of_their_own_are_refused(tmp_path: Path, ids: str) -> None:
    path = tmp_path / "errors.csv"
    path.write_text("query_id,operations\n" + "".join(f"{row},x\n" for row in ids.split("\n")))
    with pytest.raises(ConfigError, match="no query_id of their own"):
        match.read_table(path, match.ERROR_COLUMNS, key="query_id")


def test_errors_of_other_queries_are_refused(population: Population, tmp_path: Path) -> None:
    path = tmp_path / "errors.csv"
    path.write_text("query_id,operations\nQ999999,name:typo\n")
    with pytest.raises(ConfigError, match="1 unknown queries"):
        match.read_errors(path, population.queries)
