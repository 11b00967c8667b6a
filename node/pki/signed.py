"""What a signer's key has signed: beside the key, so that it does not sign two lists between which others could choose.

Two lists of one version, each signed by a threshold, are both good to a node that has seen neither: whoever holds a
timestamp key decides which of them counts, also weeks after one of them was given up.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from node.config import FederationName
from node.errors import StoreError, TrustError
from node.files import append_line, read_private
from node.pki.membership import SETTINGS, canonical_json

if TYPE_CHECKING:
    from pathlib import Path

    from tuf.api.metadata import Metadata

    from node.pki.proposal import Proposal

Role = Literal["targets", "root"]

MAX_RECORD_BYTES: Final = 4 << 20
SUFFIX: Final = ".signed"
NAMES: Final[dict[Role, str]] = {"targets": "list", "root": "root"}
HINTS: Final[dict[Role, str]] = {
    "targets": "if that was given up, have this one proposed anew with --skip 1; --even-so signs all the same",
    "root": "no version of a root can be left out: have every copy of that one destroyed, then --even-so",
}


@dataclass(frozen=True, slots=True, config=SETTINGS)
class _Signed:
    federation: FederationName
    role: Role
    version: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Of the bytes that were signed."""


_LINE: Final = TypeAdapter(_Signed)


def record_signing(key_file: Path, federation: str, proposal: Proposal, *, even_so: bool = False) -> None:
    """Record that the key is about to sign a proposal; durable on return. Call it before the signature leaves.

    even_so: also when the key has signed another of the same version. Raises TrustError for such a one, StoreError for
    a record that is damaged or cannot be written.
    """
    path = key_file.with_name(f"{key_file.name}{SUFFIX}")
    known = _read(path)
    entries = [_entry(federation, "targets", proposal.targets)]
    if proposal.root is not None:
        entries.append(_entry(federation, "root", proposal.root))
    new = [entry for entry in entries if entry not in known]
    places = {(each.federation, each.role, each.version) for each in known}
    for entry in new:
        if not even_so and (entry.federation, entry.role, entry.version) in places:
            raise TrustError(
                f"this key has signed another {NAMES[entry.role]} of version {entry.version}: whoever publishes could "
                "choose between the two",
                hint=HINTS[entry.role],
            )
    for entry in new:
        append_line(path, canonical_json(_LINE.dump_python(entry, mode="json")).decode())


def _entry(federation: str, role: Role, metadata: Metadata[Any]) -> _Signed:
    return _Signed(federation, role, metadata.signed.version, hashlib.sha256(metadata.signed_bytes).hexdigest())


def _read(path: Path) -> tuple[_Signed, ...]:
    if not path.exists():
        return ()
    lines = read_private(path, limit=MAX_RECORD_BYTES).rpartition(b"\n")[0].splitlines()
    try:
        return tuple(_LINE.validate_json(line) for line in lines)
    except ValidationError:
        raise StoreError(
            f"{path} is damaged", hint="move it away; then ask the other signers what this key has signed"
        ) from None
