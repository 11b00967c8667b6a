from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import polars as pl
import pytest

from node.errors import BusyError, ImportRejectedError, StoreError
from node.importer import import_registry
from node.mapping import guess_mapping
from node.sources import open_source
from tests.registries import HEADER, NOW, PEOPLE, csv_text, make_desk

if TYPE_CHECKING:
    from pathlib import Path

    from node.importer import Progress
    from tests.registries import Desk

OLD = [person[0] for person in PEOPLE[:2]]
NEW = [person[0] for person in PEOPLE]
# The system refuses any file over 64 KiB, as it refuses any byte more on a full disk.
LIMITED = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
COMMAND = (sys.executable, "-m", "node.cli.main", "registry", "import")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A node whose second generation answers."""
    made = make_desk(tmp_path / "node")
    (tmp_path / "old.csv").write_text(csv_text(PEOPLE[:2]))
    made.load(tmp_path / "old.csv")
    made.load(tmp_path / "old.csv")
    return made


def test_killed_before_any_write_the_old_or_the_whole_new_generation_answers(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(csv_text())
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.import_killer", str(desk.home.root), str(tmp_path / "new.csv")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lives = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lives) > 15
    assert [life["killed"] for life in lives] == [True] * (len(lives) - 1) + [False]
    whole = {"g000002": OLD, "g000003": NEW}
    for life in lives:
        assert life["ids"] == whole[life["generation"]]
        # The import after the kill succeeds, and leaves nothing of the killed one.
        assert life["again"] == 0
        assert life["then"]["ids"] == NEW
        assert len(life["then"]["folder"]) == 3, life["then"]["folder"]
    folders = [set(life["folder"]) for life in lives]
    assert any(
        "g000003" in folder and life["generation"] == "g000002" for folder, life in zip(folders, lives, strict=True)
    )
    assert any(name.startswith(".staging-") for folder in folders for name in folder)
    assert any(name.startswith(".current-") for folder in folders for name in folder)


def test_the_command_killed_while_it_reads_loses_nothing(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("ID,NAMA\n" + "".join(f"{n},SITI {n}\n" for n in range(200_000)))
    command = [*COMMAND, str(tmp_path / "new.csv"), "--yes", "--batch", "500", "--home", str(desk.home.root)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(desk.home.generations.glob(".staging-*/rows")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert desk.answering() == ("g000002", OLD)
    assert any(desk.home.generations.glob(".staging-*"))
    desk.load(tmp_path / "old.csv")
    assert desk.answering() == ("g000003", OLD)
    assert not any(desk.home.generations.glob(".staging-*"))


def test_a_second_import_is_told_that_one_is_running_and_the_first_goes_on(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(csv_text())
    reached, go_on = threading.Event(), threading.Event()

    def pause(_: Progress) -> None:
        reached.set()
        go_on.wait(60)

    def first() -> None:
        with open_source(str(tmp_path / "new.csv")) as source:
            import_registry(desk.home, desk.keys, source, guess_mapping(source.columns), NOW, progress=pause)

    running = threading.Thread(target=first)
    running.start()
    assert reached.wait(60)
    try:
        with pytest.raises(BusyError):
            desk.load(tmp_path / "old.csv")
        second = subprocess.run(
            [*COMMAND, str(tmp_path / "old.csv"), "--yes", "--home", str(desk.home.root)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 75
        assert "pulang: another import is running" in second.stderr
        assert any(desk.home.generations.glob(".staging-*")), "the second import must not sweep the first one's folder"
    finally:
        go_on.set()
        running.join()
    assert desk.answering() == ("g000003", NEW)


def test_a_disk_that_takes_no_more_is_one_clear_line(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("ID,NAMA\n" + "".join(f"{n},SITI {n}\n" for n in range(50_000)))
    command = [*COMMAND, str(tmp_path / "new.csv"), "--yes", "--home", str(desk.home.root)]
    done = subprocess.run([sys.executable, "-c", LIMITED, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 74, done.stderr
    assert f"pulang: the import could not write to {desk.home.root}" in done.stderr
    assert "Traceback" not in done.stderr
    assert desk.answering() == ("g000002", OLD)
    assert sorted(path.name for path in desk.home.generations.iterdir()) == ["current", "g000001", "g000002"]


def test_a_folder_that_cannot_be_written_is_one_clear_line(desk: Desk, tmp_path: Path) -> None:
    desk.home.import_lock.unlink()
    desk.home.import_lock.mkdir()  # stands for every refusal of the system; permissions do not bind root
    with pytest.raises(StoreError, match="could not write") as caught:
        desk.load(tmp_path / "old.csv")
    assert "old generation still answers" in str(caught.value.hint)
    assert desk.answering() == ("g000002", OLD)


def test_a_stopped_import_leaves_no_staging_folder(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(csv_text())

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with open_source(str(tmp_path / "new.csv")) as source, pytest.raises(KeyboardInterrupt):
        import_registry(desk.home, desk.keys, source, guess_mapping(source.columns), NOW, progress=interrupt)
    assert sorted(path.name for path in desk.home.generations.iterdir()) == ["current", "g000001", "g000002"]
    assert desk.answering() == ("g000002", OLD)


@pytest.mark.parametrize("kind", ["xlsx", "parquet"])
def test_a_file_cut_short_or_damaged_anywhere_is_refused(desk: Desk, tmp_path: Path, kind: str) -> None:
    cut = tmp_path / f"r.{kind}"
    frame = pl.DataFrame(list(PEOPLE), schema=list(HEADER), orient="row")
    if kind == "xlsx":
        frame.write_excel(cut)
    else:
        frame.write_parquet(cut)
    assert desk.load(cut).persons == 4
    whole = cut.read_bytes()
    for size in (5, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:size])
        with pytest.raises(ImportRejectedError, match="cannot be read as"):
            desk.load(cut)
    cut.write_bytes(b"\0" * 100)
    with pytest.raises(ImportRejectedError, match="damaged"):
        desk.load(cut)
    assert desk.answering() == ("g000003", NEW)


def test_a_database_that_does_not_answer_is_one_clear_line(desk: Desk) -> None:
    with pytest.raises(ImportRejectedError, match="cannot be reached") as caught:
        desk.load("postgresql://somebody:s3kr1t@127.0.0.1:9/registry", table="t")
    assert "s3kr1t" not in str(caught.value)
    assert "old generation still answers" in str(caught.value.hint)
    assert desk.answering() == ("g000002", OLD)
