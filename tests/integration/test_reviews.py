# ruff: noqa: F811 - fixtures are imported, and asked for by their names
"""The review queue on both databases: nobody decides unseen, nobody's step is lost, and no item has two reviewers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from node.errors import AccessDeniedError, BusyError, ConfigError, QueryBudgetError, StoreError
from node.store import HandleRecord, ReviewEvent, ReviewFacts, ReviewItem, ReviewState, Store, open_store, tables
from node.store.reviews import LEASE, MAX_WAITING_PER_PEER, REVIEW_LIFETIME
from tests.postgres import postgres_server  # noqa: F401 - the fixture
from tests.stores import NOW, entry, execute, handle, rows, store, url  # noqa: F401 - fixtures among them

if TYPE_CHECKING:
    from datetime import datetime

ANI, BUDI, CICI = b"a" * 16, b"b" * 16, b"c" * 16
FACTS = ReviewFacts(7, bytes([34, 0, 0, 8, 9, 2]), "2,,,regency,year,any", bytes(48))
SCHEMA = b"f" * 32
MANY = 1000


def candidate(seed: int, facts: ReviewFacts | None = FACTS) -> HandleRecord:
    return replace(handle(seed), review=facts)


def ask(store: Store, *seeds: int, at: datetime = NOW, **changes: Any) -> None:
    """Answer a question with these candidates, all of them for a person to decide."""
    found = [replace(candidate(seed), handle=os.urandom(16)) for seed in seeds]
    store.record_answer(entry(at=at, schema_fingerprint=SCHEMA, **changes), found)


def take(store: Store, who: bytes = ANI, at: datetime = NOW, number: int | None = None) -> ReviewItem | None:
    return store.reviews.take(who, at, views_a_day=MANY, number=number)


def decide(
    store: Store, number: int, decision: str, who: bytes = ANI, *, two_person: bool = False, at: datetime = NOW
) -> ReviewState:
    return store.reviews.decide(number, ReviewEvent(decision), who, at, two_person=two_person)


def states(store: Store) -> list[str]:
    return [str(item.state) for item in store.reviews.items()]


def events(store: Store, number: int) -> list[tuple[str, bytes]]:
    return [(str(event), who) for _, event, who in store.reviews.history(number)]


def test_candidates_are_queued_with_their_answer_and_others_are_not(store: Store) -> None:
    store.record_answer(entry(schema_fingerprint=SCHEMA), [candidate(1), candidate(2, None), candidate(3)])
    assert [item.record_id for item in store.reviews.items()] == ["R-1", "R-3"]
    (item, _) = store.reviews.items()
    assert (item.peer, item.case_reference, item.generation, item.row) == ("33", "case-0", "g000001", 7)
    assert (item.levels, item.groups, item.admitted) == (FACTS.levels, FACTS.groups, FACTS.admitted)
    assert item.answered_at == NOW
    assert store.resolve_handle(bytes([1]) * 16, NOW) == handle(1)


def test_an_answer_that_cannot_be_recorded_queues_nothing(store: Store) -> None:
    with pytest.raises(StoreError):
        ask(store, 1, request_sha256=b"")
    assert store.reviews.items() == ()


def test_the_same_candidate_of_the_same_case_is_queued_once_while_it_waits(store: Store) -> None:
    ask(store, 1)
    ask(store, 1)
    ask(store, 1, case_reference="another")
    assert len(store.reviews.items()) == 2
    take(store)
    decide(store, 1, "different")
    ask(store, 1)
    assert states(store) == ["different", "waiting", "waiting"], "decided before, and asked again since"


def test_no_table_of_the_queue_has_room_for_a_weight_a_probability_or_a_person(store: Store) -> None:
    columns = {column.name for table in (tables.review_items, tables.review_events) for column in table.columns}
    assert columns == {
        "number", "handle_sha256", "record_id", "generation", "row", "peer", "case_reference", "question_nonce",
        "request_sha256", "answered_at", "schema_fingerprint", "levels", "groups", "admitted", "state", "leased_to",
        "leased_until", "item", "at", "event", "operator_pseudonym",
    }  # fmt: skip
    assert {field.name for field in fields(ReviewItem)} <= columns


def test_two_reviewers_get_two_items_and_a_third_none(store: Store) -> None:
    ask(store, 1, 2)
    assert [each and each.number for each in (take(store, ANI), take(store, BUDI), take(store, CICI))] == [1, 2, None]
    with pytest.raises(BusyError, match="another reviewer"):
        take(store, BUDI, number=1)
    with pytest.raises(BusyError):
        decide(store, 1, "same", BUDI)


def test_reviewers_who_ask_at_the_same_moment_never_share_an_item(store: Store) -> None:
    ask(store, *range(12))
    got: list[int] = []
    together = threading.Barrier(4)

    def work(who: bytes) -> None:
        together.wait()
        for _ in range(3):
            item = take(store, who)
            assert item is not None
            got.append(item.number)

    threads = [threading.Thread(target=work, args=(bytes([who]) * 16,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(1, 13))


def test_an_item_comes_back_when_its_lease_ends_and_its_first_reviewer_may_not_decide_any_more(store: Store) -> None:
    ask(store, 1)
    take(store, ANI)
    assert take(store, BUDI, NOW + LEASE - timedelta(seconds=1)) is None
    late = NOW + LEASE
    again = take(store, BUDI, late)
    assert again is not None
    assert (again.leased_to, again.leased_until) == (BUDI, late + LEASE)
    with pytest.raises(BusyError):
        decide(store, 1, "same", ANI, at=late)
    assert decide(store, 1, "different", BUDI, at=late) is ReviewState.DIFFERENT


def test_an_item_that_could_not_be_shown_is_given_back(store: Store) -> None:
    ask(store, 1)
    take(store, ANI)
    store.reviews.release(1, BUDI)
    assert take(store, BUDI) is None, "only its own reviewer gives it back"
    store.reviews.release(1, ANI)
    assert take(store, BUDI) is not None


def test_nobody_decides_what_they_have_not_been_shown(store: Store) -> None:
    ask(store, 1)
    with pytest.raises(AccessDeniedError, match="not before"):
        decide(store, 1, "same")
    assert events(store, 1) == []


def test_a_decision_is_taken_back_by_who_made_it_and_by_nobody_else(store: Store) -> None:
    ask(store, 1)
    take(store)
    assert decide(store, 1, "same") is ReviewState.SAME
    with pytest.raises(ConfigError, match="stands same"):
        decide(store, 1, "different")
    with pytest.raises(AccessDeniedError, match="another reviewer's"):
        store.reviews.undo(1, BUDI, NOW)
    assert store.reviews.undo(1, ANI, NOW) is ReviewState.WAITING
    with pytest.raises(ConfigError, match="no decision"):
        store.reviews.undo(1, ANI, NOW)
    take(store)
    assert decide(store, 1, "unsure") is ReviewState.UNSURE
    assert [event for event, _ in events(store, 1)] == ["viewed", "same", "undone", "viewed", "unsure"]


def test_a_confirmed_link_is_broken_and_mended_by_anybody(store: Store) -> None:
    ask(store, 1)
    with pytest.raises(ConfigError, match="stands waiting, not same"):
        store.reviews.break_link(1, ANI, NOW)
    take(store)
    decide(store, 1, "same")
    assert store.reviews.break_link(1, BUDI, NOW) is ReviewState.BROKEN
    with pytest.raises(ConfigError, match="stands broken"):
        store.reviews.undo(1, ANI, NOW)
    assert store.reviews.restore(1, CICI, NOW) is ReviewState.SAME
    with pytest.raises(ConfigError, match="not broken"):
        store.reviews.restore(1, CICI, NOW)
    assert events(store, 1) == [("viewed", ANI), ("same", ANI), ("broken", BUDI), ("restored", CICI)]


@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [("same", "same", "same"), ("same", "different", "unsure"), ("unsure", "same", "unsure")],
)
def test_where_two_decide_they_are_two_and_must_agree(store: Store, first: str, second: str, stands: str) -> None:
    ask(store, 1)
    take(store, ANI)
    assert decide(store, 1, first, ANI, two_person=True) is ReviewState.SECOND
    assert take(store, ANI) is None, "the second opinion is somebody else's"
    with pytest.raises(AccessDeniedError, match="second reviewer"):
        take(store, ANI, number=1)
    assert take(store, BUDI) is not None
    assert decide(store, 1, second, BUDI, two_person=True) == stands


def test_after_the_first_of_two_took_it_back_both_decide_anew(store: Store) -> None:
    ask(store, 1)
    take(store, ANI)
    decide(store, 1, "same", ANI, two_person=True)
    store.reviews.undo(1, ANI, NOW)
    take(store, BUDI)
    assert decide(store, 1, "different", BUDI, two_person=True) is ReviewState.SECOND
    assert take(store, ANI) is not None
    assert decide(store, 1, "different", ANI, two_person=True) is ReviewState.DIFFERENT


def test_who_browses_is_stopped_at_the_days_limit_whatever_they_call_themselves(store: Store) -> None:
    ask(store, *range(5))
    for who in (ANI, BUDI):
        assert store.reviews.take(who, NOW, views_a_day=2) is not None
    with pytest.raises(QueryBudgetError, match="2 candidates"):
        store.reviews.take(CICI, NOW, views_a_day=2)
    assert store.reviews.take(CICI, NOW + timedelta(days=1), views_a_day=2) is not None


def test_every_look_and_every_step_is_in_the_audit_under_the_question_it_goes_back_to(store: Store) -> None:
    ask(store, 1, nonce=b"n" * 16)
    take(store)
    decide(store, 1, "same")
    store.reviews.break_link(1, BUDI, NOW)
    store.reviews.restore(1, BUDI, NOW)
    audit = [row for row in store.audit_entries() if row.method == "review"]
    assert [(row.outcome, row.operator_pseudonym) for row in audit] == [
        ("viewed", ANI), ("same", ANI), ("broken", BUDI), ("restored", BUDI),
    ]  # fmt: skip
    assert {(row.case_reference, row.request_sha256, row.nonce, row.peer, row.reason) for row in audit} == {
        ("case-0", bytes(32), b"n" * 16, "33", "item 1")
    }
    assert not any("R-1" in str(value) for row in audit for value in (row.reason, row.case_reference))


def test_what_reviewers_did_can_be_neither_changed_nor_deleted(store: Store, url: str) -> None:
    ask(store, 1)
    take(store)
    for statement in (
        "UPDATE review_events SET event = 'same'",
        "DELETE FROM review_events",
        *(
            ["INSERT OR REPLACE INTO review_events SELECT * FROM review_events"]
            if url.startswith("sqlite")
            else ["TRUNCATE review_events"]
        ),
    ):
        with pytest.raises(Exception, match="append-only"):
            execute(url, statement)
    assert events(store, 1) == [("viewed", ANI)]


def test_an_item_forgets_whom_it_was_about_and_one_that_waited_so_long_is_not_shown(store: Store, url: str) -> None:
    ask(store, 1, 2)
    take(store)
    decide(store, 1, "same")
    ask(store, 3, at=NOW + REVIEW_LIFETIME)
    store.forget(NOW + REVIEW_LIFETIME)
    assert rows(url, "SELECT record_id, state FROM review_items ORDER BY number") == [
        ("", "same"), ("", "expired"), ("R-3", "waiting"),
    ]  # fmt: skip
    item = take(store, at=NOW + REVIEW_LIFETIME)
    assert item is not None
    assert item.number == 3
    assert store.reviews.break_link(1, BUDI, NOW) is ReviewState.BROKEN, "a link can still be broken"


def test_a_peer_that_floods_the_queue_pushes_out_none_but_its_own(store: Store) -> None:
    store.record_answer(entry(schema_fingerprint=SCHEMA), [replace(candidate(1), peer="36")])
    flood = [
        replace(candidate(0), handle=os.urandom(16), record_id=f"F-{number}")
        for number in range(MAX_WAITING_PER_PEER + 3)
    ]
    store.record_answer(entry(schema_fingerprint=SCHEMA), flood)
    left = store.reviews.items(ReviewState.WAITING, 5000)
    assert len(left) == MAX_WAITING_PER_PEER + 1
    assert [item.record_id for item in left if item.peer == "36"] == ["R-1"]
    assert left[-1].record_id == f"F-{MAX_WAITING_PER_PEER + 2}"


def test_a_peer_that_floods_the_queue_keeps_nobody_elses_candidates_waiting(store: Store) -> None:
    for peer, count in (("33", 9), ("36", 2), ("51", 1)):
        for _ in range(count):
            one = replace(candidate(0), peer=peer, handle=os.urandom(16), record_id=os.urandom(4).hex())
            store.record_answer(entry(schema_fingerprint=SCHEMA), [one])
    shown = []
    for _ in range(8):
        item = take(store)
        assert item is not None
        decide(store, item.number, "unsure")
        shown.append(item.peer)
    assert shown == ["33", "36", "51", "33", "36", "33", "33", "33"]


def test_what_stands_decided_is_handed_on_without_whom_it_is_about(store: Store) -> None:
    ask(store, 1, 2, 3, 4)
    for number, decision in ((1, "same"), (2, "different"), (3, "same")):
        take(store, number=number)
        decide(store, number, decision)
    store.reviews.break_link(3, ANI, NOW)
    assert sorted(state for *_, state in store.reviews.decided(SCHEMA)) == ["broken", "different", "same"]
    assert list(store.reviews.decided(b"x" * 32)) == []
    assert {row[:3] for row in store.reviews.decided(SCHEMA)} == {(FACTS.levels, FACTS.groups, FACTS.admitted)}


def test_an_item_that_is_not_there_is_one_clear_line(store: Store) -> None:
    for act in (
        lambda: take(store, number=9),
        lambda: decide(store, 9, "same"),
        lambda: store.reviews.undo(9, ANI, NOW),
        lambda: store.reviews.break_link(9, ANI, NOW),
    ):
        with pytest.raises(ConfigError, match="no item 9"):
            act()


REVIEWER = """
import sys
from datetime import UTC, datetime
from node.store import ReviewEvent, open_store
store = open_store(sys.argv[1], wait_s=30)
now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
while (item := store.reviews.take(b"k" * 16, now, views_a_day=1000)) is not None:
    store.reviews.decide(item.number, ReviewEvent.SAME, b"k" * 16, now, two_person=False)
    print(item.number, flush=True)
"""


def test_kill_9_loses_no_decision_that_was_acknowledged_and_locks_nothing_for_good(store: Store, url: str) -> None:
    ask(store, *range(200))
    reviewer = subprocess.Popen([sys.executable, "-c", REVIEWER, url], stdout=subprocess.PIPE, text=True)
    assert reviewer.stdout is not None
    acknowledged = [int(reviewer.stdout.readline()) for _ in range(20)]
    reviewer.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in reviewer.stdout.read().splitlines() if line]
    reviewer.wait()
    reviewer.stdout.close()
    again = open_store(url, wait_s=30)
    try:
        stand = {item.number: item.state for item in again.reviews.items()}
        assert all(stand[number] is ReviewState.SAME for number in acknowledged)
        for number, state in stand.items():
            said = [event for event, _ in events(again, number)]
            assert said in {ReviewState.SAME: [["viewed", "same"]], ReviewState.WAITING: [[], ["viewed"]]}[state]
        held = [item.number for item in again.reviews.items() if item.leased_until is not None]
        assert len(held) <= 1
        while (item := take(again, BUDI, NOW + LEASE)) is not None:
            decide(again, item.number, "different", BUDI, at=NOW + LEASE)
        assert {item.state for item in again.reviews.items()} == {ReviewState.SAME, ReviewState.DIFFERENT}
    finally:
        again.close()
