"""Memory of one answering node over very many questions of all other provinces: flat, or what it grows by."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.member import encoder_of, header, member_of, peers_of
from benchmarks.populations import TODAY
from matching.errors import FieldValueError
from node.errors import ConfigError, PeerError
from node.messages import Answered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.demo import DemoFolder, DemoPlan
    from matching.question import Client, EncodedQuery
    from node.home import NodeHome
    from node.rpc.client import Peers

AT_ONCE: Final = 2  # questions of each peer
SAMPLES: Final = 100
WARM_UP: Final = 0.05  # share of the questions after which memory is first looked at: pools and caches are full by then
DEADLINE_S: Final = 30.0


@dataclass(frozen=True)
class Memory:
    """Resident memory of the node that was asked, bytes, after so many questions each; mapped files apart.

    asked, own, mapped: one each per sample. others: questions that were not answered, by what came of them.
    """

    asked: tuple[int, ...]
    own: tuple[int, ...]
    mapped: tuple[int, ...]
    others: dict[str, int]

    @property
    def first(self) -> int:
        """The node's own memory when it was first looked at."""
        return self.own[0]

    @property
    def last(self) -> int:
        """The same at the end."""
        return self.own[-1]

    @property
    def slope(self) -> float:
        """Bytes a question, by least squares over the second half."""
        half = len(self.asked) // 2
        return float(np.polyfit(self.asked[half:], self.own[half:], 1)[0])


def measure(
    folder: DemoFolder, plan: DemoPlan, pid: int, questions: int, progress: Callable[[int], None] = lambda _: None
) -> Memory:
    """Ask the first node of a demo, which runs as `pid`, `questions` different questions of all the others.

    Ctrl-C ends it with what has been seen, once memory has been looked at.
    """
    return asyncio.run(_measure(folder, plan, pid, questions, progress))


async def _measure(
    folder: DemoFolder, plan: DemoPlan, pid: int, questions: int, progress: Callable[[int], None]
) -> Memory:
    asked_code, *codes = plan.provinces
    begin, step = round(questions * WARM_UP), max(1, round(questions * (1 - WARM_UP) / SAMPLES))
    samples: list[tuple[int, int, int]] = []
    done, others = 0, Counter[str]()
    queries = _queries(folder, plan, folder.home(codes[0]))

    async with AsyncExitStack() as stack:
        every = [await stack.enter_async_context(peers_of(folder.home(code))) for code in codes]
        member = member_of(folder.home(codes[0]), asked_code)
        left = iter(range(questions))

        async def ask(peers: Peers) -> None:
            nonlocal done
            for _ in left:  # one iterator for all: each takes the next
                try:
                    answer = await peers.ask(member, next(queries), header(DEADLINE_S), deadline_s=DEADLINE_S)
                    if not isinstance(answer, Answered):
                        others[type(answer).__name__] += 1
                except PeerError as error:
                    others[type(error).__name__] += 1
                done += 1
                progress(1)
                if done >= begin and (done - begin) % step == 0:
                    samples.append((done, *_resident(pid)))

        try:
            await asyncio.gather(*(ask(peers) for peers in every for _ in range(AT_ONCE)))
        except asyncio.CancelledError:  # Ctrl-C: what has been seen is kept
            if not samples:
                raise
    asked, own, mapped = zip(*samples, strict=True)
    return Memory(asked, own, mapped, dict(others))


def _queries(folder: DemoFolder, plan: DemoPlan, home: NodeHome) -> Iterator[EncodedQuery]:
    """Yield encoded questions, no two alike: the demo's clients, with other years of birth when they come again."""
    clients = [each.client for each in folder.pool_clients(plan)]
    if not clients:
        raise ConfigError(f"{folder.root} has no clients", hint="make the demo again")
    encoder = encoder_of(home)
    for number, client in enumerate(itertools.cycle(clients)):
        try:
            yield encoder.encode(_varied(client, number // len(clients)), TODAY)
        except FieldValueError:  # a client without a usable name cannot be asked about
            continue


def _varied(client: Client, round_: int) -> Client:
    return client if round_ == 0 else replace(client, born=str(1930 + round_ % 80))


def _resident(pid: int) -> tuple[int, int]:
    """Return a process's resident bytes: its own, and those of mapped files (proc(5): RssAnon, RssFile)."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = dict(re.findall(r"^(RssAnon|RssFile):\s+(\d+) kB$", text, re.MULTILINE))
    return int(found["RssAnon"]) * 1024, int(found["RssFile"]) * 1024
