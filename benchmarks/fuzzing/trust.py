"""What trust is made of: the membership's metadata, proposals, certificates, requests, sealed secrets, keys."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from benchmarks.fuzzing.files import write_private
from benchmarks.fuzzing.mutate import behind, json_lines, json_value
from benchmarks.fuzzing.target import EPOCH, FEDERATION, NOW, PROVINCE, Target
from matching.errors import SchemaError
from matching.keys import load_secret
from node.config import make_config, write_config
from node.errors import NodeError
from node.home import NodeHome
from node.local_key import load_local_key
from node.pki.authority import Authority
from node.pki.changes import founding
from node.pki.credentials import load_credentials, request_certificate
from node.pki.epoch_secrets import ensure_sealing_key, load_sealing_key, read_sealed, seal
from node.pki.identity import Identity
from node.pki.intermediate import ProvinceAuthority
from node.pki.logkey import load_log_key
from node.pki.membership import canonical_json, make_member
from node.pki.proposal import check_proposal, propose, publish, read_proposal, sign_proposal, tallies
from node.pki.refresh import reader_of, verified_copy
from node.pki.register import Reason, Register, read_revocation, revocation_json
from node.pki.renewal import renew
from node.pki.repository import (
    TARGETS_LIFE,
    TIMESTAMP,
    make_key,
    read_directory,
    read_signer,
    read_signing_key,
    signer_of,
    write_directory,
)
from node.pki.request import requested_key
from node.pki.stages import IssuerFolder
from node.pki.trust import read_certificates, verify_chain, verify_peer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from node.pki.membership import Membership
    from node.pki.proposal import Proposal
    from node.pki.repository import Files

SIGNERS: Final = 3
_Key = Any  # as read_signing_key returns it: the law keeps the type's name in node/pki
SECRET: Final = bytes(range(32))


class _World:
    """A federation of one province, with its authority, its node, its signers and what they have published."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority.found(folder / "authority", FEDERATION, NOW)
        self.home = NodeHome(folder / "node")
        write_config(self.home, make_config(federation=FEDERATION, province=PROVINCE))
        self.own = ProvinceAuthority(self.home)
        self.request = self.own.prepare(NOW)
        self.intermediate = self.authority.issue_intermediate(self.request, PROVINCE, NOW)
        self.own.install(self.intermediate, NOW, roots_pem=self.authority.root_pem)
        self.own.activate(NOW)
        self.chain = self.own.issue(request_certificate(self.home), NOW)
        for name in (*(f"s{number}" for number in range(SIGNERS)), "holder"):
            make_key(folder / f"{name}.key")
        self.signers = [read_signing_key(folder / f"s{number}.key") for number in range(SIGNERS)]
        self.holder = read_signing_key(folder / "holder.key")
        self.public_key = (folder / "s0.key.pub").read_bytes()

    @property
    def founding(self) -> Proposal:
        """Return a founding proposal, unsigned."""
        contents = founding(
            FEDERATION,
            tuple(signer_of(key, f"signer {number}") for number, key in enumerate(self.signers)),
            SIGNERS - 1,
            (signer_of(self.holder, "node"),),
            epoch_check="0" * 32,
            now=NOW,
        )
        member = make_member(PROVINCE, "Jawa Tengah", "127.0.0.1:7035", intermediates=(self.intermediate.decode(),))
        roots = (self.authority.root_pem.decode(),)
        membership = replace(contents.membership, members=(member,), roots=roots)
        return propose(replace(contents, membership=membership), None, NOW)

    def published(self, proposal: Proposal) -> Files:
        """Return the repository after everybody has signed."""
        for key in self.signers:
            proposal = sign_proposal(proposal, key, None)
        return publish(proposal, None, self.holder, NOW)

    @property
    def membership(self) -> Membership:
        """Return the membership as it is founded."""
        return self.founding.contents(None).membership


def metadata(folder: Path) -> Target:
    """Take a repository from another node, one of whose files is not as it was. The first byte says which."""
    world = _World(folder)
    files = dict(world.published(world.founding))
    names = sorted(files)

    def feed(data: bytes) -> object:
        changed = dict(files)
        if data:
            changed[names[data[0] % len(names)]] = data[1:]
        return verified_copy(reader_of(changed), files["1.root.json"], NOW + timedelta(minutes=1))

    seeds = [bytes([place]) + files[name] for place, name in enumerate(names)]
    return Target(feed, (NodeError,), seeds, behind(1, json_value))


def signed_metadata(folder: Path) -> Target:
    """Take a repository whose timestamp, snapshot or targets say something odd over true signatures."""
    world = _World(folder)
    files = dict(world.published(world.founding))
    names = [name for name in sorted(files) if name.endswith((TIMESTAMP, ".snapshot.json", ".targets.json"))]

    def feed(data: bytes) -> object:
        if not data:
            return None
        name = names[data[0] % len(names)]
        keys = world.signers if name.endswith(".targets.json") else [world.holder]
        changed = _bound(files, name, _signed(data[1:], keys), world.holder)
        return verified_copy(reader_of(changed), files["1.root.json"], NOW + timedelta(minutes=1))

    seeds = [
        bytes([place]) + json.dumps(json.loads(files[name])["signed"]).encode() for place, name in enumerate(names)
    ]
    return Target(feed, (NodeError,), seeds, behind(1, json_value))


def _signed(text: bytes, keys: Sequence[_Key]) -> bytes:
    """Return metadata that say `text` over signatures of these keys; true ones, unless its letters are unusual."""
    try:
        signed = json.loads(text)
        body = canonical_json(signed)
    except (ValueError, RecursionError):
        return text
    signatures = [{"keyid": signer_of(key).keyid, "sig": key.sign(body).hex()} for key in keys]
    return json.dumps({"signatures": signatures, "signed": signed}).encode()


def _bound(files: Files, name: str, content: bytes, holder: _Key) -> Files:
    """Return a repository in which one file is another, and those above it name that one."""
    changed = {**files, name: content}
    for above, below in (("1.snapshot.json", "1.targets.json"), (TIMESTAMP, "1.snapshot.json")):
        if changed[below] is not files[below]:
            says = json.loads(files[above])["signed"]
            facts = {"length": len(changed[below]), "hashes": {"sha256": hashlib.sha256(changed[below]).hexdigest()}}
            says["meta"][below.removeprefix("1.")] |= facts
            changed[above] = _signed(json.dumps(says).encode(), [holder])
    return changed


def directory(folder: Path) -> Target:
    """Read a list of members that the signers have signed."""
    honest = write_directory(_World(folder).membership)

    def feed(data: bytes) -> object:
        return read_directory(data, 3, NOW + TARGETS_LIFE)

    return Target(feed, (NodeError,), [honest], json_value)


def proposal(folder: Path) -> Target:
    """Read a proposal as a signer does before signing."""
    world = _World(folder)
    unsigned = world.founding
    signed = sign_proposal(unsigned, world.signers[0], None)

    def feed(data: bytes) -> object:
        found = read_proposal(data)
        return tallies(found, check_proposal(found, None), None)

    return Target(feed, (NodeError,), [unsigned.to_bytes(), signed.to_bytes()], json_value)


def certificates(folder: Path) -> Target:
    """Read and verify a chain of certificates in PEM."""
    world = _World(folder)
    chain, root = world.chain, world.authority.root_pem

    def feed(data: bytes) -> object:
        return verify_chain(read_certificates(data, "the chain"), read_certificates(root, "the root"))

    return Target(feed, (NodeError,), [chain, root, chain + root, b"-----BEGIN CERTIFICATE-----\n"])


def caller(folder: Path) -> Target:
    """Judge the certificate that a caller shows."""
    world = _World(folder)
    membership = world.membership
    leaf = world.chain[: world.chain.index(b"-----END CERTIFICATE-----") + 26]

    def feed(data: bytes) -> object:
        return verify_peer(data, membership, NOW + timedelta(minutes=1))

    return Target(feed, (NodeError,), [leaf, world.intermediate, world.authority.root_pem])


def request(folder: Path) -> Target:
    """Read a request for a certificate, as the authority gets it."""
    world = _World(folder)
    identity = Identity(FEDERATION, PROVINCE)
    return Target(lambda data: requested_key(data, identity), (NodeError,), [world.request])


def credentials(folder: Path) -> Target:
    """Read the slot of the node's key and certificate."""
    world = _World(folder)
    renew(world.home, NOW)
    slot = world.home.pki / "current.pem"
    honest = slot.read_bytes()

    def feed(data: bytes) -> object:
        write_private(slot, data)
        return load_credentials(world.home, NOW + timedelta(minutes=1))

    return Target(feed, (NodeError,), [honest])


def issuers(folder: Path) -> Target:
    """Read the stages of a province's intermediates."""
    world = _World(folder)
    issuer_folder = IssuerFolder(world.home.ca)
    honest = issuer_folder.path.read_bytes()

    def feed(data: bytes) -> object:
        write_private(issuer_folder.path, data)
        return [(each.stage, each.certificate) for each in issuer_folder.read() if each.pem is not None]

    return Target(feed, (NodeError,), [honest], json_value)


def register(folder: Path) -> Target:
    """Read the register of certificates."""
    world = _World(folder)
    path = world.home.ca / "issued.jsonl"
    found = Register(path)
    found.revoke(found.issued()[0].serial, Reason.KEY_COMPROMISE, NOW)
    honest = path.read_bytes()

    def feed(data: bytes) -> object:
        write_private(path, data)
        return found.issued(), found.revocations()

    return Target(feed, (NodeError,), [honest], json_lines)


def revocation(folder: Path) -> Target:
    """Read the file that brings a revocation to the signers."""
    world = _World(folder)
    found = Register(world.home.ca / "issued.jsonl")
    honest = revocation_json(found.revoke(found.issued()[0].serial, Reason.KEY_COMPROMISE, NOW))
    return Target(read_revocation, (NodeError,), [honest], json_value)


def sealed_secret(folder: Path) -> Target:
    """Read and open the sealed secret of an epoch."""
    home = NodeHome(folder / "node")
    key = ensure_sealing_key(home)
    honest = seal(SECRET, key.public_hex, federation=FEDERATION, province=PROVINCE, epoch=EPOCH)

    def feed(data: bytes) -> object:
        return key.open(read_sealed(data))

    return Target(feed, (NodeError,), [honest], json_value)


def key_files(folder: Path) -> Target:
    """Read a file that holds a key. The first byte says which kind."""
    world = _World(folder)
    path = folder / "key"
    ensure_sealing_key(world.home)
    load_local_key(folder / "local.key", lost="-")
    load_log_key(folder / "log.key", "log")

    def written(read: Callable[[], object]) -> Callable[[bytes], object]:
        def feed(data: bytes) -> object:
            write_private(path, data)
            return read()

        return feed

    def sealing(data: bytes) -> object:
        write_private(world.home.sealing_key, data)
        return load_sealing_key(world.home)

    sealed = world.home.sealing_key.read_bytes()
    readers: tuple[tuple[Callable[[bytes], object], bytes], ...] = (
        (written(lambda: read_signing_key(path)), (folder / "s0.key").read_bytes()),
        (written(lambda: load_log_key(path, "log")), (folder / "log.key").read_bytes()),
        (written(lambda: load_local_key(path, lost="-")), (folder / "local.key").read_bytes()),
        (lambda data: read_signer("a signer", data), world.public_key),
        (sealing, sealed),
        (lambda data: load_secret(data.decode("ascii", errors="replace")), SECRET.hex().encode() + b"\n"),
    )

    def feed(data: bytes) -> object:
        return readers[data[0] % len(readers)][0](data[1:]) if data else None

    seeds = [bytes([place]) + honest for place, (_, honest) in enumerate(readers)]
    return Target(feed, (NodeError, SchemaError), seeds)
