"""Certificates change under running questions, and nobody who asks notices."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import psutil

from node.local_client import call_node
from node.messages import Answered
from node.pki.credentials import load_credentials
from node.pki.intermediate import ProvinceAuthority
from node.pki.register import Reason
from node.pki.renewal import renew
from tests.federation import crowd, encoded, header, now, peers_of, until

if TYPE_CHECKING:
    from tests.federation import Federation, Node

ASKERS = 3


def serial(node: Node) -> str:
    return ProvinceAuthority(node.home).register.issued()[-1].serial


async def test_leaves_of_both_ends_roll_under_questions_and_no_call_fails(federation: Federation) -> None:
    asker, asked = federation.node("51"), federation.node("34", crowd(50, seed=34))
    answered = 0
    with asked.running():
        async with peers_of(asker) as peers:
            done = asyncio.Event()

            async def keep_asking() -> None:
                nonlocal answered
                while not done.is_set():
                    answer = await peers.ask(asked.member, encoded(asker), header(), deadline_s=20)
                    assert isinstance(answer, Answered)
                    answered += 1

            askers = [asyncio.create_task(keep_asking()) for _ in range(ASKERS)]
            serials = {serial(asker), serial(asked)}
            for _ in range(3):
                for node in (asked, asker):
                    before = answered
                    await until(lambda before=before: answered >= before + 2 * ASKERS)  # type: ignore[misc]
                    await asyncio.to_thread(renew, node.home, now())
                    serials.add(serial(node))
            last = answered
            await until(lambda: answered >= last + 2 * ASKERS)
            done.set()
            await asyncio.gather(*askers)  # raises what any call raised
            shown = await peers.standing(asked.member, deadline_s=20)
            assert shown.serial == serial(asker)  # what the asked one sees of us is the newest
            await until(lambda: connections_to(asked) == 1)  # those of the leaves before are drained and closed
        assert len(serials) == 8


def connections_to(node: Node) -> int:
    port = int(node.address.rpartition(":")[2])
    return sum(each.raddr[1:] == (port,) for each in psutil.Process().net_connections("tcp"))


async def test_a_running_node_renews_its_leaf_by_itself(federation: Federation) -> None:
    node = federation.node("32", crowd(50, seed=32))
    federation.certify(node, at=now() - timedelta(days=6))  # of seven: due since the day before yesterday
    with node.running():
        assert load_credentials(node.home, now()).not_after > now() + timedelta(days=6)
        due = serial(node)
        ProvinceAuthority(node.home).revoke_leaf(due, Reason.KEY_COMPROMISE, now())
        await until(lambda: serial(node) != due)
        async with peers_of(federation.nodes["35"]) as peers:
            assert await peers.is_serving(node.member, deadline_s=20)
    assert "certificate_renewed" in node.log


async def test_credentials_that_cannot_be_loaded_leave_the_last_good_ones_in_use_and_say_so(
    federation: Federation,
) -> None:
    node, asker = federation.nodes["36"], federation.nodes["35"]
    slot = node.home.pki / "current.pem"
    sound = slot.read_bytes()

    def problem() -> str | None:
        probes = call_node(node.home, "readiness")["probes"]
        return next(
            (str(each["problem"]) for each in probes if each["name"] == "certificate" and each["problem"]), None
        )

    try:
        slot.write_bytes(sound[: len(sound) // 2])
        async with peers_of(asker) as peers:  # a new connection: what the server shows is the last good one
            await until(lambda: problem() is not None)
            assert isinstance(await peers.ask(node.member, encoded(asker), header(), deadline_s=20), Answered)
        assert f"credentials: {slot}" in str(problem())
        assert "reload_failed" in node.log
    finally:
        slot.write_bytes(sound)
    await until(lambda: problem() is None)
