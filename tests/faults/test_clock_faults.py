"""A node whose clock is off, among others whose clocks are right: it is refused, it notices, and it says so."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from node.diagnosis import State, diagnose
from node.local_client import call_node
from node.messages import Answered, RefusalReason, Refused, Unavailable
from node.service import CLOCK_OFF
from tests.asking import eventually
from tests.federation import Federation, crowd, encoded, header, now, peers_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from tests.federation import Node

POLL_S = 0.3
OFF, RIGHT = "33", ("35", "36")


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Three members; 35 and 36 run with the right time."""
    made = Federation(tmp_path_factory.mktemp("clocks"))
    for code in set(made.nodes) - {OFF, *RIGHT}:
        made.authority.remove(code)
    made.publish()
    for code in (OFF, *RIGHT):
        made.node(code, crowd(20, seed=int(code)), membership_poll_s=POLL_S)
    for code in RIGHT:
        made.nodes[code].launch()
    for code in RIGHT:
        made.nodes[code].wait_until_ready()
    yield made
    made.stop()


def probe(node: Node, name: str) -> dict[str, Any]:
    """What the running node itself finds."""
    probes: list[dict[str, Any]] = call_node(node.home, "readiness")["probes"]
    return next(each for each in probes if each["name"] == name)


async def test_45_s_are_noticed_everywhere_and_stop_nothing(federation: Federation) -> None:
    off, right = federation.nodes[OFF], federation.nodes[RIGHT[0]]
    with off.running(clock_off_s=45):
        await asyncio.to_thread(eventually, lambda: probe(off, "clock")["note"] is not None)
        assert "45 s ahead of those of 2 of 2 provinces" in probe(off, "clock")["note"]
        assert probe(off, "clock")["problem"] is None
        await asyncio.to_thread(eventually, lambda: probe(right, "clock")["note"] is not None)
        assert probe(right, "clock")["note"] == "clocks of others differ: province 33: 45 s ahead of ours"
        async with peers_of(right) as peers:
            assert isinstance(await peers.ask(off.member, encoded(right), header(), deadline_s=20), Answered)
        steps = {step.name: step for step in await diagnose(right.home, OFF, now)}
    assert steps["clock"].state is State.WARNING
    assert 44 < steps["clock"].facts["offset_s"] < 46


async def test_ten_minutes_fast_closes_the_node_until_the_clock_is_set(federation: Federation) -> None:
    off, right = federation.nodes[OFF], federation.nodes[RIGHT[0]]
    with off.running(clock_off_s=600):
        await asyncio.to_thread(eventually, lambda: probe(off, "clock")["problem"] is not None)
        assert "600 s ahead of those of 2 of 2 provinces: set it (NTP)" in probe(off, "clock")["problem"]
        shown = off.run("status")
        assert shown.returncode == 69
        assert "problem      clock: this machine's clock is 600 s ahead" in shown.stdout
        async with peers_of(right) as peers:

            async def answer() -> object:
                return await peers.ask(off.member, encoded(right), header(), deadline_s=20)

            # What it would have refused for the other's clock, it now knows to be its own.
            while isinstance(said := await answer(), Refused):
                assert said.reason is RefusalReason.CLOCK
            assert said == Unavailable(CLOCK_OFF)
        steps = {step.name: step for step in await diagnose(right.home, OFF, now)}
    assert steps["clock"].state is State.FAILED
    with off.running():
        async with peers_of(right) as peers:
            assert isinstance(await peers.ask(off.member, encoded(right), header(), deadline_s=20), Answered)


async def test_ten_minutes_slow_closes_the_node_over_its_list_of_the_future(federation: Federation) -> None:
    """A fresh list is dated after its clock: it believes nobody, and says which machine to look at."""
    off, right = federation.nodes[OFF], federation.nodes[RIGHT[0]]
    federation.certify(off, at=now() - timedelta(hours=1))
    federation.publish()
    federation.signing.join(off.home)
    with off.running(clock_off_s=-600):
        await asyncio.to_thread(eventually, lambda: probe(off, "clock")["problem"] is not None)
        assert "600 s behind those of 2 of 2 provinces" in probe(off, "clock")["problem"]
        assert "in the future" in probe(off, "membership")["problem"]
        steps = {step.name: step for step in await diagnose(right.home, OFF, now)}
    assert steps["call"].state is State.FAILED


def test_ten_minutes_slow_with_a_fresh_certificate_does_not_start_and_names_the_clock(federation: Federation) -> None:
    off = federation.nodes[OFF]
    federation.certify(off)
    done = subprocess.run(
        [sys.executable, "-m", "tests.shifted", "-600", "node", "serve", "--home", str(off.home.root)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 77
    assert "is not valid before" in done.stderr
    assert "hint: compare this machine's clock with the time of day" in done.stderr


@pytest.mark.parametrize("seconds", [600, -600])
async def test_whose_clock_is_ten_minutes_off_is_refused_by_everybody_else(
    federation: Federation, seconds: int
) -> None:
    off, right = federation.nodes[OFF], federation.nodes[RIGHT[0]]
    asked_at: datetime = now() + timedelta(seconds=seconds)
    question = header(issued_at=asked_at, deadline=asked_at + timedelta(seconds=20))
    async with peers_of(off) as peers:
        said = await peers.ask(right.member, encoded(off), question, deadline_s=20)
    assert isinstance(said, Refused)
    assert said.reason is RefusalReason.CLOCK
