"""Who may ask how much, and what has been asked: the SQL behind a claim, its debits and its kept answer.

Everything counted for a peer is changed under the lock of that peer's row in `askers`. On SQLite the transaction
itself is that lock (BEGIN IMMEDIATE).
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from node.budget import MONTH_DAYS, Scope, charge, day_of
from node.store import log
from node.store.records import Admission, Admitted, Sighting, Spending, Throttle
from node.store.tables import askers, contents, nonces, sightings, spendings, throttles

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import BindParameter, Connection

    from node.budget import Budget, Budgets
    from node.store.records import Claim, Reply

REPLY_KEPT: Final = timedelta(minutes=15)  # the same bytes are refused by their age after 300 s: no use beyond
NONCE_KEPT: Final = timedelta(days=90)
CONTENT_KEPT: Final = timedelta(days=90)  # a client who has not been found by then is asked about anew
DAYS_KEPT: Final = 2 * MONTH_DAYS
SIGHTINGS_KEPT: Final = 600  # per peer; more than a month's budget of new questions

# Statements of every question's way are made once: making one costs several times what the database does for it.
_PEER: Final[BindParameter[Any]] = bindparam("peer")
_KNOWN: Final = select(nonces).where(nonces.c.peer == _PEER, nonces.c.nonce == bindparam("nonce"))
_ASKED_BEFORE: Final = select(contents.c.asked_at).where(
    contents.c.peer == _PEER, contents.c.content == bindparam("content")
)
_HELD: Final = select(throttles).where(throttles.c.released_at.is_(None)).order_by(throttles.c.number)
_HELD_OF: Final = _HELD.where(throttles.c.peer == _PEER)
_SPENT: Final = select(spendings.c.scope, spendings.c.day, spendings.c.used).where(
    spendings.c.peer == _PEER,
    or_(
        and_(spendings.c.scope == Scope.PEER.value, spendings.c.holder == ""),
        and_(spendings.c.scope == Scope.REPEAT.value, spendings.c.holder == ""),
        and_(spendings.c.scope == Scope.OPERATOR.value, spendings.c.holder == bindparam("operator")),
        and_(spendings.c.scope == Scope.CASE.value, spendings.c.holder == bindparam("case")),
    ),
)
_LOCK_ASKER: Final = select(askers.c.peer).where(askers.c.peer == _PEER).with_for_update()
_CLAIM: Final = insert(nonces)
_CLAIM_AGAIN: Final = (
    update(nonces)
    .where(nonces.c.peer == bindparam("of_peer"), nonces.c.nonce == bindparam("of_nonce"))
    .values(lease_until=bindparam("lease_until"))
)
_KEEP_REPLY: Final = (
    update(nonces)
    .where(nonces.c.peer == bindparam("of_peer"), nonces.c.nonce == bindparam("of_nonce"))
    .values(reply=bindparam("reply"))
)
_SEE: Final = insert(sightings)
_mine = sightings.c.peer == _PEER
_FORGET_SIGHTINGS: Final = delete(sightings).where(
    _mine,
    sightings.c.number
    <= select(sightings.c.number)
    .where(_mine)
    .order_by(sightings.c.number.desc())
    .limit(1)
    .offset(SIGHTINGS_KEPT)
    .scalar_subquery(),
)
_EXTENT: Final = select(func.coalesce(func.min(sightings.c.number), 0), func.count()).where(_mine)
_SIGHTINGS: Final = select(sightings).where(_mine, sightings.c.number > bindparam("since")).order_by(sightings.c.number)
# By dialect's name: the two spell "unless it is there" alike, and SQLAlchemy's core has no common word for it.
_UPSERTS: Final = {"sqlite": sqlite_insert, "postgresql": postgresql_insert}


def _ask_first(upsert: Any) -> Any:
    return upsert(askers).on_conflict_do_nothing()


def _debit_one(upsert: Any) -> Any:
    row = upsert(spendings)
    used = spendings.c.used + 1
    return row.on_conflict_do_update(index_elements=["peer", "scope", "holder", "day"], set_={"used": used})


def _ask_again(upsert: Any) -> Any:
    row = upsert(contents)
    return row.on_conflict_do_update(index_elements=["peer", "content"], set_={"asked_at": row.excluded.asked_at})


_MEET: Final = {name: _ask_first(upsert) for name, upsert in _UPSERTS.items()}
_DEBIT: Final = {name: _debit_one(upsert) for name, upsert in _UPSERTS.items()}
_REMEMBER: Final = {name: _ask_again(upsert) for name, upsert in _UPSERTS.items()}


def admit(connection: Connection, claim: Claim, budgets: Budgets) -> Admitted:
    """Decide about a claim and debit it. Raises QueryBudgetError when a budget is used up; then nothing is written."""
    lock(connection, claim.peer)
    known = connection.execute(_KNOWN, {"peer": claim.peer, "nonce": claim.nonce}).first()
    if known is not None:
        if known.request_sha256 != claim.request_sha256:
            return Admitted(Admission.NONCE_REUSED)
        if known.reply is not None:
            return Admitted(Admission.ANSWERED, known.reply)
        if known.lease_until > claim.at:
            return Admitted(Admission.IN_PROGRESS)
        mine = {"of_peer": claim.peer, "of_nonce": claim.nonce}
        connection.execute(_CLAIM_AGAIN, {**mine, "lease_until": claim.lease_until})
        return Admitted(Admission.AGAIN)
    repeat = _is_repeat(connection, claim)
    throttled = False
    if repeat:
        _debit(connection, claim, {Scope.REPEAT: budgets.of(Scope.REPEAT)})
    else:
        held = [each for each in active_throttles(connection, claim.peer) if _holds(each, claim)]
        throttled = bool(held)
        whole = any(each.operator_pseudonym is None for each in held)
        debits = {
            Scope.PEER: budgets.of(Scope.PEER, throttled=whole),
            Scope.OPERATOR: budgets.of(Scope.OPERATOR, throttled=throttled),
            Scope.CASE: budgets.of(Scope.CASE),
        }
        _debit(connection, claim, debits)
    _remember(connection, claim)
    return Admitted(Admission.REPEAT if repeat else Admission.FRESH, throttled=throttled)


def keep_reply(connection: Connection, reply: Reply, at: datetime) -> None:
    """Keep a question's sealed answer; without one, let the same bytes be tried again at once."""
    mine = {"of_peer": reply.peer, "of_nonce": reply.nonce}
    if reply.sealed is None:
        connection.execute(_CLAIM_AGAIN, {**mine, "lease_until": at})
    else:
        connection.execute(_KEEP_REPLY, {**mine, "reply": reply.sealed})


def end_leases(connection: Connection, now: datetime) -> None:
    """Let every question that nobody computes any more be asked again in the same bytes, at no cost."""
    alive = nonces.c.reply.is_(None) & (nonces.c.lease_until > now)
    connection.execute(update(nonces).where(alive).values(lease_until=now))


def lock(connection: Connection, peer: str) -> None:
    """Hold what is counted for a peer until the transaction ends.

    The audit log first: it is written in the same transactions, and two orders of locks would wait for each other.
    """
    log.hold(connection)
    dialect = connection.dialect.name
    connection.execute(_MEET[dialect], {"peer": peer})
    if dialect == "postgresql":
        connection.execute(_LOCK_ASKER, {"peer": peer})


def spent(connection: Connection, peer: str | None = None, scope: str | None = None) -> list[Spending]:
    """Return what each holder of a budget has asked, by day."""
    query = select(spendings).order_by(spendings.c.peer, spendings.c.scope, spendings.c.holder, spendings.c.day)
    if peer is not None:
        query = query.where(spendings.c.peer == peer)
    if scope is not None:
        query = query.where(spendings.c.scope == scope)
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
    row = {name: getattr(sighting, name) for name in Sighting.__slots__ if name != "number"}
    connection.execute(_SEE, row)
    connection.execute(_FORGET_SIGHTINGS, {"peer": sighting.peer})


def extent(connection: Connection, peer: str) -> tuple[int, int]:
    """Return the lowest number in a peer's ring (0: none), and how many there are."""
    first, count = connection.execute(_EXTENT, {"peer": peer}).one()
    return int(first), int(count)


def sightings_of(connection: Connection, peer: str, since: int) -> list[Sighting]:
    """Return a peer's ring above a number, oldest first."""
    found = connection.execute(_SIGHTINGS, {"peer": peer, "since": since})
    return [Sighting(**row) for row in found.mappings()]


def active_throttles(connection: Connection, peer: str | None = None) -> list[Throttle]:
    """Return who is held back now, oldest first."""
    found = connection.execute(_HELD) if peer is None else connection.execute(_HELD_OF, {"peer": peer})
    return [Throttle(**row) for row in found.mappings()]


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


def forget(connection: Connection, now: datetime) -> None:
    """Forget what is past its time: kept answers, and nonces, contents and days that no rule looks at any more.

    All but the answers by the newest question, never by the clock alone: one that jumps ahead must not refill a budget.
    """
    old = nonces.c.reply.is_not(None) & (nonces.c.claimed_at < now - REPLY_KEPT)
    connection.execute(update(nonces).where(old).values(reply=None))
    newest = connection.execute(select(func.max(nonces.c.claimed_at))).scalar_one()
    if newest is None:
        return
    until = min(now, newest)
    connection.execute(delete(nonces).where(nonces.c.claimed_at < until - NONCE_KEPT))
    connection.execute(delete(contents).where(contents.c.asked_at < until - CONTENT_KEPT))
    connection.execute(delete(spendings).where(spendings.c.day < day_of(until) - DAYS_KEPT))


def _is_repeat(connection: Connection, claim: Claim) -> bool:
    found = connection.execute(_ASKED_BEFORE, {"peer": claim.peer, "content": claim.content}).first()
    return found is not None and found.asked_at > claim.at - CONTENT_KEPT


def _holds(throttle: Throttle, claim: Claim) -> bool:
    return throttle.operator_pseudonym in (None, claim.operator_pseudonym)


def _debit(connection: Connection, claim: Claim, debits: Mapping[Scope, Budget]) -> None:
    """Debit one question in every scope named, or raise and debit none."""
    operator = claim.operator_pseudonym.hex()
    holders = {Scope.OPERATOR: operator, Scope.CASE: claim.case_reference}
    wanted = {"peer": claim.peer, "operator": operator, "case": claim.case_reference}
    by_day: dict[str, dict[int, int]] = defaultdict(dict)
    for scope, day, used in connection.execute(_SPENT, wanted):
        by_day[scope][day] = used
    today = day_of(claim.at)
    rows = [
        {
            "peer": claim.peer,
            "scope": scope.value,
            "holder": holders.get(scope, ""),
            "day": charge(scope, budget, by_day[scope.value], today),
            "used": 1,
        }
        for scope, budget in debits.items()
    ]
    connection.execute(_DEBIT[connection.dialect.name], rows)


def _remember(connection: Connection, claim: Claim) -> None:
    connection.execute(
        _CLAIM,
        {
            "peer": claim.peer,
            "nonce": claim.nonce,
            "request_sha256": claim.request_sha256,
            "claimed_at": claim.at,
            "lease_until": claim.lease_until,
        },
    )
    row = {"peer": claim.peer, "content": claim.content, "asked_at": claim.at}
    connection.execute(_REMEMBER[connection.dialect.name], row)
