"""Where a node keeps what: the one place that knows the folder's layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class NodeHome:
    """The folder of one node (0700). Everything below is derived from `root`."""

    root: Path

    @property
    def config(self) -> Path:
        """Settings, TOML."""
        return self.root / "node.toml"

    @property
    def pki(self) -> Path:
        """next.pem, current.pem, previous.pem (0600: a key and its chain in one file), root.pem."""
        return self.root / "pki"

    @property
    def sealing_key(self) -> Path:
        """Private key that epoch secrets are sealed to, hexadecimal (0600); never leaves the node."""
        return self.root / "pki" / "sealing.key"

    @property
    def ca(self) -> Path:
        """The province's intermediates: stages.json, N.key (0600), issued.jsonl, the register of leaves."""
        return self.root / "ca"

    @property
    def tuf(self) -> Path:
        """The node's verified copy of the federation's repository, its first root, and a timestamp key if it holds one.

        Beside it tuf-seen.json: the highest versions this node has had.
        """
        return self.root / "tuf"

    def epoch_secret(self, epoch: int) -> Path:
        """Linkage secret of an epoch, 32 bytes as hex (0600)."""
        return self.root / "secrets" / f"epoch-{epoch}.key"

    @property
    def secrets(self) -> Path:
        """Folder of every secret that is not a certificate's key (0700)."""
        return self.root / "secrets"

    @property
    def operator_secret(self) -> Path:
        """Key of the operators' pseudonyms, 32 bytes as hex (0600); never leaves the node."""
        return self.root / "secrets" / "operators.key"

    @property
    def case_secret(self) -> Path:
        """Key that seals what the database keeps of the node's own questions, 32 bytes as hex (0600)."""
        return self.root / "secrets" / "cases.key"

    @property
    def index_secret(self) -> Path:
        """Key the indexes are sealed with, 32 bytes as hex (0600); never leaves the node."""
        return self.root / "secrets" / "index.key"

    @property
    def guard_secret(self) -> Path:
        """Key of what the node remembers about questions, 32 bytes as hex (0600); never leaves the node."""
        return self.root / "secrets" / "guard.key"

    @property
    def generations(self) -> Path:
        """Encoded indexes, one folder per generation (g000001, ...)."""
        return self.root / "generations"

    @property
    def current(self) -> Path:
        """Symbolic link to the generation that answers; replaced atomically."""
        return self.root / "generations" / "current"

    def current_of(self, epoch: int) -> Path:
        """Symbolic link to the generation that answers in an epoch other than that of `current`."""
        return self.root / "generations" / f"current-e{epoch}"

    @property
    def reencode_record(self) -> Path:
        """How far the last re-encoding came, and what stopped it; absent when it ended well."""
        return self.root / "reencode.json"

    @property
    def database(self) -> Path:
        """The embedded SQLite database."""
        return self.root / "node.db"

    @property
    def log_key(self) -> Path:
        """Key that signs the audit log's checkpoints (0600)."""
        return self.root / "audit" / "log.key"

    @property
    def audit_checkpoint(self) -> Path:
        """The newest signed head of the audit log, with the witnesses' signatures that have come."""
        return self.root / "audit" / "checkpoint"

    @property
    def socket(self) -> Path:
        """Local-only socket of the running node (0600)."""
        return self.root / "node.sock"

    @property
    def serve_lock(self) -> Path:
        """Held (flock) by the one process that serves this folder."""
        return self.root / "serve.lock"

    @property
    def import_lock(self) -> Path:
        """Held (flock) by the one running import."""
        return self.root / "import.lock"

    @property
    def registry_source(self) -> Path:
        """Where the last imported registry came from, and its mapping, JSON (0600)."""
        return self.root / "registry.json"

    @property
    def rejects(self) -> Path:
        """Reject files of imports (0600)."""
        return self.root / "rejects"
