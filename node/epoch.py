"""The linkage keys of every valid epoch, derived from the secrets in the node's folder."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from matching.errors import SchemaError
from matching.keys import FieldKeys, load_secret
from matching.schema import PERSON_SCHEMA
from node.errors import ConfigError, NodeError, TrustError
from node.files import read_private
from node.pki.membership import Epoch, EpochState, epoch_check
from node.pki.refresh import Mirror
from node.reload import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from node.config import NodeConfig
    from node.home import NodeHome
    from node.pki.membership import Membership

MAX_SECRET_BYTES: Final = 256
FIRST_EPOCH: Final = 1  # of a node that has no directory yet


class Keyring:
    """The keys of the epochs that the directory calls valid and whose secrets are in the folder.

    Follows both while the node runs; may be read from any thread.
    """

    def __init__(self, home: NodeHome, config: NodeConfig, membership: Callable[[], Membership]) -> None:
        """Derive every epoch's keys. Raises ConfigError, TrustError or SchemaError when there is not one to use."""
        self._home = home
        self._membership = membership
        self._lock = threading.Lock()
        self._seen: object = None
        self._keys: dict[int, FieldKeys] = {}
        self._problems: dict[int, NodeError | SchemaError] = {}
        require_no_contradiction(home, config, membership())
        self.active  # noqa: B018 - raises when the node could neither ask nor answer

    @property
    def keys(self) -> Mapping[int, FieldKeys]:
        """Epoch -> its keys, in the order in which questions are asked in them: the active one first."""
        self._follow()
        return self._keys

    @property
    def active(self) -> FieldKeys:
        """The keys questions are asked in: of the active epoch, or of the other one while that secret is missing.

        Raises ConfigError, TrustError or SchemaError when there are none.
        """
        self._follow()
        if not self._keys:
            raise next(iter(self._problems.values()))
        return next(iter(self._keys.values()))

    @property
    def problems(self) -> Mapping[int, NodeError | SchemaError]:
        """Valid epoch -> why this node has no keys of it, active one first."""
        self._follow()
        return self._problems

    def _follow(self) -> None:
        membership = self._membership()
        seen = (membership, [stamp(self._home.epoch_secret(epoch.number)) for epoch in membership.valid_epochs])
        if seen == self._seen:
            return
        with self._lock:
            keys: dict[int, FieldKeys] = {}
            problems: dict[int, NodeError | SchemaError] = {}
            for epoch in sorted(membership.valid_epochs, key=_asked_first):
                try:
                    keys[epoch.number] = derive_keys(self._home, epoch)
                except (NodeError, SchemaError) as error:
                    problems[epoch.number] = error
            self._keys, self._problems, self._seen = keys, problems, seen


def derive_keys(home: NodeHome, epoch: Epoch) -> FieldKeys:
    """Derive the keys of one valid epoch. Raises ConfigError (no secret), TrustError (a wrong one) or SchemaError."""
    path = home.epoch_secret(epoch.number)
    secret = read_epoch_secret(path, hint="`pulang epoch install` takes it in; `pulang epoch status` says what is here")
    # With a wrong secret every question would find nobody anywhere, and look like "not registered".
    if epoch_check(secret, epoch.number) != epoch.check:
        raise TrustError(
            f"{path} is not this federation's secret of epoch {epoch.number}",
            hint="move it away, and have the right one sealed for this node: `pulang epoch install`",
        )
    return FieldKeys.derive(secret, PERSON_SCHEMA, epoch.number)


def read_epoch_secret(path: Path, *, hint: str | None = None) -> bytes:
    """Return the linkage secret in a private file. Raises ConfigError, TrustError or SchemaError, never showing it."""
    return load_secret(read_private(path, limit=MAX_SECRET_BYTES, hint=hint).decode("ascii", errors="replace"))


def require_no_contradiction(home: NodeHome, config: NodeConfig, membership: Membership) -> None:
    """Raise ConfigError when node.toml names a key epoch that the directory does not call valid: it decides."""
    valid = [epoch.number for epoch in membership.valid_epochs]
    if config.key_epoch is not None and config.key_epoch not in valid:
        raise ConfigError(
            f"{home.config} says key_epoch = {config.key_epoch}, and the directory, version {membership.version}, "
            f"says {' and '.join(map(str, valid))}",
            hint=f"the directory decides: take the line out of {home.config}",
        )


def import_keys(home: NodeHome, config: NodeConfig) -> FieldKeys:
    """Derive the keys a registry is encoded with; a node may import before it has joined, or after its list expired.

    A membership that is there, of whatever age, still says which epoch, and tells a wrong secret. Without one it is
    the epoch of node.toml, else the first. Raises as Keyring does.
    """
    if not Mirror(home.tuf).current.exists():
        number = config.key_epoch or FIRST_EPOCH
        secret = read_epoch_secret(home.epoch_secret(number), hint="`pulang federation join` comes before an import")
        return FieldKeys.derive(secret, PERSON_SCHEMA, number)
    return Keyring(home, config, lambda: installed_membership(home)).active


def epoch_asked_in(home: NodeHome, config: NodeConfig) -> int:
    """Return the epoch questions are asked in by what lies in the folder, secrets aside. Raises as import_keys does."""
    if not Mirror(home.tuf).current.exists():
        return config.key_epoch or FIRST_EPOCH
    return installed_membership(home).key_epoch


def installed_membership(home: NodeHome) -> Membership:
    """Return the membership in the node's folder, expired or not. Raises ConfigError or TrustError."""
    return Mirror(home.tuf).load().membership


def _asked_first(epoch: Epoch) -> int:
    return (EpochState.ACTIVE, EpochState.OLD, EpochState.NEXT).index(epoch.state)
