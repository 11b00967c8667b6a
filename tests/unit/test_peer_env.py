from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import peer_env
from node.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def pins(folder: Path, text: str) -> Path:
    path = folder / "pins.txt"
    path.write_text(text)
    return path


def test_the_environment_is_made_once_and_again_when_the_pins_change(tmp_path: Path) -> None:
    root, steps = tmp_path / "peers", list[str]()
    python = peer_env.peer_python(root, progress=steps.append, pins=pins(tmp_path, "# nothing\n"))
    assert python.is_file()
    assert len(steps) == 1
    assert peer_env.peer_python(root, progress=steps.append, pins=pins(tmp_path, "# nothing\n")) == python
    assert len(steps) == 1
    # What pip refuses is said with where to read on, and what is left is not taken for an environment.
    refused = pins(tmp_path, "no such requirement at all\n")
    with pytest.raises(ConfigError, match="pip ended with exit code 1") as raised:
        peer_env.peer_python(root, progress=steps.append, pins=refused)
    assert len(steps) == 2
    assert raised.value.hint is not None
    assert str(root / "pip.log") in raised.value.hint
    assert "no such requirement" in (root / "pip.log").read_text()
    assert not (root / "env" / peer_env.MADE).exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made in"):
        peer_env.peer_python(tmp_path / "file" / "peers")


def test_the_cache_follows_the_users_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert peer_env.cache_root() == tmp_path / "pulang" / "peers"


def test_every_pin_is_a_name_and_an_exact_version() -> None:
    lines = [line for line in peer_env.PINS.read_text().splitlines() if not line.startswith("#")]
    assert {"clkhash", "anonlink", "splink", "duckdb", "recordlinkage", "pandas", "rapidfuzz"} <= {
        line.split("==")[0] for line in lines
    }
    for line in lines:
        name, version = line.split("==")
        assert name
        assert version[0].isdigit()
