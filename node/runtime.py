"""Assembles a node from its folder: settings, keys, index, database, membership, peers."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from matching.clerical import Zone
from matching.schema import PERSON_SCHEMA
from matching.weights import load_model
from node.casebook import CaseBook
from node.checkpoint import origin_of
from node.clock import ClockWatch
from node.config import load_config
from node.deadlines import Calendar
from node.epoch import Keyring
from node.errors import ConfigError, NotAMemberError
from node.generation import Generations
from node.guard import Guard, load_guard_key
from node.local_key import load_local_key
from node.metrics import Metrics
from node.notary import Notary
from node.pki.credentials import load_credentials
from node.pki.identity import Identity
from node.pki.logkey import load_log_key
from node.pki.refresh import Mirror
from node.reload import Reloaded
from node.rpc.client import Peers
from node.service import AnsweringService
from node.store import open_store, sqlite_folder
from node.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from matching.weights import MatchModel
    from node.config import NodeConfig
    from node.home import NodeHome
    from node.pki.credentials import Credentials
    from node.pki.logkey import LogKey
    from node.pki.membership import Membership
    from node.store import Store
    from node.witness import CosignReply, CosignRequest


@dataclass(frozen=True)
class NodeRuntime:
    """What a running node is made of. `service` answers (also the node's own questions), `peers` asks."""

    home: NodeHome
    config: NodeConfig
    keyring: Keyring
    model: MatchModel
    generations: Generations
    store: Store
    credentials: Reloaded[Credentials]
    mirror: Mirror
    memberships: Reloaded[Membership]
    service: AnsweringService
    peers: Peers
    cases: CaseBook
    metrics: Metrics
    clocks: ClockWatch
    calendar: Calendar
    now: Callable[[], datetime]

    @property
    def disks(self) -> tuple[Path, ...]:
        """The folders this node writes to; one that is not there yet is left out."""
        database = sqlite_folder(self.config.store_url(self.home))
        return tuple(sorted({folder for folder in (self.home.root, database) if folder and folder.exists()}))

    @property
    def membership(self) -> Membership:
        """The newest membership that could be verified."""
        return self.memberships.get()


@contextmanager
def open_runtime(home: NodeHome, now: Callable[[], datetime]) -> Iterator[NodeRuntime]:
    """Open everything a node needs and close it again; nothing is skipped, nothing is repaired.

    Raises ConfigError, TrustError, StoreError, SchemaError, IndexDamagedError or SchemaMismatchError.
    """
    config = load_config(home)
    credentials = Reloaded(
        "credentials",
        (home.pki / "current.pem", home.pki / "root.pem"),
        lambda: load_credentials(home, now()),
    )
    mirror = Mirror(home.tuf)
    memberships = Reloaded("membership", (mirror.current,), lambda: mirror.load().membership)
    _require_member(config, memberships.get())
    keyring = Keyring(home, config, memberships.get)
    model = load_model()
    with ExitStack() as stack:
        store = open_store(config.store_url(home), serving=True)
        stack.callback(store.close)
        generations = Generations(home, lambda: keyring.keys)
        generations.open()
        stack.callback(generations.close)
        metrics = Metrics()
        service = AnsweringService(
            generations=generations,
            model=model,
            store=store,
            guard=Guard(store, config.budgets, load_guard_key(home), config.province, now),
            now=now,
            threads=config.search_threads,
            zone=Zone(config.review_lower_bits, config.review_upper_bits),
            observe=metrics.answered,
        )
        stack.callback(service.close)
        yield NodeRuntime(
            home=home,
            config=config,
            keyring=keyring,
            model=model,
            generations=generations,
            store=store,
            credentials=credentials,
            mirror=mirror,
            memberships=memberships,
            service=service,
            peers=Peers(credentials=credentials, membership=memberships, now=now),
            cases=open_casebook(home, config, store, now),
            metrics=metrics,
            clocks=ClockWatch(),
            calendar=Calendar(home),
            now=now,
        )


def open_casebook(home: NodeHome, config: NodeConfig, store: Store, now: Callable[[], datetime]) -> CaseBook:
    """Return the node's cases; they can be read while it does not run. Raises ConfigError or TrustError."""
    return CaseBook(
        store,
        load_local_key(home.case_secret, lost="open cases must be asked anew"),
        PERSON_SCHEMA,
        ask_again_for=timedelta(days=config.ask_again_days),
        keep_open_for=timedelta(days=config.case_days),
        now=now,
    )


def make_witness(runtime: NodeRuntime) -> Witness:
    """Return what cosigns other provinces' logs, with this node's log key. Raises ConfigError or TrustError."""
    own = Identity(runtime.config.federation, runtime.config.province)
    return Witness(
        store=runtime.store, key=open_log_key(runtime), own=own, members=lambda: _codes(runtime), now=runtime.now
    )


def make_notary(runtime: NodeRuntime) -> Notary:
    """Return what signs this node's log and has it cosigned. Raises ConfigError or TrustError."""

    async def ask(code: str, request: CosignRequest, deadline_s: float) -> CosignReply:
        member = runtime.membership.by_code(code)
        if member is None:  # it left between two lines of ours
            raise NotAMemberError(f"province {code} is not a member any more")
        return await runtime.peers.cosign(member, request, deadline_s=deadline_s)

    return Notary(
        home=runtime.home,
        store=runtime.store,
        key=open_log_key(runtime),
        province=runtime.config.province,
        members=lambda: _codes(runtime),
        name_of=lambda code: origin_of(Identity(runtime.config.federation, code).uri),
        ask=ask,
        before=runtime.service.record_tally,
        now=runtime.now,
    )


def open_log_key(runtime: NodeRuntime) -> LogKey:
    """Return the node's log key, made at its first use."""
    return load_log_key(
        runtime.home.log_key, origin_of(Identity(runtime.config.federation, runtime.config.province).uri)
    )


def _codes(runtime: NodeRuntime) -> list[str]:
    return [member.code for member in runtime.membership.members]


def _require_member(config: NodeConfig, membership: Membership) -> None:
    if config.federation != membership.federation:
        raise ConfigError(f"this node is set up for {config.federation}, its membership is of {membership.federation}")
    if membership.by_code(config.province) is None:
        raise NotAMemberError(
            f"province {config.province} is not in the membership, version {membership.version}",
            hint="the signers admit it: `pulang federation propose admit`; then `pulang federation join`",
        )
