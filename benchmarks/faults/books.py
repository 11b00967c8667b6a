"""What a node has on record, as of one moment: every table of its database, as plain rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from node.store import (
    AuditEntry,
    CheckpointRecord,
    CosignatureRecord,
    Direction,
    LogRow,
    open_store,
)
from node.verification import LogView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from node.pki.identity import Identity

Row = dict[str, Any]  # column -> value: bytes as hexadecimal, times in ISO 8601, as a backup has them

_BYTES = {"request_sha256", "operator_pseudonym", "nonce", "schema_fingerprint"}


@dataclass(frozen=True)
class Books:
    """The tables of one node. Pure: a test may write its own."""

    code: str
    tables: Mapping[str, list[Row]] = field(repr=False)

    def rows(self, table: str) -> list[Row]:
        """Return a table's rows in the order of its key; of one that is not there, none."""
        return self.tables.get(table, [])

    @cached_property
    def audit(self) -> list[AuditEntry]:
        """The audit's rows with what stands beside them."""
        return [row.entry for row in self.log]

    @cached_property
    def log(self) -> list[LogRow]:
        """The audit's rows as the hash tree sees them."""
        beside = {row["number"]: row for row in self.rows("audit_erasable")}
        return [_log_row(row, beside.get(row["number"])) for row in self.rows("audit")]

    def view(self, own: Identity) -> LogView:
        """Return what `verify_log` looks at."""
        stored = {row["position"]: bytes.fromhex(row["hash"]) for row in self.rows("audit_nodes")}
        numbers = {row["number"] for row in self.rows("audit")}
        orphans = sum(row["number"] not in numbers for row in self.rows("audit_erasable"))
        return LogView(
            own=own,
            rows=self.log,
            checkpoints=[
                CheckpointRecord(
                    bytes.fromhex(row["log_key"]),
                    row["size"],
                    bytes.fromhex(row["root"]),
                    datetime.fromisoformat(row["at"]),
                    bytes.fromhex(row["note"]),
                )
                for row in self.rows("audit_checkpoints")
            ],
            cosignatures=[
                CosignatureRecord(
                    bytes.fromhex(row["log_key"]),
                    row["size"],
                    row["witness"],
                    bytes.fromhex(row["witness_key"]),
                    row["line"],
                )
                for row in self.rows("audit_cosignatures")
            ],
            nodes=lambda wanted: {where: stored[where] for where in wanted if where in stored},
            counts=lambda: (len(numbers), len(stored), orphans),
        )


def read_books(code: str, url: str) -> Books:
    """Read a node's database beside the running node. Raises StoreError when it cannot be read."""
    store = open_store(url)
    try:
        return Books(code, _tables(store.dump()))
    finally:
        store.close()


def _tables(lines: Iterable[bytes]) -> dict[str, list[Row]]:
    tables: dict[str, list[Row]] = {}
    for line in lines:
        read = json.loads(line)
        if isinstance(read, list):
            table, row = read
            tables.setdefault(table, []).append(row)
    return tables


def _log_row(row: Row, beside: Row | None) -> LogRow:
    values: Row = {name: row.get(name, (beside or {}).get(name)) for name in AuditEntry.__slots__}
    for name in _BYTES:
        values[name] = None if values[name] is None else bytes.fromhex(values[name])
    values |= {"at": datetime.fromisoformat(row["at"]), "direction": Direction(row["direction"])}
    salts = None if beside is None else bytes.fromhex(beside["salts"])
    return LogRow(AuditEntry(**values), bytes.fromhex(row["commitments"]), salts)
