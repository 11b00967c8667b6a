"""Answering a peer's question: policy, PENDING row with claim and debit, search, outcome, answer, in this order."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from matching.clerical import clerical_candidates
from matching.question import HANDLE_BYTES, EncodedQuery, NameQuery
from matching.schema import describe
from matching.search import search
from node.errors import AccessDeniedError, QueryBudgetError, StoreError
from node.messages import (
    MAX_CLOCK_SKEW,
    Answer,
    Answered,
    Busy,
    Handle,
    NeedMore,
    Purpose,
    RefusalReason,
    Refused,
    Unavailable,
)
from node.policy import Method, require_allowed
from node.store import NO_REQUEST, PENDING, Admission, AuditEntry, Direction, HandleRecord, ReviewFacts
from node.tally import MAX_ROWS, Tally
from node.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from matching.clerical import Agreement, Zone
    from matching.question import SearchResult
    from matching.weights import MatchModel
    from node.generation import Generation, Generations
    from node.guard import Guard
    from node.messages import ReceivedQuestion
    from node.store import Reply, Sighting, Store

MAX_QUESTIONS_PER_CALLER: Final = 4  # at the same moment; one province's flood leaves room for the others
MAX_QUESTIONS: Final = 64  # at the same moment, of all callers: bounds the memory that waiting questions hold
RETRY_AFTER_S: Final = 1.0
HELD_S: Final = 2.0  # an answer that says no, once a caller has had MAX_ROWS of them within a minute
MAX_HELD: Final = 512  # such answers of one caller at the same moment: bounds the memory that they take
HANDLE_LIFETIME: Final = timedelta(days=7)  # a return is begun within days; after that, ask again

NO_REGISTRY: Final = "no registry imported yet"
NO_AUDIT: Final = "the audit cannot be written"
DISK_LOW: Final = "the disk is nearly full"
CLOCK_OFF: Final = "this node's clock is wrong"
STOPPING: Final = "the node is stopping"
CERTIFICATE_ENDED: Final = "the node's own certificate has ended"
OVER_BUDGET: Final = Refused(RefusalReason.BUDGET, "the budget of questions is used up; ask again another day")
NONCE_REUSED: Final = Refused(RefusalReason.NONCE_REUSED, "the nonce belongs to another question")

_log = structlog.get_logger(__name__)


class _StoppedError(Exception):
    """The asker has stopped waiting."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """A question that had been answered: the very bytes it was answered with."""

    response: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Served:
    """What comes of a question.

    answer: None when its asker stopped waiting. response: as `write` made it. number: of its PENDING row; without one,
    nothing was read. admitted: whether budgets were debited for it, so that its answer is kept for its repetition.
    is_new: whether the sweep monitor looks at it. note: what the audit says of a refusal whose caller is told less.
    """

    answer: Answer | Repeated | None
    handles: Sequence[HandleRecord] = ()
    number: int | None = None
    admitted: bool = False
    response: bytes | None = field(default=None, repr=False)
    is_new: bool = False
    sighting: Sighting | None = None
    note: str | None = None


@dataclass(slots=True)
class _Patience:
    """How long the asker waits: until its deadline, or until it hangs up."""

    asked_at: float  # of time.monotonic, as the next
    expires_at: float
    hung_up: bool = False

    def check(self) -> None:
        """Raise _StoppedError when nobody waits for the answer any more."""
        if self.hung_up or time.monotonic() >= self.expires_at:
            raise _StoppedError


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question being served. write: makes an answer's bytes; None where nobody wants them."""

    caller: str
    question: ReceivedQuestion
    patience: _Patience
    write: Callable[[Answer], bytes] | None


class AnsweringService:
    """Answers questions from one registry. Searches run on threads of their own, off the event loop."""

    def __init__(
        self,
        *,
        generations: Generations,
        model: MatchModel,
        store: Store,
        guard: Guard,
        now: Callable[[], datetime],
        threads: int,
        zone: Zone | None = None,
        observe: Callable[..., None] = lambda *_, **__: None,
    ) -> None:
        self._generations = generations
        self._model = model
        self._store = store
        self._guard = guard
        self._now = now
        self._zone = zone
        self._observe = observe
        self._threads = Turns(threads, "search")
        self._waiting: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()  # within this minute, as the next
        self._given_up: Counter[str] = Counter()
        self._held: Counter[str] = Counter()
        self._tally = Tally()
        self._lock = threading.Lock()
        self.paused: str | None = None
        """Why nothing is answered for now, one of the fixed sentences; None when questions are."""

    async def answer(self, caller: str, question: ReceivedQuestion, *, time_left_s: float) -> Answer:
        """Answer one question of a member whose identity has been verified.

        A PENDING row is committed before the registry is searched, its outcome's row with the handles before this
        returns; where they cannot be, the answer is Unavailable. Raises TimeoutError when `time_left_s` ran out first.
        """
        served = await self._serve(caller, replace(question, reply_key=None), time_left_s, None)
        assert served.answer is not None
        assert not isinstance(served.answer, Repeated)
        return served.answer

    async def reply(
        self, caller: str, question: ReceivedQuestion, *, time_left_s: float, write: Callable[[Answer], bytes]
    ) -> bytes:
        """Answer as `answer` does, in the bytes that `write` makes of it; the same bytes again get the same answer."""
        served = await self._serve(caller, question, time_left_s, write)
        if isinstance(served.answer, Repeated):
            return served.answer.response
        assert served.answer is not None
        return write(served.answer) if served.response is None else served.response

    async def _serve(
        self,
        caller: str,
        question: ReceivedQuestion,
        time_left_s: float,
        write: Callable[[Answer], bytes] | None,
    ) -> _Served:
        if self.paused is not None:
            return _Served(Unavailable(self.paused))  # not audited: nothing was read, and there may be no room to write
        if not self._enter(caller):
            return _Served(await self.turn_away(caller, time_left_s=time_left_s))
        asked_at = time.monotonic()
        patience = _Patience(asked_at, asked_at + time_left_s)
        asked = _Asked(caller, question, patience, write)
        try:
            task = self._threads.submit(caller, lambda: self._answer_within(asked))
        except RuntimeError:  # the threads have ended
            self._leave(caller)
            return _Served(Unavailable(STOPPING))
        task.add_done_callback(lambda done: self._leave(caller, gave_up=done.cancelled()))
        try:
            served = await asyncio.wrap_future(task)
        except _StoppedError:
            raise TimeoutError from None
        finally:
            patience.hung_up = True
        if served.number is None:
            await self._hold(caller, time_left_s=patience.expires_at - time.monotonic())
        return served

    def is_full(self, caller: str) -> bool:
        """Whether a caller's next question would be told to wait: then it need not even be read."""
        with self._lock:
            return self.paused is None and self._is_full(caller)

    async def turn_away(self, caller: str, *, time_left_s: float) -> Busy:
        """Tell a caller to wait; nothing of its question is read."""
        # Counted, and a row for all of them within a minute: nothing was read, and a flood must not fill the disk.
        self._tally.add(caller, BUSY)
        await self._hold(caller, time_left_s=time_left_s)
        return Busy(RETRY_AFTER_S)

    async def _hold(self, caller: str, *, time_left_s: float) -> None:
        """Keep an answer that cost the caller no budget for a moment, when it has had many: it asks that much less."""
        self._refused[caller] += 1
        if self._refused[caller] <= MAX_ROWS or self._held[caller] >= MAX_HELD:
            return
        self._held[caller] += 1
        try:
            await asyncio.sleep(max(0.0, min(HELD_S, time_left_s / 2)))
        finally:
            self._held[caller] -= 1

    def record_tally(self) -> None:
        """Write the rows of refusals that were counted together; what cannot be written now is kept for the next time.

        Raises StoreError.
        """
        counted = self._tally.drain()
        self._refused.clear()
        with self._lock:
            self._given_up.clear()
        now = self._now()
        entries = [
            AuditEntry(now, Direction.ANSWERED, caller, Method.ASK, outcome, NO_REQUEST, reason=reason, calls=calls)
            for (caller, outcome, reason), calls in counted.items()
        ]
        try:
            self._store.record_events(entries)
        except StoreError:
            self._tally.put_back(counted)
            raise

    def close(self) -> None:
        """End after the searches that have been accepted."""
        self._threads.close()

    def _answer_within(self, asked: _Asked) -> _Served:
        caller, question = asked.caller, asked.question
        started = time.monotonic()
        with self._generations.lease(_epoch_of(question)) as generation:
            about = self._about(caller, question, generation)
            try:
                served = self._decide_unread(asked, generation) or self._admit(asked, about)
                if served.number is not None and served.answer is None:
                    assert generation is not None
                    served = self._search(asked, generation, served, about)
                searched = time.monotonic()
                outcome = replace(
                    about,
                    at=self._now(),
                    outcome=OUTCOMES[type(served.answer)],
                    reason=served.note or _reason(served.answer),
                    duration_ms=round((searched - started) * 1000),
                    concerns=served.number,
                    handles_given=len(served.handles) if isinstance(served.answer, Answered) else None,
                )
                if served.number is not None or self._tally.has_room(caller):
                    reply = self._guard.reply(caller, question, served.response) if served.admitted else None
                    self._store.record_answer(outcome, served.handles, reply=reply, sighting=served.sighting)
                else:
                    self._tally.add(caller, outcome.outcome, outcome.reason)
            except StoreError as error:
                _log.error("answer_withheld", peer=caller, reason=str(error))
                return _Served(Unavailable(NO_AUDIT))
        self._observe(
            caller,
            outcome.outcome,
            queued_s=started - asked.patience.asked_at,
            searched_s=searched - started,
            recorded_s=time.monotonic() - searched,
        )
        if served.sighting is not None:
            self._guard.watch(caller, question)
        if served.answer is None:
            with self._lock:  # the same bytes again cost no budget, and every try of them has rows in the audit
                self._given_up[caller] += 1
            raise _StoppedError
        return served

    def _without_index(self, query: EncodedQuery) -> Refused | Unavailable:
        """Say that there is no index in the question's epoch: with one in another, the asker may ask in that."""
        others = self._generations.epochs
        if not others:
            return Unavailable(NO_REGISTRY)
        ours, theirs = describe(query.fingerprint, *sorted(others)), describe(query.fingerprint, query.epoch)
        return Refused(RefusalReason.SCHEMA_MISMATCH, f"we encode by {ours}, the question by {theirs}")

    def _decide_unread(self, asked: _Asked, generation: Generation | None) -> _Served | None:
        """Return the answer that needs no registry and costs no budget, None when it must be searched."""
        try:
            asked.patience.check()
        except _StoppedError:
            return _Served(None)
        content = asked.question.content
        if (refused := refusal(asked.caller, asked.question, self._now())) is not None:
            return _Served(refused)
        assert isinstance(content, EncodedQuery)
        if generation is None:
            return _Served(self._without_index(content))
        missing = too_little(content)
        return None if missing is None else _Served(missing)

    def _admit(self, asked: _Asked, about: AuditEntry) -> _Served:
        """Commit the PENDING row with claim and debits; without an answer, the registry is to be searched."""
        try:
            admitted = self._guard.admit(asked.caller, asked.question, about)
        except QueryBudgetError as error:
            _log.warning("over_budget", peer=asked.caller, reason=str(error))
            return _Served(OVER_BUDGET, note=f"{OVER_BUDGET.reason}: {error}")
        match admitted.admission:
            case Admission.NONCE_REUSED:
                return _Served(NONCE_REUSED)
            case Admission.IN_PROGRESS:
                return _Served(Busy(RETRY_AFTER_S))
            case Admission.ANSWERED:
                assert admitted.reply is not None
                return _Served(Repeated(self._guard.kept(asked.question, admitted.reply)))
            case Admission.OWN:
                return _Served(None, number=admitted.number)
            case _:
                new = admitted.admission is not Admission.REPEAT
                return _Served(None, number=admitted.number, admitted=True, is_new=new)

    def _search(self, asked: _Asked, generation: Generation, due: _Served, about: AuditEntry) -> _Served:
        caller, question = asked.caller, asked.question
        query = question.content
        assert isinstance(query, EncodedQuery)
        try:
            result = search(generation.index, query, self._model, check=asked.patience.check)
            answer, handles = self._hand_out(caller, question, generation, result)
            response = asked.write(answer) if asked.write and due.admitted else None
            sighting = self._guard.sighting(caller, question, result.evidence, self._model) if due.is_new else None
        except _StoppedError:
            return due
        except Exception:  # a bug: the caller learns a request id, the audit that nothing was answered
            failed = replace(about, at=self._now(), outcome=FAILED, concerns=due.number)
            self._record_failure(failed, self._guard.reply(caller, question, None) if due.admitted else None)
            raise
        return replace(due, answer=answer, handles=handles, response=response, sighting=sighting)

    def _record_failure(self, entry: AuditEntry, reply: Reply | None) -> None:
        try:
            self._store.record_answer(entry, reply=reply)
        except StoreError as error:
            # Its PENDING row stays, and the next start resolves it.
            _log.error("failure_not_audited", reason=str(error))

    def _hand_out(
        self, caller: str, question: ReceivedQuestion, generation: Generation, result: SearchResult
    ) -> tuple[Answered, Sequence[HandleRecord]]:
        """Give every candidate a fresh handle, so that nothing about a person is the same in two answers."""
        assert question.header is not None
        now = self._now()
        for_review = self._for_review(question, result)
        handles: list[Handle] = []
        records: list[HandleRecord] = []
        for class_index, row in result.candidates:
            handle = secrets.token_bytes(HANDLE_BYTES)
            handles.append(Handle(handle, class_index))
            records.append(
                HandleRecord(
                    handle=handle,
                    question_nonce=question.header.nonce,
                    peer=caller,
                    record_id=generation.index.record_id(row),
                    generation=generation.name,
                    issued_at=now,
                    expires_at=now + HANDLE_LIFETIME,
                    review=ReviewFacts(row, *for_review[class_index].pack()) if class_index in for_review else None,
                    case_reference=question.header.case_reference,
                )
            )
        return Answered(result.evidence, tuple(handles), generation.number), records

    def _for_review(self, question: ReceivedQuestion, result: SearchResult) -> Mapping[int, Agreement]:
        """Return the answer's classes that a person of this province should look at; none for a test of the line."""
        assert question.header is not None
        assert isinstance(question.content, EncodedQuery)
        if self._zone is None or question.header.purpose is Purpose.SELF_TEST:
            return {}
        return clerical_candidates(result, question.content, self._model.schema, self._zone)

    def _about(self, caller: str, question: ReceivedQuestion, generation: Generation | None) -> AuditEntry:
        """Return the PENDING row of a question; its outcome's row says the same and what came of it."""
        header = question.header
        identity = question.identity
        return AuditEntry(
            at=self._now(),
            direction=Direction.ANSWERED,
            peer=caller,
            method=Method.ASK,
            purpose=header.purpose if header else "unknown",
            outcome=PENDING,
            request_sha256=question.request_sha256,
            case_reference=header.case_reference if header else None,
            operator_pseudonym=header.operator_pseudonym if header else None,
            nonce=header.nonce if header else None,
            generation=generation.name if generation else None,
            schema_fingerprint=identity[0] if identity else None,
            key_epoch=identity[1] if identity else None,
        )

    def _enter(self, caller: str) -> bool:
        with self._lock:
            if self._is_full(caller):
                return False
            self._waiting[caller] += 1
            return True

    def _is_full(self, caller: str) -> bool:
        return (
            self._waiting[caller] >= MAX_QUESTIONS_PER_CALLER
            or self._waiting.total() >= MAX_QUESTIONS
            or self._given_up[caller] >= MAX_ROWS
        )

    def _leave(self, caller: str, *, gave_up: bool = False) -> None:
        """Free a caller's place. gave_up: it hung up before its turn came."""
        with self._lock:
            self._waiting[caller] -= 1
            self._given_up[caller] += gave_up


def _epoch_of(question: ReceivedQuestion) -> int | None:
    """Return the epoch whose index a question searches; None for one that will be refused anyway."""
    return None if question.identity is None or isinstance(question.content, Refused) else question.identity[1]


def refusal(caller: str, question: ReceivedQuestion, now: datetime) -> Refused | None:
    """Return why a question is refused before any search, None when it may be answered."""
    header = question.header
    if header is not None:
        try:
            require_allowed(caller, Method.ASK, header.purpose)
        except AccessDeniedError:
            return Refused(RefusalReason.NOT_ALLOWED, "the policy does not allow this purpose")
        if abs(now - header.issued_at) > MAX_CLOCK_SKEW:
            return Refused(RefusalReason.CLOCK, "issued_at is more than 300 s from the answering node's clock")
    return question.content if isinstance(question.content, Refused) else None


def too_little(query: EncodedQuery) -> NeedMore | None:
    """Return what is missing when no name has a whole token: initials would count everybody of a day and place."""
    named = (query.fields.get(field) for field in ("name", "mother_name"))
    whole = any(not token.initial for name in named if isinstance(name, NameQuery) for token in name.tokens)
    return None if whole else NeedMore(("name",))


BUSY: Final = "busy"
FAILED: Final = "failed"  # by a bug of ours

# What the audit calls an outcome; None is a question whose asker stopped waiting.
OUTCOMES: Final[dict[type[Answer | Repeated | None], str]] = {
    Answered: "answered",
    Busy: BUSY,
    Repeated: "repeated",
    NeedMore: "need_more",
    Refused: "refused",
    Unavailable: "unavailable",
    type(None): "timed_out",
}


def _reason(answer: Answer | Repeated | None) -> str | None:
    match answer:
        case Refused(reason, detail):
            return f"{reason}: {detail}"
        case Unavailable(detail):
            return detail
        case _:
            return None
