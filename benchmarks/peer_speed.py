"""Our speed beside the peers': the same work in turn, one core, the processor's seconds. Figures out, nothing said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.match import BATCH_PERSONS, bench_keys, read_registry, record_batch
from benchmarks.peers import clean, run_script
from benchmarks.populations import TEN_PROVINCES, generate
from benchmarks.speed import Spread, write_registry
from matching.batch import PackedFilters, most_alike
from matching.index import IndexBuilder
from node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import polars as pl
    from numpy.typing import NDArray

THEIR_PERSONS: Final = 50_000  # they work per person, each alike, and caches of theirs are full long before
QUESTIONS: Final = 2_000
STORED: Final = 100_000  # filters
WORDS: Final = 16  # 1024 bits, as one filter of clkhash has
THRESHOLD: Final = 0.8
TOP: Final = 10
CHANGED_BITS: Final = 1 / 16  # of a stored row, in the question that looks for it
NAMES_ASKED: Final = 100


@dataclass(frozen=True)
class Rivals:
    """What is done per second, ours and theirs, and how many times more we do (median of the rounds' ratios)."""

    ours: Spread
    theirs: Spread
    ratio: Spread

    @classmethod
    def of(cls, ours: list[float], theirs: list[float]) -> Rivals:
        """Compare what was done per second in rounds run in turn."""
        ratios = [fast / slow for fast, slow in zip(ours, theirs, strict=True)]
        return cls(Spread.of(ours), Spread.of(theirs), Spread.of(ratios))


@dataclass(frozen=True)
class PeerSpeed:
    """encoding: persons of five fields, normalised and encoded, by their number. comparing: pairs of `filter_bits`.

    same_pairs: both found the same pairs. names: pairs of names by rapidfuzz's token_sort_ratio, for scale.
    """

    encoding: dict[int, Rivals]
    comparing: Rivals
    same_pairs: bool
    filter_bits: int
    names: Spread


def peer_speed(
    python: Path,
    seed: int,
    sizes: Sequence[int],
    rounds: int = 5,
    step: Callable[[str], None] = lambda _: None,
) -> PeerSpeed:
    """Run every measurement, ours and theirs in turn. Raises ConfigError when a program fails.

    sizes: persons encoded a round. We work per distinct token, so that a small registry costs more a head.
    """
    with tempfile.TemporaryDirectory(prefix="pulang-speed-") as temporary:
        race = _Race(python, Path(temporary), min(os.sched_getaffinity(0)))
        step("making up persons")
        registry = generate(THEIR_PERSONS, 0, "base", seed).registry
        clean(registry, ("record_id", "province")).write_csv(race.folder / "clean.csv")
        for persons in sizes:
            write_registry(race.registry(persons), persons, seed, provinces=TEN_PROVINCES)
        ours: dict[int, list[float]] = {persons: [] for persons in sizes}
        theirs = []
        for done in range(rounds):
            for persons in sizes:
                step(f"encoding {persons:,}, round {done + 1} of {rounds}")
                ours[persons].append(persons / race.encode_ours(persons))
            theirs.append(THEIR_PERSONS / race.encode_theirs())
        step("comparing")
        questions, stored = planted_filters(seed)
        np.save(race.folder / "questions.npy", questions)
        np.save(race.folder / "stored.npy", stored)
        compared = [race.compare(questions, stored) for _ in range(rounds + 1)][1:]  # the first is the warm-up
        step("names")
        names = race.names(registry, rounds)
    pairs = QUESTIONS * STORED
    return PeerSpeed(
        {persons: Rivals.of(each, theirs) for persons, each in ours.items()},
        Rivals.of([pairs / seconds for seconds, _, _ in compared], [pairs / seconds for _, seconds, _ in compared]),
        all(same for _, _, same in compared),
        WORDS * 64,
        names,
    )


def planted_filters(seed: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Make random filters, three eighths of their bits set, and questions that are some of them with bits changed."""
    rng = np.random.default_rng(seed)
    a, b, c = (rng.integers(0, 1 << 64, (STORED, WORDS), dtype=np.uint64) for _ in range(3))
    stored = a & (b | c)
    changes = np.packbits(rng.random((QUESTIONS, WORDS * 64)) < CHANGED_BITS, axis=1).view(np.uint64)
    return stored[rng.choice(STORED, QUESTIONS, replace=False)] ^ changes, stored


class _Race:
    """Ours and theirs in turn, on one core."""

    def __init__(self, python: Path, folder: Path, core: int) -> None:
        self.folder = folder
        self._python = python
        self._core = core

    def registry(self, persons: int) -> Path:
        """Return where a registry of so many persons lies."""
        return self.folder / f"registry-{persons}.csv"

    def encode_ours(self, persons: int) -> float:
        """Return seconds of a round of ours, in a fresh process: no round profits from an earlier one."""
        out, registry = self.folder / "ours.json", self.registry(persons)
        command = (sys.executable, "-P", "-m", "benchmarks.peer_speed", str(registry), str(self._core), str(out))
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603 - ours
        if done.returncode:
            raise ConfigError(f"our round of encoding ended with exit code {done.returncode}")
        return float(json.loads(out.read_text(encoding="utf-8")))

    def encode_theirs(self) -> float:
        """Return seconds of a round of theirs, in a fresh process, too."""
        return self._theirs("encode", registry=str(self.folder / "clean.csv"))

    def compare(self, questions: NDArray[np.uint64], stored: NDArray[np.uint64]) -> tuple[float, float, bool]:
        """Return seconds of our round (packing included) and of theirs, and whether both found the same pairs."""
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self._core})
        started = time.thread_time()
        found = most_alike(questions, PackedFilters.of(stored), THRESHOLD, TOP)
        ours = time.thread_time() - started
        os.sched_setaffinity(0, allowed)
        pairs = self.folder / "pairs.npy"
        paths = {"questions": str(self.folder / "questions.npy"), "stored": str(self.folder / "stored.npy")}
        theirs = self._theirs("compare", **paths, threshold=THRESHOLD, top=TOP, pairs=str(pairs))
        asked, place = np.nonzero(found.rows >= 0)
        mine = set(zip(asked.tolist(), found.rows[asked, place].tolist(), strict=True))
        return ours, theirs, mine == {(int(q), int(row)) for q, row in np.load(pairs)}

    def names(self, registry: pl.DataFrame, rounds: int) -> Spread:
        """Return pairs of names compared per second by rapidfuzz."""
        names = clean(registry, ())["name"].to_list()
        path = self.folder / "names.json"
        path.write_text(json.dumps([names[:NAMES_ASKED], names]), encoding="utf-8")
        pairs = NAMES_ASKED * len(names)
        return Spread.of([pairs / self._theirs("likeness", names=str(path)) for _ in range(rounds)])

    def _theirs(self, task: str, **inputs: Any) -> float:
        job, out = self.folder / "job.json", self.folder / "theirs.json"
        job.write_text(json.dumps({"task": task, "core": self._core, "out": str(out), **inputs}), encoding="utf-8")
        run_script(self._python, "speed_round.py", job, self.folder / "peer.log")
        return float(json.loads(out.read_text(encoding="utf-8")))


def encode_round(path: Path) -> float:
    """Return the seconds that our importer's core takes for a registry, from columns of text to their encodings.

    Sorting the persons and writing them to the index is left out, as it is of the peers' round.
    """
    registry = read_registry(path)
    started = time.process_time()
    builder = IndexBuilder(path.parent / f"index-{os.getpid()}", bench_keys())
    for batch in registry.iter_slices(BATCH_PERSONS):
        builder.encode(record_batch(batch))
    seconds = time.process_time() - started
    builder.abandon()
    return seconds


if __name__ == "__main__":  # one round, in a process of its own
    os.sched_setaffinity(0, {int(sys.argv[2])})
    Path(sys.argv[3]).write_text(json.dumps(encode_round(Path(sys.argv[1]))), encoding="utf-8")
