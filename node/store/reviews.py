"""The review queue: filled with an answer's handles, emptied by reviewers.

Every step of theirs is an event and an audit row. A reviewer holds an item by a lease; what it came to is `state`, how
it came to it are the events.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, case, func, insert, or_, select, update

from node.errors import AccessDeniedError, BusyError, ConfigError, QueryBudgetError
from node.store import tables
from node.store.records import AuditEntry, Direction, ReviewEvent, ReviewItem, ReviewState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Row

    from node.store.records import HandleRecord

METHOD: Final = "review"  # what the audit calls it
LEASE: Final = timedelta(minutes=30)  # a reviewer may telephone meanwhile; after that, anybody may take the item
DAY: Final = timedelta(days=1)
REVIEW_LIFETIME: Final = timedelta(days=90)  # after that, an item forgets whom it was about
MAX_WAITING_PER_PEER: Final = 1_000  # above, a peer's oldest candidates make room: it crowds out none but its own
_FORGET_BATCH: Final = 100
_LOCK: Final = 0x52455649  # "REVI": PostgreSQL's views are counted by one reviewer at a time

UNDECIDED: Final = (ReviewState.WAITING, ReviewState.SECOND)
DECISIONS: Final = (ReviewEvent.SAME, ReviewEvent.DIFFERENT, ReviewEvent.UNSURE)
_AUDITED: Final = ("peer", "case_reference", "request_sha256", "question_nonce", "generation", "schema_fingerprint")

_items = tables.review_items.c
_events = tables.review_events.c
# Made once: making a statement costs several times what the database does for it.
_SAME: Final = ("record_id", "peer", "case_reference", "levels", "state")
_KNOWN: Final = select(_items.number).where(*(_items[name] == bindparam(name) for name in _SAME)).limit(1)
_ADD: Final = insert(tables.review_items)
_LAST_TO_GO: Final = (
    select(_items.number)
    .where(_items.state == ReviewState.WAITING.value, _items.peer == bindparam("peer"))
    .order_by(_items.number.desc())
    .offset(MAX_WAITING_PER_PEER)
    .limit(1)
)


def queue(connection: Connection, entry: AuditEntry, handles: Sequence[HandleRecord]) -> None:
    """Put the candidates of an answer that are for a person into the queue, in the answer's own transaction.

    One that waits already, for the same case and of the same agreement, is not put there twice.
    """
    for handle in handles:
        facts = handle.review
        if facts is None or entry.case_reference is None or entry.schema_fingerprint is None:
            continue
        row: dict[str, Any] = {
            "record_id": handle.record_id,
            "peer": handle.peer,
            "case_reference": entry.case_reference,
            "levels": facts.levels,
            "state": ReviewState.WAITING.value,
        }
        if connection.execute(_KNOWN, row).first() is None:
            row |= {
                "handle_sha256": hashlib.sha256(handle.handle).digest(),
                "generation": handle.generation,
                "row": facts.row,
                "question_nonce": handle.question_nonce,
                "request_sha256": entry.request_sha256,
                "answered_at": entry.at,
                "schema_fingerprint": entry.schema_fingerprint,
                "groups": facts.groups,
                "admitted": facts.admitted,
            }
            connection.execute(_ADD, row)
            _make_room(connection, handle.peer)


def forget(connection: Connection, now: datetime) -> None:
    """Let items whose time is over forget whom they were about."""
    _forget(connection, _items.answered_at <= now - REVIEW_LIFETIME)


def _make_room(connection: Connection, peer: str) -> None:
    last_to_go = connection.execute(_LAST_TO_GO, {"peer": peer}).scalar_one_or_none()
    if last_to_go is not None:
        waiting = (_items.state == ReviewState.WAITING, _items.peer == peer)
        _forget(connection, _items.number <= last_to_go, *waiting)


def _forget(connection: Connection, *which: ColumnElement[bool]) -> None:
    """Let items forget whom they were about. Rows somebody holds at this moment are left for the next time."""
    chosen = (
        select(_items.number)
        .where(_items.record_id != "", *which)
        .limit(_FORGET_BATCH)
        .with_for_update(skip_locked=True)
    )
    state = case((_items.state.in_(UNDECIDED), ReviewState.EXPIRED.value), else_=_items.state)
    connection.execute(
        update(tables.review_items).where(_items.number.in_(chosen)).values(record_id="", row=-1, state=state)
    )


class ReviewQueue:
    """The queue as a reviewer meets it. Every method is one transaction, durable when it returns."""

    def __init__(
        self,
        write: Callable[[], AbstractContextManager[Connection]],
        read: Callable[[], AbstractContextManager[Connection]],
        audit: Callable[[Connection, Sequence[AuditEntry]], object],
    ) -> None:
        self._write = write
        self._read = read
        self._audit = audit

    def take(self, operator: bytes, now: datetime, *, views_a_day: int, number: int | None = None) -> ReviewItem | None:
        """Lease an item that nobody has, each province's in turn, or the one called `number`; record that it is seen.

        Two reviewers never hold one item; who gave the first of two decisions is not asked for the second. None:
        nothing waits. Raises QueryBudgetError when the node's reviewers have seen `views_a_day` within 24 hours,
        ConfigError, AccessDeniedError or BusyError when that item cannot be had.
        """
        with self._write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            seen = select(func.count()).where(_events.event == ReviewEvent.VIEWED, _events.at > now - DAY)
            if connection.execute(seen).scalar_one() >= views_a_day:
                raise QueryBudgetError(
                    f"{views_a_day} candidates were looked at within 24 hours: that is this node's limit",
                    hint="go on tomorrow; `review_views_per_day` in node.toml sets the limit",
                )
            found = self._free(connection, operator, now) if number is None else self._one(connection, number)
            if found is None:
                return None
            if number is not None:
                self._require_free(connection, found, operator, now)
            lease = {"leased_to": operator, "leased_until": now + LEASE}
            self._set(connection, found, **lease)
            self._happened(connection, found, ReviewEvent.VIEWED, operator, now)
            return _item(found, **lease)

    def release(self, number: int, operator: bytes) -> None:
        """Give back an item that could not be shown."""
        with self._write() as connection:
            connection.execute(
                update(tables.review_items)
                .where(_items.number == number, _items.leased_to == operator)
                .values(leased_to=None, leased_until=None)
            )

    def decide(
        self, number: int, decision: ReviewEvent, operator: bytes, now: datetime, *, two_person: bool
    ) -> ReviewState:
        """Record a decision of the reviewer who has the item; return how the item stands now.

        two_person: two reviewers decide; where they differ, it stands unsure. Raises ConfigError, AccessDeniedError or
        BusyError.
        """
        if decision not in DECISIONS:
            raise ValueError(f"{decision} is no decision")
        with self._write() as connection:
            found = self._one(connection, number)
            if found.state not in UNDECIDED:
                raise ConfigError(
                    f"item {number} stands {found.state}", hint="`pulang review undo` takes a decision back first"
                )
            if found.leased_to != operator:
                self._require_free(connection, found, operator, now)
                raise AccessDeniedError(
                    f"item {number} is not before this reviewer",
                    hint=f"`pulang review next --item {number}` shows it: nobody decides unseen",
                )
            first = self._decided(connection, number)
            state = ReviewState(decision)
            if first is not None:
                if first.operator_pseudonym == operator:
                    raise AccessDeniedError(f"item {number} needs a second reviewer, not the same one again")
                state = state if first.event == decision else ReviewState.UNSURE
            elif two_person:
                state = ReviewState.SECOND
            self._set(connection, found, state=state, leased_to=None, leased_until=None)
            self._happened(connection, found, decision, operator, now)
            return state

    def undo(self, number: int, operator: bytes, now: datetime) -> ReviewState:
        """Take the reviewer's own last decision back: the item waits again, for both where two decide."""
        with self._write() as connection:
            found = self._one(connection, number)
            last = self._decided(connection, number)
            if last is None or found.state in {ReviewState.BROKEN, ReviewState.EXPIRED}:
                raise ConfigError(
                    f"item {number} stands {found.state}: there is no decision to take back",
                    hint="`pulang review restore` mends a broken link",
                )
            if last.operator_pseudonym != operator:
                raise AccessDeniedError(
                    f"the last decision on item {number} is another reviewer's",
                    hint="a link that is wrong is broken with `pulang review break`, by anybody",
                )
            state = ReviewState.WAITING if found.record_id else ReviewState.EXPIRED
            self._set(connection, found, state=state, leased_to=None, leased_until=None)
            self._happened(connection, found, ReviewEvent.UNDONE, operator, now)
            return state

    def break_link(self, number: int, operator: bytes, now: datetime) -> ReviewState:
        """Break a confirmed link: it was somebody else after all."""
        return self._turn(number, operator, now, (ReviewState.SAME, ReviewState.BROKEN), ReviewEvent.BROKEN)

    def restore(self, number: int, operator: bytes, now: datetime) -> ReviewState:
        """Mend a broken link: it was the same person after all."""
        return self._turn(number, operator, now, (ReviewState.BROKEN, ReviewState.SAME), ReviewEvent.RESTORED)

    def items(self, state: ReviewState | None = None, limit: int = 1000) -> tuple[ReviewItem, ...]:
        """Return items, oldest first; those of one state, or all."""
        query = select(tables.review_items).order_by(_items.number).limit(limit)
        if state is not None:
            query = query.where(_items.state == state)
        with self._read() as connection:
            return tuple(_item(row) for row in connection.execute(query))

    def history(self, number: int) -> tuple[tuple[datetime, ReviewEvent, bytes], ...]:
        """Return when what was done with an item, and by whom (pseudonym), oldest first."""
        query = select(_events.at, _events.event, _events.operator_pseudonym).where(_events.item == number)
        with self._read() as connection:
            rows = connection.execute(query.order_by(_events.number)).all()
        return tuple((at, ReviewEvent(event), operator) for at, event, operator in rows)

    def decided(self, schema_fingerprint: bytes) -> Iterator[tuple[bytes, str, bytes, ReviewState]]:
        """Yield levels, groups, admitted levels and state of every item that stands decided under a schema."""
        states = (ReviewState.SAME, ReviewState.DIFFERENT, ReviewState.UNSURE, ReviewState.BROKEN)
        query = select(_items.levels, _items.groups, _items.admitted, _items.state).where(
            _items.state.in_(states), _items.schema_fingerprint == schema_fingerprint
        )
        with self._read() as connection:
            for levels, groups, admitted, state in connection.execute(query):
                yield levels, groups, admitted, ReviewState(state)

    # --- inside a transaction ---

    def _turn(
        self,
        number: int,
        operator: bytes,
        now: datetime,
        turn: tuple[ReviewState, ReviewState],
        event: ReviewEvent,
    ) -> ReviewState:
        before, after = turn
        with self._write() as connection:
            found = self._one(connection, number)
            if found.state != before:
                raise ConfigError(f"item {number} stands {found.state}, not {before}")
            self._set(connection, found, state=after)
            self._happened(connection, found, event, operator, now)
            return after

    @staticmethod
    def _one(connection: Connection, number: int) -> Row[Any]:
        found = connection.execute(
            select(tables.review_items).where(_items.number == number).with_for_update()
        ).one_or_none()
        if found is None:
            raise ConfigError(f"there is no item {number}", hint="`pulang review list` shows what there is")
        return found

    @staticmethod
    def _free(connection: Connection, operator: bytes, now: datetime) -> Row[Any] | None:
        """Return the oldest free item of the province whose items were looked at least within 24 hours.

        So no province that fills the queue keeps another's candidates waiting.
        """
        first = (
            select(_events.operator_pseudonym)
            .where(_events.item == _items.number, _events.event.in_(DECISIONS))
            .order_by(_events.number.desc())
            .limit(1)
            .scalar_subquery()
        )
        free = (
            or_(_items.state == ReviewState.WAITING, (_items.state == ReviewState.SECOND) & (first != operator)),
            or_(_items.leased_until.is_(None), _items.leased_until <= now),
        )
        viewed = (
            select(_items.peer, func.count().label("looks"))
            .join_from(tables.review_events, tables.review_items, _events.item == _items.number)
            .where(_events.event == ReviewEvent.VIEWED, _events.at > now - DAY)
            .group_by(_items.peer)
        )
        looked_at = {row.peer: int(row.looks) for row in connection.execute(viewed)}
        waiting = connection.execute(select(_items.peer, func.min(_items.number)).where(*free).group_by(_items.peer))
        for peer, _ in sorted(waiting, key=lambda each: (looked_at.get(each[0], 0), each[1])):
            found = connection.execute(
                select(tables.review_items)
                .where(*free, _items.peer == peer)
                .order_by(_items.number)
                .limit(1)
                .with_for_update(skip_locked=True)
            ).one_or_none()
            if found is not None:
                return found
        return None

    def _require_free(self, connection: Connection, found: Row[Any], operator: bytes, now: datetime) -> None:
        if found.state not in UNDECIDED:
            raise ConfigError(f"item {found.number} stands {found.state}: there is nothing to look at")
        if found.leased_until is not None and found.leased_until > now and found.leased_to != operator:
            raise BusyError(
                f"item {found.number} is before another reviewer", hint=f"until {found.leased_until:%H:%M} UTC at most"
            )
        first = self._decided(connection, found.number)
        if first is not None and first.operator_pseudonym == operator:
            raise AccessDeniedError(f"item {found.number} needs a second reviewer, not the same one again")

    @staticmethod
    def _decided(connection: Connection, number: int) -> Row[Any] | None:
        """Return the last decision that has not been taken back."""
        last = (
            select(_events.event, _events.operator_pseudonym)
            .where(_events.item == number, _events.event.in_([*DECISIONS, ReviewEvent.UNDONE]))
            .order_by(_events.number.desc())
            .limit(1)
        )
        found: Row[Any] | None = connection.execute(last).one_or_none()  # type: ignore[assignment]
        return None if found is None or found.event == ReviewEvent.UNDONE else found

    @staticmethod
    def _set(connection: Connection, found: Row[Any], **values: Any) -> None:
        connection.execute(update(tables.review_items).where(_items.number == found.number).values(**values))

    def _happened(
        self, connection: Connection, found: Row[Any], event: ReviewEvent, operator: bytes, now: datetime
    ) -> None:
        """Append the event, and the audit row that names the question it goes back to."""
        connection.execute(
            insert(tables.review_events),
            {"item": found.number, "at": now, "event": event, "operator_pseudonym": operator},
        )
        about = {name: getattr(found, name) for name in _AUDITED}
        entry = AuditEntry(
            at=now,
            direction=Direction.ANSWERED,
            method=METHOD,
            outcome=event,
            reason=f"item {found.number}",
            operator_pseudonym=operator,
            nonce=about.pop("question_nonce"),
            **about,
        )
        self._audit(connection, [entry])


def _item(row: Row[Any], **changes: Any) -> ReviewItem:
    values = {name: getattr(row, name) for name in ReviewItem.__slots__}
    return ReviewItem(**{**values, "state": ReviewState(row.state), **changes})
