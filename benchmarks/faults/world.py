"""Three provinces to break: made by the real commands, every node a process, every connection over a wire of ours.

33 has most of the clients' homes, 35 asks, 36 is the third. Clients are registered persons described without a mistake,
or nobody, and are used only if they were answered rightly before anything was broken.
"""

from __future__ import annotations

import csv
import itertools
import shutil
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.demo import FEDERATION, HEADINGS, DemoPlan, build, free_ports, listens
from benchmarks.faults.books import read_books
from benchmarks.faults.caller import Caller
from benchmarks.faults.invariants import Asked, Ledger, Scene, check, open_cases
from benchmarks.faults.nursery import Nursery
from benchmarks.faults.seams import Orders, write_orders
from benchmarks.faults.wire import Wire
from matching.question import Client
from node.budget import MAX_LIMIT
from node.config import NodeConfig, load_config, write_config
from node.errors import ConfigError, NodeError
from node.findings import Accepted, Concluded, Failed, ProvinceState
from node.local_client import LocalRequest, ask_node
from node.messages import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Self

    from benchmarks.demo import Progress
    from benchmarks.faults.books import Books
    from benchmarks.faults.invariants import Violation
    from benchmarks.faults.nursery import Child
    from node.home import NodeHome

HOME: Final = "33"  # the first code: its node signs the timestamps
ASKER: Final = "35"
THIRD: Final = "36"
PROVINCES: Final = (HOME, ASKER, THIRD)
CLIENTS: Final = {HOME: 6, THIRD: 2, ASKER: 2, None: 2}  # few enough that no sweep monitor minds
START_S: Final = 60.0
SETTLE_S: Final = 150.0  # what a fault left open is asked again after seconds, then ever more rarely
QUESTION_S: Final = 10.0
POLL_S: Final = 1.0  # between two looks at other members' membership: in a federation, 15 s
STOP_S: Final = 75.0


@dataclass(frozen=True)
class Planted:
    """A client of known truth. province None: registered nowhere."""

    client: Client
    province: str | None


@dataclass
class World:
    """The federation of one campaign. Use as a context; `ledger` is everything that was ever asked since `renew`."""

    root: Path
    seed: int
    persons: int = 600
    progress: Progress = lambda *_: None
    ledger: Ledger = field(default_factory=Ledger)
    wires: dict[str, Wire] = field(default_factory=dict)
    clients: list[Planted] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    """What a fault's setting up leaves for its runs."""
    _children: dict[str, Child] = field(default_factory=dict)
    _cases: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.nursery = stack.enter_context(Nursery())
            plan = DemoPlan(self.persons, self.persons // 60, self.seed, PROVINCES)
            self.folder, _ = build(self.root, plan, self.progress, run=self.nursery.run)
            self.ports = self.folder.plan().ports
            free = free_ports([*PROVINCES, *(f"behind {code}" for code in PROVINCES)]).values()
            behind = [port for port in free if port not in self.ports.values()]
            for code, port in zip(PROVINCES, behind, strict=False):
                self.wires[code] = stack.enter_context(self._wire(code, port))
            stack.callback(self.kill_all)
            self.start(*PROVINCES)
            self.caller = stack.enter_context(Caller(self.home(THIRD), now, several=4))
            self.clients = self._plant()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _wire(self, code: str, port: int) -> Wire:
        """Put a wire where the members list says the node is, and the node behind it."""
        self.set(
            code,
            listen=f"127.0.0.1:{port}",
            membership_poll_s=POLL_S,
            budgets=dict.fromkeys(
                ("peer_per_day", "peer_per_month", "operator_per_day", "operator_per_month", "case_per_day",
                 "case_per_month", "repeats_per_day", "repeats_per_month"), MAX_LIMIT,
            ),
        )  # fmt: skip
        return Wire(f"127.0.0.1:{self.ports[code]}", f"127.0.0.1:{port}")

    # --- nodes ---

    def home(self, code: str) -> NodeHome:
        """Return a node's folder."""
        return self.folder.home(code)

    def config(self, code: str) -> NodeConfig:
        """Return a node's settings."""
        return load_config(self.home(code))

    def set(self, code: str, **settings: Any) -> None:
        """Change a node's settings; they count from its next start."""
        home = self.home(code)
        config = NodeConfig.model_validate(load_config(home).model_dump(exclude_none=True) | settings)
        home.config.unlink()
        write_config(home, config)

    def control(self, code: str) -> Path:
        """Return a node's control file."""
        return self.root / f"{code}.orders"

    def orders(self, code: str, orders: Orders) -> None:
        """Arm a node, or disarm it."""
        write_orders(self.control(code), orders)

    def start(self, *codes: str) -> None:
        """Start nodes, disarmed, and return when they serve. Raises ConfigError for one that does not."""
        for code in codes:
            self.launch(code)
        for code in codes:
            self.wait_until_serving(code)

    def launch(self, code: str, orders: Orders | None = None, *, environment: Mapping[str, str] | None = None) -> None:
        """Start a node's process. orders: that count from its first step on."""
        self.orders(code, orders or Orders())
        serve = ("node", "serve", "--home", str(self.home(code).root))
        self._children[code] = self.nursery.start(
            serve, self.folder.log(code), control=self.control(code), environment=environment
        )

    def wait_until_serving(self, code: str) -> None:
        """Return when a node has opened its doors. Raises ConfigError when it ended before."""
        until(lambda: not self.is_running(code) or listens(self.home(code)), START_S, f"{code} does not serve")
        if not self.is_running(code):
            raise ConfigError(f"the node of {code} ended", hint=f"what it said is in {self.folder.log(code)}")

    def is_running(self, code: str) -> bool:
        """Whether a node's process runs, stopped as it may be."""
        return code in self._children and self._children[code].is_running

    def running(self) -> list[str]:
        """Return the nodes whose processes run."""
        return [code for code in PROVINCES if self.is_running(code)]

    def pid(self, code: str) -> int:
        """Return the id of a node's process."""
        return self._children[code].pid

    def kill(self, code: str, number: int = signal.SIGKILL) -> None:
        """End a node's process and wait for it."""
        child = self._children[code]
        child.signal(number)
        child.wait(STOP_S)

    def wait_for_death(self, code: str, timeout_s: float = START_S) -> bool:
        """Return whether a node killed itself within the time; whatever of it is left is killed then."""
        child = self._children[code]
        try:
            return child.wait(timeout_s) == -signal.SIGKILL
        except TimeoutError:
            self.kill(code)
            return False

    def signal(self, code: str, number: int) -> None:
        """Send a node's process a signal."""
        self._children[code].signal(number)

    def kill_all(self) -> None:
        """End every node at once."""
        for child in self._children.values():
            child.signal(signal.SIGCONT)
            child.signal(signal.SIGKILL)
        for child in self._children.values():
            child.wait(STOP_S)

    def restart_all(self) -> None:
        """Stop every node as an admin would, and start it again."""
        for wire in self.wires.values():
            wire.heal()
        for code in self.running():
            self.signal(code, signal.SIGCONT)
            self.signal(code, signal.SIGTERM)
        for code in PROVINCES:
            if code in self._children:
                self._children[code].wait(STOP_S)
        self.start(*PROVINCES)

    def renew(self) -> None:
        """Begin with empty databases and logs: what is checked stays small, and each fault answers for itself."""
        self.kill_all()
        for code in PROVINCES:
            self._forget(code)
        for wire in self.wires.values():
            wire.heal()
        self.ledger = Ledger()
        self.start(*PROVINCES)

    def database(self, code: str, url: str | None, **settings: Any) -> None:
        """Let a node use another, empty database from its next start; None: the one in its folder."""
        if self.is_running(code):
            self.kill(code)
        home = self.home(code)
        left = load_config(home).model_dump(exclude_none=True, exclude={"database_url"})
        config = NodeConfig.model_validate(left | ({"database_url": url} if url else {}) | settings)
        home.config.unlink()
        write_config(home, config)

    def _forget(self, code: str) -> None:
        """Empty a node's database, and remove what belongs to its log."""
        home = self.home(code)
        url = self.config(code).store_url(home)
        if url.startswith("sqlite:///"):
            database = Path(url.removeprefix("sqlite:///"))
            for path in database.parent.glob(f"{database.name}*"):
                path.unlink()
        else:
            self.notes["postgres"].empty(url)
        shutil.rmtree(home.audit_checkpoint.parent, ignore_errors=True)

    def is_ready(self, code: str) -> bool:
        """Whether a node says of itself that all is well."""
        try:
            return self.caller.is_ready(code, self.config(code).listen)
        except NodeError:
            return False

    def pulang(self, code: str, *arguments: str) -> int:
        """Run a command at a node's folder; return its exit code."""
        return self.nursery.run((*arguments, "--home", str(self.home(code).root)), self.folder.log(code))

    def log(self, code: str) -> str:
        """Return everything a node has said."""
        return self.folder.log(code).read_text(encoding="utf-8", errors="replace")

    # --- asking ---

    def ask(
        self,
        planted: Planted | None = None,
        *,
        asker: str = ASKER,
        timeout_s: float = QUESTION_S,
        case: str | None = None,
    ) -> Asked:
        """Ask about a client as `pulang find` does; whatever comes of it is in the ledger."""
        planted = planted or self.clients[0]
        with self._lock:
            case = case or f"K-{next(self._cases):05d}"
        accepted, concluded, failure = False, None, None
        request = LocalRequest(planted.client, Purpose.SELF_TEST, case, timeout_s)
        try:
            for finding in ask_node(self.home(asker), request):
                match finding:
                    case Accepted():
                        accepted = True
                    case Concluded():
                        concluded = finding
                    case Failed():
                        failure = finding.message
        except NodeError as error:
            failure = str(error)
        asked = Asked(case, asker, planted.province, accepted, concluded, failure)
        with self._lock:
            self.ledger.asked.append(asked)
        return asked

    def _plant(self) -> list[Planted]:
        """Choose clients, and keep those that are answered rightly while all is well."""
        wanted = [planted for code, count in CLIENTS.items() for planted in itertools.islice(self._of(code), count * 2)]
        right = [planted for planted in wanted if is_right(self.ask(planted))]
        kept = []
        for code, count in CLIENTS.items():
            of_code = [planted for planted in right if planted.province == code][:count]
            if not of_code:
                raise ConfigError("too few clients were answered rightly before anything was broken")
            kept += of_code
        return kept

    def _of(self, code: str | None) -> Iterator[Planted]:
        """Yield registered persons exactly as their registry has them, or clients who are registered nowhere."""
        if code is None:
            for each in self.folder.pool_clients(self.folder.plan()):
                client = each.client
                if each.province is None and all((client.name, client.born, client.mother_name, client.birthplace)):
                    yield Planted(client, None)
            return
        with self.folder.registry(code).open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream, delimiter=";"):
                name, sex, born, place, mother = (
                    row[HEADINGS[field]] for field in ("name", "sex", "birth_date", "birthplace", "mother_name")
                )
                if all((name, sex, born, place, mother)) and " " in name and " " in mother:
                    yield Planted(Client(name=name, sex=sex, born=born, birthplace=place, mother_name=mother), code)

    # --- looking ---

    def books(self, codes: Sequence[str] = PROVINCES) -> dict[str, Books]:
        """Read what every node has on record."""
        return {code: read_books(code, self.config(code).store_url(self.home(code))) for code in codes}

    def violations(self, *, at_rest: bool = False) -> list[Violation]:
        """Check every invariant now."""
        heads = {code: path.read_bytes() for code in PROVINCES if (path := self.home(code).audit_checkpoint).exists()}
        with self._lock:
            ledger = Ledger(list(self.ledger.asked), self.ledger.raw, self.ledger.answered)
        return check(Scene(FEDERATION, self.books(), self.books(), ledger, heads, at_rest=at_rest))

    def open_cases(self) -> list[str]:
        """Return the cases that still wait for a province."""
        return open_cases(list(self.books().values()))

    def recovered(self, since: float, *, timeout_s: float = SETTLE_S) -> float | None:
        """Wait until every node is ready and a question is answered whole and rightly; return seconds since then.

        since: of time.monotonic. None: it did not come about in time.
        """
        for planted in itertools.cycle(self.clients):
            if time.monotonic() - since > timeout_s:
                return None
            if all(self.is_ready(code) for code in PROVINCES) and is_right(self.ask(planted)):
                return time.monotonic() - since
            time.sleep(0.2)
        return None

    # --- the membership ---

    def publish(self, proposal: str, *steps: Sequence[str]) -> None:
        """Propose, sign by two, and publish at the node that holds the timestamp key. Raises ConfigError."""
        file = self.root / proposal
        file.unlink(missing_ok=True)
        home = ("--home", str(self.home(HOME).root))
        log = self.folder.log(HOME)
        words = [("propose", *step, "--proposal", str(file), *home) for step in steps]
        words += [
            ("sign", str(file), *home, "--key", str(self.root / f"{signer}.key"), "--yes")
            for signer in ("signer-1", "signer-2")
        ]
        words.append(("publish", str(file), *home))
        for each in words:
            if ended := self.nursery.run(("federation", *each), log):
                raise ConfigError(f"`pulang federation {each[0]}` ended with {ended}", hint=f"see {log}")


def is_right(asked: Asked) -> bool:
    """Whether every province answered and the conclusion is the truth."""
    concluded = asked.concluded
    if concluded is None or any(each.state is not ProvinceState.ANSWERED for each in concluded.heard):
        return False
    expected = ("not_registered", None) if asked.truth is None else ("home_found", asked.truth)
    return (concluded.outcome, concluded.province) == expected


def until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait for what processes bring about. Raises ConfigError saying `what` when it does not come."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > ends_at:
            raise ConfigError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.02)


def now() -> datetime:
    """Return the time: the campaign's own clock is never shifted."""
    return datetime.now(UTC)
