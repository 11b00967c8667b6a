"""A federation on this machine as the tests meet it: a real authority, real certificates, nodes as real processes."""

from __future__ import annotations

import asyncio
import atexit
import functools
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.faults.nursery import Nursery
from benchmarks.faults.seams import Orders, write_orders
from matching.encoding import encode_client
from matching.index import Column, IndexBuilder, RecordBatch
from matching.keys import FieldKeys, load_secret
from matching.places import PROVINCES
from matching.question import Client, EncodedQuery
from matching.schema import PERSON_SCHEMA
from node.config import make_config, write_config
from node.files import write_atomic
from node.generation import index_key
from node.home import NodeHome
from node.messages import Purpose, QuestionHeader
from node.pki.changes import founding
from node.pki.credentials import load_credentials
from node.pki.intermediate import ProvinceAuthority
from node.pki.membership import Member
from node.pki.proposal import propose, publish, sign_proposal
from node.pki.refresh import Mirror, stored_copy
from node.pki.renewal import renew
from node.pki.repository import fingerprint_of, private_pem, signer_of
from node.reload import Reloaded
from node.rpc.client import Peers
from node.store import PENDING, AuditEntry, open_store
from tests.listing import ListedAuthority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.faults.nursery import Child
    from node.pki.membership import Membership
    from node.pki.repository import Files
    from node.store import Store

FEDERATION = "fkd-mpu.test"
FOUNDED = datetime.now(UTC) - timedelta(days=30)  # so that certificates can be issued that have expired since
START_S = 120.0  # a loaded machine that compiles the kernels for the first time
STOP_S = 30.0

Person = dict[str, str]  # record_id and raw values, by field of the schema

# Registered in Jawa Tengah (33) alone; what clients of the tests look for.
JOKO: Person = {
    "record_id": "KBM-0001",
    "name": "Djoko Soesilo",
    "mother_name": "Siti Aminah",
    "birthplace": "Kebumen",
    "birth_date": "1958-03-07",
    "sex": "L",
}
JOKO_AS_SAID = Client(name="Joko Susilo", sex="L", born="1958~3", birthplace="Kebumen", mother_name="Siti Aminah")

_GIVEN = (
    "Sutrisno",
    "Wahyuni",
    "Agus",
    "Slamet",
    "Rini",
    "Bambang",
    "Endang",
    "Made",
    "Ketut",
    "Yohanes",
    "Maria",
    "Udin",
)
_FAMILY = ("Hartono", "Lestari", "Saputra", "Wibowo", "Rahayu", "Nainggolan", "Gunawan", "Kusuma", "Laksana", "Utami")
_PLACES = ("Semarang", "Surabaya", "Bandung", "Denpasar", "Kupang", "Serang", "Sleman", "Mataram")


def now() -> datetime:
    return datetime.now(UTC)


def crowd(count: int, seed: int) -> list[Person]:
    """Make up persons, none of them Joko."""
    chance = random.Random(seed)
    return [
        {
            "record_id": f"R{seed}-{number:05d}",
            "name": f"{chance.choice(_GIVEN)} {chance.choice(_FAMILY)}",
            "mother_name": f"{chance.choice(_GIVEN)} {chance.choice(_FAMILY)}",
            "birthplace": chance.choice(_PLACES),
            "birth_date": f"{chance.randint(1940, 2005)}-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}",
            "sex": chance.choice("LP"),
        }
        for number in range(count)
    ]


# Below the ports the system gives to outgoing connections, so that none of those can take one between its choice and
# its use; each test process starts elsewhere and never gives a port twice.
_PORTS = itertools.count(18_000 + os.getpid() % 97 * 140)


@functools.cache
def nursery() -> Nursery:
    """The process that this test process's nodes are forked from: one loads the code, and all start at once."""
    made = Nursery()
    made.__enter__()
    atexit.register(made.__exit__)
    return made


def _line_of(path: Path) -> str:
    """Return a file's first line, whole; "" while there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    return text[: text.find("\n") + 1]


def free_port() -> int:
    while True:
        port = next(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


@dataclass
class Node:
    """One province's node: its folder, and its process while it runs."""

    code: str
    home: NodeHome
    address: str
    federation: Federation = field(repr=False)
    process: Child | None = field(default=None, repr=False)
    ready_line: str = ""

    @property
    def member(self) -> Member:
        return Member(self.code, PROVINCES[self.code], self.address)

    @property
    def log(self) -> str:
        return (self.home.root / "log").read_text(encoding="utf-8")

    def keys(self, epoch: int = 1) -> FieldKeys:
        secret = load_secret(self.home.epoch_secret(epoch).read_text(encoding="ascii"))
        return FieldKeys.derive(secret, PERSON_SCHEMA, epoch)

    def publish(self, persons: Sequence[Person], generation: str = "g000001", *, epoch: int = 1) -> Path:
        """Build an index of these persons and let it answer from the next question on."""
        folder = self.build(persons, generation, epoch=epoch)
        self.point_at(generation)
        return folder

    def build(self, persons: Sequence[Person], generation: str, *, epoch: int = 1) -> Path:
        self.home.generations.mkdir(exist_ok=True)
        builder = IndexBuilder(self.home.generations / generation, self.keys(epoch), at_rest=index_key(self.home))
        columns = {}
        for name in PERSON_SCHEMA.field_names:
            values: list[str | None] = [person.get(name) for person in persons]
            columns[name] = Column(values, np.arange(len(values), dtype=np.int32))
        assert builder.add(RecordBatch([person["record_id"] for person in persons], columns)) == ()
        builder.finish(now(), len(persons))
        return self.home.generations / generation

    def point_at(self, generation: str) -> None:
        link = self.home.generations / "next"
        link.symlink_to(generation)
        link.replace(self.home.current)

    def start(self, *, clock_off_s: float = 0) -> None:
        """Start the node's process and wait until it says that it serves."""
        self.launch(clock_off_s=clock_off_s)
        self.wait_until_ready()

    def launch(self, *, clock_off_s: float = 0) -> None:
        said, control = self.home.root / "said", None
        said.unlink(missing_ok=True)
        if clock_off_s:
            control = self.home.root / "orders"
            write_orders(control, Orders(clock_s=clock_off_s))
        command = ["node", "serve", "--home", str(self.home.root)]
        self.process = nursery().start(command, self.home.root / "log", said=said, control=control)

    def wait_until_ready(self) -> None:
        assert self.process is not None
        ends_at = time.monotonic() + START_S
        while not (ready := _line_of(self.home.root / "said")) and self.process.is_running:
            assert time.monotonic() < ends_at, f"the node of {self.code} did not start:\n{self.log}"
            time.sleep(0.02)
        self.ready_line = ready
        assert self.ready_line, f"the node of {self.code} did not start:\n{self.log}"

    def command(self, verb: str, *more: str) -> list[str]:
        return [sys.executable, "-m", "node.cli.main", "node", verb, "--home", str(self.home.root), *more]

    def run(self, verb: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the node to its end."""
        return subprocess.run(
            self.command(verb, *more),
            check=False,
            capture_output=True,
            text=True,
            timeout=START_S,
            stdin=subprocess.DEVNULL,
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the node; returns its exit code."""
        assert self.process is not None
        self.process.signal(number)
        try:
            return self.process.wait(STOP_S)
        except TimeoutError:
            self.process.signal(signal.SIGKILL)
            raise
        finally:
            self.process = None

    @contextmanager
    def running(self, *, clock_off_s: float = 0) -> Iterator[Node]:
        self.start(clock_off_s=clock_off_s)
        try:
            yield self
        finally:
            if self.process is not None:
                self.stop()

    def audit(self) -> list[AuditEntry]:
        """Read what came of each question as an operator would, beside the running node."""
        store = open_store(f"sqlite:///{self.home.database}")
        try:
            return outcomes(store)
        finally:
            store.close()


def outcomes(store: Store) -> list[AuditEntry]:
    """Read the audit without the PENDING rows, whose outcomes say the same and more."""
    return [entry for entry in store.audit_entries() if entry.outcome != PENDING]


class Signing:
    """The signers of a federation at one desk, three of them, and what they have published."""

    def __init__(self, membership: Membership, signers: int = 3) -> None:
        keys = [Ed25519PrivateKey.generate() for _ in range(signers + 1)]
        self.signers, self.holder = keys[:-1], keys[-1]
        self.contents = founding(
            membership.federation,
            tuple(signer_of(key, f"signer {number}") for number, key in enumerate(self.signers)),
            signers - 1 or 1,
            (signer_of(self.holder, "node"),),
            epoch_check=membership.epoch_check,
            now=now(),
        )
        self.files: Files = {}
        self.publish(membership)

    def publish(self, membership: Membership) -> None:
        """Propose this membership's members and all that belongs to them, sign by everybody, publish."""
        first = self.files.get("1.root.json")
        copy = stored_copy(self.files, first) if first else None
        known = self.contents.membership
        changed = replace(
            membership,
            epochs=membership.epochs or known.epochs,
            schema_fingerprint=known.schema_fingerprint,
        )
        self.contents = replace(self.contents, membership=changed)
        proposal = propose(self.contents, copy, now())
        for key in self.signers:
            proposal = sign_proposal(proposal, key, copy)
        self.files = publish(proposal, copy, self.holder, now())

    def join(self, home: NodeHome) -> None:
        """Give a node what is published; the first time, as its first trust."""
        self.install(Mirror(home.tuf))

    def install(self, mirror: Mirror) -> None:
        """Give a copy what is published."""
        mirror.install(self.files, now(), root_sha256=fingerprint_of(self.files["1.root.json"]))

    def hold(self, home: NodeHome) -> None:
        """Let a node sign timestamps."""
        write_atomic(Mirror(home.tuf).key, private_pem(self.holder))


class Federation:
    """An authority and its ten members. Nodes are made when a test asks for them, started when it starts them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.authority = ListedAuthority.found(root / "authority", FEDERATION, FOUNDED)
        self.nodes: dict[str, Node] = {}
        for code in PROVINCES:
            node = Node(code, NodeHome(root / code), f"127.0.0.1:{free_port()}", self)
            self.nodes[code] = node
            self.found_intermediate(code)
            self.authority.admit(node.member)
        self.signing = Signing(self.authority.publish(now()))

    def node(self, code: str, persons: Sequence[Person] = (), **settings: Any) -> Node:
        """Return a member's node, its folder made: settings, certificate, membership, secret, and persons' index."""
        node = self.nodes[code]
        if not node.home.config.exists():
            self.settle(node, **settings)
        if persons:
            node.publish(persons)
        return node

    def found_intermediate(self, code: str) -> None:
        """Make a province's intermediate before there is a node, so that the first membership lists it."""
        home = NodeHome(self.root / "ca" / code)
        write_config(home, make_config(federation=FEDERATION, province=code))
        own = ProvinceAuthority(home)
        own.install(
            self.authority.issue_intermediate(own.prepare(FOUNDED), code, FOUNDED),
            FOUNDED,
            roots_pem=self.authority.root_pem,
        )
        own.activate(FOUNDED)

    def settle(self, node: Node, **settings: Any) -> None:
        """Fill a node's folder with all it needs but an index."""
        config = {"federation": FEDERATION, "province": node.code, "listen": node.address, **settings}
        write_config(node.home, make_config(**config))
        if not (self.root / "ca" / node.code).exists():
            self.found_intermediate(node.code)
        shutil.copytree(self.root / "ca" / node.code / "ca", node.home.ca)
        shutil.copytree(self.root / "ca" / node.code / "pki", node.home.pki)
        self.certify(node)
        self.signing.join(node.home)
        secret = node.home.epoch_secret(1)
        secret.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(self.authority.epoch_secret(1), secret)
        secret.chmod(0o600)

    def certify(self, node: Node, *, at: datetime | None = None, days: int = 7) -> None:
        """Give a node a new certificate of its own intermediate, issued as of `at`."""
        renew(node.home, at or now(), days=days)

    def publish(self) -> None:
        """Publish the list of members as it stands, and give it to nobody yet."""
        self.signing.publish(self.authority.publish(now()))

    def stranger(self, code: str, folder: Path) -> Node:
        """Make a node of this federation's authority that is not in the membership."""
        node = Node(code, NodeHome(folder), f"127.0.0.1:{free_port()}", self)
        self.settle(node)
        return node

    def stop(self) -> None:
        for node in self.nodes.values():
            if node.process is not None:
                node.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other tasks or processes bring about."""
    async with asyncio.timeout(START_S):
        while not condition():  # noqa: ASYNC110 - it is not ours to announce
            await asyncio.sleep(0.01)


@asynccontextmanager
async def peers_of(node: Node) -> AsyncIterator[Peers]:
    """The other provinces as a node reaches them, with that node's certificate and keys."""
    home, mirror = node.home, Mirror(node.home.tuf)
    peers = Peers(
        credentials=Reloaded("credentials", (home.pki / "current.pem",), lambda: load_credentials(home, now())),
        membership=Reloaded("membership", (mirror.current,), lambda: mirror.load().membership),
        now=now,
    )
    try:
        yield peers
    finally:
        await peers.close()


def encoded(node: Node, client: Client = JOKO_AS_SAID) -> EncodedQuery:
    return encode_client(client, node.keys(), now().date())


def header(*, timeout_s: float = 20.0, **changes: Any) -> QuestionHeader:
    issued_at = now()
    values: dict[str, Any] = {
        "nonce": os.urandom(16),
        "case_reference": f"K-test-{os.urandom(4).hex()}",
        "purpose": Purpose.RETURN_HOME,
        "operator_pseudonym": b"o" * 16,
        "issued_at": issued_at,
        "deadline": issued_at + timedelta(seconds=timeout_s),
    }
    return QuestionHeader(**(values | changes))
