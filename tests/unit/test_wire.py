"""Protobuf and plain values say the same; what breaks a limit of the contract is refused with the field's name."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from matching.question import DateQuery, EncodedQuery, NameQuery, PlaceQuery
from matching.schema import PERSON_SCHEMA
from node.errors import PeerContractError, PeerRefusedError, PeerTimeoutError, PeerUnreachableError
from node.messages import Answer, Busy, NeedMore, Purpose, ReceivedQuestion, RefusalReason, Refused, Unavailable
from node.rpc.wire import WireError, parse, peer_error, read_answer, read_question, write_answer, write_question
from proto.pulang.exchange.v1 import exchange_pb2 as pb
from tests.wire_values import EPOCH, NOW, answered, date, header, name, place, query, words

if TYPE_CHECKING:
    from collections.abc import Callable

SHA = hashlib.sha256(b"request").digest()


def same(a: Any, b: Any) -> bool:
    """Compare dataclasses that hold arrays."""
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype and np.array_equal(a, b))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return bool(a == b)


def received(request: pb.AskRequest) -> ReceivedQuestion:
    return read_question(request, SHA, PERSON_SCHEMA, {EPOCH})


def request(asked: EncodedQuery | None = None, **header_changes: Any) -> pb.AskRequest:
    return pb.AskRequest.FromString(write_question(header(**header_changes), asked or query()))


def sent(answer: Answer, province: str = "33") -> bytes:
    response = write_answer(answer, schema=PERSON_SCHEMA, epoch=EPOCH, province=province, request_sha256=SHA, now=NOW)
    return response.SerializeToString()


def heard(data: bytes, *, province: str = "33", sha: bytes = SHA, epoch: int = EPOCH) -> Answer:
    return read_answer(data, schema=PERSON_SCHEMA, epoch=epoch, province=province, request_sha256=sha)


# --- questions ---


@pytest.mark.parametrize(
    "asked",
    [
        query(),
        query(name=name(6, 4, 17), mother_name=None, birthplace=None, birth_date=None, sex=None, title=None),
        query(birthplace=place(32), birth_date=date(256)),
        query(birthplace=place(0), birth_date=date(0)),
    ],
)
def test_question_arrives_as_it_was_sent(asked: EncodedQuery) -> None:
    got = received(request(asked))
    assert got.header == header()
    assert got.identity == (PERSON_SCHEMA.fingerprint, EPOCH)
    assert got.request_sha256 == SHA
    assert same(got.content, asked)


def test_arrays_of_a_received_question_are_writable() -> None:
    # The compiled kernels are built for writable arrays: a read-only one would be compiled anew, inside a question.
    got = received(request()).content
    assert isinstance(got, EncodedQuery)
    named, born_in, born = (got.fields[field] for field in ("name", "birthplace", "birth_date"))
    assert isinstance(named, NameQuery)
    assert isinstance(born_in, PlaceQuery)
    assert isinstance(born, DateQuery)
    for array in (named.tokens[0].variants, named.tokens[0].near, born_in.text, born.years, born.year_classes):
        assert array.flags.writeable
        assert array.flags.c_contiguous


def test_one_question_has_one_byte_form() -> None:
    assert write_question(header(), query()) == write_question(header(), query())


def test_a_question_is_as_long_whatever_kind_of_place_was_named() -> None:
    """Who sees sizes alone must not learn it: "no" is written out like "yes"."""
    asked = [query(birthplace=replace(place(), district=district)) for district in (False, True)]
    assert len({len(write_question(header(), each)) for each in asked}) == 1


def test_filters_travel_as_little_endian_words() -> None:
    asked = name(1, 1)
    variant = request(query(name=asked)).match.name.tokens[0].variants[0]
    assert variant[:8] == int(asked.tokens[0].variants[0, 0]).to_bytes(8, "little")


def _clear(field: str) -> Callable[[pb.AskRequest], None]:
    return lambda message: message.header.ClearField(field)


def _with(path: str, value: Any) -> Callable[[pb.AskRequest], None]:
    def change(message: pb.AskRequest) -> None:
        *parents, last = path.split(".")
        target: Any = message
        for parent in parents:
            target = target[int(parent)] if parent.isdigit() else getattr(target, parent)
        if isinstance(value, list):
            del getattr(target, last)[:]
            getattr(target, last).extend(value)
        else:
            setattr(target, last, value)

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_clear("schema_fingerprint"), "header.schema_fingerprint"),
        (_with("header.schema_fingerprint", b"x" * 33), "header.schema_fingerprint"),
        (_clear("key_epoch"), "header.key_epoch"),
        (_with("header.key_epoch", 2**31), "header.key_epoch"),
        (_with("header.nonce", b"n" * 15), "nonce"),
        (_with("header.case_reference", ""), "case_reference"),
        (_with("header.case_reference", "x" * 65), "case_reference"),
        (_with("header.case_reference", "Siti Aminah"), "case_reference"),
        (_with("header.case_reference", "K-1\n"), "case_reference"),
        (_clear("purpose"), "purpose"),
        (_with("header.purpose", 99), "purpose"),
        (_with("header.operator_pseudonym", b""), "operator_pseudonym"),
        (_clear("issued_at"), "issued_at"),
        (_with("header.issued_at.seconds", 2**62), "issued_at"),
        (_clear("deadline"), "deadline"),
        (_with("header.deadline.seconds", int(NOW.timestamp()) - 1), "deadline"),
        (_with("header.deadline.seconds", int(NOW.timestamp()) + 62), "deadline"),
        (lambda message: message.ClearField("match"), "stage"),
        (lambda message: message.match.ClearField("name"), "name"),
        (_with("match.name.tokens", []), "name.tokens"),
        (
            _with("match.name.tokens", [*request(query(name=name(6))).match.name.tokens, pb.EncodedToken()]),
            "name.tokens",
        ),
        (_with("match.mother_name.tokens.0.variants", []), "mother_name.variants"),
        (_with("match.name.tokens.0.variants", [bytes(64)] * 5), "name.variants"),
        (_with("match.name.tokens.0.variants", [bytes(63)]), "name.filter"),
        (_with("match.name.tokens.0.variants", [bytes(64)]), "name.filter"),
        (_with("match.name.tokens.0.variants", [b"\xff" * 64]), "name.filter"),
        (_with("match.name.tokens.0.variants", [b"\x0f" * 32 + bytes(32)]), "name.filter"),
        (_with("match.name.tokens.0.variants", [bytes(32) + b"\x0f" * 32]), "name.filter"),
        (_with("match.name.tokens.1.variants", [bytes(64)]), "name.filter"),
        (_with("match.name.tokens.1.variants", [b"\x0f" + bytes(63)]), "name.filter"),
        (_with("match.name.tokens.1.variants", [b"\x01" + bytes(62) + b"\x01"]), "name.filter"),
        (_with("match.name.tokens.1.variants", [b"\x01" + bytes(63)] * 2), "name.filter"),
        (_with("match.name.tokens.0.weight", 0), "name.weight"),
        (_with("match.name.tokens.0.weight", 256), "name.weight"),
        (_with("match.name.tokens.0.near", list(range(1, 19))), "name.near"),
        (_with("match.name.tokens.0.near", [1, 0]), "name.near"),
        (_with("match.name.tokens.1.near", [1]), "name.near"),
        (_with("match.name.tokens.1.call", 1), "name.near"),
        (_with("match.birthplace.text", bytes(65)), "birthplace.filter"),
        (_with("match.birthplace.regencies", list(range(1, 34))), "birthplace.regencies"),
        (_with("match.birthplace.related", [1, 0]), "birthplace.related"),
        (_with("match.birthplace.provinces", list(range(1, 34))), "birthplace.provinces"),
        (_with("match.birth_date.years", list(range(1, 258))), "birth_date.years"),
        (_with("match.birth_date.year_classes", bytes(10)), "birth_date.year_classes"),
        (_with("match.birth_date.year_classes", bytes([7] * 11)), "birth_date.year_classes"),
    ],
)
def test_question_over_a_limit_is_refused_and_the_field_named(
    change: Callable[[pb.AskRequest], None], field: str
) -> None:
    message = request()
    change(message)
    refused = received(message).content
    assert isinstance(refused, Refused)
    assert refused.reason is RefusalReason.MALFORMED
    assert refused.detail.split(":")[0] == field


def test_refusal_of_a_case_reference_does_not_repeat_it() -> None:
    message = request()
    message.header.case_reference = "Siti Aminah"
    refused = received(message)
    assert "Siti" not in repr(refused)
    assert refused.header is None


def test_question_of_another_epoch_is_refused_and_both_are_named_before_it_is_read() -> None:
    message = request(query(epoch=2))
    message.match.name.tokens[0].weight = 0  # would be MALFORMED, were it looked at
    refused = received(message).content
    assert isinstance(refused, Refused)
    assert refused.reason is RefusalReason.SCHEMA_MISMATCH
    ours = PERSON_SCHEMA.fingerprint.hex()[:16]
    assert refused.detail == f"we encode by schema {ours} epoch 1, the question by schema {ours} epoch 2"


def test_question_of_another_schema_is_refused_and_both_are_named() -> None:
    refused = received(request(query(fingerprint=bytes(32)))).content
    assert isinstance(refused, Refused)
    assert refused.reason is RefusalReason.SCHEMA_MISMATCH
    assert PERSON_SCHEMA.fingerprint.hex()[:16] in refused.detail
    assert "0" * 16 in refused.detail


# --- answers ---


@pytest.mark.parametrize(
    "answer",
    [
        answered(),
        answered(classes=0, handles=0, size=0),
        answered(size=2**27),
        answered(classes=16, handles=5),
        NeedMore(("birth_date", "mother_name")),
        Busy(1.5),
        Refused(RefusalReason.CLOCK, "issued_at is too far off"),
        Unavailable("no registry imported yet"),
    ],
)
def test_answer_arrives_as_it_was_sent(answer: Answer) -> None:
    assert same(heard(sent(answer)), answer)


def test_answered_has_one_size_whatever_was_found() -> None:
    found = {
        len(sent(answered(classes, handles, size)))
        for classes, handles, size in [(0, 0, 0), (1, 1, 1), (16, 5, 50_000), (3, 0, 6), (16, 1, 4_000_000)]
    }
    assert len(found) == 1
    assert found.pop() < 2048


def test_unused_handles_cannot_be_told_from_used_ones_by_their_bytes() -> None:
    first, second = (pb.AskResponse.FromString(sent(answered(0, 0))).answered.handles for _ in range(2))
    padding = {each.handle for each in (*first, *second)}
    assert len(padding) == 10
    assert all(len(handle) == 16 for handle in padding)


def test_answer_to_another_question_is_refused() -> None:
    with pytest.raises(WireError, match="request_sha256: not the question that was asked"):
        heard(sent(answered()), sha=bytes(32))


def test_answer_in_another_provinces_name_is_refused() -> None:
    with pytest.raises(WireError, match="province: not the province that was asked"):
        heard(sent(answered(), province="36"), province="33")


@pytest.mark.parametrize("answer", [answered(), NeedMore(("sex",))])
def test_answer_under_another_epoch_is_refused_and_both_are_named(answer: Answer) -> None:
    with pytest.raises(WireError, match=r"epoch 1, ours is schema [0-9a-f]{16} epoch 2"):
        heard(sent(answer), epoch=2)


def test_refusal_under_another_epoch_is_still_heard() -> None:
    refused = Refused(RefusalReason.SCHEMA_MISMATCH, "we encode by a, the question by b")
    assert heard(sent(refused), epoch=2) == refused


def _answer_with(change: Callable[[pb.AskResponse], object], answer: Answer | None = None) -> bytes:
    message = pb.AskResponse.FromString(sent(answer or answered()))
    change(message)
    return message.SerializeToString()


def _level(message: pb.AskResponse) -> None:
    message.answered.classes[0].levels = bytes([PERSON_SCHEMA.levels[0], 0, 0, 0, 0, 0])


def _gap(message: pb.AskResponse) -> None:
    message.answered.classes[0].count = 0


def _class_index(message: pb.AskResponse) -> None:
    message.answered.handles[0].class_index = 2


def _poisoned(message: pb.AskResponse) -> None:
    """Say of one level that it is crowded: to an asker who pools it, everybody's agreement there would say nothing."""
    message.answered.histograms[0].counts[-1] = 2**32 - 1


def _twice(message: pb.AskResponse) -> None:
    message.answered.classes[1].levels = message.answered.classes[0].levels


def _detail(text: str) -> Callable[[pb.AskResponse], None]:
    def change(message: pb.AskResponse) -> None:
        message.unavailable.detail = text

    return change


def _retry(message: pb.AskResponse) -> None:
    message.busy.retry_after.seconds = 2**40


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"\xff", "message"),
        (_answer_with(lambda m: m.ClearField("outcome")), "outcome"),
        (_answer_with(lambda m: m.header.ClearField("schema_fingerprint")), "header.schema_fingerprint"),
        (_answer_with(lambda m: setattr(m.answered, "registry_size", 2**63)), "registry_size"),
        (_answer_with(lambda m: m.answered.histograms.pop()), "histograms"),
        (_answer_with(lambda m: m.answered.histograms[0].counts.append(1)), "histograms"),
        (_answer_with(lambda m: m.answered.classes.pop()), "classes"),
        (_answer_with(_gap), "classes"),
        (_answer_with(_level), "classes.levels"),
        (_answer_with(lambda m: setattr(m.answered.classes[0], "levels", bytes(5))), "classes.levels"),
        (_answer_with(lambda m: setattr(m.answered, "registry_size", 2**27 + 1)), "registry_size"),
        (_answer_with(lambda m: setattr(m.answered, "registry_size", 0)), "histograms"),
        (_answer_with(lambda m: setattr(m.answered, "registry_size", 1)), "histograms"),
        (_answer_with(_poisoned), "histograms"),
        (_answer_with(_twice), "classes.levels"),
        (_answer_with(lambda m: setattr(m.answered.classes[1], "count", 5)), "classes.count"),
        (_answer_with(lambda m: m.answered.handles.add()), "handles"),
        (_answer_with(lambda m: setattr(m.answered.handles[0], "handle", bytes(15))), "handles.handle"),
        (_answer_with(_class_index), "handles.class_index"),
        (_answer_with(_detail("x" * 201)), "detail"),
        (_answer_with(_detail("\x1b[2J")), "detail"),
        (_answer_with(_retry), "busy.retry_after"),
        (_answer_with(lambda m: setattr(m.refused, "reason", 0)), "refused.reason"),
        (_answer_with(lambda m: m.need_more.SetInParent()), "need_more.attributes"),
        (_answer_with(lambda m: m.need_more.attributes.append("shoe_size")), "need_more.attributes"),
    ],
)
def test_answer_over_a_limit_is_refused_and_the_field_named(data: bytes, field: str) -> None:
    with pytest.raises(WireError) as caught:
        heard(data)
    assert str(caught.value).split(":")[0] == field


# --- both ---


def test_malformed_bytes_are_refused_with_a_fixed_text() -> None:
    with pytest.raises(WireError, match=r"^message: not a message of the contract$"):
        parse(pb.AskRequest, b"\x0a\xff\xff")


def test_600_groups_deep_is_refused() -> None:
    with pytest.raises(WireError, match="not a message of the contract"):
        parse(pb.AskRequest, b"\xa3\x06" * 600 + b"\xa4\x06" * 600)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, PeerUnreachableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, PeerTimeoutError),
        (grpc.StatusCode.PERMISSION_DENIED, PeerRefusedError),
        (grpc.StatusCode.UNAUTHENTICATED, PeerRefusedError),
        (grpc.StatusCode.FAILED_PRECONDITION, PeerRefusedError),
        (grpc.StatusCode.DATA_LOSS, PeerContractError),
    ],
)
def test_status_becomes_the_decision_it_leaves_the_asker(status: grpc.StatusCode, kind: type[Exception]) -> None:
    error = peer_error(status, None, "33", "Jawa Tengah")
    assert type(error) is kind
    assert str(error).startswith("Jawa Tengah: ")


def test_peers_own_words_are_passed_on_unless_they_could_harm_a_terminal() -> None:
    told = peer_error(grpc.StatusCode.INTERNAL, "request 5f1c", "51", "Bali")
    assert str(told) == "Bali: it failed inside, and knows this failure as: request 5f1c"
    assert "\x1b" not in str(peer_error(grpc.StatusCode.INTERNAL, "\x1b[2J", "51", "Bali"))
    assert len(str(peer_error(grpc.StatusCode.INTERNAL, "x" * 10_000, "51", "Bali"))) < 200


def test_every_purpose_has_its_number_on_the_wire() -> None:
    for purpose in Purpose:
        got = received(request(purpose=purpose)).header
        assert got is not None
        assert got.purpose is purpose


def test_deadline_of_60_seconds_is_the_longest() -> None:
    assert received(request(deadline=NOW + timedelta(seconds=60))).header is not None
    assert received(request(deadline=NOW + timedelta(seconds=60.001))).header is None


def test_words_differ_by_seed() -> None:
    # Guards the round trips above: equal encodings everywhere would hide a field taken for another.
    assert not np.array_equal(words(1, 8), words(2, 8))
