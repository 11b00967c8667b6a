"""Kills imports: `python -m tests.faults.import_killer HOME SOURCE`, one JSON line per import.

Every import runs in a child of this process and is ended by SIGKILL right before one of the operations that change
the node's folder (open for writing, mkdir, fsync, rename, symlink, remove): at every single one from the manifest on
until the new generation answers, at every STRIDE-th before and after, until a child lives to the end. After each kill
an import runs that nobody disturbs. The folder is put back before each.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from node.home import NodeHome
from tests.people import build
from tests.registries import Desk

STRIDE = 8
CHANGES = {"os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.truncate"}


def arm(home: Path, after: int) -> None:
    """Let this process die right before its change number `after` (from 0) inside `home`."""
    changes = 0
    real_fsync = os.fsync

    def change() -> None:
        nonlocal changes
        if changes == after:
            os.kill(os.getpid(), signal.SIGKILL)
        changes += 1

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR)
            if isinstance(path, str | os.PathLike) and str(path).startswith(str(home)) and writes:
                change()
        elif event in CHANGES:
            change()

    def fsync(descriptor: Any) -> None:
        change()
        real_fsync(descriptor)

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(hook)


def warm(folder: Path) -> None:
    """Load tables and compiled kernels once, here; not polars, whose threads would not survive a fork."""
    build(folder, [("1", "Siti", "P", "1958-03-01", "Kebumen", "Aminah")])
    shutil.rmtree(folder)


def run(home: Path, source: Path, kill_before: int | None) -> int:
    """Import in a child; return how it ended, as os.waitpid says it."""
    child = os.fork()
    if child == 0:
        if kill_before is not None:
            arm(home, kill_before)
        Desk(NodeHome(home)).load(source)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def state(home: Path) -> dict[str, Any]:
    """What a node would find in the folder now; every byte of the generation is checked."""
    name, ids = Desk(NodeHome(home)).answering()
    return {"generation": name, "ids": ids, "folder": sorted(path.name for path in (home / "generations").iterdir())}


def main() -> None:
    """Kill at one change after the other."""
    home, source = Path(sys.argv[1]), Path(sys.argv[2])
    saved = home.with_name("saved")
    shutil.copytree(home, saved, symlinks=True)
    warm(home.with_name("warm"))
    before = len(list(home.glob("generations/*/manifest.json")))
    old = state(home)["generation"]
    point, stride, killed, last = 0, STRIDE, True, old
    while killed:
        shutil.rmtree(home)
        shutil.copytree(saved, home, symlinks=True)
        killed = os.WIFSIGNALED(run(home, source, point))
        finished = len(list(home.glob("generations/*/manifest.json"))) > before
        if finished and stride > 1 and last == old:
            point, stride, killed = point - stride + 1, 1, True  # back to the first change not yet tried
            continue
        found = state(home)
        last = found["generation"]
        if last != old:
            stride = STRIDE
        again = run(home, source, None) if killed else 0
        line = {"point": point, "killed": killed, **found, "again": again, "then": state(home)}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        point += stride


if __name__ == "__main__":
    main()
