"""When a province that did not answer is asked again, and with which bytes: decisions only, no clock and no I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from node.findings import Heard, ProvinceState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from matching.question import EncodedQuery
    from node.messages import Answered, QuestionHeader

FIRST_DELAY_S: Final = 5.0  # a node that is being restarted is back within seconds
LONGEST_DELAY_S: Final = 3600.0
ATTEMPT_S: Final = 30.0  # no caseworker waits for it: a slow province gets more time than a find gives it
# A try of which nothing was heard is repeated with the same bytes while the peer's clock check lets them in: had the
# peer answered already, it answers the same, and its budget and audit count one question. MAX_CLOCK_SKEW less 60 s.
SAME_BYTES_FOR: Final = timedelta(seconds=240)
# After its deadline a try counts as lost. The margin is what recording the outcome may take.
LOST_AFTER: Final = timedelta(seconds=10)
ASK_AGAIN_FOR: Final = timedelta(days=7)  # unless `ask_again_days` says otherwise
# Refusals with which nothing is wrong with the question itself -> the shortest pause before it is put again, seconds.
LATER_REFUSALS: Final = {"clock": 30.0, "budget": 3600.0}
# Turned away at the door: for a certificate, a list of members or a clock, which somebody will set right.
DOOR_PAUSE_S: Final = 30.0
# No try is put off for longer than LONGEST_DELAY_S and a tenth: what is due later than this was put off by a clock that
# was ahead and has been set back, and is due now.
FARTHEST: Final = timedelta(seconds=4200)
# A province that answers one question is back: it is asked at once whatever it has not answered for so long.
BACK_AFTER: Final = timedelta(seconds=60)
BACK_EVERY_S: Final = 10.0  # between two looks for that, by province
BACK_AT_ONCE: Final = 5  # questions, a look: who comes back must not be met by all that everybody has waiting
# A registry that has changed is asked again about open cases, a few at a time: it counts every one of them.
RENEWED_EVERY_S: Final = (
    30.0  # well apart: under a new key epoch all words are new, and forty within minutes look like a sweep
)
RENEWALS_PER_DAY: Final = 40  # and province; a month of them stays within a peer's default budget of repeats
RENEWED_AGAIN_AFTER: Final = timedelta(hours=20)  # a registry that is imported hourly is not asked hourly
ERASED_AFTER: Final = timedelta(days=7)  # a case closed by mistake can be reopened for so long


class ClosedReason(StrEnum):
    """Why a case is closed. The last three are the node's own."""

    FOUND = "found"
    RETURNED = "returned"
    DECEASED = "deceased"
    LEFT = "left"
    OTHER = "other"
    SUPERSEDED = "superseded"  # asked anew under the same reference
    EXPIRED = "expired"  # open for longer than `case_days`
    UNREADABLE = "unreadable"  # the key that seals it was lost


BY_PEOPLE: Final = (
    ClosedReason.FOUND,
    ClosedReason.RETURNED,
    ClosedReason.DECEASED,
    ClosedReason.LEFT,
    ClosedReason.OTHER,
)

# Nothing said that the question is wrong: the same one may be answered later.
ASKED_AGAIN: Final = frozenset(
    {
        ProvinceState.ASKED,  # our own node died before it heard anything
        ProvinceState.TIMED_OUT,
        ProvinceState.UNREACHABLE,
        ProvinceState.BUSY,
        ProvinceState.UNAVAILABLE,
        ProvinceState.NOT_ASKED,
        ProvinceState.FAILED,
        ProvinceState.BROKE_CONTRACT,
    }
)
# Of these, nobody knows whether the peer has answered.
FATE_UNKNOWN: Final = frozenset({ProvinceState.ASKED, ProvinceState.TIMED_OUT, ProvinceState.UNREACHABLE})
# Said before a peer has looked into the question, or without asking it: of bytes that it may have answered before, they
# tell nothing.
NOT_LOOKED: Final = frozenset({ProvinceState.BUSY, ProvinceState.UNAVAILABLE, ProvinceState.NOT_ASKED})


@dataclass(frozen=True, slots=True)
class Standing:
    """How one province stands in a question.

    heard: the newest word of it; ASKED while nothing was heard. attempts: questions sent. failures: attempts in a row
    without an answer. nonce, issued_at, deadline: of the newest attempt; outstanding: nothing was heard of that one, so
    nobody knows whether the peer has answered it. next_try_at: None when it is not asked again.
    answer: its newest answer, which a later failure never takes away. generation: of the registry that gave it.
    """

    code: str
    heard: Heard
    attempts: int
    failures: int
    nonce: bytes
    issued_at: datetime
    deadline: datetime
    outstanding: bool
    next_try_at: datetime | None
    answer: Answered | None
    generation: int | None


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question as the node remembers it: what was asked, and how every province stands.

    queries: the same client in every epoch that was valid when it was asked, the active one's first.
    """

    question_id: bytes
    header: QuestionHeader
    queries: tuple[EncodedQuery, ...]
    ask_until: datetime
    outcome: str | None
    standings: Mapping[str, Standing]


def is_asked_again(heard: Heard) -> bool:
    """Whether the same question may still be answered after this."""
    return heard.state in ASKED_AGAIN or (heard.state is ProvinceState.REFUSED and heard.retry_after_s is not None)


def is_fate_unknown(heard: Heard, *, is_repeat: bool) -> bool:
    """Whether nobody knows, after this, if the bytes that were sent have been answered.

    is_repeat: they had been sent before, and nobody knew it then.
    """
    return heard.state in FATE_UNKNOWN or (is_repeat and heard.state in NOT_LOOKED)


def delay_s(failures: int, chance: float) -> float:
    """Return the pause after so many failures in a row, in seconds: doubling, bounded, spread by `chance` in [0, 1).

    Half of it is fixed and half is chance, so that provinces that lost the same peer do not come back in step.
    """
    longest: float = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(max(failures, 1) - 1, 32))
    return longest * (0.5 + chance / 2)


def next_try(heard: Heard, failures: int, now: datetime, until: datetime, chance: float) -> datetime | None:
    """Return when a province is asked again after what was heard; None when it is not.

    A peer that named a time is not asked before it. The last try is at `until`; after that there is none.
    """
    if not is_asked_again(heard) or now >= until:
        return None
    pause_s = LONGEST_DELAY_S if heard.state is ProvinceState.BROKE_CONTRACT else delay_s(failures, chance)
    if heard.retry_after_s is not None:
        pause_s = max(pause_s, heard.retry_after_s * (1 + chance / 10))
    return min(now + timedelta(seconds=pause_s), until)


def is_due(next_try_at: datetime | None, now: datetime) -> bool:
    """Whether a try's time has come, or is so far away that only a wrong clock can have put it there."""
    return next_try_at is not None and not now < next_try_at <= now + FARTHEST


def next_header(header: QuestionHeader, standing: Standing, now: datetime, fresh_nonce: bytes) -> QuestionHeader:
    """Return the next attempt's header: the last one's where its fate is unknown and it is young, else a fresh one.

    Everything but nonce and times stays: the question's case, purpose, operator and encodings.
    """
    young = standing.issued_at <= now < standing.issued_at + SAME_BYTES_FOR
    if standing.outstanding and young:
        return replace(header, nonce=standing.nonce, issued_at=standing.issued_at, deadline=standing.deadline)
    return replace(header, nonce=fresh_nonce, issued_at=now, deadline=now + timedelta(seconds=ATTEMPT_S))
