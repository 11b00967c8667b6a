"""When a province is asked again, and when it is left alone: true of every schedule and every order of events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from node.breaker import FAILURES_TO_OPEN, LONGEST_REST_S, Breaker, BreakerState
from node.cases import (
    ASK_AGAIN_FOR,
    ATTEMPT_S,
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    SAME_BYTES_FOR,
    Standing,
    delay_s,
    is_asked_again,
    is_fate_unknown,
    next_header,
    next_try,
)
from node.findings import Heard, ProvinceState
from node.messages import MAX_CLOCK_SKEW, MAX_DEADLINE_S, Purpose, QuestionHeader

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
UNTIL = NOW + ASK_AGAIN_FOR
CHANCE = st.floats(0, 1, exclude_max=True)
SILENT = st.sampled_from([ProvinceState.TIMED_OUT, ProvinceState.UNREACHABLE, ProvinceState.UNAVAILABLE])


def heard(state: ProvinceState, retry_after_s: float | None = None) -> Heard:
    return Heard("33", state, 1, retry_after_s=retry_after_s)


@given(st.integers(1, 10_000), CHANCE)
def test_a_pause_lies_between_half_of_its_step_and_its_step_and_never_above_the_longest(n: int, chance: float) -> None:
    step = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(n - 1, 60))
    assert step / 2 <= delay_s(n, chance) < step * (1 + 1e-9)


@given(st.integers(1, 10_000), CHANCE)
def test_pauses_do_not_shrink(n: int, chance: float) -> None:
    assert delay_s(n + 1, chance) >= delay_s(n, chance)


@given(SILENT, st.lists(CHANCE, min_size=400, max_size=400))
def test_who_stays_silent_is_asked_often_at_first_then_hourly_to_the_very_deadline_and_never_after_it(
    state: ProvinceState, chances: list[float]
) -> None:
    now, tries = NOW, []
    for failures, chance in enumerate(chances, start=1):
        due = next_try(heard(state), failures, now, UNTIL, chance)
        if due is None:
            break
        assert now < due <= UNTIL
        tries.append(due)
        now = due
    assert tries[-1] == UNTIL
    assert sum(each - NOW < timedelta(minutes=10) for each in tries) >= 6
    assert 168 <= len(tries) <= 360  # a week, hourly at the most and half-hourly at the least


@given(st.floats(0, 3600), st.integers(1, 50), CHANCE)
def test_a_busy_province_is_not_asked_before_the_time_it_named(retry_after_s: float, n: int, chance: float) -> None:
    due = next_try(heard(ProvinceState.BUSY, retry_after_s), n, NOW, UNTIL, chance)
    assert due is not None
    assert due - NOW >= timedelta(seconds=retry_after_s) - timedelta(microseconds=1)


@given(st.sampled_from(ProvinceState), st.integers(1, 50), CHANCE)
def test_an_answer_a_refusal_and_a_wish_for_more_end_the_asking(state: ProvinceState, n: int, chance: float) -> None:
    final = {ProvinceState.ANSWERED, ProvinceState.REFUSED, ProvinceState.NEED_MORE}
    assert (next_try(heard(state), n, NOW, UNTIL, chance) is None) == (state in final)
    assert is_asked_again(heard(state)) == (state not in final)


def test_words_that_were_said_without_looking_leave_the_fate_of_bytes_sent_before_unknown() -> None:
    for state in (ProvinceState.BUSY, ProvinceState.UNAVAILABLE, ProvinceState.NOT_ASKED):
        assert is_fate_unknown(heard(state), is_repeat=True)
        assert not is_fate_unknown(heard(state), is_repeat=False)
    assert not is_fate_unknown(heard(ProvinceState.ANSWERED), is_repeat=True)


def test_a_refusal_that_names_a_time_is_asked_again_after_it() -> None:
    due = next_try(heard(ProvinceState.REFUSED, 3600.0), 1, NOW, UNTIL, 0.0)
    assert due == NOW + timedelta(hours=1)


@given(st.integers(-600, 600_000), st.booleans())
def test_the_same_bytes_are_sent_again_only_while_they_are_young_and_their_fate_is_unknown(
    age_s: int, outstanding: bool
) -> None:
    header = QuestionHeader(b"q" * 16, "K-1", Purpose.RETURN_HOME, b"o" * 16, NOW, NOW + timedelta(seconds=10))
    sent_at = NOW - timedelta(seconds=age_s)
    standing = Standing(
        "33", heard(ProvinceState.TIMED_OUT), 1, 1, b"n" * 16, sent_at, sent_at + timedelta(seconds=30), outstanding,
        NOW, None, None,
    )  # fmt: skip
    made = next_header(header, standing, NOW, b"f" * 16)
    if outstanding and 0 <= age_s < SAME_BYTES_FOR.total_seconds():
        assert (made.nonce, made.issued_at, made.deadline) == (b"n" * 16, sent_at, standing.deadline)
    else:
        assert (made.nonce, made.issued_at) == (b"f" * 16, NOW)
        assert made.deadline - NOW == timedelta(seconds=ATTEMPT_S) <= timedelta(seconds=MAX_DEADLINE_S)
    # With a minute to spare, the peer's clock check lets it in.
    assert NOW - made.issued_at <= MAX_CLOCK_SKEW - timedelta(seconds=60)
    assert (made.case_reference, made.purpose, made.operator_pseudonym) == ("K-1", Purpose.RETURN_HOME, b"o" * 16)


class BreakerMachine(RuleBasedStateMachine):
    """Any order of calls, failures and pauses; what must hold after each."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.breaker = Breaker(chance=lambda: 0.5)
        self.in_a_row = 0
        self.probe = -1  # ticket of the newest probe
        self.under_way: list[int] = []  # tickets

    def state(self) -> BreakerState:
        return self.breaker.view(self.now_s).state

    def one_of(self, chance: float) -> int:
        return self.under_way.pop(int(chance * len(self.under_way)))

    @rule(pause_s=st.floats(0, 40))
    def time_passes(self, pause_s: float) -> None:
        self.now_s += pause_s

    @rule()
    def a_call_wants_to_go_out(self) -> None:
        state, probing = self.state(), self.probe in self.under_way
        ticket = self.breaker.admit(self.now_s)
        match state:
            case BreakerState.CLOSED:
                assert ticket is not None
            case BreakerState.OPEN:
                assert ticket is None
            case BreakerState.HALF_OPEN:
                assert (ticket is None) == probing
                self.probe = ticket or self.probe
        if ticket is not None:
            self.under_way.append(ticket)

    @precondition(lambda self: self.under_way)
    @rule(chance=CHANCE)
    def a_call_succeeds(self, chance: float) -> None:
        self.one_of(chance)
        self.breaker.succeeded()
        self.in_a_row = 0
        self.probe = -1
        assert self.state() is BreakerState.CLOSED

    @precondition(lambda self: self.under_way)
    @rule(chance=CHANCE)
    def a_call_fails(self, chance: float) -> None:
        probing = self.probe in self.under_way
        ticket = self.one_of(chance)
        was_open, rest_s = self.state() is not BreakerState.CLOSED, self.breaker.rest_s(self.now_s)
        self.breaker.failed(ticket, self.now_s)
        self.in_a_row += 1
        if was_open and ticket != self.probe:  # one from before it opened
            assert self.breaker.rest_s(self.now_s) == rest_s
            assert (self.probe in self.under_way) == probing

    @precondition(lambda self: self.under_way)
    @rule(chance=CHANCE)
    def a_call_is_given_up(self, chance: float) -> None:
        self.breaker.abandoned(self.one_of(chance))

    @invariant()
    def it_is_closed_until_enough_calls_in_a_row_have_failed(self) -> None:
        assert (self.state() is BreakerState.CLOSED) == (self.in_a_row < FAILURES_TO_OPEN)

    @invariant()
    def nobody_is_left_alone_for_longer_than_the_longest_rest(self) -> None:
        assert 0 <= self.breaker.rest_s(self.now_s) <= LONGEST_REST_S


TestBreaker = BreakerMachine.TestCase
