"""Who may ask how much, and what has been asked: the SQL behind a claim, its debits and its kept answer.

Everything counted for a peer is changed under the lock of that peer's row in `askers`. On SQLite the transaction
itself is that lock (BEGIN IMMEDIATE).
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from node.budget import MONTH_DAYS, Scope, charge, day_of
from node.store import log
from node.store.records import Admission, Admitted, Sighting, Spending, Throttle
from node.store.tables import askers, contents, nonces, sightings, spendings, throttles

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Table

    from node.budget import Budgets
    from node.store.records import Claim, Reply

REPLY_KEPT: Final = timedelta(minutes=15)  # the same bytes are refused by their age after 300 s: no use beyond
NONCE_KEPT: Final = timedelta(days=90)
CONTENT_KEPT: Final = timedelta(days=90)  # a client who has not been found by then is asked about anew
DAYS_KEPT: Final = 2 * MONTH_DAYS
SIGHTINGS_KEPT: Final = 600  # per peer; more than a month's budget of new questions


def admit(connection: Connection, claim: Claim, budgets: Budgets) -> Admitted:
    """Decide about a claim and debit it. Raises QueryBudgetError when a budget is used up; then nothing is written."""
    lock(connection, claim.peer)
    mine = (nonces.c.peer == claim.peer) & (nonces.c.nonce == claim.nonce)
    known = connection.execute(select(nonces).where(mine)).one_or_none()
    if known is not None:
        if known.request_sha256 != claim.request_sha256:
            return Admitted(Admission.NONCE_REUSED)
        if known.reply is not None:
            return Admitted(Admission.ANSWERED, known.reply)
        if known.lease_until > claim.at:
            return Admitted(Admission.IN_PROGRESS)
        connection.execute(update(nonces).where(mine).values(lease_until=claim.lease_until))
        return Admitted(Admission.AGAIN)
    repeat = _is_repeat(connection, claim)
    throttled = False
    if repeat:
        _debit(connection, claim, Scope.REPEAT, "", budgets)
    else:
        held = [each for each in active_throttles(connection, claim.peer) if _holds(each, claim)]
        throttled = bool(held)
        whole = any(each.operator_pseudonym is None for each in held)
        operator = claim.operator_pseudonym.hex()
        _debit(connection, claim, Scope.PEER, "", budgets, throttled=whole)
        _debit(connection, claim, Scope.OPERATOR, operator, budgets, throttled=throttled)
        _debit(connection, claim, Scope.CASE, claim.case_reference, budgets)
    _remember(connection, claim)
    _forget(connection, claim)
    return Admitted(Admission.REPEAT if repeat else Admission.FRESH, throttled=throttled)


def keep_reply(connection: Connection, reply: Reply, at: datetime) -> None:
    """Keep a question's sealed answer; without one, let the same bytes be tried again at once."""
    mine = (nonces.c.peer == reply.peer) & (nonces.c.nonce == reply.nonce)
    values: dict[str, Any] = {"lease_until": at} if reply.sealed is None else {"reply": reply.sealed}
    connection.execute(update(nonces).where(mine).values(**values))


def lock(connection: Connection, peer: str) -> None:
    """Hold what is counted for a peer until the transaction ends.

    The audit log first: it is written in the same transactions, and two orders of locks would wait for each other.
    """
    log.hold(connection)
    connection.execute(_insert(connection, askers).values(peer=peer).on_conflict_do_nothing())
    connection.execute(select(askers.c.peer).where(askers.c.peer == peer).with_for_update())


def spent(connection: Connection, peer: str | None = None) -> list[Spending]:
    """Return what each holder of a budget has asked, by day."""
    query = select(spendings).order_by(spendings.c.peer, spendings.c.scope, spendings.c.holder, spendings.c.day)
    if peer is not None:
        query = query.where(spendings.c.peer == peer)
    found: dict[tuple[str, str, str], dict[int, int]] = defaultdict(dict)
    for row in connection.execute(query):
        found[row.peer, row.scope, row.holder][row.day] = row.used
    return [Spending(*key, by_day) for key, by_day in found.items()]


def give_back(connection: Connection, peer: str, scope: str | None, holder: str | None) -> int:
    """Set a peer's counters, or one holder's, back to nothing. Returns how many questions that gives back."""
    lock(connection, peer)
    chosen = spendings.c.peer == peer
    if scope is not None:
        chosen &= spendings.c.scope == scope
    if holder is not None:
        chosen &= spendings.c.holder == holder
    given = connection.execute(select(func.coalesce(func.sum(spendings.c.used), 0)).where(chosen)).scalar_one()
    connection.execute(delete(spendings).where(chosen))
    return int(given)


def remember_sighting(connection: Connection, sighting: Sighting) -> None:
    """Add to a peer's ring; the oldest fall out of it."""
    connection.execute(
        insert(sightings).values(
            peer=sighting.peer,
            operator_pseudonym=sighting.operator_pseudonym,
            case_reference=sighting.case_reference,
            at=sighting.at,
            found=sighting.found,
            sketch=sighting.sketch,
        )
    )
    mine = sightings.c.peer == sighting.peer
    oldest = (
        select(sightings.c.number).where(mine).order_by(sightings.c.number.desc()).limit(1).offset(SIGHTINGS_KEPT)
    ).scalar_subquery()
    connection.execute(delete(sightings).where(mine & (sightings.c.number <= oldest)))


def extent(connection: Connection, peer: str) -> tuple[int, int]:
    """Return the lowest number in a peer's ring (0: none), and how many there are."""
    query = select(func.coalesce(func.min(sightings.c.number), 0), func.count()).where(sightings.c.peer == peer)
    first, count = connection.execute(query).one()
    return int(first), int(count)


def sightings_of(connection: Connection, peer: str, since: int) -> list[Sighting]:
    """Return a peer's ring above a number, oldest first."""
    query = (
        select(sightings).where((sightings.c.peer == peer) & (sightings.c.number > since)).order_by(sightings.c.number)
    )
    return [Sighting(**row) for row in connection.execute(query).mappings()]


def active_throttles(connection: Connection, peer: str | None = None) -> list[Throttle]:
    """Return who is held back now, oldest first."""
    query = select(throttles).where(throttles.c.released_at.is_(None)).order_by(throttles.c.number)
    if peer is not None:
        query = query.where(throttles.c.peer == peer)
    return [Throttle(**row) for row in connection.execute(query).mappings()]


def throttle(connection: Connection, alarm: Throttle) -> bool:
    """Hold somebody back; returns False when they are held back for this pattern already."""
    lock(connection, alarm.peer)
    for each in active_throttles(connection, alarm.peer):
        if each.pattern == alarm.pattern and each.operator_pseudonym in (None, alarm.operator_pseudonym):
            return False
    connection.execute(
        insert(throttles).values(
            peer=alarm.peer,
            operator_pseudonym=alarm.operator_pseudonym,
            pattern=alarm.pattern,
            evidence=alarm.evidence,
            since=alarm.since,
        )
    )
    return True


def release(connection: Connection, peer: str, operator: bytes | None, by: str, at: datetime) -> int:
    """End a peer's throttles, or one operator's, and forget what led to them. Returns how many there were."""
    lock(connection, peer)
    chosen = (throttles.c.peer == peer) & throttles.c.released_at.is_(None)
    seen = sightings.c.peer == peer
    if operator is not None:
        chosen &= throttles.c.operator_pseudonym == operator
        seen &= sightings.c.operator_pseudonym == operator
    ended = connection.execute(update(throttles).where(chosen).values(released_at=at, released_by=by)).rowcount
    if ended:  # or the next question would alarm again about what a person has just looked at
        connection.execute(delete(sightings).where(seen))
    return ended


def _insert(connection: Connection, table: Table) -> Any:
    # The two dialects spell "unless it is there" alike, and SQLAlchemy's core has no common word for it.
    return sqlite_insert(table) if connection.dialect.name == "sqlite" else postgresql_insert(table)


def _is_repeat(connection: Connection, claim: Claim) -> bool:
    asked = select(contents.c.asked_at).where((contents.c.peer == claim.peer) & (contents.c.content == claim.content))
    at = connection.execute(asked).scalar_one_or_none()
    return at is not None and at > claim.at - CONTENT_KEPT


def _holds(throttle: Throttle, claim: Claim) -> bool:
    return throttle.operator_pseudonym in (None, claim.operator_pseudonym)


def _debit(
    connection: Connection, claim: Claim, scope: Scope, holder: str, budgets: Budgets, *, throttled: bool = False
) -> None:
    mine = (spendings.c.peer == claim.peer) & (spendings.c.scope == scope) & (spendings.c.holder == holder)
    by_day = {row.day: row.used for row in connection.execute(select(spendings.c.day, spendings.c.used).where(mine))}
    day = charge(scope, budgets.of(scope, throttled=throttled), by_day, day_of(claim.at))
    if day in by_day:
        connection.execute(update(spendings).where(mine & (spendings.c.day == day)).values(used=by_day[day] + 1))
    else:
        connection.execute(insert(spendings).values(peer=claim.peer, scope=scope, holder=holder, day=day, used=1))
        connection.execute(
            delete(spendings).where((spendings.c.peer == claim.peer) & (spendings.c.day < day - DAYS_KEPT))
        )


def _remember(connection: Connection, claim: Claim) -> None:
    connection.execute(
        insert(nonces).values(
            peer=claim.peer,
            nonce=claim.nonce,
            request_sha256=claim.request_sha256,
            claimed_at=claim.at,
            lease_until=claim.lease_until,
        )
    )
    row = _insert(connection, contents).values(peer=claim.peer, content=claim.content, asked_at=claim.at)
    connection.execute(
        row.on_conflict_do_update(index_elements=["peer", "content"], set_={"asked_at": row.excluded.asked_at})
    )


def _forget(connection: Connection, claim: Claim) -> None:
    mine = (nonces.c.peer == claim.peer) & nonces.c.reply.is_not(None)
    connection.execute(update(nonces).where(mine & (nonces.c.claimed_at < claim.at - REPLY_KEPT)).values(reply=None))
    for table, column, kept in (
        (nonces, nonces.c.claimed_at, NONCE_KEPT),
        (contents, contents.c.asked_at, CONTENT_KEPT),
    ):
        connection.execute(delete(table).where((table.c.peer == claim.peer) & (column < claim.at - kept)))
