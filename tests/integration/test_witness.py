"""Provinces watching each other's audit logs, over real mutual TLS: logs that grow, fork, shrink and begin anew."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from node.checkpoint import Checkpoint, parse_note, parse_signature
from node.errors import PeerRefusedError, PeerUnreachableError
from node.notary import Notary, lag
from node.pki.identity import Identity
from node.pki.logkey import LogKey, load_log_key, verify_cosignature, verify_log_signature
from node.rpc.audit import COSIGN
from node.store import CheckpointRecord, open_store
from node.witness import (
    MAX_LOGS,
    Cosigned,
    CosignRequest,
    NotCosigned,
    NotCosignedReason,
    OtherSize,
    Witness,
    witnesses_of,
)
from tests.federation import FEDERATION, Federation, crowd, now, peers_of
from tests.raw_calls import channel_of, refused_with
from tests.stores import entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from node.store import Store
    from node.witness import CosignReply
    from tests.federation import Node

CODES = ("18", "31", "32", "33", "34", "35", "36", "51", "52", "53")


def name_of(code: str) -> str:
    return f"{Identity(FEDERATION, code).uri}/audit"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Store]:
    """The log of province 33, twelve rows long."""
    store = open_store(f"sqlite:///{tmp_path}/33.db")
    grow(store, 12)
    yield store
    store.close()


@pytest.fixture
def key(tmp_path: Path) -> LogKey:
    return load_log_key(tmp_path / "33" / "log.key", name_of("33"))


@pytest.fixture
def witness_store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/34.db")
    yield store
    store.close()


@pytest.fixture
def witness(tmp_path: Path, witness_store: Store) -> Witness:
    own = load_log_key(tmp_path / "34" / "log.key", name_of("34"))
    return Witness(store=witness_store, key=own, own=Identity(FEDERATION, "34"), members=lambda: CODES, now=now)


def grow(store: Store, rows: int, mark: str = "") -> None:
    for number in range(rows):
        store.record_answer(entry(number, case_reference=f"case-{mark}{number}"))


def request(store: Store, key: LogKey, old_size: int, **changes: object) -> CosignRequest:
    """The log's present head, proven from `old_size`."""
    size, root = store.log.head()
    head = replace(Checkpoint(key.name, size, root, now().replace(microsecond=0)), **changes)  # type: ignore[arg-type]
    proof = store.log.consistency_proof(old_size, size) if old_size <= size else []
    return CosignRequest(key.public, key.sign(head), old_size, tuple(proof))


def test_witnesses_are_the_next_two_members_and_the_last_is_followed_by_the_first() -> None:
    assert witnesses_of("33", CODES) == ("34", "35")
    assert witnesses_of("52", CODES) == ("53", "18")
    assert witnesses_of("53", CODES) == ("18", "31")
    assert witnesses_of("33", ["33", "51"]) == ("51",)
    assert witnesses_of("33", ["33"]) == ()


def test_a_log_that_grows_is_cosigned_and_the_signature_holds(log: Store, key: LogKey, witness: Witness) -> None:
    first = witness.cosign("33", request(log, key, 0))
    assert isinstance(first, Cosigned)
    grow(log, 5)
    again = request(log, key, 12)
    second = witness.cosign("33", again)
    assert isinstance(second, Cosigned)
    line = parse_signature(second.line.removesuffix("\n"))
    assert verify_cosignature(parse_note(again.checkpoint), line, name_of("34"), second.witness_key) > 0


def test_a_witness_that_has_seen_more_says_so(log: Store, key: LogKey, witness: Witness) -> None:
    witness.cosign("33", request(log, key, 0))
    grow(log, 5)
    assert witness.cosign("33", request(log, key, 0)) == OtherSize(12)
    assert witness.cosign("33", request(log, key, 5)) == OtherSize(12)
    assert isinstance(witness.cosign("33", request(log, key, 12)), Cosigned)
    assert isinstance(witness.cosign("33", request(log, key, 12)), Cosigned), "the same head is signed again"


@pytest.mark.parametrize("rows", [12, 20])
def test_a_second_history_is_refused_and_both_heads_are_kept(
    log: Store, key: LogKey, witness: Witness, witness_store: Store, tmp_path: Path, rows: int
) -> None:
    seen = request(log, key, 0)
    witness.cosign("33", seen)
    other = open_store(f"sqlite:///{tmp_path}/other.db")
    grow(other, rows, mark="other-")
    forked = request(other, key, 12)
    other.close()
    assert witness.cosign("33", forked) == NotCosigned(NotCosignedReason.FORK)
    (evidence,) = witness_store.log.forks()
    assert (evidence.province, evidence.seen, evidence.offered) == ("33", seen.checkpoint, forked.checkpoint)
    # Anybody can check it: one key has signed both heads.
    for note in (evidence.seen, evidence.offered):
        verify_log_signature(parse_note(note), key.public)
    # The honest history is still cosigned.
    grow(log, 1)
    assert isinstance(witness.cosign("33", request(log, key, 12)), Cosigned)


def test_a_log_that_has_become_shorter_is_refused(
    log: Store, key: LogKey, witness: Witness, witness_store: Store, tmp_path: Path
) -> None:
    witness.cosign("33", request(log, key, 0))
    late = request(log, key, 0)
    cut = open_store(f"sqlite:///{tmp_path}/cut.db")
    grow(cut, 9)
    later = now().replace(microsecond=0) + timedelta(seconds=60)
    assert witness.cosign("33", request(cut, key, 9, at=later)) == NotCosigned(NotCosignedReason.FORK)
    assert len(witness_store.log.forks()) == 1
    earlier = now().replace(microsecond=0) - timedelta(seconds=60)
    assert witness.cosign("33", request(cut, key, 9, at=earlier)) == OtherSize(12), "a late one is no fork"
    assert isinstance(witness.cosign("33", late), Cosigned)
    cut.close()


def test_what_is_not_the_callers_own_signed_head_or_of_the_future_is_not_cosigned(
    log: Store, key: LogKey, witness: Witness
) -> None:
    good = request(log, key, 0)
    invalid = NotCosigned(NotCosignedReason.INVALID)
    assert witness.cosign("33", replace(good, checkpoint=b"x" + good.checkpoint)) == invalid
    assert witness.cosign("33", replace(good, log_key=bytes(32))) == invalid
    assert witness.cosign("33", replace(good, checkpoint=good.checkpoint.replace(b"\n12\n", b"\n13\n"))) == invalid
    assert witness.cosign("32", good) == invalid, "32 shows the head of 33"
    assert witness.cosign("33", request(log, key, 0, at=now() + timedelta(minutes=6))) == invalid
    assert witness.cosign("36", good) == NotCosigned(NotCosignedReason.NOT_WITNESS)
    assert isinstance(witness.cosign("33", good), Cosigned)


def test_a_head_signed_while_its_witness_was_down_for_a_day_is_cosigned_though_no_row_came_since(
    log: Store, key: LogKey, witness: Witness
) -> None:
    assert isinstance(witness.cosign("33", request(log, key, 0, at=now() - timedelta(days=1))), Cosigned)
    grow(log, 2)
    assert isinstance(witness.cosign("33", request(log, key, 12)), Cosigned)


def test_a_new_key_begins_a_new_log_but_not_without_end(
    log: Store, witness: Witness, witness_store: Store, tmp_path: Path
) -> None:
    for number in range(MAX_LOGS):
        fresh = load_log_key(tmp_path / f"key-{number}", name_of("33"))
        assert isinstance(witness.cosign("33", request(log, fresh, 0)), Cosigned)
    one_more = load_log_key(tmp_path / "one-more", name_of("33"))
    assert witness.cosign("33", request(log, one_more, 0)) == NotCosigned(NotCosignedReason.INVALID)
    assert len(witness_store.log.witnessed()) == MAX_LOGS


def notary(tmp_path: Path, node: Node, store: Store, key: LogKey, asked: list[str]) -> Notary:
    """The notary of a node whose witnesses are reached over real connections."""

    async def ask(code: str, wanted: CosignRequest, deadline_s: float) -> CosignReply:
        asked.append(code)
        async with peers_of(node) as peers:
            return await peers.cosign(node.federation.nodes[code].member, wanted, deadline_s=deadline_s)

    return Notary(
        home=node.home,
        store=store,
        key=key,
        province=node.code,
        members=lambda: CODES,
        name_of=name_of,
        ask=ask,
        before=lambda: None,
        now=now,
    )


async def test_a_missing_witness_delays_and_a_real_fork_is_refused_over_mutual_tls(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    own, first, second = (federation.node(code, crowd(5, seed=int(code))) for code in ("33", "34", "35"))
    key = load_log_key(own.home.log_key, name_of("33"))
    store = open_store(f"sqlite:///{own.home.database}")
    grow(store, 8)
    made = notary(tmp_path, own, store, key, [])
    with first.running():
        await made.round()  # 35 is down
        assert lag(store, key.public).cosigned == {"34": 8}
        with second.running():
            grow(store, 3)
            await made.round()
            assert lag(store, key.public).cosigned == {"34": 11, "35": 11}
            published = parse_note(own.home.audit_checkpoint.read_bytes())
            assert published.checkpoint.size == 11
            assert [line.name for line in published.signatures] == [name_of("33"), name_of("34"), name_of("35")]

            # The node's operator puts another history in place of the one that was seen, and signs it.
            forged = open_store(f"sqlite:///{tmp_path}/forged.db")
            grow(forged, 14, mark="forged-")
            size, root = forged.log.head()
            at = now().replace(microsecond=0)
            note = key.sign(Checkpoint(key.name, size, root, at))
            proof = tuple(forged.log.consistency_proof(11, size))
            async with peers_of(own) as peers:
                for witness_node in (first, second):
                    wanted = CosignRequest(key.public, note, 11, proof)
                    reply = await peers.cosign(witness_node.member, wanted, deadline_s=20)
                    assert reply == NotCosigned(NotCosignedReason.FORK)
            forged.close()
        kept = open_store(f"sqlite:///{first.home.database}")
        assert [(fork.province, fork.offered) for fork in kept.log.forks()] == [("33", note)]
        kept.close()
    assert "witnessed_log_forks" in first.log
    assert CheckpointRecord(key.public, 11, *_root_and_time(own)) == store.log.newest_checkpoint(key.public)
    with pytest.raises(PeerUnreachableError):
        async with peers_of(own) as peers:
            await peers.cosign(second.member, CosignRequest(key.public, note, 11, proof), deadline_s=5)
    store.close()


def _root_and_time(node: Node) -> tuple[bytes, datetime, bytes]:
    data = node.home.audit_checkpoint.read_bytes()
    head = parse_note(data).checkpoint
    return head.root, head.at, data[: data.index(b"\n", data.index("\u2014".encode())) + 1]


async def test_cosigning_is_for_members_and_its_limits_hold(federation: Federation) -> None:
    own, asked = federation.nodes["35"], federation.nodes["36"]
    async with peers_of(own) as peers:
        with pytest.raises(Exception, match="log_key"):
            await peers.cosign(asked.member, CosignRequest(b"short", b"x", 0, ()), deadline_s=20)
        with pytest.raises(Exception, match="consistency_proof"):
            await peers.cosign(asked.member, CosignRequest(bytes(32), b"x", 0, (b"short",)), deadline_s=20)
        reply = await peers.cosign(asked.member, CosignRequest(bytes(32), b"x", 0, (bytes(32),) * 64), deadline_s=20)
        assert reply == NotCosigned(NotCosignedReason.INVALID)
    async with channel_of(federation, asked, as_node=own) as channel:
        assert (await refused_with(channel, COSIGN, b"\xff\xff"))[1] == "message: not a message of the contract"
    stranger = federation.stranger("94", federation.root / "stranger")
    async with peers_of(stranger) as peers:
        with pytest.raises(PeerRefusedError):
            await peers.cosign(asked.member, CosignRequest(bytes(32), b"x", 0, ()), deadline_s=20)
