# ruff: noqa: F811 - fixtures are imported, and asked for by their names
"""Budgets and nonces on both databases: exact at their edge, whoever else asks, and kept through restarts."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import random
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from matching.question import Client
from node.budget import Budgets, Scope, day_of
from node.errors import QueryBudgetError
from node.rpc.client import ASK
from node.rpc.wire import write_question
from node.store import Admission, Claim, Reply, Store, Throttle, open_store
from proto.pulang.exchange.v1 import exchange_pb2
from tests.federation import Federation, crowd, encoded, header
from tests.postgres import postgres_server  # noqa: F401 - the fixture
from tests.raw_calls import call, channel_of
from tests.stores import NOW, entry, rows, store, url  # noqa: F401 - fixtures among them

if TYPE_CHECKING:
    from pathlib import Path


LEASE = timedelta(seconds=60)
SMALL = Budgets(
    peer_per_day=5, peer_per_month=7, operator_per_day=4, operator_per_month=6, case_per_day=3, case_per_month=3
)

# Asks `count` new questions, each under a case and an operator of its own, and prints how many were admitted.
ASKER = """
import sys
from tests.integration.test_budgets import claim, tries
from node.budget import Budgets
from node.store import open_store
url, name, count, limit = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = open_store(url, wait_s=60)
print(tries(store, Budgets(peer_per_day=limit), [claim(f"{name}-{i}") for i in range(count)]))
"""


def digest(word: str) -> bytes:
    return hashlib.sha256(word.encode()).digest()


def claim(word: str, **changes: Any) -> Claim:
    """A question of its own words, nonce, case and operator, unless said otherwise."""
    values: dict[str, Any] = {
        "peer": "33",
        "operator_pseudonym": digest("operator" + word)[:16],
        "case_reference": word,
        "nonce": digest("nonce" + word)[:16],
        "request_sha256": digest("request" + word),
        "content": digest("content" + word),
        "at": NOW,
    }
    values |= changes
    return Claim(**{"lease_until": values["at"] + LEASE, **values})


def tries(store: Store, budgets: Budgets, claims: list[Claim]) -> int:
    """Return how many of these questions are admitted."""
    admitted = 0
    for each in claims:
        try:
            admitted += store.admit(each, budgets).admission is Admission.FRESH
        except QueryBudgetError:
            continue
    return admitted


def spent(store: Store, scope: Scope) -> int:
    return sum(sum(each.by_day.values()) for each in store.spent() if each.scope == scope)


def test_a_hundred_at_once_at_the_budgets_edge_get_exactly_the_budget(store: Store, url: str) -> None:
    opened = open_store(url, wait_s=60)
    with ThreadPoolExecutor(100) as threads:
        asked = [threads.submit(tries, opened, Budgets(peer_per_day=37), [claim(str(i))]) for i in range(100)]
    assert sum(each.result() for each in asked) == 37
    assert spent(opened, Scope.PEER) == 37
    opened.close()


def test_four_processes_at_the_budgets_edge_get_exactly_the_budget(url: str) -> None:
    open_store(url).close()
    askers = [
        subprocess.Popen([sys.executable, "-c", ASKER, url, name, "25", "37"], stdout=subprocess.PIPE, text=True)
        for name in "abcd"
    ]
    told = [asker.communicate(timeout=300)[0] for asker in askers]
    assert sum(map(int, told)) == 37
    store = open_store(url)
    assert spent(store, Scope.PEER) == 37
    store.close()


async def test_a_hundred_calls_at_once_at_the_budgets_edge_get_exactly_the_budget(url: str, tmp_path: Path) -> None:
    """Over mutual TLS, at a node's process; who is told to wait, or has no stream, calls again with the same bytes."""
    federation = Federation(tmp_path)
    asked = federation.node("33", crowd(20, seed=1), database_url=url, budgets=Budgets(peer_per_day=37))
    asker = federation.node("35")
    questions = [
        write_question(
            header(case_reference=f"K-{number}", operator_pseudonym=digest(str(number))[:16], timeout_s=60),
            encoded(asker, Client(name=person["name"], born=person["birth_date"], mother_name=person["mother_name"])),
        )
        for number, person in enumerate(crowd(100, seed=2))
    ]

    async def answered(channel: grpc.aio.Channel, data: bytes) -> str:
        while True:
            with suppress(grpc.aio.AioRpcError):  # a slow machine resets streams beyond its limit: never read, or asked
                response = exchange_pb2.AskResponse.FromString(await call(channel, ASK, data))
                if (came := response.WhichOneof("outcome")) != "busy":
                    return came or ""
            await asyncio.sleep(random.uniform(0, 0.3))

    with asked.running():
        async with AsyncExitStack() as stack:
            open_one = functools.partial(channel_of, federation, asked, as_node=asker)
            channels = [await stack.enter_async_context(open_one()) for _ in range(10)]
            calls = [answered(channels[number % 10], data) for number, data in enumerate(questions)]
            came = Counter(await asyncio.wait_for(asyncio.gather(*calls), timeout=120))
    assert came == {"answered": 37, "refused": 63}
    store = open_store(url)
    assert spent(store, Scope.PEER) == 37
    assert sum(entry.outcome == "answered" for entry in store.audit_entries()) == 37
    store.close()


def test_every_scope_has_its_own_budget(store: Store) -> None:
    one = digest("one")[:16]
    assert tries(store, SMALL, [claim(f"a{i}", case_reference="K-1") for i in range(5)]) == 3
    assert tries(store, SMALL, [claim(f"b{i}", operator_pseudonym=one, peer="51") for i in range(5)]) == 4
    assert tries(store, SMALL, [claim(f"c{i}", peer="52") for i in range(6)]) == 5
    assert tries(store, SMALL, [claim("d", peer="53")]) == 1, "another peer's budget is its own"


def test_a_refused_question_costs_nothing(store: Store) -> None:
    assert tries(store, SMALL, [claim(f"a{i}", case_reference="K-1") for i in range(9)]) == 3
    assert spent(store, Scope.PEER) == 3


def test_what_was_asked_is_counted_after_a_restart(url: str) -> None:
    first = open_store(url)
    assert tries(first, SMALL, [claim(f"a{i}") for i in range(6)]) == 5
    first.close()
    second = open_store(url)
    assert tries(second, SMALL, [claim("b")]) == 0
    assert tries(second, SMALL, [claim(f"c{i}", at=NOW + timedelta(days=1)) for i in range(5)]) == 2, "the month's rest"
    second.close()


def test_a_clock_moved_back_refills_nothing(store: Store) -> None:
    assert tries(store, SMALL, [claim(f"a{i}") for i in range(5)]) == 5
    for days in (1, 2, 40):
        assert tries(store, SMALL, [claim(f"b{days}", at=NOW - timedelta(days=days))]) == 0
    assert tries(store, SMALL, [claim("c")]) == 0


def test_the_same_words_again_cost_a_repeat_and_nothing_new(store: Store) -> None:
    words = digest("the same words")
    budgets = Budgets(peer_per_day=1, repeats_per_day=2)
    admissions = [store.admit(claim(f"a{i}", content=words), budgets).admission for i in range(3)]
    assert admissions == [Admission.FRESH, Admission.REPEAT, Admission.REPEAT]
    with pytest.raises(QueryBudgetError):
        store.admit(claim("a3", content=words), budgets)
    assert (spent(store, Scope.PEER), spent(store, Scope.REPEAT)) == (1, 2)


def test_words_of_long_ago_are_new_again(store: Store) -> None:
    words = digest("the same words")
    store.admit(claim("a", content=words), Budgets())
    later = claim("b", content=words, at=NOW + timedelta(days=91))
    assert store.admit(later, Budgets()).admission is Admission.FRESH


def test_the_same_bytes_again_are_debited_once(store: Store) -> None:
    asked = claim("a")
    assert store.admit(asked, Budgets()).admission is Admission.FRESH
    assert store.admit(asked, Budgets()).admission is Admission.IN_PROGRESS
    store.record_answer(entry(), reply=Reply("33", asked.nonce, b"sealed"))
    again = store.admit(asked, Budgets())
    assert (again.admission, again.reply) == (Admission.ANSWERED, b"sealed")
    assert spent(store, Scope.PEER) == 1


def test_a_question_that_was_never_answered_may_be_asked_again_in_the_same_bytes(store: Store) -> None:
    asked, lost = claim("a"), claim("b")
    store.admit(asked, Budgets())
    store.record_answer(entry(), reply=Reply("33", asked.nonce, None))  # our fault, or its deadline
    assert store.admit(asked, Budgets()).admission is Admission.AGAIN
    store.admit(lost, Budgets())  # and then the process was killed
    at = NOW + LEASE
    assert store.admit(claim("b", at=at), Budgets()).admission is Admission.AGAIN
    assert spent(store, Scope.PEER) == 2


def test_after_a_start_what_nobody_computes_any_more_is_asked_again_at_once_and_at_no_cost(store: Store) -> None:
    assert store.admit(claim("a"), Budgets()).admission is Admission.FRESH
    spent = store.spent("33")
    assert store.admit(claim("a"), Budgets()).admission is Admission.IN_PROGRESS
    store.resolve_interrupted(NOW)  # as a node does that was killed
    assert store.admit(claim("a"), Budgets()).admission is Admission.AGAIN
    assert store.spent("33") == spent


def test_other_bytes_under_a_used_nonce_are_refused_also_after_a_restart(url: str) -> None:
    first = open_store(url)
    nonce = first.admit(claim("a"), Budgets()) and claim("a").nonce
    first.close()
    second = open_store(url)
    assert second.admit(claim("b", nonce=nonce), Budgets()).admission is Admission.NONCE_REUSED
    assert second.admit(claim("c", nonce=nonce, peer="51"), Budgets()).admission is Admission.FRESH, "another caller's"
    assert spent(second, Scope.PEER) == 2
    second.close()


def test_a_hundred_copies_at_once_are_debited_once(store: Store, url: str) -> None:
    opened = open_store(url, wait_s=60)
    with ThreadPoolExecutor(50) as threads:
        admissions = list(threads.map(lambda _: opened.admit(claim("a"), Budgets()).admission, range(100)))
    assert admissions.count(Admission.FRESH) == 1
    assert admissions.count(Admission.IN_PROGRESS) == 99
    assert spent(opened, Scope.PEER) == 1
    opened.close()


def test_kept_answers_are_forgotten_after_a_quarter_of_an_hour(store: Store, url: str) -> None:
    store.admit(claim("a"), Budgets())
    store.record_answer(entry(), reply=Reply("33", claim("a").nonce, b"sealed"))
    store.forget(NOW + timedelta(minutes=14))
    assert rows(url, "SELECT count(*) FROM nonces WHERE reply IS NOT NULL") == [(1,)]
    store.forget(NOW + timedelta(minutes=16))
    assert rows(url, "SELECT count(*) FROM nonces WHERE reply IS NOT NULL") == [(0,)]
    assert rows(url, "SELECT count(*) FROM nonces") == [(1,)], "their nonces are not"


def test_old_days_nonces_and_contents_are_forgotten_once_newer_ones_have_come(store: Store, url: str) -> None:
    later = NOW + timedelta(days=100)
    store.admit(claim("a"), Budgets())
    store.admit(claim("b", at=later), Budgets())
    store.forget(later)
    assert {day for (day,) in rows(url, "SELECT day FROM spendings")} == {day_of(later)}
    assert rows(url, "SELECT (SELECT count(*) FROM nonces), (SELECT count(*) FROM contents)") == [(1, 1)]


def test_a_clock_that_jumps_ahead_and_back_refills_nothing(store: Store) -> None:
    assert tries(store, SMALL, [claim(f"a{i}") for i in range(5)]) == 5
    store.forget(NOW + timedelta(days=4000))
    assert tries(store, SMALL, [claim("b")]) == 0
    assert store.admit(claim("a0"), SMALL).admission is Admission.IN_PROGRESS, "its nonce is known as well"


def test_a_throttled_operator_gets_a_few_and_others_their_own(store: Store) -> None:
    one = digest("one")[:16]
    assert store.throttle(Throttle("33", one, "burst", 40, NOW), entry())
    assert not store.throttle(Throttle("33", one, "burst", 41, NOW), entry()), "held back for this already"
    budgets = Budgets(throttled_per_day=2)
    assert tries(store, budgets, [claim(f"a{i}", operator_pseudonym=one) for i in range(5)]) == 2
    assert tries(store, budgets, [claim(f"b{i}") for i in range(5)]) == 5
    assert [each.outcome for each in store.audit_entries()] == ["answered"]


def test_a_throttled_peer_gets_a_few_until_a_person_releases_it(store: Store) -> None:
    store.throttle(Throttle("33", None, "burst", 40, NOW), entry())
    budgets = Budgets(throttled_per_day=2)
    assert tries(store, budgets, [claim(f"a{i}") for i in range(5)]) == 2
    assert store.release("33", entry(outcome="released"), by="ani") == 1
    assert store.throttles() == ()
    assert tries(store, budgets, [claim(f"b{i}") for i in range(5)]) == 5
    assert store.release("33", entry(outcome="released"), by="ani") == 0, "and a second time is nothing"
    assert [each.outcome for each in store.audit_entries()] == ["answered", "released"]


def test_what_a_person_gives_back_can_be_asked_again_and_is_audited(store: Store) -> None:
    assert tries(store, SMALL, [claim(f"a{i}", case_reference="K-1") for i in range(4)]) == 3
    assert store.give_back("33", entry(outcome="given back"), scope=Scope.CASE, holder="K-1") == 3
    assert tries(store, SMALL, [claim(f"b{i}", case_reference="K-1") for i in range(4)]) == 2, "the peer's own rest"
    assert [each.outcome for each in store.audit_entries()] == ["given back"]
