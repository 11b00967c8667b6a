"""Generations on the disk: published in one atomic step, linked by epoch, removed when nothing needs them any more.

Order of writes: staging folder, arrays, manifest (each synced) -> rename to its generation's name -> sync the folder
-> replace the link -> sync again. Killed between any two of them, questions see the old generation, and the next
import clears what was left. Whoever changes anything here holds `import_lock`.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from matching.errors import IndexDamagedError
from matching.index import Manifest
from node.errors import BusyError
from node.files import PRIVATE, sync_folder
from node.generation import index_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from node.home import NodeHome

STAGING: Final = ".staging-"
LOOKUP: Final = ".lookup-"  # one person's record encoded again, see node/registry_record.py
_NEW_LINK: Final = ".current-"
_GENERATION: Final = re.compile(r"g(\d{6,})")


@contextmanager
def import_lock(home: NodeHome) -> Iterator[None]:
    """Hold the one lock of imports; the system gives it back when the process ends, however it ends."""
    descriptor = os.open(home.import_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                "another import is running in this node's folder", hint="wait until it ends, then start again"
            ) from None
        yield
    finally:
        os.close(descriptor)


def number_of(generation: str) -> int:
    """Return a generation's number; they only go up, whatever the epoch. 0 for a name that is none."""
    match = _GENERATION.fullmatch(generation)
    return int(match[1]) if match else 0


def published(home: NodeHome) -> dict[int, tuple[str, Manifest]]:
    """Return epoch -> the generation that answers in it, and its manifest; one that is damaged answers in none."""
    found: dict[int, tuple[str, Manifest]] = {}
    for name in _links(home).values():
        try:
            manifest = Manifest.read(home.generations / name, index_key(home))
        except (IndexDamagedError, OSError):
            continue
        found.setdefault(manifest.epoch, (name, manifest))
    return found


def unreadable(home: NodeHome) -> IndexDamagedError | None:
    """Return why the generation that should answer cannot be read; None when it can, or there is none."""
    for name in _links(home).values():
        try:
            Manifest.read(home.generations / name, index_key(home))
        except IndexDamagedError as error:
            return error
    return None


def next_name(home: NodeHome) -> str:
    """Return the name of the generation that is built next."""
    return f"g{max([*_numbered(home), *map(number_of, _links(home).values()), 0]) + 1:06d}"


def remove_leftovers(home: NodeHome) -> None:
    """Remove what killed imports left: staging folders, half-made links, generations that were never published."""
    for path in home.generations.iterdir():
        if path.name.startswith((STAGING, LOOKUP)):
            shutil.rmtree(path)
        elif path.name.startswith(_NEW_LINK):
            path.unlink()
    newest = max(map(number_of, _links(home).values()), default=0)
    for number, path in _numbered(home).items():
        if number > newest:
            shutil.rmtree(path)


def publish(home: NodeHome, staging: Path, name: str, epoch: int) -> None:
    """Give the finished folder its name and let its epoch's link point at it. `staging` is durable already.

    `current` stays with the epoch it is of; `promote` changes that.
    """
    staging.rename(home.generations / name)
    sync_folder(home.generations)
    current = _links(home).get(home.current.name)
    is_other = current is not None and _epoch_of(home, current) not in {epoch, None}
    _point(home, home.current_of(epoch) if is_other else home.current, name)


def promote(home: NodeHome, epoch: int) -> bool:
    """Let `current` be this epoch's link, and the one before it another's. Returns whether there was anything to do.

    Questions are answered alike before, after and between: what epoch an index is of stands in its manifest.
    """
    links = _links(home)
    current, other = links.get(home.current.name), links.get(home.current_of(epoch).name)
    if other is None:
        return False
    was = None if current is None else _epoch_of(home, current)
    if was != epoch:  # else an earlier promotion was killed before its last step
        if current is not None and was is not None:
            _point(home, home.current_of(was), current)
        _point(home, home.current, other)
    home.current_of(epoch).unlink()
    sync_folder(home.generations)
    return True


def remove_old(home: NodeHome) -> None:
    """Keep what answers and, of each epoch, the one before. A node that has an older one open keeps its maps."""
    numbered, kept = _numbered(home), set()
    for number in map(number_of, _links(home).values()):
        kept.add(number)
        epoch = _epoch_of(home, numbered[number].name) if number in numbered else None
        before = [each for each, path in numbered.items() if each < number and _epoch_of(home, path.name) == epoch]
        kept |= set(sorted(before)[-1:])
    for number in set(numbered) - kept:
        shutil.rmtree(numbered[number])


def remove_epochs(home: NodeHome, valid: Collection[int]) -> tuple[str, ...]:
    """Remove the links and generations of every epoch that is not valid any more; return the generations' names.

    They are unlinked, not overwritten: a search that has one mapped must not see its bytes change.
    """
    if not home.generations.is_dir():
        return ()
    ended = _ended(home, valid)
    for link, name in _links(home).items():
        if name in ended:
            (home.generations / link).unlink()
    sync_folder(home.generations)
    gone = [path for path in _numbered(home).values() if path.name in ended]
    for path in gone:
        shutil.rmtree(path)
    return tuple(sorted(path.name for path in gone))


def has_epochs_beside(home: NodeHome, valid: Collection[int]) -> bool:
    """Return whether there is anything `remove_epochs` would remove."""
    if not home.generations.is_dir():
        return False
    return bool(_ended(home, valid))


def _ended(home: NodeHome, valid: Collection[int]) -> set[str]:
    """Return the generations of epochs that are not valid: by the manifest, or the link of one that is unreadable."""
    ended = {path.name for path in _numbered(home).values() if _epoch_of(home, path.name) not in {*valid, None}}
    for link, name in _links(home).items():
        told = re.fullmatch(rf"{re.escape(home.current.name)}-e(\d+)", link)
        if told and int(told[1]) not in valid and _epoch_of(home, name) is None:
            ended.add(name)
    return ended


def _point(home: NodeHome, link: Path, name: str) -> None:
    fresh = home.generations / f"{_NEW_LINK}{secrets.token_hex(8)}"
    fresh.symlink_to(name)
    fresh.replace(link)
    sync_folder(home.generations)


def _links(home: NodeHome) -> dict[str, str]:
    """Return link -> the generation it points at: `current` first, it wins where two are of one epoch."""
    found = {}
    for link in (home.current, *sorted(home.generations.glob(f"{home.current.name}-e*"))):
        try:
            found[link.name] = link.readlink().name
        except OSError:
            continue
    return found


def _numbered(home: NodeHome) -> dict[int, Path]:
    return {number: path for path in home.generations.iterdir() if (number := number_of(path.name))}


def _epoch_of(home: NodeHome, name: str) -> int | None:
    """Return the epoch in a generation's manifest; None when it is damaged or not there."""
    try:
        return Manifest.read(home.generations / name, index_key(home)).epoch
    except (IndexDamagedError, OSError):
        return None
