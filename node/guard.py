"""Stands between a peer's question and the registry: budgets, repetitions, and the sweep monitor's memory.

Nothing is ever given back by itself: what was debited and could not be answered is asked again in the same bytes, or
in the same words, and then costs nothing new. A refund could race with the answer it follows. The own province is
exempt: its caseworkers have the registry itself before them, and the audit has their questions all the same.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Final

import structlog

from matching.question import EncodedQuery
from node.errors import StoreError
from node.local_key import load_local_key
from node.messages import MAX_DEADLINE_S
from node.pki.sealing import seal, unseal
from node.policy import Method
from node.store import Admission, Admitted, AuditEntry, Claim, Direction, Reply, Sighting, Throttle
from node.sweep import Seen, Sketcher, is_strong, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from matching.question import Evidence
    from matching.weights import MatchModel
    from node.budget import Budgets
    from node.home import NodeHome
    from node.messages import ReceivedQuestion
    from node.store import Store
    from node.sweep import Alarm

LEASE: Final = timedelta(seconds=MAX_DEADLINE_S)  # nobody waits longer for an answer: whoever computed it is gone
MAX_NUMBER: Final = 2**63
ALARM: Final = "sweep_alarm"  # the audit's outcome of a question that completed a pattern

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Guard:
    """Admits questions of peers, keeps their answers for repetition, and watches for sweeps.

    key: the node's own, 32 bytes; nothing it digests or seals can be read without it. province: the node's own.
    """

    store: Store
    budgets: Budgets
    key: bytes = field(repr=False)
    province: str
    now: Callable[[], datetime]
    _rings: _Rings = field(init=False, repr=False)
    _sketcher: Sketcher = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make what is derived from the settings."""
        object.__setattr__(self, "_rings", _Rings(self.store))
        object.__setattr__(self, "_sketcher", Sketcher(self.key))

    def admit(self, caller: str, question: ReceivedQuestion, pending: AuditEntry) -> Admitted:
        """Commit a question's PENDING row, its claim of a nonce and its debits; the own province has only the row.

        Raises QueryBudgetError when a budget is used up, StoreError when it cannot be made durable.
        """
        header, query = question.header, question.content
        assert header is not None
        assert isinstance(query, EncodedQuery)
        if caller == self.province:
            return Admitted(Admission.OWN, number=self.store.record_pending(pending))
        now = self.now()
        claim = Claim(
            peer=caller,
            operator_pseudonym=header.operator_pseudonym,
            case_reference=header.case_reference,
            nonce=header.nonce,
            request_sha256=question.request_sha256,
            content=self._sketcher.content(query),
            at=now,
            lease_until=now + LEASE,
        )
        return self.store.admit(claim, self.budgets, pending)

    def reply(self, caller: str, question: ReceivedQuestion, response: bytes | None) -> Reply:
        """Return what is to be kept of an admitted question's answer; response None: it was not answered."""
        header = question.header
        assert header is not None
        if response is None or question.reply_key is None:
            return Reply(caller, header.nonce, None)
        return Reply(caller, header.nonce, seal(self._reply_key(question.reply_key), response, question.request_sha256))

    def kept(self, question: ReceivedQuestion, sealed: bytes) -> bytes:
        """Return the response that was kept for the very same bytes. Raises TrustError when it cannot be opened."""
        return unseal(self._reply_key(question.reply_key or b""), sealed, question.request_sha256)

    def sighting(self, caller: str, question: ReceivedQuestion, evidence: Evidence, model: MatchModel) -> Sighting:
        """Return what the sweep monitor remembers of an answered question."""
        header, query = question.header, question.content
        assert header is not None
        assert isinstance(query, EncodedQuery)
        return Sighting(
            peer=caller,
            operator_pseudonym=header.operator_pseudonym,
            case_reference=header.case_reference,
            at=self.now(),
            found=is_strong(evidence, model, query),
            sketch=self._sketcher.sketch(query),
        )

    def watch(self, caller: str, question: ReceivedQuestion) -> None:
        """Judge what a peer has asked so far; hold back whoever completes a pattern, and say so.

        The operator, when all of it came from one; the whole peer at a second pattern, or when several took part.
        A failure is logged and costs no answer: the next question is judged again.
        """
        try:
            for alarm in judge(self._rings.of(caller)):
                self._hold_back(caller, question, alarm)
        except StoreError as error:
            _log.error("sweep_not_judged", peer=caller, reason=str(error))

    def _hold_back(self, caller: str, question: ReceivedQuestion, alarm: Alarm) -> None:
        now = self.now()
        held = {each.operator_pseudonym for each in self.store.throttles(caller)}
        if None in held or alarm.operators <= held:
            return
        one = next(iter(alarm.operators)) if len(alarm.operators) == 1 and not held else None
        entry = AuditEntry(
            at=now,
            direction=Direction.ANSWERED,
            peer=caller,
            method=Method.ASK,
            outcome=ALARM,
            request_sha256=question.request_sha256,
            reason=f"{alarm.pattern}: {alarm.evidence}",
            operator_pseudonym=one,
        )
        if self.store.throttle(Throttle(caller, one, alarm.pattern, alarm.evidence, now), entry):
            _log.error(
                "sweep_alarm", peer=caller, pattern=alarm.pattern, evidence=alarm.evidence, whole_peer=one is None
            )

    def _reply_key(self, from_request: bytes) -> bytes:
        return hashlib.blake2b(b"reply\0" + from_request, digest_size=32, key=self.key).digest()


def load_guard_key(home: NodeHome) -> bytes:
    """Return the node's key of what it remembers about questions; made when first needed."""
    return load_local_key(home.guard_secret, lost="questions asked before count as new ones")


@dataclass(slots=True)
class _Ring:
    """One peer's remembered questions, oldest first, and their numbers in the store."""

    numbers: list[int] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    def add(self, sightings: Sequence[Sighting]) -> None:
        for each in sightings:
            assert each.number is not None
            self.numbers.append(each.number)
            self.seen.append(Seen(each.at, each.operator_pseudonym, each.case_reference, each.found, each.sketch))

    def forget_before(self, first: int) -> None:
        place = bisect_left(self.numbers, first)
        del self.numbers[:place], self.seen[:place]


class _Rings:
    """What the monitor remembers of each peer, read from the store once and then only as far as it has grown."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._known: dict[str, _Ring] = {}

    def of(self, peer: str) -> list[Seen]:
        """Return a peer's questions, oldest first; those of other processes, and a person's release, included."""
        with self._lock:
            ring = self._known.setdefault(peer, _Ring())
            first, count, fresh = self._store.sightings_since(peer, ring.numbers[-1] if ring.numbers else 0)
            ring.forget_before(first if count else MAX_NUMBER)
            ring.add(fresh)
            if len(ring.numbers) != count:  # a person released somebody: what is missing lies in the middle
                ring = self._known[peer] = _Ring()
                ring.add(self._store.sightings_since(peer, 0)[2])
            return list(ring.seen)
