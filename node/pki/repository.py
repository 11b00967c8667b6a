"""The federation's TUF repository: which files it has, who signs what, and what the signed files say.

Root and targets are signed by a threshold of the signers, offline. Snapshot and timestamp are signed by a node that
holds a timestamp key: there is one targets role, so a snapshot only repeats its version and binds its bytes, and its
signer can do no more than the timestamp's could (hold an update back until the targets expire).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from pydantic import TypeAdapter, ValidationError
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, T, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from node.config import complaints
from node.errors import ConfigError, TrustError
from node.files import PUBLIC, read_file, read_private, write_atomic
from node.pki.keys import parse_private_key
from node.pki.membership import Membership, canonical_json

if TYPE_CHECKING:
    from pathlib import Path

    from tuf.api.metadata import Key

Files = Mapping[str, bytes]  # a whole repository: name -> content

ROOT_LIFE: Final = timedelta(days=365)
TARGETS_LIFE: Final = timedelta(days=30)  # a member that was put out stays with those who never see the newer list
TIMESTAMP_LIFE: Final = timedelta(hours=24)  # so long may a node be kept from hearing of a revocation, and no longer
RESIGN_AFTER: Final = timedelta(hours=4)  # six tries before it expires

DIRECTORY: Final = "members.json"
TIMESTAMP: Final = "timestamp.json"
CURRENT: Final = "current"  # a file with the name of the copy in use: no link, since archives lose those
MAX_ROOT_BYTES: Final = 128 * 1024
MAX_TIMESTAMP_BYTES: Final = 16 * 1024
MAX_SNAPSHOT_BYTES: Final = 64 * 1024
MAX_TARGETS_BYTES: Final = 1 << 20
MAX_TARGET_BYTES: Final = 1 << 20  # one target; the directory is far the largest
MAX_TARGETS: Final = 512  # the directory, and a sealed secret per member and epoch
MAX_FILE_BYTES: Final = max(MAX_ROOT_BYTES, MAX_TARGETS_BYTES, MAX_TARGET_BYTES)
MAX_ROOTS: Final = 256
MAX_KEY_BYTES: Final = 4096
MAX_VERSION: Final = 2**53  # beyond it JSON readers differ, and the contract's 64 bits end
NAME_FIELD: Final = "x-pulang-name"  # of a key: whose it is; beside the key, not part of its id
FOLLOWS_FIELD: Final = "x-pulang-follows"  # of targets: which version of the list this one changes
FEDERATION_FIELD: Final = "x-pulang-federation"  # of a root: else one federation's could be shown to another's nodes
SPECIFICATION: Final = "1.0.31"

TARGET_PATH: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,39}/)?[a-z0-9][a-z0-9._-]{0,79}")
FILE_NAME: Final = re.compile(
    r"timestamp\.json|[1-9][0-9]{0,15}\.(root|snapshot|targets)\.json"
    r"|targets/([a-z0-9][a-z0-9-]{0,39}/)?[0-9a-f]{64}\.[a-z0-9][a-z0-9._-]{0,79}"
)
_SIGNER_NAME: Final = re.compile(r"[^\W_][\w .,'()-]{0,59}")

_COPY: Final = re.compile(r"copy-[A-Za-z0-9._-]{1,80}")
_UNDIRECTED: Final = ("version", "expires_at", "superseded_by")  # a membership's fields that the metadata say instead
_MEMBERSHIP: Final = TypeAdapter(Membership)


class Versions(NamedTuple):
    """Versions of a repository's metadata. Compared in this order: a new root may let the others begin anew."""

    root: int
    timestamp: int
    snapshot: int


@dataclass(frozen=True, slots=True)
class Signer:
    """Somebody whose signature counts. key: the Ed25519 public key, raw, 32 bytes as hexadecimal."""

    name: str
    key: str

    @property
    def keyid(self) -> str:
        """Return the key's name in TUF metadata."""
        return _tuf_key(self).keyid


@dataclass(frozen=True)
class Contents:
    """All that a repository says, as people judge it. `membership` counts but for its version and end."""

    membership: Membership
    signers: tuple[Signer, ...]
    threshold: int
    holders: tuple[Signer, ...]
    """Nodes that hold a timestamp key."""
    targets: Files = field(default_factory=dict)
    """Further targets by path, such as sealed epoch secrets."""

    def check(self) -> None:
        """Raise ConfigError for a set of signers, or a target, that cannot be."""
        everybody = (*self.signers, *self.holders)
        if len({signer.key for signer in everybody}) != len(everybody):
            raise ConfigError("one key stands in it twice", hint="every signer and every node has a key of its own")
        if len({signer.name for signer in self.signers}) != len(self.signers):
            raise ConfigError("two signers have the same name", hint="name them by province: `--signer 35=jatim.pub`")
        for signer in everybody:
            if not _SIGNER_NAME.fullmatch(signer.name):
                raise ConfigError("a signer's name is 1 to 60 letters, digits, spaces and . , ' ( ) -")
        if not 1 <= self.threshold <= len(self.signers):
            raise ConfigError(
                f"a threshold of {self.threshold} cannot be met by {len(self.signers)} signers",
                hint="more than half of the signers is a good threshold: 6 of 10",
            )
        if not self.holders:
            raise ConfigError(
                "no node would hold a timestamp key", hint="make one with `pulang federation timestamp-key`"
            )
        for path, data in self.targets.items():
            if not TARGET_PATH.fullmatch(path) or path == DIRECTORY:
                raise ConfigError(f"{path[:80]!r} is no name for a target", hint="such as epoch-2/35.sealed")
            if len(data) > MAX_TARGET_BYTES:
                raise ConfigError(f"{path} is over {MAX_TARGET_BYTES} bytes")
        if len(self.targets) >= MAX_TARGETS:
            raise ConfigError(f"there are over {MAX_TARGETS} targets")

    @property
    def files(self) -> Files:
        """Return every target by its path, the directory included."""
        return {DIRECTORY: write_directory(self.membership), **self.targets}


def write_directory(membership: Membership) -> bytes:
    """Return the bytes of members.json: the one form of this membership."""
    document = _MEMBERSHIP.dump_python(membership, mode="json")
    return canonical_json({key: value for key, value in document.items() if key not in _UNDIRECTED}) + b"\n"


def read_directory(data: bytes, version: int, expires_at: datetime) -> Membership:
    """Return the membership that a verified members.json says. Raises TrustError for one that makes no sense."""
    try:
        document = json.loads(data)
        given = {"version": version, "expires_at": expires_at.isoformat()}
        membership = _MEMBERSHIP.validate_json(json.dumps({**document, **given, "superseded_by": None}))
        # Of the list as it was signed; a timestamp may end it at any time, also before a clock that is ahead dated it.
        if membership.expires_at > membership.issued_at:
            return membership
        why = "it ends before it begins"
    except ValidationError as error:
        why = complaints(error)
    except (ValueError, TypeError, RecursionError):
        why = "it is not JSON of the form agreed on"
    raise TrustError(f"the signed list of members is not usable: {why}", hint="this node may be older than the others")


def build_root(contents: Contents, version: int, expires: datetime) -> Root:
    """Return the root metadata these contents need, unsigned."""
    named = {FEDERATION_FIELD: contents.membership.federation}
    root = Root(version, SPECIFICATION, expires, consistent_snapshot=True, unrecognized_fields=named)
    for signer in contents.signers:
        for role in (Root.type, Targets.type):
            root.add_key(_tuf_key(signer), role)
    for holder in contents.holders:
        for role in (Snapshot.type, Timestamp.type):
            root.add_key(_tuf_key(holder), role)
    for role in (Root.type, Targets.type):
        root.roles[role].threshold = contents.threshold
    return root


def build_targets(contents: Contents, version: int, expires: datetime, *, follows: int) -> Targets:
    """Return the targets metadata these contents need, unsigned. follows: the version that they change."""
    found = {path: TargetFile.from_data(path, data, ["sha256"]) for path, data in sorted(contents.files.items())}
    return Targets(version, SPECIFICATION, expires, found, unrecognized_fields={FOLLOWS_FIELD: follows})


def read_contents(root: Root, targets: Targets, files: Files) -> Contents:
    """Return what verified metadata say. files: every target by its path. Raises TrustError."""
    membership = read_directory(files[DIRECTORY], targets.version, targets.expires)
    return Contents(
        membership=membership,
        signers=_signers(root, Root.type),
        threshold=root.roles[Root.type].threshold,
        holders=_signers(root, Timestamp.type),
        targets={path: files[path] for path in targets.targets if path != DIRECTORY},
    )


def target_file(target: TargetFile) -> str:
    """Return the name under which a target lies in a repository with consistent snapshots."""
    folder, separator, name = target.path.rpartition("/")
    return f"targets/{folder}{separator}{target.hashes['sha256']}.{name}"


def sign_online(
    root: Metadata[Root], targets: bytes, key: Ed25519PrivateKey, now: datetime, *, above: tuple[int, int] = (0, 0)
) -> Files:
    """Return a new snapshot of exactly these targets, and a timestamp of it.

    above: versions of the snapshot and the timestamp before. Raises TrustError when the root does not know the key.
    """
    found = parse(targets, Targets)
    version = above[0] + 1
    meta = MetaFile(found.signed.version, len(targets), {"sha256": hashlib.sha256(targets).hexdigest()})
    snapshot = sign(Snapshot(version, SPECIFICATION, found.signed.expires, {"targets.json": meta}), key)
    _require_holder(root.signed, key)
    return {
        f"{version}.snapshot.json": snapshot,
        TIMESTAMP: _timestamp(snapshot, version, above[1] + 1, key, now),
    }


def resign_timestamp(files: Files, key: Ed25519PrivateKey, now: datetime, *, above: int = 0) -> bytes:
    """Return a fresh timestamp of the same snapshot. Raises TrustError when the root does not know the key."""
    _require_holder(newest_root(files).signed, key)
    before = parse(files[TIMESTAMP], Timestamp).signed
    snapshot = before.snapshot_meta.version
    return _timestamp(files[f"{snapshot}.snapshot.json"], snapshot, max(before.version, above) + 1, key, now)


def is_holder(files: Files, key: Ed25519PrivateKey) -> bool:
    """Whether the newest root lets this key sign timestamps."""
    return _keyid(key) in newest_root(files).signed.roles[Timestamp.type].keyids


def newest_root(files: Files) -> Metadata[Root]:
    """Return the root of the highest version in a repository."""
    return parse(files[f"{max(root_versions(files))}.root.json"], Root)


def federation_of(root: Root) -> object:
    """Return the federation a root names as its own; whatever stands there, it is signed."""
    return root.unrecognized_fields.get(FEDERATION_FIELD)


def version_followed(targets: Targets) -> object:
    """Return the version a list says that it changes; whatever stands there, it is signed."""
    return targets.unrecognized_fields.get(FOLLOWS_FIELD)


def root_versions(files: Iterable[str]) -> list[int]:
    """Return the versions of all roots in a repository, lowest first. Raises TrustError when there is none."""
    versions = sorted(int(name.split(".")[0]) for name in files if name.endswith(".root.json"))
    if not versions:
        raise TrustError("there is no root metadata", hint="take the whole folder of the repository")
    return versions


def versions_of(names: Iterable[str], timestamp: bytes) -> Versions:
    """Return the versions of a repository, from its files' names and its timestamp. Raises TrustError."""
    signed = parse(timestamp, Timestamp).signed
    return Versions(root_versions(names)[-1], signed.version, signed.snapshot_meta.version)


def sign(signed: Any, key: Ed25519PrivateKey) -> bytes:
    """Return metadata signed by this key alone, as a file."""
    metadata = Metadata(signed)
    add_signature(metadata, key)
    return to_bytes(metadata)


def add_signature(metadata: Metadata[Any], key: Ed25519PrivateKey) -> None:
    """Add one signature, or make it anew."""
    metadata.sign(CryptoSigner(key), append=True)


def to_bytes(metadata: Metadata[Any]) -> bytes:
    """Return metadata as a file."""
    return metadata.to_bytes(JSONSerializer(compact=True))


def parse(data: bytes, kind: type[T]) -> Metadata[T]:
    """Read metadata of one kind; nothing is verified. Raises TrustError."""
    try:
        metadata: Metadata[T] = Metadata.from_bytes(data)
        if metadata.signed.type == kind.type:
            _ = metadata.signed_bytes  # some numbers can be read and never be signed: -0.0
            return metadata
    except (RepositoryError, RecursionError):
        pass  # the library's text may quote the file
    raise TrustError(f"not {kind.type} metadata", hint="copy it again; it may be half-written or another file")


def copy_in_use(folder: Path) -> Path:
    """Return where the files of a repository lie: in the copy that `current` names, else in the folder itself."""
    try:
        name = (folder / CURRENT).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return folder
    return folder / name if _COPY.fullmatch(name) else folder


def read_repository(folder: Path) -> Files:
    """Read the files of a repository; what has another name is passed over. Raises ConfigError."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder", hint="name a repository's folder")
    folder = copy_in_use(folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {name: read_file(folder / name, limit=MAX_FILE_BYTES) for name in names if FILE_NAME.fullmatch(name)}
    if TIMESTAMP not in files:
        raise ConfigError(f"{folder} holds no repository", hint="`pulang federation publish` writes one")
    return files


# --- keys ---


def make_key(path: Path) -> Signer:
    """Make a signing key: `path` (0600) and `path`.pub. An existing file is refused: ConfigError."""
    key = Ed25519PrivateKey.generate()
    write_atomic(path, private_pem(key))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_atomic(path.with_name(f"{path.name}.pub"), public, mode=PUBLIC, replace=True)
    return signer_of(key, path.stem)


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """Return a signing key as its file."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """Read a signing key. Raises ConfigError, or TrustError when others can read it."""
    key = parse_private_key(read_private(path, limit=MAX_KEY_BYTES))
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} is not a signing key", hint="`pulang federation signer-key FILE` makes one")
    return key


def read_signer(name: str, pem: bytes) -> Signer:
    """Read a signer's public key. Raises ConfigError."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(
            f"the key of {name} is not a PEM public key of the kind Ed25519", hint="ask for the file that ends in .pub"
        )
    return Signer(name, key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex())


def signer_of(key: Ed25519PrivateKey, name: str = "") -> Signer:
    """Return the public half of a signing key."""
    return Signer(name, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex())


def fingerprint_of(root: bytes) -> str:
    """Return what is compared by telephone: SHA-256 of a root metadata file, hexadecimal."""
    return hashlib.sha256(root).hexdigest()


def whole(moment: datetime) -> datetime:
    """Return the moment without its fraction of a second: TUF has none."""
    return moment.astimezone(UTC).replace(microsecond=0)


def _timestamp(snapshot: bytes, version: int, number: int, key: Ed25519PrivateKey, now: datetime) -> bytes:
    meta = MetaFile(version, len(snapshot), {"sha256": hashlib.sha256(snapshot).hexdigest()})
    return sign(Timestamp(number, SPECIFICATION, whole(now) + TIMESTAMP_LIFE, meta), key)


def _require_holder(root: Root, key: Ed25519PrivateKey) -> None:
    if _keyid(key) not in root.roles[Timestamp.type].keyids:
        raise TrustError(
            "the federation's root does not know this timestamp key",
            hint="publish where a known one is, or propose this one: `pulang federation propose holders --add`",
        )


def _keyid(key: Ed25519PrivateKey) -> str:
    return signer_of(key).keyid


def _tuf_key(signer: Signer) -> SSlibKey:
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer.key))
    key = SSlibKey.from_crypto(public)
    key.unrecognized_fields[NAME_FIELD] = signer.name
    return key


def _signers(root: Root, role: str) -> tuple[Signer, ...]:
    found = [_signer(root.keys[keyid]) for keyid in root.roles[role].keyids if keyid in root.keys]
    return tuple(sorted(found, key=lambda signer: (signer.name, signer.key)))


def _signer(key: Key) -> Signer:
    name, public = key.unrecognized_fields.get(NAME_FIELD), key.keyval.get("public")
    if not isinstance(name, str) or not isinstance(public, str) or not re.fullmatch("[0-9a-f]{64}", public):
        raise TrustError("the root names a key that is not one of ours", hint="report this to the other signers")
    return Signer(name, public)
