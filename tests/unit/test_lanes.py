"""Calls beside questions: a few at a time, one caller not in another's way, very many ever slower."""

from __future__ import annotations

import asyncio

import pytest

from node.errors import AccessDeniedError
from node.lanes import AT_ONCE, MAX_WAITING, MINUTE_S, QUICK_PER_MINUTE, Lanes


async def test_one_callers_calls_wait_for_each_other_and_nobody_elses_do() -> None:
    lanes, gate, inside = Lanes(), asyncio.Event(), list[str]()

    async def call(caller: str) -> None:
        async with lanes.of(caller):
            inside.append(caller)
            await gate.wait()

    flood = [asyncio.create_task(call("33")) for _ in range(AT_ONCE + MAX_WAITING)]
    await asyncio.sleep(0)
    assert inside == ["33"] * AT_ONCE
    other = asyncio.create_task(call("35"))
    await asyncio.sleep(0)
    assert inside[-1] == "35"
    with pytest.raises(AccessDeniedError, match="too many"):
        await call("33")
    gate.set()
    await asyncio.gather(*flood, other)
    assert inside.count("33") == AT_ONCE + MAX_WAITING
    await asyncio.create_task(call("33"))


async def test_who_calls_more_than_anybody_needs_is_held_until_the_minute_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 0.0
    lanes = Lanes(lambda: clock)
    monkeypatch.setattr("node.lanes.HELD_S", 3600.0)

    async def call(caller: str) -> None:
        async with lanes.of(caller):
            pass

    for _ in range(QUICK_PER_MINUTE):
        await call("33")
    held = asyncio.create_task(call("33"))
    await call("35")
    clock = MINUTE_S
    await call("33")
    assert not held.done()
    held.cancel()


async def test_a_call_that_is_given_up_while_it_waits_leaves_its_place() -> None:
    lanes, gate = Lanes(), asyncio.Event()

    async def call() -> None:
        async with lanes.of("33"):
            await gate.wait()

    running = [asyncio.create_task(call()) for _ in range(AT_ONCE)]
    for _ in range(3 * MAX_WAITING):
        waiting = asyncio.create_task(call())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    gate.set()
    await asyncio.gather(*running)
