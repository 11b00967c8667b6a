"""The fault campaign in its short form: each fault once between three real nodes; and its checker shown to fail."""

from __future__ import annotations

import random
import signal
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.demo import FEDERATION
from benchmarks.faults.books import Books
from benchmarks.faults.campaign import Outcome, choose, run_quickly
from benchmarks.faults.catalogue import FAULTS, Stage
from benchmarks.faults.invariants import (
    BUDGET,
    DOUBLED,
    FALSE_NONE,
    HEAD,
    KINDS,
    LOST,
    PROMISE,
    UNAUDITED,
    WRONG,
    Ledger,
    Scene,
    check,
)
from benchmarks.faults.world import ASKER, HOME, THIRD, World, is_right

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What other tests make by themselves already, or what takes long because a node looks only every so often.
ELSEWHERE = {
    "answers-late",
    "certificate-ended",
    "clock-behind",
    "clock-whole",
    "database-locked",
    "disk-full",
    "disk-low",
    "generation-torn",
    "import-killed",
    "member-revoked",
    "membership-ended",
    "membership-forged",
    "peer-down",
    "peer-stopped",
    "postgres-stopped",
    "registry-reencoded",
    "start-dies-add_checkpoint",
    "wire-slow",
}
SHORT = [fault.name for fault in FAULTS if fault.name not in ELSEWHERE]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("campaign") / "world", seed=7, persons=300) as made:
        yield made


def test_no_fault_breaks_an_invariant_and_every_node_recovers(world: World) -> None:
    outcomes = list(run_quickly(world, choose(SHORT)))
    assert [outcome.name for outcome in outcomes] == [*SHORT, "at the end"]
    assert {outcome.name: outcome.violations for outcome in outcomes if outcome.violations} == {}
    assert all(outcome.recovered_s for outcome in outcomes[:-1])
    assert outcomes[-1].questions > 2 * sum(fault.ways for fault in choose(SHORT))


# --- the checker can fail ---


@pytest.fixture(scope="module")
def sound(world: World) -> Scene:
    """Three questions that nothing disturbed, as everybody has them on record."""
    world.renew()
    for planted in world.clients[:3]:
        assert is_right(world.ask(planted))
    world.restart_all()
    books = world.books()
    return Scene(FEDERATION, books, books, world.ledger, at_rest=True)


Tables = dict[str, dict[str, list[dict[str, Any]]]]  # code -> table -> rows


def home_is_another(tables: Tables, ledger: Ledger) -> None:
    tables[ASKER]["questions"][0]["province"] = THIRD


def shown_home_is_another(tables: Tables, ledger: Ledger) -> None:
    first = ledger.asked[0]
    assert first.concluded is not None
    ledger.asked[0] = replace(first, concluded=replace(first.concluded, province=THIRD))


def shown_as_not_registered(tables: Tables, ledger: Ledger) -> None:
    first = ledger.asked[0]
    assert first.concluded is not None
    ledger.asked[0] = replace(first, concluded=replace(first.concluded, outcome="not_registered", province=None))


def none_while_somebody_is_silent(tables: Tables, ledger: Ledger) -> None:
    tables[ASKER]["questions"][0] |= {"outcome": "not_registered", "province": None}
    tables[ASKER]["question_provinces"][0]["answered_at"] = None


def question_is_gone(tables: Tables, ledger: Ledger) -> None:
    gone = tables[ASKER]["questions"].pop(0)["question_id"]
    rows = tables[ASKER]["question_provinces"]
    tables[ASKER]["question_provinces"] = [row for row in rows if row["question_id"] != gone]


def answer_is_taken_back(tables: Tables, ledger: Ledger) -> None:
    row = tables[ASKER]["question_provinces"][0]
    cases = {each["question_id"]: each["case_reference"] for each in tables[ASKER]["questions"]}
    ledger.answered.add((cases[row["question_id"]], row["province"]))
    row["answered_at"] = None


def try_without_a_row(tables: Tables, ledger: Ledger) -> None:
    tables[ASKER]["question_provinces"][0]["attempts"] += 1


def question_stands_twice(tables: Tables, ledger: Ledger) -> None:
    tables[ASKER]["questions"].append(tables[ASKER]["questions"][0] | {"question_id": "00" * 16})


def answered_twice(tables: Tables, ledger: Ledger) -> None:
    tables[HOME]["audit"].append(answer_row(tables) | {"number": len(tables[HOME]["audit"]) + 1})


def answer_without_a_row(tables: Tables, ledger: Ledger) -> None:
    tables[HOME]["audit"].remove(answer_row(tables))


def answer_without_its_pending_row(tables: Tables, ledger: Ledger) -> None:
    answer_row(tables)["concerns"] = None


def asked_without_a_row(tables: Tables, ledger: Ledger) -> None:
    answered = answer_row(tables)["request_sha256"]
    rows = tables[ASKER]["audit"]
    rows[:] = [row for row in rows if (row["outcome"], row["request_sha256"]) != ("sent", answered)]


def handle_nobody_has_on_record(tables: Tables, ledger: Ledger) -> None:
    tables[HOME]["handles"].pop()


def row_was_changed(tables: Tables, ledger: Ledger) -> None:
    tables[HOME]["audit"][0]["purpose"] = "return_home"


def pending_row_nobody_resolved(tables: Tables, ledger: Ledger) -> None:
    answer_row(tables)["outcome"] = "none at all"
    answer_row_of = tables[HOME]["audit"]
    answer_row_of[:] = [row for row in answer_row_of if row["outcome"] != "none at all"]


def debited_twice(tables: Tables, ledger: Ledger) -> None:
    tables[HOME]["spendings"][0]["used"] += 1


def not_debited(tables: Tables, ledger: Ledger) -> None:
    tables[HOME]["spendings"].clear()


def claimed_and_not_searched(tables: Tables, ledger: Ledger) -> None:
    tables[HOME]["nonces"].pop()


def answer_row(tables: Tables) -> dict[str, Any]:
    return next(row for row in tables[HOME]["audit"] if (row["outcome"], row["peer"]) == ("answered", ASKER))


@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        (WRONG, home_is_another),
        (WRONG, shown_home_is_another),
        (FALSE_NONE, shown_as_not_registered),
        (FALSE_NONE, none_while_somebody_is_silent),
        (LOST, question_is_gone),
        (LOST, answer_is_taken_back),
        (LOST, try_without_a_row),
        (DOUBLED, question_stands_twice),
        (DOUBLED, answered_twice),
        (UNAUDITED, answer_without_a_row),
        (UNAUDITED, answer_without_its_pending_row),
        (UNAUDITED, asked_without_a_row),
        (UNAUDITED, handle_nobody_has_on_record),
        (HEAD, row_was_changed),
        (HEAD, pending_row_nobody_resolved),
        (BUDGET, debited_twice),
        (BUDGET, not_debited),
        (BUDGET, claimed_and_not_searched),
    ],
    ids=lambda each: each.__name__ if callable(each) else each,
)
def test_a_planted_violation_is_reported_as_what_it_is(
    sound: Scene, kind: str, plant: Callable[[Tables, Ledger], None]
) -> None:
    assert check(sound) == []
    tables = {code: deepcopy(dict(books.tables)) for code, books in sound.after.items()}
    ledger = deepcopy(sound.ledger)
    plant(tables, ledger)
    books = {code: Books(code, each) for code, each in tables.items()}
    assert kind in {violation.kind for violation in check(replace(sound, before=books, after=books, ledger=ledger))}


def test_a_promise_that_is_not_kept_and_a_node_that_does_not_come_back_are_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave_it_dead(stage: Stage) -> None:
        stage.promise(kept=False, text="planted")
        stage.world.kill(HOME, signal.SIGKILL)
        stage.over()

    monkeypatch.setattr(World, "recovered", lambda *_, **__: None)  # it would wait for minutes
    fault = replace(choose(["peer-killed"])[0], inject=leave_it_dead)
    outcome, _ = run_quickly(world, [fault])
    assert [violation.kind for _, violation in outcome.violations] == [PROMISE, PROMISE]
    assert outcome.counts[PROMISE] == 2
    assert set(outcome.as_json()["counts"]) == set(KINDS)
    assert set(world.running()) == {HOME, ASKER, THIRD}  # it was started for whatever comes next


def test_the_same_seed_makes_the_same_choices(world: World) -> None:
    first, second = (Stage(world, random.Random("7/peer-killed/0")) for _ in range(2))
    assert [first.client() for _ in range(9)] == [second.client() for _ in range(9)]
    assert Outcome("x", "y", "z", runs=100).as_json()["at_95_percent_below"] == 0.03
