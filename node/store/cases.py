"""Questions this node asks, from before they are sent until their case is closed: rows in, rows out."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, func, insert, or_, select, update

from node.store.records import CaseEvent, CaseRecord, ProvinceRecord
from node.store.tables import case_events, question_provinces, questions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from sqlalchemy import Connection, Select

    from node.store.records import AttemptRecord, HearingRecord, QuestionOutcome, QuestionRecord

_ASKED = "asked"  # a province's state until something was heard of it
_ANSWERED = "answered"
_SUPERSEDED = "superseded"
_SILENT = ("timed_out", "unreachable", "busy", "unavailable", "not_asked", "failed", "broke_contract")
_AWAY = ("timed_out", "unreachable", "unavailable", "not_asked", "failed")  # and named no time to be asked again at
_ROW = question_provinces.c
_Q = questions.c

# A closed case, or one whose encodings were erased, is never asked again.
_OPEN = and_(_Q.closed_at.is_(None), _Q.sealed_request.is_not(None))
# The one question of a case that a newer one has not taken the place of; asked_at cannot tell: clocks are set back.
_NEWEST = and_(_Q.ask_until.is_not(None), func.coalesce(_Q.closed_reason, "") != _SUPERSEDED)

# Statements of every question's way are made once: making one costs several times what the database does for it.
_OLDER: Final = select(_Q.question_id, _Q.closed_at).where(_Q.case_reference == bindparam("case"), _NEWEST)
_ADD_QUESTION: Final = insert(questions)
_ADD_PROVINCES: Final = insert(question_provinces)
_ADD_EVENT: Final = insert(case_events)
_OF_QUESTION: Final = _Q.question_id == bindparam("of_question")
_OF_PROVINCE: Final = and_(_ROW.question_id == bindparam("of_question"), _ROW.province == bindparam("of_province"))
_CONCLUDE: Final = update(questions).where(_OF_QUESTION)
_HEAR: Final = update(question_provinces).where(_OF_PROVINCE)
_NOT_SKIPPED: Final = _ROW.province.not_in(bindparam("skip", expanding=True))
_DUE: Final = (
    select(_ROW.question_id, _ROW.province)
    .join(questions)
    .where(_OPEN, or_(_ROW.next_try_at <= bindparam("now"), _ROW.next_try_at > bindparam("farthest")), _NOT_SKIPPED)
    .order_by(_ROW.next_try_at)
    .limit(bindparam("limit"))
)
_NEXT_DUE: Final = (
    select(_ROW.next_try_at)
    .join(questions)
    .where(_OPEN, _ROW.next_try_at.is_not(None), _NOT_SKIPPED)
    .order_by(_ROW.next_try_at)
    .limit(1)
)


class Cases:
    """The stored questions. Every method may be called from any thread; what it wrote is durable when it returns."""

    def __init__(
        self,
        write: Callable[[], AbstractContextManager[Connection]],
        read: Callable[[], AbstractContextManager[Connection]],
    ) -> None:
        self._write = write
        self._read = read

    def due(
        self, now: datetime, farthest: datetime, *, skip: Collection[str], limit: int
    ) -> tuple[tuple[bytes, str], ...]:
        """Return (question, province) of tries whose time has come, the longest waiting first; none of `skip`.

        Also of those whose time is beyond `farthest`: a clock that has been set back since put it there.
        """
        wanted = {"now": now, "farthest": farthest, "skip": list(skip), "limit": limit}
        with self._read() as connection:
            return tuple((row.question_id, row.province) for row in connection.execute(_DUE, wanted))

    def next_due(self, *, skip: Collection[str]) -> datetime | None:
        """Return when the next try is due, None when nothing waits."""
        with self._read() as connection:
            due: datetime | None = connection.execute(_NEXT_DUE, {"skip": list(skip)}).scalar_one_or_none()
        return due

    def load(self, question_id: bytes) -> tuple[CaseRecord, tuple[ProvinceRecord, ...]]:
        """Return a question that is on record, and its provinces."""
        with self._read() as connection:
            (case,) = _cases(connection, _case_columns().where(_Q.question_id == question_id))
            return case, _provinces(connection, question_id)

    def find(self, case_reference: str) -> tuple[CaseRecord, tuple[ProvinceRecord, ...], tuple[CaseEvent, ...]] | None:
        """Return a case: its newest question, that one's provinces, and the history of all its questions."""
        with self._read() as connection:
            found = _cases(
                connection,
                _case_columns().where(_Q.case_reference == case_reference, _NEWEST),
            )
            if not found:
                return None
            events = connection.execute(
                select(case_events)
                .join(questions)
                .where(_Q.case_reference == case_reference)
                .order_by(case_events.c.number)
            ).mappings()
            history = tuple(
                CaseEvent(**{key: row[key] for key in ("at", "kind", "outcome", "province", "detail", "seen")})
                for row in events
            )
            return found[0], _provinces(connection, found[0].question_id), history

    def list(self, *, closed: bool, limit: int) -> tuple[tuple[CaseRecord, tuple[ProvinceRecord, ...]], ...]:
        """Return the newest question of each case, newest case first; open ones, or with `closed` every one."""
        wanted = _case_columns().where(_NEWEST).order_by(_Q.asked_at.desc()).limit(limit)
        if not closed:
            wanted = wanted.where(_Q.closed_at.is_(None))
        with self._read() as connection:
            return tuple((case, _provinces(connection, case.question_id)) for case in _cases(connection, wanted))

    def mark_seen(self, case_reference: str) -> None:
        """Note that a caseworker has looked at a case's news."""
        of_case = select(_Q.question_id).where(_Q.case_reference == case_reference)
        with self._write() as connection:
            connection.execute(
                update(case_events)
                .where(case_events.c.question_id.in_(of_case), case_events.c.seen.is_(False))
                .values(seen=True)
            )

    def close(self, question_id: bytes, reason: str, now: datetime, *, seen: bool = True) -> bool:
        """Close a case: it is not asked again. False when it is closed already."""
        with self._write() as connection:
            return _close(connection, question_id, reason, now, seen=seen)

    def reopen(self, question_id: bytes, now: datetime, until: datetime) -> bool:
        """Ask again, at once and until then, every province that has not answered. False when it cannot be asked."""
        with self._write() as connection:
            done = connection.execute(
                update(questions)
                .where(_Q.question_id == question_id, _Q.sealed_request.is_not(None))
                .values(closed_at=None, closed_reason=None, ask_until=until)
            )
            if not done.rowcount:
                return False
            connection.execute(
                update(question_provinces)
                .where(_ROW.question_id == question_id, _ROW.state != _ANSWERED)
                .values(next_try_at=now, failures=0)
            )
            _event(connection, question_id, now, "reopened")
            return True

    def resume(self, now: datetime) -> int:
        """Let tries that were sent and never heard of be made at once; return how many there were."""
        with self._write() as connection:
            done = connection.execute(
                update(question_provinces)
                .where(
                    _ROW.outstanding.is_(True),
                    _ROW.next_try_at > now,
                    _ROW.heard_at.is_(None),
                )
                .values(next_try_at=now)
            )
            return done.rowcount

    def hasten(self, province: str, now: datetime, not_since: datetime, *, most: int) -> int:
        """Ask a province at once what it was asked in vain up to `not_since`, oldest first; return how many."""
        waiting = (
            select(_ROW.question_id)
            .join(questions)
            .where(
                _OPEN,
                _ROW.province == province,
                _ROW.next_try_at > now,
                _ROW.state.in_(_AWAY),
                _ROW.heard_at <= not_since,
            )
            .order_by(_ROW.heard_at)
            .limit(most)
        )
        with self._read() as connection:
            found = connection.execute(waiting).scalars().all()
        if not found:
            return 0
        with self._write() as connection:
            done = connection.execute(
                update(question_provinces)
                .where(_ROW.province == province, _ROW.question_id.in_(found), _ROW.next_try_at > now)
                .values(next_try_at=now)
            )
            return done.rowcount

    def waiting_for_news_of(
        self, province: str, generation: int, not_since: datetime, *, day_start: datetime, per_day: int
    ) -> tuple[bytes, ...]:
        """Return open questions that this province answered from another generation, or gave no answer in time.

        Those that found a home are left out, and those that were asked again for this since `not_since`. At most as
        many as are left of `per_day` since `day_start`; newest questions first.
        """
        counted = select(func.count()).select_from(question_provinces).join(questions)
        wanted = (
            select(_ROW.question_id)
            .join(questions)
            .where(
                _OPEN,
                _ROW.province == province,
                _ROW.next_try_at.is_(None),
                _Q.outcome != "home_found",
                or_(
                    and_(_ROW.state == _ANSWERED, _ROW.generation != generation),
                    # Given up at the deadline; what was refused, or asked for more, would be so again.
                    and_(_ROW.answered_at.is_(None), _ROW.state.in_(_SILENT)),
                ),
                or_(_ROW.renewed_at.is_(None), _ROW.renewed_at <= not_since),
            )
            .order_by(_Q.asked_at.desc())
        )
        with self._read() as connection:
            today = connection.execute(
                counted.where(_ROW.province == province, _ROW.renewed_at > day_start)
            ).scalar_one()
            return tuple(connection.execute(wanted.limit(max(0, per_day - today))).scalars())

    def renew(self, province: str, tries: Sequence[tuple[bytes, datetime]], now: datetime, until: datetime) -> None:
        """Ask a province again about these questions, each at its time: its registry has changed."""
        if not tries:
            return
        with self._write() as connection:
            for question_id, next_try_at in tries:
                connection.execute(
                    update(question_provinces)
                    .where(_ROW.question_id == question_id, _ROW.province == province, _ROW.next_try_at.is_(None))
                    .values(next_try_at=next_try_at, failures=0, renewed_at=now)
                )
                connection.execute(
                    update(questions).where(_Q.question_id == question_id, _Q.ask_until < until).values(ask_until=until)
                )
                _event(connection, question_id, now, "renewed", detail=province)

    def has_open(self) -> bool:
        """Whether any case could still be asked again."""
        with self._read() as connection:
            return connection.execute(select(_Q.question_id).where(_OPEN).limit(1)).first() is not None

    def expire(self, asked_before: datetime, closed_before: datetime, now: datetime) -> tuple[int, int]:
        """Close cases asked before, empty cases closed before; return how many of each.

        What is emptied: the question's encodings, its answers and its result. The outcome stays.
        """
        with self._write() as connection:
            old = connection.execute(select(_Q.question_id).where(_OPEN, _Q.asked_at <= asked_before)).scalars().all()
            for question_id in old:
                _close(connection, question_id, "expired", now, seen=False)
            wanted = _Q.closed_at <= closed_before
            erased = (
                connection.execute(select(_Q.question_id).where(wanted, _Q.sealed_request.is_not(None))).scalars().all()
            )
            connection.execute(
                update(question_provinces).where(_ROW.question_id.in_(erased)).values(sealed_answer=None)
            )
            connection.execute(
                update(questions).where(_Q.question_id.in_(erased)).values(sealed_request=None, sealed_result=None)
            )
            return len(old), len(erased)


def add_question(connection: Connection, question: QuestionRecord) -> None:
    """Add a question with the first attempt at each province; an older one of the same case is not asked again."""
    for row in connection.execute(_OLDER, {"case": question.case_reference}).all():
        connection.execute(
            update(questions)
            .where(_Q.question_id == row.question_id)
            .values(closed_at=row.closed_at or question.at, closed_reason=_SUPERSEDED)
        )
        if row.closed_at is None:
            _event(connection, row.question_id, question.at, "closed", detail=_SUPERSEDED)
    connection.execute(
        _ADD_QUESTION,
        {
            "question_id": question.question_id,
            "case_reference": question.case_reference,
            "asked_at": question.at,
            "sealed_request": question.sealed_request,
            "ask_until": question.ask_until,
        },
    )
    if question.attempts:
        connection.execute(
            _ADD_PROVINCES,
            [
                {"question_id": question.question_id, "province": each.province, "attempts": 1, **_sent(each)}
                for each in question.attempts
            ],
        )


def begin_attempt(
    connection: Connection, question_id: bytes, attempt: AttemptRecord, seen_next_try_at: datetime
) -> bool:
    """Take a due try, unless its case was closed or somebody else took it."""
    values = _sent(attempt)
    del values["state"]  # an earlier answer stays while a newer one is asked for
    taken = connection.execute(
        update(question_provinces)
        .where(
            _ROW.question_id == question_id,
            _ROW.province == attempt.province,
            _ROW.next_try_at == seen_next_try_at,
            _ROW.question_id.in_(select(_Q.question_id).where(_OPEN)),
        )
        .values(attempts=_ROW.attempts + 1, **values)
    )
    return bool(taken.rowcount)


def conclude_question(connection: Connection, outcome: QuestionOutcome) -> None:
    """Write what a question has come to, what was heard of each province since, and a line of history."""
    values: dict[str, Any] = {
        "concluded_at": outcome.at,
        "outcome": outcome.outcome,
        "province": outcome.province,
        "none_probability": outcome.none_probability,
    }
    if outcome.sealed_result is not None:
        values["sealed_result"] = outcome.sealed_result
    connection.execute(_CONCLUDE, {"of_question": outcome.question_id, **values})
    shares = {each.province: {"state": each.state, "probability": each.probability} for each in outcome.provinces}
    # Of every province at most one update; those with the same columns go to the database together.
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for hearing in outcome.hearings:
        heard = {**_heard(hearing, outcome.at), **shares.pop(hearing.province, {})}
        alike[tuple(heard)].append({"of_question": outcome.question_id, "of_province": hearing.province, **heard})
    for rows in alike.values():
        connection.execute(_HEAR, rows)
    for province, share in shares.items():
        changed = connection.execute(_HEAR, {"of_question": outcome.question_id, "of_province": province, **share})
        if not changed.rowcount:
            connection.execute(_ADD_PROVINCES, {"question_id": outcome.question_id, "province": province, **share})
    if outcome.event is not None:
        _event(
            connection,
            outcome.question_id,
            outcome.at,
            outcome.event,
            outcome=outcome.outcome,
            province=outcome.province,
            detail=outcome.detail,
            seen=outcome.seen,
        )


def _sent(attempt: AttemptRecord) -> dict[str, Any]:
    return {
        "state": _ASKED,
        "nonce": attempt.nonce,
        "issued_at": attempt.issued_at,
        "deadline": attempt.deadline,
        "next_try_at": attempt.lost_at,
        "outstanding": True,
        "heard_at": None,  # of this attempt; issued_at cannot tell, the same bytes may be sent again
    }


def _heard(hearing: HearingRecord, at: datetime) -> dict[str, Any]:
    values: dict[str, Any] = {
        "failures": hearing.failures,
        "outstanding": hearing.outstanding,
        "next_try_at": hearing.next_try_at,
        "heard_at": at,
    }
    if hearing.heard is not None:
        values["heard"] = hearing.heard
    if hearing.sealed_answer is not None:
        values |= {"sealed_answer": hearing.sealed_answer, "generation": hearing.generation, "answered_at": at}
    return values


def _close(connection: Connection, question_id: bytes, reason: str, now: datetime, *, seen: bool = True) -> bool:
    done = connection.execute(
        update(questions)
        .where(_Q.question_id == question_id, _Q.closed_at.is_(None))
        .values(closed_at=now, closed_reason=reason)
    )
    if done.rowcount:
        _event(connection, question_id, now, "closed", detail=reason, seen=seen)
    return bool(done.rowcount)


def _event(connection: Connection, question_id: bytes, at: datetime, kind: str, **more: Any) -> None:
    values = {"question_id": question_id, "at": at, "kind": kind, "seen": True, **more}
    connection.execute(_ADD_EVENT, values)


def _case_columns() -> Select[Any]:
    unseen = (
        select(func.count())
        .select_from(case_events)
        .where(case_events.c.question_id == _Q.question_id, case_events.c.seen.is_(False))
        .scalar_subquery()
    )
    return select(questions, unseen.label("news"))


def _cases(connection: Connection, wanted: Select[Any]) -> list[CaseRecord]:
    return [CaseRecord(**row) for row in connection.execute(wanted).mappings()]


def _provinces(connection: Connection, question_id: bytes) -> tuple[ProvinceRecord, ...]:
    wanted = select(question_provinces).where(_ROW.question_id == question_id).order_by(_ROW.province)
    return tuple(ProvinceRecord(**row) for row in connection.execute(wanted).mappings())
