from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks import peer_speed
from benchmarks.match import read_registry
from benchmarks.peer_speed import Rivals, encode_round, planted_filters
from benchmarks.populations import TEN_PROVINCES, generate
from benchmarks.speed import Spread, write_registry
from matching.batch import PackedFilters, most_alike

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_rounds_in_turn_are_compared_round_by_round() -> None:
    rivals = Rivals.of([20.0, 10.0, 40.0], [10.0, 5.0, 10.0])
    assert rivals.ratio == Spread(2.0, 2.0, 4.0)
    assert rivals.theirs == Spread(10.0, 5.0, 10.0)


def test_every_planted_question_finds_the_row_it_was_made_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_speed, "STORED", 2_000)
    monkeypatch.setattr(peer_speed, "QUESTIONS", 50)
    questions, stored = planted_filters(7)
    found = most_alike(questions, PackedFilters.of(stored), peer_speed.THRESHOLD, 2)
    changed = np.bitwise_count(stored[found.rows[:, 0]] ^ questions).sum(axis=1)
    assert (changed < 150).all()  # one bit in sixteen of 1024, not half of them
    assert (found.rows[:, 1] == -1).all()


def test_a_round_of_encoding_leaves_nothing_behind(tmp_path: Path) -> None:
    write_registry(tmp_path / "registry.csv", 300, 1, provinces=TEN_PROVINCES)
    assert read_registry(tmp_path / "registry.csv").equals(generate(300, 0, "base", 1).registry)
    assert encode_round(tmp_path / "registry.csv") > 0
    assert [path.name for path in tmp_path.iterdir()] == ["registry.csv"]
