"""A federation's repository in memory, with every key at hand: a test edits it, and tells an attack as a story."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from node.pki import changes
from node.pki.membership import Member, epoch_check
from node.pki.proposal import propose, publish, sign_proposal
from node.pki.refresh import Copy, Mirror, reader_of, stored_copy
from node.pki.repository import TIMESTAMP, Signer, parse, signer_of, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from node.home import NodeHome
    from node.pki.proposal import Proposal
    from node.pki.refresh import Read
    from node.pki.repository import Contents, Files

NOW = datetime(2026, 6, 1, 8, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SECRET = bytes(range(32))
KINDS: dict[str, type[Any]] = {each.type: each for each in (Root, Targets, Snapshot, Timestamp)}


def key(name: str) -> Ed25519PrivateKey:
    """Always the same key for a name: tests need no key generation to tell who signs."""
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))


def signer(name: str) -> Signer:
    return signer_of(key(name), name)


def member(code: str) -> Member:
    return Member(code, f"Province {code}", f"127.0.0.1:70{code}")


@dataclass
class World:
    """What is published (`files`), and every key that could have signed it."""

    files: dict[str, bytes]
    signers: tuple[str, ...] = ("18", "31", "32")
    holder: str = "node 18"
    now: datetime = NOW
    history: list[Files] = field(default_factory=list)

    @classmethod
    def found(
        cls,
        *codes: str,
        signers: Sequence[str] = ("18", "31", "32"),
        threshold: int = 2,
        federation: str = "fkd-mpu",
        now: datetime = NOW,
        roots: tuple[str, ...] = (),
        secret: bytes = SECRET,
    ) -> World:
        contents = changes.founding(
            federation,
            tuple(map(signer, signers)),
            threshold,
            (signer("node 18"),),
            epoch_check=epoch_check(secret, 1),
            now=now,
            roots=roots,
        )
        for code in codes or ("33", "35"):
            contents = changes.with_member(contents, member(code))
        world = cls({}, tuple(signers), now=now)
        world.publish(world.sign(propose(contents, None, now)))
        return world

    @property
    def copy(self) -> Copy | None:
        return stored_copy(self.files, self.files["1.root.json"]) if self.files else None

    def sign(self, proposal: Proposal, *names: str) -> Proposal:
        for name in names or self.signers:
            proposal = sign_proposal(proposal, key(name), self.copy)
        return proposal

    def publish(self, proposal: Proposal, holder: str | None = None) -> None:
        if self.files:
            self.history.append(dict(self.files))
        self.files = dict(publish(proposal, self.copy, key(holder or self.holder), self.now))

    def proposal(self, change: Callable[[Contents], Contents], **given: Any) -> Proposal:
        copy = self.copy
        assert copy is not None
        return propose(change(copy.contents), copy, self.now, **given)

    def change(self, change: Callable[[Contents], Contents], *names: str, **given: Any) -> None:
        """Propose, sign by everybody, publish."""
        self.publish(self.sign(self.proposal(change, **given), *names))

    def remove(self, code: str) -> None:
        self.change(lambda contents: changes.without_member(contents, code))

    # --- what an attacker does ---

    def current(self, role: str) -> str:
        """The file of a role's newest metadata."""
        if role == Timestamp.type:
            return TIMESTAMP
        names = [name for name in self.files if name.endswith(f".{role}.json") and "/" not in name]
        return max(names, key=lambda name: int(name.split(".")[0]))

    def signed(self, role: str) -> Metadata[Any]:
        return parse(self.files[self.current(role)], KINDS[role])

    def forge(self, role: str, edit: Callable[[Any], None], *names: str) -> None:
        """Edit a role's metadata where it lies and sign it anew with these keys."""
        metadata = self.signed(role)
        edit(metadata.signed)
        self.put(metadata, names or (self.signers if role in {Root.type, Targets.type} else (self.holder,)))

    def put(self, metadata: Metadata[Any], names: Sequence[str]) -> None:
        from securesystemslib.signer import CryptoSigner  # noqa: PLC0415

        metadata.signatures.clear()
        for name in names:
            metadata.sign(CryptoSigner(key(name)), append=True)
        signed = metadata.signed
        prefix = "" if signed.type == Timestamp.type else f"{signed.version}."
        self.files[f"{prefix}{signed.type}.json"] = to_bytes(metadata)

    def bind(self) -> None:
        """Let snapshot and timestamp name the newest targets and snapshot, as an honest holder would."""
        targets = self.files[self.current(Targets.type)]
        version = parse(targets, Targets).signed.version
        self.forge(Snapshot.type, lambda signed: signed.meta.update({"targets.json": _meta(version, targets)}))
        snapshot = self.files[self.current(Snapshot.type)]
        number = parse(snapshot, Snapshot).signed.version
        self.forge(Timestamp.type, lambda signed: setattr(signed, "snapshot_meta", _meta(number, snapshot)))

    def retime(self, role: str, expires: datetime) -> None:
        self.forge(role, lambda signed: setattr(signed, "expires", expires))
        if role != Timestamp.type:
            self.bind()


def _meta(version: int, data: bytes) -> MetaFile:
    import hashlib  # noqa: PLC0415

    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def read(files: Files) -> Read:
    return reader_of(files)


def join(home: NodeHome, world: World, now: datetime | None = None) -> Mirror:
    """A node that has joined, its copy as the world is now."""
    from node.pki.repository import fingerprint_of  # noqa: PLC0415

    mirror = Mirror(home.tuf)
    mirror.install(world.files, now or world.now, root_sha256=fingerprint_of(world.files["1.root.json"]))
    return mirror


def write(files: Files, folder: Path) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def renew(contents: Contents) -> Contents:
    return replace(contents)
