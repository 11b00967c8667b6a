"""Files are whole or absent, private where they must be, and never overwritten by surprise."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from node import files
from node.errors import ConfigError, StoreError, TrustError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_secret_is_written_0600_whatever_the_umask(tmp_path: Path) -> None:
    files.write_atomic(tmp_path / "key", b"secret")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert (tmp_path / "key").read_bytes() == b"secret"


def test_a_public_file_can_be_read_by_others(tmp_path: Path) -> None:
    files.write_atomic(tmp_path / "root.pem", b"root", mode=files.PUBLIC)
    assert stat.S_IMODE((tmp_path / "root.pem").stat().st_mode) == 0o644


def test_an_existing_file_is_refused_and_kept(tmp_path: Path) -> None:
    files.write_atomic(tmp_path / "key", b"first")
    with pytest.raises(ConfigError, match="exists already"):
        files.write_atomic(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_replacing_gives_the_new_bytes_and_leaves_no_scrap(tmp_path: Path) -> None:
    files.write_atomic(tmp_path / "cert", b"first", mode=files.PUBLIC)
    files.write_atomic(tmp_path / "cert", b"second", mode=files.PUBLIC, replace=True)
    assert (tmp_path / "cert").read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["cert"]


def test_a_failed_replace_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_atomic(tmp_path / "cert", b"first")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(StoreError, match="No space left"):
        files.write_atomic(tmp_path / "cert", b"second", replace=True)
    assert (tmp_path / "cert").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["cert"]


def test_writing_into_a_missing_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file or directory"):
        files.write_atomic(tmp_path / "none" / "key", b"x")


def test_a_torn_last_line_is_cut_off_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "register"
    files.append_line(path, "one")
    with path.open("ab") as stream:
        stream.write(b"tor")  # what a crash in the middle of an append leaves
    files.append_line(path, "two")
    assert path.read_text().splitlines() == ["one", "two"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(mode)
    with pytest.raises(TrustError, match=f"mode {mode:04o}"):
        files.read_private(path, limit=100)


def test_an_oversized_file_is_refused_without_being_read_whole(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 101)
    with pytest.raises(ConfigError, match="over 100 bytes"):
        files.read_file(tmp_path / "big", limit=100)


def test_a_private_folder_is_0700(tmp_path: Path) -> None:
    files.make_private_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
