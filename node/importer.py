"""From a registry to the generation that answers: read, encode, publish in one atomic step."""

from __future__ import annotations

import errno
import os
import secrets
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TextIO

import numpy as np

from matching.index import IndexBuilder
from node.errors import ImportRejectedError, StoreError
from node.files import PRIVATE, make_private_folder
from node.generation import index_key
from node.mapping import RECORD_ID, to_records
from node.publishing import STAGING, import_lock, next_name, publish, remove_leftovers, remove_old
from node.sources import BrokenRow, ParquetSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from matching.index import RowIssue
    from matching.keys import FieldKeys
    from node.home import NodeHome
    from node.mapping import ColumnMap
    from node.sources import Source, SourceBatch

MAX_REJECTS: Final = 0.05  # of the rows; more, and the mapping or the file is wrong rather than the persons
JUDGED_FROM_ROWS: Final = 1000  # fewer rows say too little to stop before the end
BATCH_ROWS: Final = 50_000
IGNORED_LISTED: Final = 100_000  # lines of the reject file spent on values that merely count as missing


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is. done, total: in the source's unit; total None when only the end will tell."""

    rows: int
    rejected: int
    done: int
    total: int | None
    unit: str


@dataclass(frozen=True, slots=True)
class Complaint:
    """What was wrong how often, in which field."""

    field: str
    reason: str
    rows: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    rows: persons in the source, the rejected ones included. ignored: values that could not be read and count as
    missing. rejects_file: where each is listed by row number; None when there were none.
    """

    generation: str
    persons: int
    rows: int
    rejected: int
    ignored: int
    complaints: tuple[Complaint, ...]
    rejects_file: Path | None
    notes: tuple[str, ...]


def import_registry(
    home: NodeHome,
    keys: FieldKeys,
    source: Source,
    mapping: ColumnMap,
    now: datetime,
    *,
    max_rejects: float = MAX_REJECTS,
    batch_rows: int = BATCH_ROWS,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ImportReport:
    """Build a generation out of `source` and publish it.

    max_rejects: share of rows that may be rejected. Raises BusyError when another import runs, ConfigError when the
    mapping does not fit, ImportRejectedError or StoreError when nothing could be published: then the generation that
    answered before still does.
    """
    mapping.check(source.columns)
    if isinstance(source, ParquetSource):
        source.rehearse(mapping.wanted(), batch_rows)
    with _disk_errors(home.root), import_lock(home):
        make_private_folder(home.generations)
        remove_leftovers(home)
        name = next_name(home)
        with _RejectFile(home, name, now) as rejects:
            staging = home.generations / f"{STAGING}{secrets.token_hex(8)}"
            builder = IndexBuilder(staging, keys, at_rest=index_key(home))
            try:
                tally = _Tally(rejects, max_rejects)
                for batch in source.batches(mapping.wanted(), batch_rows):
                    _add(builder, batch, source, mapping, tally)
                    progress(Progress(tally.rows, tally.rejected, batch.done, source.total, source.unit))
                    tally.judge(at_end=False)
                tally.judge(at_end=True)
                manifest = builder.finish(now, tally.rows)
                publish(home, staging, name, keys.epoch)
            except BaseException:
                builder.abandon()
                raise
        remove_old(home)
    notes = list(source.notes)
    if RECORD_ID not in mapping.columns:
        notes.append(
            "no record id column is mapped: `row N` of the source stands in for it, so keep the source as it is"
        )
    return ImportReport(
        name,
        manifest.persons,
        tally.rows,
        tally.rejected,
        tally.ignored,
        tally.complaints(),
        rejects.path,
        tuple(notes),
    )


def _add(builder: IndexBuilder, batch: SourceBatch, source: Source, mapping: ColumnMap, tally: _Tally) -> None:
    """Encode one batch. Rows in which every mapped column is empty are the tail of a sheet, not persons."""
    tally.broken(batch.broken)
    frame, rows = batch.frame, batch.rows
    filled = np.zeros(len(rows), dtype=bool)
    for column in frame.get_columns():
        filled |= (column.str.len_bytes().fill_null(0) > 0).to_numpy()
    if not filled.all():
        frame, rows = frame.filter(filled), rows[filled]
    if RECORD_ID in mapping.columns:
        # PostgreSQL keeps no NUL: nobody could be answered about such a person. The others would steer a terminal.
        ids = frame[mapping.columns[RECORD_ID]].str.strip_chars()
        steering = ids.str.contains(r"\p{Cc}").fill_null(value=False).to_numpy()
        if steering.any():
            tally.broken(BrokenRow(int(row), "a control character in the record id") for row in rows[steering])
            frame, rows = frame.filter(~steering), rows[~steering]
    if len(rows):
        records = to_records(frame, rows, mapping, excel_serials=source.excel_serials)
        tally.issues(builder.add(records), rows)
        tally.rows += len(rows)


@dataclass
class _Tally:
    """Counts rows and what was wrong with them, and lists it in the reject file."""

    rejects: _RejectFile
    max_rejects: float
    rows: int = 0
    rejected: int = 0
    ignored: int = 0

    def __post_init__(self) -> None:
        self._reasons: Counter[tuple[str, str]] = Counter()

    def broken(self, broken: Iterable[BrokenRow]) -> None:
        """Count rows the reader could not read."""
        for each in broken:
            self.rows += 1
            self._reject(each.row, "row", each.reason)

    def issues(self, issues: Iterable[RowIssue], rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        """Count what the index builder could not use. rows: the source's row numbers of the batch."""
        for issue in issues:
            if issue.rejected:
                self._reject(int(rows[issue.row]), issue.field, issue.reason)
            else:
                self.ignored += 1
                self._reasons[issue.field, issue.reason] += 1
                if self.ignored <= IGNORED_LISTED:
                    self.rejects.write(int(rows[issue.row]), issue.field, issue.reason, "value ignored")

    def _reject(self, row: int, field: str, reason: str) -> None:
        self.rejected += 1
        self._reasons[field, reason] += 1
        self.rejects.write(row, field, reason, "row rejected")

    def complaints(self) -> tuple[Complaint, ...]:
        """Return what was wrong, most frequent first."""
        return tuple(Complaint(field, reason, rows) for (field, reason), rows in self._reasons.most_common())

    def judge(self, *, at_end: bool) -> None:
        """Raise ImportRejectedError when too many rows were rejected, or when there was nobody."""
        self.rejects.flush()
        if not at_end and self.rows < JUDGED_FROM_ROWS:
            return
        if at_end and self.rows == self.rejected:
            raise ImportRejectedError(
                "the source holds no persons"
                if self.rows == 0
                else f"all {self.rows:,} rows were rejected{self._why()}",
                hint=self._hint(),
            )
        if self.rejected > self.max_rejects * self.rows:
            raise ImportRejectedError(
                f"{self.rejected:,} of {self.rows:,} rows were rejected, more than {self.max_rejects:.1%}{self._why()}",
                hint=self._hint(),
            )

    def _why(self) -> str:
        worst = next(iter(self.complaints()), None)
        return "" if worst is None else f"; most often {worst.field}: {worst.reason}"

    def _hint(self) -> str:
        listed = f"the rows are listed in {self.rejects.path}; " if self.rejects.path else ""
        return f"{listed}check the mapping; nothing was published, the old generation still answers"


class _RejectFile:
    """Row number, field, reason and what became of it, tab-separated, 0600; never a value. Made when first needed."""

    def __init__(self, home: NodeHome, generation: str, now: datetime) -> None:
        self._folder = home.rejects
        self._name = f"{now:%Y%m%dT%H%M%SZ}-{generation}-{secrets.token_hex(2)}.tsv"
        self._file: TextIO | None = None
        self.path: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, row: int, field: str, reason: str, outcome: str) -> None:
        """Add a line."""
        if self._file is None:
            make_private_folder(self._folder)
            self.path = self._folder / self._name
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
            self._file = os.fdopen(descriptor, "w", encoding="utf-8")
            self._file.write("row\tfield\treason\toutcome\n")
        self._file.write(f"{row}\t{field}\t{reason}\t{outcome}\n")

    def flush(self) -> None:
        """Hand what was written to the system."""
        if self._file is not None:
            self._file.flush()


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    """Say what the disk refused; readers have already turned the source's own errors into theirs."""
    try:
        yield
    except OSError as error:
        hint = {
            errno.ENOSPC: "free some space",
            errno.EDQUOT: "free some space: the user's quota is used up",
            errno.EACCES: f"make {root} and everything in it writable for this user",
            errno.EPERM: f"make {root} and everything in it writable for this user",
            errno.EROFS: "the disk is read-only: look at the system's log",
            errno.ENOENT: "`pulang node init` makes a node's folder",
        }.get(error.errno or 0, "look at the system's log")
        raise StoreError(
            f"the import could not write to {root}: {error.strerror}", hint=f"{hint}; the old generation still answers"
        ) from error
