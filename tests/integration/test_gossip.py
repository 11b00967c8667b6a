"""Membership metadata between real nodes: what one has published, all have; what nobody signed, nobody takes."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import grpc
import pytest

from node.errors import NodeError, PeerRefusedError, TrustError
from node.gossip import LISTENING_S, UPDATE_DEADLINE_S, Gossip, Reader
from node.messages import Answered
from node.pki.membership import Member
from node.pki.refresh import Mirror
from node.pki.repository import TIMESTAMP, TIMESTAMP_LIFE, Versions, copy_in_use, resign_timestamp
from node.rpc.client import GET_METADATA
from node.rpc.wire import MAX_PART_BYTES, read_part, write_part_request
from node.runtime import open_runtime
from proto.pulang.federation.v1 import federation_pb2
from tests.asking import eventually
from tests.federation import Federation, crowd, encoded, header, now, peers_of, until
from tests.raw_calls import call, channel_of, refused_with, rogue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.federation import Node

POLL_S = 0.3
KEEPER, FIRST, SECOND = "35", "33", "36"  # the keeper's node signs timestamps


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path)
    for code in set(made.nodes) - {KEEPER, FIRST, SECOND, "51"}:
        made.authority.remove(code)
    made.publish()
    for code in (KEEPER, FIRST, SECOND):
        made.node(code, crowd(20, seed=int(code)), membership_poll_s=POLL_S)
    made.signing.hold(made.nodes[KEEPER].home)
    yield made
    made.stop()


def publish_at(node: Node) -> None:
    """Publish the list as it stands on one node only, beside its running process."""
    node.federation.publish()
    Mirror(node.home.tuf).install(node.federation.signing.files, now())


def version(node: Node) -> int:
    return Mirror(node.home.tuf).load().membership.version


async def test_removed_member_is_refused_on_its_open_connection_once_one_node_has_published(
    federation: Federation,
) -> None:
    bali, keeper, second = federation.node("51"), federation.nodes[KEEPER], federation.nodes[SECOND]
    with keeper.running(), second.running():
        async with peers_of(bali) as peers:
            assert isinstance(await peers.ask(second.member, encoded(bali), header(), deadline_s=20), Answered)
            federation.authority.remove("51")
            publish_at(keeper)
            await asyncio.to_thread(eventually, lambda: version(second) == version(keeper))
            with pytest.raises(PeerRefusedError):
                await peers.ask(second.member, encoded(bali), header(), deadline_s=20)


def test_news_comes_by_way_of_others_when_its_publisher_is_down(federation: Federation) -> None:
    keeper, first, second = (federation.nodes[code] for code in (KEEPER, FIRST, SECOND))
    with first.running():
        with keeper.running():
            federation.authority.remove("51")
            publish_at(keeper)
            eventually(lambda: version(first) == version(keeper))
        with second.running():
            eventually(lambda: version(second) == version(keeper))


def test_node_that_was_down_takes_the_newest_list_before_it_opens(federation: Federation) -> None:
    keeper, first = federation.nodes[KEEPER], federation.nodes[FIRST]
    federation.authority.remove("51")
    publish_at(keeper)
    with keeper.running():
        assert version(first) < version(keeper)
        first.start()  # returns when it serves
        assert version(first) == version(keeper)


async def test_node_at_the_end_of_its_list_closes_says_so_and_opens_when_a_new_timestamp_comes(
    federation: Federation,
) -> None:
    keeper, first, bali = federation.nodes[KEEPER], federation.nodes[FIRST], federation.node("51")
    signing = federation.signing
    with first.running():
        ends_at = now() + timedelta(seconds=6)
        timestamp = resign_timestamp(signing.files, signing.holder, ends_at - TIMESTAMP_LIFE)
        signing.files = {**signing.files, TIMESTAMP: timestamp}
        signing.join(first.home)  # and from now on nobody is there to ask
        async with peers_of(bali) as peers:
            assert isinstance(await peers.ask(first.member, encoded(bali), header(), deadline_s=20), Answered)
            await until(lambda: now() >= ends_at)
            with pytest.raises(PeerRefusedError, match="closed until it has a list of members that counts"):
                await peers.ask(first.member, encoded(bali), header(), deadline_s=20)
            shown = await asyncio.to_thread(first.run, "status")
            assert shown.returncode == 69
            assert "problem      membership: the membership of fkd-mpu.test" in shown.stdout
            publish_at(keeper)
            with keeper.running():
                await asyncio.to_thread(eventually, lambda: "membership_updated" in first.log)
            assert isinstance(await peers.ask(first.member, encoded(bali), header(), deadline_s=20), Answered)


def with_old_timestamp(federation: Federation, hours: float) -> None:
    """Let everybody who joins from now on have a timestamp that was signed so long ago."""
    signing = federation.signing
    signed_at = now() - timedelta(hours=hours)
    signing.files = {**signing.files, TIMESTAMP: resign_timestamp(signing.files, signing.holder, signed_at)}
    for code in (KEEPER, FIRST, SECOND):
        Mirror(federation.nodes[code].home.tuf).install(signing.files, signed_at)


async def test_keeper_of_the_timestamp_key_put_back_from_a_backup_takes_the_newest_and_signs_that(
    federation: Federation, tmp_path: Path
) -> None:
    """If it signed its old list first, the new one could not follow: it would carry the same version."""
    keeper, second, bali = federation.nodes[KEEPER], federation.nodes[SECOND], federation.node("51")
    with_old_timestamp(federation, hours=5)
    seen = keeper.home.root / "tuf-seen.json"
    backup = shutil.copytree(keeper.home.tuf, tmp_path / "backup"), seen.read_bytes()
    federation.authority.remove("51")
    publish_at(keeper)
    federation.signing.join(second.home)
    shutil.rmtree(keeper.home.tuf)
    shutil.copytree(backup[0], keeper.home.tuf)
    seen.write_bytes(backup[1])
    with second.running(), keeper.running():
        assert version(keeper) == version(second)
        async with peers_of(bali) as peers:
            with pytest.raises(PeerRefusedError):
                await peers.ask(keeper.member, encoded(bali), header(), deadline_s=20)


def test_keeper_of_the_timestamp_key_signs_nothing_before_it_has_heard_from_somebody(federation: Federation) -> None:
    """And a federation that has closed to the last node opens again by itself, once two of them run."""
    keeper, first = federation.nodes[KEEPER], federation.nodes[FIRST]
    with_old_timestamp(federation, hours=25)
    before = Mirror(keeper.home.tuf).versions()
    with keeper.running():
        time.sleep(4 * POLL_S)
        assert Mirror(keeper.home.tuf).versions() == before
        with first.running():
            eventually(lambda: "membership_updated" in first.log)
            for node in (keeper, first):
                Mirror(node.home.tuf).load().membership.check_validity(now())


def test_members_that_serve_bad_metadata_are_passed_over(federation: Federation) -> None:
    keeper, first, second = (federation.nodes[code] for code in (KEEPER, FIRST, SECOND))
    with keeper.running(), first.running(), second.running():
        path = copy_in_use(first.home.tuf) / TIMESTAMP
        document = json.loads(path.read_bytes())
        document["signed"]["version"] = 2**40  # it claims the newest of all
        path.write_text(json.dumps(document))
        eventually(lambda: "fewer of the known keys" in second.log)
        federation.authority.remove("51")
        publish_at(keeper)
        eventually(lambda: version(second) == version(keeper))
    assert Mirror(second.home.tuf).versions().timestamp < 2**40


async def test_ten_that_refresh_at_once_all_succeed_with_few_calls(federation: Federation) -> None:
    keeper, first = federation.nodes[KEEPER], federation.nodes[FIRST]
    mirrors = []
    for number in range(10):
        mirror = Mirror(federation.root / f"client-{number}" / "tuf")
        federation.signing.install(mirror)
        mirrors.append(mirror)
    federation.authority.remove("51")
    publish_at(keeper)
    with keeper.running():
        async with peers_of(first) as peers:
            readers = [Reader(peers, keeper.member) for _ in mirrors]
            copies = await asyncio.gather(
                *(
                    asyncio.to_thread(mirror.take, reader, now())
                    for mirror, reader in zip(mirrors, readers, strict=True)
                )
            )
    assert all(copy is not None for copy in copies)
    # next root (not there), timestamp, snapshot, targets, members.json
    assert {reader.calls for reader in readers} == {5}


async def test_fetching_endless_data_ends_at_the_limit_and_changes_nothing(federation: Federation) -> None:
    keeper, first = federation.nodes[KEEPER], federation.nodes[FIRST]
    asked = 0

    async def endless(data: bytes) -> bytes:
        nonlocal asked
        asked += 1
        part = federation_pb2.GetMetadataResponse(found=True, content=bytes(MAX_PART_BYTES))
        return part.SerializeToString()

    mirror = Mirror(first.home.tuf)
    before = mirror.files()
    async with rogue(federation, keeper, endless, method=GET_METADATA), peers_of(first) as peers:
        with pytest.raises(TrustError, match="longer than it may be"):
            await asyncio.to_thread(mirror.take, Reader(peers, keeper.member), now())
    assert asked <= 5  # a root has at most 128 KiB
    assert mirror.files() == before


async def test_mute_server_of_metadata_costs_its_deadline_and_no_more(federation: Federation) -> None:
    keeper, first = federation.nodes[KEEPER], federation.nodes[FIRST]

    async def never(data: bytes) -> bytes:
        await asyncio.Event().wait()
        return data

    mirror = Mirror(first.home.tuf)
    async with rogue(federation, keeper, never, method=GET_METADATA), peers_of(first) as peers:
        with pytest.raises(NodeError):
            await asyncio.to_thread(mirror.take, Reader(peers, keeper.member, deadline_s=0.5), now())


async def test_many_in_league_who_never_deliver_do_not_keep_a_round_from_ending(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs its deadline: who publishes meanwhile is heard of in the next round, which must come soon."""
    for number in range(1, 9):
        federation.authority.admit(Member(f"9{number}", f"League {number}", f"127.0.0.1:{number}"))
    publish_at(federation.nodes[FIRST])
    elapsed_s = 0.0

    class Deceived(Gossip):
        async def _versions(self, member: Member) -> Versions | None:
            return Versions(1, 2**40, 1)

        async def _take(self, member: Member) -> bool:
            nonlocal elapsed_s
            elapsed_s += UPDATE_DEADLINE_S
            return False

    monkeypatch.setattr("node.gossip.time", SimpleNamespace(monotonic=lambda: elapsed_s))
    with open_runtime(federation.nodes[FIRST].home, now) as runtime:
        await Deceived(runtime).look_round()
    assert 0 < elapsed_s <= LISTENING_S + UPDATE_DEADLINE_S


async def test_part_over_its_limit_is_refused(federation: Federation) -> None:
    keeper, first = federation.nodes[KEEPER], federation.nodes[FIRST]

    async def much(data: bytes) -> bytes:
        return federation_pb2.GetMetadataResponse(found=True, content=bytes(MAX_PART_BYTES + 1)).SerializeToString()

    async with rogue(federation, keeper, much, method=GET_METADATA), peers_of(first) as peers:
        with pytest.raises(NodeError, match="breaks the contract"):
            await peers.metadata_part(keeper.member, TIMESTAMP, 0, deadline_s=10)


async def test_who_is_no_member_is_given_no_metadata(federation: Federation) -> None:
    keeper = federation.nodes[KEEPER]
    stranger = federation.stranger("94", federation.root / "stranger")
    with keeper.running():
        async with channel_of(federation, keeper, as_node=stranger) as channel:
            status, _ = await refused_with(channel, GET_METADATA, write_part_request(TIMESTAMP, 0))
    assert status is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("file", ["timestamp.key", "../node.toml", "9.root.json"])
async def test_nothing_but_the_repository_is_served(federation: Federation, file: str) -> None:
    keeper, first = federation.nodes[KEEPER], federation.nodes[FIRST]
    with keeper.running():
        async with channel_of(federation, keeper, as_node=first) as channel:
            assert read_part(await call(channel, GET_METADATA, write_part_request(file, 0))) is None
            status, text = await refused_with(channel, GET_METADATA, write_part_request("x" * 300, 0))
    assert (status, text) == (grpc.StatusCode.INVALID_ARGUMENT, "file: must be a file's name")
