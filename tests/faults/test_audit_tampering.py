# ruff: noqa: F811 - fixtures are imported, and asked for by their names
"""Every change somebody makes to a finished audit log is found: past the triggers, with the tree rebuilt, re-signed."""

from __future__ import annotations

import os
import random
import sqlite3
import sys
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import NullPool, create_engine, text

from node.audit_export import read_heads, read_log, write_heads, write_log
from node.checkpoint import Checkpoint
from node.errors import ConfigError
from node.leaves import commitments, leaf
from node.merkle import grown
from node.pki.identity import Identity
from node.pki.logkey import LogKey, load_log_key
from node.store import PENDING, CheckpointRecord, CosignatureRecord, Direction, log, open_store
from node.store.engine import parse_url
from node.verification import LogView, OtherHead, Verdict, verify_log
from node.witness import Cosigned, CosignRequest, Witness
from tests.federation import FEDERATION
from tests.postgres import postgres_server  # noqa: F401 - the fixture
from tests.stores import NOW, entry, url  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from node.store import Store
    from tests.postgres import PostgresServer

ROWS = 61
OWN = Identity(FEDERATION, "33")
# PULANG_ATTACKS=500 with -s prints the counts that docs/threat-model.md quotes.
ATTACKS_PER_KIND = {"sqlite": int(os.environ.get("PULANG_ATTACKS", "8")), "postgresql": 2}
TEXT_COLUMNS = ("peer", "method", "purpose", "outcome", "generation")
FIGURES = ("key_epoch", "duration_ms", "handles_given", "calls")


def fill(store: Store, mark: str = "") -> None:
    """Write ROWS rows as a node does: PENDING rows with their outcomes, and refusals."""
    number = 0
    while number < ROWS:
        one = entry(number % 200, case_reference=f"case-{mark}{number}", nonce=bytes([number % 200]) * 16, reason="why")
        if number % 3 or number == ROWS - 1:
            store.record_answer(one)
            number += 1
        else:
            pending = store.record_pending(replace(one, outcome=PENDING))
            store.record_answer(replace(one, concerns=pending, duration_ms=7, handles_given=5, key_epoch=1))
            number += 2


def sign(store: Store, key: LogKey) -> CheckpointRecord:
    size, root = store.log.head()
    note = key.sign(Checkpoint(key.name, size, root, NOW))
    record = CheckpointRecord(key.public, size, root, NOW, note)
    store.log.add_checkpoint(record)
    return record


def witnessed(folder: Path, record: CheckpointRecord, proof: Sequence[bytes] = (), old_size: int = 0) -> Cosigned:
    with closing(open_store(f"sqlite:///{folder}/witness.db")) as store:
        key = load_log_key(folder / "witness.key", f"{Identity(FEDERATION, '34').uri}/audit")
        made = Witness(
            store=store, key=key, own=Identity(FEDERATION, "34"), members=lambda: ["33", "34", "35"], now=lambda: NOW
        )
        reply = made.cosign("33", CosignRequest(record.log_key, record.note, old_size, tuple(proof)))
    assert isinstance(reply, Cosigned)
    return reply


@pytest.fixture
def key(tmp_path: Path) -> LogKey:
    return load_log_key(tmp_path / "log.key", f"{OWN.uri}/audit")


def build(url: str, folder: Path, key: LogKey) -> None:
    """A log of ROWS rows with three checkpoints, the last of them cosigned by province 34."""
    with closing(open_store(url)) as store:
        fill(store)
        record = sign(store, key)
        cosigned = witnessed(folder, record)
        store.log.add_cosignature(CosignatureRecord(key.public, record.size, "34", cosigned.witness_key, cosigned.line))


def verify(url: str, others: Sequence[OtherHead] = ()) -> Verdict:
    with closing(open_store(url)) as store:
        kept = store.log
        view = LogView(OWN, kept.rows(), kept.checkpoints(), kept.cosignatures(), nodes=kept.nodes, counts=kept.counts)
        return verify_log(view, others)


@contextmanager
def past_the_triggers(url: str) -> Iterator[Connection]:
    """Write as somebody does who owns the database: no trigger and no constraint of ours is in the way."""
    engine = create_engine(parse_url(url), poolclass=NullPool)
    with engine.begin() as connection:
        if url.startswith("sqlite"):
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
            for (name,) in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all():
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            connection.exec_driver_sql("SET session_replication_role = replica")
        yield connection
    engine.dispose()


def run(connection: Connection, statement: str, **values: Any) -> None:
    connection.execute(text(statement), values)


def edit_a_word(connection: Connection, chance: random.Random) -> None:
    run(
        connection,
        f"UPDATE audit SET {chance.choice(TEXT_COLUMNS)} = 'zz' WHERE number = :number",
        number=chance.randint(1, ROWS),
    )


def edit_a_figure(connection: Connection, chance: random.Random) -> None:
    add_to(connection, chance, chance.choice(FIGURES))


def edit_a_number(connection: Connection, chance: random.Random) -> None:
    add_to(connection, chance, chance.choice((*FIGURES, "concerns")))


def add_to(connection: Connection, chance: random.Random, column: str) -> None:
    run(
        connection,
        f"UPDATE audit SET {column} = 1000 + coalesce({column}, 0) WHERE number = :number",
        number=chance.randint(1, ROWS),
    )


def edit_a_time(connection: Connection, chance: random.Random) -> None:
    later = "2026-03-01 12:00:00.000001"
    run(connection, "UPDATE audit SET at = :later WHERE number = :number", later=later, number=chance.randint(1, ROWS))


def edit_a_hash(connection: Connection, chance: random.Random) -> None:
    column = chance.choice(("request_sha256", "commitments"))
    value = chance.randbytes(32 if column == "request_sha256" else 128)
    run(
        connection,
        f"UPDATE audit SET {column} = :value WHERE number = :number",
        value=value,
        number=chance.randint(1, ROWS),
    )


def edit_what_a_row_is_about(connection: Connection, chance: random.Random) -> None:
    column = chance.choice(("case_reference", "reason", "salts", "nonce"))
    value: object = chance.randbytes(64 if column == "salts" else 16) if column in {"salts", "nonce"} else "K-other"
    run(
        connection,
        f"UPDATE audit_erasable SET {column} = :value WHERE number = :number",
        value=value,
        number=chance.randint(1, ROWS),
    )


def delete_a_row(connection: Connection, chance: random.Random) -> None:
    number = chance.randint(1, ROWS)
    for table in ("audit", "audit_erasable"):
        run(connection, f"DELETE FROM {table} WHERE number = :number", number=number)


def delete_a_row_and_close_the_gap(connection: Connection, chance: random.Random) -> None:
    number = chance.randint(1, ROWS - 1)
    for table in ("audit", "audit_erasable"):
        run(connection, f"DELETE FROM {table} WHERE number = :number", number=number)
        # By way of negative numbers: a key that is taken for a moment would stop the update.
        run(connection, f"UPDATE {table} SET number = -number WHERE number > :number", number=number)
        run(connection, f"UPDATE {table} SET number = -number - 1 WHERE number < 0")


def swap_two_rows(connection: Connection, chance: random.Random) -> None:
    one, other = sorted(chance.sample(range(1, ROWS + 1), 2))
    for table in ("audit", "audit_erasable"):
        run(connection, f"UPDATE {table} SET number = -1 WHERE number = :one", one=one)
        run(connection, f"UPDATE {table} SET number = :one WHERE number = :other", one=one, other=other)
        run(connection, f"UPDATE {table} SET number = :other WHERE number = -1", other=other)


def put_a_row_in(connection: Connection, chance: random.Random) -> None:
    number = chance.randint(1, ROWS)
    for table in ("audit", "audit_erasable"):
        run(connection, f"UPDATE {table} SET number = -number WHERE number >= :number", number=number)
        run(connection, f"UPDATE {table} SET number = -number + 1 WHERE number < 0")
    columns = "at, direction, peer, method, purpose, outcome, calls, request_sha256, commitments"
    source = number + 1
    run(
        connection,
        f"INSERT INTO audit (number, {columns}) SELECT {number}, {columns} FROM audit WHERE number = {source}",
    )


def cut_the_end_off(connection: Connection, chance: random.Random) -> None:
    left = chance.randint(1, ROWS - 1)
    run(connection, "DELETE FROM audit WHERE number > :left", left=left)
    run(connection, "DELETE FROM audit_erasable WHERE number > :left", left=left)
    run(connection, "DELETE FROM audit_nodes WHERE position > :last", last=2 * (left - 1))


def edit_a_node(connection: Connection, chance: random.Random) -> None:
    (positions,) = zip(*connection.execute(text("SELECT position FROM audit_nodes")).all(), strict=True)
    run(
        connection,
        "UPDATE audit_nodes SET hash = :hash WHERE position = :position",
        hash=chance.randbytes(32),
        position=chance.choice(positions),
    )


def delete_a_node(connection: Connection, chance: random.Random) -> None:
    (positions,) = zip(*connection.execute(text("SELECT position FROM audit_nodes")).all(), strict=True)
    run(connection, "DELETE FROM audit_nodes WHERE position = :position", position=chance.choice(positions))


def erase_without_a_word(connection: Connection, chance: random.Random) -> None:
    run(connection, "DELETE FROM audit_erasable WHERE number = :number", number=chance.randint(1, ROWS))


def move_a_checkpoint(connection: Connection, chance: random.Random) -> None:
    size = str(chance.randint(1, ROWS - 1)).encode()
    note: bytes = connection.execute(text("SELECT note FROM audit_checkpoints")).scalar_one()
    forged = note.replace(b"\n%d\n" % ROWS, b"\n" + size + b"\n")
    run(connection, "UPDATE audit_checkpoints SET note = :note", note=forged)


def delete_the_checkpoints(connection: Connection, chance: random.Random) -> None:
    run(connection, "DELETE FROM audit_checkpoints")


def edit_and_rebuild_the_tree(connection: Connection, chance: random.Random) -> None:
    """What somebody does who knows this code: change a row, and every hash that follows from it."""
    run(connection, "UPDATE audit SET outcome = 'refused' WHERE number = :number", number=chance.randint(1, ROWS))
    rebuild(connection)


def rebuild(connection: Connection) -> None:
    run(connection, "DELETE FROM audit_nodes")
    nodes: dict[int, bytes] = {}
    rows = connection.execute(log.select_entries().order_by(text("audit.number"))).mappings().all()
    for row in rows:
        made = log.entry_of(row)
        committed = commitments(made, row["salts"])
        run(
            connection,
            "UPDATE audit SET commitments = :value WHERE number = :number",
            value=committed,
            number=made.number,
        )
        assert made.number is not None
        nodes.update(grown(made.number - 1, leaf(made, made.number, committed), nodes.__getitem__))
    for position, value in nodes.items():
        run(connection, "INSERT INTO audit_nodes VALUES (:position, :hash)", position=position, hash=value)


ATTACKS: tuple[Callable[[Connection, random.Random], None], ...] = (
    edit_a_word,
    edit_a_number,
    edit_a_time,
    edit_a_hash,
    edit_what_a_row_is_about,
    delete_a_row,
    delete_a_row_and_close_the_gap,
    swap_two_rows,
    put_a_row_in,
    cut_the_end_off,
    edit_a_node,
    delete_a_node,
    erase_without_a_word,
    move_a_checkpoint,
    delete_the_checkpoints,
    edit_and_rebuild_the_tree,
)


def test_an_untouched_log_is_whole(url: str, tmp_path: Path, key: LogKey) -> None:
    build(url, tmp_path, key)
    verdict = verify(url)
    assert verdict.findings == ()
    assert (verdict.rows, verdict.signed, verdict.cosigned) == (ROWS, ROWS, {"34": ROWS})


def copies(folder: Path) -> Iterator[tuple[int, str]]:
    """Yield (seed, URL) of as many copies of original.db as there are attacks of a kind."""
    for seed in range(ATTACKS_PER_KIND["sqlite"]):
        copy = folder / "copy.db"
        for file in folder.glob("copy.db*"):
            file.unlink()
        with closing(sqlite3.connect(folder / "original.db")) as live, closing(sqlite3.connect(copy)) as target:
            live.backup(target)
        yield seed, f"sqlite:///{copy}"


def tell(kind: str, missed: list[int]) -> None:
    """Print a row of the table, for whoever runs this with -s."""
    every = ATTACKS_PER_KIND["sqlite"]
    sys.stdout.write(f"{kind}: {every - len(missed)} of {every} found\n")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_every_change_in_sqlite_is_found(tmp_path: Path, key: LogKey, attack: Callable[..., None]) -> None:
    build(f"sqlite:///{tmp_path}/original.db", tmp_path, key)
    missed = []
    for seed, copy in copies(tmp_path):
        with past_the_triggers(copy) as connection:
            attack(connection, random.Random(seed))
        if not verify(copy).findings:
            missed.append(seed)
    tell(attack.__name__, missed)
    assert missed == []


# Of numbers only the figures: a reference to no row is mended to what it was, and then nothing has been changed.
REWRITINGS = (edit_a_word, edit_a_figure, edit_a_time, delete_a_row_and_close_the_gap, cut_the_end_off)


@pytest.mark.parametrize("rewrite", REWRITINGS, ids=lambda rewrite: rewrite.__name__)
def test_every_split_view_in_sqlite_is_found_with_a_witnesss_heads(
    tmp_path: Path, key: LogKey, rewrite: Callable[..., None]
) -> None:
    """Somebody with the log's own key makes another history, and a tree and a signed head that fit it."""
    build(f"sqlite:///{tmp_path}/original.db", tmp_path, key)
    with closing(open_store(f"sqlite:///{tmp_path}/witness.db")) as witness:
        write_heads(tmp_path / "34.json", witness, Identity(FEDERATION, "34"), NOW)
    heads = read_heads(tmp_path / "34.json", OWN)
    missed = []
    for seed, copy in copies(tmp_path):
        with past_the_triggers(copy) as connection:
            rewrite(connection, random.Random(seed))
            mend_references(connection)
            rebuild(connection)
            run(connection, "DELETE FROM audit_checkpoints")
            run(connection, "DELETE FROM audit_cosignatures")
        with closing(open_store(copy)) as store:
            sign(store, key)
        assert verify(copy).findings == (), "in itself it is without a flaw"
        if not verify(copy, heads).findings:
            missed.append(seed)
    tell(f"split, {rewrite.__name__}", missed)
    assert missed == []


def mend_references(connection: Connection) -> None:
    """Let every outcome that names no PENDING row before it name none, as a careful forger would."""
    run(
        connection,
        "UPDATE audit SET concerns = NULL WHERE concerns NOT IN"
        " (SELECT number FROM audit AS before WHERE outcome = 'pending' AND before.number < audit.number)",
    )
    run(
        connection,
        "UPDATE audit SET concerns = NULL WHERE concerns IS NOT NULL AND EXISTS"
        " (SELECT 1 FROM audit AS twin WHERE twin.concerns = audit.concerns AND twin.number < audit.number)",
    )


@pytest.mark.postgres
def test_every_change_in_postgresql_is_found(postgres_server: PostgresServer, tmp_path: Path, key: LogKey) -> None:
    with postgres_server.database() as original:
        build(original, tmp_path, key)
        name = original.split("/")[3].split("?")[0]
        for attack in ATTACKS:
            for seed in range(ATTACKS_PER_KIND["postgresql"]):
                copy = original.replace(name, f"{name}_copy")
                with postgres_server.admin() as admin:
                    admin.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}")
                with past_the_triggers(copy) as connection:
                    attack(connection, random.Random(seed))
                assert verify(copy).findings, f"{attack.__name__} {seed} was not found"
                with postgres_server.admin() as admin:
                    admin.execute(f"DROP DATABASE {name}_copy WITH (FORCE)")


@pytest.mark.parametrize("number", [1, 2, 30, ROWS])
def test_the_first_bad_row_is_named(tmp_path: Path, key: LogKey, number: int) -> None:
    url = f"sqlite:///{tmp_path}/node.db"
    build(url, tmp_path, key)
    with past_the_triggers(url) as connection:
        run(connection, "UPDATE audit SET peer = '51' WHERE number >= :number", number=number)
    assert verify(url).findings[0].row == number


def test_a_row_nobody_could_have_written_is_named(tmp_path: Path, key: LogKey) -> None:
    url = f"sqlite:///{tmp_path}/node.db"
    build(url, tmp_path, key)
    with past_the_triggers(url) as connection:
        run(connection, "UPDATE audit SET at = 'yesterday' WHERE number = 17")
    assert verify(url).findings[0].row == 17


def test_another_history_signed_by_the_logs_own_key_is_found_with_a_witnesss_heads(tmp_path: Path, key: LogKey) -> None:
    build(f"sqlite:///{tmp_path}/node.db", tmp_path, key)
    with closing(open_store(f"sqlite:///{tmp_path}/witness.db")) as witness:
        write_heads(tmp_path / "34.json", witness, Identity(FEDERATION, "34"), NOW)
    heads = read_heads(tmp_path / "34.json", OWN)
    assert verify(f"sqlite:///{tmp_path}/node.db", heads).findings == ()

    # The operator makes up a whole log, and signs it with the true key: in itself it is without a flaw.
    forged = f"sqlite:///{tmp_path}/forged.db"
    with closing(open_store(forged)) as store:
        fill(store, mark="forged-")
        sign(store, key)
    assert verify(forged).findings == ()
    found = verify(forged, heads).findings
    assert [(each.row, "34.json" in each.text, "two histories" in each.text) for each in found] == [(None, True, True)]
    # The same when the forged log is shorter, or longer.
    with past_the_triggers(forged) as connection:
        cut_the_end_off(connection, random.Random(1))
        rebuild(connection)
        run(connection, "DELETE FROM audit_checkpoints")
    with closing(open_store(forged)) as store:
        sign(store, key)
    assert verify(forged).findings == ()
    assert verify(forged, heads).findings


def test_of_two_signed_histories_the_row_is_named_up_to_which_they_are_known_to_be_the_same(
    tmp_path: Path, key: LogKey
) -> None:
    url = f"sqlite:///{tmp_path}/node.db"
    build(url, tmp_path, key)
    with closing(open_store(url)) as store:
        (first,) = store.log.checkpoints()
        fill(store, mark="later-")
        heads = [OtherHead("a witness", each.note) for each in (first, sign(store, key))]
    assert verify(url, heads).findings == ()
    with past_the_triggers(url) as connection:
        run(connection, "UPDATE audit SET peer = '51' WHERE number = :number", number=ROWS + 5)
        rebuild(connection)
        run(connection, "DELETE FROM audit_checkpoints")
        run(connection, "DELETE FROM audit_cosignatures")
    with closing(open_store(url)) as store:
        sign(store, key)
    assert [each.row for each in verify(url, heads).findings] == [ROWS + 1]


def test_two_copies_of_a_log_that_differ_are_found_by_each_other(tmp_path: Path, key: LogKey) -> None:
    for name, mark in (("one", ""), ("two", "other-")):
        with closing(open_store(f"sqlite:///{tmp_path}/{name}.db")) as store:
            fill(store, mark)
            sign(store, key)
            write_log(tmp_path / f"{name}.jsonl", store, OWN, NOW)
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    assert verify_log(read_log(one)).findings == ()
    assert verify_log(read_log(one), read_heads(one, OWN)).findings == ()
    assert verify_log(read_log(one), read_heads(two, OWN)).findings


def test_every_line_of_an_exported_log_counts(tmp_path: Path, key: LogKey) -> None:
    build(f"sqlite:///{tmp_path}/node.db", tmp_path, key)
    path = tmp_path / "log.jsonl"
    with closing(open_store(f"sqlite:///{tmp_path}/node.db")) as store:
        write_log(path, store, OWN, NOW)
    lines = path.read_bytes().splitlines(keepends=True)
    whole = verify_log(read_log(path))
    assert (whole.findings, whole.rows, whole.cosigned) == ((), ROWS, {"34": ROWS})
    chance = random.Random(5)
    for number in range(40):
        place = chance.randrange(1, len(lines) - 1)
        line = lines[place]
        spot = chance.randrange(len(line) - 1)
        changed = line[:spot] + bytes([line[spot] ^ 1]) + line[spot + 1 :]
        tampered = {
            "deleted": lines[:place] + lines[place + 1 :],
            "doubled": [*lines[: place + 1], *lines[place:]],
            "changed": [*lines[:place], changed, *lines[place + 1 :]],
            "cut": lines[:place],
        }
        for kind, left in tampered.items():
            if kind == "doubled" and b'"row"' not in line:
                continue  # a head told twice is the same head
            copy = tmp_path / "copy.jsonl"
            copy.write_bytes(b"".join(left))
            try:
                found = verify_log(read_log(copy)).findings
            except ConfigError:
                continue
            assert found, (kind, number, place, spot)


def test_retention_erases_what_rows_were_about_and_the_log_stays_whole(url: str, tmp_path: Path, key: LogKey) -> None:
    build(url, tmp_path, key)

    def record(count: int, last: int) -> Any:
        return entry(
            at=NOW + timedelta(days=9),
            direction=Direction.OWN,
            peer="33",
            method="retain",
            outcome="erased",
            request_sha256=bytes(32),
            calls=count,
            concerns=last,
        )

    with closing(open_store(url)) as store:
        assert store.log.erasable_before(NOW) == (0, 0)
        assert store.erase_audit(NOW + timedelta(days=1), record) == ROWS
        assert store.erase_audit(NOW + timedelta(days=1), record) == 0
        rows = list(store.log.rows())
    assert {row.entry.case_reference for row in rows[:-1]} == {None}
    assert {row.salts for row in rows[:-1]} == {None}
    assert (rows[-1].entry.calls, rows[-1].entry.concerns) == (ROWS, ROWS)
    verdict = verify(url)
    assert verdict.findings == ()
    assert verdict.erased == ROWS
    if url.startswith("sqlite"):
        for file in tmp_path.glob("node.db*"):
            assert b"case-17" not in file.read_bytes(), file
    # The row of it is the only one that may not be erased.
    with past_the_triggers(url) as connection:
        run(connection, "DELETE FROM audit_erasable WHERE number = :number", number=ROWS + 1)
    assert verify(url).findings[0].row == ROWS + 1
