"""Asking: encode the client once, ask every province at the same moment, and conclude from what came back in time.

Knows neither gRPC nor SQL: everything outside comes in through the ports of a `Desk`.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field, replace
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final

from matching.encoding import client_warnings
from matching.posterior import weigh
from node.cases import ASK_AGAIN_FOR, DOOR_PAUSE_S, LATER_REFUSALS, is_asked_again
from node.errors import (
    NodeError,
    OutcomeLostError,
    PeerBusyError,
    PeerContractError,
    PeerError,
    PeerRefusedError,
    PeerTimeoutError,
    PeerUnreachableError,
    StoreError,
    TrustError,
)
from node.findings import Accepted, Concluded, Find, Finding, Heard, ProvinceState, Warned
from node.log import log_bug
from node.messages import (
    NONCE_BYTES,
    Answer,
    Answered,
    Busy,
    NeedMore,
    QuestionHeader,
    RefusalReason,
    Refused,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
    from datetime import date, datetime

    from matching.encoding import QueryEncoder
    from matching.posterior import Candidate
    from matching.question import Client, EncodedQuery
    from matching.weights import MatchModel
    from node.messages import Purpose

SHOWN_FINDS: Final = 5  # groups of equal candidates told to the caseworker; more is a list to browse, not an answer


@dataclass(frozen=True, slots=True)
class Question:
    """One question, as it goes to every province.

    again: epoch -> the same question in another valid epoch, for provinces that cannot answer in this one's.
    """

    header: QuestionHeader
    query: EncodedQuery
    again: dict[int, Question] = field(default_factory=dict, compare=False, repr=False)

    def asked_in(self, epoch: int | None) -> Question:
        """Return the question as it was asked in an epoch."""
        return self if epoch is None else self.again.get(epoch, self)


@dataclass(frozen=True, slots=True)
class Desk:
    """What asking needs of its node.

    province: the own code. members: code -> name of every province, own one included. encoders: one per epoch that may
    be asked in, the active one's first. ask: puts the question to one of them, the own registry included, and answers
    within the seconds given or raises. opened: makes the question durable before anything is sent. again: makes
    durable that a province which refused it is about to be asked in another epoch. closed: the same for the outcome,
    every province's and what was answered. ask_again_for: how long those are asked again that did not answer.
    """

    province: str
    members: Callable[[], Mapping[str, str]]
    encoders: Callable[[], Sequence[QueryEncoder]] = field(repr=False)
    model: MatchModel = field(repr=False)
    ask: Callable[[str, Question, float], Awaitable[Answer]]
    opened: Callable[[Question, Collection[str]], Awaitable[None]]
    again: Callable[[Question, Question, str], Awaitable[None]]
    closed: Callable[[Question, Concluded, Mapping[str, Answered]], Awaitable[None]]
    now: Callable[[], datetime]
    ask_again_for: timedelta = ASK_AGAIN_FOR


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What a caseworker wants to know, and who asks. case_reference None: make one."""

    client: Client
    purpose: Purpose
    operator_pseudonym: bytes
    timeout_s: float
    case_reference: str | None = None


async def find_home(inquiry: Inquiry, desk: Desk) -> AsyncGenerator[Finding]:
    """Ask every province about a client; yield what happens as it happens, `Concluded` last.

    Raises, before anything was sent, FieldValueError for a client that cannot be asked about and StoreError when the
    question cannot be recorded; OutcomeLostError when everybody was asked and what came of it cannot be recorded.
    """
    started = monotonic()
    now = desk.now()
    # On a thread: the first question loads the gazetteer, and the node answers others meanwhile.
    encoders = desk.encoders()
    query, warnings = await asyncio.to_thread(_understand, inquiry.client, encoders[0], now.date())
    for warning in warnings:
        yield warning
    question = Question(
        header=QuestionHeader(
            nonce=secrets.token_bytes(NONCE_BYTES),
            case_reference=inquiry.case_reference or new_case_reference(now),
            purpose=inquiry.purpose,
            operator_pseudonym=inquiry.operator_pseudonym,
            issued_at=now,
            deadline=now + timedelta(seconds=inquiry.timeout_s),
        ),
        query=query,
    )
    for other in encoders[1:]:
        # On record with the question, so that it can still be asked in that epoch after a restart, without the client.
        query = await asyncio.to_thread(other.encode, inquiry.client, now.date())
        # Other bytes under a nonce that was used already would look like a forgery.
        header = replace(question.header, nonce=secrets.token_bytes(NONCE_BYTES))
        question.again[query.epoch] = Question(header, query)
    members = dict(desk.members())
    # Recorded before it is sent: a question nobody can account for must not be asked.
    await desk.opened(question, members)
    yield Accepted(question.header.case_reference, desk.province, members, inquiry.timeout_s)

    heard: dict[str, Heard] = {}
    answers: dict[str, Answered] = {}
    deadline = started + inquiry.timeout_s  # one for all: understanding and recording took their share of it
    tasks = [asyncio.create_task(ask_one(desk, code, question, deadline)) for code in members]
    try:
        for next_done in asyncio.as_completed(tasks):
            report, answer = await next_done
            heard[report.code] = report
            if answer is not None:
                answers[report.code] = answer
            yield report
    finally:
        for task in tasks:
            task.cancel()
    until = now + desk.ask_again_for
    concluded = conclude(question, answers, heard, desk.model, elapsed_ms=_ms_since(started), again_until=until)
    try:
        await desk.closed(question, concluded, answers)
    except StoreError as error:
        raise OutcomeLostError(
            f"the provinces were asked, but what they said cannot be recorded: {error}", hint=error.hint
        ) from None
    yield concluded


def conclude(
    question: Question,
    answers: Mapping[str, Answered],
    heard: Mapping[str, Heard],
    model: MatchModel,
    *,
    elapsed_ms: int,
    again_until: datetime,
) -> Concluded:
    """Weigh all answers together. A province without one keeps its share of doubt; it never counts as "none here".

    again_until: when the node stops asking who did not answer.
    """
    silent = [code for code in heard if code not in answers]
    evidence = {code: answer.evidence for code, answer in answers.items()}
    posterior, decision = weigh(evidence, silent, model, question.query)
    return Concluded(
        case=question.header.case_reference,
        outcome=str(decision.outcome),
        province=decision.province,
        ask_for=decision.ask_for,
        provinces=dict(sorted(posterior.provinces.items(), key=lambda item: (-item[1], item[0]))),
        none=posterior.none,
        unanswered=dict(posterior.unanswered),
        heard=tuple(heard[code] for code in sorted(heard)),
        finds=tuple(_find(best, answers[best.province]) for best in posterior.candidates[:SHOWN_FINDS]),
        ms=elapsed_ms,
        again_until=again_until.isoformat() if any(is_asked_again(heard[code]) for code in silent) else None,
    )


def new_case_reference(now: datetime) -> str:
    """Return a fresh reference like K-20261122-7f3a9c: the day, and enough chance for that day's cases."""
    return f"K-{now:%Y%m%d}-{secrets.token_hex(3)}"


async def ask_one(desk: Desk, code: str, question: Question, deadline: float) -> tuple[Heard, Answered | None]:
    """Ask one province; whatever happens becomes a state, so that no province can spoil another's answer."""
    started = monotonic()
    asked = question
    answer: Answer | None = None
    try:
        # Also around whoever does not keep to the time given: no province may hold up the others' answer.
        async with asyncio.timeout(deadline - started):
            answer = await desk.ask(code, question, deadline - started)
            if _wants_another_epoch(answer) and (other := next(iter(question.again.values()), None)) is not None:
                await desk.again(question, other, code)
                asked = other
                answer = await desk.ask(code, other, deadline - monotonic())
            heard = _answer(code, answer, _ms_since(started))
    except TimeoutError:
        heard = Heard(code, ProvinceState.TIMED_OUT, _ms_since(started))
    except PeerError as error:
        heard = _peer_error(code, error, _ms_since(started))
    except TrustError as error:
        heard = Heard(code, ProvinceState.NOT_ASKED, _ms_since(started), str(error))
    except NodeError as error:
        heard = Heard(code, ProvinceState.UNAVAILABLE, _ms_since(started), str(error))
    except Exception as error:  # noqa: BLE001 - a bug with one province must not cost the others' answers
        request = log_bug(error, province=code)
        heard = Heard(code, ProvinceState.FAILED, _ms_since(started), f"request {request} in the node's log")
    answered = answer if heard.state is ProvinceState.ANSWERED and isinstance(answer, Answered) else None
    return replace(heard, epoch=asked.query.epoch), answered


def _wants_another_epoch(answer: Answer) -> bool:
    return isinstance(answer, Refused) and answer.reason is RefusalReason.SCHEMA_MISMATCH


def _answer(code: str, answer: Answer, ms: int) -> Heard:
    match answer:
        case Answered():
            return Heard(code, ProvinceState.ANSWERED, ms)
        case NeedMore(attributes=attributes):
            return Heard(code, ProvinceState.NEED_MORE, ms, attributes=attributes)
        case Busy(retry_after_s=retry_after_s):
            return Heard(code, ProvinceState.BUSY, ms, retry_after_s=retry_after_s)
        case Refused(reason=reason, detail=detail):
            return Heard(code, ProvinceState.REFUSED, ms, detail, LATER_REFUSALS.get(reason))
        case Unavailable(detail=detail):
            return Heard(code, ProvinceState.UNAVAILABLE, ms, detail)


# Most specific first, as in the other tables; a PeerError of no listed kind was never reached.
_PEER_STATES: Final[tuple[tuple[type[PeerError], ProvinceState], ...]] = (
    (PeerTimeoutError, ProvinceState.TIMED_OUT),
    (PeerRefusedError, ProvinceState.REFUSED),
    (PeerBusyError, ProvinceState.BUSY),
    (PeerContractError, ProvinceState.BROKE_CONTRACT),
    (PeerUnreachableError, ProvinceState.UNREACHABLE),
)


def _peer_error(code: str, error: PeerError, ms: int) -> Heard:
    state = next((state for kind, state in _PEER_STATES if isinstance(error, kind)), ProvinceState.UNREACHABLE)
    return Heard(code, state, ms, str(error), DOOR_PAUSE_S if state is ProvinceState.REFUSED else None)


def _understand(client: Client, encoder: QueryEncoder, today: date) -> tuple[EncodedQuery, list[Warned]]:
    query = encoder.encode(client, today)
    warnings = [Warned(warning.field, warning.reason) for warning in client_warnings(client)]
    warned = {warning.field for warning in warnings}
    # A parent's name of titles alone, a place of punctuation alone: said, and yet nothing to ask with.
    said = {
        "sex": client.sex,
        "birth_date": client.born,
        "birthplace": client.birthplace,
        "mother_name": client.mother_name,
        "father_name": client.father_name,
    }
    unusable = [name for name, text in said.items() if text and name not in query.fields and name not in warned]
    return query, warnings + [Warned(name, "unusable") for name in unusable]


def _find(candidate: Candidate, answer: Answered) -> Find:
    return Find(
        province=candidate.province,
        persons=candidate.count,
        probability=candidate.probability,
        handles=tuple(handle.handle.hex() for handle in answer.handles if handle.class_index == candidate.class_index),
        bits={
            name: None if name in candidate.missing else round(bits, 2) for name, bits in candidate.field_bits.items()
        },
    )


def _ms_since(started: float) -> int:
    return round(1000 * (monotonic() - started))
