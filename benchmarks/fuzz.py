"""Fuzzing: millions of broken inputs into every parser that faces a peer or a file, guided by the code they reach.

Each parser runs in a process of its own (libFuzzer, through Atheris, ends the process it runs in). An input is a
crash when anything but a documented error leaves the parser, and a hang when it takes over HANG_S.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

HANG_S: Final = 10
MAX_INPUT_BYTES: Final = 4096
MEMORY_MIB: Final = 3072
RUNS_PER_PROCESS: Final = 200_000  # `registry` and `persons` take 7 to 10 KB of the instrumented interpreter each time
SEEDS_APART: Final = 1_000_003
NAMES: Final = (
    "question",
    "answer",
    "requests",
    "replies",
    "metadata",
    "signed_metadata",
    "directory",
    "proposal",
    "certificates",
    "caller",
    "request",
    "credentials",
    "issuers",
    "register",
    "revocation",
    "sealed_secret",
    "key_files",
    "checkpoint",
    "audit_log",
    "heads",
    "database",
    "handle",
    "local_line",
    "local_events",
    "client_file",
    "words",
    "persons",
    "registry",
    "workbook",
    "mapping",
    "source",
    "settings",
    "schema",
    "model",
    "reviews",
    "backup",
    "index",
)
"""As in fuzzing.targets.TARGETS, which takes seconds to import."""

_CRASHED: Final = 77  # libFuzzer's exit codes: an exception, a hang, too much memory
_HUNG: Final = 70
_STATS: Final = re.compile(rb"stat::number_of_executed_units:\s*(\d+)")
_COVERED: Final = re.compile(rb"cov: (\d+)")


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """What came of one parser. covered: branches reached. artifact: the input that broke it, None when none did."""

    parser: str
    executions: int
    covered: int
    crashes: int
    hangs: int
    seconds: float
    artifact: str | None

    def and_then(self, later: Fuzzed) -> Fuzzed:
        """Return both together, of one parser."""
        return Fuzzed(
            self.parser,
            self.executions + later.executions,
            max(self.covered, later.covered),
            self.crashes + later.crashes,
            self.hangs + later.hangs,
            self.seconds + later.seconds,
            later.artifact,
        )


def fuzz(parser: str, runs: int, seed: int, out: Path) -> Fuzzed:
    """Feed `runs` inputs to one parser; what breaks it is kept under `out`. Raises ConfigError without Atheris.

    A process takes RUNS_PER_PROCESS of them, since an instrumented interpreter grows; the inputs that reached new code
    go on to the next.
    """
    if find_spec("atheris") is None:
        raise ConfigError("fuzzing needs Atheris, which is not installed", hint="pip install -e '.[dev]'")
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{parser}.log").write_bytes(b"")
    total = Fuzzed(parser, 0, 0, 0, 0, 0.0, None)
    with tempfile.TemporaryDirectory(prefix="pulang-fuzz-", dir=_memory()) as corpus:
        for number, start in enumerate(range(0, runs, RUNS_PER_PROCESS)):
            share, own_seed = min(RUNS_PER_PROCESS, runs - start), seed + SEEDS_APART * number
            total = total.and_then(_stretch(parser, share, own_seed, Path(corpus), out))
            if total.artifact or total.crashes or total.hangs:
                break
    return total


def _stretch(parser: str, runs: int, seed: int, corpus: Path, out: Path) -> Fuzzed:
    started = monotonic()
    with tempfile.TemporaryDirectory(prefix="pulang-fuzz-", dir=_memory()) as folder:
        arguments = (parser, str(runs), str(seed), folder, str(corpus), str(out.absolute()))
        environment = {**os.environ, "TMPDIR": folder}  # what a parser writes meanwhile goes there as well
        command = [sys.executable, "-m", "benchmarks.fuzz", *arguments]
        done = subprocess.run(command, check=False, capture_output=True, env=environment)  # noqa: S603 - our own module
    return _read(parser, runs, done, out, monotonic() - started)


def _memory() -> str | None:
    """Return a folder in memory where there is one: a parser of files is fed through files."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder is made in it that is ours alone


def _read(parser: str, runs: int, done: subprocess.CompletedProcess[bytes], out: Path, seconds: float) -> Fuzzed:
    with (out / f"{parser}.log").open("ab") as log:
        log.write(done.stdout + done.stderr)
    counted = _STATS.findall(done.stderr)
    covered = [int(each) for each in _COVERED.findall(done.stderr)]
    if not counted:
        raise ConfigError(f"the fuzzer of {parser} did not run", hint=f"its output is {out / f'{parser}.log'}")
    executions = int(counted[-1])
    hung = done.returncode == _HUNG
    broken = done.returncode != 0
    if not broken and executions < runs:
        raise ConfigError(f"the fuzzer of {parser} ended early", hint=f"its output is {out / f'{parser}.log'}")
    artifacts = sorted(out.glob(f"{parser}-*"))
    return Fuzzed(
        parser=parser,
        executions=executions,
        covered=max(covered, default=0),
        crashes=int(broken and not hung),
        hangs=int(hung),
        seconds=seconds,
        artifact=str(artifacts[-1]) if broken and artifacts else None,
    )


def _run(parser: str, runs: int, seed: int, *places: Path) -> None:
    """Fuzz one parser in this process; never returns. places: for the parser's files, the corpus and what breaks it."""
    folder, corpus, out = places
    import atheris  # noqa: PLC0415 - a development tool: nothing else may need it

    # Not the kernels: the compiler could not read their instrumented form.
    with atheris.instrument_imports(
        ["node", "matching"], ["matching.kernels", "matching.import_kernels"], enable_loader_override=False
    ):
        from benchmarks.fuzzing.targets import TARGETS  # noqa: PLC0415 - imported here to be instrumented

    target = TARGETS[parser](folder)
    for number, data in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(data)

    def one(data: bytes) -> None:
        try:
            target.feed(data)
        except target.refusals:
            return

    longest = max(MAX_INPUT_BYTES, *(2 * len(each) for each in target.seeds))

    def mutated(data: bytes, most: int, number: int) -> bytes:
        chance = random.Random(number)
        return target.varied(data, chance, lambda known: atheris.Mutate(known, most))[:most]

    options: Sequence[str] = (
        f"-runs={runs}",
        f"-seed={seed + 1}",  # 0 would mean: draw one
        f"-timeout={HANG_S}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-max_len={longest}",
        f"-artifact_prefix={out}/{parser}-",
        "-print_final_stats=1",
        str(corpus),
    )
    atheris.Setup([sys.argv[0], *options], one, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    _run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *map(Path, sys.argv[4:]))
