"""Faults between nodes, made for real: each ends in its own clear refusal, and none of them means "not registered"."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from matching.schema import PERSON_SCHEMA
from node.errors import (
    CertificateExpiredError,
    PeerContractError,
    PeerRefusedError,
    PeerTimeoutError,
    PeerUnreachableError,
)
from node.messages import Answered, Busy, RefusalReason, Refused, Unavailable
from node.pki.authority import Authority
from node.pki.credentials import install_made
from node.pki.intermediate import ProvinceAuthority
from node.pki.keys import new_key
from node.pki.membership import Epoch, EpochState, epoch_check
from node.pki.register import Reason
from node.rpc.client import ASK, HEALTH_CHECK, MAX_RETRIES
from node.rpc.server import NOT_ACCEPTED, OPTIONS, ExchangeServer
from node.rpc.wire import MAX_REQUEST_BYTES, write_answer, write_question
from node.runtime import open_runtime
from node.service import CERTIFICATE_ENDED, DISK_LOW, MAX_QUESTIONS_PER_CALLER, NO_AUDIT
from node.tally import MAX_ROWS
from tests.federation import FEDERATION, Federation, Node, crowd, encoded, header, now, peers_of, until
from tests.raw_calls import Wire, call, channel_of, refused_with, rogue
from tests.wire_values import answered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from node.messages import Answer


@pytest.fixture
def asker(federation: Federation) -> Node:
    return federation.nodes["35"]


@pytest.fixture
def asked(federation: Federation) -> Node:
    """A node of the session: no test may leave it worse than it was."""
    return federation.nodes["33"]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Node]:
    """A node that belongs to the test, with a federation of its own, stopped afterwards."""
    made = Federation(tmp_path)
    node = made.node("35", crowd(100, seed=1))
    yield node
    if node.process is not None:
        node.stop()


def reason_for(asked: Node, refused: tuple[grpc.StatusCode, str]) -> str:
    """Check that a stranger was told what every stranger is; return the reason in the log under its reference."""
    status, text = refused
    assert status is grpc.StatusCode.UNAUTHENTICATED
    told, _, reference = text.partition("; reference ")
    assert told == NOT_ACCEPTED
    lines = [json.loads(line) for line in asked.log.splitlines() if reference in line]
    assert [line["reference"] for line in lines] == [reference]
    return str(lines[0]["reason"])


async def ask(asker: Node, asked: Node, *, deadline_s: float = 20) -> Answer:
    async with peers_of(asker) as peers:
        return await peers.ask(asked.member, encoded(asker), header(), deadline_s=deadline_s)


# --- who may call ---


async def test_caller_without_a_certificate_is_not_let_in(federation: Federation, asked: Node) -> None:
    async with channel_of(federation, asked, as_node=None) as channel:
        status, _ = await refused_with(channel, HEALTH_CHECK, b"")
    assert status is grpc.StatusCode.UNAVAILABLE


async def test_caller_with_a_foreign_certificate_is_not_let_in(
    federation: Federation, asked: Node, tmp_path: Path
) -> None:
    foreign = Federation(tmp_path)  # the same names, another root
    async with channel_of(federation, asked, as_node=foreign.node("35")) as channel:
        status, _ = await refused_with(channel, HEALTH_CHECK, b"")
    assert status is grpc.StatusCode.UNAVAILABLE


async def test_caller_with_an_expired_certificate_is_not_let_in(federation: Federation, asked: Node) -> None:
    late = federation.node("31")
    federation.certify(late, at=now() - timedelta(days=3), days=1)
    async with channel_of(federation, asked, as_node=late) as channel:
        status, _ = await refused_with(channel, HEALTH_CHECK, b"")
    assert status is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(CertificateExpiredError):
        await ask(late, asked)


async def test_nobody_is_asked_again_while_our_own_certificate_has_ended(federation: Federation, asked: Node) -> None:
    """What cannot be asked is no failure of the peer: waits must not grow, and end when the certificate is back."""
    node = federation.node("32")
    federation.certify(node, at=now() - timedelta(days=1, seconds=-6), days=1)
    async with peers_of(node) as peers:
        assert peers.resting() == frozenset()
        await asyncio.sleep(7)
        assert asked.member.code in peers.resting()
        federation.certify(node)
        assert peers.resting() == frozenset()


async def test_caller_of_a_province_that_is_no_member_is_refused(
    federation: Federation, asked: Node, tmp_path: Path
) -> None:
    papua = federation.stranger("94", tmp_path / "94")
    async with channel_of(federation, asked, as_node=papua) as channel:
        for method, data in ((HEALTH_CHECK, b""), (ASK, write_question(header(), encoded(papua)))):
            refused = await refused_with(channel, method, data)
            assert "province 94 of fkd-mpu.test is not a member" in reason_for(asked, refused)


async def test_certificate_that_expires_on_an_open_connection_is_refused_at_the_next_call(
    federation: Federation, asked: Node
) -> None:
    node = federation.node("32")
    federation.certify(node, at=now() - timedelta(days=1, seconds=-6), days=1)
    async with channel_of(federation, asked, as_node=node) as channel:
        await call(channel, HEALTH_CHECK, b"")
        ends_at = now() + timedelta(seconds=6)
        await until(lambda: now() >= ends_at)
        assert "expired" in reason_for(asked, await refused_with(channel, HEALTH_CHECK, b""))


async def test_no_connection_outlives_its_age_and_the_next_call_opens_another(
    own: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backstop: TLS looks at a certificate once per connection."""
    options = dict(OPTIONS)
    assert 0 < options["grpc.max_connection_age_ms"] <= 5 * 60 * 1000
    quick = {**options, "grpc.max_connection_age_ms": 200}
    monkeypatch.setattr("node.rpc.server.OPTIONS", tuple(quick.items()))
    with open_runtime(own.home, now) as runtime:
        server = ExchangeServer(runtime)
        await server.start()
        try:
            async with channel_of(own.federation, own, as_node=own.federation.node("52")) as channel:
                await call(channel, HEALTH_CHECK, b"")
                assert channel.get_state() is grpc.ChannelConnectivity.READY
                await asyncio.wait_for(channel.wait_for_state_change(grpc.ChannelConnectivity.READY), 20)
                await call(channel, HEALTH_CHECK, b"")
        finally:
            await server.stop()


async def test_member_that_is_put_out_is_refused_on_its_open_connection(own: Node) -> None:
    bali = own.federation.node("51")
    with own.running():
        async with peers_of(bali) as peers:
            assert isinstance(await peers.ask(own.member, encoded(bali), header(), deadline_s=20), Answered)
            own.federation.authority.remove("51")
            own.federation.publish()
            own.federation.signing.join(own.home)
            with pytest.raises(PeerRefusedError):
                await peers.ask(own.member, encoded(bali), header(), deadline_s=20)


async def test_who_is_put_out_while_its_question_is_searched_gets_no_answer(own: Node) -> None:
    bali, searched, released = own.federation.node("51"), asyncio.Event(), asyncio.Event()
    with open_runtime(own.home, now) as runtime:
        reply = runtime.service.reply

        async def linger(*given: Any, **named: Any) -> bytes:
            answer = await reply(*given, **named)
            searched.set()
            await released.wait()
            return answer

        runtime.service.reply = linger  # type: ignore[method-assign]
        server = ExchangeServer(runtime)
        await server.start()
        try:
            async with peers_of(bali) as peers:
                asking = asyncio.create_task(peers.ask(own.member, encoded(bali), header(), deadline_s=20))
                await searched.wait()
                own.federation.authority.remove("51")
                own.federation.publish()
                own.federation.signing.join(own.home)
                released.set()
                # Not that it was turned away: its question counts, and the next try must be of the same bytes.
                with pytest.raises(PeerUnreachableError, match="closed before the answer came"):
                    await asking
                with pytest.raises(PeerRefusedError, match=NOT_ACCEPTED):
                    await peers.ask(own.member, encoded(bali), header(), deadline_s=20)
        finally:
            await server.stop()


async def test_every_stranger_hears_the_same_and_the_log_tells_them_apart(own: Node) -> None:
    federation = own.federation
    strangers = {
        "is not a member": federation.stranger("94", federation.root / "94"),
        "was revoked .*: key compromise": federation.node("51"),
        "was revoked .*: ca compromise": federation.node("52"),
        "not issued by an intermediate that the membership lists": federation.node("53"),
    }
    leaf = ProvinceAuthority(federation.nodes["51"].home)
    taken_back = [leaf.revoke_leaf(leaf.register.issued()[-1].serial, Reason.KEY_COMPROMISE, now())]
    listed = federation.authority.publish(now())
    serials = {issued.province: issued.serial for issued in federation.authority.register.issued()}
    taken_back.append(federation.authority.revoke_intermediate(str(serials["52"]), Reason.CA_COMPROMISE, now()))
    members = tuple(replace(each, intermediates=()) if each.code == "53" else each for each in listed.members)
    federation.signing.publish(replace(listed, members=members, revoked=tuple(taken_back)))
    federation.signing.join(own.home)
    with own.running():
        for why, stranger in strangers.items():
            async with channel_of(federation, own, as_node=stranger) as channel:
                assert re.search(why, reason_for(own, await refused_with(channel, HEALTH_CHECK, b"")))


async def test_whoever_is_refused_again_and_again_fills_no_log_and_is_held(own: Node) -> None:
    stranger = own.federation.stranger("94", own.federation.root / "94")
    with own.running():
        async with channel_of(own.federation, own, as_node=stranger) as channel:
            refusals: list[tuple[grpc.StatusCode, str]] = []
            while len(refusals) < MAX_ROWS + 16:
                refusals += await asyncio.gather(*(refused_with(channel, HEALTH_CHECK, b"") for _ in range(8)))
        lines = own.log.count('"event": "call_refused"')
    assert {status for status, _ in refusals} == {grpc.StatusCode.UNAUTHENTICATED}
    assert lines == MAX_ROWS
    assert sum("; reference " in text for _, text in refusals) == MAX_ROWS
    assert {text.partition(";")[0] for _, text in refusals} == {NOT_ACCEPTED}


async def test_address_that_shows_another_provinces_certificate_is_not_asked(
    federation: Federation, asker: Node
) -> None:
    heard: list[bytes] = []

    async def listen(data: bytes) -> bytes:
        heard.append(data)
        return b""

    # A sound certificate of Bali at the address of Lampung.
    bali, lampung = federation.node("51"), federation.nodes["18"]
    async with rogue(federation, bali, listen, at=lampung.address):
        with pytest.raises(PeerUnreachableError):
            await ask(asker, lampung)
    assert heard == []


# --- peers that fail ---


async def test_peer_that_is_down_is_unreachable_and_says_what_to_do(asker: Node, federation: Federation) -> None:
    with pytest.raises(PeerUnreachableError, match="Bali: no connection") as caught:
        await ask(asker, federation.nodes["51"])
    assert caught.value.hint is not None


async def test_mute_peer_times_out_within_the_deadline(asker: Node, federation: Federation) -> None:
    """It accepts the connection and says nothing, not even TLS."""
    node = federation.nodes["52"]
    host, port = node.address.split(":")
    with socket.create_server((host, int(port))), pytest.raises(PeerTimeoutError, match="Nusa Tenggara Barat"):
        await ask(asker, node, deadline_s=1)


async def test_slow_peer_times_out_and_does_not_hold_up_the_others(
    federation: Federation, asker: Node, asked: Node
) -> None:
    slow = federation.node("53")
    released = asyncio.Event()

    async def dawdle(data: bytes) -> bytes:
        await released.wait()
        return data

    async with rogue(federation, slow, dawdle), peers_of(asker) as peers:
        query = encoded(asker)
        waiting = asyncio.create_task(peers.ask(slow.member, query, header(), deadline_s=2))
        quick = await peers.ask(asked.member, query, header(), deadline_s=20)
        assert isinstance(quick, Answered)
        assert not waiting.done()
        with pytest.raises(PeerTimeoutError):
            await waiting
        released.set()


def _answer(data: bytes, *, epoch: int = 1, province: str = "53", digest: bytes | None = None) -> bytes:
    return write_answer(
        answered(),
        schema=PERSON_SCHEMA,
        epoch=epoch,
        province=province,
        request_sha256=digest or hashlib.sha256(data).digest(),
        now=now(),
    ).SerializeToString()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nothing", None),
        ("epoch", "answered by schema .* epoch 2, ours is schema .* epoch 1"),
        ("province", "not the province that was asked"),
        ("digest", "not the question that was asked"),
        ("garbage", "not a message of the contract"),
        ("oversized", "over its limit"),
    ],
)
async def test_answer_that_breaks_the_contract_is_not_believed(
    federation: Federation, asker: Node, fault: str, words: str | None
) -> None:
    peer = federation.node("53")

    async def behave(data: bytes) -> bytes:
        match fault:
            case "epoch":
                return _answer(data, epoch=2)
            case "province":
                return _answer(data, province="36")
            case "digest":
                return _answer(data, digest=bytes(32))
            case "garbage":
                return b"\xff\xff"
            case "oversized":
                return _answer(data) + bytes(128 * 1024)
            case _:
                return _answer(data)

    async with rogue(federation, peer, behave):
        if words is None:
            assert isinstance(await ask(asker, peer), Answered)
        else:
            with pytest.raises(PeerContractError, match=words):
                await ask(asker, peer)


async def test_a_call_that_ends_as_unknown_is_a_broken_connection_and_no_breach_of_the_contract(
    federation: Federation, asker: Node
) -> None:
    peer = federation.node("53")

    async def break_down(data: bytes) -> bytes:
        raise RuntimeError  # gRPC says UNKNOWN, as it does when a stream breaks off

    async with rogue(federation, peer, break_down):
        with pytest.raises(PeerUnreachableError, match="broke before the answer came"):
            await ask(asker, peer)


async def test_peer_of_another_epoch_refuses_and_both_are_named(own: Node) -> None:
    federation = own.federation
    peer = federation.nodes["36"]
    federation.settle(peer)
    secret = "".join(f"{byte:02x}" for byte in range(32))
    epochs = (Epoch(2, epoch_check(bytes.fromhex(secret), 2), EpochState.ACTIVE),)
    federation.authority.set_epochs(lambda _: epochs)
    federation.publish()
    federation.signing.join(peer.home)
    shutil.copy(peer.home.epoch_secret(1), peer.home.epoch_secret(2))
    peer.home.epoch_secret(2).write_text(secret)
    peer.publish(crowd(20, seed=2), epoch=2)
    with peer.running():
        answer = await ask(own, peer)
    assert isinstance(answer, Refused)
    assert answer.reason is RefusalReason.SCHEMA_MISMATCH
    assert "epoch 2" in answer.detail
    assert "epoch 1" in answer.detail
    (entry,) = [entry for entry in peer.audit() if entry.peer == "35"]
    assert entry.outcome == "refused"
    assert entry.key_epoch == 1


@pytest.mark.parametrize(("retries", "expected"), [(MAX_RETRIES, Answered), (0, PeerUnreachableError)])
async def test_question_is_put_again_when_its_connection_breaks(
    asker: Node, asked: Node, monkeypatch: pytest.MonkeyPatch, retries: int, expected: type
) -> None:
    monkeypatch.setattr("node.rpc.client.MAX_RETRIES", retries)
    async with Wire(asked.address) as wire, peers_of(asker) as peers:
        behind = replace(asked.member, address=wire.address)
        await peers.ask(behind, encoded(asker), header(), deadline_s=20)
        wire.cut_at_next_byte = True
        try:
            outcome: object = await peers.ask(behind, encoded(asker), header(), deadline_s=20)
        except PeerUnreachableError as error:
            outcome = error
    assert isinstance(outcome, expected)


async def test_connection_that_never_worked_is_not_tried_twice(asker: Node, asked: Node) -> None:
    async with Wire(asked.address) as wire, peers_of(asker) as peers:
        wire.cut_at_next_byte = True  # as a node does that refuses the handshake
        with pytest.raises(PeerUnreachableError):
            await peers.ask(replace(asked.member, address=wire.address), encoded(asker), header(), deadline_s=20)
        assert wire.connections == 1


async def test_peer_that_is_back_answers_the_very_next_question(own: Node) -> None:
    bali = own.federation.node("51")
    async with peers_of(bali) as peers:
        query = encoded(bali)
        with own.running():
            assert isinstance(await peers.ask(own.member, query, header(), deadline_s=20), Answered)
        for _ in range(8):  # asked for its membership all the while; gRPC's own pause between dials grows meanwhile
            with pytest.raises(PeerUnreachableError):
                await peers.metadata_versions(own.member, deadline_s=20)
            await asyncio.sleep(0.1)
        with own.running():
            assert isinstance(await peers.ask(own.member, query, header(), deadline_s=20), Answered)


# --- messages ---


@pytest.mark.parametrize(
    "data",
    [b"\x0a\xff\xff", b"\xa3\x06" * 600 + b"\xa4\x06" * 600, b"\x00" * 1000],
    ids=["truncated", "600 deep", "zeros"],
)
@pytest.mark.parametrize("method", [ASK, HEALTH_CHECK])
async def test_malformed_message_is_refused_with_a_fixed_text(
    federation: Federation, asker: Node, asked: Node, method: str, data: bytes
) -> None:
    async with channel_of(federation, asked, as_node=asker) as channel:
        status, text = await refused_with(channel, method, data)
    assert (status, text) == (grpc.StatusCode.INVALID_ARGUMENT, "message: not a message of the contract")


async def test_message_over_the_limit_is_refused_unread(federation: Federation, asker: Node, asked: Node) -> None:
    async with channel_of(federation, asked, as_node=asker) as channel:
        status, _ = await refused_with(channel, ASK, bytes(MAX_REQUEST_BYTES + 1))
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
        await call(channel, HEALTH_CHECK, b"")  # and the connection is still good


@pytest.mark.parametrize("timeout_s", [None, 120])
async def test_call_without_a_deadline_of_at_most_60_s_is_refused(
    federation: Federation, asker: Node, asked: Node, timeout_s: float | None
) -> None:
    async with channel_of(federation, asked, as_node=asker) as channel:
        data = write_question(header(), encoded(asker))
        status, text = await refused_with(channel, ASK, data, timeout_s=timeout_s)
    assert (status, text) == (grpc.StatusCode.INVALID_ARGUMENT, "deadline: is required, at most 60 s")


@pytest.mark.parametrize(
    "method", ["/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/List"], ids=["watch", "list"]
)
async def test_method_without_a_row_in_the_policy_is_denied(
    federation: Federation, asker: Node, asked: Node, method: str
) -> None:
    async with channel_of(federation, asked, as_node=asker) as channel:
        status, _ = await refused_with(channel, method, b"")
    assert status is grpc.StatusCode.PERMISSION_DENIED


async def test_reflection_is_off(federation: Federation, asker: Node, asked: Node) -> None:
    async with channel_of(federation, asked, as_node=asker) as channel:
        method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        status, _ = await refused_with(channel, method, b"")
    assert status is grpc.StatusCode.UNIMPLEMENTED


async def test_one_callers_flood_is_told_to_wait_and_others_are_served(own: Node) -> None:
    flooder, patient = own.federation.node("51"), own.federation.node("52")
    # Our own client lets no more than four out at once: a flooder has several.
    async with (
        peers_of(flooder) as one,
        peers_of(flooder) as two,
        peers_of(flooder) as three,
        peers_of(patient) as others,
    ):
        with own.running():
            query = encoded(flooder)
            with _locked(own):  # answers wait for the database, so that questions pile up
                flood = [
                    asyncio.create_task(peers.ask(own.member, query, header(), deadline_s=20))
                    for peers in (one, two, three)
                    for _ in range(MAX_QUESTIONS_PER_CALLER)
                ]
                await until(lambda: sum(task.done() for task in flood) == 2 * MAX_QUESTIONS_PER_CALLER)
                other = asyncio.create_task(others.ask(own.member, encoded(patient), header(), deadline_s=20))
                turned_away = [await task for task in flood if task.done()]
            answers = await asyncio.gather(*flood)
            assert isinstance(await other, Answered)
    assert all(isinstance(answer, Busy) and answer.retry_after_s > 0 for answer in turned_away)
    assert sum(isinstance(answer, Answered) for answer in answers) == MAX_QUESTIONS_PER_CALLER


# --- the node's own ground ---


def test_taken_port_is_one_clear_line(own: Node) -> None:
    host, port = own.address.split(":")
    with socket.create_server((host, int(port))):
        done = own.run("serve")
    assert done.returncode == 75
    assert f"pulang: cannot listen on {own.address}: the port is taken" in done.stderr
    assert done.stdout == ""


def test_second_server_of_one_folder_is_refused(own: Node) -> None:
    with own.running():
        done = own.run("serve")
        assert done.returncode == 75
        assert "is serving" in done.stderr
        assert own.process is not None
        assert own.process.is_running


def test_folder_open_to_others_is_one_clear_line_and_the_port_is_free_again(own: Node) -> None:
    own.home.root.chmod(0o755)
    done = own.run("serve")
    assert done.returncode == 78
    assert f"{own.home.root} is open to other users" in done.stderr
    assert "Traceback" not in done.stderr
    own.home.root.chmod(0o700)
    with own.running():
        assert own.ready_line


@contextmanager
def _locked(node: Node) -> Iterator[None]:
    """Hold the database's write lock, as a backup or a forgotten shell would."""
    with closing(sqlite3.connect(node.home.database)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        yield
        shell.rollback()


async def test_no_answer_leaves_while_the_audit_cannot_be_written(own: Node) -> None:
    bali = own.federation.node("51")
    with own.running():
        with _locked(own):
            assert await ask(bali, own) == Unavailable(NO_AUDIT)
        assert isinstance(await ask(bali, own), Answered), "and it recovers by itself"
        assert [entry.outcome for entry in own.audit()] == ["answered"]


async def test_no_answer_leaves_when_the_database_is_gone(own: Node) -> None:
    bali = own.federation.node("51")
    with own.running():
        own.home.database.unlink()
        assert await ask(bali, own) == Unavailable(NO_AUDIT)
        await _becomes_not_ready(own, bali)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, eight megabytes wide."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0777", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_node_stops_answering_before_its_disk_is_full_and_goes_on_alone(
    small_disk: Path, tmp_path: Path
) -> None:
    federation = Federation(tmp_path)
    own = federation.node("33", crowd(20, seed=1), database_url=f"sqlite:///{small_disk}/node.db", min_free_mib=3)
    bali = federation.node("51")
    with own.running():
        assert isinstance(await ask(bali, own), Answered)
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(6 << 20))
        await _becomes_not_ready(own, bali)
        assert await ask(bali, own) == Unavailable(DISK_LOW)
        status = own.run("status")  # an admin can still look, and is told which disk
        assert f"{small_disk} has " in status.stdout
        ballast.unlink()
        await _becomes_ready(own, bali)
        assert isinstance(await ask(bali, own), Answered)


async def _becomes_ready(node: Node, asker: Node) -> None:
    async with peers_of(asker) as peers, asyncio.timeout(60):
        while not await peers.is_serving(node.member, deadline_s=10.0):  # noqa: ASYNC110 - it changes in another process
            await asyncio.sleep(0.1)


async def _becomes_not_ready(node: Node, asker: Node) -> None:
    async with peers_of(asker) as peers, asyncio.timeout(60):
        while await peers.is_serving(node.member, deadline_s=20):  # noqa: ASYNC110 - it changes in another process
            await asyncio.sleep(0.1)


def test_database_that_is_no_database_is_one_clear_line(own: Node) -> None:
    own.home.database.write_bytes(b"not a database at all" * 100)
    done = own.run("serve")
    assert done.returncode == 74
    assert "the database" in done.stderr.splitlines()[-2]


def test_truncated_index_is_one_clear_line(own: Node) -> None:
    rows = own.home.generations / "g000001" / "rows"
    with rows.open("r+b") as file:
        file.truncate(rows.stat().st_size // 2)
    done = own.run("serve")
    assert done.returncode == 74
    assert "index file rows" in done.stderr
    assert "hint: import the registry again" in done.stderr


def test_index_of_another_epoch_is_one_clear_line(own: Node) -> None:
    secret = own.home.epoch_secret(2)
    shutil.copy(own.home.epoch_secret(1), secret)
    own.build(crowd(100, seed=2), "g000002", epoch=2)
    own.point_at("g000002")
    secret.unlink()
    done = own.run("serve")
    assert done.returncode == 78
    assert "epoch 1" in done.stderr
    assert "epoch 2" in done.stderr
    assert "hint: one version of Pulang and one key epoch" in done.stderr


async def test_damaged_new_generation_leaves_the_old_one_answering(own: Node) -> None:
    bali = own.federation.node("51")
    with own.running():
        damaged = own.build(crowd(200, seed=2), "g000002")
        (damaged / "rows").write_bytes(b"")
        own.point_at("g000002")
        answer = await ask(bali, own)
        assert isinstance(answer, Answered)
        assert answer.evidence.size == 100
        await _becomes_not_ready(own, bali)
        assert "generation g000002 cannot be opened: index file rows" in own.log
        own.build(crowd(300, seed=3), "g000003")
        own.point_at("g000003")
        answer = await ask(bali, own)
        assert isinstance(answer, Answered)
        assert answer.evidence.size == 300


async def test_a_node_whose_own_certificate_has_ended_answers_nobody_and_says_why(own: Node) -> None:
    bali = own.federation.node("51")
    with own.running():
        authority, key, ends_at = ProvinceAuthority(own.home), new_key(), now() + timedelta(seconds=4)
        chain = authority.sign(key.public_key(), ends_at, now())
        own.home.ca.rename(own.home.root / "elsewhere")  # else it would renew by itself
        install_made(own.home, key, chain, now())
        async with peers_of(bali) as peers:
            assert isinstance(await peers.ask(own.member, encoded(bali), header(), deadline_s=20), Answered)
            await until(lambda: now() > ends_at)
            # Over the connection that TLS has looked at, and will not look at again.
            answer = await peers.ask(own.member, encoded(bali), header(), deadline_s=20)
            assert answer == Unavailable(CERTIFICATE_ENDED)


def test_wrong_linkage_secret_is_refused_before_it_finds_nobody(own: Node) -> None:
    federation = own.federation
    other = Authority.found(federation.root / "other", FEDERATION, now())
    shutil.copy(other.epoch_secret(1), own.home.epoch_secret(1))
    done = own.run("serve")
    assert done.returncode == 77
    assert "is not this federation's secret of epoch 1" in done.stderr


def test_expired_certificate_is_said_at_the_start(own: Node) -> None:
    federation = own.federation
    federation.certify(own, at=now() - timedelta(days=3), days=1)
    shutil.rmtree(own.home.ca)  # the province keeps its intermediate elsewhere; else the node would renew by itself
    done = own.run("serve")
    assert done.returncode == 77
    assert "expired" in done.stderr
    assert "hint:" in done.stderr
