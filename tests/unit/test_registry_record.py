# ruff: noqa: F811 - fixtures are imported, and asked for by their names
"""One person's own record is found again where it was imported from, and a change since then is noticed."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import polars as pl
import psycopg
import pytest
import xlsxwriter

from node.errors import ConfigError
from node.mapping import ColumnMap, guess_mapping
from node.registry_record import changed_fields, find_record
from node.registry_source import recall, remember
from node.sources import open_source
from tests.postgres import postgres_server  # noqa: F401 - the fixture
from tests.registries import HEADER, NOW, PEOPLE, Desk, csv_text, make_desk

if TYPE_CHECKING:
    from pathlib import Path

    from node.registry_record import RawRecord
    from tests.postgres import PostgresServer

MAPPING = guess_mapping(HEADER)
NO_IDS = ColumnMap(columns={key: value for key, value in MAPPING.columns.items() if key != "record_id"})
SITI = PEOPLE[1]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return make_desk(tmp_path / "node")


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    file = tmp_path / "registry.csv"
    file.write_text(csv_text())
    return file


def look_up(
    source: Path | str,
    record_id: str,
    mapping: ColumnMap = MAPPING,
    *,
    table: str | None = None,
    query: str | None = None,
) -> tuple[RawRecord, ...]:
    with open_source(str(source), table=table, query=query) as opened:
        return find_record(opened, mapping, record_id)


def name_of(found: tuple[RawRecord, ...]) -> str | None:
    (record,) = found
    return record.values["name"]


def test_a_record_is_found_in_a_csv_file_with_the_row_a_person_sees(registry: Path) -> None:
    (record,) = look_up(registry, "0002")
    assert record.values == {field: SITI[HEADER.index(column)] for field, column in MAPPING.columns.items()}
    assert record.row == 3
    assert SITI[2] not in repr(record)


def test_a_record_is_found_in_a_workbook_and_in_parquet(tmp_path: Path) -> None:
    with xlsxwriter.Workbook(tmp_path / "r.xlsx") as book:
        sheet = book.add_worksheet()
        for row, values in enumerate((HEADER, *PEOPLE)):
            sheet.write_row(row, 0, values)
    pl.DataFrame(list(PEOPLE), schema=list(HEADER), orient="row").write_parquet(tmp_path / "r.parquet")
    assert name_of(look_up(tmp_path / "r.xlsx", "0002")) == SITI[2]
    assert name_of(look_up(tmp_path / "r.parquet", "0002")) == SITI[2]


def test_a_row_number_stands_in_for_a_missing_id(registry: Path) -> None:
    assert name_of(look_up(registry, "row 3", NO_IDS)) == SITI[2]
    assert look_up(registry, "row 99", NO_IDS) == ()


def test_a_record_that_is_gone_is_not_found_and_two_of_one_id_are_both_returned(registry: Path) -> None:
    assert look_up(registry, "0099") == ()
    registry.write_text(csv_text([*PEOPLE, ("0002", "", "SITI LAIN", "P", "", "", "")]))
    assert [record.values["name"] for record in look_up(registry, "0002")] == ["SITI RAHAYU", "SITI LAIN"]


@pytest.mark.parametrize("key_type", ["INTEGER", "TEXT"])
def test_a_database_is_asked_by_key(tmp_path: Path, key_type: str) -> None:
    ids = ["17", "1700", "2"] if key_type == "INTEGER" else ["0017", " 17 ", "170"]
    with closing(sqlite3.connect(tmp_path / "r.db")) as db:
        db.execute(f"CREATE TABLE penduduk (id {key_type} PRIMARY KEY, nama TEXT, tgl_lahir TEXT)")
        db.executemany("INSERT INTO penduduk VALUES (?, ?, '1-3-1958')", [(each, f"N {each}") for each in ids])
        db.commit()
    mapping = ColumnMap(columns={"record_id": "id", "name": "nama", "birth_date": "tgl_lahir"})
    url = f"sqlite:///{tmp_path}/r.db"
    for way in ({"table": "penduduk"}, {"query": "SELECT id, nama, tgl_lahir FROM penduduk;"}):
        for record_id in ids:
            assert name_of(look_up(url, record_id.strip(), mapping, **way)) == f"N {record_id}"
        assert look_up(url, "9", mapping, **way) == ()
    without = ColumnMap(columns={"name": "nama"})
    with pytest.raises(ConfigError, match="no record id column"):
        look_up(url, "row 1", without, table="penduduk")


@pytest.mark.postgres
@pytest.mark.parametrize("key_type", ["bigint", "text", "char(8)"])
def test_postgresql_is_asked_by_key(postgres_server: PostgresServer, key_type: str) -> None:
    with postgres_server.database() as url:
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(f"CREATE TABLE penduduk (id {key_type} PRIMARY KEY, nama text)")
            db.execute("INSERT INTO penduduk VALUES ('17', 'N 17'), ('1700', 'N 1700')")
        mapping = ColumnMap(columns={"record_id": "id", "name": "nama"})
        for way in ({"table": "penduduk"}, {"query": "SELECT id, nama FROM penduduk"}):
            assert name_of(look_up(url, "17", mapping, **way)) == "N 17"
            assert look_up(url, "abc", mapping, **way) == ()


def test_a_record_that_was_changed_since_the_import_is_noticed_field_by_field(desk: Desk, registry: Path) -> None:
    desk.load(registry)
    (same,) = look_up(registry, "0002")
    assert changed_fields(desk.home, same, generation="g000001", row=1, now=NOW) == ()
    registry.write_text(csv_text().replace("SITI RAHAYU", "SITI RAHAJU WATI").replace("01-03-1958", "02-03-1958"))
    (changed,) = look_up(registry, "0002")
    assert changed_fields(desk.home, changed, generation="g000001", row=1, now=NOW) == ("name", "birth_date")
    registry.write_text(csv_text().replace("SITI RAHAYU", "??"))
    (emptied,) = look_up(registry, "0002")
    assert changed_fields(desk.home, emptied, generation="g000001", row=1, now=NOW) == ("name",)
    assert sorted(path.name for path in desk.home.generations.iterdir()) == ["current", "g000001"]


def test_nobody_can_tell_without_the_generation_of_then(desk: Desk, registry: Path) -> None:
    desk.load(registry)
    (record,) = look_up(registry, "0002")
    assert changed_fields(desk.home, record, generation="g000000", row=1, now=NOW) is None
    assert changed_fields(desk.home, record, generation="g000001", row=0, now=NOW) is None, "that row is somebody else"
    assert changed_fields(desk.home, record, generation="g000001", row=99, now=NOW) is None


def test_what_was_imported_is_remembered_privately_and_a_changed_file_is_seen(desk: Desk, registry: Path) -> None:
    with pytest.raises(ConfigError, match="does not know"):
        recall(desk.home)
    remember(desk.home, str(registry), MAPPING, generation="g000001")
    found = recall(desk.home)
    assert (found.source, found.mapping, found.file_differs) == (str(registry), MAPPING, False)
    assert stat.S_IMODE(desk.home.registry_source.stat().st_mode) == 0o600
    with found.open() as opened:
        assert opened.columns == HEADER
    registry.write_text(csv_text(PEOPLE[:2]))
    assert found.file_differs
    registry.unlink()
    assert found.file_differs


def test_a_password_in_a_database_url_is_not_shown(desk: Desk) -> None:
    remember(desk.home, "postgresql://u:geheim@h/db", MAPPING, generation="g000001", table="t")
    assert "geheim" not in repr(recall(desk.home))
    desk.home.registry_source.write_text('{"source": "postgresql://u:geheim@h/db"}')
    with pytest.raises(ConfigError) as refused:
        recall(desk.home)
    assert "geheim" not in str(refused.value)
