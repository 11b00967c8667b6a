"""The asking side of a running node: its own registry, its peers and its store, as the ports of a `Desk`."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from matching.encoding import QueryEncoder
from matching.places import province_name
from node.errors import NotAMemberError
from node.followup import POLL_DEADLINE_S, FollowUp
from node.messages import ReceivedQuestion
from node.query import Desk
from node.rpc.wire import write_question

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from node.findings import Concluded
    from node.messages import Answer, Answered
    from node.pki.membership import Member
    from node.query import Question
    from node.runtime import NodeRuntime


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
        ask_again_for=runtime.cases.ask_again_for,
    )


def make_followup(runtime: NodeRuntime, desk: Desk) -> FollowUp:
    """Return the queue that asks again; `run` it while the node serves."""
    own = {runtime.config.province}  # is asked without a connection
    return FollowUp(
        desk,
        runtime.cases,
        resting=lambda: runtime.peers.resting() - own,
        generation=_Asking(runtime).generation,
    )


class _Asking:
    """Puts one question to one province, and has written down what was asked and heard."""

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
        peers = self._runtime.peers
        return await peers.ask(self._member(code), question.query, question.header, deadline_s=time_left_s)

    async def opened(self, question: Question, provinces: Collection[str]) -> None:
        """Commit that the question is about to go to these provinces."""
        await asyncio.to_thread(self._runtime.cases.open, question, provinces)

    async def again(self, question: Question, other: Question, code: str) -> None:
        """Commit that a province has refused the question's epoch, and is about to be asked in the other one."""
        await asyncio.to_thread(self._runtime.cases.again, question, other, code)

    async def closed(self, question: Question, concluded: Concluded, answers: Mapping[str, Answered]) -> None:
        """Commit what every province said, and what it came to."""
        await asyncio.to_thread(self._runtime.cases.conclude, question, concluded, answers)

    async def generation(self, code: str) -> int | None:
        """Return which generation of its registry a province would answer from now, None for none."""
        if code == self._runtime.config.province:
            current = self._runtime.generations.current
            return current.number if current else None
        return await self._runtime.peers.registry_generation(self._member(code), deadline_s=POLL_DEADLINE_S)

    def _member(self, code: str) -> Member:
        member = self._runtime.membership.by_code(code)
        if member is None:  # it left between two lines of ours, or since the question was first asked
            raise NotAMemberError(f"{province_name(code)} is not a member any more")
        return member


def _digest(question: Question) -> bytes:
    """Return the hash of the very bytes the peers receive: both sides' audits name a question alike."""
    return hashlib.sha256(write_question(question.header, question.query)).digest()
