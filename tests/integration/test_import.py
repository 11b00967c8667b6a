from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import psycopg
import pytest
import xlsxwriter

import node.sources
from matching.index import FORMAT, MANIFEST
from node.errors import ConfigError, ImportRejectedError
from node.generation import index_key
from node.mapping import ColumnMap, guess_mapping
from node.sources import open_source
from tests.postgres import postgres_server  # noqa: F401 - the fixture
from tests.registries import HEADER, PEOPLE, csv_text, make_desk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.postgres import PostgresServer
    from tests.registries import Desk

IDS = [person[0] for person in PEOPLE]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return make_desk(tmp_path / "node")


def pulang(desk: Desk, *arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node.cli.main", "registry", *map(str, arguments), "--home", str(desk.home.root)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def rejects(report_path: Path | None) -> list[tuple[int, str, str]]:
    assert report_path is not None
    lines = [line.split("\t") for line in report_path.read_text().splitlines()[1:]]
    return [(int(row), reason, outcome) for row, _, reason, outcome in lines]


def workbook(path: Path, people: object = PEOPLE, *, title: str | None = None) -> Path:
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("Data")
        top = 0
        if title is not None:
            sheet.merge_range(0, 0, 0, len(HEADER) - 1, title)
            top = 2
        for number, row in enumerate((HEADER, *people)):  # type: ignore[misc]
            sheet.write_row(top + number, 0, row)
    return path


# --- the same registry from everywhere ------------------------------------------------------------------------------


def as_csv(folder: Path) -> dict[str, str]:
    (folder / "r.csv").write_text(csv_text())
    return {"source": str(folder / "r.csv")}


def as_semicolons_with_bom(folder: Path) -> dict[str, str]:
    (folder / "r.csv").write_bytes(b"\xef\xbb\xbf" + csv_text(separator=";").replace("\n", "\r\n").encode())
    return {"source": str(folder / "r.csv")}


def as_quoted_csv(folder: Path) -> dict[str, str]:
    quoted = "".join(",".join(f'"{value}"' for value in row) + "\n" for row in (HEADER, *PEOPLE))
    (folder / "r.csv").write_text(quoted.rstrip("\n"))
    return {"source": str(folder / "r.csv")}


def as_excel(folder: Path) -> dict[str, str]:
    return {"source": str(workbook(folder / "r.xlsx"))}


def as_parquet(folder: Path) -> dict[str, str]:
    pl.DataFrame(list(PEOPLE), schema=list(HEADER), orient="row").write_parquet(folder / "r.parquet")
    return {"source": str(folder / "r.parquet")}


def as_sqlite(folder: Path) -> dict[str, str]:
    with sqlite3.connect(folder / "r.db") as connection:
        connection.execute(f"CREATE TABLE penduduk ({', '.join(HEADER)})")
        connection.executemany(f"INSERT INTO penduduk VALUES ({', '.join('?' * len(HEADER))})", PEOPLE)
    connection.close()
    return {"source": f"sqlite:///{folder}/r.db", "table": "penduduk"}


@pytest.mark.parametrize(
    "written",
    [as_csv, as_semicolons_with_bom, as_quoted_csv, as_excel, as_parquet, as_sqlite],
    ids=lambda each: each.__name__,
)
def test_a_registry_is_the_same_index_from_whatever_it_came(
    desk: Desk, tmp_path: Path, written: Callable[[Path], dict[str, str]]
) -> None:
    made = written(tmp_path)
    report = desk.load(made["source"], table=made.get("table"))
    assert (report.persons, report.rejected, report.rejects_file) == (4, 0, None)
    assert desk.answering() == ("g000001", IDS)
    with desk.index() as index:
        rows = index.numbers()
    (tmp_path / "plain.csv").write_text(csv_text())
    desk.load(tmp_path / "plain.csv")
    with desk.index() as index:
        assert np.array_equal(rows, index.numbers())


@pytest.mark.postgres
def test_a_table_and_a_query_of_postgresql_are_streamed(desk: Desk, request: pytest.FixtureRequest) -> None:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.database() as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE SCHEMA siks")
            connection.execute("CREATE TABLE siks.ppks (id int, nama text, tgl_lahir date, jk char(1))")
            connection.execute("INSERT INTO siks.ppks VALUES (7, 'SITI', '1958-03-01', 'P'), (8, NULL, NULL, 'L')")
        report = desk.load(url, table="siks.ppks")
        assert (report.persons, rejects(report.rejects_file)[0][0]) == (1, 2)
        assert desk.answering()[1] == ["7"]
        desk.load(url, query="SELECT 100 + id AS id, nama FROM siks.ppks WHERE nama LIKE 'S%'")
        assert desk.answering()[1] == ["107"]
        desk.load(url, query="SELECT i AS id, 'SITI ' || i AS nama FROM generate_series(1, 2500) AS i", batch_rows=1000)
        assert len(desk.answering()[1]) == 2500


def test_a_database_is_read_and_never_written_or_made(desk: Desk, tmp_path: Path) -> None:
    source = as_sqlite(tmp_path)["source"]
    with pytest.raises(ImportRejectedError, match="read-only"):
        desk.load(source, query="DELETE FROM penduduk RETURNING *")
    with pytest.raises(ConfigError, match="no SQLite database"):
        desk.load(f"sqlite:///{tmp_path}/none.db", table="penduduk")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(ConfigError, match="no table ppks") as caught:
        desk.load(source, table="ppks")
    assert caught.value.hint == "it has: penduduk"
    with pytest.raises(ConfigError, match="returns no rows"):
        desk.load(source, query="ATTACH ':memory:' AS other")


# --- text files as they come ----------------------------------------------------------------------------------------


def test_windows_1252_is_noticed_and_said_however_late_it_shows(desk: Desk, tmp_path: Path) -> None:
    text = "ID,NAMA\n" + "".join(f"{number},SITI\n" for number in range(3000)) + "3000,JOSÉ\n3001,RENÉ\n"
    (tmp_path / "r.csv").write_bytes(text.encode("cp1252"))
    report = desk.load(tmp_path / "r.csv")
    assert report.persons == 3002
    assert any("Windows-1252" in note for note in report.notes)


def test_bytes_that_are_no_text_reject_their_row_alone(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes("ID,NAMA\n1,RENÉ\n2,JOSÉ\n".encode() + b"3,AB\xff\n4,SITI\n")
    report = desk.load(tmp_path / "r.csv")
    assert rejects(report.rejects_file) == [(4, "bytes that are no UTF-8 text", "row rejected")]
    assert desk.answering()[1] == ["1", "2", "4"]


BROKEN = """\
ID;NAMA;JK
1;SITI;P
2;too;many;fields
3;few

4;"AJI;L
5;BUDI;L
6;SARI";P
7;"two lines
in one field";P
8;ST "X" Y;L
9;"DEWI" X;P
10;NUL\0BYTE;L
11;WATI;P
12;"never closed;L
;;
13;LAST;P
"""


def test_broken_rows_are_rejected_by_number_and_take_nobody_along(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(BROKEN)
    report = desk.load(tmp_path / "r.csv")
    assert desk.answering()[1] == ["1", "5", "6", "7", "8", "11", "13"]
    assert rejects(report.rejects_file) == [
        (3, "4 columns instead of 3", "row rejected"),
        (4, "2 columns instead of 3", "row rejected"),
        (6, "a quote that is never closed", "row rejected"),
        (12, "quotes inside a field", "row rejected"),
        (13, "a NUL byte", "row rejected"),
        (15, "a quote that is never closed", "row rejected"),
    ]
    assert report.rows == 13


def test_where_blocks_are_cut_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = BROKEN.replace("SITI", "JOSÉ").replace("lines", "línes").encode("cp1252")
    (tmp_path / "r.csv").write_bytes(text)

    def read(block_bytes: int, size: int) -> tuple[list[tuple[object, ...]], list[tuple[int, str]]]:
        monkeypatch.setattr(node.sources, "BLOCK_BYTES", block_bytes)
        found: list[tuple[object, ...]] = []
        broken: list[tuple[int, str]] = []
        with open_source(str(tmp_path / "r.csv")) as source:
            for batch in source.batches(["NAMA", "ID"], size):
                assert len(batch.rows) <= size
                found += [(int(row), *values) for row, values in zip(batch.rows, batch.frame.iter_rows(), strict=True)]
                broken += [(each.row, each.reason) for each in batch.broken]
        return found, broken

    whole = read(1 << 20, 1000)
    assert whole[0][0] == (2, "JOSÉ", "1")
    for block_bytes in range(18, len(text) + 1):
        assert read(block_bytes, 1 + block_bytes % 3) == whole


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"ID,NAMA\n", "holds no persons"),
        (b"ID,NAMA\n,\n,\n\n", "holds no persons"),
        (b"ID,NAMA\n1,\n2,-\n", "all 2 rows were rejected; most often name"),
        (b"\xff\xfeI\0D\0", "UTF-16"),
        (b"<html><table>", "web page"),
        (b"\x1f\x8b\x08\x00", "compressed"),
        (b"DAFTAR PPKS 2025\nID,NAMA,JK\n1,SITI,P\n", "row 1 names 1 column: it looks like a title"),
        (b"3305011708450001,DJOKO,17-08-1945\n3305,SITI,L\n", "looks like a person"),
        (b"7,DJOKO,KEBUMEN\n8,SITI,CILACAP\n", "looks like a person"),
        (b"DJOKO,DJOKO,L\nSITI,AMINAH,P\n", "looks like a person"),
        (b"ID,NAMA,NAMA\n1,SITI,X\n", "more than one column NAMA"),
        (b"ID,NAMA\r1,SITI\r", "CR alone"),
    ],
)
def test_what_is_no_registry_is_refused_in_one_clear_line(
    desk: Desk, tmp_path: Path, content: bytes, complaint: str
) -> None:
    (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(ImportRejectedError, match=complaint) as caught:
        desk.load(tmp_path / "r.csv")
    assert caught.value.hint
    assert "DJOKO" not in str(caught.value)
    assert not desk.home.current.is_symlink()


def test_column_names_may_stand_below_a_title(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("DAFTAR PPKS 2025\n\n" + csv_text((*PEOPLE, ("0005", "", "", "", "", "", "X"))))
    mapping = ColumnMap(columns={"name": "NAMA_LGKP", "mother_name": "NAMA_LGKP_IBU"}, header_row=3)
    report = desk.load(tmp_path / "r.csv", mapping)
    assert desk.answering()[1] == ["row 4", "row 5", "row 6", "row 7"]
    assert rejects(report.rejects_file)[0][0] == 8
    assert any("record id" in note for note in report.notes)


# --- workbooks ------------------------------------------------------------------------------------------------------


def test_merged_headers_are_named_by_their_cells(desk: Desk, tmp_path: Path) -> None:
    path = workbook(tmp_path / "r.xlsx", title="DAFTAR PPKS")
    with pytest.raises(ImportRejectedError, match="cells A1:G1 are merged in row 1") as caught:
        desk.load(path)
    assert "header_row" in str(caught.value.hint)
    mapping = guess_mapping(HEADER, header_row=3)
    desk.load(path, mapping)
    assert desk.answering()[1] == IDS


def test_a_two_row_header_is_refused_on_either_row(desk: Desk, tmp_path: Path) -> None:
    with xlsxwriter.Workbook(tmp_path / "r.xlsx") as book:
        sheet = book.add_worksheet()
        sheet.merge_range("A1:A2", "NAMA")
        sheet.merge_range("B1:C1", "LAHIR")
        sheet.write_row(1, 1, ["TEMPAT", "TANGGAL"])
        sheet.write_row(2, 0, ["SITI", "KEBUMEN", "17-08-1945"])
    for mapping in (None, ColumnMap(columns={"name": "NAMA"}, header_row=2)):
        with pytest.raises(ImportRejectedError, match="A1:A2"):
            desk.load(tmp_path / "r.xlsx", mapping)


def test_dates_of_a_workbook_are_dates_however_the_cell_is_formatted(desk: Desk, tmp_path: Path) -> None:
    import datetime as dt  # noqa: PLC0415

    with xlsxwriter.Workbook(tmp_path / "r.xlsx") as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["ID", "NAMA", "TGL LAHIR"])
        sheet.write_row(1, 0, ["1", "SITI"])
        sheet.write_datetime(1, 2, dt.datetime(1945, 8, 17), book.add_format({"num_format": "dd/mm/yyyy"}))  # noqa: DTZ001
        sheet.write_row(2, 0, [2, "SITI", 16666])  # the same day, formatted as a number
        sheet.write_row(3, 0, ["3", "SITI", "17-08-1945"])
        sheet.write_row(4, 0, ["4", "SITI", 1945])
    desk.load(tmp_path / "r.xlsx")
    with desk.index() as index:
        dates = index.numbers()[4]
        assert dates[0] == dates[1] == dates[2]
        assert 0 != dates[3] != dates[0]
        assert [index.record_id(row) for row in range(4)] == ["1", "2", "3", "4"]


def test_a_sheet_is_chosen_by_name(desk: Desk, tmp_path: Path) -> None:
    with xlsxwriter.Workbook(tmp_path / "r.xlsx") as book:
        book.add_worksheet("Sampul").write(0, 0, "Laporan")
        sheet = book.add_worksheet("Data")
        for number, row in enumerate((HEADER, *PEOPLE)):
            sheet.write_row(3 + number, 1, row)  # not in the corner
    with pytest.raises(ConfigError, match="no sheet Foo") as caught:
        desk.load(tmp_path / "r.xlsx", sheet="Foo")
    assert caught.value.hint == "it has: Sampul, Data"
    desk.load(tmp_path / "r.xlsx", ColumnMap(columns={"name": "NAMA_LGKP"}), sheet="Data")
    assert desk.answering()[1] == ["row 5", "row 6", "row 7", "row 8"]


# --- Parquet --------------------------------------------------------------------------------------------------------


def test_parquet_values_of_any_plain_type_are_text(desk: Desk, tmp_path: Path) -> None:
    import datetime as dt  # noqa: PLC0415

    frame = pl.DataFrame(
        {
            "ID": [1.0, None, 3.0],
            "NAMA": pl.Series(["SITI", "AJI", "BUDI"], dtype=pl.Categorical),
            "TGL_LAHIR": [dt.date(1945, 8, 17), None, dt.date(1945, 8, 17)],
        }
    )
    frame.write_parquet(tmp_path / "r.parquet")
    report = desk.load(tmp_path / "r.parquet", batch_rows=2)
    assert desk.answering()[1] == ["1", "3"]
    assert rejects(report.rejects_file) == [(2, "empty", "row rejected")]
    frame.select("ID", pl.concat_list("NAMA").alias("NAMA")).write_parquet(tmp_path / "list.parquet")
    with pytest.raises(ImportRejectedError, match="column NAMA holds lists"):
        desk.load(tmp_path / "list.parquet")


# --- what is wrong with persons -------------------------------------------------------------------------------------


def test_the_reject_file_is_private_and_holds_rows_and_reasons_but_no_values(desk: Desk, tmp_path: Path) -> None:
    people = (*PEOPLE, ("5", "", "", "L", "", "", "PLANTED"), ("6", "", "CANARY", "Q", "", "30-02-1950", "PLANTED"))
    (tmp_path / "r.csv").write_text(csv_text(people))
    report = desk.load(tmp_path / "r.csv")
    assert report.rejects_file is not None
    assert stat.S_IMODE(report.rejects_file.stat().st_mode) == 0o600
    assert rejects(report.rejects_file) == [
        (6, "empty, or nothing is left after normalising", "row rejected"),
        (7, "no such day in that month", "value ignored"),
        (7, "neither L (laki-laki) nor P (perempuan)", "value ignored"),
    ]
    assert (report.persons, report.rejected, report.ignored) == (5, 1, 2)
    for value in ("PLANTED", "CANARY", "1950"):
        assert value not in report.rejects_file.read_text()


def test_no_name_is_left_in_the_nodes_folder(desk: Desk, tmp_path: Path) -> None:
    people = ((*PEOPLE[0][:2], "ZEBULONPUTRA", *PEOPLE[0][3:]),)
    (tmp_path / "r.csv").write_text(csv_text(people))
    desk.load(tmp_path / "r.csv")
    for file in desk.home.root.rglob("*"):
        if file.is_file():
            found = file.read_bytes().lower()
            assert b"zebulonputra" not in found, file
            assert b"3305011708450001" not in found, file


def test_too_many_rejects_publish_nothing_and_the_old_generation_answers(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text(csv_text())
    desk.load(tmp_path / "good.csv")
    (tmp_path / "bad.csv").write_text(
        "ID,NAMA\n" + "".join(f"{n},{'' if n % 10 == 0 else 'SITI'}\n" for n in range(2000))
    )
    with pytest.raises(
        ImportRejectedError, match=r"rows were rejected, more than 5.0%; most often name: empty"
    ) as caught:
        desk.load(tmp_path / "bad.csv", max_rejects=0.05, batch_rows=1000)
    assert "of 1,000 rows" in str(caught.value), "it stops before the end"
    assert str(desk.home.rejects) in str(caught.value.hint)
    assert desk.answering() == ("g000001", IDS)
    assert sorted(path.name for path in desk.home.generations.iterdir()) == ["current", "g000001"]
    assert desk.load(tmp_path / "bad.csv", max_rejects=0.1).persons == 1800


def test_few_rows_are_judged_at_the_end(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("ID,NAMA\n1,\n2,\n3,SITI\n")
    with pytest.raises(ImportRejectedError, match="2 of 3 rows"):
        desk.load(tmp_path / "r.csv", max_rejects=0.5, batch_rows=1)


def test_only_the_answering_generation_and_the_one_before_it_are_kept(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(csv_text())
    for _ in range(4):
        desk.load(tmp_path / "r.csv")
    assert desk.answering()[0] == "g000004"
    assert sorted(path.name for path in desk.home.generations.iterdir()) == ["current", "g000003", "g000004"]


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_guesses_shows_and_wants_a_yes(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(csv_text())
    refused = pulang(desk, "import", tmp_path / "r.csv")
    assert refused.returncode == 78
    assert "NAMA_LGKP_IBU" in refused.stderr
    assert "not used: NIK" in refused.stderr
    assert "--write-mapping map.toml" in refused.stderr
    assert not desk.home.current.is_symlink()

    written = pulang(desk, "import", tmp_path / "r.csv", "--write-mapping", tmp_path / "map.toml")
    assert written.returncode == 0
    both = pulang(desk, "import", tmp_path / "r.csv", "--mapping", tmp_path / "map.toml", "--write-mapping", "b.toml")
    assert (both.returncode, "not both" in both.stderr) == (2, True)
    done = pulang(desk, "import", tmp_path / "r.csv", "--mapping", tmp_path / "map.toml", "--batch", "3")
    assert done.returncode == 0, done.stderr
    assert "g000001 answers from now on: 4 persons" in done.stdout

    status = pulang(desk, "status", "--json")
    facts = json.loads(status.stdout)
    assert (facts["generation"], facts["persons"], facts["key_epoch"], facts["usable"]) == ("g000001", 4, 1, True)
    assert "g000001: 4 persons" in pulang(desk, "status").stdout


def test_status_before_the_first_import(desk: Desk) -> None:
    assert pulang(desk, "status").stdout == "no registry imported yet\n"
    assert json.loads(pulang(desk, "status", "--json").stdout) == {"generation": None}


def test_status_of_an_index_of_another_version_says_so(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(csv_text())
    desk.load(tmp_path / "r.csv")
    manifest = desk.home.generations / "g000001" / MANIFEST
    seal, text = index_key(desk.home), manifest.read_bytes().rpartition(b"}")[0] + b"}\n"
    text = text.replace(FORMAT.encode(), b"pulang-index-4")
    tag = seal.generation(bytes.fromhex(json.loads(text)["salt"])).tag(text)
    manifest.write_bytes(text + tag.encode() + b"\n")
    status = pulang(desk, "status")
    assert status.returncode == 74
    assert "another version of Pulang, whole but of format pulang-index-4" in status.stderr
    assert "pulang registry import" in status.stderr


def test_a_password_in_a_url_is_never_shown(desk: Desk) -> None:
    url = "postgresql://admin:s3kr1t@127.0.0.1:9/registry"
    for arguments in (["--table", "t", "--yes"], []):
        done = pulang(desk, "import", url, *arguments)
        assert done.returncode in {65, 78}
        assert "s3kr1t" not in done.stdout + done.stderr
        assert done.stderr.startswith("pulang: ")
        assert "Traceback" not in done.stderr


def test_a_secret_of_another_federation_is_noticed_before_anything_is_read(desk: Desk, tmp_path: Path) -> None:
    desk.home.epoch_secret(1).write_text("00" * 32)
    (tmp_path / "r.csv").write_text(csv_text())
    done = pulang(desk, "import", tmp_path / "r.csv", "--yes")
    assert done.returncode == 78
    assert "not random" in done.stderr
    os.chmod(desk.home.epoch_secret(1), 0o644)  # noqa: PTH101
    assert pulang(desk, "import", tmp_path / "r.csv", "--yes").returncode == 77
