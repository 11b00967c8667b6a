"""Cosigning on the wire: protobuf messages of the audit contract <-> plain values, every limit checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node.checkpoint import KEY_BYTES, MAX_NOTE_BYTES, MAX_SIZE
from node.merkle import HASH_BYTES, MAX_PROOF_HASHES
from node.rpc.wire import WireError, parse
from node.witness import Cosigned, CosignRequest, NotCosigned, NotCosignedReason, OtherSize
from proto.pulang.audit.v1 import audit_pb2 as pb

if TYPE_CHECKING:
    from node.witness import CosignReply

_service = pb.DESCRIPTOR.services_by_name["AuditService"]
COSIGN: Final = f"/{_service.full_name}/{_service.methods_by_name['CosignCheckpoint'].name}"
MAX_LINE_BYTES: Final = 512
REASONS: Final[dict[NotCosignedReason, pb.NotCosignedReason]] = {
    NotCosignedReason.FORK: pb.NOT_COSIGNED_REASON_FORK,
    NotCosignedReason.NOT_WITNESS: pb.NOT_COSIGNED_REASON_NOT_WITNESS,
    NotCosignedReason.INVALID: pb.NOT_COSIGNED_REASON_INVALID,
}


def write_request(request: CosignRequest) -> bytes:
    """Return the bytes of a request."""
    return pb.CosignCheckpointRequest(
        log_key=request.log_key,
        checkpoint=request.checkpoint,
        old_size=request.old_size,
        consistency_proof=request.proof,
    ).SerializeToString()


def read_request(message: pb.CosignCheckpointRequest) -> CosignRequest:
    """Return a request within its limits. Raises WireError naming the field."""
    _require(len(message.log_key) == KEY_BYTES, "log_key", f"must be {KEY_BYTES} bytes")
    _require(0 < len(message.checkpoint) <= MAX_NOTE_BYTES, "checkpoint", f"must be 1 to {MAX_NOTE_BYTES} bytes")
    _require(message.old_size <= MAX_SIZE, "old_size", f"must be at most {MAX_SIZE}")
    proof = tuple(message.consistency_proof)
    fits = len(proof) <= MAX_PROOF_HASHES and all(len(each) == HASH_BYTES for each in proof)
    _require(fits, "consistency_proof", f"must be at most {MAX_PROOF_HASHES} hashes of {HASH_BYTES} bytes")
    return CosignRequest(message.log_key, message.checkpoint, message.old_size, proof)


def parse_request(data: bytes) -> CosignRequest:
    """Read a request from its bytes. Raises WireError."""
    return read_request(parse(pb.CosignCheckpointRequest, data))


def write_reply(reply: CosignReply) -> pb.CosignCheckpointResponse:
    """Return the message of a reply."""
    match reply:
        case Cosigned(line, witness_key):
            return pb.CosignCheckpointResponse(cosigned=pb.Cosigned(line=line.encode(), witness_key=witness_key))
        case OtherSize(witnessed_size):
            return pb.CosignCheckpointResponse(other_size=pb.OtherSize(witnessed_size=witnessed_size))
        case NotCosigned(reason):
            return pb.CosignCheckpointResponse(not_cosigned=pb.NotCosigned(reason=REASONS[reason]))


def read_reply(data: bytes) -> CosignReply:
    """Return a witness's reply. Raises WireError naming the field."""
    message = parse(pb.CosignCheckpointResponse, data)
    match message.WhichOneof("outcome"):
        case "cosigned":
            _require(len(message.cosigned.witness_key) == KEY_BYTES, "witness_key", f"must be {KEY_BYTES} bytes")
            line = message.cosigned.line
            _require(0 < len(line) <= MAX_LINE_BYTES, "line", f"must be 1 to {MAX_LINE_BYTES} bytes")
            try:
                return Cosigned(line.decode("utf-8"), message.cosigned.witness_key)
            except UnicodeDecodeError:
                raise WireError("line", "must be UTF-8") from None
        case "other_size":
            size = message.other_size.witnessed_size
            _require(size <= MAX_SIZE, "witnessed_size", f"must be at most {MAX_SIZE}")
            return OtherSize(size)
        case "not_cosigned":
            wanted = message.not_cosigned.reason
            reason = next((ours for ours, theirs in REASONS.items() if theirs == wanted), None)
            if reason is None:
                raise WireError("not_cosigned.reason", "not one of the contract's")
            return NotCosigned(reason)
        case _:
            raise WireError("outcome", "is missing")


def _require(condition: object, field: str, limit: str) -> None:
    if not condition:
        raise WireError(field, limit)
