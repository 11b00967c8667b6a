"""Which column of a registry means what: a small TOML file or a guess that a person confirms, and its use."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from matching.fields import BLANKS
from matching.index import Column, RecordBatch
from matching.schema import PERSON_SCHEMA, FieldKind
from matching.texts import Texts
from node.config import complaints
from node.errors import ConfigError
from node.files import PRIVATE, read_file, write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

MAX_FILE_BYTES: Final = 64 * 1024
RECORD_ID: Final = "record_id"
PLACE_AND_DATE: Final = "birthplace_and_date"  # one column for both: "Kebumen, 17-08-1945"
FIELDS: Final = (RECORD_ID, *PERSON_SCHEMA.field_names, PLACE_AND_DATE)

# Headers of sheets of the Dinas Sosial (DTKS, DTSEN) and the civil registry (SIAK): letters and digits only, best
# first. A NIK or family card number is never guessed to be the record id: it would leave with the person's handle.
_GUESSES: Final[Mapping[str, str]] = {
    RECORD_ID: "recordid iddtsen iddtks idppks idpmks idpenduduk idindividu idpersonal idperson personid idart "
    "idartbdt idanggotakeluarga idanggota idpm idpenerima idklien noregister noregistrasi noreg nomorregister "
    "nomorregistrasi noinduk nomorinduk kodeppks iddata idrecord id",
    "name": "namalgkp namalengkap nmlgkp namappks namapmks namapenduduk namaart namaanggotakeluarga namaanggota "
    "namaindividu namapenerima namapm namaklien namaperson namasesuaiktp nama nm fullname name",
    "mother_name": "namalgkpibu namaibukandung namalengkapibu namalengkapibukandung namagadisibukandung namagadisibu "
    "nmibu nmibukandung namaibu ibukandung ibu mothername mothersname",
    "father_name": "namalgkpayah namaayahkandung namalengkapayah nmayah namaayah namabapak ayahkandung ayah bapak "
    "fathername fathersname",
    "birthplace": "tmptlhr tmplhr tmptlahir tmplahir tmpatlahir tempatlahir tempatlhr tptlahir kotalahir kabkotalahir "
    "birthplace placeofbirth",
    "birth_date": "tgllhr tgllahir tanggallahir tanggallhr tglahir birthdate dateofbirth dob tahunlahir thnlahir "
    "thlahir",
    "sex": "jenisklmin jnsklmin jeniskelamin jenkel jnskel jnskelamin jkel jeniskel kelamin klmin jk lp kdjk sex "
    "gender",
    "title": "gelar gelardepan gelarnama",
    PLACE_AND_DATE: "ttl tempattgllahir tempattanggallahir tempatdantanggallahir tempatdantgllahir tmpttgllahir "
    "tmpttgllhr",
}

# Excel counts days from 30 December 1899. Four-digit numbers are years; these bounds are 1927 and 2064.
_SERIAL_DATES: Final = (10_000, 60_000)
_EXCEL_DAY_0: Final = np.datetime64("1899-12-30", "D")
_NUMERIC_DATE: Final = re.compile(r"^(\d{1,2})([-/. ])(\d{1,2})\2(\d{2,4}.*)$")

FieldName = Literal[
    "record_id",
    "name",
    "mother_name",
    "father_name",
    "birthplace",
    "birth_date",
    "sex",
    "title",
    "birthplace_and_date",
]
_Text = Annotated[str, StringConstraints(min_length=1)]


class SexCodes(BaseModel):
    """The codes a registry uses for laki-laki and perempuan, where they are not the usual ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    L: Annotated[list[_Text], Field(min_length=1)]
    P: Annotated[list[_Text], Field(min_length=1)]


class ColumnMap(BaseModel):
    """What a registry's columns mean; a key that is not listed here is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    columns: dict[FieldName, _Text]
    """Field -> the registry's column name."""
    constants: dict[FieldName, _Text] = {}
    """Field -> a value that holds for every person, such as the sex in a women's shelter."""
    sex: SexCodes | None = None
    date_order: Literal["dmy", "mdy"] = "dmy"
    """How all-number dates are written when the year comes last."""
    header_row: Annotated[int, Field(ge=1)] | None = None
    """Row of a sheet or CSV file that holds the column names; without it, the first one."""

    @model_validator(mode="after")
    def _check(self) -> ColumnMap:
        if "name" not in self.columns:
            raise ValueError("columns: name is missing, and nobody is found without a name")
        if twice := set(self.columns) & set(self.constants):
            raise ValueError(f"{', '.join(sorted(twice))} cannot be both a column and a constant")
        if {RECORD_ID, PLACE_AND_DATE} & set(self.constants):
            raise ValueError("record_id and birthplace_and_date cannot be constants")
        if PLACE_AND_DATE in self.columns and {"birthplace", "birth_date"} & set(self.columns):
            raise ValueError("birthplace_and_date excludes birthplace and birth_date")
        return self

    def wanted(self) -> tuple[str, ...]:
        """Return the registry's columns to read, each once."""
        return tuple(dict.fromkeys(self.columns.values()))

    def check(self, available: Sequence[str]) -> None:
        """Raise ConfigError when a mapped column is not in the source, listing those that are."""
        missing = [f'{name} = "{column}"' for name, column in self.columns.items() if column not in available]
        if missing:
            raise ConfigError(
                f"the mapping names columns that the source does not have: {', '.join(missing)}",
                hint=f"it has: {', '.join(name for name in available if name)}",
            )


def load_mapping(path: Path) -> ColumnMap:
    """Read a mapping file. Raises ConfigError naming everything wrong with it."""
    text = read_file(path, limit=MAX_FILE_BYTES, hint="`pulang registry import SOURCE --write-mapping FILE` makes one")
    try:
        return ColumnMap.model_validate(tomllib.loads(text.decode("utf-8-sig")))
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        raise ConfigError(f"{path}: {complaints(error)}", hint=f"fields are {', '.join(FIELDS)}") from None


def write_mapping(path: Path, mapping: ColumnMap) -> None:
    """Write a mapping file for a person to look over. Raises ConfigError if the file exists."""
    lines = ["# Which column of the registry means what. `pulang registry import SOURCE --mapping THIS_FILE`"]
    if RECORD_ID not in mapping.columns:
        lines.append("# No column was recognised as the registry's own id: the row number stands in for it.")
    lines += [f'date_order = "{mapping.date_order}"  # or "mdy": the month first']
    if mapping.header_row is not None:
        lines.append(f"header_row = {mapping.header_row}")
    lines += ["", "[columns]", *(f"{name} = {_toml(column)}" for name, column in mapping.columns.items())]
    for name in FIELDS:
        if name not in mapping.columns and name != PLACE_AND_DATE:
            lines.append(f'# {name} = "..."')
    lines += [
        "",
        "# [sex]  # where L and P, or 1 and 2, do not mean laki-laki and perempuan",
        '# L = ["P"]',
        '# P = ["W"]',
    ]
    write_atomic(path, ("\n".join(lines) + "\n").encode(), mode=PRIVATE)


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a TOML basic string


def guess_mapping(columns: Sequence[str], *, header_row: int | None = None) -> ColumnMap:
    """Guess from the column names alone. Raises ConfigError when no column looks like the person's name."""
    by_key = {}
    for column in reversed(columns):  # of columns alike but for spelling, the first
        by_key[re.sub(r"[\W_]", "", column).lower()] = column
    found: dict[FieldName, str] = {}
    taken: set[str] = set()
    for name, guesses in _GUESSES.items():
        best = next((by_key[key] for key in guesses.split() if key in by_key), None)
        if best is not None and best not in taken:
            found[name] = best  # type: ignore[index]
            taken.add(best)
    if {"birthplace", "birth_date"} & set(found):
        found.pop("birthplace_and_date", None)
    if "name" not in found:
        raise ConfigError(
            "no column looks like the person's name",
            hint="write a mapping with [columns] name = ...; the source has: " + ", ".join(filter(None, columns)),
        )
    return ColumnMap(columns=found, header_row=header_row)


# --- a batch, mapped ------------------------------------------------------------------------------------------------


def to_records(
    frame: pl.DataFrame, rows: NDArray[np.int64], mapping: ColumnMap, *, excel_serials: bool = False
) -> RecordBatch:
    """Turn text columns, read by `mapping.wanted()`, into a batch for the index builder.

    rows: row numbers in the source; they stand in for a missing record id. excel_serials: five-digit birth dates are
    days since 1899. Raises ConfigError when the codes of the sex column have two meanings.
    """
    columns: dict[str, Column] = {}
    series = {name: frame[column] for name, column in mapping.columns.items()}
    if PLACE_AND_DATE in series:
        both = series.pop("birthplace_and_date")
        series["birthplace"] = both.str.extract(r"^\s*([^\d]*?)[\s,;/-]*(?:\d.*)?$")
        series["birth_date"] = both.str.extract(r"(\d.*)$")
    ids = series.pop("record_id", None)
    dates_as_written = mapping.date_order == "dmy" and not excel_serials
    for name, values in series.items():
        kind = PERSON_SCHEMA.field(name).kind
        if kind is FieldKind.DATE and dates_as_written:
            columns[name] = Column.of_rows(packed(values.str.strip_chars()))
        else:
            columns[name] = _names(values) if kind is FieldKind.NAME else _distinct(values)
    for name, constant in mapping.constants.items():
        columns[name] = Column([constant], np.zeros(len(rows), dtype=np.int32))
    if "birth_date" in columns and not dates_as_written:
        columns["birth_date"] = _with_dates_read(columns["birth_date"], mapping, excel_serials=excel_serials)
    if "sex" in columns:
        columns["sex"] = _with_sexes_read(columns["sex"], mapping)
    if ids is None:
        return RecordBatch([f"row {row}" for row in rows.tolist()], columns)
    return RecordBatch(packed(ids.str.strip_chars()), columns)


def _names(values: pl.Series) -> Column:
    """Take a column as it is: most names differ."""
    return Column.of_rows(packed(_without_blanks(values.rename("value").str.strip_chars())))


def packed(values: pl.Series) -> Texts:
    """Return a column's strings as one run of bytes; null is an empty one."""
    import polars as pl  # noqa: PLC0415 - the serving node must not load it

    filled = values.fill_null("")
    ends = np.zeros(len(filled) + 1, dtype=np.int64)
    np.cumsum(filled.str.len_bytes().to_numpy(), out=ends[1:])
    together: bytes = filled.str.join("").cast(pl.Binary).item()
    return Texts(np.frombuffer(together, dtype=np.uint8), ends)


def _without_blanks(clean: pl.Series) -> pl.Series:
    import polars as pl  # noqa: PLC0415 - the serving node must not load it

    blank = pl.col("value").str.to_lowercase().is_in(sorted(BLANKS))
    return clean.to_frame().select(pl.when(blank.not_()).then(pl.col("value")))["value"]


def _distinct(values: pl.Series) -> Column:
    """Cut a column into its distinct values and their numbers; blanks are missing."""
    distinct, codes = numbered(values.rename("value").str.strip_chars())
    return Column(_without_blanks(distinct).to_list(), codes)


def numbered(values: pl.Series) -> tuple[pl.Series, NDArray[np.int32]]:
    """Return a column's distinct values in order of appearance, and per row which one it has; -1 for null.

    In that order, the same registry makes the same index, byte for byte.
    """
    import polars as pl  # noqa: PLC0415 - the serving node must not load it

    distinct = values.unique(maintain_order=True).drop_nulls()
    return distinct, values.cast(pl.Enum(distinct)).to_physical().cast(pl.Int32).fill_null(-1).to_numpy()


def _with_dates_read(column: Column, mapping: ColumnMap, *, excel_serials: bool) -> Column:
    """Rewrite what only the source explains: day numbers of Excel, months that come first."""
    values = [None if value is None else _date_text(value, mapping, excel_serials) for value in column.values]
    return Column(values, column.codes)


def _date_text(text: str, mapping: ColumnMap, excel_serials: bool) -> str:  # noqa: FBT001 - called here alone
    if excel_serials and text.isascii() and text.isdigit():
        days = int(text)
        if _SERIAL_DATES[0] <= days <= _SERIAL_DATES[1]:
            return str(_EXCEL_DAY_0 + np.timedelta64(days, "D"))
    parts = _NUMERIC_DATE.match(text) if mapping.date_order == "mdy" else None
    return f"{parts[3]}-{parts[1]}-{parts[4]}" if parts else text


def _with_sexes_read(column: Column, mapping: ColumnMap) -> Column:
    if mapping.sex is not None:
        meaning = {code.strip().lower(): "L" for code in mapping.sex.L} | {
            code.strip().lower(): "P" for code in mapping.sex.P
        }
        values = [None if v is None else meaning.get(v.lower(), v) for v in column.values]
        return Column(values, column.codes)
    codes = {value.lower() for value in column.values if value}
    if "w" in codes and "p" in codes and "l" not in codes:
        # P is perempuan beside L, but pria beside W: guessing would turn every man of the registry into a woman.
        raise ConfigError(
            "the sex column holds P and W but no L: P may mean pria or perempuan",
            hint='say so in the mapping: [sex] with L = ["P"] and P = ["W"]',
        )
    return column
