"""Protobuf messages <-> plain values, every limit of exchange.proto checked; errors <-> gRPC status."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from matching.fields import YearClass
from matching.question import (
    CLASSES_PER_ANSWER,
    HANDLE_BYTES,
    HANDLES_PER_ANSWER,
    MAX_NEAR,
    MAX_REGENCIES,
    MAX_TOKENS,
    MAX_VARIANTS,
    MAX_YEARS,
    CodeQuery,
    DateQuery,
    EncodedQuery,
    Evidence,
    FieldQuery,
    NameQuery,
    PlaceQuery,
    TokenQuery,
)
from matching.schema import LinkageSchema, describe
from node.clock import offset_of
from node.errors import (
    AccessDeniedError,
    MembershipEndedError,
    PeerContractError,
    PeerError,
    PeerRefusedError,
    PeerTimeoutError,
    PeerUnreachableError,
    TrustError,
)
from node.messages import (
    CASE_REFERENCE_PATTERN,
    MAX_DEADLINE_S,
    NONCE_BYTES,
    PSEUDONYM_BYTES,
    Answer,
    Answered,
    Busy,
    Handle,
    NeedMore,
    Purpose,
    QuestionHeader,
    ReceivedQuestion,
    RefusalReason,
    Refused,
    Unavailable,
)
from node.pki.repository import Versions
from node.standing import Standing, Told
from proto.pulang.exchange.v1 import exchange_pb2 as pb
from proto.pulang.federation.v1 import federation_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

MAX_REQUEST_BYTES: Final = 256 * 1024
MAX_RESPONSE_BYTES: Final = 64 * 1024  # an answer has 2 KiB; a peer that sends more is not one of ours
MAX_PART_BYTES: Final = 32 * 1024  # of a metadata file
MAX_FILE_NAME_CHARS: Final = 200
MAX_FILE_OFFSET: Final = 2**24
MAX_SERIAL_BYTES: Final = 20  # RFC 5280, 4.1.2.2
MAX_EPOCHS: Final = 8
MAX_REGISTRY_SIZE: Final = 2**27  # persons: more than twice the largest province
MAX_EPOCH: Final = 2**31 - 1  # the audit keeps it in 32 bits; an epoch it cannot hold would leave no row
MAX_HALF_BITS: Final = 192  # set bits of 256; a token that fills more is longer than any name
ROUNDED_OFF: Final = 1.25  # rounding to half octaves, and then to whole persons, moves a count by less than this
MAX_DETAIL_CHARS: Final = 200
MAX_RETRY_AFTER_S: Final = 3600.0
MAX_GENERATION: Final = 2**63 - 1  # the database keeps it in 64 bits with a sign
UNUSED_CLASS: Final = 255
HASH_BYTES: Final = 32

_WORD: Final = np.dtype("<u8")

PURPOSES: Final[dict[Purpose, pb.Purpose]] = {
    Purpose.RETURN_HOME: pb.PURPOSE_RETURN_HOME,
    Purpose.NOTIFY_FAMILY: pb.PURPOSE_NOTIFY_FAMILY,
    Purpose.SELF_TEST: pb.PURPOSE_SELF_TEST,
}
REASONS: Final[dict[RefusalReason, pb.RefusalReason]] = {
    RefusalReason.NOT_ALLOWED: pb.REFUSAL_REASON_NOT_ALLOWED,
    RefusalReason.SCHEMA_MISMATCH: pb.REFUSAL_REASON_SCHEMA_MISMATCH,
    RefusalReason.MALFORMED: pb.REFUSAL_REASON_MALFORMED,
    RefusalReason.CLOCK: pb.REFUSAL_REASON_CLOCK,
    RefusalReason.BUDGET: pb.REFUSAL_REASON_BUDGET,
    RefusalReason.NONCE_REUSED: pb.REFUSAL_REASON_NONCE_REUSED,
}


class WireError(Exception):
    """A message breaks a limit of the contract. Names the field; never holds its value."""

    def __init__(self, field: str, limit: str) -> None:
        super().__init__(f"{field}: {limit}")


# Error -> gRPC status, most specific first; its text goes with it. Not in the table: a bug, INTERNAL with a request id.
STATUS_OF_ERROR: Final[tuple[tuple[type[Exception], grpc.StatusCode], ...]] = (
    (WireError, grpc.StatusCode.INVALID_ARGUMENT),
    (MembershipEndedError, grpc.StatusCode.FAILED_PRECONDITION),
    (TrustError, grpc.StatusCode.UNAUTHENTICATED),
    (AccessDeniedError, grpc.StatusCode.PERMISSION_DENIED),
    (TimeoutError, grpc.StatusCode.DEADLINE_EXCEEDED),
)

# gRPC status -> PeerError and its words. Not in the table: the peer broke the contract.
ERROR_OF_STATUS: Final[dict[grpc.StatusCode, tuple[type[PeerError], str]]] = {
    grpc.StatusCode.UNAVAILABLE: (
        PeerUnreachableError,
        "no connection. The host is down, or it refused our certificate (gRPC cannot tell).",
    ),
    grpc.StatusCode.CANCELLED: (PeerUnreachableError, "the connection was closed before the answer came"),
    # No node of ours says so: gRPC does ("Stream removed"), when a connection breaks at the wrong moment.
    grpc.StatusCode.UNKNOWN: (PeerUnreachableError, "the connection broke before the answer came"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (PeerTimeoutError, "no answer before the deadline"),
    grpc.StatusCode.UNAUTHENTICATED: (PeerRefusedError, "it does not trust our certificate"),
    grpc.StatusCode.PERMISSION_DENIED: (PeerRefusedError, "it does not allow us this call"),
    grpc.StatusCode.FAILED_PRECONDITION: (PeerRefusedError, "it is closed until it has a list of members that counts"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (PeerContractError, "a message is over its limit"),
    grpc.StatusCode.INVALID_ARGUMENT: (PeerContractError, "it cannot read our question"),
    grpc.StatusCode.INTERNAL: (PeerContractError, "it failed inside, and knows this failure as"),
}


def _require(condition: object, field: str, limit: str) -> None:
    if not condition:
        raise WireError(field, limit)


# --- questions ---


def write_question(header: QuestionHeader, query: EncodedQuery) -> bytes:
    """Return the bytes of a question: the very bytes to send and to hash."""
    request = pb.AskRequest(
        header=pb.QuestionHeader(
            schema_fingerprint=query.fingerprint,
            key_epoch=query.epoch,
            nonce=header.nonce,
            case_reference=header.case_reference,
            purpose=PURPOSES[header.purpose],
            operator_pseudonym=header.operator_pseudonym,
            issued_at=_timestamp(header.issued_at),
            deadline=_timestamp(header.deadline),
        ),
        match=pb.MatchStage(
            name=_write_name(query.fields.get("name")),
            mother_name=_write_name(query.fields.get("mother_name")),
            father_name=_write_name(query.fields.get("father_name")),
            birthplace=_write_place(query.fields.get("birthplace")),
            birth_date=_write_date(query.fields.get("birth_date")),
            sex=_write_code(query.fields.get("sex")),
            title=_write_code(query.fields.get("title")),
        ),
    )
    return request.SerializeToString(deterministic=True)


def read_question(
    request: pb.AskRequest, request_sha256: bytes, schema: LinkageSchema, epochs: Collection[int]
) -> ReceivedQuestion:
    """Check a question against the contract. What breaks it, or was made under another schema, becomes a Refused.

    epochs: those whose keys this node has.
    """
    identity: tuple[bytes, int] | None = None
    header: QuestionHeader | None = None
    content: EncodedQuery | Refused
    try:
        identity = _read_identity(request.header, "header")
        header = _read_header(request.header)
        if identity[0] == schema.fingerprint and identity[1] in epochs:
            _require(request.WhichOneof("stage") == "match", "stage", "must be match")
            content = _read_query(request.match, schema, identity[1])
        else:
            ours = describe(schema.fingerprint, *sorted(epochs))
            content = Refused(
                RefusalReason.SCHEMA_MISMATCH, f"we encode by {ours}, the question by {describe(*identity)}"
            )
    except WireError as error:
        content = Refused(RefusalReason.MALFORMED, str(error))
    return ReceivedQuestion(request_sha256, header, identity, content)


def parse_question(data: bytes, schema: LinkageSchema, epochs: Collection[int]) -> ReceivedQuestion:
    """Read a question from its bytes. Raises WireError when they are no message of the contract."""
    return read_question(parse(pb.AskRequest, data), hashlib.sha256(data).digest(), schema, epochs)


def _read_header(header: pb.QuestionHeader) -> QuestionHeader:
    purpose = next((ours for ours, theirs in PURPOSES.items() if theirs == header.purpose), None)
    _require(len(header.nonce) == NONCE_BYTES, "nonce", f"must be {NONCE_BYTES} bytes")
    _require(
        re.fullmatch(CASE_REFERENCE_PATTERN, header.case_reference),
        "case_reference",
        "must be 1 to 64 of A-Z a-z 0-9 . _ -",
    )
    if purpose is None:
        raise WireError("purpose", "not one of the contract's")
    _require(
        len(header.operator_pseudonym) == PSEUDONYM_BYTES, "operator_pseudonym", f"must be {PSEUDONYM_BYTES} bytes"
    )
    issued_at = _read_time(header, "issued_at")
    deadline = _read_time(header, "deadline")
    _require(
        timedelta() < deadline - issued_at <= timedelta(seconds=MAX_DEADLINE_S),
        "deadline",
        f"must be after issued_at, by at most {MAX_DEADLINE_S:.0f} s",
    )
    return QuestionHeader(header.nonce, header.case_reference, purpose, header.operator_pseudonym, issued_at, deadline)


def _read_identity(header: pb.QuestionHeader | pb.AnswerHeader, where: str) -> tuple[bytes, int]:
    _require(len(header.schema_fingerprint) == HASH_BYTES, f"{where}.schema_fingerprint", f"must be {HASH_BYTES} bytes")
    _require(1 <= header.key_epoch <= MAX_EPOCH, f"{where}.key_epoch", f"must be 1 to {MAX_EPOCH}")
    return header.schema_fingerprint, header.key_epoch


def _read_query(stage: pb.MatchStage, schema: LinkageSchema, epoch: int) -> EncodedQuery:
    _require(stage.HasField("name"), "name", "is required")
    read: dict[str, FieldQuery | None] = {
        "name": _read_name(stage, "name", schema),
        "mother_name": _read_name(stage, "mother_name", schema),
        "father_name": _read_name(stage, "father_name", schema),
        "birthplace": _read_place(stage, schema),
        "birth_date": _read_date(stage),
        "sex": _read_code(stage.sex),
        "title": _read_code(stage.title),
    }
    known = {name: field for name, field in read.items() if field is not None}
    return EncodedQuery(schema.fingerprint, epoch, known)


def _write_code(code: FieldQuery | None) -> int:
    return code.token if isinstance(code, CodeQuery) else 0


def _read_code(token: int) -> CodeQuery | None:
    return CodeQuery(token) if token else None


def _write_name(name: FieldQuery | None) -> pb.EncodedName | None:
    if not isinstance(name, NameQuery):
        return None
    return pb.EncodedName(
        tokens=[
            pb.EncodedToken(
                variants=[_filter_bytes(row) for row in token.variants],
                weight=token.weight,
                initial=token.initial,
                near=token.near.tolist(),
                call=token.call,
            )
            for token in name.tokens
        ]
    )


def _read_name(stage: pb.MatchStage, field: str, schema: LinkageSchema) -> NameQuery | None:
    if not stage.HasField(field):
        return None
    tokens = getattr(stage, field).tokens
    _require(1 <= len(tokens) <= MAX_TOKENS, f"{field}.tokens", f"must be 1 to {MAX_TOKENS}")
    return NameQuery(tuple(_read_token(token, field, schema) for token in tokens))


def _read_token(token: pb.EncodedToken, field: str, schema: LinkageSchema) -> TokenQuery:
    _require(1 <= len(token.variants) <= MAX_VARIANTS, f"{field}.variants", f"must be 1 to {MAX_VARIANTS}")
    _require(1 <= token.weight <= 255, f"{field}.weight", "must be 1 to 255")
    filters = np.stack([_read_filter(variant, field, schema) for variant in token.variants])
    _check_token_bits(filters, field, schema, initial=token.initial)
    near = _read_tokens(token.near, f"{field}.near", MAX_NEAR)
    # A letter is one slip away from many letters, and nobody is called by one.
    _require(not token.initial or not (len(near) or token.call), f"{field}.near", "an initial has none, and no call")
    return TokenQuery(filters, token.weight, token.initial, near, token.call)


def _check_token_bits(filters: NDArray[np.uint64], field: str, schema: LinkageSchema, *, initial: bool) -> None:
    """Refuse filters that no name has: an empty one agrees with every initial, and as an initial with every name."""
    bits = np.bitwise_count(filters).reshape(len(filters), 2, -1).sum(axis=2, dtype=np.int64)
    spelling, sound = bits[:, 0], bits[:, 1]
    if initial:
        # One bigram and no sound, or a member could ask for whatever has a bigram of its choice in it.
        one_bigram = len(filters) == 1 and 1 <= spelling[0] <= schema.field(field).gram_positions and sound[0] == 0
        _require(one_bigram, f"{field}.filter", "not that of a single letter")
    else:
        within = bits.min() >= 1 and bits.max() <= MAX_HALF_BITS
        _require(within, f"{field}.filter", f"must have 1 to {MAX_HALF_BITS} bits in either half")


def _write_place(place: FieldQuery | None) -> pb.EncodedPlace | None:
    if not isinstance(place, PlaceQuery):
        return None
    return pb.EncodedPlace(
        text=_filter_bytes(place.text),
        regencies=place.regencies.tolist(),
        related=place.related.tolist(),
        provinces=place.provinces.tolist(),
        district=place.district,
    )


def _read_place(stage: pb.MatchStage, schema: LinkageSchema) -> PlaceQuery | None:
    if not stage.HasField("birthplace"):
        return None
    place = stage.birthplace
    return PlaceQuery(
        text=_read_filter(place.text, "birthplace", schema),
        regencies=_read_tokens(place.regencies, "birthplace.regencies", MAX_REGENCIES),
        related=_read_tokens(place.related, "birthplace.related", MAX_REGENCIES),
        provinces=_read_tokens(place.provinces, "birthplace.provinces", MAX_REGENCIES),
        district=place.district,
    )


def _write_date(date: FieldQuery | None) -> pb.EncodedDate | None:
    if not isinstance(date, DateQuery):
        return None
    return pb.EncodedDate(
        years=date.years.tolist(),
        year_classes=date.year_classes.tobytes(),
        month=date.month,
        day=date.day,
        swapped_month=date.swapped_month,
        swapped_day=date.swapped_day,
    )


def _read_date(stage: pb.MatchStage) -> DateQuery | None:
    if not stage.HasField("birth_date"):
        return None
    date = stage.birth_date
    years = _read_tokens(date.years, "birth_date.years", MAX_YEARS)
    classes = np.frombuffer(date.year_classes, dtype=np.uint8).copy()  # writable: the kernels are compiled for it
    _require(len(classes) == len(years), "birth_date.year_classes", "must be one byte per year")
    # The kernels use a class as an index and do not look twice.
    _require(
        not len(classes) or classes.max() <= max(YearClass), "birth_date.year_classes", "not one of the contract's"
    )
    return DateQuery(years, classes, date.month, date.day, date.swapped_month, date.swapped_day)


def _filter_bytes(words: NDArray[np.uint64]) -> bytes:
    return words.astype(_WORD).tobytes()


def _read_filter(data: bytes, field: str, schema: LinkageSchema) -> NDArray[np.uint64]:
    size = schema.field(field).filter_bits // 8
    _require(len(data) == size, f"{field}.filter", f"must be {size} bytes")
    return np.frombuffer(data, dtype=_WORD).astype(np.uint64)


def _read_tokens(values: Any, field: str, limit: int) -> NDArray[np.uint64]:
    _require(len(values) <= limit, field, f"must be at most {limit}")
    tokens = np.array(values, dtype=np.uint64)
    # 0 stands for "not known" in an index too: as a token it would agree with every missing value.
    _require(tokens.all(), field, "0 is not a token")
    return tokens


# --- answers ---


def write_answer(
    answer: Answer, *, schema: LinkageSchema, epoch: int, province: str, request_sha256: bytes, now: datetime
) -> pb.AskResponse:
    """Return the message of an answer. An Answered has the same size whatever was found."""
    response = pb.AskResponse(
        header=pb.AnswerHeader(
            schema_fingerprint=schema.fingerprint,
            key_epoch=epoch,
            province=province,
            request_sha256=request_sha256,
            answered_at=_timestamp(now.replace(microsecond=0)),  # whole seconds: fractions vary in size
        )
    )
    match answer:
        case Answered():
            response.answered.CopyFrom(_write_answered(answer, schema))
        case NeedMore(attributes=attributes):
            response.need_more.attributes.extend(attributes)
        case Busy(retry_after_s=retry_after_s):
            duration = Duration()
            duration.FromTimedelta(timedelta(seconds=retry_after_s))
            response.busy.retry_after.CopyFrom(duration)
        case Refused(reason=reason, detail=detail):
            response.refused.reason = REASONS[reason]
            response.refused.detail = detail
        case Unavailable(detail=detail):
            response.unavailable.detail = detail
    return response


def _write_answered(answer: Answered, schema: LinkageSchema) -> pb.Answered:
    evidence, handles = answer.evidence, answer.handles
    classes = [
        pb.EvidenceClass(levels=levels.astype(np.uint8).tobytes(), count=int(count))
        for levels, count in zip(evidence.class_levels, evidence.class_counts, strict=True)
    ]
    unused = pb.EvidenceClass(levels=bytes(len(schema.fields)), count=0)
    padding = [
        pb.Handle(handle=secrets.token_bytes(HANDLE_BYTES), class_index=UNUSED_CLASS)
        for _ in range(HANDLES_PER_ANSWER - len(handles))
    ]
    return pb.Answered(
        registry_size=evidence.size,
        histograms=[pb.LevelHistogram(counts=counts.tolist()) for counts in evidence.histograms],
        classes=classes + [unused] * (CLASSES_PER_ANSWER - len(classes)),
        handles=[pb.Handle(handle=each.handle, class_index=each.class_index) for each in handles] + padding,
        registry_generation=answer.generation or 0,
    )


def read_answer(data: bytes, *, schema: LinkageSchema, epoch: int, province: str, request_sha256: bytes) -> Answer:
    """Check an answer against the contract and its question. Raises WireError.

    province: the member that was asked. request_sha256: of the bytes that were sent.
    """
    response = parse(pb.AskResponse, data)
    header = response.header
    _require(header.province == province, "header.province", "not the province that was asked")
    _require(header.request_sha256 == request_sha256, "header.request_sha256", "not the question that was asked")
    identity = _read_identity(header, "header")
    match response.WhichOneof("outcome"):
        case "answered":
            _require_same(identity, schema, epoch)
            return _read_answered(response.answered, schema)
        case "need_more":
            _require_same(identity, schema, epoch)
            attributes = tuple(response.need_more.attributes)
            known = set(attributes) <= set(schema.field_names) and len(set(attributes)) == len(attributes)
            _require(attributes and known, "need_more.attributes", "must be fields of the schema, each once")
            return NeedMore(attributes)
        case "busy":
            return Busy(_read_duration(response.busy.retry_after))
        case "refused":
            reason = next((ours for ours, theirs in REASONS.items() if theirs == response.refused.reason), None)
            if reason is None:
                raise WireError("refused.reason", "not one of the contract's")
            return Refused(reason, _read_detail(response.refused.detail))
        case "unavailable":
            return Unavailable(_read_detail(response.unavailable.detail))
        case _:
            raise WireError("outcome", "is missing")


def _require_same(identity: tuple[bytes, int], schema: LinkageSchema, epoch: int) -> None:
    ours = (schema.fingerprint, epoch)
    _require(identity == ours, "header", f"answered by {describe(*identity)}, ours is {describe(*ours)}")


def _read_answered(answered: pb.Answered, schema: LinkageSchema) -> Answered:
    _require(answered.registry_size <= MAX_REGISTRY_SIZE, "registry_size", f"must be at most {MAX_REGISTRY_SIZE}")
    shape = tuple(len(histogram.counts) for histogram in answered.histograms)
    _require(shape == schema.levels, "histograms", "must have one count per level of every field")
    _require(len(answered.classes) == CLASSES_PER_ANSWER, "classes", f"must be {CLASSES_PER_ANSWER}")
    used = [each for each in answered.classes if each.count]
    _require(used == list(answered.classes[: len(used)]), "classes", "an unused one stands before a used one")
    levels = np.zeros((len(used), len(schema.fields)), dtype=np.uint8)
    for row, each in enumerate(used):
        _require(len(each.levels) == len(schema.fields), "classes.levels", "must be one byte per field")
        levels[row] = np.frombuffer(each.levels, dtype=np.uint8)
    _require((levels < np.array(schema.levels)).all(), "classes.levels", "no such level in the schema")
    evidence = Evidence(
        size=answered.registry_size,
        histograms=tuple(np.array(histogram.counts, dtype=np.int64) for histogram in answered.histograms),
        class_levels=levels,
        class_counts=np.array([each.count for each in used], dtype=np.int64),
    )
    _check_counts(evidence)
    _require(len(answered.handles) == HANDLES_PER_ANSWER, "handles", f"must be {HANDLES_PER_ANSWER}")
    for handle in answered.handles:
        _require(len(handle.handle) == HANDLE_BYTES, "handles.handle", f"must be {HANDLE_BYTES} bytes")
        known = handle.class_index < len(used) or handle.class_index == UNUSED_CLASS
        _require(known, "handles.class_index", "names no class of this answer")
    named = (each for each in answered.handles if each.class_index != UNUSED_CLASS)
    return Answered(
        evidence,
        tuple(Handle(each.handle, each.class_index) for each in named),
        _read_generation(answered.registry_generation),
    )


def _read_generation(number: int) -> int | None:
    _require(number <= MAX_GENERATION, "registry_generation", f"must be at most {MAX_GENERATION}")
    return number or None


def _check_counts(evidence: Evidence) -> None:
    """Refuse counts that are not of one registry: all provinces' histograms are pooled, so a false one spoils them all.

    Every person has one level in every field, and stands in one class: both add up to the registry, but for rounding.
    """
    for histogram in evidence.histograms:
        told = int(histogram.sum())
        fits = evidence.size / ROUNDED_OFF <= told <= evidence.size * ROUNDED_OFF
        _require(fits, "histograms", "do not add up to the registry")
    distinct = len(np.unique(evidence.class_levels, axis=0)) == len(evidence.class_levels)
    _require(distinct, "classes.levels", "two classes with the same levels")
    for place, histogram in enumerate(evidence.histograms):
        held = np.zeros(len(histogram), dtype=np.int64)
        np.add.at(held, evidence.class_levels[:, place], evidence.class_counts)
        within = held <= histogram * ROUNDED_OFF**2  # both sides are rounded
        _require(within.all(), "classes.count", "more persons than the histograms have at these levels")


def _read_detail(detail: str) -> str:
    _require(len(detail) <= MAX_DETAIL_CHARS and detail.isprintable(), "detail", "must be one short printable sentence")
    return detail


def _read_duration(duration: Duration) -> float:
    seconds = duration.seconds + duration.nanos / 1e9
    _require(0 <= seconds <= MAX_RETRY_AFTER_S, "busy.retry_after", f"must be 0 to {MAX_RETRY_AFTER_S:.0f} s")
    return seconds


# --- membership metadata ---


def read_part_request(request: federation_pb2.GetMetadataRequest) -> tuple[str, int]:
    """Return (file, offset) of a request. Raises WireError."""
    _require(request.file.isascii() and len(request.file) <= MAX_FILE_NAME_CHARS, "file", "must be a file's name")
    _require(request.offset <= MAX_FILE_OFFSET, "offset", f"must be at most {MAX_FILE_OFFSET}")
    return request.file, request.offset


def parse_part_request(data: bytes) -> tuple[str, int]:
    """Read a request from its bytes. Raises WireError."""
    return read_part_request(parse(federation_pb2.GetMetadataRequest, data))


def write_part_request(file: str, offset: int) -> bytes:
    """Return the bytes that ask for a part of a file."""
    return federation_pb2.GetMetadataRequest(file=file, offset=offset).SerializeToString()


def read_part(reply: bytes) -> tuple[bytes, bool] | None:
    """Return (part, whether it is the last), None when the peer does not have the file. Raises WireError."""
    response = parse(federation_pb2.GetMetadataResponse, reply)
    _require(len(response.content) <= MAX_PART_BYTES, "content", f"must be at most {MAX_PART_BYTES} bytes")
    return (response.content, response.last) if response.found else None


def write_versions(versions: Versions, now: datetime) -> federation_pb2.GetVersionsResponse:
    """Return the message that says which metadata this node has, and what time it is."""
    return federation_pb2.GetVersionsResponse(
        root_version=versions.root,
        timestamp_version=versions.timestamp,
        snapshot_version=versions.snapshot,
        clock=_timestamp(now),
    )


def read_versions(reply: bytes, sent: datetime, received: datetime) -> Told:
    """Return what a peer says about its metadata and its clock. sent, received: by our clock. Raises WireError."""
    response = parse(federation_pb2.GetVersionsResponse, reply)
    versions = Versions(response.root_version, response.timestamp_version, response.snapshot_version)
    clock = _read_time(response, "clock") if response.HasField("clock") else None
    return Told(versions, None if clock is None else offset_of(clock, sent, received))


def write_standing(standing: Standing) -> federation_pb2.GetStandingResponse:
    """Return the message that says how a caller stands here."""
    serial = int(standing.serial, 16)
    return federation_pb2.GetStandingResponse(
        certificate_serial=serial.to_bytes((serial.bit_length() + 7) // 8, "big"),
        certificate_ends_at=_timestamp(standing.ends_at),
        list_version=standing.list_version,
        list_ends_at=_timestamp(standing.list_ends_at),
        schema_fingerprint=standing.schema_fingerprint,
        key_epochs=sorted(standing.key_epochs),
        ready=standing.is_ready,
    )


def read_standing(reply: bytes) -> Standing:
    """Return how we stand with a peer, as it says. Raises WireError."""
    response = parse(federation_pb2.GetStandingResponse, reply)
    serial, epochs = response.certificate_serial, response.key_epochs
    _require(1 <= len(serial) <= MAX_SERIAL_BYTES, "certificate_serial", f"must be 1 to {MAX_SERIAL_BYTES} bytes")
    _require(len(response.schema_fingerprint) == HASH_BYTES, "schema_fingerprint", f"must be {HASH_BYTES} bytes")
    _require(len(epochs) <= MAX_EPOCHS, "key_epochs", f"must be at most {MAX_EPOCHS}")
    return Standing(
        serial=f"{int.from_bytes(serial, 'big'):x}",
        ends_at=_read_time(response, "certificate_ends_at"),
        list_version=response.list_version,
        list_ends_at=_read_time(response, "list_ends_at"),
        schema_fingerprint=response.schema_fingerprint,
        key_epochs=frozenset(epochs),
        is_ready=response.ready,
    )


# --- registries ---


def write_registry(province: str, generation: int | None) -> pb.GetRegistryResponse:
    """Return the message that says which registry would answer now."""
    return pb.GetRegistryResponse(province=province, registry_generation=generation or 0)


def read_registry(data: bytes, province: str) -> int | None:
    """Return the generation of a member's registry, None while it has none. Raises WireError."""
    response = parse(pb.GetRegistryResponse, data)
    _require(response.province == province, "province", "not the province that was asked")
    return _read_generation(response.registry_generation)


# --- what a node keeps of its own questions ---


def read_own_question(data: bytes, schema: LinkageSchema) -> tuple[QuestionHeader, EncodedQuery]:
    """Return a question this node wrote itself, of whatever epoch. Raises WireError."""
    request = parse(pb.AskRequest, data)
    fingerprint, epoch = _read_identity(request.header, "header")
    _require(fingerprint == schema.fingerprint, "header.schema_fingerprint", "asked under another linkage schema")
    return _read_header(request.header), _read_query(request.match, schema, epoch)


def write_own_answer(answer: Answered, schema: LinkageSchema) -> bytes:
    """Return an answer's bytes, to be kept with the question."""
    return _write_answered(answer, schema).SerializeToString(deterministic=True)


def read_own_answer(data: bytes, schema: LinkageSchema) -> Answered:
    """Return a kept answer, checked as if it had just come. Raises WireError."""
    return _read_answered(parse(pb.Answered, data), schema)


# --- both ---

_Parsed = TypeVar("_Parsed", bound=Message)


def parse(kind: Callable[[], _Parsed], data: bytes) -> _Parsed:
    """Parse a message. Raises WireError with a fixed text: protobuf's own would name Python types."""
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise WireError("message", "not a message of the contract") from None
    return message


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _read_time(message: Message, field: str) -> datetime:
    _require(message.HasField(field), field, "is required")
    stamp: Timestamp = getattr(message, field)
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise WireError(field, "not a time") from None


def status_of(error: Exception) -> grpc.StatusCode | None:
    """Return the status of an error in the table, None for one that is a bug."""
    return next((status for kind, status in STATUS_OF_ERROR if isinstance(error, kind)), None)


# Statuses whose text was written by the peer's own node, for us to read.
TELLING: Final = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.INTERNAL,
    }
)

# Statuses that say nothing about the call itself: who calls was not let in, or nobody is.
AT_THE_DOOR: Final = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.FAILED_PRECONDITION})


def peer_error(status: grpc.StatusCode, details: str | None, code: str, name: str) -> PeerError:
    """Return what a status means to the asker. code, name: the member's."""
    kind, words = ERROR_OF_STATUS.get(status, (PeerContractError, f"it answered with an unknown status, {status.name}"))
    if status in TELLING and details and len(details) <= MAX_DETAIL_CHARS and details.isprintable():
        words = f"{words}: {details}"
    at_the_door = kind is PeerUnreachableError or status in AT_THE_DOOR
    hint = f"run `pulang cert status`, then `pulang peer diagnose {code}`" if at_the_door else None
    return kind(f"{name}: {words}", hint=hint)
