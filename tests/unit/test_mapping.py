from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from node.errors import ConfigError
from node.mapping import ColumnMap, SexCodes, guess_mapping, load_mapping, to_records, write_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matching.index import RecordBatch


def guessed(*columns: str) -> dict[str, str]:
    return {str(field): column for field, column in guess_mapping(columns).columns.items()}


def records(columns: Mapping[str, Sequence[str | None]], mapping: ColumnMap, **options: bool) -> RecordBatch:
    frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    return to_records(frame, np.arange(2, 2 + frame.height), mapping, **options)


def spread(batch: RecordBatch, field: str) -> list[str | None]:
    column = batch.columns[field]
    return [None if code < 0 else column.values[code] or None for code in column.codes]


def test_the_civil_registrys_headers_are_known() -> None:
    assert guessed(
        "NIK", "NO_KK", "NAMA_LGKP", "JENIS_KLMIN", "TMPT_LHR", "TGL_LHR", "NAMA_LGKP_IBU", "NAMA_LGKP_AYAH"
    ) == {
        "name": "NAMA_LGKP",
        "sex": "JENIS_KLMIN",
        "birthplace": "TMPT_LHR",
        "birth_date": "TGL_LHR",
        "mother_name": "NAMA_LGKP_IBU",
        "father_name": "NAMA_LGKP_AYAH",
    }


def test_a_dinas_sosial_sheets_headers_are_known() -> None:
    assert guessed("No", "ID DTKS", "Nama Lengkap", "L/P", "Tempat, Tgl Lahir", "Nama Ibu Kandung", "Alamat") == {
        "record_id": "ID DTKS",
        "name": "Nama Lengkap",
        "sex": "L/P",
        "birthplace_and_date": "Tempat, Tgl Lahir",
        "mother_name": "Nama Ibu Kandung",
    }


@pytest.mark.parametrize("column", ["NIK", "No. KTP", "NO_KK", "No KK", "NO_NIK"])
def test_an_identity_number_is_never_guessed_to_be_the_record_id(column: str) -> None:
    assert "record_id" not in guessed(column, "NAMA", "JK")


def test_a_sheet_without_a_name_column_is_refused_with_its_columns() -> None:
    with pytest.raises(ConfigError, match="name") as caught:
        guess_mapping(["Kode", "Alamat", ""])
    assert caught.value.hint is not None
    assert "Kode, Alamat" in caught.value.hint


def test_a_written_mapping_reads_back_as_it_was(tmp_path: Path) -> None:
    mapping = guess_mapping(["ID", 'NAMA "LGKP"', "Nama", "JK"], header_row=3)
    write_mapping(tmp_path / "map.toml", mapping)
    assert load_mapping(tmp_path / "map.toml") == mapping
    with pytest.raises(ConfigError, match="exists"):
        write_mapping(tmp_path / "map.toml", mapping)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[columns]\nsex = "JK"', "name is missing"),
        ('[columns]\nname = "NAMA"\nnik = "NIK"', "nik"),
        ('[columns]\nname = ""', "name"),
        ('[columns]\nname = "NAMA"\nsex = "JK"\n[constants]\nsex = "P"', "both a column and a constant"),
        ('[columns]\nname = "N"\nbirthplace_and_date = "TTL"\nbirth_date = "TGL"', "excludes"),
        ('[columns]\nname = "N"\n[constants]\nrecord_id = "x"', "cannot be constants"),
        ('date_order = "ymd"\n[columns]\nname = "NAMA"', "date_order"),
        ("header_row = 0\n[columns]\nname = 'NAMA'", "header_row"),
        ("[columns", "not TOML"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused_by_key(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "map.toml").write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        load_mapping(tmp_path / "map.toml")


def test_a_missing_mapping_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_mapping(tmp_path / "none.toml")
    assert "--write-mapping" in str(caught.value.hint)


def test_a_column_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(ConfigError, match='sex = "JK"') as caught:
        ColumnMap(columns={"name": "NAMA", "sex": "JK"}).check(["NAMA", "", "KELAMIN"])
    assert caught.value.hint == "it has: NAMA, KELAMIN"


def test_values_are_counted_once_and_blanks_are_missing() -> None:
    batch = records(
        {
            "ID": ["007", " 8 ", None, "9"],
            "NAMA": ["SITI", " SITI ", "-", None],
            "TMPT": ["AMBON", " AMBON ", "-", None],
        },
        ColumnMap(columns={"record_id": "ID", "name": "NAMA", "birthplace": "TMPT"}),
    )
    assert list(batch.record_ids) == ["007", "8", "", "9"]
    assert spread(batch, "name") == ["SITI", "SITI", None, None]
    assert spread(batch, "birthplace") == ["AMBON", "AMBON", None, None]
    assert sorted(filter(None, batch.columns["birthplace"].values)) == ["AMBON"]


def test_without_a_record_id_the_row_number_stands_in() -> None:
    assert records({"NAMA": ["A", "B"]}, ColumnMap(columns={"name": "NAMA"})).record_ids == ["row 2", "row 3"]


def test_place_and_date_in_one_column_are_cut_apart() -> None:
    batch = records(
        {"N": ["a"] * 5, "TTL": ["Kebumen, 17-08-1945", "KEBUMEN 17 Agustus 1945", "Kebumen", "17-08-1945", None]},
        ColumnMap(columns={"name": "N", "birthplace_and_date": "TTL"}),
    )
    assert spread(batch, "birthplace") == ["Kebumen", "KEBUMEN", "Kebumen", None, None]
    assert spread(batch, "birth_date") == ["17-08-1945", "17 Agustus 1945", None, "17-08-1945", None]


def test_day_numbers_of_excel_become_dates_and_years_stay_years() -> None:
    columns = {"N": ["a"] * 3, "T": ["16666", "1945", "17-08-1945"]}
    mapping = ColumnMap(columns={"name": "N", "birth_date": "T"})
    assert spread(records(columns, mapping, excel_serials=True), "birth_date") == ["1945-08-17", "1945", "17-08-1945"]
    assert spread(records(columns, mapping), "birth_date")[0] == "16666"


def test_dates_with_the_month_first_are_turned_round() -> None:
    mapping = ColumnMap(columns={"name": "N", "birth_date": "T"}, date_order="mdy")
    batch = records({"N": ["a"] * 3, "T": ["08/17/1945", "1945-08-17", "17 Agustus 1945"]}, mapping)
    assert spread(batch, "birth_date") == ["17-08-1945", "1945-08-17", "17 Agustus 1945"]


def test_a_column_of_p_and_w_is_not_guessed() -> None:
    columns = {"N": ["a", "b"], "JK": ["P", "W"]}
    with pytest.raises(ConfigError, match="pria or perempuan"):
        records(columns, ColumnMap(columns={"name": "N", "sex": "JK"}))
    told = ColumnMap(columns={"name": "N", "sex": "JK"}, sex=SexCodes(L=["P"], P=["W"]))
    assert spread(records(columns, told), "sex") == ["L", "P"]


def test_a_constant_holds_for_everybody() -> None:
    mapping = ColumnMap(columns={"name": "N"}, constants={"sex": "P"})
    assert spread(records({"N": ["a", "b"]}, mapping), "sex") == ["P", "P"]


def test_nothing_loads_polars_before_a_registry_is_read() -> None:
    heavy = "{'polars', 'fastexcel', 'sqlalchemy'}"
    code = f"import node.mapping, node.sources, node.importer, sys; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
