"""Answering inside one node: a real index, a real database, no network."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from matching.encoding import encode_client
from matching.question import Client
from matching.weights import load_model
from node.budget import Budgets
from node.generation import Generations
from node.guard import Guard
from node.messages import Answered, Busy, NeedMore, ReceivedQuestion, RefusalReason, Refused, Unavailable
from node.policy import POLICY, Method
from node.service import MAX_QUESTIONS_PER_CALLER, NO_AUDIT, STOPPING, AnsweringService
from node.store import Store, open_store
from node.tally import MAX_ROWS
from tests.federation import Federation, crowd, encoded, header, now, outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.federation import Node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    return Federation(tmp_path_factory.mktemp("answering")).node("35", crowd(2000, seed=35))


@pytest.fixture
def generations(node: Node) -> Iterator[Generations]:
    opened = Generations(node.home, lambda: {1: node.keys()})
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "node.db"


@pytest.fixture
def store(database: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{database}")
    yield opened
    opened.close()


@pytest.fixture
def service(generations: Generations, store: Store) -> Iterator[AnsweringService]:
    guard = Guard(store, Budgets(), b"k" * 32, "35", now)
    made = AnsweringService(generations=generations, model=load_model(), store=store, guard=guard, now=now, threads=2)
    yield made
    made.close()


def question(node: Node, **changes: Any) -> ReceivedQuestion:
    return ReceivedQuestion(bytes(32), header(**changes), node.keys().identity, encoded(node))


async def test_answer_and_audit_name_one_question(node: Node, service: AnsweringService, store: Store) -> None:
    asked = question(node, case_reference="K-one")
    answer = await service.answer("33", asked, time_left_s=20)
    assert isinstance(answer, Answered)
    (entry,) = outcomes(store)
    assert (entry.outcome, entry.case_reference, entry.generation) == ("answered", "K-one", "g000001")
    assert entry.duration_ms is not None
    for handle in answer.handles:
        record = store.resolve_handle(handle.handle, now())
        assert record is not None
        assert record.record_id.startswith("R35-")


async def test_initials_alone_are_not_answered(node: Node, service: AnsweringService, store: Store) -> None:
    initials = encode_client(Client("A. B.", "L", "1958-04-03", "Kebumen"), node.keys(), now().date())
    asked = ReceivedQuestion(bytes(32), header(), node.keys().identity, initials)
    assert await service.answer("33", asked, time_left_s=20) == NeedMore(("name",))
    assert [entry.outcome for entry in outcomes(store)] == ["need_more"]


async def test_search_stops_at_the_deadline_and_the_audit_says_so(
    node: Node, service: AnsweringService, store: Store
) -> None:
    with pytest.raises(TimeoutError):
        await service.answer("33", question(node), time_left_s=0)
    assert [entry.outcome for entry in outcomes(store)] == ["timed_out"]


async def test_question_whose_asker_hung_up_while_it_waited_is_not_searched(
    node: Node, service: AnsweringService, store: Store, database: Path
) -> None:
    with closing(sqlite3.connect(database)) as shell:
        shell.execute("BEGIN IMMEDIATE")  # both threads now wait to write their audit, and the third for a thread
        served = [asyncio.create_task(service.answer(code, question(node), time_left_s=20)) for code in ("33", "36")]
        waiting = asyncio.create_task(service.answer("51", question(node), time_left_s=20))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        shell.rollback()
    await asyncio.gather(*served)
    assert waiting.cancelled()
    assert sorted(entry.peer for entry in outcomes(store)) == ["33", "36"]


async def test_purpose_without_a_row_is_refused_and_audited(
    node: Node, service: AnsweringService, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(POLICY, Method.ASK, frozenset())
    answer = await service.answer("33", question(node), time_left_s=20)
    assert isinstance(answer, Refused)
    assert answer.reason is RefusalReason.NOT_ALLOWED
    (entry,) = outcomes(store)
    assert (entry.outcome, entry.purpose) == ("refused", "return_home")
    assert entry.reason is not None
    assert entry.reason.startswith("not_allowed")


async def test_question_without_a_readable_header_is_refused_and_audited(
    service: AnsweringService, store: Store
) -> None:
    refused = Refused(RefusalReason.MALFORMED, "nonce: must be 16 bytes")
    answer = await service.answer("33", ReceivedQuestion(bytes(32), None, None, refused), time_left_s=20)
    assert answer == refused
    (entry,) = outcomes(store)
    assert (entry.peer, entry.purpose, entry.nonce, entry.outcome) == ("33", "unknown", None, "refused")


async def test_fifth_question_of_a_caller_waits_its_turn_and_a_turn_comes_back(
    node: Node, service: AnsweringService, database: Path
) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # no audit row can be written, so no question can end, until it is let go
        asked = [
            asyncio.create_task(service.answer("33", question(node), time_left_s=20))
            for _ in range(MAX_QUESTIONS_PER_CALLER)
        ]
        await asyncio.sleep(0)
        assert isinstance(await service.answer("33", question(node), time_left_s=20), Busy)
        asked.append(asyncio.create_task(service.answer("36", question(node), time_left_s=20)))
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
    assert {type(answer) for answer in await asyncio.gather(*asked)} == {Answered}
    assert isinstance(await service.answer("33", question(node), time_left_s=20), Answered)


async def test_who_goes_on_after_sixty_refusals_a_minute_is_held_and_nobody_else(
    node: Node, service: AnsweringService, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Refused(RefusalReason.MALFORMED, "nonce: must be 16 bytes")
    broken = ReceivedQuestion(bytes(32), None, None, refused)
    for _ in range(MAX_ROWS):
        assert await service.answer("33", broken, time_left_s=20) == refused
    monkeypatch.setattr("node.service.HELD_S", 3600.0)
    held = asyncio.create_task(service.answer("33", broken, time_left_s=7200))
    assert await service.answer("36", broken, time_left_s=20) == refused
    assert isinstance(await service.answer("33", question(node), time_left_s=20), Answered), "a question is no refusal"
    service.record_tally()
    assert await service.answer("33", broken, time_left_s=20) == refused, "another minute"
    assert not held.done()
    held.cancel()


async def test_who_hangs_up_sixty_times_a_minute_is_told_to_wait_for_the_next(
    node: Node, service: AnsweringService, store: Store
) -> None:
    asked = question(node)
    for _ in range(MAX_ROWS):
        with pytest.raises(TimeoutError):
            await service.answer("33", asked, time_left_s=0)
    assert isinstance(await service.answer("33", asked, time_left_s=20), Busy)
    assert isinstance(await service.answer("36", question(node), time_left_s=20), Answered)
    rows = len(store.audit_entries())
    service.record_tally()
    assert isinstance(await service.answer("33", asked, time_left_s=20), Answered), "another minute"
    assert len(store.audit_entries()) == rows + 3, "one for all that waited, two for the answer"


async def test_who_hangs_up_before_its_turn_has_hung_up_as_well(
    node: Node, service: AnsweringService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.turns.AT_A_RUN", -(10**9))  # the first turn comes in years
    for _ in range(MAX_ROWS):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(service.answer("33", question(node), time_left_s=20), 0.001)
    monkeypatch.undo()
    assert isinstance(await service.answer("33", question(node), time_left_s=20), Busy)
    assert isinstance(await service.answer("36", question(node), time_left_s=20), Answered)


async def test_nothing_is_answered_once_the_database_is_gone(
    node: Node, service: AnsweringService, database: Path
) -> None:
    await asyncio.to_thread(database.unlink)
    assert await service.answer("33", question(node), time_left_s=20) == Unavailable(NO_AUDIT)


async def test_stopping_service_says_so(node: Node, service: AnsweringService) -> None:
    service.close()
    assert await service.answer("33", question(node), time_left_s=20) == Unavailable(STOPPING)
    # The place it took is free again: the limit counts what is running.
    for _ in range(MAX_QUESTIONS_PER_CALLER + 1):
        assert await service.answer("33", question(node), time_left_s=20) == Unavailable(STOPPING)


def test_old_generation_stays_open_until_its_last_search_is_done(node: Node, generations: Generations) -> None:
    with generations.lease() as old:
        assert old is not None
        if not (node.home.generations / "g000002").exists():
            node.build(crowd(10, seed=2), "g000002")
        node.point_at("g000002")
        with generations.lease() as new:
            assert new is not None
            assert new.index.size == 10
        assert old.index.record_id(0) == "R35-00000", "still open for the search that holds it"
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever a closed index raises
        old.index.record_id(0)
    node.point_at("g000001")


def test_generations_share_what_is_not_replaced(generations: Generations) -> None:
    with generations.lease() as one, generations.lease() as other:
        assert one is other
        assert one is not None
        assert one.leases == 2
    assert one.leases == 0
