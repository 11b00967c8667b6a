"""Asking without a network: real encodings, real searches, provinces that fail in every way they can."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from matching.encoding import QueryEncoder
from matching.errors import FieldValueError
from matching.keys import FieldKeys
from matching.question import Client, EncodedQuery
from matching.schema import PERSON_SCHEMA
from node.errors import (
    CertificateExpiredError,
    OutcomeLostError,
    PeerBusyError,
    PeerContractError,
    PeerRefusedError,
    PeerTimeoutError,
    PeerUnreachableError,
    StoreError,
)
from node.findings import Accepted, Concluded, Heard, ProvinceState, Warned, as_json, from_json
from node.messages import Answered, Busy, NeedMore, RefusalReason, Refused, Unavailable
from tests.asking import KEYS, World, build_registries, events_of, failing, heard_of, inquiry, mute, outcome_of, saying
from tests.federation import JOKO_AS_SAID

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from matching.index import EncodedIndex
    from node.messages import Answer
    from node.query import Desk, Question


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, EncodedIndex]]:
    built = build_registries(tmp_path_factory.mktemp("registries"))
    yield built
    for index in built.values():
        index.close()


@pytest.fixture
def world(registries: dict[str, EncodedIndex]) -> World:
    return World(registries)


async def test_the_home_is_found_and_says_why(world: World) -> None:
    concluded = await outcome_of(world.desk())
    assert (concluded.outcome, concluded.province) == ("home_found", "33")
    assert concluded.provinces["33"] > 0.95
    best = concluded.finds[0]
    assert (best.province, best.persons) == ("33", 1)
    assert best.handles == ("00" * 16,)
    assert best.bits["name"] is not None
    assert best.bits["name"] > 5
    assert set(best.bits) == {"name", "sex", "birth_date", "birthplace", "mother_name"}


async def test_probabilities_of_provinces_none_and_silent_sum_to_one(world: World) -> None:
    world.faults["36"] = mute
    concluded = await outcome_of(world.desk(), inquiry(timeout_s=0.8))
    total = sum(concluded.provinces.values()) + concluded.none + sum(concluded.unanswered.values())
    assert math.isclose(total, 1)


async def test_everyone_is_asked_the_same_question_once_the_own_registry_included(world: World) -> None:
    await outcome_of(world.desk())
    assert sorted(code for code, _ in world.asked) == ["33", "35", "36"]
    assert len({id(question) for _, question in world.asked}) == 1


async def test_what_is_asked_holds_no_raw_value(world: World) -> None:
    await outcome_of(world.desk())
    _, question = world.asked[0]
    assert isinstance(question.query, EncodedQuery)
    assert not re.search("joko|djoko|susilo|soesilo|kebumen|aminah|1958", repr(question), re.IGNORECASE)
    assert not re.search("joko|aminah|kebumen", repr(inquiry()), re.IGNORECASE)


async def test_events_come_in_the_order_a_person_can_follow(world: World) -> None:
    client = replace(JOKO_AS_SAID, birthplace="Negeri Antah Berantah")
    events = await events_of(inquiry(client, case="K-7"), world.desk())
    kinds = [type(event) for event in events]
    assert kinds == [Warned, Accepted, Heard, Heard, Heard, Concluded]
    accepted = events[1]
    assert isinstance(accepted, Accepted)
    assert (accepted.case, accepted.province, accepted.provinces["33"]) == ("K-7", "35", "Jawa Tengah")


@pytest.mark.parametrize(
    ("client", "warning"),
    [
        (replace(JOKO_AS_SAID, birthplace="Negeri Antah Berantah"), Warned("birthplace", "unknown_place")),
        (replace(JOKO_AS_SAID, mother_name="Ibu"), Warned("mother_name", "unusable")),
        (replace(JOKO_AS_SAID, sex="?"), Warned("sex", "unusable")),
    ],
)
async def test_what_helps_less_than_it_seems_is_warned_of_and_asked_all_the_same(
    world: World, client: Client, warning: Warned
) -> None:
    events = await events_of(inquiry(client), world.desk())
    assert [event for event in events if isinstance(event, Warned)] == [warning]
    assert isinstance(events[-1], Concluded)


@pytest.mark.parametrize(
    ("client", "field"),
    [
        (Client(name="Bapak"), "name"),
        (Client(name="Joko", born="31-2-1958"), "born"),
        (Client(name="Joko", born="1-1-2027"), "born"),
        (Client(name="Joko", born="umur 121"), "born"),
        (Client(name="Joko", sex="kucing"), "sex"),
    ],
)
async def test_a_client_nobody_can_be_asked_about_stops_before_anything_is_sent(
    world: World, client: Client, field: str
) -> None:
    with pytest.raises(FieldValueError) as caught:
        await events_of(inquiry(client), world.desk())
    assert caught.value.field == field
    assert (world.opened, world.asked) == ([], [])


async def test_a_question_that_cannot_be_recorded_is_not_asked(world: World) -> None:
    async def full(question: Question, provinces: Collection[str]) -> None:
        raise StoreError("the disk is full")

    with pytest.raises(StoreError):
        await events_of(inquiry(), world.desk(opened=full))
    assert world.asked == []


async def test_an_outcome_that_cannot_be_recorded_is_not_told_and_not_called_unasked(world: World) -> None:
    async def full(question: Question, concluded: Concluded, answers: Mapping[str, Answered]) -> None:
        raise StoreError("the disk is full", hint="make room")

    with pytest.raises(OutcomeLostError, match="cannot be recorded: the disk is full") as caught:
        await events_of(inquiry(), world.desk(closed=full))
    assert caught.value.hint == "make room"
    assert {code for code, _ in world.asked} == {"33", "35", "36"}


async def test_the_record_is_opened_before_and_closed_with_what_was_told(world: World) -> None:
    concluded = await outcome_of(world.desk())
    assert [provinces for _, provinces in world.opened] == [["33", "35", "36"]]
    assert world.opened[0][0] is world.closed[0][0]
    assert world.closed[0][1] == concluded


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (failing(PeerUnreachableError("no connection")), ProvinceState.UNREACHABLE),
        (failing(PeerTimeoutError("too late")), ProvinceState.TIMED_OUT),
        (failing(PeerRefusedError("no")), ProvinceState.REFUSED),
        (failing(PeerBusyError("later")), ProvinceState.BUSY),
        (failing(PeerContractError("other schema")), ProvinceState.BROKE_CONTRACT),
        (failing(CertificateExpiredError("our own certificate is past its end")), ProvinceState.NOT_ASKED),
        (failing(StoreError("the audit cannot be written")), ProvinceState.UNAVAILABLE),
        (failing(ZeroDivisionError("Joko Susilo")), ProvinceState.FAILED),
        (saying(Busy(5.0)), ProvinceState.BUSY),
        (saying(Refused(RefusalReason.NOT_ALLOWED, "not allowed")), ProvinceState.REFUSED),
        (saying(Unavailable("no registry imported yet")), ProvinceState.UNAVAILABLE),
        (saying(NeedMore(("mother_name",))), ProvinceState.NEED_MORE),
    ],
)
async def test_who_could_not_answer_makes_it_incomplete_and_never_counts_as_none(
    world: World, fault: object, state: ProvinceState
) -> None:
    whole = await outcome_of(world.desk())
    world.faults["36"] = fault
    concluded = await outcome_of(world.desk())
    assert concluded.outcome == "incomplete"
    assert heard_of(concluded, "36").state is state
    assert "36" not in concluded.provinces
    assert concluded.unanswered["36"] > 0
    assert heard_of(concluded, "33").state is ProvinceState.ANSWERED
    assert whole.outcome == "home_found"


async def test_a_bug_with_one_province_says_its_id_and_not_its_text(world: World) -> None:
    world.faults["36"] = failing(ZeroDivisionError("Joko Susilo"))
    detail = heard_of(await outcome_of(world.desk()), "36").detail
    assert detail is not None
    assert re.fullmatch(r"request [0-9a-f]{8} in the node's log", detail)


async def test_a_mute_province_costs_its_own_answer_and_nobody_elses(world: World) -> None:
    world.faults["36"] = mute
    concluded = await outcome_of(world.desk(), inquiry(timeout_s=1.5))
    assert heard_of(concluded, "36").state is ProvinceState.TIMED_OUT
    assert (concluded.outcome, concluded.province) == ("incomplete", "33")


async def test_nobody_answers_and_nothing_is_claimed(world: World) -> None:
    for code in world.registries:
        world.faults[code] = failing(PeerUnreachableError("no connection"))
    concluded = await outcome_of(world.desk())
    assert (concluded.outcome, concluded.province, concluded.provinces) == ("incomplete", None, {})
    assert concluded.finds == ()


async def test_somebody_registered_nowhere_is_not_found_anywhere(world: World) -> None:
    stranger = Client(name="Xaverius Watubella", sex="L", born="1931", birthplace="Merauke", mother_name="Yosefa Gebze")
    concluded = await outcome_of(world.desk(), inquiry(stranger))
    assert concluded.province is None
    assert concluded.outcome in {"not_registered", "ambiguous"}
    assert concluded.none > max(concluded.provinces.values())


async def test_a_case_without_a_reference_gets_one_of_the_day(world: World) -> None:
    first, second = await outcome_of(world.desk()), await outcome_of(world.desk())
    assert re.fullmatch(r"K-20261122-[0-9a-f]{6}", first.case)
    assert first.case != second.case


async def test_each_question_has_a_nonce_of_its_own(world: World) -> None:
    await outcome_of(world.desk())
    await outcome_of(world.desk())
    nonces = {question.header.nonce for _, question in world.asked}
    assert len(nonces) == 2
    assert {len(nonce) for nonce in nonces} == {16}


async def test_every_event_survives_the_way_to_the_command_line(world: World) -> None:
    world.faults["36"] = saying(NeedMore(("mother_name",)))
    events = await events_of(inquiry(replace(JOKO_AS_SAID, birthplace="Antah Berantah Sekali")), world.desk())
    assert [from_json(as_json(event)) for event in events] == events


async def test_a_value_the_registry_lacks_weighs_nothing_rather_than_zero(world: World) -> None:
    concluded = await outcome_of(world.desk(), inquiry(replace(JOKO_AS_SAID, father_name="Karto")))
    assert concluded.finds[0].bits["father_name"] is None


OTHER_KEYS = FieldKeys.derive(bytes(range(32, 64)), PERSON_SCHEMA, 2)
MISMATCH = Refused(RefusalReason.SCHEMA_MISMATCH, "we encode by schema 0 epoch 1")


class TwoEpochs(World):
    """Provinces that have an index in epoch 1 only, asked in epoch 2."""

    async def _ask(self, code: str, question: Question, time_left_s: float) -> Answer:
        if question.query.epoch == 2:
            self.asked.append((code, question))
            return MISMATCH
        return await super()._ask(code, question, time_left_s)

    def in_both(self) -> Desk:
        return self.desk(encoders=lambda: (QueryEncoder(OTHER_KEYS), QueryEncoder(KEYS)))


async def test_who_has_not_the_active_epoch_yet_is_asked_in_the_other_valid_one(
    registries: dict[str, EncodedIndex],
) -> None:
    world = TwoEpochs(registries)
    concluded = await outcome_of(world.in_both())
    assert (concluded.outcome, concluded.province) == ("home_found", "33")
    assert [(heard.state, heard.epoch) for heard in concluded.heard] == [("answered", 1)] * 3
    assert sorted((code, question.query.epoch) for code, question in world.asked) == [
        (code, epoch) for code in ("33", "35", "36") for epoch in (1, 2)
    ]


async def test_the_other_epoch_is_recorded_before_it_is_asked_and_encoded_once(
    registries: dict[str, EncodedIndex],
) -> None:
    world = TwoEpochs(registries)
    await outcome_of(world.in_both())
    assert sorted(code for _, _, code in world.reworded) == ["33", "35", "36"]
    ((first, second),) = {(id(first), id(second)) for first, second, _ in world.reworded}
    assert first != second
    (question, other, _) = world.reworded[0]
    assert (question.query.epoch, other.query.epoch) == (2, 1)
    assert question.header.nonce != other.header.nonce  # other bytes under the same nonce would be refused as a forgery
    assert question.header.case_reference == other.header.case_reference
    assert world.closed[0][0].asked_in(1) is other


async def test_a_question_in_the_other_epoch_that_cannot_be_recorded_is_not_asked(
    registries: dict[str, EncodedIndex],
) -> None:
    async def full(*_: object) -> None:
        raise StoreError("the database has no room left on its disk")

    world = TwoEpochs(registries)
    concluded = await outcome_of(replace(world.in_both(), again=full))
    assert concluded.outcome == "incomplete"
    assert {question.query.epoch for _, question in world.asked} == {2}
    assert {heard.state for heard in concluded.heard} == {ProvinceState.UNAVAILABLE}


async def test_with_one_valid_epoch_a_refusal_stays_a_refusal(world: World) -> None:
    world.faults["36"] = saying(MISMATCH)
    concluded = await outcome_of(world.desk())
    assert heard_of(concluded, "36").state is ProvinceState.REFUSED
    assert world.reworded == []


async def test_the_other_epoch_has_no_deadline_of_its_own(registries: dict[str, EncodedIndex]) -> None:
    world = TwoEpochs(registries)
    world.faults["36"] = mute
    concluded = await outcome_of(world.in_both(), inquiry(timeout_s=2.0))
    assert heard_of(concluded, "36").state is ProvinceState.TIMED_OUT
    assert heard_of(concluded, "36").ms < 10_000
    assert heard_of(concluded, "33").state is ProvinceState.ANSWERED
