"""How import and questions grow with the registry: memory, disk, time to open and to answer, on one core.

Every step runs in a process of its own, so that its peak memory is its own. Figures out, nothing said.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from benchmarks.match import bench_keys, clients, record_batch
from benchmarks.populations import TODAY, Recipe, stream
from matching.at_rest import AtRestKey
from matching.encoding import QueryEncoder
from matching.errors import FieldValueError
from matching.index import EncodedIndex, IndexBuilder
from matching.search import search
from matching.weights import load_model
from node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

AT_REST: Final = AtRestKey(bytes(range(32)))  # sealed, as a node keeps its index
PROVINCE: Final = "35"
WARM_UP_QUESTIONS: Final = 10
OPENINGS: Final = 3  # each in a process of its own: the first may wait for memory that a virtual machine gave back


@dataclass(frozen=True)
class Growth:
    """One registry: its import and its questions. Seconds are the processor's; peaks are of the process that did it.

    open_s: the median of OPENINGS.
    """

    persons: int
    import_s: float
    import_peak_bytes: int
    index_bytes: int
    open_s: float
    questions: int
    median_ms: float
    p99_ms: float
    search_peak_bytes: int


def write_population(folder: Path, persons: int, questions: int, seed: int, progress: Callable[[int], None]) -> None:
    """Write a registry of one province in parts, and the clients to ask about."""
    (folder / "parts").mkdir(parents=True)
    numbers = iter(range(10**6))

    def keep(part: pl.DataFrame) -> None:
        part.write_parquet(folder / "parts" / f"{next(numbers):06}.parquet")
        progress(part.height)

    made = stream(Recipe(persons, questions, "base", seed, provinces=(PROVINCE,)), keep)
    made.queries.write_parquet(folder / "queries.parquet")


def measure(folder: Path, persons: int) -> Growth:
    """Import the population in a folder, then open it and ask. Raises ConfigError when a step fails."""
    imported = _step("import", folder)
    opened = [_step("open", folder)["open_s"] for _ in range(OPENINGS)]
    return Growth(persons, **imported, open_s=float(np.median(opened)), **_step("ask", folder))


def _step(name: str, folder: Path) -> dict[str, Any]:
    out = folder / f"{name}.json"
    command = (sys.executable, "-P", "-m", "benchmarks.growth", name, str(folder), str(out))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603 - ours
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ConfigError(f"the step '{name}' ended with exit code {done.returncode}: {' '.join(said)[:200]}")
    figures: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return figures


def import_parts(folder: Path) -> dict[str, float]:
    """Build the index of a population, part by part."""
    started = time.process_time()
    builder, rows = IndexBuilder(folder / "index", bench_keys(), at_rest=AT_REST), 0
    for path in sorted((folder / "parts").iterdir()):
        part = pl.read_parquet(path)
        builder.add(record_batch(part))
        rows += part.height
    builder.finish(datetime.now(UTC), rows)
    size = sum(path.stat().st_size for path in (folder / "index").iterdir())
    return {"import_s": time.process_time() - started, "import_peak_bytes": _peak(), "index_bytes": size}


def open_index(folder: Path) -> dict[str, float]:
    """Open the index, every byte checked."""
    keys = bench_keys()
    started = time.process_time()
    with EncodedIndex.open(folder / "index", keys.schema.fingerprint, keys.epoch, at_rest=AT_REST):
        return {"open_s": time.process_time() - started}


def ask(folder: Path) -> dict[str, float]:
    """Ask about every client: the search alone, without network, encoding or posterior."""
    keys, model = bench_keys(), load_model()
    with EncodedIndex.open(folder / "index", keys.schema.fingerprint, keys.epoch, at_rest=AT_REST) as index:
        encoder, encoded = QueryEncoder(keys), []
        for _, client in clients(pl.read_parquet(folder / "queries.parquet")):
            with suppress(FieldValueError):  # a newborn without a name cannot be asked about
                encoded.append(encoder.encode(client, TODAY))
        for query in encoded[:WARM_UP_QUESTIONS]:
            search(index, query, model)
        spent = []
        for query in encoded:
            started = time.thread_time()
            search(index, query, model)
            spent.append(1000 * (time.thread_time() - started))
    return {
        "questions": len(spent),
        "median_ms": float(np.median(spent)),
        "p99_ms": float(np.percentile(spent, 99)),
        "search_peak_bytes": _peak(),
    }


def _peak() -> int:
    """Return this program's peak memory. getrusage would count what the process was before it became this program."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found.group(1)) * 1024


if __name__ == "__main__":  # one step, in a process of its own, on one core
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    figures = {"import": import_parts, "open": open_index, "ask": ask}[sys.argv[1]](Path(sys.argv[2]))
    Path(sys.argv[3]).write_text(json.dumps(figures), encoding="utf-8")
