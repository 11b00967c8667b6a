"""A node's memory in one file, and back: database, settings and what the federation published; keys apart.

A backup is a gzipped tar (0600): manifest.json first, with every other file's SHA-256, then the files, the database
as lines of JSON. Encoded indexes are left out: they are imported again. Whatever holds a key or a secret is left out
too, and goes into a second file of the same form, to be kept in another place.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import secrets as chance
import shutil
import tarfile
import tempfile
import zlib
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from node.config import complaints, load_config
from node.errors import ConfigError, StoreError
from node.files import PRIVATE, check_free, make_private_folder, sync_folder
from node.home import NodeHome
from node.pki.register import only_writer
from node.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from typing import IO

    from node.config import NodeConfig

MANIFEST: Final = "manifest.json"
DATABASE: Final = "database.jsonl"
MAX_FILE_BYTES: Final = 64 << 20  # of any file but the database: all of them are small
MAX_FILES: Final = 10_000
# The log's key among it: a log put back to an older state must not be signed as the same one.
LEFT_OUT: Final = (
    "audit",
    "generations",
    "rejects",
    "node.db",
    "node.db-wal",
    "node.db-shm",
    "node.sock",
    "serve.lock",
    "log",
)
_BROKEN: Final = "take another backup: this one is cut off or was changed"


class Manifest(BaseModel):
    """What a backup says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    format: Literal["pulang-backup-1"] = "pulang-backup-1"
    kind: Literal["memory", "keys"]
    federation: str
    province: str
    taken_at: AwareDatetime
    files: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    """Path inside the node's folder -> SHA-256 of the file."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back: of whom, as of when, how many database rows."""

    manifest: Manifest
    rows: int


def create_backup(home: NodeHome, out: Path, now: datetime, *, keys_out: Path | None = None) -> Manifest:
    """Write a node's memory to `out`, and its keys to `keys_out` if asked; the node may be running.

    The database is read as of one moment. Files appear whole or not at all; existing ones are refused.
    Raises ConfigError or StoreError.
    """
    for path in filter(None, (out, keys_out)):
        check_free(path)
    config = load_config(home)
    plain, secret = _files(home)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=".backup.") as staging:
        database = Path(staging) / DATABASE
        store = open_store(config.store_url(home))
        with closing(store), database.open("wb") as stream:
            stream.writelines(store.dump())
        manifest = _write(out, "memory", config, now, {**plain, DATABASE: database})
        if keys_out is not None:
            _write(keys_out, "keys", config, now, secret)
    return manifest


def verify_backup(path: Path) -> Manifest:
    """Read a backup to its end and check every file in it. Raises ConfigError naming the first that is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        return _extract(path, Path(folder), "memory")


def restore_backup(
    path: Path, home: NodeHome, *, keys: Path | None = None, database_url: str | None = None
) -> Restored:
    """Make a node's folder out of a backup. The folder must not exist, and the database must be empty.

    database_url: where its database goes, if not where the backup's settings say. The folder appears last, whole:
    where it is, the database is too. Raises ConfigError or StoreError.
    """
    if home.root.exists():
        raise ConfigError(f"{home.root} exists already", hint="restore into a new folder, then put it in its place")
    make_private_folder(home.root.parent)
    staging = NodeHome(home.root.parent / f".{home.root.name}.{chance.token_hex(4)}")
    make_private_folder(staging.root)
    try:
        manifest = _extract(path, staging.root, "memory")
        if keys is not None:
            _require_same_node(manifest, _extract(keys, staging.root, "keys"))
        database = staging.root / DATABASE
        url = database_url or load_config(staging).store_url(staging)
        with closing(open_store(url)) as store, database.open("rb") as lines:
            rows = store.load(lines)
        database.unlink()
        staging.root.rename(home.root)
        sync_folder(home.root.parent)
    except BaseException:
        shutil.rmtree(staging.root, ignore_errors=True)
        raise
    return Restored(manifest, rows)


def _require_same_node(memory: Manifest, keys: Manifest) -> None:
    if (memory.federation, memory.province) != (keys.federation, keys.province):
        raise ConfigError("memory and keys are of two different nodes", hint="name the file of this one")


def _files(home: NodeHome) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the folder's files by path, those anybody in the ministry may see and those that hold a secret.

    Read at once and whole: a running node replaces its list and certificates meanwhile. Its list and its register are
    read while nobody writes them, so that what names a file and the file itself are of one moment.
    """
    plain: dict[str, bytes] = {}
    secret: dict[str, bytes] = {}
    with ExitStack() as still:
        for folder in (home.tuf, home.ca):
            if folder.is_dir():
                still.enter_context(only_writer(folder))
        for path in _listed(home.root):
            name = path.relative_to(home.root).as_posix()
            with suppress(FileNotFoundError):  # gone since it was listed: it was no part of anything
                data = _read_whole(path)
                (secret if _is_secret(name, path, data) else plain)[name] = data
    return plain, secret


def _listed(root: Path) -> Iterator[Path]:
    """Yield every file to be kept; folders may come and go meanwhile."""
    for folder, inner, names in os.walk(root):
        here = Path(folder)
        if here == root:
            inner[:] = [name for name in inner if name not in LEFT_OUT]
            names = [name for name in names if name not in LEFT_OUT]  # noqa: PLW2901 - as os.walk is meant to be used
        inner.sort()
        for path in (here / name for name in sorted(names)):
            if path.suffix not in {".tmp", ".lock"} and not path.is_symlink():
                yield path


def _read_whole(path: Path) -> bytes:
    with path.open("rb") as stream:
        data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is over {MAX_FILE_BYTES >> 20} MiB: not a file of a node", hint="move it away")
    return data


def _is_secret(name: str, path: Path, data: bytes) -> bool:
    return name.startswith("secrets/") or path.suffix == ".key" or b"PRIVATE KEY" in data


def _write(out: Path, kind: str, config: NodeConfig, now: datetime, files: Mapping[str, bytes | Path]) -> Manifest:
    manifest = Manifest.model_validate(
        {
            "kind": kind,
            "federation": config.federation,
            "province": config.province,
            "taken_at": now,
            "files": {name: _digest(content) for name, content in files.items()},
        }
    )
    temporary = out.with_name(f".{out.name}.{chance.token_hex(4)}.tmp")
    try:
        temporary.touch(mode=PRIVATE, exist_ok=False)
        with tarfile.open(temporary, "w:gz", compresslevel=6) as archive:
            _add(archive, MANIFEST, io.BytesIO(manifest.model_dump_json(indent=1).encode()), now)
            for name, content in files.items():
                with _opened(content) as stream:
                    _add(archive, name, stream, now)
        with temporary.open("rb") as stream:
            written = _extract_stream(stream, None, kind)  # what a restore would find, before anybody relies on it
        if written != manifest:
            raise StoreError("the backup does not read back as it was written", hint="check the disk, then try again")
        check_free(out)
        temporary.rename(out)
        sync_folder(out.absolute().parent)
    except OSError as error:
        raise StoreError(
            f"{out} cannot be written: {error.strerror}", hint="check the folder, its owner and the disk's free space"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return manifest


def _add(archive: tarfile.TarFile, name: str, stream: IO[bytes], now: datetime) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = stream.seek(0, io.SEEK_END)
    entry.mode, entry.mtime = PRIVATE, int(now.timestamp())
    stream.seek(0)
    archive.addfile(entry, stream)


def _extract(path: Path, folder: Path, kind: str) -> Manifest:
    try:
        with path.open("rb") as stream:
            return _extract_stream(stream, folder, kind)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be unpacked: {error.strerror or 'it is not a backup'}",
            hint="check that it is there, and that there is room",
        ) from None


def _extract_stream(stream: IO[bytes], folder: Path | None, kind: str) -> Manifest:
    """Check every file of an archive; with a folder, put them there. Nothing but plain files, nowhere but inside."""
    try:
        with gzip.GzipFile(fileobj=stream) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
            members = iter(archive)
            manifest = _manifest(archive, next(members, None))
            if manifest.kind != kind:
                raise ConfigError(f"this is a backup of a node's {manifest.kind}, not of its {kind}")
            _check_files(archive, members, manifest, folder)
            while plain.read(1 << 20):  # tar ends before the file does: what is cut off in its padding is not whole
                pass
            return manifest
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, ValueError, zlib.error):
        raise ConfigError("the backup is not a whole file", hint=_BROKEN) from None


def _manifest(archive: tarfile.TarFile, first: tarfile.TarInfo | None) -> Manifest:
    if first is None or first.name != MANIFEST or not first.isfile() or first.size > MAX_FILE_BYTES:
        raise ConfigError("the file is not a backup of a node", hint="`pulang backup create` makes one")
    stream = archive.extractfile(first)
    assert stream is not None
    try:
        return Manifest.model_validate_json(stream.read())
    except ValidationError as error:
        raise ConfigError(f"the backup's manifest cannot be used: {complaints(error)}", hint=_BROKEN) from None


def _check_files(
    archive: tarfile.TarFile, members: Iterable[tarfile.TarInfo], manifest: Manifest, folder: Path | None
) -> None:
    missing = dict(manifest.files)
    for member in members:
        expected = missing.pop(member.name, None)
        if expected is None or not member.isfile() or len(manifest.files) > MAX_FILES or not _is_inside(member.name):
            raise ConfigError("the backup holds something its manifest does not name", hint=_BROKEN)
        if member.size > MAX_FILE_BYTES and member.name != DATABASE:
            raise ConfigError(f"{member.name} in the backup is too large to be a node's", hint=_BROKEN)
        stream = archive.extractfile(member)
        assert stream is not None
        if _copy(stream, None if folder is None else folder / member.name) != expected:
            raise ConfigError(f"{member.name} in the backup was changed", hint=_BROKEN)
    if missing:
        raise ConfigError(f"{min(missing)} is missing from the backup", hint=_BROKEN)


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and "\0" not in name


def _copy(stream: IO[bytes], target: Path | None) -> str:
    digest = hashlib.sha256()
    if target is None:
        for block in _blocks(stream):
            digest.update(block)
        return digest.hexdigest()
    make_private_folder(target.parent)
    target.touch(mode=PRIVATE, exist_ok=False)
    with target.open("wb") as out:
        for block in _blocks(stream):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(1 << 20):
        yield block


def _opened(content: bytes | Path) -> IO[bytes]:
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def _digest(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
