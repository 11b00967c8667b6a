"""A kill -9 or a full disk between any two writes of membership metadata: the old copy whole, or the new one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

OLD = {"members": ["33", "35"], "root": 1, "timestamp": 1}
# What the folder holds before and after each change.
CHANGES: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {
    "join": (None, OLD),
    "update": (OLD, {"members": ["33", "35", "36"], "root": 1, "timestamp": 2}),
    "rotate": (OLD, {"members": ["33", "35", "36"], "root": 2, "timestamp": 3}),
    "resign": (OLD, OLD | {"timestamp": 2}),
}


@pytest.mark.parametrize(
    ("change", "how"),
    [("join", "kill"), ("update", "kill"), ("update", "full"), ("rotate", "kill"), ("resign", "full")],
)
def test_disturbed_at_any_write_the_membership_is_whole(tmp_path: Path, change: str, how: str) -> None:
    before, after = CHANGES[change]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.tuf_killer", str(tmp_path / "world"), change, how],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    lives = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lives) > 20
    for life in lives:
        if life["found"]["members"] is None:
            assert before is None, life
            assert "no membership yet" in life["found"]["why"]
        else:
            assert life["found"] in (before, after), life
        # Done again by nobody disturbed, it succeeds, and what was half-written does not pile up.
        assert life["again"] == "done", (life, done.stderr)
        assert life["then"] == after, life
        assert life["copies"] <= 3, life
    stops = {life["ended"] for life in lives[:-1]}
    assert lives[-1]["ended"] == "done"
    assert stops <= ({"killed"} if how == "kill" else {"refused", "unharmed"}), (stops, done.stderr)
    assert any(life["found"] == after for life in lives[:-1]) or how == "full"
