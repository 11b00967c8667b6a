"""What passes between two provinces, as plain values: a question's header and the five kinds of answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from matching.question import EncodedQuery, Evidence

NONCE_BYTES: Final = 16
PSEUDONYM_BYTES: Final = 16
MAX_DEADLINE_S: Final = 60.0
MAX_CLOCK_SKEW: Final = timedelta(seconds=300)
CASE_REFERENCE_PATTERN: Final = r"[A-Za-z0-9._-]{1,64}"


class Purpose(StrEnum):
    """Why a question is asked."""

    RETURN_HOME = "return_home"
    NOTIFY_FAMILY = "notify_family"
    SELF_TEST = "self_test"


class RefusalReason(StrEnum):
    """Why a question was understood and not answered."""

    NOT_ALLOWED = "not_allowed"
    SCHEMA_MISMATCH = "schema_mismatch"
    MALFORMED = "malformed"
    CLOCK = "clock"
    BUDGET = "budget"
    NONCE_REUSED = "nonce_reused"


@dataclass(frozen=True, slots=True)
class QuestionHeader:
    """What every stage of a question carries beside the encodings.

    nonce: NONCE_BYTES fresh random bytes, the same for every province asked. operator_pseudonym: PSEUDONYM_BYTES.
    deadline: at most MAX_DEADLINE_S after issued_at.
    """

    nonce: bytes
    case_reference: str
    purpose: Purpose
    operator_pseudonym: bytes
    issued_at: datetime
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Handle:
    """A candidate, named so that only the answering province knows who it is.

    handle: HANDLE_BYTES random bytes. class_index: which class of the evidence the candidate belongs to.
    """

    handle: bytes = field(repr=False)
    class_index: int


@dataclass(frozen=True, slots=True)
class Answered:
    """The registry was searched; an `evidence` without classes means "none here".

    generation: which one of the registry; only whether two are the same means anything. None: not told.
    """

    evidence: Evidence
    handles: tuple[Handle, ...]
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class NeedMore:
    """The question says too little; any of these schema fields would help."""

    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Busy:
    """Too many questions at once."""

    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The question was understood and will not be answered. detail: one sentence, no value of the question."""

    reason: RefusalReason
    detail: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The province is there but cannot answer now."""

    detail: str


Answer = Answered | NeedMore | Busy | Refused | Unavailable


@dataclass(frozen=True, slots=True)
class ReceivedQuestion:
    """A question as it reached this node.

    request_sha256: of the bytes received. header, identity (schema fingerprint, key epoch): None when they break the
    contract. content: the client's encodings, or why they were not read. reply_key: 32 bytes that only the bytes
    received give, under which the answer is kept for their repetition; None when it is not kept.
    """

    request_sha256: bytes
    header: QuestionHeader | None
    identity: tuple[bytes, int] | None
    content: EncodedQuery | Refused
    reply_key: bytes | None = field(default=None, repr=False)
