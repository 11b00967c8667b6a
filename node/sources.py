"""Readers: a registry file or database becomes batches of text columns, with the row numbers a person sees in it.

Every value stays text: an id keeps its leading zeros, a date the form it was written in. What cannot be read is
reported by row; it never takes the rows after it along.
"""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from node.errors import ConfigError, ImportRejectedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from node.store.source import DatabaseRows

BLOCK_BYTES: Final = 4 << 20  # of a CSV file read at once: about 40,000 persons
SNIFF_BYTES: Final = 256 * 1024
MAX_RECORD_LINES: Final = 50  # lines one CSV record may span before its quote counts as never closed
_SEPARATORS: Final = ",;\t|"
_LOOKS_LIKE_DATA: Final = re.compile(
    r"^\d+$|\d{6,}|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|^(?:l|p|laki-laki|perempuan)$", re.IGNORECASE
)
# One far cell makes the reader fill the rectangle up to it, 64 bytes a cell: a file of 1 KiB could take all memory.
MAX_CELLS: Final = 1 << 26  # 1,048,576 rows of 64 columns, 4 GiB
MAX_COLUMNS: Final = 16_384  # of any sheet
MAX_UNPACKED_BYTES: Final = 4 << 30
_CELL: Final = re.compile(rb"""\sr=["']([A-Za-z]{1,8})(\d{1,19})["']""")
_TAG_BYTES: Final = 4096  # kept of what was read, for a tag that is cut in two
_CELL_RANGE: Final = re.compile(rb'<mergeCell ref="([A-Z]+)(\d+):([A-Z]+)(\d+)"')
_NAME_ROW: Final = "give the row of the names, such as --header-row 3, or header_row = 3 in the mapping"
_OLD_GENERATION: Final = "nothing was published; the old generation still answers"


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row of the source that cannot be read at all; never its text."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class SourceBatch:
    """Some rows of a source.

    rows: (n,) row numbers, rising; frame: n rows of text columns. done: how much of `Source.total` is behind us.
    """

    rows: NDArray[np.int64]
    frame: pl.DataFrame
    broken: tuple[BrokenRow, ...]
    done: int


class Source(Protocol):
    """A registry that can be read once, front to back.

    kind: what it was recognised as. columns: its column names, "" for an unnamed one. total: its size in `unit`
    ("bytes" or "rows"), None when only the end will tell. notes: what was decided on the way, for the person who
    imports. excel_serials: dates may be numbers of days.
    """

    kind: str
    columns: tuple[str, ...]
    total: int | None
    unit: str
    notes: list[str]
    excel_serials: bool

    def batches(self, columns: Sequence[str], size: int) -> Iterator[SourceBatch]:
        """Yield the rows' `columns`, at most `size` rows at a time. Raises ImportRejectedError."""
        ...


@contextmanager
def open_source(
    source: str,
    *,
    sheet: str | None = None,
    table: str | None = None,
    query: str | None = None,
    header_row: int | None = None,
) -> Iterator[Source]:
    """Open a file (recognised by its first bytes) or a SQLAlchemy URL, and find its columns.

    Raises ConfigError when the call does not fit the source, ImportRejectedError when the source cannot be read.
    """
    if "://" in source:
        from node.store.source import open_rows  # noqa: PLC0415 - SQLAlchemy only where a database is read

        with open_rows(source, table=table, query=query) as rows:
            yield DatabaseSource(rows)
        return
    if table is not None or query is not None:
        raise ConfigError(
            "--table and --query are for databases", hint="give a database as postgresql://user@host/name"
        )
    path = Path(source)
    first = _first_bytes(path)
    if first.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        yield ExcelSource(path, sheet=sheet, header_row=header_row)
        return
    if sheet is not None:
        raise ConfigError(f"{path.name} is no workbook: --sheet is for Excel files")
    if first.startswith(b"PAR1"):
        yield ParquetSource(path)
        return
    _refuse_foreign(path, first)
    with path.open("rb") as file:
        yield CsvSource(file, path.stat().st_size, header_row=header_row)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            first = file.read(64)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", hint="check the path and its permissions"
        ) from None
    if not first:
        raise ImportRejectedError(f"{path.name} is empty", hint=_OLD_GENERATION)
    return first


def _refuse_foreign(path: Path, first: bytes) -> None:
    """Name the files people take for CSV."""
    found = {
        b"\x1f\x8b": ("is compressed", "unpack it first"),
        b"\xff\xfe": ("is UTF-16 text", "save it again as CSV UTF-8"),
        b"\xfe\xff": ("is UTF-16 text", "save it again as CSV UTF-8"),
        b"%PDF": ("is a PDF", "ask for the sheet it was printed from"),
        b"SQLite": ("is an SQLite database", f"import sqlite:///{path.absolute()} with --table NAME"),
        b"<": ("is a web page or XML", "open it in a spreadsheet program and save it as XLSX or CSV"),
    }
    for magic, (what, hint) in found.items():
        if first.lstrip().startswith(magic):
            raise ImportRejectedError(f"{path.name} {what}", hint=hint)
    if path.suffix.lower() in {".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".parquet"}:
        raise ImportRejectedError(
            f"{path.name} is damaged: it does not begin as a {path.suffix[1:].upper()} file",
            hint="copy or save it again",
        )


def _check_header(names: Sequence[str], row: int, next_row: int | None) -> None:
    """Refuse a row that cannot be the one with the column names. next_row: columns filled in the row below."""
    named = [name for name in names if name]
    # First of all: the complaints below, and the mapping's, name columns, and a person's values are no column names.
    if any(_LOOKS_LIKE_DATA.search(name) for name in named):
        raise ImportRejectedError(
            f"row {row} looks like a person, not like column names",
            hint=f"put a row with the column names above it, or {_NAME_ROW}",
        )
    if len(named) < 2 or (next_row is not None and len(named) < next_row // 2):
        raise ImportRejectedError(
            f"row {row} names {len(named)} column{'s' if len(named) != 1 else ''}: it looks like a title",
            hint=f"delete the rows above the column names, or {_NAME_ROW}",
        )
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise ImportRejectedError(
            f"row {row} names more than one column {', '.join(twice)}", hint="give each column its own name"
        )


def _clean(name: str) -> str:
    return " ".join(name.replace("\0", "").split())


# --- CSV ------------------------------------------------------------------------------------------------------------


class CsvSource:
    """A CSV file, read in blocks of whole lines.

    Each block is checked as bytes: a line whose fields and quotes are in order goes to the fast reader as it is; any
    other line is looked at alone, and is repaired, joined with the lines its quoted field runs on to, or reported.
    """

    kind: str
    unit = "bytes"
    excel_serials = False

    def __init__(self, file: io.BufferedReader, size: int, *, header_row: int | None) -> None:
        self._file = file
        self.total: int | None = size
        self.notes: list[str] = []
        self._text = _Decoder(self.notes)
        head = self._read(SNIFF_BYTES)
        if b"\n" not in head and b"\r" in head:
            raise ImportRejectedError("the file's lines end in CR alone", hint="save it again as CSV")
        self._start, self._first_row = self._find_header(head, header_row)
        self.kind = f"CSV, separator {'tab' if self._separator == chr(9) else self._separator}"

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise ImportRejectedError(f"the file cannot be read on: {error.strerror}", hint=_OLD_GENERATION) from None

    def _find_header(self, head: bytes, header_row: int | None) -> tuple[int, int]:
        """Set separator and columns; return where the first data line begins, and its row number."""
        offset = 3 if head.startswith(b"\xef\xbb\xbf") else 0
        lines = head[offset:].splitlines(keepends=True)
        row = header_row or 1
        declared = re.match(rb"sep=([ -~\t])\r?\n", head[offset:], re.IGNORECASE)  # Excel's own first line
        if header_row is None:
            while row <= len(lines) and (not lines[row - 1].strip() or (row == 1 and declared)):
                row += 1
        if row > len(lines):
            raise ImportRejectedError(f"there is no row {row} to take the column names from", hint=_OLD_GENERATION)
        line, last = lines[row - 1], row
        while line.count(b'"') % 2 and last < min(len(lines), row + MAX_RECORD_LINES):  # a name of two lines
            line, last = line + lines[last], last + 1
        text = _any_text(line)
        self._separator = declared[1].decode() if declared else max(_SEPARATORS, key=_unquoted(text).count)
        try:
            names = next(csv.reader(io.StringIO(text), delimiter=self._separator))
        except csv.Error:  # not its text: it may quote the file
            raise ImportRejectedError(f"row {row} is no row of column names", hint=_OLD_GENERATION) from None
        self.columns = tuple(map(_clean, names))
        below = _any_text(lines[last]).count(self._separator) + 1 if last < len(lines) else None
        _check_header(self.columns, row, below)
        return offset + sum(map(len, lines[:last])), last + 1

    def batches(self, columns: Sequence[str], size: int) -> Iterator[SourceBatch]:
        """Yield the rows' `columns`; see Source."""
        self._file.seek(self._start)
        row, carry, at_end = self._first_row, b"", False
        while not at_end:
            data = self._read(BLOCK_BYTES)
            at_end = not data
            block = carry + data
            if at_end and block and not block.endswith(b"\n"):
                block += b"\n"
            cut = block.rfind(b"\n") + 1
            if cut == 0:
                if len(block) > BLOCK_BYTES:
                    raise ImportRejectedError(f"row {row} is longer than {BLOCK_BYTES >> 20} MiB: this is no CSV file")
                carry = block
                continue
            lines = _Lines(*self._text.decode(block[:cut]), self._separator, len(self.columns), row, at_end=at_end)
            carry = block[_start_of_line(block, lines.count) :]  # as read, not as decoded
            row += lines.count
            yield from self._cut(lines, columns, size)

    def _cut(self, lines: _Lines, columns: Sequence[str], size: int) -> Iterator[SourceBatch]:
        done = self._file.tell()
        rows, broken = lines.rows, lines.broken
        frame = self._parse(lines, columns)
        if frame.height != len(rows):
            raise AssertionError(f"{frame.height} rows read out of {len(rows)}")  # row numbers would be wrong
        for start in range(0, max(len(rows), 1), size):
            part = slice(start, start + size)
            yield SourceBatch(rows[part], frame[part], tuple(broken) if start == 0 else (), done)

    def _parse(self, lines: _Lines, columns: Sequence[str]) -> pl.DataFrame:
        import polars as pl  # noqa: PLC0415 - the serving node must not load it

        places = [self.columns.index(name) for name in columns]
        if not len(lines.rows):
            return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
        try:
            frame = pl.read_csv(
                lines.clean,
                has_header=False,
                separator=self._separator,
                quote_char='"' if b'"' in lines.clean else None,
                schema={str(place): pl.String for place in range(len(self.columns))},
                columns=sorted(places),
            )
        except pl.exceptions.PolarsError:  # not its text: it quotes the file
            raise ImportRejectedError(
                f"rows {lines.rows[0]} to {lines.rows[-1]} cannot be read as CSV",
                hint="save the file again from a spreadsheet program; " + _OLD_GENERATION,
            ) from None
        return frame.select(pl.col(str(place)).alias(name) for place, name in zip(places, columns, strict=True))


class _Decoder:
    """Blocks of bytes -> UTF-8; finds out on the way whether the file is UTF-8 or Windows-1252.

    Up to the first byte above 127 the two are the same, so nothing needs to be decided before it is met.
    """

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self._encoding: str | None = None

    def decode(self, block: bytes) -> tuple[bytes, dict[int, str]]:
        """Return the block as UTF-8 and its lines that are not text (emptied), with the reason."""
        if block.isascii():
            return block, {}
        if self._encoding != "cp1252":
            try:
                block.decode()
            except UnicodeDecodeError:
                pass
            else:
                self._encoding = "utf-8"
                return block, {}
        lines = block.split(b"\n")
        foreign = [number for number, line in enumerate(lines) if not line.isascii()]
        if self._encoding is None:
            invalid = sum(not _decodes(lines[number], "utf-8") for number in foreign)
            self._encoding = "cp1252" if invalid * 2 >= len(foreign) else "utf-8"
            if self._encoding == "cp1252":
                self._notes.append("the file is not UTF-8: read as Windows-1252")
        bad = {}
        for number in foreign:
            if not _decodes(lines[number], self._encoding):
                bad[number] = f"bytes that are no {'UTF-8' if self._encoding == 'utf-8' else 'Windows-1252'} text"
                lines[number] = b""
            elif self._encoding == "cp1252":
                lines[number] = lines[number].decode("cp1252").encode()
        return b"\n".join(lines), bad


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _any_text(line: bytes) -> str:
    return line.decode() if _decodes(line, "utf-8") else line.decode("cp1252", errors="replace")


def _unquoted(text: str) -> str:
    return re.sub(r'"[^"]*"', "", text)


def _start_of_line(block: bytes, number: int) -> int:
    """Return where the line `number`, counted from 0, begins."""
    return int(np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == 10)[number - 1]) + 1 if number else 0


class _Lines:
    """The lines of one block, sorted into records and broken rows.

    clean: the bytes of all good records, in order; rows: the number of each one's first line. count: lines dealt with;
    those after them must be read again with the next block.
    """

    def __init__(
        self, block: bytes, bad_text: dict[int, str], separator: str, fields: int, first_row: int, *, at_end: bool
    ) -> None:
        self._block = block
        self._separator = separator
        self._fields = fields
        data = np.frombuffer(block, dtype=np.uint8)
        self._ends = np.flatnonzero(data == 10)
        self._starts = np.concatenate([np.zeros(1, dtype=np.int64), self._ends[:-1] + 1])
        self._found = self._count_fields(data)
        blank = self._ends - self._starts == 0
        blank |= (self._ends - self._starts == 1) & (data[self._starts] == 13)
        self._good = (self._found == fields) & ~blank
        self._reasons = dict.fromkeys(np.searchsorted(self._ends, np.flatnonzero(data == 0)).tolist(), "a NUL byte")
        self._reasons |= bad_text
        self._good[list(self._reasons)] = False
        blank[list(self._reasons)] = False
        self.broken: list[BrokenRow] = []
        self.count = len(self._ends)
        pieces = self._sort_out(np.flatnonzero(~self._good & ~blank), first_row, at_end=at_end)
        rows = [number for number, _ in pieces]
        if not pieces and self._good.all():
            self.clean = block
            self.rows = np.arange(first_row, first_row + self.count, dtype=np.int64)
            return
        good = np.flatnonzero(self._good[: self.count])
        # Runs of good lines are copied whole; repaired records are put between them, so that rows keep rising.
        runs = np.split(good, np.flatnonzero(np.diff(good) > 1) + 1) if len(good) else []
        pieces += [(int(run[0]), block[self._starts[run[0]] : self._ends[run[-1]] + 1]) for run in runs]
        self.clean = b"".join(piece for _, piece in sorted(pieces))
        self.rows = np.sort(np.concatenate([good, np.array(rows, dtype=np.int64)])) + first_row

    def _count_fields(self, data: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Count each line's fields; 0 where quotes are not as RFC 4180 wants them."""
        separators = np.flatnonzero(data == ord(self._separator))
        quotes = np.flatnonzero(data == 34)
        if not len(quotes):
            return np.diff(np.searchsorted(separators, self._ends), prepend=0) + 1
        line = np.searchsorted(self._ends, quotes)
        before = np.searchsorted(quotes, self._starts)  # quotes in the lines above
        closing = (np.arange(len(quotes)) - before[line]) % 2 == 1
        outside = [ord(self._separator), 10, 13, 34]
        misplaced = np.where(
            closing,
            ~np.isin(data[quotes + 1], outside),  # a block ends in a line end, so there is a byte after each quote
            ~np.isin(data[quotes - 1], [ord(self._separator), 10, 34]) & (quotes > 0),
        )
        line_of_separator = np.searchsorted(self._ends, separators)
        enclosed = (np.searchsorted(quotes, separators) - before[line_of_separator]) % 2 == 1
        found = np.bincount(line_of_separator[~enclosed], minlength=len(self._ends)) + 1
        found[line[misplaced]] = 0
        found[np.bincount(line, minlength=len(self._ends)) % 2 == 1] = 0
        return found

    def _sort_out(self, doubtful: NDArray[np.int64], first_row: int, *, at_end: bool) -> list[tuple[int, bytes]]:
        """Repair, join or report the doubtful lines. Returns the repaired records, each with its first line."""
        pieces: list[tuple[int, bytes]] = []
        done = 0
        for number in doubtful.tolist():
            if number < done:
                continue
            if number in self._reasons:
                self.broken.append(BrokenRow(first_row + number, self._reasons[number]))
                continue
            line = self._block[self._starts[number] : self._ends[number] + 1]
            if self._quotes_are_text(line):
                pieces.append((number, self._quoted(line)))
                continue
            last, fields = self._join(number) if line.count(b'"') % 2 else (number, [])
            if last is None and not at_end:
                self.count = number  # the rest of the record is in the next block
                break
            if last is None or last == number:
                self.broken.append(BrokenRow(first_row + number, self._reason(number, line)))
                continue
            pieces.append((number, self._written(fields)))
            done = last + 1
            self._good[number:done] = False
        return pieces

    def _quotes_are_text(self, line: bytes) -> bool:
        """Whether no field begins with a quote, so that a quote is a character like any other."""
        separator = self._separator.encode()
        return (
            b'"' in line
            and line.count(separator) + 1 == self._fields
            and not line.startswith(b'"')
            and separator + b'"' not in line
        )

    def _quoted(self, line: bytes) -> bytes:
        return self._written(line.decode().rstrip("\r\n").split(self._separator))

    def _written(self, fields: Sequence[str]) -> bytes:
        """Write a record anew: the fast reader tells where records end by counting quotes, so all must be in order."""
        out = io.StringIO()
        csv.writer(out, delimiter=self._separator).writerow(fields)
        return out.getvalue().encode()

    def _join(self, first: int) -> tuple[int | None, Sequence[str]]:
        """Return the line on which the record that begins on `first` ends, and its fields; `first` if it never does.

        None: the block ends before it can be told. A line that is a whole record by itself is never swallowed: an open
        quote before it is a broken row.
        """
        for last in range(first + 1, first + MAX_RECORD_LINES):
            if last >= len(self._ends):
                return None, []
            if self._good[last] or last in self._reasons:
                return first, []
            if b'"' not in self._block[self._starts[last] : self._ends[last]]:
                continue
            record = self._block[self._starts[first] : self._ends[last]].decode()
            try:
                parsed = list(csv.reader(io.StringIO(record, newline=""), delimiter=self._separator, strict=True))
            except csv.Error:
                continue
            if len(parsed) == 1 and len(parsed[0]) == self._fields:
                return last, parsed[0]
        return first, []

    def _reason(self, number: int, line: bytes) -> str:
        if line.count(b'"') % 2:
            return "a quote that is never closed"
        if self._found[number] == 0:
            return "quotes inside a field"
        return f"{self._found[number]} columns instead of {self._fields}"


# --- Excel ----------------------------------------------------------------------------------------------------------


class ExcelSource:
    """One sheet of a workbook. The whole sheet is held in memory: at most 1,048,576 rows."""

    unit = "rows"
    excel_serials = True

    def __init__(self, path: Path, *, sheet: str | None, header_row: int | None) -> None:
        import fastexcel  # noqa: PLC0415 - the serving node must not load it

        self.notes: list[str] = []
        try:
            book = fastexcel.read_excel(path)
            names = book.sheet_names
            if not names:
                raise ImportRejectedError(f"{path.name} has no sheets", hint=_OLD_GENERATION)
            if sheet is not None and sheet not in names:
                raise ConfigError(f"{path.name} has no sheet {sheet}", hint=f"it has: {', '.join(names)}")
            name = sheet if sheet is not None else names[0]
            merged = _survey(path, names.index(name))
            self._frame: pl.DataFrame = book.load_sheet(name, header_row=None, dtypes="string", skip_rows=0).to_polars()
        except fastexcel.FastExcelError:
            # Not its text: it may quote a cell.
            raise ImportRejectedError(
                f"{path.name} cannot be read as a workbook: it is damaged, cut short or protected by a password",
                hint="open it in a spreadsheet program, save it again as XLSX, and import that",
            ) from None
        self.kind = f"Excel, sheet {name}"
        if sheet is None and len(names) > 1:
            self.notes.append(f"the workbook has {len(names)} sheets; read is the first, {name} (--sheet chooses)")
        self._header = self._find_header(merged, header_row)
        self.total: int | None = self._frame.height - self._header - 1

    def _find_header(self, merged: Sequence[tuple[str, int, int]], header_row: int | None) -> int:
        """Set the columns; return the header's row, counted from 0."""
        import polars as pl  # noqa: PLC0415 - the serving node must not load it

        filled: list[int] = []
        if self._frame.width:
            filled = self._frame.select(pl.any_horizontal(pl.all().is_not_null())).to_series().arg_true().to_list()
        if not filled:
            raise ImportRejectedError("the sheet is empty", hint="--sheet chooses another; " + _OLD_GENERATION)
        at = header_row - 1 if header_row is not None else filled[0]
        if at >= self._frame.height:
            raise ImportRejectedError(f"the sheet ends before row {at + 1}, where the column names should be")
        touching = [cells for cells, top, bottom in merged if top - 1 <= at <= bottom - 1]
        if touching:
            raise ImportRejectedError(
                f"cells {', '.join(touching[:5])} are merged in row {at + 1}, where the column names should be",
                hint="unmerge them and leave one row with one name per column; or, when the names are in a row below, "
                + _NAME_ROW,
            )
        names = [_clean(value or "") for value in self._frame.row(at)]
        below = next((row for row in filled if row > at), None)
        _check_header(names, at + 1, None if below is None else sum(v is not None for v in self._frame.row(below)))
        self.columns = tuple(names)
        inside = sum(bottom - 1 > at for _, _, bottom in merged)
        if inside:
            self.notes.append(f"{inside} merged ranges below the header: only the first row of each holds its value")
        return at

    def batches(self, columns: Sequence[str], size: int) -> Iterator[SourceBatch]:
        """Yield the rows' `columns`; see Source."""
        import polars as pl  # noqa: PLC0415 - the serving node must not load it

        places = [self.columns.index(name) for name in columns]
        frame = self._frame.select(pl.nth(place).alias(name) for place, name in zip(places, columns, strict=True))
        for start in range(self._header + 1, frame.height, size):
            part = frame[start : start + size]
            rows = np.arange(start + 1, start + 1 + part.height, dtype=np.int64)
            yield SourceBatch(rows, part, (), start + part.height - self._header - 1)


def _survey(path: Path, sheet: int) -> list[tuple[str, int, int]]:
    """Return the merged ranges of a sheet: "A1:C1" with its first and last row. Formats other than XLSX: none.

    Raises ImportRejectedError for a sheet that would not fit into memory, before anything is unpacked into it.
    """
    found: list[tuple[str, int, int]] = []
    columns: set[bytes] = set()
    last_row = 0
    try:
        with zipfile.ZipFile(path) as book:
            _require_room(path, sum(each.file_size for each in book.infolist()), MAX_UNPACKED_BYTES)
            target = _sheet_file(book, sheet)
            if target is None:
                return []
            with book.open(target) as file:
                tail = b""
                while chunk := file.read(1 << 20):
                    window = tail + chunk
                    for cells in _CELL_RANGE.finditer(window):
                        left, top, right, bottom = (group.decode() for group in cells.groups())
                        found.append((f"{left}{top}:{right}{bottom}", int(top), int(bottom)))
                    places = _CELL.findall(window)
                    columns.update(letters for letters, _ in places)
                    last_row = max(last_row, max((int(row) for _, row in places), default=0))
                    tail = window[max(window.rfind(b">", -_TAG_BYTES) + 1, len(window) - _TAG_BYTES) :]
    except (zipfile.BadZipFile, KeyError, OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zlib.error):
        return []  # damaged, or not XLSX: the reader says so in its own way
    width = max(map(_column_number, columns), default=0)
    _require_room(path, width, MAX_COLUMNS)
    _require_room(path, width * last_row, MAX_CELLS)
    return found


def _require_room(path: Path, needed: int, limit: int) -> None:
    if needed > limit:
        raise ImportRejectedError(
            f"{path.name} is too large to be read as a workbook, or a cell far from all others makes it so",
            hint="copy the persons into a new sheet, or save it as CSV",
        )


def _column_number(letters: bytes) -> int:
    """Return the number of a column: A is 1, AA is 27."""
    number = 0
    for letter in letters.upper():
        number = 26 * number + letter - 64
    return number


def _sheet_file(book: zipfile.ZipFile, sheet: int) -> str | None:
    """Return the member that holds the sheet's cells, by way of the workbook's relations."""
    if "xl/workbook.xml" not in book.namelist():
        return None
    ids = re.findall(rb'<sheet [^>]*r:id="([^"]+)"', book.read("xl/workbook.xml"))
    relations = re.findall(rb"<Relationship [^>]*>", book.read("xl/_rels/workbook.xml.rels"))
    for relation in relations:
        target = re.search(rb'Target="([^"]+)"', relation)
        if target and len(ids) > sheet and b'Id="' + ids[sheet] + b'"' in relation:
            name = target[1].decode()
            return name[1:] if name.startswith("/") else f"xl/{name}"
    return None


# --- Parquet --------------------------------------------------------------------------------------------------------


class ParquetSource:
    """A Parquet file, read slice by slice. Its first person is row 1: there is no header row to count."""

    kind = "Parquet"
    unit = "rows"
    excel_serials = False

    def __init__(self, path: Path) -> None:
        import polars as pl  # noqa: PLC0415 - the serving node must not load it

        self._path = path
        self.notes: list[str] = []
        with self._faults():
            self._scan = pl.scan_parquet(path)
            self._schema = self._scan.collect_schema()
            self._height: int = self._scan.select(pl.len()).collect().item()
        self.total: int | None = self._height
        self.columns = tuple(self._schema.names())

    def batches(self, columns: Sequence[str], size: int) -> Iterator[SourceBatch]:
        """Yield the rows' `columns`; see Source."""
        for name in columns:
            if self._schema[name].is_nested():
                raise ImportRejectedError(
                    f"column {name} holds lists or structures, not text", hint="export it as text"
                )
        texts = self._scan.select(map(self._as_text, columns))
        for start in range(0, self._height, size):
            # Slices, not polars' own batches: those run ahead of a slow reader until the whole file is in memory.
            with self._faults():
                frame = texts.slice(start, size).collect()
            end = start + frame.height
            yield SourceBatch(np.arange(start + 1, end + 1, dtype=np.int64), frame, (), end)

    def rehearse(self, columns: Sequence[str], size: int) -> None:
        """Let a process of its own read everything once: on some damaged files the reader ends the process it runs in.

        Raises ImportRejectedError when that process was ended.
        """
        command = [sys.executable, "-P", "-m", __name__, str(self._path), str(size), *columns]
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True)  # noqa: S603 - this module
        if done.returncode < 0:  # by a signal; what it refused with an error is refused here, with its reason
            raise self._damaged()

    def _damaged(self) -> ImportRejectedError:
        return ImportRejectedError(
            f"{self._path.name} cannot be read as Parquet: it is damaged or cut short", hint="export it again"
        )

    def _as_text(self, name: str) -> pl.Expr:
        import polars as pl  # noqa: PLC0415 - the serving node must not load it

        if self._schema[name].is_float():  # whole numbers beside missing ones: pandas writes them as floats
            return pl.col(name).cast(pl.Int64, strict=False).cast(pl.String)
        return pl.col(name).cast(pl.String, strict=False)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        import polars as pl  # noqa: PLC0415 - the serving node must not load it

        try:
            yield
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            raise self._damaged() from None


# --- databases ------------------------------------------------------------------------------------------------------


class DatabaseSource:
    """A table or query of a database, through a cursor on its side. The first person is row 1."""

    kind = "database"
    unit = "rows"
    excel_serials = False
    total: int | None = None

    def __init__(self, rows: DatabaseRows) -> None:
        self._rows = rows
        self.columns = rows.columns
        self.notes: list[str] = []

    def batches(self, columns: Sequence[str], size: int) -> Iterator[SourceBatch]:
        """Yield the rows' `columns`; see Source."""
        import polars as pl  # noqa: PLC0415 - the serving node must not load it

        schema = dict.fromkeys(columns, pl.String)
        row = 1
        for batch in self._rows.batches(columns, size):
            frame = pl.DataFrame(batch, schema=schema, orient="row")
            rows = np.arange(row, row + frame.height, dtype=np.int64)
            row += frame.height
            yield SourceBatch(rows, frame, (), row - 1)

    def with_key(self, columns: Sequence[str], key: str, value: str) -> Iterator[SourceBatch]:
        """Yield the rows whose column `key` is `value` as an import would read it, numbered from 1. See `batches`."""
        import polars as pl  # noqa: PLC0415 - the serving node must not load it

        found = self._rows.with_key(columns, key, value)
        frame = pl.DataFrame(found, schema=dict.fromkeys(columns, pl.String), orient="row")
        yield SourceBatch(np.arange(1, frame.height + 1, dtype=np.int64), frame, (), frame.height)


if __name__ == "__main__":  # a rehearsal
    for _ in ParquetSource(Path(sys.argv[1])).batches(sys.argv[3:], int(sys.argv[2])):
        pass
