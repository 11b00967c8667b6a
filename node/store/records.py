"""The rows a node keeps, as plain values. None of them has room for a name, a date of birth or a place."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime


PENDING: Final = "pending"  # outcome of a row that is committed before its answer is computed
NO_REQUEST: Final = bytes(32)  # request_sha256 of a row that is about no single request


class Direction(StrEnum):
    """Whether this node asked the peer, answered it, or did something to its own log."""

    ASKED = "asked"
    ANSWERED = "answered"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One event of one question between this node and one peer, kept for good.

    peer: code of the other province. outcome: `sent`, or what was answered (`answered`, `refused`, ...); reason: why
    not. request_sha256: of the request's bytes, so that both sides' audits name a question alike. number: given by
    the store, ascending and without a gap; None before. concerns: number of the row this one is about: an outcome's
    PENDING row, the last row a retention erased. calls: how many this row stands for; more than one where a flood of
    refusals was counted together. handles_given: with an answer. What a malformed question did not carry is None; a
    value outside its limit is never copied here, because the audit would then hold whatever a stranger wrote into it.
    The fields of ERASABLE can be erased later: the log's tree holds commitments to them, not the values.
    """

    at: datetime
    direction: Direction
    peer: str
    method: str
    outcome: str
    request_sha256: bytes
    purpose: str | None = None
    reason: str | None = None
    case_reference: str | None = None
    operator_pseudonym: bytes | None = None
    nonce: bytes | None = None
    generation: str | None = None
    schema_fingerprint: bytes | None = None
    key_epoch: int | None = None
    duration_ms: int | None = None
    concerns: int | None = None
    calls: int = 1
    handles_given: int | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class ReviewFacts:
    """Why a candidate waits for a person's decision: how far it agrees, never a weight or a probability.

    row: of the generation's index. levels, groups, admitted: as matching.clerical.Agreement packs them.
    """

    row: int
    levels: bytes
    groups: str
    admitted: bytes


@dataclass(frozen=True, slots=True)
class LogRow:
    """A row as the log holds it. salts: None when its erasable half is not there."""

    entry: AuditEntry
    commitments: bytes = field(repr=False)
    salts: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """A head of this node's log, signed. note: the text as it was published."""

    log_key: bytes
    size: int
    root: bytes
    at: datetime
    note: bytes


@dataclass(frozen=True, slots=True)
class CosignatureRecord:
    """A witness's signature under the checkpoint of `size` rows. line: as it stands in the note."""

    log_key: bytes
    size: int
    witness: str
    witness_key: bytes
    line: str


@dataclass(frozen=True, slots=True)
class WitnessedHead:
    """The newest head of another province's log that this node has cosigned."""

    province: str
    log_key: bytes
    size: int
    root: bytes
    at: datetime
    note: bytes


@dataclass(frozen=True, slots=True)
class Fork:
    """Two notes another province has signed that no one log can have. proof: its hashes, one after the other."""

    province: str
    at: datetime
    seen: bytes
    offered: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class HandleRecord:
    """What an opaque handle stands for, known to the answering node alone.

    question_nonce and peer: the question it was given out for, and to whom. record_id: the registry's own id. review:
    put into the review queue together with the handle; not kept with it.
    opened_at, opened_by: when a caseworker of this province looked it up, and who: once, and never again.
    """

    handle: bytes = field(repr=False)
    question_nonce: bytes
    peer: str
    record_id: str = field(repr=False)
    generation: str
    issued_at: datetime
    expires_at: datetime
    review: ReviewFacts | None = None
    case_reference: str | None = None
    opened_at: datetime | None = None
    opened_by: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try at one province, written down before it is sent.

    lost_at: from then on, without a word of it, the province is asked again: our node was killed in between.
    """

    province: str
    nonce: bytes
    issued_at: datetime
    deadline: datetime
    lost_at: datetime


@dataclass(frozen=True, slots=True)
class QuestionRecord:
    """A question this node is about to ask. question_id: its first nonce.

    sealed_request: the bytes as sent, sealed. ask_until: last try at a province that does not answer. attempts: the
    first one at every province.
    """

    question_id: bytes
    case_reference: str
    at: datetime
    sealed_request: bytes | None = field(default=None, repr=False)
    ask_until: datetime | None = None
    attempts: tuple[AttemptRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class ProvinceShare:
    """How one province stands after a question was concluded: its state (`answered`, ...), its posterior."""

    province: str
    state: str
    probability: float


@dataclass(frozen=True, slots=True)
class HearingRecord:
    """What came of one attempt.

    heard: JSON; None keeps what stands there, because an earlier answer counts for more than a later silence.
    outstanding: nobody knows whether the peer has answered. sealed_answer, generation: only with an answer.
    failures: attempts in a row without one. next_try_at: None when the province is not asked again.
    """

    province: str
    heard: str | None
    outstanding: bool
    failures: int
    next_try_at: datetime | None
    sealed_answer: bytes | None = field(default=None, repr=False)
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class QuestionOutcome:
    """What came of a question, the first time or amended. none_probability: posterior share of "in no registry".

    event: what is added to the case's history; None: nothing. seen: no caseworker need be told of it.
    """

    question_id: bytes
    at: datetime
    outcome: str
    province: str | None
    none_probability: float
    provinces: tuple[ProvinceShare, ...]
    hearings: tuple[HearingRecord, ...] = ()
    sealed_result: bytes | None = field(default=None, repr=False)
    event: str | None = None
    detail: str | None = None
    seen: bool = True


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """A question as it is stored. news: events nobody has looked at yet."""

    question_id: bytes
    case_reference: str
    asked_at: datetime
    concluded_at: datetime | None
    outcome: str | None
    province: str | None
    none_probability: float | None
    sealed_request: bytes | None = field(repr=False)
    sealed_result: bytes | None = field(repr=False)
    ask_until: datetime | None
    closed_at: datetime | None
    closed_reason: str | None
    news: int = 0


@dataclass(frozen=True, slots=True)
class ProvinceRecord:
    """One province's standing in a stored question; see AttemptRecord and HearingRecord."""

    question_id: bytes
    province: str
    state: str
    probability: float | None
    attempts: int
    failures: int
    nonce: bytes | None
    issued_at: datetime | None
    deadline: datetime | None
    outstanding: bool
    next_try_at: datetime | None
    heard: str | None
    heard_at: datetime | None
    sealed_answer: bytes | None = field(repr=False)
    answered_at: datetime | None
    generation: int | None
    renewed_at: datetime | None


@dataclass(frozen=True, slots=True)
class CaseEvent:
    """One line of a case's history. detail: codes of provinces, or a reason; never what anybody typed."""

    at: datetime
    kind: str
    outcome: str | None
    province: str | None
    detail: str | None
    seen: bool


class ReviewState(StrEnum):
    """How a queued candidate stands. SECOND: one of two reviewers has decided. EXPIRED: nobody did, in time."""

    WAITING = "waiting"
    SECOND = "second"
    SAME = "same"
    DIFFERENT = "different"
    UNSURE = "unsure"
    BROKEN = "broken"
    EXPIRED = "expired"


class ReviewEvent(StrEnum):
    """What a reviewer did with a queued candidate; kept for good."""

    VIEWED = "viewed"
    SAME = "same"
    DIFFERENT = "different"
    UNSURE = "unsure"
    UNDONE = "undone"
    BROKEN = "broken"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """A candidate of an answer that waits for, or has, a person's decision.

    number: what reviewers call it. record_id: the registry's own id, "" once it was forgotten. generation, row: where
    it was found. leased_to, leased_until: which reviewer has it before them, by pseudonym, and until when.
    """

    number: int
    record_id: str = field(repr=False)
    generation: str
    row: int
    peer: str
    case_reference: str
    answered_at: datetime
    schema_fingerprint: bytes
    levels: bytes
    groups: str
    admitted: bytes
    state: ReviewState
    leased_to: bytes | None = None
    leased_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A peer's question that asks to be answered, before anything is computed.

    content: keyed digest of what it asks, the same for the same words. lease_until: until when another copy of it has
    to wait for this one.
    """

    peer: str
    operator_pseudonym: bytes
    case_reference: str
    nonce: bytes
    request_sha256: bytes
    content: bytes
    at: datetime
    lease_until: datetime


class Admission(StrEnum):
    """What becomes of a claim."""

    FRESH = "fresh"  # debited; answer it
    REPEAT = "repeat"  # asked before in the same words, and debited as such; answer it
    AGAIN = "again"  # the very same bytes, never answered; debited then; answer it
    ANSWERED = "answered"  # the very same bytes, and here is their answer
    IN_PROGRESS = "in_progress"  # the very same bytes are being answered at this moment
    OWN = "own"  # the own province's: nothing is claimed or debited; answer it
    NONCE_REUSED = "nonce_reused"  # other bytes under a nonce that is taken


TO_ANSWER: Final = frozenset({Admission.FRESH, Admission.REPEAT, Admission.AGAIN, Admission.OWN})


@dataclass(frozen=True, slots=True)
class Admitted:
    """A claim's admission.

    reply: the sealed answer of an ANSWERED one. throttled: it fell under a throttle. number: of its PENDING row, if it
    is to be answered now.
    """

    admission: Admission
    reply: bytes | None = field(default=None, repr=False)
    throttled: bool = False
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The sealed answer to a question, kept for its repetition. None: it was not answered, and may be tried again."""

    peer: str
    nonce: bytes
    sealed: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Spending:
    """What one holder of a budget has asked. holder: "" for the peer itself, a case reference, or a pseudonym's hex."""

    peer: str
    scope: str
    holder: str
    by_day: dict[int, int]


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the sweep monitor remembers of one question: nothing but keyed sketches.

    sketch: as node/sweep.py packs it. found: whether the registry had a strong candidate.
    """

    peer: str
    operator_pseudonym: bytes
    case_reference: str
    at: datetime
    found: bool
    sketch: bytes = field(repr=False)
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Throttle:
    """A peer, or one operator of it, that the sweep monitor holds back until a person releases it."""

    peer: str
    operator_pseudonym: bytes | None
    pattern: str
    evidence: int
    since: datetime
    released_at: datetime | None = None
    released_by: str | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """A caseworker's wish to learn whose a handle is."""

    handle: bytes = field(repr=False)
    peer: str
    case_reference: str
    operator: str
    at: datetime


class Closed(StrEnum):
    """Why a handle stays closed."""

    UNKNOWN = "unknown"
    WRONG_PEER = "wrong_peer"
    WRONG_CASE = "wrong_case"
    EXPIRED = "expired"
    OPENED_BEFORE = "opened_before"


@dataclass(frozen=True, slots=True)
class Opened:
    """What came of an opening. record: what the handle stands for, if it is known. closed: why it is not opened."""

    record: HandleRecord | None
    closed: Closed | None
