"""Load on ten real nodes of this machine: how many questions a second they bear, and what a flooding member costs.

Questions come at their rate whatever becomes of them, at times drawn beforehand: a caller's wait counts from the moment
it would have asked, so that nodes that fall behind cannot hide it by being asked less.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.demo import QUESTION_S
from benchmarks.member import encoder_of
from benchmarks.populations import TODAY
from matching.errors import FieldValueError
from node.budget import MAX_LIMIT, Budgets
from node.errors import ConfigError
from node.files import PRIVATE, write_atomic
from node.findings import Concluded, Failed, ProvinceState, from_json
from node.local_client import MAX_EVENT_BYTES, LocalRequest, socket_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from benchmarks.demo import DemoFolder, DemoPlan

LIMIT_MS: Final = 1000.0  # of the p99: beyond it, a caseworker is kept waiting
GIVE_UP_S: Final = QUESTION_S + 20.0
WARM_UP_RATE: Final = 3.0
WARM_UP_S: Final = 8.0
PLAN_CLIENTS: Final = 100  # of the demo; it makes sixty times as many to ask about
CONNECT_S: Final = 3.0  # a flooder loads and connects
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")

Line = tuple[str, bytes]  # (code of the node to ask, the question as its socket takes it)


@dataclass(frozen=True)
class Step:
    """What came of one rate. Milliseconds from the moment of asking until the conclusion.

    incomplete: concluded without every province. failed: not concluded. victim_...: until one province's answer was
    there, of the questions it answered. cpu_ms: of the processor, in all nodes together, per question.
    """

    rate: float
    asked: int
    incomplete: int
    failed: int
    median_ms: float
    p99_ms: float
    worst_ms: float
    cpu_ms: float
    victim_median_ms: float
    victim_p99_ms: float

    @property
    def is_borne(self) -> bool:
        """Whether every question was answered whole, and nearly all of them soon."""
        return not self.incomplete and not self.failed and self.p99_ms <= LIMIT_MS


@dataclass(frozen=True)
class Flooded:
    """One round: the steps without and with a flooder, and its calls by what came of them."""

    quiet: Step
    flooded: Step
    calls: Mapping[str, int]

    @property
    def ratio(self) -> float:
        """How many times its quiet p99 the victim's is under the flood."""
        return self.flooded.victim_p99_ms / self.quiet.victim_p99_ms


def give_room(folder: DemoFolder, plan: DemoPlan) -> None:
    """Raise every budget of a demo's nodes, so that they are debited and do not end the measurement."""
    room = "\n[budgets]\n" + "".join(f"{name} = {MAX_LIMIT}\n" for name in Budgets.model_fields)
    for code in plan.provinces:
        path = folder.home(code).config
        settings, _, _ = path.read_text(encoding="utf-8").partition("\n[budgets]\n")
        write_atomic(path, (settings + room).encode(), mode=PRIVATE, replace=True)


def questions(folder: DemoFolder, plan: DemoPlan, *, without: str | None = None) -> Iterator[Line]:
    """Yield questions about the demo's clients without end, each at the next node in turn, each under its own case.

    without: a node that is not asked at.
    """
    clients = [each.client for each in folder.pool_clients(plan)]
    if not clients:
        raise ConfigError(f"{folder.root} has no clients", hint="make the demo again")
    codes = itertools.cycle([code for code in plan.provinces if code != without])
    encoder = encoder_of(folder.home(plan.provinces[0]))
    for number, client in enumerate(itertools.cycle(clients)):
        try:
            encoder.encode(client, TODAY)
        except FieldValueError:  # a client without a usable name cannot be asked about
            continue
        request = LocalRequest(client, case_reference=f"LOAD-{number}", timeout_s=QUESTION_S)
        yield next(codes), request.as_line()


class Bench:
    """Running nodes, and questions about their clients without end."""

    def __init__(self, folder: DemoFolder, plan: DemoPlan, pids: Sequence[int], seed: int) -> None:
        self._folder = folder
        self._pids = pids
        self._seed = seed
        self.flooder, self.victim = plan.provinces[-1], plan.provinces[0]
        self._everywhere = questions(folder, plan)
        self._beside_the_flooder = questions(folder, plan, without=self.flooder)

    def warm_up(self) -> None:
        """Ask a little everywhere, so that connections stand and caches are full."""
        self._run(self._everywhere, WARM_UP_RATE, WARM_UP_S, 0)

    def step(self, rate: float, seconds: float, progress: Callable[[int], None] = lambda _: None) -> Step:
        """Ask `rate` questions a second for a while, and wait for all of them."""
        return self._run(self._everywhere, rate, seconds, 0, progress)

    def flood(
        self,
        rate: float,
        seconds: float,
        *,
        clients: int,
        number: int,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Flooded:
        """Ask at the same rate and moments without and with a flood, at every node but the flooder's."""
        quiet = self._run(self._beside_the_flooder, rate, seconds, number, progress)
        with tempfile.TemporaryDirectory(prefix="pulang-bench-") as scratch:
            out = Path(scratch) / "calls.json"
            with flooding(self._folder, flooder=self.flooder, victim=self.victim, clients=clients, out=out):
                flooded = self._run(self._beside_the_flooder, rate, seconds, number, progress)
            return Flooded(quiet, flooded, json.loads(out.read_bytes()))

    def _run(
        self,
        lines: Iterator[Line],
        rate: float,
        seconds: float,
        number: int,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Step:
        chance = np.random.Generator(np.random.PCG64([self._seed, number, round(1000 * rate)]))
        count = max(1, round(rate * seconds))
        times = np.cumsum(chance.exponential(1 / rate, count))
        chosen = list(itertools.islice(lines, count))
        before = _cpu_s(self._pids)
        waits = asyncio.run(_ask_all(self._folder, chosen, times.tolist(), self.victim, progress))
        spent = _cpu_s(self._pids) - before
        all_ms = np.array([each.ms for each in waits])
        of_victim = np.array([each.victim_ms for each in waits if each.victim_ms is not None] or [np.nan])
        return Step(
            rate=rate,
            asked=count,
            incomplete=sum(each.state == "incomplete" for each in waits),
            failed=sum(each.state == "failed" for each in waits),
            median_ms=float(np.median(all_ms)),
            p99_ms=float(np.percentile(all_ms, 99)),
            worst_ms=float(all_ms.max()),
            cpu_ms=1000 * spent / count,
            victim_median_ms=float(np.median(of_victim)),
            victim_p99_ms=float(np.percentile(of_victim, 99)),
        )


def median_ratio(rounds: Sequence[Flooded]) -> float:
    """Return the median of what the floods made of the victim's p99."""
    return float(np.median([each.ratio for each in rounds]))


@contextmanager
def flooding(folder: DemoFolder, *, flooder: str, victim: str, clients: int, out: Path) -> Iterator[None]:
    """Let one member's credentials flood another's node while the block runs; its counts are in `out` afterwards.

    clients: how many of our own it is made of, each with a connection and four questions at once. It is given the
    processors' spare time alone: a real one has a machine of its own.
    """
    command = (
        sys.executable,
        "-P",
        "-m",
        "benchmarks.flood",
        str(folder.home(flooder).root),
        victim,
        str(clients),
        str(out),
    )
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=lambda: os.nice(19))  # noqa: S603, PLW1509
    try:
        time.sleep(CONNECT_S)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@dataclass(frozen=True, slots=True)
class _Waited:
    ms: float
    state: str
    victim_ms: float | None


async def _ask_all(
    folder: DemoFolder,
    lines: Sequence[Line],
    times: Sequence[float],
    victim: str | None,
    progress: Callable[[int], None],
) -> list[_Waited]:
    started = time.monotonic()

    async def one(line: Line, at: float) -> _Waited:
        code, data = line
        concluded: Concluded | None = None
        try:
            async with asyncio.timeout(GIVE_UP_S):
                concluded = await _ask(folder, code, data)
        except (OSError, TimeoutError):
            pass
        ms = 1000 * (time.monotonic() - started - at)
        progress(1)
        if concluded is None:
            return _Waited(ms, "failed", None)
        answered = [each for each in concluded.heard if each.state is ProvinceState.ANSWERED]
        whole = len(answered) == len(concluded.heard)
        return _Waited(
            ms, "whole" if whole else "incomplete", next((each.ms for each in answered if each.code == victim), None)
        )

    tasks = []
    for line, at in zip(lines, times, strict=True):
        await asyncio.sleep(max(0.0, started + at - time.monotonic()))
        tasks.append(asyncio.create_task(one(line, at)))
    return list(await asyncio.gather(*tasks))


async def _ask(folder: DemoFolder, code: str, data: bytes) -> Concluded | None:
    with socket_address(folder.home(code).socket) as address:
        reader, writer = await asyncio.open_unix_connection(address, limit=MAX_EVENT_BYTES)
    try:
        writer.write(data)
        while line := await reader.readline():
            finding = from_json(json.loads(line))
            if isinstance(finding, Concluded):
                return finding
            if isinstance(finding, Failed):
                return None
        return None
    finally:
        writer.close()


def _cpu_s(pids: Sequence[int]) -> float:
    """Return the processor seconds that processes have used since their start."""
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])  # utime, stime: proc(5)
    return total / TICKS_PER_S
