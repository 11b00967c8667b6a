"""What the commands that a person answers for have in common: the node's database, who they are, and the audit row."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from node.config import PROVINCE_PATTERN, load_config
from node.errors import ConfigError
from node.local import load_pseudonyms
from node.store import AuditEntry, Direction, Store, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.config import NodeConfig
    from node.home import NodeHome


@contextmanager
def node_store(home: NodeHome) -> Iterator[tuple[NodeConfig, Store]]:
    """Open a node's settings and database, beside the running node or without one."""
    config = load_config(home)
    store = open_store(config.store_url(home))
    try:
        yield config, store
    finally:
        store.close()


def operator_name() -> str:
    """Return the local user who gives the command; behind sudo, the one who called it."""
    try:
        name = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid:{os.getuid()}"
    return name[:64]


def check_peer(peer: str) -> None:
    """Refuse what is no province's code: the audit would keep it. Raises ConfigError."""
    if not re.fullmatch(PROVINCE_PATTERN, peer):
        raise ConfigError("a province is named by its Kemendagri code of two digits: 35")


def deed(
    home: NodeHome, method: str, peer: str, outcome: str, *, about: bytes, reason: str | None = None
) -> AuditEntry:
    """Make the audit row of what a person of this province did. about: what it was done to, of which a hash is kept."""
    return AuditEntry(
        at=datetime.now(UTC),
        direction=Direction.ANSWERED,
        peer=peer,
        method=method,
        outcome=outcome,
        request_sha256=hashlib.sha256(about).digest(),
        reason=reason,
        operator_pseudonym=load_pseudonyms(home).of(os.getuid()),
    )
