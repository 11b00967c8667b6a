"""The audit log's texts and exports, and a backup's database: what is checked elsewhere, or put back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from benchmarks.fuzzing.mutate import json_lines, json_value
from benchmarks.fuzzing.target import FEDERATION, NOW, PROVINCE, Target
from node.audit_export import read_heads, read_log, write_heads, write_log
from node.checkpoint import Checkpoint, origin_of, parse_note
from node.errors import NodeError
from node.handles import read_handle
from node.pki.identity import Identity
from node.pki.logkey import load_log_key, verify_cosignature, verify_log_signature
from node.store import PENDING, AuditEntry, CheckpointRecord, CosignatureRecord, Direction, WitnessedHead, open_store
from node.verification import verify_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from node.pki.logkey import LogKey
    from node.store import Store

OWN: Final = Identity(FEDERATION, PROVINCE)
WITNESS: Final = Identity(FEDERATION, "35")


class _ReadWholeError(Exception):
    """The input was read to its end and found good."""


def checkpoint(folder: Path) -> Target:
    """Read a signed head and verify every signature under it."""
    key, witness = _log_key(folder, OWN), _log_key(folder, WITNESS)
    note = key.sign(Checkpoint(key.name, 7, bytes(32), NOW))
    cosigned = note + witness.cosign(parse_note(note), NOW).encode()

    def feed(data: bytes) -> object:
        read = parse_note(data)
        verify_log_signature(read, key.public)
        return [verify_cosignature(read, line, witness.name, witness.public) for line in read.signatures[1:]]

    return Target(feed, (NodeError,), [note, cosigned])


def audit_log(folder: Path) -> Target:
    """Read an exported log and verify all of it."""
    path = folder / "log.jsonl"
    store, _ = _log(folder)
    write_log(path, store, OWN, NOW)
    store.close()
    honest = path.read_bytes()

    def feed(data: bytes) -> object:
        path.write_bytes(data)
        return verify_log(read_log(path), ())

    return Target(feed, (NodeError,), [honest], json_lines)


def heads(folder: Path) -> Target:
    """Read a witness's heads, another copy of the log or a single checkpoint, to compare a log with."""
    path, witnessed = folder / "heads.json", folder / "witnessed.json"
    store, note = _log(folder)
    head = WitnessedHead(PROVINCE, bytes(32), 3, bytes(32), NOW, note)
    store.log.witness(PROVINCE, bytes(32), lambda *_: head)
    write_heads(witnessed, store, WITNESS, NOW)
    write_log(folder / "log.jsonl", store, OWN, NOW)
    store.close()
    seeds = [witnessed.read_bytes(), note, (folder / "log.jsonl").read_bytes()]

    def feed(data: bytes) -> object:
        path.write_bytes(data)
        return read_heads(path, OWN)

    return Target(feed, (NodeError,), seeds, json_value)


def database(folder: Path) -> Target:
    """Put a backup's database back, into an empty one that is empty again afterwards."""
    store, _ = _log(folder)
    honest = b"".join(store.dump())
    store.close()
    empty = open_store(f"sqlite:///{folder}/empty.db")

    def lines(data: bytes) -> Iterator[bytes]:
        yield from data.splitlines(keepends=True)
        raise _ReadWholeError  # before anything is committed

    def feed(data: bytes) -> object:
        try:
            return empty.load(lines(data))
        except _ReadWholeError:
            return None

    return Target(feed, (NodeError,), [honest], json_lines)


def handle(folder: Path) -> Target:  # noqa: ARG001 - every target is made the same way
    """Read a code as somebody types it who heard it by telephone."""
    seeds = [b"0123 4567 89ab cdef 0123 4567 89ab cdef", b"00" * 16]
    return Target(lambda data: read_handle(data.decode("utf-8", errors="replace")), (NodeError,), seeds)


def _log_key(folder: Path, own: Identity) -> LogKey:
    return load_log_key(folder / f"{own.province}.key", origin_of(own.uri))


def _log(folder: Path) -> tuple[Store, bytes]:
    """Return a store whose log has some rows, a signed head and a cosignature; and the head."""
    store = open_store(f"sqlite:///{folder}/node.db")
    key, witness = _log_key(folder, OWN), _log_key(folder, WITNESS)
    entry = AuditEntry(
        at=NOW,
        direction=Direction.ANSWERED,
        peer="35",
        method="ask",
        outcome=PENDING,
        request_sha256=bytes(32),
        purpose="return_home",
        case_reference="K-1",
        operator_pseudonym=bytes(16),
        nonce=bytes(16),
        generation="g000001",
        schema_fingerprint=bytes(32),
        key_epoch=1,
    )
    number = store.record_pending(entry)
    store.record_answer(replace(entry, outcome="answered", concerns=number, handles_given=0, duration_ms=12))
    store.record_events([replace(entry, direction=Direction.ASKED, outcome="sent")])
    size, root = store.log.head()
    note = key.sign(Checkpoint(key.name, size, root, NOW))
    store.log.add_checkpoint(CheckpointRecord(key.public, size, root, NOW, note))
    line = witness.cosign(parse_note(note), NOW + timedelta(seconds=1))
    store.log.add_cosignature(CosignatureRecord(key.public, size, WITNESS.province, witness.public, line))
    return store, note
