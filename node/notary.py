"""Keeps a running node's audit log provable: every minute a signed head, cosigned by the log's two witnesses."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from node.checkpoint import Checkpoint, parse_note, parse_signature
from node.errors import NodeError, PeerContractError, PeerError, StoreError, TrustError
from node.files import PUBLIC, make_private_folder, write_atomic
from node.log import log_bug
from node.pki.logkey import verify_cosignature
from node.store import CheckpointRecord, CosignatureRecord
from node.witness import Cosigned, CosignRequest, NotCosigned, OtherSize, witnesses_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from datetime import datetime

    from node.home import NodeHome
    from node.pki.logkey import LogKey
    from node.store import Store
    from node.witness import CosignReply

CHECKPOINT_EVERY_S: Final = 60.0  # rows of the last minute are the only ones whose loss no signed head would show
COSIGN_DEADLINE_S: Final = 10.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the log is ahead of what is signed. cosigned: rows each witness has signed for."""

    size: int
    signed: int
    signed_at: datetime | None
    cosigned: dict[str, int]


class Notary:
    """Signs heads of this node's log and collects its witnesses' signatures. Never stops or delays an answer."""

    def __init__(
        self,
        *,
        home: NodeHome,
        store: Store,
        key: LogKey,
        province: str,
        members: Callable[[], Collection[str]],
        name_of: Callable[[str], str],
        ask: Callable[[str, CosignRequest, float], Awaitable[CosignReply]],
        before: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        """name_of: the name of a province's log. before: run first in every round (writes counted refusals)."""
        self._home = home
        self._store = store
        self._key = key
        self._province = province
        self._members = members
        self._name_of = name_of
        self._ask = ask
        self._before = before
        self._now = now
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Go to work, now and every minute."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Sign what was written last. The witnesses see it after the next start."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        with suppress(NodeError):  # a database that is gone now is told at the next start
            await asyncio.to_thread(self._before)
            await asyncio.to_thread(self.sign)

    async def round(self) -> None:
        """Write what was counted, sign the head, and let every witness that is behind cosign it."""
        await asyncio.to_thread(self._before)
        checkpoint = await asyncio.to_thread(self.sign)
        if checkpoint is None:
            return
        cosigned = await asyncio.to_thread(self._store.log.cosigned, self._key.public)
        behind = [
            code
            for code in witnesses_of(self._province, self._members())
            if code not in cosigned or cosigned[code].size < checkpoint.size
        ]
        if behind:
            await asyncio.gather(*(self._gather(code, checkpoint, cosigned.get(code)) for code in behind))
            await asyncio.to_thread(self._publish, checkpoint)

    def sign(self) -> CheckpointRecord | None:
        """Sign the present head, unless it is signed; return the newest signed head, None for an empty log."""
        size, root = self._store.log.head()
        newest = self._store.log.newest_checkpoint(self._key.public)
        if size == 0 or (newest is not None and newest.size == size and newest.root == root):
            return newest
        if newest is not None and newest.size >= size:
            _log.error("audit_log_lost_rows", signed=newest.size, rows=size)
            return None
        at = self._now().replace(microsecond=0)
        note = self._key.sign(Checkpoint(self._key.name, size, root, at))
        record = CheckpointRecord(self._key.public, size, root, at, note)
        self._store.log.add_checkpoint(record)
        self._publish(record)
        return record

    def _publish(self, checkpoint: CheckpointRecord) -> None:
        """Write the head beside the database too: what is cut off the database's end is still known here."""
        lines = [
            each.line for each in self._store.log.cosigned(self._key.public).values() if each.size == checkpoint.size
        ]
        make_private_folder(self._home.audit_checkpoint.parent)
        write_atomic(self._home.audit_checkpoint, checkpoint.note + "".join(lines).encode(), mode=PUBLIC, replace=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.round()
            except NodeError as error:
                _log.error("checkpoint_not_signed", reason=str(error))
            except Exception as error:  # noqa: BLE001 - a bug here must not end the signing for good
                log_bug(error, task="notary")
            await asyncio.sleep(CHECKPOINT_EVERY_S)

    async def _gather(self, code: str, checkpoint: CheckpointRecord, last: CosignatureRecord | None) -> None:
        try:
            await self._cosign(code, checkpoint, last)
        except (PeerError, TrustError, StoreError) as error:
            _log.warning("witness_missing", province=code, size=checkpoint.size, reason=str(error))

    async def _cosign(self, code: str, checkpoint: CheckpointRecord, last: CosignatureRecord | None) -> None:
        old_size = last.size if last else 0
        for _ in range(2):  # the witness may have seen another head than the one we know of: prove once more from there
            proof = await asyncio.to_thread(self._store.log.consistency_proof, old_size, checkpoint.size)
            request = CosignRequest(checkpoint.log_key, checkpoint.note, old_size, tuple(proof))
            match await self._ask(code, request, COSIGN_DEADLINE_S):
                case Cosigned() as cosigned:
                    await asyncio.to_thread(self._keep, code, checkpoint, cosigned, last)
                    return
                case OtherSize(witnessed_size) if witnessed_size <= checkpoint.size:
                    old_size = witnessed_size
                case OtherSize(witnessed_size):
                    _log.error("audit_log_lost_rows", witness=code, witnessed=witnessed_size, rows=checkpoint.size)
                    return
                case NotCosigned(reason):
                    _log.error("checkpoint_not_cosigned", witness=code, size=checkpoint.size, reason=str(reason))
                    return

    def _keep(
        self, code: str, checkpoint: CheckpointRecord, cosigned: Cosigned, last: CosignatureRecord | None
    ) -> None:
        try:
            signature = parse_signature(cosigned.line.removesuffix("\n"))
        except ValueError:
            raise PeerContractError(f"province {code}: its cosignature is not one") from None
        verify_cosignature(parse_note(checkpoint.note), signature, self._name_of(code), cosigned.witness_key)
        if last is not None and last.witness_key != cosigned.witness_key:
            _log.warning("witness_has_a_new_key", province=code)
        record = CosignatureRecord(checkpoint.log_key, checkpoint.size, code, cosigned.witness_key, cosigned.line)
        self._store.log.add_cosignature(record)


def lag(store: Store, log_key: bytes) -> Lag:
    """Return how far the log is ahead of its signatures."""
    size, _ = store.log.head()
    newest = store.log.newest_checkpoint(log_key)
    cosigned = {code: each.size for code, each in store.log.cosigned(log_key).items()}
    return Lag(size, newest.size if newest else 0, newest.at if newest else None, cosigned)
