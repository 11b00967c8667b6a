"""A short form of `pulang bench fuzz`: every parser takes some thousand broken inputs without a crash or a hang."""

from __future__ import annotations

from importlib.util import find_spec
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

import pytest

from benchmarks.fuzz import NAMES, Fuzzed, _read, fuzz
from benchmarks.fuzz_targets import TARGETS

if TYPE_CHECKING:
    from pathlib import Path

needs_atheris = pytest.mark.skipif(find_spec("atheris") is None, reason="Atheris is not installed")
RUNS = {"index": 100, "registry": 500}


@needs_atheris
@pytest.mark.parametrize("parser", NAMES)
def test_no_broken_input_breaks_a_parser(parser: str, tmp_path: Path) -> None:
    found = fuzz(parser, RUNS.get(parser, 3000), 7, tmp_path)
    log = (tmp_path / f"{parser}.log").read_text(errors="replace")
    assert (found.crashes, found.hangs) == (0, 0), f"{found.artifact}\n{log[-2000:]}"
    assert found.executions >= RUNS.get(parser, 3000)


def test_every_parser_is_listed_and_takes_its_own_honest_inputs(tmp_path: Path) -> None:
    assert list(TARGETS) == list(NAMES)
    for name, make in TARGETS.items():
        folder = tmp_path / name
        folder.mkdir()
        target = make(folder)
        accepted = 0
        for seed in target.seeds:
            try:
                target.feed(seed)
                accepted += 1
            except target.refusals:
                pass
        assert accepted, f"{name}: not one of its seeds is accepted, so it would be fuzzed at its door only"


def test_what_the_fuzzer_says_of_a_crash_is_read(tmp_path: Path) -> None:
    said = b"#5 NEW cov: 12 ft: 3\nstat::number_of_executed_units: 41\n"
    (tmp_path / "index-crash-1").write_bytes(b"x")
    crashed = _read("index", 100, CompletedProcess([], 77, b"", said), tmp_path, 1.0)
    assert crashed == Fuzzed("index", 41, 12, 1, 0, 1.0, str(tmp_path / "index-crash-1"))
    assert _read("index", 41, CompletedProcess([], 70, b"", said), tmp_path, 1.0).hangs == 1
    assert _read("index", 41, CompletedProcess([], 0, b"", said), tmp_path, 1.0).crashes == 0
