"""A registry file made to break the import is refused in one line; it takes no memory, and none of it is repeated."""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from typing import TYPE_CHECKING

import polars as pl
import pytest
import xlsxwriter

from node import sources
from node.errors import ImportRejectedError
from node.mapping import ColumnMap
from node.sources import open_source
from tests.registries import make_desk

if TYPE_CHECKING:
    from pathlib import Path


# A Parquet file at which polars asks for two exabytes, and ends the process: no exception of any kind.
ABORTS = (
    "c-oax%}(1u5MJA>z##{UGAmp1!K%b6s1d{qAqgsng@A~fHnE$kqBp0GA!-t%I1S|mICJL215|yAs?X3T=tK0>*^Oy?;LwhCW_IW2"
    "`)0M<lc5h3N>J*cBZL^JzA^#`tiyT*!)s80g1bk`hOiAEb0#V^49kR~QzL~n$F`=U4?q}Y3%1~UeD$wt1mM7P_!ZRGZ%$>{?^3mG"
    "_uCIVJAZgq@)Db>f=3DIG@3-3@y@`-Z%qEpc&yiXVmdens_1utI1EE3yhBI8be^BmS(?s)5-4t%`WhRg<Eo@OYnD8~sN*^n{@HN<"
    "<<{(u0xNyB;3?tvmizy6vo8q1eps+e*saMZUqx5K;a$5Z!?62yKYM>MoJ96_V_Qk>T%sH+(^%m7Q;?r^=!KM-Jkmap&w7}@x>E7B"
    "ln;Gv<#q5-nU{SmYMlKBUDh3*$Xu3rof=F|=4YC&m8nrWYI~%sbiWJ(4SIZzP|62OvQ`eYt>+0;s<p%$&!jv!Aoi<XI*w+USH8TS"
    "U!>DbZ!w%@qjc(tEq|-(l?NY3<JhYw&8is0J4q6YdXh9m?C*+tBdRtd(X1tjNb1orZi-E(f)A<Q@+bcA9)A5_g(H@p"
)  # zlib, base 85: fuzzing found it


def read(path: Path) -> int:
    """Read a whole source; return its rows."""
    with open_source(str(path)) as source:
        columns = [name for name in source.columns if name]
        return sum(len(batch.rows) for batch in source.batches(columns, 1000))


def complaint(path: Path) -> str | None:
    """Read a source and return why it was refused, None when it could be read."""
    try:
        read(path)
    except ImportRejectedError as error:
        return f"{error} {error.hint}"
    return None


def workbook_with_a_cell_at(path: Path, place: str) -> Path:
    """Write a good workbook, then move its last cell by hand: no library would."""
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        for row, values in enumerate([("NAMA", "JK"), ("SITI", "P")]):
            sheet.write_row(row, 0, values)
    with zipfile.ZipFile(path) as book:
        members = {name: book.read(name) for name in book.namelist()}
    sheet_xml = "xl/worksheets/sheet1.xml"
    assert b'r="B2"' in members[sheet_xml]
    members[sheet_xml] = members[sheet_xml].replace(b'r="B2"', f'r="{place}"'.encode())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, data in members.items():
            book.writestr(name, data)
    return path


@pytest.mark.parametrize("place", ["A99999999", "BM1048576", "XFE2", "ZZZZZZZZ2", "A9999999999999999999"])
def test_a_cell_far_from_all_others_does_not_fill_the_memory(tmp_path: Path, place: str) -> None:
    path = workbook_with_a_cell_at(tmp_path / "r.xlsx", place)
    assert path.stat().st_size < 10_000
    with pytest.raises(ImportRejectedError, match=r"r.xlsx (is too large|cannot be read)"):
        read(path)


def test_a_workbook_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workbook_with_a_cell_at(tmp_path / "r.xlsx", "B2")
    assert read(path) == 1
    monkeypatch.setattr(sources, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(ImportRejectedError, match=r"r.xlsx is too large"):
        read(path)


def test_a_parquet_file_with_any_byte_wrong_never_breaks_the_reader(tmp_path: Path) -> None:
    # Some of these make polars panic, which is no Exception and would leave as a traceback.
    good = io.BytesIO()
    pl.DataFrame({"nama": ["Siti", "Joko"] * 20, "jk": ["P", "L"] * 20}).write_parquet(good)
    path = tmp_path / "r.parquet"
    refused = 0
    for place in range(len(good.getvalue())):
        damaged = bytearray(good.getvalue())
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        said = complaint(path)
        refused += said is not None
        assert "Siti" not in str(said)
    assert refused > 100


def test_a_parquet_file_that_ends_the_process_which_reads_it_is_refused_by_an_import(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    path.write_bytes(zlib.decompress(base64.b85decode("".join(ABORTS))))
    desk = make_desk(tmp_path / "node")
    with pytest.raises(ImportRejectedError, match="damaged or cut short"):
        desk.load(path, ColumnMap(columns={"record_id": "nik", "name": "nama"}))


@pytest.mark.parametrize(
    "content",
    [
        b"nama," + b"A" * 140_000 + b"\nSiti,P\n",
        b"sep=\xff\r\nnama;jk\nSiti;P\n",
        b'nama,jk\nSiti,""\rSiti\n',
    ],
)
def test_a_csv_file_no_program_writes_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(content)
    said = complaint(path)
    assert said is not None
    assert "Siti" not in said


def test_a_record_id_with_control_characters_is_rejected(tmp_path: Path) -> None:
    ids = ["A-1", "A\0B", "A\nB", "\x1b[2J", " A-2\t", None]
    names = ["Siti Aminah", "Joko Susilo", "Budi Santoso", "Rina Dewi", "Agus Salim", "Endang Lestari"]
    pl.DataFrame({"id": ids, "nama": names}).write_parquet(tmp_path / "r.parquet")
    desk = make_desk(tmp_path / "node")
    report = desk.load(tmp_path / "r.parquet", ColumnMap(columns={"record_id": "id", "name": "nama"}))
    assert desk.answering()[1] == ["A-1", "A-2"]
    assert (report.rows, report.rejected) == (6, 4)
    assert report.rejects_file is not None
    lines = report.rejects_file.read_text().splitlines()[1:]
    assert [line.split("\t")[0] for line in lines if "control character" in line] == ["2", "3", "4"]


def test_a_stray_quote_behind_a_field_of_several_lines_moves_no_row(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(b'ID;NAMA;JK\n1;";a\n\r\nz\n6";P"\n2;SITI;P\n3;"AJI\nBUDI";L"\n')
    with open_source(str(path)) as source:
        batches = list(source.batches(["ID", "NAMA", "JK"], 1000))
    assert [row for batch in batches for row in batch.rows.tolist()] == [2, 6, 7]
    assert [row for batch in batches for row in batch.frame.rows()] == [
        ("1", ";a\n\r\nz\n6", 'P"'),
        ("2", "SITI", "P"),
        ("3", "AJI\nBUDI", 'L"'),
    ]
