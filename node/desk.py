"""The asking side of a running node: its own registry, its peers and its store, as the ports of a `Desk`."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final

from matching.encoding import QueryEncoder
from matching.places import province_name
from node.errors import NotAMemberError
from node.findings import ProvinceState
from node.messages import ReceivedQuestion
from node.policy import Method
from node.query import Desk
from node.rpc.wire import write_question
from node.store import AuditEntry, Direction, ProvinceShare, QuestionOutcome, QuestionRecord

if TYPE_CHECKING:
    from collections.abc import Collection

    from node.findings import Concluded
    from node.messages import Answer
    from node.query import Question
    from node.runtime import NodeRuntime

OTHER_EPOCH: Final = "it has no index in this key epoch: asked again in the other valid one"
SENT: Final = "sent"  # the audit's outcome of a question until its province has been heard
MAX_REASON_CHARS: Final = 200  # as the store keeps it


def make_desk(runtime: NodeRuntime) -> Desk:
    """Return the desk of a running node."""
    asking = _Asking(runtime)
    return Desk(
        province=runtime.config.province,
        members=lambda: {member.code: member.name for member in runtime.membership.members},
        encoders=asking.encoders,
        model=runtime.model,
        ask=asking.ask,
        opened=asking.opened,
        again=asking.again,
        closed=asking.closed,
        now=runtime.now,
    )


class _Asking:
    """Puts one question to one province, and writes down what was asked and heard."""

    def __init__(self, runtime: NodeRuntime) -> None:
        self._runtime = runtime
        self._encoders: dict[str, QueryEncoder] = {}

    def encoders(self) -> tuple[QueryEncoder, ...]:
        """Return an encoder per epoch that may be asked in. Raises ConfigError or TrustError when there is none."""
        keyring = self._runtime.keyring
        asked_first = keyring.active
        keys = [asked_first, *(each for each in keyring.keys.values() if each.epoch != asked_first.epoch)]
        # They keep what they have learnt about names from one question to the next, and go with their epoch.
        self._encoders = {each.check: self._encoders.get(each.check) or QueryEncoder(each) for each in keys}
        return tuple(self._encoders.values())

    async def ask(self, code: str, question: Question, time_left_s: float) -> Answer:
        """Ask the own registry through the answering service, and anyone else over the federation port."""
        if code == self._runtime.config.province:
            received = ReceivedQuestion(
                request_sha256=_digest(question),
                header=question.header,
                identity=(question.query.fingerprint, question.query.epoch),
                content=question.query,
            )
            return await self._runtime.service.answer(code, received, time_left_s=time_left_s)
        member = self._runtime.membership.by_code(code)
        if member is None:  # it left between two lines of ours
            raise NotAMemberError(f"{province_name(code)} is not a member any more")
        return await self._runtime.peers.ask(member, question.query, question.header, deadline_s=time_left_s)

    async def opened(self, question: Question, provinces: Collection[str]) -> None:
        """Commit that the question is about to go to these provinces."""
        header = question.header
        record = QuestionRecord(header.nonce, header.case_reference, header.issued_at)
        digest = _digest(question)
        entries = [self._entry(question, digest, code, outcome=SENT) for code in provinces]
        await asyncio.to_thread(self._runtime.store.record_question, record, entries)

    async def again(self, question: Question, other: Question, code: str) -> None:
        """Commit that a province has refused the question's epoch, and is about to be asked in the other one."""
        entries = [
            self._entry(question, _digest(question), code, outcome=ProvinceState.REFUSED, reason=OTHER_EPOCH),
            self._entry(other, _digest(other), code, outcome=SENT),
        ]
        await asyncio.to_thread(self._runtime.store.record_events, entries)

    async def closed(self, question: Question, concluded: Concluded) -> None:
        """Commit what every province said, and what it came to."""
        asked = {each.code: question.asked_in(each.epoch) for each in concluded.heard}
        digests = {each.query.epoch: _digest(each) for each in asked.values()}
        entries = [
            self._entry(
                asked[each.code],
                digests[asked[each.code].query.epoch],
                each.code,
                outcome=each.state,
                reason=each.detail,
                duration_ms=each.ms,
            )
            for each in concluded.heard
        ]
        shares = {**concluded.unanswered, **concluded.provinces}
        outcome = QuestionOutcome(
            question_id=question.header.nonce,
            at=self._runtime.now(),
            outcome=concluded.outcome,
            province=concluded.province,
            none_probability=concluded.none,
            provinces=tuple(ProvinceShare(each.code, each.state, shares[each.code]) for each in concluded.heard),
        )
        await asyncio.to_thread(self._runtime.store.record_outcome, outcome, entries)

    def _entry(
        self,
        question: Question,
        digest: bytes,
        code: str,
        *,
        outcome: str,
        reason: str | None = None,
        duration_ms: int | None = None,
    ) -> AuditEntry:
        return AuditEntry(
            at=self._runtime.now(),
            direction=Direction.ASKED,
            peer=code,
            method=Method.ASK,
            outcome=outcome,
            request_sha256=digest,
            purpose=question.header.purpose,
            reason=reason[:MAX_REASON_CHARS] if reason else None,
            case_reference=question.header.case_reference,
            operator_pseudonym=question.header.operator_pseudonym,
            nonce=question.header.nonce,
            schema_fingerprint=question.query.fingerprint,
            key_epoch=question.query.epoch,
            duration_ms=duration_ms,
        )


def _digest(question: Question) -> bytes:
    """Return the hash of the very bytes the peers receive: both sides' audits name a question alike."""
    return hashlib.sha256(write_question(question.header, question.query)).digest()
