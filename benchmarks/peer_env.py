"""The Python environment of the peers we are measured against: made once, on demand, outside our own.

clkhash pins an old cryptography, so the peers cannot live in our environment. Theirs is in the user's cache folder,
and is made again when the pins change.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PINS: Final = Path(__file__).parent / "data" / "peers-constraints.txt"
MADE: Final = "made-for"  # in a finished environment: the digest of what it was made for
ROOM_MIB: Final = 900  # what the environment takes on the disk, roughly


def cache_root() -> Path:
    """Return the folder for the environment: XDG_CACHE_HOME/pulang/peers, or ~/.cache/pulang/peers."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pulang" / "peers"


def peer_python(
    root: Path | None = None, *, progress: Callable[[str], None] = lambda _: None, pins: Path = PINS
) -> Path:
    """Return the Python that has clkhash, anonlink, splink, duckdb, recordlinkage, pandas and rapidfuzz.

    Makes the environment if it is missing, unfinished or made for other pins: a few minutes and some hundred megabytes
    from the package registry. A second process waits for the first. progress is called with what is being installed.
    Raises ConfigError when it cannot be made.
    """
    folder = cache_root() if root is None else root
    wanted = _digest(pins)
    python = folder / "env" / "bin" / "python"
    made = folder / "env" / MADE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _only_one(folder / "lock"):
            if not (python.exists() and made.exists() and made.read_text(encoding="ascii").strip() == wanted):
                shutil.rmtree(folder / "env", ignore_errors=True)
                _make(folder, python, pins, progress)
                made.write_text(wanted + "\n", encoding="ascii")
    except OSError as error:
        raise ConfigError(
            f"the environment of the peers cannot be made in {folder}: {error.strerror}",
            hint=f"set XDG_CACHE_HOME to a folder with {ROOM_MIB} MiB of room",
        ) from error
    return python


def _digest(pins: Path) -> str:
    """Identify what an environment is made for: the pins, and the Python that carries them."""
    return hashlib.sha256(pins.read_bytes() + sys.version.encode() + sys.base_prefix.encode()).hexdigest()


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(folder: Path, python: Path, pins: Path, progress: Callable[[str], None]) -> None:
    log = folder / "pip.log"
    log.unlink(missing_ok=True)
    progress("an empty environment")
    _run((sys.executable, "-m", "venv", str(folder / "env")), log, lambda _: None)

    def show(line: str) -> None:
        if line.startswith(("Collecting ", "Building ", "Installing ")):
            progress(line.removeprefix("Collecting ").split(" (from")[0])

    options = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
    _run((str(python), "-m", "pip", "install", *options, "--requirement", str(pins)), log, show)


def _run(command: Sequence[str], log: Path, show: Callable[[str], None]) -> None:
    """Run one step, keeping its output in the log. Raises ConfigError when it fails."""
    with (
        log.open("a", encoding="utf-8") as kept,
        subprocess.Popen(  # noqa: S603 - our own Python and its pip
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            kept.write(line)
            show(line.strip())
    if process.returncode:
        raise ConfigError(
            f"the peers could not be installed: {command[2]} ended with exit code {process.returncode}",
            hint=f"see {log}; a package registry must be reachable for this command",
        )
