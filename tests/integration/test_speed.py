from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from benchmarks.machine import machine
from benchmarks.speed import import_speed, one_core, write_registry
from node.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_an_import_is_measured_by_its_own_process(tmp_path: Path) -> None:
    registry = tmp_path / "registry.csv"
    write_registry(registry, 1_000, 1, lambda _: None)
    measured = import_speed(registry, 1_000, tmp_path)
    assert measured.persons == 1_000
    assert measured.cpu_s > 0
    assert measured.peak_bytes > 2**20


def test_an_import_that_fails_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ended with exit code"):
        import_speed(tmp_path / "absent.csv", 1_000, tmp_path)


def test_one_core_is_given_back() -> None:
    before = os.sched_getaffinity(0)
    with one_core():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_the_machine_is_named_in_one_line() -> None:
    assert "cores, load " in machine()
    assert "\n" not in machine()
