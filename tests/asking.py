"""Three provinces to ask: in one process with whatever faults a test wants, or as real nodes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from matching.encoding import QueryEncoder
from matching.index import Column, EncodedIndex, IndexBuilder, RecordBatch
from matching.keys import FieldKeys
from matching.places import PROVINCES
from matching.schema import PERSON_SCHEMA
from matching.search import search
from matching.weights import load_model
from node.findings import Concluded, Heard
from node.messages import Answer, Answered, Handle, Purpose
from node.query import Desk, Inquiry, find_home
from tests.federation import JOKO, JOKO_AS_SAID, Federation, Node, crowd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path
    from subprocess import CompletedProcess

    from matching.question import Client
    from node.findings import Finding
    from node.query import Question
    from tests.federation import Person

KEYS = FieldKeys.derive(bytes(range(32)), PERSON_SCHEMA, 1)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
REGISTERED: dict[str, list[Person]] = {
    "33": [*crowd(400, seed=33), JOKO],
    "35": crowd(300, seed=35),
    "36": crowd(200, seed=36),
}


def build_registries(root: Path) -> dict[str, EncodedIndex]:
    return {code: build_registry(root / code, persons) for code, persons in REGISTERED.items()}


def build_registry(folder: Path, persons: Sequence[Person]) -> EncodedIndex:
    builder = IndexBuilder(folder, KEYS)
    columns = {}
    for name in PERSON_SCHEMA.field_names:
        values: list[str | None] = [person.get(name) for person in persons]
        columns[name] = Column(values, np.arange(len(values), dtype=np.int32))
    builder.add(RecordBatch([person["record_id"] for person in persons], columns))
    builder.finish(NOON, len(persons))
    return EncodedIndex.open(folder, PERSON_SCHEMA.fingerprint, 1)


@dataclass
class World:
    """Three provinces that a test can break. asked, opened, reworded, closed: what the desk saw, in order.

    generation: of a province's registry, 1 where nothing else is said.
    """

    registries: dict[str, EncodedIndex]
    faults: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, Question]] = field(default_factory=list)
    opened: list[tuple[Question, list[str]]] = field(default_factory=list)
    reworded: list[tuple[Question, Question, str]] = field(default_factory=list)
    closed: list[tuple[Question, Concluded]] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    generation: dict[str, int] = field(default_factory=dict)

    def desk(self, **changes: Any) -> Desk:
        made = Desk(
            province="35",
            members=lambda: {code: PROVINCES[code] for code in self.registries},
            encoders=lambda: (QueryEncoder(KEYS),),
            model=load_model(),
            ask=self._ask,
            opened=self._open,
            again=self._again,
            closed=self._close,
            now=lambda: NOON,
        )
        return replace(made, **changes)

    async def _ask(self, code: str, question: Question, time_left_s: float) -> Answer:
        self.asked.append((code, question))
        async with self.news:
            self.news.notify_all()
        if code in self.faults:
            fault: Answer = await self.faults[code](time_left_s)
            return fault
        return await self.answer(code, question)

    async def until_asked(self, questions: int) -> None:
        """Return once so many questions have been put to a province."""
        async with asyncio.timeout(60), self.news:
            await self.news.wait_for(lambda: len({question.header.nonce for _, question in self.asked}) >= questions)

    async def answer(self, code: str, question: Question) -> Answered:
        """Search one registry, faults or not."""
        result = await asyncio.to_thread(search, self.registries[code], question.query, load_model())
        handles = (Handle(bytes([place]) * 16, index) for place, (index, _) in enumerate(result.candidates))
        return Answered(result.evidence, tuple(handles), self.generation.get(code, 1))

    async def _open(self, question: Question, provinces: Collection[str]) -> None:
        self.opened.append((question, list(provinces)))

    async def _again(self, question: Question, other: Question, code: str) -> None:
        self.reworded.append((question, other, code))

    async def _close(self, question: Question, concluded: Concluded, _: Mapping[str, Answered]) -> None:
        self.closed.append((question, concluded))


def inquiry(client: Client = JOKO_AS_SAID, *, timeout_s: float = 20.0, case: str | None = None) -> Inquiry:
    return Inquiry(client, Purpose.SELF_TEST, b"o" * 16, timeout_s, case)


async def events_of(asked: Inquiry, desk: Desk) -> list[Finding]:
    async with aclosing(find_home(asked, desk)) as findings:
        return [finding async for finding in findings]


async def outcome_of(desk: Desk, asked: Inquiry | None = None) -> Concluded:
    concluded = (await events_of(asked or inquiry(), desk))[-1]
    assert isinstance(concluded, Concluded)
    return concluded


def heard_of(concluded: Concluded, code: str) -> Heard:
    return next(heard for heard in concluded.heard if heard.code == code)


def failing(error: Exception) -> Callable[[float], Awaitable[Answer]]:
    """Return a province that fails in this way."""

    async def fail(_: float) -> Answer:
        raise error

    return fail


def saying(answer: Answer) -> Callable[[float], Awaitable[Answer]]:
    """Return a province that gives this answer."""

    async def say(_: float) -> Answer:
        return answer

    return say


async def mute(_: float) -> Answer:
    """Be a province that never answers, whatever time it is given."""
    await asyncio.Event().wait()
    raise AssertionError


@contextmanager
def three_provinces(root: Path) -> Iterator[Federation]:
    """Run a federation of three members only, so that all of them can answer."""
    made = Federation(root)
    for code in set(made.nodes) - set(REGISTERED):
        made.authority.remove(code)
    made.publish()
    for code, persons in REGISTERED.items():
        made.node(code, persons)
    members = [made.nodes[code] for code in REGISTERED]
    with ThreadPoolExecutor(len(members)) as together:
        try:
            list(together.map(Node.start, members))
            yield made
        finally:
            list(together.map(Node.stop, [node for node in members if node.process is not None]))


def find(node: Node, *arguments: str, stdin: str | None = None, **settings: Any) -> CompletedProcess[str]:
    """Run `pulang find` at a node, as a caseworker would."""
    return subprocess.run(
        command(node, *arguments),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
        **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
        **settings,
    )


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what a process brings about."""
    ends_at = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < ends_at, "it never came about"
        time.sleep(0.05)


def command(node: Node, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "node.cli.main", "find", "--home", str(node.home.root), *arguments]


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PULANG_")} | {"COLUMNS": "80"}
