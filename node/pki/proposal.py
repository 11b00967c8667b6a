"""A change of the federation on its way from signer to signer: one file that says all, and nobody edits unseen."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from node.errors import TrustError
from node.pki.membership import CLOCK_TOLERANCE, canonical_json
from node.pki.refresh import reader_of, verified_copy
from node.pki.repository import (
    DIRECTORY,
    MAX_TARGETS,
    ROOT_LIFE,
    TARGETS_LIFE,
    TIMESTAMP,
    Contents,
    add_signature,
    build_root,
    build_targets,
    newest_root,
    parse,
    read_contents,
    sign_online,
    signer_of,
    target_file,
    to_bytes,
    version_followed,
    whole,
)

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from node.pki.refresh import Copy
    from node.pki.repository import Files, Signer

FORMAT: Final = "pulang-proposal-1"
MAX_PROPOSAL_BYTES: Final = 16 << 20
MAX_SKIPPED: Final = 64
EDITED_HINT: Final = "do not sign it; ask who sent it for the file as it was proposed"


@dataclass(frozen=True)
class Proposal:
    """New targets, and a new root where signers, thresholds or timestamp keys change, with the signatures so far."""

    root: Metadata[Root] | None
    targets: Metadata[Targets]
    files: Files

    @property
    def is_founding(self) -> bool:
        """Whether it follows nothing."""
        return version_followed(self.targets.signed) == 0

    @property
    def is_signed(self) -> bool:
        """Whether anybody has signed it: then it can no longer be changed."""
        return bool(self.targets.signatures or (self.root and self.root.signatures))

    def contents(self, published: Copy | None) -> Contents:
        """Return what the repository would say. Raises TrustError."""
        if self.root is None and published is None:
            raise TrustError(
                "the proposal has no root, and nothing is published here", hint="name the right repository"
            )
        root = self.root.signed if self.root else newest_root(_published(published).files).signed
        return read_contents(root, self.targets.signed, self.files)

    def to_bytes(self) -> bytes:
        """Return the file that travels."""
        document = {
            "format": FORMAT,
            "root": None if self.root is None else self.root.to_dict(),
            "targets": self.targets.to_dict(),
            "files": {path: base64.b64encode(data).decode("ascii") for path, data in self.files.items()},
        }
        return canonical_json(document) + b"\n"


def read_proposal(data: bytes) -> Proposal:
    """Read a proposal. Signatures are not judged here. Raises TrustError."""
    try:
        document = json.loads(data)
        _require(document.keys() == {"format", "root", "targets", "files"} and document["format"] == FORMAT)
        _require(len(document["files"]) <= MAX_TARGETS)
        root = None if document["root"] is None else parse(json.dumps(document["root"]).encode(), Root)
        targets = parse(json.dumps(document["targets"]).encode(), Targets)
        files = {path: base64.b64decode(text, validate=True) for path, text in document["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise TrustError("the file is not a proposal", hint="copy it again; it may be half-written or edited") from None
    if set(files) != set(targets.signed.targets) or DIRECTORY not in files:
        raise TrustError("the proposal's files are not those its targets name", hint=EDITED_HINT)
    for path, target in targets.signed.targets.items():
        try:
            target.verify_length_and_hashes(files[path])
        except RepositoryError:
            raise TrustError(f"{path} in the proposal is not the file its targets name", hint=EDITED_HINT) from None
    return Proposal(root, targets, files)


def propose(
    contents: Contents, published: Copy | None, now: datetime, *, renew_root: bool = False, skip: int = 0
) -> Proposal:
    """Return an unsigned proposal of these contents on top of what is published; None: it founds a federation.

    skip: how many versions of the list to leave out: of proposals that were given up with signatures on them.
    Raises ConfigError when the contents cannot be.
    """
    now = whole(now)
    contents = replace(contents, membership=replace(contents.membership, issued_at=now, expires_at=now + TARGETS_LIFE))
    contents.check()
    base = published.versions if published else {Root.type: 0, Targets.type: 0}
    follows = base[Targets.type]
    targets = build_targets(contents, follows + 1 + skip, now + TARGETS_LIFE, follows=follows)
    root = None
    if published is None or renew_root or not _same_signers(contents, published.contents):
        root = Metadata(build_root(contents, base[Root.type] + 1, now + ROOT_LIFE))
    return Proposal(root, Metadata(targets), contents.files)


def check_proposal(proposal: Proposal, published: Copy | None) -> Contents:
    """Return what the proposal would make the repository say, if it is nothing but that and every signature fits.

    Raises TrustError: of another federation, not on top of what is published, edited, with something nobody is shown.
    """
    contents = proposal.contents(published)
    contents.check()
    base = published.versions if published else {Root.type: 0, Targets.type: 0}
    targets, root = proposal.targets.signed, proposal.root.signed if proposal.root else None
    if published and contents.membership.federation != published.contents.membership.federation:
        raise TrustError(
            f"the proposal is of {contents.membership.federation}, and this is "
            f"{published.contents.membership.federation}",
            hint="name the repository of the right federation",
        )
    follows = base[Targets.type]
    is_next = version_followed(targets) == follows and follows < targets.version <= follows + 1 + MAX_SKIPPED
    if not is_next or (root and root.version != base[Root.type] + 1):
        raise TrustError(
            f"the proposal makes version {targets.version} of another than version {follows}, which is published here",
            hint="take the newest repository; if another proposal was published first, make this one anew",
        )
    issued_at = contents.membership.issued_at
    if targets.expires != issued_at + TARGETS_LIFE or (root and root.expires != issued_at + ROOT_LIFE):
        raise TrustError("the proposal's dates do not follow from the day it was made", hint=EDITED_HINT)
    # What is signed must be exactly what is shown: built from what people read, it must come out the same.
    expected = build_targets(contents, targets.version, targets.expires, follows=follows)
    same = targets.to_dict() == expected.to_dict()
    if root is not None:
        same = same and root.to_dict() == build_root(contents, root.version, root.expires).to_dict()
    if not same:
        raise TrustError("the proposal says something that no reader is shown", hint=EDITED_HINT)
    _check_signatures(proposal, contents, published)
    return contents


def sign_proposal(proposal: Proposal, key: Ed25519PrivateKey, published: Copy | None) -> Proposal:
    """Return the proposal with this key's signatures. Raises as check_proposal does, and for a key of no signer."""
    contents = check_proposal(proposal, published)
    mine = signer_of(key)
    judges = _judges(proposal, contents, published)
    signing = [metadata for metadata, signers, _ in judges if mine.key in {signer.key for signer in signers}]
    if not signing:
        raise TrustError(
            "this key is no signer's, neither before nor after the change",
            hint="`pulang federation show` lists the signers; sign with the key of one of them",
        )
    again = read_proposal(proposal.to_bytes())  # a copy: what was given stays as it is
    for metadata in {id(each): each for each in signing}.values():
        add_signature(_same_part(again, metadata), key)
    return again


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a proposal is with one group of signers."""

    what: str
    threshold: int
    signed: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def is_met(self) -> bool:
        """Whether enough have signed."""
        return len(self.signed) >= self.threshold


def tallies(proposal: Proposal, contents: Contents, published: Copy | None) -> tuple[Tally, ...]:
    """Return who has signed and who has not, for every group whose threshold must be met."""
    found = []
    for (metadata, signers, threshold), what in zip(_judges(proposal, contents, published), _GROUPS, strict=False):
        has = {signer.keyid for signer in signers} & set(metadata.signatures)
        found.append(
            Tally(
                what,
                threshold,
                tuple(signer.name for signer in signers if signer.keyid in has),
                tuple(signer.name for signer in signers if signer.keyid not in has),
            )
        )
    return tuple(found)


def publish(proposal: Proposal, published: Copy | None, key: Ed25519PrivateKey, now: datetime) -> Files:
    """Return the whole new repository, with a snapshot and a timestamp of this key. Raises TrustError below threshold.

    What comes out has passed a node's own verification: the last moment a mistake can be held back.
    """
    contents = check_proposal(proposal, published)
    if contents.membership.issued_at > now + CLOCK_TOLERANCE:
        raise TrustError(
            f"the proposal is dated {contents.membership.issued_at:%Y-%m-%d %H:%M} UTC, in the future: every node "
            "would refuse it",
            hint="compare the clocks of this machine and of the one it was made on; then make it anew",
        )
    for tally in tallies(proposal, contents, published):
        if not tally.is_met:
            missing = ", ".join(tally.missing)
            raise TrustError(
                f"{len(tally.signed)} of {tally.threshold} {tally.what} have signed; not yet: {missing}",
                hint="send the proposal to one of them: `pulang federation sign`",
            )
    before: Files = published.files if published else {}
    roots = {name: data for name, data in before.items() if name.endswith(".root.json")}
    root = proposal.root
    if root is not None:
        roots[f"{root.signed.version}.root.json"] = to_bytes(root)
    targets = to_bytes(proposal.targets)
    above = (published.versions[Snapshot.type], published.versions[Timestamp.type]) if published else (0, 0)
    files = {
        **roots,
        f"{proposal.targets.signed.version}.targets.json": targets,
        **sign_online(root or newest_root(before), targets, key, now, above=above),
        **{target_file(target): proposal.files[path] for path, target in proposal.targets.signed.targets.items()},
    }
    first = min(roots, key=lambda name: int(name.split(".")[0]))
    known = before if published and TIMESTAMP in before else None
    return verified_copy(reader_of(files), roots[first], whole(now), known=known).files


def _require(condition: bool) -> None:  # noqa: FBT001 - the one argument
    if not condition:
        raise ValueError


_GROUPS: Final = ("signers", "signers for the root", "signers until now")


def _judges(
    proposal: Proposal, contents: Contents, published: Copy | None
) -> list[tuple[Metadata[Any], tuple[Signer, ...], int]]:
    """Return (metadata, whose signatures count, how many must)."""
    judges: list[tuple[Metadata[Any], tuple[Signer, ...], int]] = [
        (proposal.targets, contents.signers, contents.threshold)
    ]
    if proposal.root is not None:
        judges.append((proposal.root, contents.signers, contents.threshold))
        if published is not None:
            judges.append((proposal.root, published.contents.signers, published.contents.threshold))
    return judges


def _check_signatures(proposal: Proposal, contents: Contents, published: Copy | None) -> None:
    known: dict[str, Signer] = {}
    for _, signers, _ in _judges(proposal, contents, published):
        known |= {signer.keyid: signer for signer in signers}
    for metadata in {id(each): each for each, _, _ in _judges(proposal, contents, published)}.values():
        for keyid in metadata.signatures:
            if keyid not in known:
                raise TrustError("the proposal carries a signature of an unknown key", hint=EDITED_HINT)
            if not _fits(metadata, known[keyid], contents):
                raise TrustError(
                    f"the proposal was changed after {known[keyid].name} had signed it, or that is no signature",
                    hint=EDITED_HINT,
                )


def _fits(metadata: Metadata[Any], signer: Signer, contents: Contents) -> bool:
    alone = build_root(replace(contents, signers=(signer,), threshold=1), 1, metadata.signed.expires)
    try:
        alone.verify_delegate(Targets.type, metadata.signed_bytes, metadata.signatures)
    except UnsignedMetadataError:
        return False
    return True


def _same_part(proposal: Proposal, like: Metadata[Any]) -> Metadata[Any]:
    if like.signed.type == Targets.type:
        return proposal.targets
    assert proposal.root is not None
    return proposal.root


def _same_signers(one: Contents, other: Contents) -> bool:
    return (set(one.signers), one.threshold, set(one.holders)) == (
        set(other.signers),
        other.threshold,
        set(other.holders),
    )


def _published(copy: Copy | None) -> Copy:
    assert copy is not None
    return copy
