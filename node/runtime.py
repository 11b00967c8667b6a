"""Assembles a node from its folder: settings, keys, index, database, membership, peers."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from matching.keys import FieldKeys, load_secret
from matching.schema import PERSON_SCHEMA
from matching.weights import load_model
from node.config import load_config
from node.files import read_private
from node.generation import Generations
from node.pki.membership import load_membership
from node.rpc.client import Peers
from node.service import AnsweringService
from node.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from matching.weights import MatchModel
    from node.config import NodeConfig
    from node.home import NodeHome
    from node.pki.membership import Membership
    from node.store import Store

MAX_SECRET_BYTES: Final = 256


@dataclass(frozen=True)
class NodeRuntime:
    """What a running node is made of. `service` answers (also the node's own questions), `peers` asks."""

    home: NodeHome
    config: NodeConfig
    keys: FieldKeys
    model: MatchModel
    generations: Generations
    store: Store
    membership: Membership
    service: AnsweringService
    peers: Peers
    now: Callable[[], datetime]


@contextmanager
def open_runtime(home: NodeHome, now: Callable[[], datetime]) -> Iterator[NodeRuntime]:
    """Open everything a node needs and close it again; nothing is skipped, nothing is repaired.

    Raises ConfigError, TrustError, StoreError, SchemaError, IndexDamagedError or SchemaMismatchError.
    """
    config = load_config(home)
    keys = load_keys(home, config)
    membership = load_membership(home.membership, home.membership_anchor, now())
    model = load_model()
    with ExitStack() as stack:
        store = open_store(config.store_url(home))
        stack.callback(store.close)
        generations = Generations(home, keys.identity)
        generations.open()
        stack.callback(generations.close)
        service = AnsweringService(
            generations=generations, model=model, store=store, now=now, threads=config.search_threads
        )
        stack.callback(service.close)
        yield NodeRuntime(
            home=home,
            config=config,
            keys=keys,
            model=model,
            generations=generations,
            store=store,
            membership=membership,
            service=service,
            peers=Peers(home, config, membership, keys.identity, now),
            now=now,
        )


def load_keys(home: NodeHome, config: NodeConfig) -> FieldKeys:
    """Derive the linkage keys of the configured epoch. Raises ConfigError, TrustError or SchemaError."""
    path = home.epoch_secret(config.key_epoch)
    secret = read_private(
        path, limit=MAX_SECRET_BYTES, hint=f"put the federation's secret of epoch {config.key_epoch} there, mode 0600"
    )
    return FieldKeys.derive(load_secret(secret.decode("ascii", errors="replace")), PERSON_SCHEMA, config.key_epoch)
