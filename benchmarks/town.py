"""A small federation on this machine, made and changed by the commands people type, each shown as it is typed.

Signers, authority and nodes are folders side by side under one root; nodes run as processes of their own.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from benchmarks import populations
from benchmarks.demo import LAST_PORT, PULANG
from matching.question import Client
from node.errors import ConfigError, PeerUnreachableError
from node.home import NodeHome
from node.local_client import socket_address
from node.pki.refresh import Mirror

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    import polars as pl

FEDERATION: Final = "fkd-mpu"
SIGNERS: Final = ("Jatim", "Bali", "Banten")  # any two of them decide
THRESHOLD: Final = 2
FIRST_PORT: Final = 21_000
READY_S: Final = 90.0
STOP_S: Final = 75.0
# A load asks more than people do: the same few clients, over and over.
SETTINGS: Final = """
[budgets]
peer_per_day = 1000000
peer_per_month = 1000000
operator_per_day = 1000000
operator_per_month = 1000000
case_per_day = 1000000
case_per_month = 1000000
repeats_per_day = 1000000
repeats_per_month = 1000000
"""


@dataclass
class Town:
    """The folder of everything. show: takes every line of what is typed and what is answered."""

    root: Path
    show: Callable[[str], None]
    poll_s: float | None = None
    """How often nodes look for news, if not as often as by default."""
    ports: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, int] = field(default_factory=dict)
    intermediates: dict[str, str] = field(default_factory=dict)
    """Province -> file of the intermediate in use."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    serial: int = 0

    @property
    def codes(self) -> list[str]:
        """Return every province that has a node, in the order of founding."""
        return list(self.ports)

    @property
    def holder(self) -> str:
        """Return the province whose node holds the timestamp key: what is published is published there."""
        return next(iter(self.ports))

    def home(self, code: str) -> NodeHome:
        """Return a node's folder."""
        return NodeHome(self.root / code)

    def run(self, who: str, *words: str, ends: Collection[int] = (0,)) -> str:
        """Run one command and return what it said. Raises ConfigError when it ends with another exit code."""
        self.show(f"{who}$ pulang {' '.join(shlex.quote(word) for word in words)}")
        code, out, err = self.execute(words)
        for line in (out + err).splitlines():
            self.show(line)
        if code not in ends:
            raise ConfigError(
                f"`pulang {' '.join(words[:2])}` ended with exit code {code}",
                hint=(err or out).strip()[:200] or "it said nothing",
            )
        return out

    def execute(self, words: Sequence[str]) -> tuple[int, str, str]:
        """Run a command in the folder of everything; return its exit code, what it said, and its complaints."""
        done = subprocess.run(  # noqa: S603 - our own command
            [*PULANG, *words],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=_environment(),
        )
        return done.returncode, done.stdout, done.stderr

    def new_file(self, stem: str, ending: str) -> str:
        """Return a file name that was not used before."""
        self.serial += 1
        return f"{stem}-{self.serial}.{ending}"

    # --- founding ---

    def found(self, codes: Iterable[str]) -> None:
        """Found a federation of these provinces; their nodes are made and joined, have no registries and do not run."""
        codes = tuple(codes)
        self.run("authority", "federation", "authority", "authority", "--name", FEDERATION)
        for name in SIGNERS:
            self.run(name, "federation", "signer-key", f"{name}.key")
        for code in codes:
            self.make_node(code)
        self.run(codes[0], "federation", "timestamp-key", "--home", codes[0])
        signers = [word for name in SIGNERS for word in ("--signer", f"{name}={name}.key.pub")]
        self.run(
            SIGNERS[0], "federation", "init", "founding", "--name", FEDERATION, "--threshold", str(THRESHOLD), *signers,
            "--timestamp-key", f"node {codes[0]}={codes[0]}/tuf/timestamp.key.pub", "--root", "authority/root.pem",
            "--epoch-secret", "authority/epoch-1.key",
        )  # fmt: skip
        for code in codes:
            self.admit(code, "founding", "--repository", "repository")
        key = f"{codes[0]}/tuf/timestamp.key"
        self.sign("founding", "--repository", "repository")
        self.run(codes[0], "federation", "publish", "founding", "--repository", "repository", "--timestamp-key", key)
        for code in codes:
            self.join(code)

    def import_registry(self, code: str) -> None:
        """Import a province's registry, as `write_registries` has made it."""
        self.run(code, "registry", "import", f"registries/{code}.csv", "--home", code, "--yes")

    def make_node(self, code: str) -> None:
        """Make a node's folder, its intermediate and its first certificate."""
        self.ports[code], self.metrics[code] = _free_port(self._taken()), 0
        self.metrics[code] = _free_port(self._taken())
        address = f"127.0.0.1:{self.ports[code]}"
        self.run(code, "node", "init", "--home", code, "--province", code, "--listen", address)
        settings = [f'metrics_listen = "127.0.0.1:{self.metrics[code]}"']
        settings += [] if self.poll_s is None else [f"membership_poll_s = {self.poll_s}"]
        config = self.home(code).config
        kept = [line for line in config.read_text().splitlines() if not line.startswith("membership_poll_s")]
        config.write_text("\n".join([*kept, *settings]) + SETTINGS)
        self.certify(code)
        self.run(code, "ca", "install", self.intermediates[code], "--home", code, "--root", "authority/root.pem")
        self.run(code, "ca", "activate", "--home", code)
        self.run(code, "cert", "renew", "--home", code)

    def certify(self, code: str) -> None:
        """Have the authority issue the province's next intermediate."""
        request, certificate = self.new_file(f"{code}-ca", "csr"), self.new_file(f"{code}-ca", "crt")
        self.run(code, "ca", "prepare", "--home", code, "--out", request)
        self.run(
            "authority", "ca", "issue", "--authority", "authority", "--province", code, request, "--out", certificate
        )
        self.intermediates[code] = certificate

    def admit(self, code: str, proposal: str, *where: str) -> None:
        """Propose a member, with its node's address and intermediate."""
        self.run(
            SIGNERS[0], "federation", "propose", "admit", *where, "--proposal", proposal, "--province", code,
            "--address", f"127.0.0.1:{self.ports[code]}", "--intermediate", self.intermediates[code],
        )  # fmt: skip

    def join(self, code: str, repository: str = "repository") -> None:
        """Give a node its first trust."""
        first = hashlib.sha256((self.root / "repository" / "root.json").read_bytes()).hexdigest()
        self.run(
            code, "federation", "join", "--home", code, "--repository", repository, "--root-sha256", first,
            "--epoch-secret", "authority/epoch-1.key",
        )  # fmt: skip

    # --- the list ---

    def propose(self, proposal: str, verb: str, *words: str) -> None:
        """Propose a change on top of what the holder's node has."""
        self.run(SIGNERS[0], "federation", "propose", verb, "--home", self.holder, "--proposal", proposal, *words)

    def sign(self, proposal: str, *where: str) -> None:
        """Have a threshold of signers sign."""
        where = where or ("--home", self.holder)
        for name in SIGNERS[:THRESHOLD]:
            self.run(name, "federation", "sign", proposal, *where, "--key", f"{name}.key", "--yes")

    def publish(self, proposal: str) -> None:
        """Sign a proposal and publish it at the holder's node."""
        self.sign(proposal)
        self.run(self.holder, "federation", "publish", proposal, "--home", self.holder)

    def version(self, code: str) -> int:
        """Return the version of the list in a node's folder."""
        return Mirror(self.home(code).tuf).load().membership.version

    def until_heard(self, codes: Iterable[str] | None = None) -> float:
        """Wait until these nodes, by default all that run, have what the holder has. Returns how long it took, s."""
        began, newest = time.monotonic(), self.version(self.holder)
        waiting = set(self.processes if codes is None else codes)
        while waiting := {code for code in waiting if self.version(code) < newest}:
            if time.monotonic() - began > READY_S:
                raise PeerUnreachableError(f"{', '.join(sorted(waiting))} did not hear of version {newest}")
            time.sleep(0.2)
        return time.monotonic() - began

    # --- processes ---

    def start(self, code: str) -> None:
        """Start a node and wait until it serves. Raises PeerUnreachableError."""
        self.show(f"{code}$ pulang node serve --home {code} &")
        log = (self.root / f"{code}.log").open("ab")
        with log:
            process = subprocess.Popen(  # noqa: S603 - our own command
                [*PULANG, "node", "serve", "--home", code],
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
            )
        self.processes[code] = process
        ends_at = time.monotonic() + READY_S
        while not self._serves(code):
            if process.poll() is not None or time.monotonic() > ends_at:
                raise PeerUnreachableError(
                    f"the node of province {code} does not serve", hint=f"what it said is in {self.root / code}.log"
                )
            time.sleep(0.05)

    def stop(self, *codes: str) -> None:
        """Stop nodes, by default all."""
        stopping = {code: self.processes.pop(code) for code in codes or tuple(self.processes)}
        for process in stopping.values():
            process.send_signal(signal.SIGTERM)
        for process in stopping.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def forget(self, code: str) -> None:
        """Let a province go that is no member any more."""
        for known in (self.ports, self.metrics, self.intermediates):
            known.pop(code, None)

    def _serves(self, code: str) -> bool:
        path = self.home(code).socket
        if not path.exists():
            return False
        with socket.socket(socket.AF_UNIX) as probe, socket_address(path) as address:
            return probe.connect_ex(address) == 0

    def _taken(self) -> set[int]:
        return {*self.ports.values(), *self.metrics.values()}


def write_registries(folder: Path, codes: Iterable[str], persons: int, seed: int) -> list[Client]:
    """Write a registry file per province; return clients who are registered in them. All persons are made up."""
    codes = tuple(sorted(codes))
    folder.mkdir()

    def keep(part: pl.DataFrame) -> None:
        path = folder / f"{part['province'][0]}.csv"
        is_new = not path.exists()
        with path.open("ab") as stream:
            part.write_csv(stream, include_header=is_new)

    made = populations.stream(
        populations.Recipe(persons * len(codes), 60, "base", seed, provinces=codes, equal=True), keep
    )
    rows = made.queries.join(made.truth, on="query_id").drop_nulls("province").to_dicts()
    return [
        Client(name=row["name"], sex=row["sex"], born=row["birth_date"], birthplace=row["birthplace"])
        for row in rows
        if row["name"] and " " in row["name"] and row["birth_date"] and row["birthplace"]
    ]


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PULANG_")}


def _free_port(taken: set[int]) -> int:
    for port in range(FIRST_PORT + os.getpid() % 997 * 10, LAST_PORT):
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise ConfigError("no port is free on this machine")
