"""Watching other provinces' audit logs: a head is cosigned only if it continues the one cosigned before."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import structlog

from node.checkpoint import Note, origin_of, parse_note
from node.errors import TrustError
from node.merkle import is_consistent
from node.messages import MAX_CLOCK_SKEW
from node.pki.identity import Identity
from node.pki.logkey import verify_log_signature
from node.store import Fork, WitnessedHead

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from node.pki.logkey import LogKey
    from node.store import Store

WITNESSES: Final = 2  # one may be down, or in league with the log: two that agree are two ministries' word
MAX_LOGS: Final = 16  # of one province: a new log key is a new log, and a liar must not fill our disk with them

_log = structlog.get_logger(__name__)


class NotCosignedReason(StrEnum):
    """Why a checkpoint is not cosigned."""

    FORK = "fork"
    NOT_WITNESS = "not_witness"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class CosignRequest:
    """A checkpoint to be cosigned. old_size: of the head the witness has seen last; proof: from there."""

    log_key: bytes
    checkpoint: bytes
    old_size: int
    proof: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cosigned:
    """The witness has seen no other history. line: its signature, as it stands in a note."""

    line: str
    witness_key: bytes


@dataclass(frozen=True, slots=True)
class OtherSize:
    """The witness has seen a head of another size than it was told."""

    witnessed_size: int


@dataclass(frozen=True, slots=True)
class NotCosigned:
    """The witness does not sign."""

    reason: NotCosignedReason


CosignReply = Cosigned | OtherSize | NotCosigned


def witnesses_of(province: str, members: Collection[str]) -> tuple[str, ...]:
    """Return who cosigns a province's log: the next two members after its own code, the first following the last."""
    others = sorted(set(members) - {province})
    after = [code for code in others if code > province] + [code for code in others if code < province]
    return tuple(after[:WITNESSES])


class Witness:
    """Cosigns for the provinces this node is a witness of."""

    def __init__(
        self,
        *,
        store: Store,
        key: LogKey,
        own: Identity,
        members: Callable[[], Collection[str]],
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._key = key
        self._own = own
        self._members = members
        self._now = now

    def cosign(self, province: str, request: CosignRequest) -> CosignReply:
        """Judge a head of `province`'s log, remember it, and only then sign it. Raises StoreError."""
        if self._own.province not in witnesses_of(province, self._members()):
            return NotCosigned(NotCosignedReason.NOT_WITNESS)
        try:
            note = parse_note(request.checkpoint)
            verify_log_signature(note, request.log_key)
        except TrustError:
            return NotCosigned(NotCosignedReason.INVALID)
        now = self._now()
        is_own = note.checkpoint.origin == origin_of(Identity(self._own.federation, province).uri)
        # Not one of the future: what is shorter and signed later counts as a fork. An old one is in order: a log that
        # does not grow is not signed anew, and its witness may have been down for hours.
        if not is_own or note.checkpoint.size == 0 or note.checkpoint.at - now > MAX_CLOCK_SKEW:
            return NotCosigned(NotCosignedReason.INVALID)
        reply: list[CosignReply] = []

        def judge(seen: WitnessedHead | None, logs: int) -> WitnessedHead | Fork | None:
            decided = _judge(province, note, request, seen, now)
            if isinstance(decided, OtherSize):
                reply.append(decided)
                return None
            if seen is None and logs >= MAX_LOGS:
                reply.append(NotCosigned(NotCosignedReason.INVALID))
                return None
            if seen is None and logs:
                _log.warning("witnessed_log_begins_anew", province=province, logs=logs + 1)
            return decided

        decided = self._store.log.witness(province, request.log_key, judge)
        if reply:
            return reply[0]
        if isinstance(decided, Fork):
            _log.error("witnessed_log_forks", province=province, offered_size=note.checkpoint.size)
            return NotCosigned(NotCosignedReason.FORK)
        return Cosigned(self._key.cosign(note, now), self._key.public)


def _judge(
    province: str, note: Note, request: CosignRequest, seen: WitnessedHead | None, now: datetime
) -> WitnessedHead | Fork | OtherSize:
    """Decide by what was seen last of a log: take the new head, keep evidence, or ask for another proof."""
    head = note.checkpoint
    taken = WitnessedHead(province, request.log_key, head.size, head.root, head.at, request.checkpoint)
    if seen is None:
        return taken if request.old_size == 0 else OtherSize(0)
    fork = Fork(province, now, seen.note, request.checkpoint, b"".join(request.proof))
    if head.size < seen.size:  # signed later and yet shorter: rows are gone. Signed earlier, it is only late
        return fork if head.at > seen.at else OtherSize(seen.size)
    if head.size == seen.size:
        return taken if head.root == seen.root else fork
    if request.old_size != seen.size:
        return OtherSize(seen.size)
    return taken if is_consistent(seen.size, head.size, seen.root, head.root, request.proof) else fork
