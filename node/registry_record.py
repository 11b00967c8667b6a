"""One person's own record, read from the registry it was imported from: streamed, shown, never kept."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from matching.errors import MatchingError
from matching.index import EncodedIndex, IndexBuilder, Manifest
from matching.keys import FieldKeys
from matching.schema import PERSON_SCHEMA, FieldKind
from node.epoch import read_epoch_secret
from node.errors import ConfigError, NodeError
from node.files import make_private_folder
from node.generation import index_key
from node.mapping import RECORD_ID, to_records
from node.publishing import LOOKUP
from node.sources import DatabaseSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from matching.index import RecordBatch
    from matching.schema import FieldSpec
    from node.home import NodeHome
    from node.mapping import ColumnMap
    from node.sources import Source, SourceBatch

BATCH_ROWS: Final = 50_000  # rows looked at together: what bounds the memory, whatever the size of the registry
_ROW: Final = re.compile(r"row (\d+)")


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A person's record as the registry has it now. For the province's own terminal; never logged, never stored.

    values: by field, or by the mapping's `birthplace_and_date`, as written; None when empty. row: of the source.
    """

    values: Mapping[str, str | None] = field(repr=False)
    row: int
    encodable: RecordBatch = field(repr=False)


def find_record(
    source: Source, mapping: ColumnMap, record_id: str, progress: Callable[[int, int | None], None] = lambda *_: None
) -> tuple[RawRecord, ...]:
    """Return the records of that id: none, one, or the first two of several.

    Files are streamed as an import streams them; a database is asked by key. progress: called with what is behind us
    and the source's total, in its unit. Raises ConfigError when the mapping does not fit the source any more, or a
    database was imported without a record id; ImportRejectedError when the source cannot be read.
    """
    mapping.check(source.columns)
    id_column = mapping.columns.get(RECORD_ID)
    if id_column is None and isinstance(source, DatabaseSource):
        raise ConfigError(
            "no record id column is mapped, and a database's rows have no order: the record cannot be found again",
            hint="map record_id to the table's key, and import again",
        )
    found: list[RawRecord] = []
    for batch in _batches(source, mapping, id_column, record_id):
        progress(batch.done, source.total)
        for place in _places(batch, id_column, record_id):
            frame, rows = batch.frame[place : place + 1], batch.rows[place : place + 1]
            encodable = to_records(frame, rows, mapping, excel_serials=source.excel_serials)
            values = {str(name): frame[column][0] for name, column in mapping.columns.items()}
            values |= {str(name): constant for name, constant in mapping.constants.items()}
            found.append(RawRecord(values, int(rows[0]), encodable))
            if id_column is None or len(found) > 1:
                return tuple(found)
    return tuple(found)


def _batches(source: Source, mapping: ColumnMap, id_column: str | None, record_id: str) -> Iterator[SourceBatch]:
    if isinstance(source, DatabaseSource):
        assert id_column is not None
        return source.with_key(mapping.wanted(), id_column, record_id)
    return source.batches(mapping.wanted(), BATCH_ROWS)


def _places(batch: SourceBatch, id_column: str | None, record_id: str) -> list[int]:
    if id_column is not None:
        return list(map(int, (batch.frame[id_column].str.strip_chars() == record_id).arg_true().to_list()))
    wanted = _ROW.fullmatch(record_id)
    return np.flatnonzero(batch.rows == int(wanted[1])).tolist() if wanted else []


# --- as it was when it was imported? ----------------------------------------------------------------------------------


def changed_fields(
    home: NodeHome, record: RawRecord, *, generation: str, row: int, now: datetime
) -> tuple[str, ...] | None:
    """Return the schema's fields that are not any more what `row` of that generation was encoded from.

    None: nobody can tell, because that generation, or the secret of its epoch, is gone or damaged. The record is
    encoded once more, in a folder that is removed again.
    """
    try:
        epoch = Manifest.read(home.generations / generation, index_key(home)).epoch
        keys = FieldKeys.derive(read_epoch_secret(home.epoch_secret(epoch)), PERSON_SCHEMA, epoch)
    except (MatchingError, NodeError, OSError):
        return None
    folder = home.generations / f"{LOOKUP}{secrets.token_hex(8)}"
    make_private_folder(home.generations)
    at_rest = index_key(home)
    builder = IndexBuilder(folder, keys, at_rest=at_rest)
    try:
        with EncodedIndex.open(home.generations / generation, *keys.identity, keys.check, at_rest) as then:
            if row >= then.size or then.record_id(row) != record.encodable.record_ids[0]:
                return None
            issues = builder.add(record.encodable)
            if any(issue.rejected for issue in issues):  # nobody could be encoded from it now, and somebody was then
                return tuple(issue.field for issue in issues if issue.rejected)
            builder.finish(now, 1)
            with EncodedIndex.open(folder, *keys.identity, keys.check, at_rest) as current:
                fields = enumerate(keys.schema.fields)
                return tuple(
                    spec.name for f, spec in fields if _known(then, row, f, spec) != _known(current, 0, f, spec)
                )
    except (MatchingError, OSError):
        return None
    finally:
        builder.abandon()


def _known(index: EncodedIndex, row: int, f: int, spec: FieldSpec) -> bytes:
    """Return all that an index knows of one person in the schema's field number `f`; alike in all indexes of a key."""
    number = int(index.numbers(np.array([row]))[f, 0])
    if spec.kind is FieldKind.NAME:
        start, stop = index.array(f"{spec.name}.offsets")[number : number + 2]
        tokens = index.array(f"{spec.name}.tokens")[start:stop]
        return b"".join(sorted(filter_.tobytes() for filter_ in index.array(f"{spec.name}.filters")[tokens]))
    arrays = ("values", "filters") if spec.kind is FieldKind.PLACE else ("values",)
    return b"".join(index.array(f"{spec.name}.{array}")[number].tobytes() for array in arrays)
