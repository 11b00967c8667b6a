"""What the node tells its own caseworker about a question: events as they happen, then one conclusion.

Plain values, so that the command line can read them without loading the linkage core. The keys of `as_json` are
those of `pulang find --json`: they stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final


class ProvinceState(StrEnum):
    """Where one province stands in a question. Only ANSWERED says anything about the client."""

    ASKED = "asked"
    ANSWERED = "answered"
    NEED_MORE = "need_more"
    BUSY = "busy"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    BROKE_CONTRACT = "broke_contract"
    NOT_ASKED = "not_asked"  # our own certificate or membership has expired: it would not have listened
    FAILED = "failed"  # a bug on our side; its request id is in the log


@dataclass(frozen=True, slots=True)
class Accepted:
    """The question is understood, recorded and about to be sent. provinces: code -> name, own one included."""

    event: ClassVar = "accepted"
    case: str
    province: str
    provinces: dict[str, str]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Warned:
    """A value is used, but not as the caseworker may think. reason: never holds the value."""

    event: ClassVar = "warning"
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Heard:
    """One province's state. detail: one sentence of why. attributes: what a NEED_MORE asks for.

    epoch: of the linkage key the question was last put to it in.
    """

    event: ClassVar = "province"
    code: str
    state: ProvinceState
    ms: int
    detail: str | None = None
    retry_after_s: float | None = None
    attributes: tuple[str, ...] = ()
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Find:
    """Registered persons of one province who fit the client equally well.

    persons: how many, rounded to half octaves, exact up to 4. probability: that the client is one of them.
    handles: at most five of them, opaque hex. bits: match weight of each field; None where one side lacks it.
    """

    province: str
    persons: int
    probability: float
    handles: tuple[str, ...]
    bits: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Concluded:
    """The end of a question.

    outcome: home_found, ambiguous, not_registered or incomplete. province: the home; with `incomplete`, the one that
    would be if nobody else spoke up. ask_for: the field whose answer would help most. provinces: probability by code,
    best first, of those that answered; unanswered: the share kept for each that did not; with `none` all sum to 1.
    again_until: ISO time until which the node goes on asking who did not answer; None when it need not.
    """

    event: ClassVar = "result"
    case: str
    outcome: str
    province: str | None
    ask_for: str | None
    provinces: dict[str, float]
    none: float
    unanswered: dict[str, float]
    heard: tuple[Heard, ...]
    finds: tuple[Find, ...]
    ms: int
    again_until: str | None = None


@dataclass(frozen=True, slots=True)
class Replied:
    """The answer to a command that is no question. document: what the command line shows."""

    event: ClassVar = "reply"
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """The question was not asked, or could not be finished. kind: class of the error. exit: the command's exit code.

    field, reason: which of the client's fields cannot be used, and why. Nothing was sent in that case.
    """

    event: ClassVar = "error"
    kind: str
    message: str
    hint: str | None
    exit: int
    field: str | None = None
    reason: str | None = None


Finding = Accepted | Warned | Heard | Concluded | Replied | Failed
_KINDS: Final[tuple[type[Finding], ...]] = (Accepted, Warned, Heard, Concluded, Replied, Failed)


def as_json(finding: Finding) -> dict[str, Any]:
    """Return the JSON object of an event; its kind stands under `event`."""
    return {"event": finding.event, **_members(finding)}


def _members(value: Finding | Find) -> dict[str, Any]:
    """Return a value's fields by name, those inside it too. `asdict` would copy every number and word, each alone."""
    return {name: _plain(getattr(value, name)) for name in value.__slots__}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_members(each) if isinstance(each, (Heard, Find)) else each for each in value]
    return value


def from_json(document: dict[str, Any]) -> Finding:
    """Return the event of a JSON object that `as_json` made. Raises KeyError, TypeError or ValueError on any other."""
    values = dict(document)
    event = values.pop("event")
    kind = next((kind for kind in _KINDS if kind.event == event), None)
    if kind is None:
        raise ValueError("not an event")
    if kind is Heard:
        return _heard(values)
    if kind is Concluded:
        values["heard"] = tuple(_heard(item) for item in values["heard"])
        values["finds"] = tuple(Find(**{**item, "handles": tuple(item["handles"])}) for item in values["finds"])
    return kind(**values)


def _heard(values: dict[str, Any]) -> Heard:
    return Heard(
        **{**values, "state": ProvinceState(values["state"]), "attributes": tuple(values.get("attributes", ()))}
    )
