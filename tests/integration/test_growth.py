from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.growth import measure, write_population
from node.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_import_and_questions_are_each_measured_by_a_process_of_their_own(tmp_path: Path) -> None:
    write_population(tmp_path, 2_000, 20, seed=1, progress=lambda _: None)
    found = measure(tmp_path, 2_000)
    assert found.index_bytes == sum(path.stat().st_size for path in (tmp_path / "index").iterdir())
    assert 0 < found.questions <= 20
    assert 0 < found.median_ms <= found.p99_ms
    # Two programs, two peaks: neither is the memory of the process that started them.
    assert found.import_peak_bytes != found.search_peak_bytes


def test_a_step_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the step 'import' ended with exit code 1: FileNotFoundError"):
        measure(tmp_path, 1)
