"""How newer membership metadata spreads: every node looks at all others every few seconds, and takes what is newer."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

import structlog

from node.errors import NodeError, PeerError, PeerTimeoutError
from node.log import log_bug
from node.pki.repository import TIMESTAMP, TIMESTAMP_LIFE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from node.pki.membership import Member
    from node.pki.repository import Versions
    from node.rpc.client import Peers
    from node.runtime import NodeRuntime

JITTER: Final = (0.7, 1.2)  # of the time between two rounds: nodes started together do not stay in step
CLOSED_POLL_S: Final = 2.0
VERSIONS_DEADLINE_S: Final = 3.0
UPDATE_DEADLINE_S: Final = 10.0  # for a whole update from one peer
LISTENING_S: Final = 15.0  # a round begins no update after that: several in league who never deliver must not hide news
MAX_SKIPPED_ROUNDS: Final = 32  # a peer whose metadata were refused is asked again ever more rarely

_log = structlog.get_logger(__name__)


class Gossip:
    """Keeps a node's copy of the membership's metadata as new as the newest any peer has."""

    def __init__(self, runtime: NodeRuntime) -> None:
        self._runtime = runtime
        self._refusals: dict[str, int] = {}
        self._lost: dict[str, int] = {}
        self._has_heard = False
        self._skipped: dict[str, int] = {}
        self._is_warned = False

    async def run(self) -> None:
        """Look round again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._pause_s() * random.uniform(*JITTER))  # noqa: S311 - spreads load
            await self.look_round()

    def _pause_s(self) -> float:
        """Return the time until the next round: a node that is closed for want of a timestamp looks more often."""
        poll_s = self._runtime.config.membership_poll_s
        try:
            self._runtime.membership.check_validity(self._runtime.now())
        except NodeError:
            return min(poll_s, CLOSED_POLL_S)
        return poll_s

    async def look_round(self) -> None:
        """Look at every peer once; take the newest that can be verified. Nothing that goes wrong stops the node."""
        try:
            await self._round()
        except NodeError as error:
            _log.warning("membership_refresh_failed", reason=str(error))
        except Exception as error:  # noqa: BLE001 - a loop that ended here would leave the node on old trust
            log_bug(error)

    async def _round(self) -> None:
        runtime = self._runtime
        mirror = runtime.mirror
        others = [each for each in runtime.membership.members if each.code != runtime.config.province]
        told = dict(zip(others, await asyncio.gather(*map(self._versions, others)), strict=True))
        mine = await asyncio.to_thread(mirror.versions)
        newer = [each for each, theirs in told.items() if theirs is not None and theirs[:2] > mine[:2]]
        random.shuffle(newer)  # who claims the most is not asked first: it may be lying
        newer.sort(key=lambda each: self._lost.get(each.code, 0))  # who did not deliver the last time is asked last
        ends_at = time.monotonic() + LISTENING_S
        for member in newer:
            if time.monotonic() >= ends_at or (not self._is_skipped(member) and await self._take(member)):
                break
        if mirror.key.exists():
            self._has_heard = self._has_heard or not others or any(told.values())
            await self._sign(told)
        await asyncio.to_thread(self._warn)

    async def _sign(self, told: Mapping[Member, Versions | None]) -> None:
        """Sign what this node has as the newest, if it is time; not before others were heard, or by a wrong clock.

        A copy put back from a backup would else be signed as the newest, and no list could follow it any more.
        """
        runtime = self._runtime
        if not self._has_heard or runtime.clocks.problem() is not None:
            return
        if await asyncio.to_thread(runtime.mirror.resign, runtime.now()):
            _log.info("timestamp_signed")
        mine = await asyncio.to_thread(runtime.mirror.versions)
        for member, theirs in told.items():
            is_astray = theirs and theirs.timestamp >= mine.timestamp and theirs.snapshot < mine.snapshot
            if is_astray and await self._outrun(member):
                break

    async def _versions(self, member: Member) -> Versions | None:
        try:
            told = await self._runtime.peers.metadata_versions(member, deadline_s=VERSIONS_DEADLINE_S)
        except NodeError:
            return None  # down, or it does not know us: others are asked as well
        if told.offset is not None:
            self._runtime.clocks.note(member.code, told.offset)
        return told.versions

    async def _take(self, member: Member) -> bool:
        runtime, read = self._runtime, Reader(self._runtime.peers, member)
        try:
            copy = await asyncio.to_thread(runtime.mirror.take, read, runtime.now())
        except PeerError as error:  # a bad line is no bad faith: what it has may be the news that somebody is out
            self._lost[member.code] = self._lost.get(member.code, 0) + 1
            _log.warning("membership_not_fetched", province=member.code, reason=str(error))
            return False
        except NodeError as error:
            times = self._refusals[member.code] = self._refusals.get(member.code, 0) + 1
            self._skipped[member.code] = min(2**times, MAX_SKIPPED_ROUNDS)
            _log.warning("membership_refused", province=member.code, reason=str(error))
            return False
        self._refusals.pop(member.code, None)
        self._lost.pop(member.code, None)
        if copy is None:
            return False
        membership = await asyncio.to_thread(runtime.memberships.get)
        _log.info("membership_updated", province=member.code, version=membership.version)
        return True

    async def _outrun(self, member: Member) -> bool:
        """Pass another holder's timestamp that points at an older snapshot than ours."""
        runtime = self._runtime
        try:
            part = await runtime.peers.metadata_part(member, TIMESTAMP, 0, deadline_s=VERSIONS_DEADLINE_S)
            if part is None:
                return False
            return await asyncio.to_thread(runtime.mirror.outrun, part[0], runtime.now()) is not None
        except NodeError as error:
            _log.warning("membership_refused", province=member.code, reason=str(error))
            return False

    def _is_skipped(self, member: Member) -> bool:
        left = self._skipped.get(member.code, 0)
        self._skipped[member.code] = max(0, left - 1)
        return left > 0

    def _warn(self) -> None:
        """Say once, long before the end, that no new timestamp comes."""
        left = self._runtime.membership.expires_at - self._runtime.now()
        is_late = left < TIMESTAMP_LIFE / 2
        if is_late and not self._is_warned:
            _log.warning("membership_ends_soon", hours_left=round(left.total_seconds() / 3600, 1))
        self._is_warned = is_late


class Reader:
    """Reads a peer's files from the thread in which ngclient works; the calls run in the node's own loop.

    deadline_s: for everything that is read by it together. calls: how many there were.
    """

    def __init__(self, peers: Peers, member: Member, *, deadline_s: float = UPDATE_DEADLINE_S) -> None:
        self._peers, self._member, self._deadline_s = peers, member, deadline_s
        self._loop = asyncio.get_running_loop()
        self._ends_at = time.monotonic() + deadline_s
        self.calls = 0

    def __call__(self, file: str, offset: int) -> tuple[bytes, bool] | None:
        """Return a part of a file, as `Peers.metadata_part` does. Raises a kind of PeerError."""
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            raise PeerTimeoutError(f"{self._member.name}: its metadata did not come within {self._deadline_s:.0f} s")
        self.calls += 1
        part = self._peers.metadata_part(self._member, file, offset, deadline_s=left_s)
        return asyncio.run_coroutine_threadsafe(part, self._loop).result()
