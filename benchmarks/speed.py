"""Measures speed: one question's scan, a registry's import, a question over ten nodes. Returns figures, prints none."""

from __future__ import annotations

import os
import secrets
import statistics
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks import demo
from benchmarks.populations import Recipe, stream
from matching.kernels import FILTER_WORDS, token_similarity
from matching.weights import load_model
from node.config import make_config, write_config
from node.errors import ConfigError
from node.files import make_private_folder, write_atomic
from node.home import NodeHome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import polars as pl

SCAN_FILTERS: Final = 1 << 22  # 256 MiB: far beyond any cache, as a large registry's are
WARM_UP_QUESTIONS: Final = 20


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Summarise measurements."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class ScanSpeed:
    """One core, one question token: 512-bit filters scored, and bytes read, per second; and bytes numpy sums."""

    filters_per_s: Spread
    read_per_s: Spread
    numpy_sum_per_s: Spread


@dataclass(frozen=True)
class ImportSpeed:
    """One import by the real command on one core, start of the process to its end.

    seconds: on the wall. cpu_s: of the processor; less than `seconds` where other work or the disk took their time.
    """

    persons: int
    seconds: float
    cpu_s: float
    peak_bytes: int


@dataclass(frozen=True)
class QuestionSpeed:
    """Milliseconds a caller waits for the conclusion of a question to every node."""

    questions: int
    median_ms: float
    p99_ms: float
    worst_ms: float
    incomplete: int


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and the children it starts, on one core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def scan_speed(seed: int, rounds: int = 9) -> ScanSpeed:
    """Score one question token against many filters, in turn with summing the same bytes.

    Seconds are the processor's, not the wall's: other work on the machine must not pass for slow memory.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    filters = rng.integers(0, 1 << 63, (SCAN_FILTERS, FILTER_WORDS), dtype=np.uint64)
    filters &= rng.integers(
        0, 1 << 63, (SCAN_FILTERS, FILTER_WORDS), dtype=np.uint64
    )  # a quarter of the bits, as in names
    bits = np.bitwise_count(filters).reshape(SCAN_FILTERS, 2, FILTER_WORDS // 2).sum(axis=2, dtype=np.uint16)
    asked = tuple(np.uint64(word) for word in filters[0])
    model, similarity, near = load_model(), np.zeros(SCAN_FILTERS, np.uint8), np.zeros(SCAN_FILTERS, np.uint8)
    scans, sums = [], []
    with one_core():
        for _ in range(rounds + 1):
            started = time.thread_time()
            token_similarity(filters, bits, asked, False, near, model.token_table, model.initial_similarity, similarity)  # noqa: FBT003 - compiled, by position
            scans.append(time.thread_time() - started)
            started = time.thread_time()
            filters.sum()
            sums.append(time.thread_time() - started)
    read = filters.nbytes + bits.nbytes + near.nbytes
    return ScanSpeed(  # the first round of each is the warm-up
        Spread.of([SCAN_FILTERS / seconds for seconds in scans[1:]]),
        Spread.of([read / seconds for seconds in scans[1:]]),
        Spread.of([filters.nbytes / seconds for seconds in sums[1:]]),
    )


def write_registry(
    path: Path,
    persons: int,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
    provinces: tuple[str, ...] = ("35",),
) -> None:
    """Write a made-up registry as CSV, of one province unless more are named."""
    with path.open("wb") as file:

        def keep(part: pl.DataFrame) -> None:
            part.write_csv(file, include_header=file.tell() == 0)
            progress(part.height)

        stream(Recipe(persons, 0, "base", seed, provinces=provinces), keep)


def import_speed(registry: Path, persons: int, folder: Path) -> ImportSpeed:
    """Import a registry into a fresh node on one core. Raises ConfigError when the command fails."""
    home = NodeHome(folder / f"import-{persons}")
    write_config(home, make_config(federation="bench", province="35"))
    make_private_folder(home.epoch_secret(1).parent)
    write_atomic(home.epoch_secret(1), secrets.token_hex(32).encode() + b"\n")
    command = [*demo.PULANG, "registry", "import", str(registry), "--home", str(home.root), "--yes"]
    with (folder / "import.log").open("ab") as log, one_core():
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603 - ours
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ConfigError(f"the import ended with exit code {process.returncode}", hint=f"see {folder / 'import.log'}")
    return ImportSpeed(persons, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def question_speed(folder: demo.DemoFolder, questions: int, progress: Callable[[int], None]) -> QuestionSpeed:
    """Ask about a demo's clients, one after another, each at the next node in turn. Its nodes must be running."""
    plan = folder.plan()
    clients = folder.pool_clients(plan)
    if not clients:
        raise ConfigError(f"{folder.root} has no clients", hint="make the demo again")
    waited: list[float] = []
    incomplete = 0
    for number in range(WARM_UP_QUESTIONS + questions):
        answer = demo.ask(folder, clients[number % len(clients)])
        if number >= WARM_UP_QUESTIONS:
            waited.append(answer.seconds * 1000)
            incomplete += answer.verdict in {"failed", "incomplete"}
            progress(1)
    ordered = np.sort(waited)
    return QuestionSpeed(
        questions, float(np.median(ordered)), float(np.percentile(ordered, 99)), float(ordered[-1]), incomplete
    )
