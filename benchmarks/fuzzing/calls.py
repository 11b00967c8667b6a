"""Messages of a peer, as they come in: requests to this node, and replies to what it asked."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING

from benchmarks.fuzzing.files import small_index
from benchmarks.fuzzing.mutate import behind, wire_message
from benchmarks.fuzzing.target import EPOCH, NOW, PROVINCE, Target, clients, keys
from matching.encoding import encode_client
from matching.question import HANDLE_BYTES
from matching.schema import PERSON_SCHEMA
from matching.search import search
from matching.weights import load_model
from node.merkle import HASH_BYTES
from node.messages import (
    NONCE_BYTES,
    PSEUDONYM_BYTES,
    Answer,
    Answered,
    Busy,
    Handle,
    NeedMore,
    Purpose,
    QuestionHeader,
    RefusalReason,
    Refused,
    Unavailable,
)
from node.pki.repository import Versions
from node.rpc.audit import parse_request, read_reply, write_reply, write_request
from node.rpc.wire import (
    WireError,
    parse_part_request,
    parse_question,
    read_answer,
    read_part,
    read_registry,
    read_standing,
    read_versions,
    write_answer,
    write_part_request,
    write_question,
    write_registry,
    write_standing,
    write_versions,
)
from node.standing import Standing
from node.witness import Cosigned, CosignRequest, NotCosigned, NotCosignedReason, OtherSize

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matching.question import Client


def question(folder: Path) -> Target:  # noqa: ARG001 - every target is made the same way
    """Read a question's bytes, as a peer sends them."""

    def feed(data: bytes) -> object:
        return parse_question(data, PERSON_SCHEMA, (EPOCH,))

    return Target(feed, (WireError,), [_question(client) for client in clients()], wire_message)


def answer(folder: Path) -> Target:
    """Read an answer's bytes, as a peer that was asked sends them."""
    sent = hashlib.sha256(b"a question").digest()

    def feed(data: bytes) -> object:
        return read_answer(data, schema=PERSON_SCHEMA, epoch=EPOCH, province=PROVINCE, request_sha256=sent)

    index, model = small_index(folder / "index"), load_model()
    answers: list[Answer] = [
        NeedMore(("birth_date", "mother_name")),
        Busy(1.5),
        Refused(RefusalReason.BUDGET, "the budget of questions is used up"),
        Unavailable("no registry imported yet"),
    ]
    for client in clients():
        found = search(index, encode_client(client, keys(), NOW.date()), model)
        handles = tuple(Handle(bytes(HANDLE_BYTES), number) for number, _ in found.candidates)
        answers.append(Answered(found.evidence, handles, 7))
    seeds = [
        write_answer(
            each, schema=PERSON_SCHEMA, epoch=EPOCH, province=PROVINCE, request_sha256=sent, now=NOW
        ).SerializeToString()
        for each in answers
    ]
    return Target(feed, (WireError,), seeds, wire_message)


def requests(folder: Path) -> Target:  # noqa: ARG001
    """Read the other requests a member may send. The first byte says which."""
    readers: tuple[Callable[[bytes], object], ...] = (parse_part_request, parse_request)
    proof = tuple(bytes([number]) * HASH_BYTES for number in range(3))
    seeds = [
        b"\0" + write_part_request("timestamp.json", 0),
        b"\0" + write_part_request("targets/epoch-2/" + "0" * 64 + ".35.sealed", 32768),
        b"\1" + write_request(CosignRequest(bytes(32), b"origin\n7\nAAAA\n", 5, proof)),
    ]
    return Target(_by_first_byte(readers), (WireError,), seeds, behind(1, wire_message))


def replies(folder: Path) -> Target:  # noqa: ARG001
    """Read the other replies a member may give. The first byte says which."""
    readers: tuple[Callable[[bytes], object], ...] = (
        lambda data: read_registry(data, PROVINCE),
        lambda data: read_versions(data, NOW, NOW + timedelta(milliseconds=30)),
        read_part,
        read_standing,
        read_reply,
    )
    standing = Standing(
        serial="01ab",
        ends_at=NOW,
        list_version=3,
        list_ends_at=NOW,
        schema_fingerprint=PERSON_SCHEMA.fingerprint,
        key_epochs=frozenset({1, 2}),
        is_ready=True,
    )
    part = b"\x08\x01\x12\x05hello\x18\x01"  # found, content, last
    seeds = [
        b"\0" + write_registry(PROVINCE, 7).SerializeToString(),
        b"\1" + write_versions(Versions(1, 2, 3), NOW).SerializeToString(),
        b"\2" + part,
        b"\3" + write_standing(standing).SerializeToString(),
        b"\4" + write_reply(Cosigned("\u2014 x AAAA", bytes(32))).SerializeToString(),
        b"\4" + write_reply(OtherSize(9)).SerializeToString(),
        b"\4" + write_reply(NotCosigned(NotCosignedReason.FORK)).SerializeToString(),
    ]
    return Target(_by_first_byte(readers), (WireError,), seeds, behind(1, wire_message))


def _by_first_byte(readers: tuple[Callable[[bytes], object], ...]) -> Callable[[bytes], object]:
    return lambda data: readers[data[0] % len(readers)](data[1:]) if data else None


def _question(client: Client) -> bytes:
    header = QuestionHeader(
        nonce=bytes(NONCE_BYTES),
        case_reference="K-1",
        purpose=Purpose.SELF_TEST,
        operator_pseudonym=bytes(PSEUDONYM_BYTES),
        issued_at=NOW,
        deadline=NOW + timedelta(seconds=20),
    )
    return write_question(header, encode_client(client, keys(), NOW.date()))
