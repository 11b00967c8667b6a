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
