"""Brings a node's copy of the repository up to date: every trust decision is python-tuf's `ngclient`, none is ours.

What came from anywhere, a peer, a folder or the node's own disk, goes through `verified_copy`. Only a whole copy that
passed is written, beside the one in use, and put in its place by replacing one small file.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from node.errors import ConfigError, StoreError, TrustError
from node.files import PUBLIC, make_private_folder, read_file, sync_folder, write_atomic
from node.pki.repository import (
    CURRENT,
    DIRECTORY,
    FILE_NAME,
    MAX_ROOT_BYTES,
    MAX_ROOTS,
    MAX_SNAPSHOT_BYTES,
    MAX_TARGET_BYTES,
    MAX_TARGETS,
    MAX_TARGETS_BYTES,
    MAX_TIMESTAMP_BYTES,
    MAX_VERSION,
    RESIGN_AFTER,
    TARGET_PATH,
    TIMESTAMP,
    TIMESTAMP_LIFE,
    copy_in_use,
    federation_of,
    fingerprint_of,
    is_holder,
    newest_root,
    parse,
    read_contents,
    read_repository,
    read_signing_key,
    resign_timestamp,
    root_versions,
    target_file,
    versions_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from tuf.api.metadata import TargetFile

    from node.pki.membership import Membership
    from node.pki.repository import Contents, Files, Versions

    Read = Callable[[str, int], tuple[bytes, bool] | None]  # (file, offset) -> part and whether it is the last

CONFIG: Final = UpdaterConfig(
    max_root_rotations=MAX_ROOTS,
    max_delegations=0,
    root_max_length=MAX_ROOT_BYTES,
    timestamp_max_length=MAX_TIMESTAMP_BYTES,
    snapshot_max_length=MAX_SNAPSHOT_BYTES,
    targets_max_length=MAX_TARGETS_BYTES,
)
BASE: Final = "tuf/"  # ngclient asks for addresses; ours are file names under this one
REASONS: Final[tuple[tuple[type[RepositoryError | DownloadError], str], ...]] = (
    (UnsignedMetadataError, "it is signed by fewer of the known keys than the threshold"),
    (BadVersionNumberError, "its version is older than, or another than, what is known"),
    (ExpiredMetadataError, "it has expired"),
    (LengthOrHashMismatchError, "its length or hash is not the one that was signed"),
    (DownloadLengthMismatchError, "it is longer than it may be"),
    (RepositoryError, "it is malformed, or of another kind"),
    (DownloadHTTPError, "it is not there"),
    (DownloadError, "it did not come"),
)
REFUSED_HINT: Final = "the copy in use stays; take the repository from another node or signer, and tell them"
JOIN_HINT: Final = "`pulang federation join --repository DIR --root-sha256 HEX` installs it"


@dataclass(frozen=True)
class Copy:
    """A whole repository that ngclient has accepted. versions, ends: of each role's metadata."""

    files: Files
    contents: Contents
    versions: dict[str, int]
    ends: dict[str, datetime]

    @property
    def expires_at(self) -> datetime:
        """Return the earliest end of all."""
        return min(self.ends.values())

    @property
    def membership(self) -> Membership:
        """Return who belongs, until the earliest end."""
        return replace(self.contents.membership, expires_at=self.expires_at)


class PartReader(FetcherInterface):
    """ngclient's way to files: parts by `read`, until the last. Sizes are bounded by ngclient's caller."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.file = ""

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.file, offset = url.removeprefix(BASE), 0
        while True:
            part = self._read(self.file, offset)
            if part is None:
                raise DownloadHTTPError("not there", 404)
            content, last = part
            yield content
            offset += len(content)
            if last:
                return
            if not content:
                raise DownloadError("an empty part that is not the last")


def reader_of(files: Files) -> Read:
    """Return how to read a repository that is in memory."""

    def read(file: str, offset: int) -> tuple[bytes, bool] | None:
        return (files[file][offset:], True) if file in files else None

    return read


def verified_copy(read: Read, trusted_root: bytes, now: datetime, *, known: Files | None = None) -> Copy:
    """Read a whole repository and return it if ngclient accepts all of it as of `now`.

    trusted_root: the first root, trusted beforehand. known: the copy in use, whose versions must not go back.
    Raises TrustError naming the file and the reason; StoreError for a full disk; whatever `read` raises.
    """
    fetcher = PartReader(read)
    try:
        with _work_folder() as work:
            return _updated(work, fetcher, trusted_root, now, known or {})
    except (RepositoryError, DownloadError) as error:
        raise _refusal(fetcher.file, error) from None
    except ValueError:  # a root that does not name a role: ngclient lets it through as it is
        raise TrustError(f"{fetcher.file or 'the root'}: it is malformed", hint=REFUSED_HINT) from None
    except OSError as error:
        raise StoreError(f"metadata cannot be written: {error.strerror}", hint="free space on the disk") from error


def _updated(work: Path, fetcher: PartReader, trusted_root: bytes, now: datetime, known: Files) -> Copy:
    """Let ngclient do its work in a folder of its own, and return what it has accepted. Raises its errors."""
    _seed(work, known)
    updater = Updater(
        str(work),
        BASE,
        target_dir=str(work / "targets"),
        target_base_url=f"{BASE}targets/",
        fetcher=fetcher,
        config=CONFIG,
        bootstrap=trusted_root,
    )
    # ngclient reads the clock by itself; here, as everywhere, time comes in.
    updater._trusted_set.reference_time = now  # noqa: SLF001
    updater.refresh()
    targets = parse((work / "targets.json").read_bytes(), Targets).signed
    _check_targets(targets)
    bodies = {
        path: _target(updater, target, known.get(target_file(target)))
        for path, target in sorted(targets.targets.items())
    }
    return _collect(work, targets, bodies, known)


def stored_copy(files: Files, trusted_root: bytes) -> Copy:
    """Verify a whole repository that is at hand, expired or not. Raises TrustError.

    Signatures, hashes and versions are judged as of a moment when it was still valid; what has ended since is for
    `Membership.check_validity` to say.
    """
    try:
        timestamp = parse(files[TIMESTAMP], Timestamp).signed
        snapshot = parse(files[f"{timestamp.snapshot_meta.version}.snapshot.json"], Snapshot).signed
        targets = parse(files[f"{snapshot.meta['targets.json'].version}.targets.json"], Targets).signed
        ends = (newest_root(files).signed.expires, timestamp.expires, snapshot.expires, targets.expires)
    except KeyError as missing:
        raise TrustError(
            f"{missing.args[0]}: it is not there", hint="take the whole folder of the repository"
        ) from None
    return verified_copy(reader_of(files), trusted_root, min(ends) - timedelta(seconds=1))


class Mirror:
    """A copy of the repository in a folder: a node's own, or one that signers keep. One writer at a time.

    root.json is the first root, `current` names the copy in use, timestamp.key is there where timestamps are signed.
    What was seen is kept beside the folder, so that older files put back into it are noticed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.key = folder / "timestamp.key"
        self.seen = folder.with_name(f"{folder.name}-seen.json")

    @property
    def current(self) -> Path:
        """Return the file that is replaced whenever the copy is."""
        return self._folder / CURRENT

    def trusted_root(self) -> bytes:
        """Return the root this node trusts since it joined. Raises ConfigError when it has not."""
        return read_file(self._folder / "root.json", limit=MAX_ROOT_BYTES, hint=JOIN_HINT)

    def files(self) -> Files:
        """Return the copy as it lies there. Raises ConfigError."""
        if not self.current.exists():
            raise ConfigError(f"{self._folder} holds no membership yet", hint=JOIN_HINT)
        return read_repository(self._folder)

    def versions(self) -> Versions:
        """Return the versions of the copy in use. Raises ConfigError or TrustError."""
        folder = copy_in_use(self._folder)  # once: it may be replaced between two looks
        timestamp = read_file(folder / TIMESTAMP, limit=MAX_TIMESTAMP_BYTES, hint=JOIN_HINT)
        return versions_of((path.name for path in folder.iterdir()), timestamp)

    def read(self, file: str, offset: int, size: int) -> tuple[bytes, bool] | None:
        """Return a part of one file of the copy for somebody else, and whether it is the last; None: not there."""
        if not FILE_NAME.fullmatch(file):
            return None
        try:
            with (copy_in_use(self._folder) / file).open("rb") as stream:
                stream.seek(offset)
                data = stream.read(size + 1)
        except OSError:
            return None
        return data[:size], len(data) <= size

    def load(self) -> Copy:
        """Return the copy in use, verified, expired or not. Raises ConfigError or TrustError."""
        copy = stored_copy(self.files(), self.trusted_root())
        seen = self._seen()
        if (copy.versions[Root.type], copy.versions[Timestamp.type]) < seen:
            membership = replace(copy.contents.membership, superseded_by=seen[1])
            copy = replace(copy, contents=replace(copy.contents, membership=membership))
        return copy

    def take(self, read: Read, now: datetime) -> Copy | None:
        """Bring the copy up to date from somewhere. None: it was. Raises as verified_copy does, and changes nothing."""
        with self._locked():
            known = {**self._extra_roots(), **self._known()}
            extra = _Roots(read)
            try:
                copy = verified_copy(extra.read, self.trusted_root(), now, known=known)
            except TrustError:
                self._keep_roots(known, extra.seen)
                raise
            if (copy.versions[Root.type], copy.versions[Timestamp.type]) < self._seen():
                raise TrustError(f"{TIMESTAMP}: {REASONS[1][1]}")
            if all(known.get(name) == data for name, data in copy.files.items()) and self.current.exists():
                return None
            self._publish(copy)
            return copy

    def check(self, files: Files, now: datetime, *, root_sha256: str | None = None) -> Copy:
        """Return what `install` would take, writing nothing. Raises as it does."""
        return verified_copy(reader_of(files), self._first_root(files, root_sha256), now, known=self._known())

    def install(self, files: Files, now: datetime, *, root_sha256: str | None = None) -> Copy:
        """Take a repository that is at hand; the first time, trust its first root if that is its SHA-256.

        Raises ConfigError, TrustError or StoreError; nothing is changed then.
        """
        first = self._first_root(files, root_sha256)
        if not (self._folder / "root.json").exists():
            self.check(files, now, root_sha256=root_sha256)
            make_private_folder(self._folder)
            write_atomic(self._folder / "root.json", first, mode=PUBLIC)
        return self.take(reader_of(files), now) or self.load()

    def _first_root(self, files: Files, root_sha256: str | None) -> bytes:
        if (self._folder / "root.json").exists():
            first = self.trusted_root()
            if root_sha256 is not None and fingerprint_of(first) != root_sha256.lower():
                raise TrustError(
                    "the root is not the one this node trusts",
                    hint=f"ask the other signers; to begin anew in another federation, move {self._folder} away",
                )
            return first
        if root_sha256 is None:
            raise ConfigError(
                "this node trusts no root yet",
                hint="compare the SHA-256 of 1.root.json by telephone and give it with --root-sha256",
            )
        first = files.get(f"{root_versions(files)[0]}.root.json", b"")
        if fingerprint_of(first) != root_sha256.lower():
            raise TrustError(
                f"the repository's first root has SHA-256 {fingerprint_of(first)}",
                hint="it must be the one that was told by another channel: this may be another federation",
            )
        return first

    def resign(self, now: datetime, *, above: int = 0, even_if_fresh: bool = False) -> Copy | None:
        """Make a fresh timestamp if this node holds a key for it and the present one is hours old. None: not needed.

        above: a version that must be passed. Raises ConfigError, TrustError or StoreError.
        """
        if not self.key.exists() or not self.current.exists():
            return None
        key = read_signing_key(self.key)
        with self._locked():
            copy = self.load()
            made_at = parse(copy.files[TIMESTAMP], Timestamp).signed.expires - TIMESTAMP_LIFE
            if copy.membership.superseded_by is not None or not is_holder(copy.files, key):
                return None
            if now - made_at < RESIGN_AFTER and not even_if_fresh:
                return None
            files = {**copy.files, TIMESTAMP: resign_timestamp(copy.files, key, now, above=above)}
            fresh = verified_copy(reader_of(files), self.trusted_root(), now, known=copy.files)
            self._publish(fresh)
            return fresh

    def outrun(self, timestamp: bytes, now: datetime) -> Copy | None:
        """Sign above a timestamp of another holder that points at an older snapshot than ours. None: it does not.

        Two holders may sign at the same moment, one of them not knowing yet what the other has published. Nodes that
        took its timestamp would wait for a higher one. Raises TrustError for a timestamp no holder has signed.
        """
        files = self.files()
        theirs = parse(timestamp, Timestamp)
        try:
            newest_root(files).signed.verify_delegate(Timestamp.type, theirs.signed_bytes, theirs.signatures)
        except UnsignedMetadataError as error:
            raise _refusal(TIMESTAMP, error) from None
        mine = versions_of(files, files[TIMESTAMP])
        if theirs.signed.version < mine.timestamp or theirs.signed.snapshot_meta.version >= mine.snapshot:
            return None
        return self.resign(now, above=theirs.signed.version, even_if_fresh=True)

    def _publish(self, copy: Copy) -> None:
        """Write a whole copy beside the one in use and put it in its place. At any moment one of them is whole."""
        make_private_folder(self._folder)
        name = f"copy-{copy.versions[Root.type]}-{copy.versions[Timestamp.type]}"
        before = copy_in_use(self._folder)
        try:
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._folder))
            try:
                for file, data in copy.files.items():
                    make_private_folder((folder / file).parent)
                    write_atomic(folder / file, data, mode=PUBLIC)
                sync_folder(folder)
                write_atomic(self.current, folder.name.encode() + b"\n", mode=PUBLIC, replace=True)
            finally:
                if copy_in_use(self._folder) != folder:
                    _remove(folder)
        except OSError as error:
            raise StoreError(
                f"{self._folder} cannot be written: {error.strerror}", hint="check the folder and the disk's free space"
            ) from error
        self._note_seen(copy)
        for old in self._folder.glob("copy-*"):
            if old not in {folder, before}:  # somebody may be reading the one before
                _remove(old)

    def _seen(self) -> tuple[int, int]:
        try:
            document = json.loads(self.seen.read_bytes())
            return int(document["root"]), int(document["timestamp"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0  # it only ever adds to what the copy itself says

    def _note_seen(self, copy: Copy) -> None:
        seen = {"root": copy.versions[Root.type], "timestamp": copy.versions[Timestamp.type]}
        write_atomic(self.seen, json.dumps(seen).encode() + b"\n", replace=True)

    def _known(self) -> Files:
        try:
            return self.files()
        except ConfigError:
            return {}  # none yet, or too damaged to hold anything back

    def _extra_roots(self) -> Files:
        folder = self._folder / "roots"
        if not folder.is_dir():
            return {}
        names = (path.name for path in folder.iterdir() if re.fullmatch(r"[1-9][0-9]*\.root\.json", path.name))
        return {name: read_file(folder / name, limit=MAX_ROOT_BYTES) for name in names}

    def _keep_roots(self, known: Files, read: Files) -> None:
        """Keep new roots although the rest was refused: keys that they dropped must not count again meanwhile."""
        root = newest_root(known) if known else parse(self.trusted_root(), Root)
        for version in range(root.signed.version + 1, root.signed.version + MAX_ROOTS):
            name = f"{version}.root.json"
            if name not in read:
                return
            try:
                following = parse(read[name], Root)
                for judge in (root.signed, following.signed):
                    judge.verify_delegate(Root.type, following.signed_bytes, following.signatures)
            except (TrustError, RepositoryError, ValueError):
                return
            if following.signed.version != version or federation_of(following.signed) != federation_of(root.signed):
                return
            make_private_folder(self._folder / "roots")
            write_atomic(self._folder / "roots" / name, read[name], mode=PUBLIC, replace=True)
            root = following

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_private_folder(self._folder)
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class _Roots:
    """Reads on, and remembers the roots that passed by."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.seen: dict[str, bytes] = {}

    def read(self, file: str, offset: int) -> tuple[bytes, bool] | None:
        part = self._read(file, offset)
        if part is not None and file.endswith(".root.json"):
            self.seen[file] = self.seen.get(file, b"")[:offset] + part[0]
        return part


@contextmanager
def _work_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pulang-tuf-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _seed(work: Path, known: Files) -> None:
    """Lay the copy in use out as ngclient keeps its own, so that its versions cannot go back."""
    (work / "root_history").mkdir()
    for name, data in known.items():
        if name.endswith(".root.json"):
            (work / "root_history" / name).write_bytes(data)
    for role in ("timestamp", "snapshot", "targets"):
        names = [name for name in known if re.fullmatch(rf"([0-9]+\.)?{role}\.json", name)]  # a copy has one of each
        if names:
            (work / f"{role}.json").write_bytes(known[max(names)])


def _check_targets(targets: Targets) -> None:
    """Raise TrustError for signed targets that are not what this program signs."""
    if len(targets.targets) > MAX_TARGETS or DIRECTORY not in targets.targets or targets.delegations is not None:
        raise TrustError("targets.json: it does not list what it must", hint="this node may be older than the others")
    for path, target in targets.targets.items():
        if not TARGET_PATH.fullmatch(path) or set(target.hashes) != {"sha256"} or target.length > MAX_TARGET_BYTES:
            raise TrustError("targets.json: it lists what it may not", hint="this node may be older than the others")


def _target(updater: Updater, target: TargetFile, known: bytes | None) -> bytes:
    if known is not None:
        with suppress(LengthOrHashMismatchError):  # damaged on the disk: the good one is fetched
            target.verify_length_and_hashes(known)
            return known
    return Path(updater.download_target(target)).read_bytes()


def _collect(work: Path, targets: Targets, bodies: Files, known: Files) -> Copy:
    history = work / "root_history"
    newest = int((work / "root.json").resolve().name.split(".")[0])
    roots = {path.name: path.read_bytes() for path in history.iterdir() if int(path.name.split(".")[0]) <= newest}
    timestamp = parse((work / TIMESTAMP).read_bytes(), Timestamp).signed
    snapshot = parse((work / "snapshot.json").read_bytes(), Snapshot).signed
    root = parse(roots[f"{newest}.root.json"], Root).signed
    every = (root, timestamp, snapshot, targets)
    if max(signed.version for signed in every) > MAX_VERSION:
        raise TrustError("a version in it is higher than any can be", hint=REFUSED_HINT)
    # A version is one list: whoever holds a timestamp key may not put another in its place that was signed as well.
    name = f"{targets.version}.targets.json"
    if name in known and _is_another_list(known[name], (work / "targets.json").read_bytes()):
        raise TrustError("targets.json: another list of this version is here already", hint=REFUSED_HINT)
    contents = read_contents(root, targets, bodies)
    # Signers may have used one key for two federations: what they signed for the one is nothing to the other.
    if {federation_of(parse(data, Root).signed) for data in roots.values()} != {contents.membership.federation}:
        raise TrustError("the root and the list of members are not of one federation", hint=REFUSED_HINT)
    return Copy(
        files={
            **dict(sorted(roots.items(), key=lambda item: int(item[0].split(".")[0]))),
            f"{targets.version}.targets.json": (work / "targets.json").read_bytes(),
            f"{snapshot.version}.snapshot.json": (work / "snapshot.json").read_bytes(),
            TIMESTAMP: (work / TIMESTAMP).read_bytes(),
            **{target_file(target): bodies[path] for path, target in sorted(targets.targets.items())},
        },
        contents=contents,
        versions={signed.type: signed.version for signed in every},
        ends={signed.type: signed.expires for signed in every},
    )


def _is_another_list(before: bytes, now: bytes) -> bool:
    """Whether two files of one version say different things; other signatures under the same list are no difference."""
    try:
        return parse(before, Targets).signed_bytes != parse(now, Targets).signed_bytes
    except TrustError:
        return False  # damaged on the disk: the good one replaces it


def _refusal(file: str, error: RepositoryError | DownloadError) -> TrustError:
    # ngclient's own text may quote the file; ours never does. Of what has expired, only that text knows the role.
    if isinstance(error, ExpiredMetadataError) and (role := re.search("root|timestamp|snapshot|targets", str(error))):
        file = f"{role.group()}.json"
    reason = next(text for kind, text in REASONS if isinstance(error, kind))
    return TrustError(f"{file or 'the root'}: {reason}", hint=REFUSED_HINT)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
