"""Small made-up registries for tests of the matching core."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import numpy as np

from matching.index import Column, EncodedIndex, IndexBuilder, RecordBatch, RowIssue
from matching.keys import FieldKeys
from matching.schema import PERSON_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
TODAY = date(2026, 11, 22)
SECRET = bytes.fromhex("8a5d1c0be2f94733a6c0915e7f24d8b35c6e0f1a92b74d83e1c55a6f90d7b214")
KEYS = FieldKeys.derive(SECRET, PERSON_SCHEMA, 1)
COLUMNS = ("record_id", "name", "sex", "birth_date", "birthplace", "mother_name")

Row = tuple[str | None, ...]


def column(values: Sequence[str | None]) -> Column:
    """Encode a plain column as distinct values and codes."""
    distinct = list(dict.fromkeys(value for value in values if value is not None))
    number = {value: i for i, value in enumerate(distinct)}
    return Column(distinct, np.array([-1 if v is None else number[v] for v in values], dtype=np.int32))


def batch(rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> RecordBatch:
    """Turn rows (record id first) into a batch."""
    turned = list(zip(*rows, strict=True))
    return RecordBatch([str(v or "") for v in turned[0]], {n: column(turned[i]) for i, n in enumerate(columns) if i})


def build(
    directory: Path, rows: Sequence[Row], *, keys: FieldKeys = KEYS, columns: Sequence[str] = COLUMNS, size: int = 1000
) -> tuple[EncodedIndex, list[RowIssue]]:
    """Build an index from rows, in batches of `size`, and open it."""
    builder = IndexBuilder(directory, keys)
    issues: list[RowIssue] = []
    for start in range(0, len(rows), size):
        issues += builder.add(batch(rows[start : start + size], columns))
    builder.finish(NOW, len(rows))
    return EncodedIndex.open(directory, *keys.identity), issues


FIRST = ("slamet", "sutrisno", "wahyu", "bambang", "hendra", "agus", "dewi", "rina", "sri", "siti", "ketut", "maria")
LAST = ("wibowo", "santoso", "lestari", "aminah", "hidayat", "saputra", "kurniawan", "rahayu", "siregar", "utami")
PLACES = ("KEBUMEN", "JEMBER", "KOTA BOGOR", "LOMBOK TIMUR", "BULELENG", "SERANG", "SLEMAN")


def crowd(count: int, seed: int = 5) -> list[Row]:
    """Make `count` persons with common names."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for i in range(count):
        first, last, mother, other = rng.integers(0, (len(FIRST), len(LAST), len(FIRST), len(LAST)))
        born = f"{rng.integers(1940, 2005)}-{rng.integers(1, 13):02}-{rng.integers(2, 29):02}"
        rows.append(
            (
                f"R{i:06}",
                f"{FIRST[first]} {LAST[last]}",
                "LP"[int(rng.integers(0, 2))],
                born,
                PLACES[int(rng.integers(0, len(PLACES)))],
                f"{FIRST[mother]} {LAST[other]}" if rng.random() < 0.8 else None,
            )
        )
    return rows
