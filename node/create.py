"""Makes the folder of a new node."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from node.config import write_config
from node.files import make_private_folder, write_atomic

if TYPE_CHECKING:
    from node.config import NodeConfig
    from node.home import NodeHome

OPERATOR_SECRET_BYTES: Final = 32


def create_node(home: NodeHome, config: NodeConfig) -> None:
    """Make the folder with its settings and the secret of its operators' pseudonyms. An existing node is refused.

    Settings come last: a folder without them is not a node yet, and the same command finishes it.
    """
    make_private_folder(home.root)
    for folder in (home.pki, home.generations, home.operator_secret.parent):
        make_private_folder(folder)
    if not home.operator_secret.exists():
        write_atomic(home.operator_secret, secrets.token_hex(OPERATOR_SECRET_BYTES).encode("ascii") + b"\n")
    write_config(home, config)
