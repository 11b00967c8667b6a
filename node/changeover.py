"""What the directory's epochs ask of one node: secrets and indexes that are due, and those whose time is over."""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from node.epoch import require_no_contradiction
from node.errors import EXIT_BUSY, EXIT_OK, BusyError, MembershipEndedError, NodeError
from node.files import overwrite, sync_folder
from node.log import log_bug
from node.pki.epochs import sealed_name, take_in_secret
from node.pki.membership import EpochState
from node.pki.refresh import Mirror
from node.publishing import has_epochs_beside, import_lock, promote, remove_epochs
from node.reencoding import indexes, is_running, last_reencoding
from node.reload import stamp
from node.store import AuditEntry, Direction

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from matching.index import Manifest
    from node.home import NodeHome
    from node.pki.membership import Membership
    from node.runtime import NodeRuntime
    from node.store import Store

RETRY_S: Final = 600.0  # after a failure that needs a person: its cause is looked at again, not hammered at
RETRY_SOON_S: Final = 10.0  # after another import, or a kill
METHOD: Final = "epoch"
DELETED: Final = "secret_deleted"
_SECRET: Final = re.compile(r"epoch-(\d{1,10})\.(?:key|retired)")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EpochReport:
    """How one valid epoch stands on this node. secret, index: what is missing or wrong; None when it is there.

    is_fresh: the index is not older than the last import.
    """

    number: int
    state: EpochState
    secret: str | None
    index: str | None
    generation: str | None
    manifest: Manifest | None
    is_fresh: bool


def report(home: NodeHome, membership: Membership, secret_problems: Mapping[int, Exception]) -> tuple[EpochReport, ...]:
    """Return how every valid epoch stands here, ascending. secret_problems: as a Keyring has them."""
    found = []
    for epoch, index in zip(
        membership.valid_epochs, indexes(home, [epoch.number for epoch in membership.valid_epochs]), strict=True
    ):
        secret = secret_problems.get(epoch.number)
        found.append(
            EpochReport(
                number=epoch.number,
                state=epoch.state,
                secret=str(secret) if secret else None,
                index=_why_missing(home, epoch.number) if index.generation is None else None,
                generation=index.generation,
                manifest=index.manifest,
                is_fresh=not index.is_due,
            )
        )
    return tuple(found)


def problem_of(reports: tuple[EpochReport, ...]) -> str | None:
    """Return what keeps the node from the active epoch; None when nothing does, or before the first import."""
    active = next(each for each in reports if each.state is EpochState.ACTIVE)
    if active.secret is not None:
        return f"epoch {active.number}, the active one: {active.secret}"
    if active.index is not None and any(each.generation for each in reports):
        return f"epoch {active.number}, the active one: {active.index}"
    return None


def note_of(reports: tuple[EpochReport, ...]) -> str | None:
    """Return what is still to come for an epoch that is not the active one."""
    for each in reports:
        if each.state is not EpochState.ACTIVE and (missing := each.secret or each.index):
            return f"epoch {each.number} ({each.state}): {missing}"
    return None


def probe_epochs(runtime: NodeRuntime) -> tuple[str | None, str | None]:
    """Return (problem, note) of a running node's epochs. Raises ConfigError for a contradicting node.toml."""
    require_no_contradiction(runtime.home, runtime.config, runtime.membership)
    reports = report(runtime.home, runtime.membership, runtime.keyring.problems)
    return problem_of(reports), note_of(reports)


def _why_missing(home: NodeHome, epoch: int) -> str:
    latest = last_reencoding(home)
    if latest is not None and latest.epoch == epoch:
        if latest.problem is not None:
            return f"re-encoding failed: {latest.problem}"
        if is_running(home, latest):
            return f"re-encoding since {latest.started_at:%H:%M} UTC, {latest.rows:,} rows"
        return "re-encoding was interrupted; a serving node begins it again"
    if not home.registry_source.exists():
        return "no index, and nobody knows where the registry came from: `pulang registry import`"
    return "no index yet; a serving node re-encodes by itself, or: `pulang registry reencode`"


# --- a serving node -------------------------------------------------------------------------------------------------


class Changeover:
    """Brings a serving node's folder to the directory's stage, a step at every look; re-encodes in another process."""

    def __init__(self, runtime: NodeRuntime) -> None:
        self._runtime = runtime
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._not_before = 0.0  # of time.monotonic
        self._failed_with: object = None
        self._problem: str | None = None

    async def look(self) -> None:
        """Do what is due. What fails is logged and tried again; it never reaches the questions."""
        try:
            await asyncio.to_thread(self._tidy)
            if self._task is not None and self._task.done():
                self._task = None
            if self._task is None and await asyncio.to_thread(self._is_due):
                self._task = asyncio.create_task(self._reencode())
        except BusyError:
            return  # an import is running: at the next look
        except NodeError as error:
            if str(error) != self._problem:
                _log.error("changeover_failed", reason=str(error))
            self._problem = str(error)
        except Exception as error:  # noqa: BLE001 - a bug here must not stop a node that answers
            log_bug(error, method=METHOD)

    async def close(self) -> None:
        """Stop a re-encoding; what it had is swept away by the next one."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _tidy(self) -> None:
        """Delete what belongs to no valid epoch; let `current` be the active one's."""
        runtime, membership = self._runtime, self._runtime.membership
        if not membership.epochs:
            return
        try:
            membership.check_validity(runtime.now())
        except MembershipEndedError:
            return  # an old list of epochs is no reason to destroy anything, one out of a backup least of all
        self._take_in_secrets(membership)
        delete_secrets(runtime.home, membership, runtime.store, runtime.config.province, runtime.now())
        valid = {epoch.number for epoch in membership.epochs}
        if has_epochs_beside(runtime.home, valid):
            with import_lock(runtime.home):
                promote(runtime.home, membership.active_epoch.number)
                runtime.generations.refresh()
                for name in remove_epochs(runtime.home, valid):
                    _log.info("generation_removed", generation=name, reason="its epoch is over")
        elif runtime.home.current_of(membership.active_epoch.number).is_symlink():
            with import_lock(runtime.home):
                promote(runtime.home, membership.active_epoch.number)

    def _take_in_secrets(self, membership: Membership) -> None:
        """Open the secrets that came sealed to this node beside the directory."""
        home = self._runtime.home
        missing = [number for number in self._runtime.keyring.problems if not home.epoch_secret(number).exists()]
        if not missing or not home.sealing_key.exists():
            return
        targets = Mirror(home.tuf).load().contents.targets
        for number in missing:
            sealed = targets.get(sealed_name(number, self._runtime.config.province))
            if sealed is not None:
                take_in_secret(home, membership, sealed)
                _log.info("secret_taken_in", epoch=number)

    def _is_due(self) -> bool:
        home, keys = self._runtime.home, self._runtime.keyring.keys
        if not home.registry_source.exists() or not any(index.is_due for index in indexes(home, keys)):
            return False
        return time.monotonic() >= self._not_before or self._failed_with != self._situation()

    def _situation(self) -> object:
        """Return what may make a re-encoding succeed that has failed before."""
        return stamp(self._runtime.home.registry_source), [key.check for key in self._runtime.keyring.keys.values()]

    async def _reencode(self) -> None:
        situation = self._situation()
        command = [
            "-m",
            "node.cli.main",
            "registry",
            "reencode",
            "--background",
            "--home",
            str(self._runtime.home.root),
        ]
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdin=nothing, stdout=nothing, stderr=pipe
        )
        _log.info("reencoding", pid=self._process.pid)
        _, said = await self._process.communicate()
        code = self._process.returncode
        if code == EXIT_OK:
            self._failed_with = None
            _log.info("reencoded")
            return
        soon = code is None or code < 0 or code == EXIT_BUSY
        self._not_before = time.monotonic() + (RETRY_SOON_S if soon else RETRY_S)
        self._failed_with = situation
        _log.error("reencoding_failed", code=code, reason=said.decode(errors="replace")[-500:])


def delete_secrets(
    home: NodeHome, membership: Membership, store: Store, province: str, now: datetime
) -> tuple[int, ...]:
    """Delete the secrets of every epoch the directory no longer calls valid, with an audit row each. Returns them.

    Order of writes: the file gets a name nothing derives keys from, is overwritten, its row is committed, it is
    removed. Killed between any two of them, the next run does the rest: no row tells of a secret that is still there,
    and none that is gone lacks its row. Raises StoreError.
    """
    valid = {epoch.number for epoch in membership.valid_epochs}
    deleted = []
    for path in sorted(home.secrets.iterdir()) if home.secrets.is_dir() else []:
        match = _SECRET.fullmatch(path.name)
        if match is None or (int(match[1]) in valid and path.suffix == ".key"):
            continue
        number = int(match[1])
        retired = path.with_suffix(".retired")
        if path != retired:
            path.replace(retired)
        overwrite(retired)
        sync_folder(home.secrets)
        store.record_events([deletion_entry(membership, province, number, now)])
        retired.unlink(missing_ok=True)
        sync_folder(home.secrets)
        deleted.append(number)
        _log.info("secret_deleted", epoch=number)
    return tuple(deleted)


def deletion_entry(membership: Membership, province: str, epoch: int, now: datetime) -> AuditEntry:
    """Return the audit row of a deleted secret. It is about no question: its hash is of a public sentence."""
    sentence = f"{membership.federation}: province {province} deleted its secret of epoch {epoch}"
    return AuditEntry(
        at=now,
        direction=Direction.ANSWERED,
        peer=province,
        method=METHOD,
        outcome=DELETED,
        request_sha256=hashlib.sha256(sentence.encode()).digest(),
        reason=f"the directory, version {membership.version}, no longer calls epoch {epoch} valid",
        key_epoch=epoch,
    )


def leftover_secrets(home: NodeHome, membership: Membership) -> tuple[Path, ...]:
    """Return the files of secrets whose epoch is over and that no serving node has deleted yet."""
    valid = {f"epoch-{epoch.number}.key" for epoch in membership.valid_epochs}
    if not home.secrets.is_dir():
        return ()
    return tuple(
        path for path in sorted(home.secrets.iterdir()) if _SECRET.fullmatch(path.name) and path.name not in valid
    )
