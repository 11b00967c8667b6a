"""The node's own questions on record: plain values in and out, sealed rows in the database, an audit row each way."""

from __future__ import annotations

import hashlib
import json
import random
import re
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import structlog

from node.cases import (
    ATTEMPT_S,
    BACK_AFTER,
    BACK_AT_ONCE,
    BACK_EVERY_S,
    BY_PEOPLE,
    ERASED_AFTER,
    FARTHEST,
    LOST_AFTER,
    RENEWALS_PER_DAY,
    RENEWED_AGAIN_AFTER,
    RENEWED_EVERY_S,
    ClosedReason,
    OpenQuestion,
    Standing,
    is_due,
    is_fate_unknown,
    next_header,
    next_try,
)
from node.errors import CaseError, StoreError, TrustError
from node.findings import Concluded, Heard, ProvinceState, as_json, from_json
from node.messages import CASE_REFERENCE_PATTERN, NONCE_BYTES
from node.pki.sealing import seal, unseal
from node.policy import Method
from node.query import Question, conclude
from node.rpc.wire import WireError, read_own_answer, read_own_question, write_own_answer, write_question
from node.store import (
    AttemptRecord,
    AuditEntry,
    Direction,
    HearingRecord,
    ProvinceShare,
    QuestionOutcome,
    QuestionRecord,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from matching.schema import LinkageSchema
    from matching.weights import MatchModel
    from node.messages import Answered
    from node.store import CaseEvent, CaseRecord, ProvinceRecord, Store

OTHER_EPOCH: Final = "it has no index in this key epoch: asked again in the other valid one"
SENT: Final = "sent"  # the audit's outcome of a question until its province has been heard
MAX_REASON_CHARS: Final = 200  # as the store keeps it
LISTED: Final = 200  # newest cases that a list shows

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one province, on record and about to be sent.

    is_repeat: in the bytes of an earlier one, of which nobody knows whether it was answered.
    """

    question_id: bytes
    province: str
    question: Question
    is_repeat: bool = False


class CaseBook:
    """Every question this node has asked, and what is known of it. Its methods block: call them off the event loop.

    key: seals encodings, answers and results. chance: uniform on [0, 1), spreads what is asked again. on_change: called
    when something may be due sooner than before. One process writes a node's cases: the one that serves its folder.
    """

    def __init__(
        self,
        store: Store,
        key: bytes,
        schema: LinkageSchema,
        *,
        ask_again_for: timedelta,
        keep_open_for: timedelta,
        now: Callable[[], datetime],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.ask_again_for = ask_again_for
        self.on_change: Callable[[], None] = lambda: None
        self._store = store
        self._cases = store.cases
        self._key = key
        self._schema = schema
        self._keep_open_for = keep_open_for
        self._now = now
        self._chance = chance
        self._lock = threading.Lock()  # between reading what is known of a question and writing what follows from it
        self._noted: dict[str, tuple[int, int]] = {}  # by province: its registry's generation, minute of the look
        self._looked_at: dict[str, float] = {}  # by province, of time.monotonic: when for what waits for it
        # Questions that caseworkers wait for, and until when (of time.monotonic). Not by the clock: one that is set
        # forward would let a question that is under way count as lost, and be asked a second time.
        self._under_way: dict[bytes, float] = {}

    # --- a question as a caseworker asks it ---

    def open(self, question: Question, provinces: Collection[str]) -> None:
        """Commit that a question is about to go to these provinces. Raises StoreError: then it must not be asked."""
        header = question.header
        requests = [write_question(each.header, each.query) for each in (question, *question.again.values())]
        digest = hashlib.sha256(requests[0]).digest()
        lost_at = header.deadline + LOST_AFTER
        record = QuestionRecord(
            question_id=header.nonce,
            case_reference=header.case_reference,
            at=header.issued_at,
            sealed_request=seal(self._key, _pack(requests), _request(header.nonce)),
            ask_until=header.issued_at + self.ask_again_for,
            attempts=tuple(
                AttemptRecord(code, header.nonce, header.issued_at, header.deadline, lost_at) for code in provinces
            ),
        )
        entries = [self._entry(question, digest, code, outcome=SENT) for code in provinces]
        self._under_way = {key: until for key, until in self._under_way.items() if until > monotonic()}
        self._under_way[header.nonce] = monotonic() + (lost_at - header.issued_at).total_seconds()
        self._store.record_question(record, entries)  # due only when these tries are lost: long after the next look

    def conclude(self, question: Question, concluded: Concluded, answers: Mapping[str, Answered]) -> None:
        """Commit what every province said at first, and what it came to."""
        header = question.header
        now = self._now()
        until = header.issued_at + self.ask_again_for
        hearings = [
            self._hearing(question, heard, answers.get(heard.code), header.nonce, failures=0, now=now, until=until)
            for heard in concluded.heard
        ]
        digests = {each: _digest(question.asked_in(each)) for each in {heard.epoch for heard in concluded.heard}}
        entries = [
            self._entry(
                question.asked_in(each.epoch), digests[each.epoch], each.code, outcome=each.state, reason=each.detail,
                duration_ms=each.ms,
            )
            for each in concluded.heard
        ]  # fmt: skip
        outcome = self._outcome(header.nonce, concluded, hearings, now, event="concluded")
        with self._lock:
            self._store.record_outcome(outcome, entries)
        self._under_way.pop(header.nonce, None)
        for code, answer in answers.items():
            self.note_generation(code, answer.generation)
            self.note_back(code)
        if any(each.next_try_at is not None for each in hearings):
            self.on_change()

    def again(self, question: Question, other: Question, code: str) -> None:
        """Commit that a province has refused the question's epoch, and is about to be asked in the other one."""
        entries = [
            self._entry(question, _digest(question), code, outcome=ProvinceState.REFUSED, reason=OTHER_EPOCH),
            self._entry(other, _digest(other), code, outcome=SENT),
        ]
        self._store.record_events(entries)

    # --- asking again ---

    def resume(self) -> int:
        """Let tries that a killed node left under way be made again at once; return how many. Call before serving."""
        return self._cases.resume(self._now())

    def due(self, skip: Collection[str], limit: int) -> tuple[tuple[bytes, str], ...]:
        """Return (question, province) of tries whose time has come, the longest waiting first.

        None of a question whose caseworker still waits: those are under way, whatever the clock says.
        """
        now = self._now()
        found = self._cases.due(now, now + FARTHEST, skip=skip, limit=limit)
        return tuple(each for each in found if monotonic() >= self._under_way.get(each[0], 0.0))

    def next_due(self, skip: Collection[str]) -> datetime | None:
        """Return when the next try is due, None when nothing waits."""
        return self._cases.next_due(skip=skip)

    def begin(self, question_id: bytes, province: str) -> Attempt | None:
        """Commit that a province is about to be asked again; None when it need not be any more."""
        opened = self._load(question_id)
        if opened is None:
            return None
        now = self._now()
        standing = opened.standings[province]
        if standing.next_try_at is None or not is_due(standing.next_try_at, now):
            return None
        header = next_header(opened.header, standing, now, secrets.token_bytes(NONCE_BYTES))
        # In the epoch the province was last asked in: it may have no index in the others yet, or no more.
        first, *others = sorted(opened.queries, key=lambda query: query.epoch != standing.heard.epoch)
        question = Question(header, first)
        for query in others:
            question.again[query.epoch] = Question(replace(header, nonce=secrets.token_bytes(NONCE_BYTES)), query)
        lost_at = now + timedelta(seconds=ATTEMPT_S) + LOST_AFTER
        record = AttemptRecord(province, header.nonce, header.issued_at, header.deadline, lost_at)
        entries = [self._entry(question, _digest(question), province, outcome=SENT)]
        if not self._store.record_attempt(question_id, record, standing.next_try_at, entries):
            return None
        return Attempt(question_id, province, question, is_repeat=header.nonce == standing.nonce)

    def settle(self, attempt: Attempt, heard: Heard, answer: Answered | None, model: MatchModel) -> Concluded | None:
        """Commit what came of a try, with the question's result as it now stands, and return that.

        None when the question was erased meanwhile.
        """
        now = self._now()
        with self._lock:
            opened = self._load(attempt.question_id)
            if opened is None:
                return None
            before = opened.standings[attempt.province]
            answers = {code: each.answer for code, each in opened.standings.items() if each.answer is not None}
            states = {code: each.heard for code, each in opened.standings.items()}
            if answer is not None:
                answers[attempt.province] = answer
            if answer is not None or before.answer is None:
                states[attempt.province] = heard
            concluded = conclude(
                Question(opened.header, opened.queries[0]), answers, states, model, elapsed_ms=heard.ms,
                again_until=opened.ask_until,
            )  # fmt: skip
            failures = 0 if answer is not None else before.failures + 1
            hearing = self._hearing(
                attempt.question, heard, answer, attempt.question_id, failures=failures, now=now,
                until=opened.ask_until, keep=before.answer is not None, is_repeat=attempt.is_repeat,
            )  # fmt: skip
            event = _event(opened, attempt.province, concluded, hearing)
            outcome = self._outcome(
                attempt.question_id, concluded, [hearing], now, event=event, detail=attempt.province, seen=event is None
            )
            asked = attempt.question.asked_in(heard.epoch)
            entry = self._entry(
                asked, _digest(asked), attempt.province, outcome=heard.state, reason=heard.detail, duration_ms=heard.ms
            )
            self._store.record_outcome(outcome, [entry])
        if event is not None:
            _log.info(f"case_{event}", question=attempt.question_id.hex(), outcome=concluded.outcome)
        if answer is not None:
            self.note_generation(attempt.province, answer.generation)
            self.note_back(attempt.province)
        return concluded

    def note_generation(self, province: str, generation: int | None) -> None:
        """Take note of which registry a province answers from; a change lets open cases ask it again, bit by bit."""
        now = self._now()
        minute = int(now.timestamp() // 60)
        if generation is None or self._noted.get(province) == (generation, minute):
            return  # looked for already in this minute
        with self._lock:
            waiting = self._cases.waiting_for_news_of(
                province, generation, now - RENEWED_AGAIN_AFTER,
                day_start=now - timedelta(days=1), per_day=RENEWALS_PER_DAY,
            )  # fmt: skip
            tries = [
                (question_id, now + timedelta(seconds=RENEWED_EVERY_S * (place + self._chance())))
                for place, question_id in enumerate(waiting)
            ]
            self._cases.renew(province, tries, now, now + self.ask_again_for)
            self._noted[province] = (generation, minute)
        if tries:
            _log.info("registry_changed", province=province, asked_again=len(tries))
            self.on_change()

    def note_back(self, province: str) -> None:
        """Ask a province that has just been heard of whatever waits for it: waits grow while it is away."""
        if monotonic() < self._looked_at.get(province, -BACK_EVERY_S) + BACK_EVERY_S:
            return
        self._looked_at[province] = monotonic()
        now = self._now()
        if self._cases.hasten(province, now, now - BACK_AFTER, most=BACK_AT_ONCE):
            self.on_change()

    def has_open(self) -> bool:
        """Whether any case could still be asked again."""
        return self._cases.has_open()

    def tidy(self) -> None:
        """Close cases that have been open for too long; erase encodings and answers of cases closed some days ago."""
        now = self._now()
        expired, erased = self._cases.expire(now - self._keep_open_for, now - ERASED_AFTER, now)
        if expired or erased:
            _log.info("cases_tidied", expired=expired, erased=erased)

    def give_up_unreadable(self, question_id: bytes) -> None:
        """Close a question whose sealed part cannot be opened: it cannot be asked again."""
        self._cases.close(question_id, ClosedReason.UNREADABLE, self._now(), seen=False)
        _log.error("case_unreadable", question=question_id.hex())

    # --- what caseworkers see and do ---

    def list(self, *, closed: bool) -> dict[str, Any]:
        """Return the newest cases, newest first: open ones, or with `closed` all of them."""
        return {"cases": [_summary(case, rows) for case, rows in self._cases.list(closed=closed, limit=LISTED)]}

    def show(self, case_reference: str, *, looked_at: bool = True) -> dict[str, Any]:
        """Return all that is known of a case. Raises CaseError when there is none.

        looked_at: a caseworker reads it, so it is no news any more.
        """
        case, rows, history = self._find(case_reference)
        result = None
        if case.sealed_result is not None:
            result = json.loads(unseal(self._key, case.sealed_result, _result(case.question_id)))
        if looked_at and case.news:
            with suppress(StoreError):  # on a full disk a case can still be read; it stays news
                self._cases.mark_seen(case_reference)
        return {
            **_summary(case, rows),
            "provinces": [_province(row) for row in rows],
            "result": result,
            "history": [_line(event) for event in history],
        }

    def close(self, case_reference: str, reason: str) -> dict[str, Any]:
        """Close a case: nobody is asked about it again. Raises CaseError."""
        if reason not in BY_PEOPLE:
            raise CaseError(f"the reason must be one of {', '.join(BY_PEOPLE)}")
        case, _, _ = self._find(case_reference)
        if not self._cases.close(case.question_id, reason, self._now()):
            raise CaseError(f"the case was closed already: {case.closed_reason}", hint="`pulang case show` tells when")
        self.on_change()
        return self.show(case_reference, looked_at=False)

    def reopen(self, case_reference: str) -> dict[str, Any]:
        """Ask again, at once and for as long as a new question, whoever has not answered. Raises CaseError."""
        case, _, _ = self._find(case_reference)
        now = self._now()
        if not self._cases.reopen(case.question_id, now, now + self.ask_again_for):
            raise CaseError(
                "what was asked has been erased", hint="ask anew: `pulang find --case` with the same reference"
            )
        self.on_change()
        return self.show(case_reference, looked_at=False)

    # --- inside ---

    def _find(self, case_reference: str) -> tuple[CaseRecord, tuple[ProvinceRecord, ...], tuple[CaseEvent, ...]]:
        is_one = re.fullmatch(CASE_REFERENCE_PATTERN, case_reference)  # no database is asked for what cannot be there
        found = self._cases.find(case_reference) if is_one else None
        if found is None:
            raise CaseError("there is no case of this reference", hint="`pulang case list --all` shows all of them")
        return found

    def _load(self, question_id: bytes) -> OpenQuestion | None:
        """Return a question, None when its encodings were erased. Raises TrustError when they cannot be opened."""
        case, rows = self._cases.load(question_id)
        if case.sealed_request is None or case.ask_until is None:
            return None
        try:
            requests = _unpack(unseal(self._key, case.sealed_request, _request(question_id)))
            read = [read_own_question(request, self._schema) for request in requests]
            standings = {row.province: self._standing(row) for row in rows}
        except WireError as error:
            raise TrustError(f"a stored question cannot be read: {error}") from None
        header, queries = read[0][0], tuple(query for _, query in read)
        return OpenQuestion(question_id, header, queries, case.ask_until, case.outcome, standings)

    def _standing(self, row: ProvinceRecord) -> Standing:
        assert row.nonce is not None
        assert row.issued_at is not None
        assert row.deadline is not None
        heard = from_json(json.loads(row.heard)) if row.heard else Heard(row.province, ProvinceState.ASKED, 0)
        assert isinstance(heard, Heard)
        answer = None
        if row.sealed_answer is not None:
            opened = unseal(self._key, row.sealed_answer, _answer(row.question_id, row.province))
            answer = read_own_answer(opened, self._schema)
        return Standing(
            code=row.province,
            heard=heard,
            attempts=row.attempts,
            failures=row.failures,
            nonce=row.nonce,
            issued_at=row.issued_at,
            deadline=row.deadline,
            outstanding=row.outstanding,
            next_try_at=row.next_try_at,
            answer=answer,
            generation=row.generation,
        )

    def _hearing(
        self,
        asked: Question,
        heard: Heard,
        answer: Answered | None,
        question_id: bytes,
        *,
        failures: int,
        now: datetime,
        until: datetime,
        keep: bool = False,
        is_repeat: bool = False,
    ) -> HearingRecord:
        """keep: an earlier answer stands, and what was heard now does not replace it. is_repeat: as of an Attempt."""
        sealed = None
        if answer is not None:
            data = write_own_answer(answer, self._schema)
            sealed = seal(self._key, data, _answer(question_id, heard.code))
        failed = 0 if answer is not None else max(failures, 1)
        return HearingRecord(
            province=heard.code,
            heard=None if keep and answer is None else json.dumps(as_json(heard)),
            # Of a second try, in another epoch, the bytes are not on record: the next one is a fresh one.
            outstanding=is_fate_unknown(heard, is_repeat=is_repeat) and asked.asked_in(heard.epoch) is asked,
            failures=failed,
            next_try_at=next_try(heard, failed, now, until, self._chance()),
            sealed_answer=sealed,
            generation=answer.generation if answer is not None else None,
        )

    def _outcome(
        self,
        question_id: bytes,
        concluded: Concluded,
        hearings: Sequence[HearingRecord],
        now: datetime,
        *,
        event: str | None,
        detail: str | None = None,
        seen: bool = True,
    ) -> QuestionOutcome:
        shares = {**concluded.unanswered, **concluded.provinces}
        return QuestionOutcome(
            question_id=question_id,
            at=now,
            outcome=concluded.outcome,
            province=concluded.province,
            none_probability=concluded.none,
            provinces=tuple(ProvinceShare(each.code, each.state, shares[each.code]) for each in concluded.heard),
            hearings=tuple(hearings),
            sealed_result=seal(self._key, json.dumps(as_json(concluded)).encode(), _result(question_id)),
            event=event,
            detail=detail,
            seen=seen,
        )

    def _entry(
        self,
        question: Question,
        digest: bytes,
        code: str,
        *,
        outcome: str,
        reason: str | None = None,
        duration_ms: int | None = None,
    ) -> AuditEntry:
        return AuditEntry(
            at=self._now(),
            direction=Direction.ASKED,
            peer=code,
            method=Method.ASK,
            outcome=outcome,
            request_sha256=digest,
            purpose=question.header.purpose,
            reason=reason[:MAX_REASON_CHARS] if reason else None,
            case_reference=question.header.case_reference,
            operator_pseudonym=question.header.operator_pseudonym,
            nonce=question.header.nonce,
            schema_fingerprint=question.query.fingerprint,
            key_epoch=question.query.epoch,
            duration_ms=duration_ms,
        )


def _event(opened: OpenQuestion, province: str, concluded: Concluded, hearing: HearingRecord) -> str | None:
    """Return what a caseworker should be told of: an answer that came late, or the last try having failed."""
    if hearing.sealed_answer is not None:
        news = opened.standings[province].answer is None or opened.outcome != concluded.outcome
        return "amended" if news else None
    others = (each.next_try_at for code, each in opened.standings.items() if code != province)
    waits = hearing.next_try_at is not None or any(others)
    return None if waits or concluded.outcome != "incomplete" else "gave_up"


def _digest(question: Question) -> bytes:
    """Return the hash of the very bytes the peers receive: both sides' audits name a question alike."""
    return hashlib.sha256(write_question(question.header, question.query)).digest()


def _pack(requests: Sequence[bytes]) -> bytes:
    """Join a question's bytes, one per epoch: each behind its length, 4 bytes little-endian."""
    return b"".join(len(request).to_bytes(4, "little") + request for request in requests)


def _unpack(packed: bytes) -> list[bytes]:
    requests = []
    while packed:
        end = 4 + int.from_bytes(packed[:4], "little")
        requests.append(packed[4:end])
        packed = packed[end:]
    return requests


# What is sealed is bound to its row and column.
def _request(question_id: bytes) -> bytes:
    return b"pulang request:" + question_id


def _result(question_id: bytes) -> bytes:
    return b"pulang result:" + question_id


def _answer(question_id: bytes, province: str) -> bytes:
    return b"pulang answer:" + question_id + b":" + province.encode("ascii")


def _summary(case: CaseRecord, rows: Sequence[ProvinceRecord]) -> dict[str, Any]:
    waiting = [row for row in rows if row.next_try_at is not None] if case.closed_at is None else []
    return {
        "case": case.case_reference,
        "asked_at": _time(case.asked_at),
        "concluded_at": _time(case.concluded_at),
        "outcome": case.outcome,
        "province": case.province,
        "none": case.none_probability,
        "answered": sum(row.answered_at is not None for row in rows),
        "asked": len(rows),
        "waiting_for": [row.province for row in waiting],
        "next_try_at": _time(min((row.next_try_at for row in waiting if row.next_try_at), default=None)),
        "again_until": _time(case.ask_until),
        "closed_at": _time(case.closed_at),
        "closed_reason": case.closed_reason,
        "news": case.news,
    }


def _province(row: ProvinceRecord) -> dict[str, Any]:
    heard = json.loads(row.heard) if row.heard else {}
    return {
        "code": row.province,
        "state": row.state,
        "probability": row.probability,
        "attempts": row.attempts,
        "failures": row.failures,
        "heard_at": _time(row.heard_at),
        "answered_at": _time(row.answered_at),
        "next_try_at": _time(row.next_try_at),
        "generation": row.generation,
        "detail": heard.get("detail"),
    }


def _line(event: CaseEvent) -> dict[str, Any]:
    return {
        "at": _time(event.at),
        "event": event.kind,
        "outcome": event.outcome,
        "province": event.province,
        "detail": event.detail,
        "new": not event.seen,
    }


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
