"""What leaves the audit log for others to read: the whole log, and the lists that UU 27/2022 (PDP) asks for.

Every list has fixed columns, documented in docs/operations.md, and a checksum over the whole file beside it.
"""

from __future__ import annotations

import csv
import io
import json
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from node.errors import ConfigError
from node.files import PRIVATE, check_free, read_file, write_atomic, write_stream
from node.pki.identity import Identity
from node.store import PENDING, AuditEntry, CheckpointRecord, CosignatureRecord, Direction, LogRow
from node.verification import LogView, OtherHead

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from node.store import Store

LOG_FORMAT: Final = "pulang-audit-log-1"
HEADS_FORMAT: Final = "pulang-audit-heads-1"
MAX_HEADS_BYTES: Final = 16 << 20
BATCH: Final = 200  # questions whose handles are looked up together
_BROKEN: Final = "export it again: it is cut off or was changed"

# UU PDP article 31: what was processed, why, with whom, and what came of it.
PROCESSING: Final = (
    "number",
    "at",
    "direction",
    "peer",
    "method",
    "purpose",
    "outcome",
    "calls",
    "handles_given",
    "generation",
    "key_epoch",
    "duration_ms",
)
# Article 32: who was asked about, or asked about, one person's case.
ACCESS: Final = (
    "number",
    "at",
    "direction",
    "peer",
    "purpose",
    "outcome",
    "reason",
    "case_reference",
    "operator_pseudonym",
    "handles_given",
    "request_sha256",
)
# Article 46: what one peer was told. record_ids: of handles that have not expired yet.
BREACH: Final = (
    "number",
    "at",
    "peer",
    "purpose",
    "outcome",
    "case_reference",
    "handles_given",
    "generation",
    "record_ids",
    "request_sha256",
)

Row = dict[str, Any]


# --- lists ---


def processing(rows: Iterable[LogRow]) -> Iterator[Row]:
    """Yield the record of processing activities: every event but the PENDING rows, whose outcomes say the same."""
    return (_columns(row.entry, PROCESSING) for row in rows if row.entry.outcome != PENDING)


def access_trail(store: Store, case: str) -> Iterator[Row]:
    """Yield everything that was asked and answered about one case."""
    return (_columns(row.entry, ACCESS) for row in store.log.rows(case=case) if row.entry.outcome != PENDING)


def breach_list(store: Store, peer: str, after: datetime | None, before: datetime | None) -> Iterator[Row]:
    """Yield what a peer was answered in a window of time: whose handles it got, as far as these are still known."""
    answered = (
        row.entry
        for row in store.log.rows(peer=peer, after=after, before=before)
        if row.entry.direction is Direction.ANSWERED and row.entry.outcome != PENDING
    )
    while batch := list(islice(answered, BATCH)):
        nonces = [each.nonce for each in batch if each.nonce is not None]
        persons: dict[bytes, list[str]] = {}
        for nonce, record_id, _, _ in store.log.handles_given_to(peer, nonces):
            persons.setdefault(nonce, []).append(record_id)
        for entry in batch:
            yield {**_columns(entry, BREACH), "record_ids": sorted(persons.get(entry.nonce or b"", []))}


def write_list(path: Path, rows: Iterable[Row], columns: Sequence[str], *, as_csv: bool) -> tuple[int, str]:
    """Write a list as JSON Lines or CSV, and its checksum beside it.

    Returns how many rows, and the SHA-256. Raises ConfigError when a file is there already, StoreError.
    """
    count = 0

    def counted() -> Iterator[Row]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    digest = _write(path, _csv_lines(counted(), columns) if as_csv else map(_line, counted()))
    return count, digest


# --- the whole log ---


def write_log(path: Path, store: Store, own: Identity, now: datetime) -> tuple[int, str]:
    """Write everything that `pulang audit verify` needs to check the log elsewhere. Returns and raises as write_list.

    The file holds case references, pseudonyms and salts: it is as private as the database.
    """
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        head = {"format": LOG_FORMAT, "federation": own.federation, "province": own.province, "at": now.isoformat()}
        yield _line(head)
        # Heads first: a row that is written while we read is then behind the last head, not missing under it.
        checkpoints, cosignatures = store.log.checkpoints(), store.log.cosignatures()
        for row in store.log.rows():
            count += 1
            yield _line({"row": _plain(asdict(row))})
        yield from (_line({"checkpoint": _plain(asdict(each))}) for each in checkpoints)
        yield from (_line({"cosignature": _plain(asdict(each))}) for each in cosignatures)
        counts = {"row": count, "checkpoint": len(checkpoints), "cosignature": len(cosignatures)}
        yield _line({"end": counts})

    digest = _write(path, lines())
    return count, digest


def read_log(path: Path) -> LogView:
    """Return the log in a file that write_log wrote. Raises ConfigError when it cannot be read as one."""
    checkpoints: list[CheckpointRecord] = []
    cosignatures: list[CosignatureRecord] = []
    with _readable(path):
        lines = _read_lines(path)
        head = next(lines)
        if head.get("format") != LOG_FORMAT:
            raise ConfigError(f"{path} is not an exported audit log", hint="`pulang audit export log` writes one")
        own = Identity(str(head["federation"]), str(head["province"]))
        counts = dict.fromkeys(("row", "checkpoint", "cosignature"), 0)
        last = head
        for last in lines:
            ((kind, value),) = last.items()
            if kind in counts:
                counts[kind] += 1
            if kind == "checkpoint":
                checkpoints.append(_checkpoint(value))
            elif kind == "cosignature":
                cosignatures.append(_cosignature(value))
            elif kind not in {"row", "end"}:
                raise ConfigError(f"{path} holds lines that no exported log has", hint=_BROKEN)
        if last != {"end": counts}:
            raise ConfigError(f"{path} ends early, or lines of it are missing", hint=_BROKEN)
    return LogView(own=own, rows=_read_rows(path), checkpoints=checkpoints, cosignatures=cosignatures)


def _read_rows(path: Path) -> Iterator[LogRow]:
    with _readable(path):
        for line in _read_lines(path):
            if "row" in line:
                yield _log_row(line["row"])


# --- heads of other logs, as this node has witnessed them ---


def write_heads(path: Path, store: Store, own: Identity, now: datetime) -> tuple[int, str]:
    """Write the newest head of every log this node has cosigned, and the forks it has refused."""
    heads, forks = store.log.witnessed(), store.log.forks()
    value = {
        "format": HEADS_FORMAT,
        "federation": own.federation,
        "witness": own.province,
        "at": now.isoformat(),
        "heads": [{"province": each.province, "note": each.note.decode()} for each in heads],
        "forks": [
            {
                "province": each.province,
                "at": each.at.isoformat(),
                "seen": each.seen.decode(),
                "offered": each.offered.decode(),
                "proof": each.proof.hex(),
            }
            for each in forks
        ],
    }
    digest = _write(path, [json.dumps(value, indent=1).encode() + b"\n"])
    return len(heads), digest


def read_heads(path: Path, own: Identity) -> list[OtherHead]:
    """Return the heads of `own`'s log in a file: a witness's heads, another copy of the log, or a single checkpoint.

    Raises ConfigError when the file is none of these, or holds nothing about this log.
    """
    with path.open("rb") if path.exists() else _missing(path) as stream:
        start = stream.read(200)
    if LOG_FORMAT.encode() in start:
        view = read_log(path)
        notes = [each.note for each in view.checkpoints] if view.own == own else []
    elif HEADS_FORMAT.encode() in start:
        with _readable(path):
            value = json.loads(read_file(path, limit=MAX_HEADS_BYTES))
            notes = [each["note"].encode() for each in value["heads"] if each["province"] == own.province]
            forks = [each for each in value["forks"] if each["province"] == own.province]
            notes += [each[which].encode() for each in forks for which in ("seen", "offered")]
    else:
        notes = [read_file(path, limit=MAX_HEADS_BYTES)]
    if not notes:
        raise ConfigError(f"{path} holds no head of province {own.province}'s log")
    return [OtherHead(path.name, note) for note in notes]


# --- forms ---


def _columns(entry: AuditEntry, columns: Sequence[str]) -> Row:
    return {name: _plain(getattr(entry, name, None)) for name in columns}


def _write(path: Path, parts: Iterable[bytes]) -> str:
    checksum = path.with_name(f"{path.name}.sha256")
    for each in (path, checksum):
        check_free(each)
    digest = write_stream(path, parts, mode=PRIVATE)
    write_atomic(checksum, f"{digest}  {path.name}\n".encode(), mode=PRIVATE)
    return digest


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"


def _csv_lines(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[bytes]:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()


def _cell(value: Any) -> Any:
    """Return a value as a spreadsheet may have it: no text of a peer's is taken for a formula."""
    text = " ".join(value) if isinstance(value, list) else value
    return f"'{text}" if isinstance(text, str) and text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case bytes():
            return value.hex()
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="microseconds")
        case _:
            return value


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") if path.exists() else _missing(path) as stream:
        for line in stream:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise TypeError
            yield value


def _missing(path: Path) -> Any:
    raise ConfigError(f"{path} is not there")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, StopIteration):
        raise ConfigError(f"{path} cannot be read as what it should be", hint=_BROKEN) from None


_BYTES: Final = ("operator_pseudonym", "nonce", "request_sha256", "schema_fingerprint")


def _log_row(value: dict[str, Any]) -> LogRow:
    entry = dict(value["entry"])
    for name in _BYTES:
        entry[name] = None if entry[name] is None else bytes.fromhex(entry[name])
    entry["at"] = datetime.fromisoformat(entry["at"])
    entry["direction"] = Direction(entry["direction"])
    if type(entry["number"]) is not int:
        raise TypeError
    salts = value["salts"]
    return LogRow(
        AuditEntry(**entry), bytes.fromhex(value["commitments"]), None if salts is None else bytes.fromhex(salts)
    )


def _checkpoint(value: dict[str, Any]) -> CheckpointRecord:
    return CheckpointRecord(
        log_key=bytes.fromhex(value["log_key"]),
        size=int(value["size"]),
        root=bytes.fromhex(value["root"]),
        at=datetime.fromisoformat(value["at"]),
        note=bytes.fromhex(value["note"]),
    )


def _cosignature(value: dict[str, Any]) -> CosignatureRecord:
    return CosignatureRecord(
        log_key=bytes.fromhex(value["log_key"]),
        size=int(value["size"]),
        witness=str(value["witness"]),
        witness_key=bytes.fromhex(value["witness_key"]),
        line=str(value["line"]),
    )
