"""Runs a node until it is told to stop."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import re
import signal
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import structlog

from matching.encoding import encode_client
from matching.question import Client
from matching.search import search
from node.budget import Scope
from node.changeover import Changeover
from node.desk import make_desk, make_followup
from node.errors import BusyError, ConfigError, NodeError
from node.gossip import Gossip
from node.local import serve_local
from node.log import log_bug
from node.metrics import serve_metrics
from node.notary import lag
from node.pki.credentials import adopt_roots
from node.pki.renewal import renew_if_due
from node.readiness import probe
from node.rpc.server import ExchangeServer
from node.runtime import make_notary, open_log_key
from node.service import CLOCK_OFF, DISK_LOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from node.home import NodeHome
    from node.readiness import Probe
    from node.runtime import NodeRuntime

RENEW_EVERY_S: Final = 20.0  # how soon a tainted intermediate or a new root is acted on
HOUSE_EVERY_S: Final = 60.0
PROBE_EVERY_S: Final = 2.0  # also how soon an idle node opens a newly published generation

_log = structlog.get_logger(__name__)


async def serve(runtime: NodeRuntime, announce: Callable[[], None]) -> None:
    """Serve peers and this province's caseworkers until SIGTERM or SIGINT, then let accepted questions end.

    announce: called once, when both doors are open. Raises BusyError when a door cannot be had.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    interrupted = await asyncio.to_thread(runtime.store.resolve_interrupted, runtime.now())
    if interrupted:
        _log.warning("interrupted_questions_resolved", count=interrupted)
    await asyncio.to_thread(warm_up, runtime)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runtime.peers.close)
        stack.enter_context(serve_metrics(runtime.metrics, runtime.config.metrics_listen))
        gossip = Gossip(runtime)
        await gossip.look_round()  # before the doors open: files put back from a backup must not open them to anybody
        notary = make_notary(runtime)
        stack.push_async_callback(notary.close)
        server = ExchangeServer(runtime)
        await server.start()
        stack.push_async_callback(server.stop)
        notary.start()
        desk = make_desk(runtime)
        local = await serve_local(runtime, desk)
        stack.push_async_callback(local.close)
        looking = asyncio.create_task(gossip.run())
        stack.push_async_callback(_end, looking)
        followup = asyncio.create_task(make_followup(runtime, desk).run())
        stack.push_async_callback(_end, followup)
        changeover = Changeover(runtime)
        stack.push_async_callback(changeover.close)
        renewing = asyncio.create_task(keep_renewed(runtime, stopping))
        stack.push_async_callback(_ended, renewing, stopping)
        housekeeping = asyncio.create_task(keep_house(runtime, stopping))
        stack.push_async_callback(_ended, housekeeping, stopping)
        probes: tuple[Probe, ...] | None = None
        while not stopping.is_set():
            latest = await asyncio.to_thread(probe, runtime)
            runtime.service.paused = _pause_of(latest)
            runtime.metrics.looked(runtime, latest, runtime.now())
            await server.set_ready(ready=not any(each.problem for each in latest))
            if probes is None:
                announce()
            if probes is None or _outline(latest) != _outline(probes):
                _log.info("readiness", **{each.name: each.problem or "ok" for each in latest})
                if notes := {each.name: each.note for each in latest if each.note}:
                    _log.warning("readiness_notes", **notes)
            probes = latest
            await changeover.look()
            await _wait(stopping, PROBE_EVERY_S)
        _log.info("stopping")
        await server.set_ready(ready=False)


def _outline(probes: tuple[Probe, ...]) -> list[tuple[str, str]]:
    """Return what is worth a new line in the log when it changes: the words, and none of the figures in them."""
    return [(each.name, re.sub(r"\d+", "", f"{each.problem} {each.note}")) for each in probes]


def _pause_of(probes: Sequence[Probe]) -> str | None:
    """Return why nothing is to be answered by these probes, None when they find no such thing."""
    pauses = {"disk": DISK_LOW, "clock": CLOCK_OFF}
    return next((pauses[each.name] for each in probes if each.problem and each.name in pauses), None)


async def keep_renewed(runtime: NodeRuntime, stopping: asyncio.Event) -> None:
    """Renew the node's leaf when it is due, and take over the membership's roots, until `stopping`.

    What was written is in use at the next handshake: server and clients read the folder's files again when they
    change. A failure is logged once and tried again; the certificate in use stays until its end.
    """
    jitter = random.random()  # noqa: S311 - spreads load, keeps no secret
    failing: str | None = None
    while not stopping.is_set():
        try:
            if await asyncio.to_thread(_renew, runtime, jitter):
                jitter = random.random()  # noqa: S311
            failing = None
        except NodeError as error:
            if str(error) != failing:
                _log.error("renewal_failed", reason=str(error), hint=error.hint)
            failing = str(error)
        except Exception as error:  # noqa: BLE001 - a bug here must not end what keeps the node alive
            log_bug(error)
        await _wait(stopping, RENEW_EVERY_S)


async def keep_house(runtime: NodeRuntime, stopping: asyncio.Event) -> None:
    """Every minute until `stopping`, let the store forget what is past its time, and count what is spent and signed."""
    key = await asyncio.to_thread(open_log_key, runtime)
    while not stopping.is_set():
        try:
            await asyncio.to_thread(_keep_house, runtime, key.public)
        except NodeError as error:
            _log.error("house_not_kept", reason=str(error))
        except Exception as error:  # noqa: BLE001 - a bug here must not end what keeps the node alive
            log_bug(error)
        await _wait(stopping, HOUSE_EVERY_S)


def _keep_house(runtime: NodeRuntime, log_key: bytes) -> None:
    store, now = runtime.store, runtime.now()
    store.forget(now)
    spent, held = store.spent(scope=Scope.PEER), store.throttles()
    runtime.metrics.accounted(spent, held, runtime.config.budgets, lag(store, log_key), now)


def _renew(runtime: NodeRuntime, jitter: float) -> bool:
    if adopt_roots(runtime.home, runtime.membership.roots):
        _log.info("roots_adopted", membership=runtime.membership.version)
    renewed = renew_if_due(runtime.home, runtime.now(), jitter)
    if renewed is not None:
        _log.info("certificate_renewed", not_after=renewed.not_after.isoformat())
    return renewed is not None


async def _ended(task: asyncio.Task[None], stopping: asyncio.Event) -> None:
    stopping.set()
    await task


@contextmanager
def hold_home(home: NodeHome) -> Iterator[None]:
    """Be the one process that serves this folder. Raises BusyError when another one does."""
    try:
        descriptor = os.open(home.serve_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"{home.root} cannot be used: {error.strerror}",
            hint="`pulang node init --province CODE --home DIR` makes a node's folder",
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BusyError(f"a node is serving {home.root} already", hint="stop it first, or use another folder") from None
    finally:
        os.close(descriptor)


def warm_up(runtime: NodeRuntime) -> None:
    """Search once for a made-up client with every field, so that no real question waits for the compiler."""
    client = Client(
        name="Contoh Nama", sex="L", born="1970-02-03", birthplace="Kebumen", mother_name="Contoh", father_name="Contoh"
    )
    for epoch, keys in runtime.keyring.keys.items():
        with runtime.generations.lease(epoch) as generation:
            if generation is not None:
                search(generation.index, encode_client(client, keys, runtime.now().date()), runtime.model)
                return


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
