"""Leaves, intermediates and the root roll under steady questions; and how soon who is put out is refused everywhere."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import threading
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

from benchmarks.town import Town, write_registries
from matching.encoding import encode_client
from node.config import load_config
from node.diagnosis import open_peers
from node.epoch import Keyring, installed_membership
from node.errors import NodeError, PeerRefusedError, PeerUnreachableError
from node.findings import Failed, Heard, ProvinceState
from node.local_client import LocalRequest, ask_node
from node.messages import NONCE_BYTES, PSEUDONYM_BYTES, Purpose, QuestionHeader, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matching.question import Client

PAUSE_S: Final = 0.2  # between two questions of one asker
CLIENTS: Final = 4
SETTLE_S: Final = 1.0  # of questions before and after every step
ASK_CALLS: Final = re.compile(r'^pulang_calls_total\{method="ask",peer="[^"]*",status="(\w+)"\} (\S+)$', re.MULTILINE)
CALL_EVERY_S: Final = 0.1
CALL_DEADLINE_S: Final = 5.0
QUIET_S: Final = 3.0  # without an answer before somebody is said to be refused for good
PATIENCE_S: Final = 180.0
WATCH_S: Final = 20.0  # after a restore: longer than the node takes to look round again


# --- questions all the while ---


@dataclass
class Load:
    """Asks at every node about the same few clients, one question after the other, and counts what peers answer."""

    town: Town
    clients: Sequence[Client]
    phase: str = "before"
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(phase, state of the call to a peer) -> how many."""
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Load]:
        """Ask while the block runs."""
        over = threading.Event()
        threads = [threading.Thread(target=self._ask, args=(code, over)) for code in self.town.processes]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            over.set()
            for thread in threads:
                thread.join()

    @property
    def calls(self) -> int:
        """Return how many calls have been counted."""
        return sum(self.counts.values())

    def settle(self, phase: str, seconds: float = SETTLE_S) -> None:
        """Go on asking for a moment, and count what comes from now on under another name."""
        time.sleep(seconds)
        self.phase = phase

    def _ask(self, code: str, over: threading.Event) -> None:
        number = 0
        while not over.is_set():
            client = self.clients[number % len(self.clients)]
            number += 1
            request = LocalRequest(client, Purpose.SELF_TEST, f"ROLL-{code}-{number}", 10.0)
            try:
                for finding in ask_node(self.town.home(code), request):
                    if isinstance(finding, Heard) and finding.code != code:
                        self._count(code, finding)
                    elif isinstance(finding, Failed):
                        self._fail("failed", f"{code}: {finding.message}")
            except NodeError as error:
                self._fail("failed", f"{code}: {error}")
            over.wait(PAUSE_S)

    def _count(self, code: str, heard: Heard) -> None:
        if heard.state is ProvinceState.ASKED:
            return
        if heard.state is ProvinceState.ANSWERED:
            self.counts[self.phase, heard.state.value] += 1
        else:
            self._fail(heard.state.value, f"{code} asked {heard.code}: {heard.state.value}, {heard.detail}")

    def _fail(self, state: str, text: str) -> None:
        self.counts[self.phase, state] += 1
        self.failures.append(f"{self.phase}: {text}")


def served(town: Town) -> Counter[str]:
    """Return how the servers themselves say that calls for answers ended, by gRPC status, since their start."""
    counts: Counter[str] = Counter()
    for code in town.processes:
        with urllib.request.urlopen(f"http://127.0.0.1:{town.metrics[code]}/metrics") as reply:
            text = reply.read().decode()
        for status, value in ASK_CALLS.findall(text):
            counts[status] += int(float(value))
    return counts


# --- rolling ---


def roll_leaves(town: Town) -> None:
    """Give every node a new key and certificate."""
    for code in town.codes:
        town.run(code, "cert", "renew", "--home", code, "--force")


def roll_intermediates(town: Town, *, retire: bool = True) -> dict[str, str]:
    """Take every province from its intermediate to the next, as the manual says. Returns the files of the old ones.

    retire: whether the old ones are also tainted, revoked and taken off the list.
    """
    old = dict(town.intermediates)
    for code in town.codes:
        town.certify(code)
    proposal = town.new_file("intermediates", "proposal")
    for code in town.codes:
        town.propose(proposal, "change", "--province", code, "--add-intermediate", town.intermediates[code])
    town.publish(proposal)
    town.until_heard()
    for code in town.codes:
        town.run(code, "ca", "install", town.intermediates[code], "--home", code)
        town.run(code, "ca", "activate", "--home", code)
        town.run(code, "cert", "renew", "--home", code, "--force")
    if retire:
        retire_intermediates(town, old)
    return old


def retire_intermediates(town: Town, old: dict[str, str], *more: tuple[str, ...]) -> None:
    """Taint and revoke the old intermediates and take them off the list. more: further changes of that proposal."""
    proposal = town.new_file("old", "proposal")
    for code, file in old.items():
        town.run(code, "ca", "taint", "--home", code)
        town.run(code, "ca", "revoke", "--home", code, "--out", f"{file}.revoked")
        town.propose(proposal, "change", "--province", code, "--remove-intermediate", file)
        town.propose(proposal, "revoke", "--from", f"{file}.revoked")
    for verb, *words in more:
        town.propose(proposal, verb, *words)
    town.publish(proposal)
    town.until_heard()


def roll_root(town: Town) -> None:
    """Take the federation from its root to the next."""
    first = town.new_file("old-root", "pem")
    (town.root / first).write_bytes((town.root / "authority" / "root.pem").read_bytes())
    town.run("authority", "ca", "prepare", "--authority", "authority")
    proposal = town.new_file("root", "proposal")
    town.propose(proposal, "roots", "--add", "authority/root.pem")  # both, the old one and the new one
    town.publish(proposal)
    town.until_heard()
    town.run("authority", "ca", "activate", "--authority", "authority")
    old = roll_intermediates(town, retire=False)
    town.run("authority", "ca", "taint", "--authority", "authority")
    town.run("authority", "ca", "revoke", "--authority", "authority")
    retire_intermediates(town, old, ("roots", "--remove", first))


@dataclass(frozen=True)
class Rolled:
    """What came of the calls. seconds: of the whole load."""

    counts: Counter[tuple[str, str]]
    failures: list[str]
    served: Counter[str]
    seconds: float


def measure_rolls(
    town: Town, *, persons: int, calls: int, seed: int, codes: Sequence[str] = ("33", "35", "51")
) -> Rolled:
    """Roll leaves, intermediates and the root of all provinces under questions, at least `calls` of them.

    Raises ConfigError or PeerUnreachableError when a command or a node fails.
    """
    town.found(codes)
    clients = write_registries(town.root / "registries", codes, persons, seed)[:CLIENTS]
    for code in codes:
        town.import_registry(code)
    try:
        for code in codes:
            town.start(code)
        load, began = Load(town, clients), time.monotonic()
        with load.running():
            load.settle("leaves")
            roll_leaves(town)
            load.settle("intermediates")
            roll_intermediates(town)
            load.settle("root")
            roll_root(town)
            load.settle("after")
            load.settle("after")
            while load.calls < calls:
                time.sleep(SETTLE_S)
        return Rolled(load.counts, load.failures, served(town), time.monotonic() - began)
    finally:
        town.stop()


# --- who is put out ---


class Intruder:
    """A member's node that goes on calling over open connections, whatever the list says. Times: time.monotonic.

    accepted: province -> when the last call that was answered began; refused: the last that was turned away at the
    door. calls: (province, what came of it) -> how many.
    """

    def __init__(self, town: Town, code: str, targets: Sequence[str], client: Client) -> None:
        self._town, self._code, self._targets, self._client = town, code, targets, client
        self.accepted: dict[str, float] = {}
        self.refused: dict[str, float] = {}
        self.calls: Counter[tuple[str, str]] = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def until_accepted(self) -> None:
        """Wait until every province answers it. Raises PeerUnreachableError."""
        began = _now_s()
        self._until(lambda code: self.accepted.get(code, 0.0) > max(self.refused.get(code, 0.0), began))

    def until_refused(self) -> None:
        """Wait until every province has turned it away for a while. Raises PeerUnreachableError."""
        self._until(lambda code: self.refused.get(code, 0.0) > self.accepted.get(code, 0.0) + QUIET_S)

    def _until(self, settled: Callable[[str], bool]) -> None:
        began = _now_s()
        while not all(settled(code) for code in self._targets):
            if _now_s() - began > PATIENCE_S:
                raise PeerUnreachableError("a node neither accepts nor refuses for minutes", hint="look at its log")
            time.sleep(0.05)

    async def _run(self) -> None:
        await asyncio.gather(*map(self._call_again_and_again, self._targets))

    async def _call_again_and_again(self, target: str) -> None:
        home = self._town.home(self._code)
        membership = installed_membership(home)
        keys = Keyring(home, load_config(home), lambda: membership).active
        query = encode_client(self._client, keys, _now().date())
        member = membership.by_code(target)
        assert member is not None
        peers = open_peers(home, _now)
        while not self._over.is_set():
            began = _now_s()
            try:
                answer = await peers.ask(member, query, _header(), deadline_s=CALL_DEADLINE_S)
            except PeerRefusedError:
                self.refused[target] = began
                self.calls[target, "refused"] += 1
            except NodeError as error:  # its node is down: a connection of its own for every try, no waiting
                self.calls[target, type(error).__name__] += 1
                await peers.close()
                peers = open_peers(home, _now)
            else:
                self.accepted[target] = began
                self.calls[target, "accepted"] += 1
                assert not isinstance(answer, Refused), answer
            await asyncio.sleep(CALL_EVERY_S)
        await peers.close()


@dataclass(frozen=True)
class PutOut:
    """One province's last answer to who was put out. seconds: after publishing began, by when the call began."""

    how: str
    province: str
    is_publisher: bool
    seconds: float


@dataclass(frozen=True)
class Restored:
    """A node whose folder came back from an older backup: the calls it got from who is out, and those it answered."""

    calls: int
    accepted: int


HOLDER, OUT = "33", "51"
WAYS: Final = ("member removed", "leaf revoked", "intermediate removed")


def measure_revocations(
    town: Town,
    *,
    persons: int,
    rounds: int,
    restores: int,
    seed: int,
    others: Sequence[str] = ("35", "36"),
    done: Callable[[int], None] = lambda _: None,
) -> tuple[list[PutOut], list[Restored]]:
    """Put a member out again and again, in every way there is, while it calls the others up to ten times a second.

    others: those beside the one that publishes. done: called with the number of rounds so far. Raises ConfigError or
    PeerUnreachableError when a command or a node fails.
    """
    targets = (HOLDER, *others)
    town.found((*targets, OUT))
    client = write_registries(town.root / "registries", town.codes, persons, seed)[0]
    for code in targets:
        town.import_registry(code)
    found: list[PutOut] = []
    restored: list[Restored] = []
    try:
        for code in targets:
            town.start(code)
        with Intruder(town, OUT, targets, client) as intruder:
            for number in range(rounds):
                found += _put_out(town, intruder, WAYS[number % len(WAYS)])
                done(number + 1)
        restored.extend(_restore_old(town, others[0], client) for _ in range(restores))
    finally:
        town.stop()
    return found, restored


def _put_out(town: Town, intruder: Intruder, how: str) -> list[PutOut]:
    proposal, intermediate = town.new_file("out", "proposal"), town.intermediates[OUT]
    intruder.until_accepted()
    if how == "member removed":
        town.propose(proposal, "remove", "--province", OUT)
    elif how == "leaf revoked":
        serial = json.loads(town.run(OUT, "cert", "status", "--home", OUT, "--json"))["serial"]
        entry = town.new_file("leaf", "revoked")
        town.run(OUT, "cert", "revoke", "--home", OUT, "--serial", serial, "--reason", "key_compromise", "--out", entry)
        town.propose(proposal, "revoke", "--from", entry)
    else:
        town.propose(proposal, "change", "--province", OUT, "--remove-intermediate", intermediate)
    town.sign(proposal)
    began = _now_s()
    town.run(HOLDER, "federation", "publish", proposal, "--home", HOLDER)
    intruder.until_refused()
    found = [PutOut(how, code, code == HOLDER, max(0.0, last - began)) for code, last in intruder.accepted.items()]
    _let_in(town, how)
    return found


def _let_in(town: Town, how: str) -> None:
    if how == "leaf revoked":
        town.run(OUT, "cert", "renew", "--home", OUT)
        return
    proposal = town.new_file("in", "proposal")
    if how == "member removed":
        town.admit(OUT, proposal, "--home", HOLDER)
    else:
        town.propose(proposal, "change", "--province", OUT, "--add-intermediate", town.intermediates[OUT])
    town.publish(proposal)


def _restore_old(town: Town, node: str, client: Client) -> Restored:
    """Put a node's folder back to before a member was removed; count what that member gets from it afterwards."""
    memory, keys = town.new_file("backup", "tar.gz"), town.new_file("keys", "tar.gz")
    town.run(node, "backup", "create", memory, "--keys", keys, "--home", node)
    proposal = town.new_file("out", "proposal")
    town.propose(proposal, "remove", "--province", OUT)
    town.publish(proposal)
    town.until_heard()
    town.stop(node)
    town.home(node).root.rename(town.root / town.new_file(node, "gone"))
    town.run(node, "backup", "restore", memory, "--keys", keys, "--home", node)
    town.import_registry(node)
    with Intruder(town, OUT, (node,), client) as intruder:
        town.start(node)
        intruder.until_refused()
        time.sleep(WATCH_S)
    _let_in(town, "member removed")
    town.until_heard()
    refused, accepted = intruder.calls[node, "refused"], intruder.calls[node, "accepted"]
    return Restored(refused + accepted, accepted)


def _header() -> QuestionHeader:
    issued_at = _now()
    return QuestionHeader(
        nonce=secrets.token_bytes(NONCE_BYTES),
        case_reference="ROLL-intruder",
        purpose=Purpose.SELF_TEST,
        operator_pseudonym=bytes(PSEUDONYM_BYTES),
        issued_at=issued_at,
        deadline=issued_at + timedelta(seconds=CALL_DEADLINE_S),
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _now_s() -> float:
    return time.monotonic()
