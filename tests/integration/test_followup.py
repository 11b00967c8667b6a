"""Asking again in one process: a real database, real searches, provinces that come and go, a clock a test turns."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from matching.question import Client
from matching.schema import PERSON_SCHEMA
from node.casebook import CaseBook
from node.cases import ERASED_AFTER, RENEWED_AGAIN_AFTER, ClosedReason
from node.errors import CaseError, PeerRefusedError, PeerTimeoutError, PeerUnreachableError, StoreError, TrustError
from node.findings import Concluded, from_json
from node.followup import FollowUp
from node.messages import Answered, Busy, NeedMore, RefusalReason, Refused, Unavailable
from node.store import open_store
from tests.asking import NOON, World, build_registries, failing, inquiry, outcome_of, saying
from tests.postgres import postgres_server  # noqa: F401 - the fixture
from tests.stores import rows, url  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Mapping

    from matching.index import EncodedIndex
    from node.query import Desk, Question
    from node.store import Store

KEY = b"k" * 32
DOWN = failing(PeerUnreachableError("no connection"))
STRANGER = Client(name="Xaverius Watubella", sex="L", born="1931", birthplace="Merauke", mother_name="Yosefa Gebze")


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, EncodedIndex]]:
    built = build_registries(tmp_path_factory.mktemp("registries"))
    yield built
    for index in built.values():
        index.close()


@dataclass
class Office:
    """Three provinces, a node's case book, and its queue; a test turns the clock."""

    world: World
    store: Store
    clock: datetime = NOON
    generations: dict[str, int] = field(default_factory=dict)
    resting: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.book = self.open_book()
        self.desk: Desk = self.world.desk(opened=self._open, closed=self._close, now=lambda: self.clock)

    def open_book(self, key: bytes = KEY) -> CaseBook:
        return CaseBook(
            self.store, key, PERSON_SCHEMA, ask_again_for=timedelta(days=7), keep_open_for=timedelta(days=90),
            now=lambda: self.clock, chance=lambda: 0.5,
        )  # fmt: skip

    async def _open(self, question: Question, provinces: Collection[str]) -> None:
        await asyncio.to_thread(self.book.open, question, provinces)

    async def _close(self, question: Question, concluded: Concluded, answers: Mapping[str, Answered]) -> None:
        await asyncio.to_thread(self.book.conclude, question, concluded, answers)

    async def ask(self, case: str = "K-1", client: Client | None = None) -> Concluded:
        return await outcome_of(self.desk, inquiry(client, case=case) if client else inquiry(case=case))

    @asynccontextmanager
    async def following_up(self, *, between_s: float = 0.0) -> AsyncIterator[FollowUp]:
        async def generation(code: str) -> int | None:
            return self.generations.get(code)

        queue = FollowUp(
            self.desk, self.book, resting=lambda: frozenset(self.resting), generation=generation, between_s=between_s
        )
        task = asyncio.create_task(queue.run())
        try:
            yield queue
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, case: str, *, step_s: float = 5.0, **expected: Any) -> dict[str, Any]:
        """Turn the clock in steps until the case looks as expected."""
        for _ in range(300):
            shown = await asyncio.to_thread(self.book.show, case, looked_at=False)
            if all(shown[key] == value for key, value in expected.items()):
                return shown
            self.clock += timedelta(seconds=step_s)
            self.book.on_change()
            await asyncio.sleep(0.05)
        raise AssertionError(f"it never came about: {shown}")

    def asked(self, code: str) -> list[Question]:
        return [question for asked, question in self.world.asked if asked == code]


@pytest.fixture
def office(registries: dict[str, EncodedIndex], url: str) -> Iterator[Office]:  # noqa: F811
    store = open_store(url)
    yield Office(World(registries), store)
    store.close()


def province(shown: dict[str, Any], code: str) -> dict[str, Any]:
    return next(each for each in shown["provinces"] if each["code"] == code)


def events(shown: dict[str, Any]) -> list[str]:
    return [event["event"] for event in shown["history"]]


async def test_a_province_that_comes_back_amends_the_result_and_the_caseworker_is_told(office: Office) -> None:
    office.world.faults["36"] = DOWN
    first = await office.ask()
    assert (first.outcome, first.again_until) == ("incomplete", (NOON + timedelta(days=7)).isoformat())
    async with office.following_up():
        await office.until("K-1", outcome="incomplete", waiting_for=["36"])
        del office.world.faults["36"]
        shown = await office.until("K-1", outcome="home_found")
    assert (shown["province"], shown["answered"], shown["waiting_for"], shown["news"]) == ("33", 3, [], 1)
    assert events(shown) == ["concluded", "amended"]
    whole = await office.ask("K-2")
    amended = from_json(shown["result"])
    assert isinstance(amended, Concluded)
    assert amended.provinces == whole.provinces
    assert amended.finds[0].handles == whole.finds[0].handles
    assert office.book.show("K-1")["history"][-1]["new"] is True  # looked at for the first time
    assert office.book.show("K-1")["news"] == 0


async def test_who_is_never_registered_is_told_so_only_when_the_last_province_has_answered(office: Office) -> None:
    for code in ("33", "36"):
        office.world.faults[code] = DOWN
    await office.ask(client=STRANGER)
    async with office.following_up():
        del office.world.faults["36"]
        shown = await office.until("K-1", answered=2)
        assert (shown["outcome"], shown["waiting_for"]) == ("incomplete", ["33"])
        del office.world.faults["33"]
        shown = await office.until("K-1", answered=3)
    whole = await office.ask("K-2", STRANGER)
    assert shown["outcome"] == whole.outcome != "incomplete"
    assert shown["none"] == pytest.approx(whole.none)


@pytest.mark.parametrize(
    ("fault", "again"),
    [
        (DOWN, True),
        (failing(PeerTimeoutError("too late")), True),
        (failing(PeerRefusedError("it does not trust our certificate")), True),
        (saying(Busy(1.0)), True),
        (saying(Unavailable("no registry imported yet")), True),
        (saying(Refused(RefusalReason.CLOCK, "clock")), True),
        (saying(Refused(RefusalReason.NOT_ALLOWED, "not allowed")), False),
        (saying(NeedMore(("mother_name",))), False),
    ],
)
async def test_only_who_may_still_answer_is_asked_again(office: Office, fault: Any, again: bool) -> None:
    office.world.faults["36"] = fault
    concluded = await office.ask()
    assert (concluded.again_until is not None) is again
    shown = office.book.show("K-1")
    assert shown["waiting_for"] == (["36"] if again else [])
    assert shown["outcome"] == "incomplete"


async def test_a_try_whose_fate_is_unknown_is_repeated_byte_for_byte_and_then_made_anew(office: Office) -> None:
    office.world.faults["36"] = failing(PeerTimeoutError("too late"))
    await office.ask()
    async with office.following_up():
        await office.until("K-1", outcome="incomplete")
        for _ in range(200):
            if len({question.header.nonce for question in office.asked("36")}) > 1:
                break
            office.clock += timedelta(seconds=10)
            office.book.on_change()
            await asyncio.sleep(0.05)
    first, *later = office.asked("36")
    repeated = [question for question in later if question.header.nonce == first.header.nonce]
    assert repeated
    assert all(question.header == first.header for question in repeated)
    fresh = later[-1]
    assert fresh.header.nonce != first.header.nonce
    assert fresh.header.issued_at - first.header.issued_at >= timedelta(seconds=240)
    sent = rows(str(office.store._engine.url), "SELECT count(*) FROM audit WHERE outcome = 'sent' AND peer = '36'")
    assert sent == [(len(later) + 1,)]


async def test_a_clock_that_leaps_has_no_question_asked_twice_while_a_caseworker_waits_for_it(office: Office) -> None:
    released = asyncio.Event()

    async def dawdle(_: float) -> Busy:
        await released.wait()
        return Busy(1.0)

    office.world.faults["36"] = dawdle
    async with office.following_up():
        asking = asyncio.create_task(office.ask())
        await office.world.until_asked(1)
        office.clock += timedelta(minutes=10)  # by it, the deadline is long over
        for _ in range(10):
            office.book.on_change()
            await asyncio.sleep(0.05)
        assert sorted(code for code, _ in office.world.asked) == ["33", "35", "36"]
        released.set()
        await asking


async def test_bytes_that_may_have_been_answered_stay_the_same_though_the_peer_is_busy_in_between(
    office: Office,
) -> None:
    says = [PeerTimeoutError("its answer was lost"), Busy(1.0), Unavailable("the disk is nearly full")]

    async def say(_: float) -> Any:
        word = says.pop(0)
        if not says:
            del office.world.faults["36"]
        if isinstance(word, Exception):
            raise word
        return word

    office.world.faults["36"] = say
    await office.ask()
    async with office.following_up():
        await office.until("K-1", outcome="home_found")
    assert len(office.asked("36")) == 4
    assert len({question.header.nonce for question in office.asked("36")}) == 1


async def test_what_a_clock_put_off_that_was_ahead_is_asked_once_it_is_set_back(office: Office) -> None:
    office.world.faults["36"] = saying(Refused(RefusalReason.CLOCK, "clock"))
    office.clock += timedelta(days=1)
    await office.ask()
    office.clock -= timedelta(days=1)
    del office.world.faults["36"]
    async with office.following_up():
        for _ in range(100):
            if office.book.show("K-1", looked_at=False)["outcome"] == "home_found":
                break
            office.book.on_change()
            await asyncio.sleep(0.05)
    assert office.book.show("K-1")["outcome"] == "home_found"
    assert office.clock == NOON


async def test_a_busy_province_is_asked_anew_because_it_has_not_looked(office: Office) -> None:
    office.world.faults["36"] = saying(Busy(60.0))
    await office.ask()
    due = office.book.next_due(frozenset())
    assert due is not None
    assert due >= NOON + timedelta(seconds=60)
    async with office.following_up():
        del office.world.faults["36"]
        await office.until("K-1", outcome="home_found")
    first, second = office.asked("36")
    assert first.header.nonce != second.header.nonce
    assert second.header.issued_at >= due


async def test_after_its_days_it_is_asked_no_more_says_so_and_stays_incomplete(office: Office) -> None:
    office.world.faults["36"] = DOWN
    await office.ask()
    office.clock = NOON + timedelta(days=7)
    async with office.following_up():
        shown = await office.until("K-1", waiting_for=[])
    assert (shown["outcome"], shown["news"]) == ("incomplete", 1)
    assert events(shown) == ["concluded", "gave_up"]
    assert province(shown, "36")["state"] == "unreachable"


async def test_a_closed_case_is_not_asked_again_until_it_is_reopened(office: Office) -> None:
    office.world.faults["36"] = DOWN
    await office.ask()
    office.book.close("K-1", ClosedReason.RETURNED)
    del office.world.faults["36"]
    office.clock += timedelta(days=1)
    async with office.following_up():
        await asyncio.sleep(0.5)
        assert len(office.asked("36")) == 1
        assert office.book.list(closed=False)["cases"] == []
        with pytest.raises(CaseError, match="closed already"):
            office.book.close("K-1", ClosedReason.FOUND)
        office.book.reopen("K-1")
        shown = await office.until("K-1", outcome="home_found")
    assert events(shown) == ["concluded", "closed", "reopened", "amended"]
    assert shown["closed_at"] is None


async def test_a_case_asked_anew_ends_the_asking_for_its_older_question(office: Office) -> None:
    office.world.faults["36"] = DOWN
    await office.ask("K-1", STRANGER)
    await office.ask("K-1")
    assert len(office.book.list(closed=True)["cases"]) == 1
    del office.world.faults["36"]
    async with office.following_up():
        shown = await office.until("K-1", outcome="home_found")
    assert events(shown) == ["concluded", "closed", "concluded", "amended"]
    assert len(office.asked("36")) == 3  # two first tries, and one more for the newer question alone


async def test_a_new_registry_is_asked_about_open_cases_and_an_old_answer_stands_until_it_answers(
    office: Office,
) -> None:
    await office.ask(client=STRANGER)
    before = office.book.show("K-1")
    assert province(before, "36")["generation"] == 1
    office.generations["36"] = 2
    office.world.faults["36"] = DOWN
    async with office.following_up() as queue:
        await queue._look_for_new_registries()
        await office.until("K-1", waiting_for=["36"])
        while not province(shown := office.book.show("K-1"), "36")["failures"]:
            office.clock += timedelta(seconds=5)
            office.book.on_change()
            await asyncio.sleep(0.05)
        assert (shown["outcome"], shown["answered"]) == (before["outcome"], 3)
        assert province(shown, "36")["state"] == "answered"  # it has answered, and a silence does not undo that
        office.world.generation["36"] = 2
        del office.world.faults["36"]
        shown = await office.until("K-1", waiting_for=[])
    assert province(shown, "36")["generation"] == 2
    assert "renewed" in events(shown)
    assert shown["outcome"] == before["outcome"]
    nonces = [question.header.nonce for question in office.asked("36")]
    assert nonces[0] not in nonces[1:]  # the stored answer of the old registry must not come back
    office.generations["36"] = 3
    office.book.note_generation("36", 3)
    assert office.book.show("K-1")["waiting_for"] == []  # not hourly, even if it is imported hourly
    office.clock += RENEWED_AGAIN_AFTER
    office.book.note_generation("36", 3)
    assert office.book.show("K-1")["waiting_for"] == ["36"]


async def test_a_found_home_is_not_asked_for_again_when_a_registry_changes(office: Office) -> None:
    assert (await office.ask()).outcome == "home_found"
    office.book.note_generation("36", 2)
    assert office.book.show("K-1")["waiting_for"] == []


async def test_a_province_that_rests_and_one_that_is_slow_hold_nobody_up(office: Office) -> None:
    for code in ("33", "36"):
        office.world.faults[code] = DOWN
    for case in ("K-1", "K-2", "K-3"):
        await office.ask(case)
    hanging = asyncio.Event()

    async def slow(_: float) -> Any:
        hanging.set()
        await asyncio.Event().wait()

    office.world.faults["33"] = slow
    office.resting.add("36")
    asked = len(office.asked("36"))
    async with office.following_up():
        office.clock += timedelta(minutes=2)
        office.book.on_change()
        await asyncio.wait_for(hanging.wait(), 60)
        await asyncio.sleep(0.3)
        assert len(office.asked("36")) == asked
        assert len(office.asked("33")) == 4  # one of three at a time
        del office.world.faults["36"]
        office.resting.clear()
        for case in ("K-1", "K-2", "K-3"):
            await office.until(case, answered=2)
        assert len(office.asked("33")) == 4


async def test_after_each_try_a_province_is_left_in_peace_for_a_moment_and_the_others_are_not(office: Office) -> None:
    for code in ("33", "36"):
        office.world.faults[code] = DOWN
    for case in ("K-1", "K-2", "K-3"):
        await office.ask(case)
    async with office.following_up(between_s=3600.0):
        office.clock += timedelta(minutes=2)
        office.book.on_change()
        for _ in range(600):
            await asyncio.sleep(0.1)
            if len(office.asked("33")) == len(office.asked("36")) == 4:
                break
        await asyncio.sleep(0.3)
        assert len(office.asked("33")) == len(office.asked("36")) == 4  # three asked at first, one again


async def test_a_case_that_can_neither_be_read_nor_given_up_is_tried_no_oftener(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.world.faults["36"] = DOWN
    await office.ask("K-1")
    begun: list[str] = []

    def unreadable(_: bytes, code: str) -> None:
        begun.append(code)
        raise TrustError("it cannot be decrypted")

    def full(_: bytes) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(office.book, "begin", unreadable)
    monkeypatch.setattr(office.book, "give_up_unreadable", full)
    async with office.following_up(between_s=3600.0):
        office.clock += timedelta(minutes=2)
        for _ in range(600):
            office.book.on_change()
            await asyncio.sleep(0.1)
            if begun:
                break
        for _ in range(5):
            office.book.on_change()
            await asyncio.sleep(0.1)
    assert begun == ["36"]


async def test_a_province_that_is_back_is_asked_at_once_what_waited_for_it(office: Office) -> None:
    office.world.faults["36"] = DOWN
    await office.ask("K-1")
    async with office.following_up():
        for _ in range(8):
            tries = len(office.asked("36"))
            office.clock += timedelta(hours=1)
            office.book.on_change()
            for _ in range(600):
                await asyncio.sleep(0.1)
                if len(office.asked("36")) > tries:
                    break
            await asyncio.sleep(0.2)
        due = province(office.book.show("K-1", looked_at=False), "36")["next_try_at"]
        assert datetime.fromisoformat(due) > office.clock + timedelta(minutes=8)
        del office.world.faults["36"]
        office.clock += timedelta(seconds=61)
        await office.ask("K-2")
        await office.until("K-1", step_s=0.1, outcome="home_found")
        assert office.clock < datetime.fromisoformat(due) - timedelta(minutes=5)


async def test_a_try_that_our_own_end_cut_off_is_made_again_at_the_next_start_with_the_same_bytes(
    office: Office,
) -> None:
    office.world.faults["36"] = DOWN
    await office.ask()
    sent = asyncio.Event()

    async def cut_off(_: float) -> Any:
        sent.set()
        await asyncio.Event().wait()

    office.world.faults["36"] = cut_off
    async with office.following_up():
        office.clock += timedelta(minutes=1)
        office.book.on_change()
        await asyncio.wait_for(sent.wait(), 60)
    del office.world.faults["36"]
    async with office.following_up():
        shown = await office.until("K-1", outcome="home_found", step_s=0)  # at once, not when it would count as lost
    assert province(shown, "36")["attempts"] == len(office.asked("36"))
    last, before_last = office.asked("36")[-1], office.asked("36")[-2]
    assert last.header == before_last.header


async def test_nothing_in_the_database_can_be_read_without_the_key(office: Office) -> None:
    await office.ask()
    url_text = office.store._engine.url.render_as_string(hide_password=False)
    ((request, result),) = rows(url_text, "SELECT sealed_request, sealed_result FROM questions")
    answers = rows(url_text, "SELECT sealed_answer FROM question_provinces")
    filters = office.asked("33")[0].query.fields["name"].tokens[0].variants.tobytes()  # type: ignore[union-attr]
    for sealed in (request, result, *(answer for (answer,) in answers)):
        assert filters not in bytes(sealed)
        assert b"home_found" not in bytes(sealed)
    with pytest.raises(TrustError):
        office.open_book(b"x" * 32).show("K-1")


async def test_a_lost_key_closes_the_case_and_harms_no_other(office: Office) -> None:
    office.world.faults["36"] = DOWN
    await office.ask("K-1")
    office.book = office.open_book(b"x" * 32)
    await office.ask("K-2")
    del office.world.faults["36"]
    async with office.following_up():
        await office.until("K-2", outcome="home_found")
        (lost,) = [each for each in office.book.list(closed=True)["cases"] if each["case"] == "K-1"]
    assert lost["closed_reason"] == "unreadable"


async def test_closed_cases_are_erased_after_a_week_and_old_ones_close_by_themselves(office: Office) -> None:
    await office.ask("K-1")
    await office.ask("K-2")
    office.book.close("K-1", ClosedReason.FOUND)
    office.clock += ERASED_AFTER
    office.book.tidy()
    shown = office.book.show("K-1")
    assert (shown["result"], shown["outcome"]) == (None, "home_found")
    with pytest.raises(CaseError, match="erased"):
        office.book.reopen("K-1")
    assert office.book.show("K-2")["closed_at"] is None
    office.clock = NOON + timedelta(days=90)
    office.book.tidy()
    assert office.book.show("K-2")["closed_reason"] == "expired"
    office.clock += ERASED_AFTER
    office.book.tidy()
    assert office.book.show("K-2")["result"] is None


def test_a_case_nobody_knows_is_told_without_repeating_it(office: Office) -> None:
    with pytest.raises(CaseError) as caught:
        office.book.show("Joko Susilo")
    assert "Joko" not in str(caught.value)


async def test_what_is_shown_can_be_printed_as_json(office: Office) -> None:
    office.world.faults["36"] = DOWN
    await office.ask()
    assert json.loads(json.dumps(office.book.show("K-1"))) == office.book.show("K-1")
    assert json.loads(json.dumps(office.book.list(closed=False))) == office.book.list(closed=False)
