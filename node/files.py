"""Files that are whole or absent: written beside their place, synced, then renamed into it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from node.errors import ConfigError, StoreError, TrustError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PRIVATE: Final = 0o600  # keys, secrets, whatever only the node's own user may read
PUBLIC: Final = 0o644  # certificates, membership: signed or made to be handed round


def write_atomic(path: Path, data: bytes, *, mode: int = PRIVATE, replace: bool = False) -> None:
    """Write `data` so that a reader, or a crash at any moment, sees the old file or the new one, never a part.

    Without `replace` an existing file is refused, also one that appeared a moment ago. After a crash a hidden
    `.<name>.*.tmp` may stay behind; it has the mode asked for and nothing reads it.
    Raises ConfigError if the file exists, StoreError if it cannot be written.
    """
    write_stream(path, (data,), mode=mode, replace=replace)


def write_stream(path: Path, parts: Iterable[bytes], *, mode: int = PRIVATE, replace: bool = False) -> str:
    """Write a file too large for memory as `write_atomic` does; returns the SHA-256 of the whole, hexadecimal."""
    digest = hashlib.sha256()
    with _os_errors(path, "written"):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(stream.fileno(), mode)
                for part in parts:
                    digest.update(part)
                    stream.write(part)
                stream.flush()
                os.fsync(stream.fileno())
            if replace:
                temporary.replace(path)
            else:
                _link_new(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    return digest.hexdigest()


def append_line(path: Path, line: str) -> None:
    """Append one line to a 0600 file and return only when it is on the disk. One writer at a time: hold a lock.

    A last line without its end was being written when the machine stopped, and nobody was told it was there: it is
    cut off first. Raises StoreError.
    """
    with _os_errors(path, "written"):
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        try:
            os.ftruncate(descriptor, _whole_lines(descriptor))
            data = line.encode() + b"\n"
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(path.parent)


def _whole_lines(descriptor: int) -> int:
    """Return how many bytes of a file are lines with their end."""
    size = os.fstat(descriptor).st_size
    while size > 0 and os.pread(descriptor, 1, size - 1) != b"\n":
        size -= 1
    return size


def check_free(path: Path) -> None:
    """Refuse a taken output file before the work whose result it would lose. Raises ConfigError."""
    if path.exists():
        raise _taken(path)


def read_file(path: Path, *, limit: int, hint: str | None = None) -> bytes:
    """Return a small file's bytes. Raises ConfigError if it is missing, unreadable or over `limit` bytes."""
    return _read(path, limit, hint)[0]


def read_private(path: Path, *, limit: int, hint: str | None = None) -> bytes:
    """Return a secret file's bytes; a file that others may read, or that is not ours, is refused (TrustError)."""
    data, found = _read(path, limit, hint)
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise TrustError(
            f"{path} can be read or written by others (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"chmod 600 {path}; if others use this machine, treat the secret as leaked and replace it",
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise TrustError(f"{path} belongs to another user", hint="run as the user that owns the node's folder")
    return data


def _read(path: Path, limit: int, hint: str | None) -> tuple[bytes, os.stat_result]:
    try:
        with path.open("rb") as stream:
            found = os.fstat(stream.fileno())  # of the file that is read, not of one put there since
            data = stream.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    if len(data) > limit:
        raise ConfigError(f"{path} is over {limit} bytes: not the file meant here", hint=hint)
    return data, found


def make_private_folder(path: Path) -> None:
    """Create a 0700 folder with its parents. An existing folder is taken as it is. Raises StoreError."""
    with _os_errors(path, "created"):
        if not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
            sync_folder(path.parent)


def overwrite(path: Path) -> None:
    """Replace a file's bytes by zeros of the same length, on the disk. Raises StoreError.

    An SSD, a copying file system or a backup may keep the old bytes elsewhere all the same: that is what an encrypted
    disk is for.
    """
    with _os_errors(path, "overwritten"), path.open("r+b", buffering=0) as file:
        file.write(bytes(os.fstat(file.fileno()).st_size))
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Put a folder's own entries on the disk: without it, a rename may be lost with the power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link_new(temporary: Path, path: Path) -> None:
    try:
        # link, unlike rename, fails when the name is taken: no gap between looking and writing
        os.link(temporary, path)
    except FileExistsError:
        raise _taken(path) from None
    temporary.unlink()


def _taken(path: Path) -> ConfigError:
    return ConfigError(f"{path} exists already", hint="name another file, or move this one away first")


@contextmanager
def _os_errors(path: Path, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} cannot be {verb}: {error.strerror}", hint="check the folder, its owner and the disk's free space"
        ) from error
