"""The order of writes around an answer: PENDING before the search, its outcome before the answer, whatever happens."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from matching.search import search
from matching.weights import load_model
from node import service as service_module
from node.budget import Budgets
from node.errors import StoreError
from node.generation import Generations
from node.guard import Guard
from node.messages import Answered, Busy, ReceivedQuestion, RefusalReason, Refused, Unavailable
from node.service import BUSY, FAILED, MAX_QUESTIONS_PER_CALLER, NO_AUDIT, AnsweringService
from node.store import PENDING, Store, open_store
from node.store.store import INTERRUPTED
from node.tally import MAX_ROWS
from tests.federation import Federation, crowd, encoded, header, now
from tests.stores import entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.federation import Node

REFUSED = Refused(RefusalReason.MALFORMED, "nonce: must be 16 bytes")

# Answers one question from the home given in argv, and dies by kill -9 inside the search.
KILLED_IN_SEARCH = """
import asyncio, os, signal, sys
from pathlib import Path
from node import service
from node.home import NodeHome
from node.messages import ReceivedQuestion
from node.runtime import open_runtime
from tests.federation import JOKO_AS_SAID, header, now
from matching.encoding import encode_client
service.search = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
with open_runtime(NodeHome(Path(sys.argv[1])), now) as runtime:
    query = encode_client(JOKO_AS_SAID, runtime.keyring.active, now().date())
    question = ReceivedQuestion(bytes(32), header(case_reference="K-killed"), runtime.keyring.active.identity, query)
    asyncio.run(runtime.service.answer("33", question, time_left_s=60))
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    return Federation(tmp_path_factory.mktemp("pending")).node("35", crowd(200, seed=35))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/node.db", wait_s=0.5)
    yield opened
    opened.close()


@pytest.fixture
def service(node: Node, store: Store) -> Iterator[AnsweringService]:
    generations = Generations(node.home, lambda: {1: node.keys()})
    generations.open()
    guard = Guard(store, Budgets(), b"k" * 32, "35", now)
    made = AnsweringService(generations=generations, model=load_model(), store=store, guard=guard, now=now, threads=2)
    yield made
    made.close()
    generations.close()


def question(node: Node, **changes: Any) -> ReceivedQuestion:
    return ReceivedQuestion(bytes(32), header(**changes), node.keys().identity, encoded(node))


async def test_the_pending_row_is_committed_before_the_search_and_its_outcome_names_it(
    node: Node, service: AnsweringService, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def watched(*arguments: Any, **named: Any) -> Any:
        seen.extend(entry.outcome for entry in store.audit_entries())
        return search(*arguments, **named)

    monkeypatch.setattr(service_module, "search", watched)
    answer = await service.answer("33", question(node), time_left_s=20)
    assert isinstance(answer, Answered)
    assert seen == [PENDING]
    pending, outcome = store.audit_entries()
    assert (outcome.outcome, outcome.concerns) == ("answered", pending.number)
    assert outcome.handles_given == len(answer.handles)


async def test_nothing_is_searched_when_the_pending_row_cannot_be_written(
    node: Node, service: AnsweringService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[object] = []
    monkeypatch.setattr(service_module, "search", lambda *_, **__: searched.append(1))
    with closing(sqlite3.connect(tmp_path / "node.db", isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        assert await service.answer("33", question(node), time_left_s=20) == Unavailable(NO_AUDIT)
    assert searched == []


async def test_no_answer_leaves_when_its_outcome_cannot_be_written(
    node: Node, service: AnsweringService, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "node.db", isolation_level=None, check_same_thread=False)) as shell:

        def locked(*arguments: Any, **named: Any) -> Any:
            shell.execute("BEGIN IMMEDIATE")  # after the PENDING row
            return search(*arguments, **named)

        monkeypatch.setattr(service_module, "search", locked)
        assert await service.answer("33", question(node), time_left_s=20) == Unavailable(NO_AUDIT)
    assert [entry.outcome for entry in store.audit_entries()] == [PENDING]


async def test_a_bug_inside_the_search_leaves_an_outcome(
    node: Node, service: AnsweringService, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("CANARY")

    monkeypatch.setattr(service_module, "search", broken)
    with pytest.raises(ZeroDivisionError):
        await service.answer("33", question(node), time_left_s=20)
    pending, outcome = store.audit_entries()
    assert (outcome.outcome, outcome.concerns, outcome.reason) == (FAILED, pending.number, None)


async def test_a_flood_of_refusals_is_counted_in_few_rows_and_none_is_lost(
    service: AnsweringService, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "HELD_S", 0.0)
    flood = MAX_ROWS + 40
    for _ in range(flood):
        assert await service.answer("33", ReceivedQuestion(bytes(32), None, None, REFUSED), time_left_s=20) == REFUSED
    assert len(store.audit_entries()) == MAX_ROWS
    service.record_tally()
    entries = store.audit_entries()
    assert len(entries) == MAX_ROWS + 1
    assert sum(entry.calls for entry in entries) == flood
    assert (entries[-1].peer, entries[-1].outcome, entries[-1].calls) == ("33", "refused", 40)
    service.record_tally()
    assert len(store.audit_entries()) == MAX_ROWS + 1


async def test_calls_told_to_wait_are_counted_in_one_row(
    node: Node, service: AnsweringService, store: Store, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "node.db", isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        asked = [
            asyncio.create_task(service.answer("33", question(node), time_left_s=20))
            for _ in range(MAX_QUESTIONS_PER_CALLER)
        ]
        await asyncio.sleep(0)
        for _ in range(3):
            assert isinstance(await service.answer("33", question(node), time_left_s=20), Busy)
        shell.execute("ROLLBACK")
    await asyncio.gather(*asked)
    service.record_tally()
    (busy,) = [entry for entry in store.audit_entries() if entry.outcome == BUSY]
    assert (busy.peer, busy.calls) == ("33", 3)


def test_a_second_outcome_of_one_question_is_refused(store: Store) -> None:
    number = store.record_pending(entry(outcome=PENDING))
    store.record_answer(replace(entry(), concerns=number))
    with pytest.raises(StoreError):
        store.record_answer(replace(entry(), concerns=number))


def test_kill_9_inside_the_search_leaves_a_pending_row_that_the_next_start_resolves(tmp_path: Path) -> None:
    node = Federation(tmp_path).node("35", crowd(50, seed=35))
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_SEARCH, str(node.home.root)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert node.audit() == []
    with node.running():
        (outcome,) = node.audit()
    assert (outcome.outcome, outcome.concerns, outcome.case_reference) == (INTERRUPTED, 1, "K-killed")
    with node.running():
        assert len(node.audit()) == 1, "resolved a second time"
