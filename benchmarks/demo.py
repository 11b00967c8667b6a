"""Ten provinces on one machine: registries, certificates, nodes and clients of known truth, through the real commands.

Nothing here takes a short cut: every node is a process of its own, made by the commands an operator types, and
clients are asked about through the node's own socket.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from benchmarks.populations import Recipe, stream
from matching.question import Client
from node.errors import ConfigError, NodeError, PeerUnreachableError
from node.findings import Concluded, Failed
from node.home import NodeHome
from node.local_client import LocalRequest, ask_node, socket_address
from node.messages import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    Progress = Callable[[str, int, int], None]  # step, done, of how many
    Run = Callable[[Sequence[str], Path], int]  # words of a `pulang` command, where it says its own -> exit code
    Row = dict[str, Any]  # a client with truth and errors, by column

FEDERATION: Final = "fkd-mpu-demo"
SIGNERS: Final = ("signer-1", "signer-2", "signer-3")  # any two of them decide
MARKER: Final = "demo.json"  # written last: a folder that has it may be replaced by the next demo
PULANG: Final = (
    sys.executable,
    "-P",
    "-m",
    "node.cli.main",
)  # -P: whatever folder this is run in holds no code of ours
FIRST_PORT: Final = 20_000
PORT_STARTS: Final = 1_000
LAST_PORT: Final = 32_768  # from here on Linux gives ports to outgoing connections
READY_S: Final = 90.0  # ten processes load and compile on two cores
STOP_S: Final = 15.0
QUESTION_S: Final = 10.0
POOL_PER_CLIENT: Final = 60  # clients made per client shown, so that every kind is found among them

# What a registry of a Dinas Sosial calls its columns; the importer has to guess them.
HEADINGS: Final = {
    "record_id": "No Register",
    "name": "Nama Lengkap",
    "sex": "Jenis Kelamin",
    "birth_date": "Tanggal Lahir",
    "birthplace": "Tempat Lahir",
    "mother_name": "Nama Ibu Kandung",
}
# Kinds of client with their share of the demo, in the order of choosing.
KINDS: Final[tuple[tuple[str, float], ...]] = (
    ("old spelling", 4 / 30),
    ("wrong year", 4 / 30),
    ("one word", 6 / 30),
    ("unregistered", 8 / 30),
    ("other", 8 / 30),
)


@dataclass(frozen=True)
class DemoClient:
    """A made-up client of known truth. province None: registered nowhere. asked_by: where they were found."""

    query_id: str
    kind: str
    province: str | None
    asked_by: str
    client: Client


@dataclass(frozen=True)
class DemoAnswer:
    """What came back. seconds: from the question to its conclusion, as the caseworker waits."""

    asked: DemoClient
    concluded: Concluded | None
    failure: str | None
    seconds: float

    @property
    def verdict(self) -> str:
        """`right`, `wrong`, `missed`, `ambiguous`, `incomplete` or `failed`, against the truth."""
        if self.concluded is None:
            return "failed"
        if self.concluded.outcome == "home_found":
            return "right" if self.concluded.province == self.asked.province else "wrong"
        if self.concluded.outcome == "not_registered":
            return "right" if self.asked.province is None else "missed"
        return self.concluded.outcome


@dataclass(frozen=True)
class DemoPlan:
    """What a demo is made of; written into its folder, so that it can be served again."""

    persons: int
    clients: int
    seed: int
    provinces: tuple[str, ...]
    ports: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DemoFolder:
    """Where a demo keeps what."""

    root: Path

    def home(self, code: str) -> NodeHome:
        """Return a node's folder."""
        return NodeHome(self.root / "nodes" / code)

    def registry(self, code: str) -> Path:
        """Return the registry file of a province."""
        return self.root / "registries" / f"{code}.csv"

    def log(self, code: str) -> Path:
        """Return the file that holds what a province's commands and node said."""
        return self.root / "logs" / f"{code}.log"

    @property
    def authority(self) -> Path:
        """Return the federation authority's folder."""
        return self.root / "authority"

    @property
    def repository(self) -> Path:
        """Return the folder of the membership's signed metadata, as they were founded."""
        return self.root / "repository"

    @property
    def root_sha256(self) -> str:
        """Return what every node compares when it joins."""
        return hashlib.sha256((self.repository / "root.json").read_bytes()).hexdigest()

    @property
    def pool(self) -> Path:
        """Return the file of all clients that were made up, with their truth."""
        return self.root / "clients.csv"

    def pool_clients(self, plan: DemoPlan) -> list[DemoClient]:
        """Read all clients, those that nobody chose included, each found in the next province in turn."""
        rows = pl.read_csv(self.pool, infer_schema=False).to_dicts()
        turns = itertools.cycle(plan.provinces)
        return [
            DemoClient(row["query_id"], kind_of(row), row["province"], asked_by, _client(row))
            for row, asked_by in zip(rows, turns, strict=False)
        ]

    def plan(self) -> DemoPlan:
        """Read what the demo in this folder is made of. Raises ConfigError when there is none."""
        try:
            document = json.loads((self.root / MARKER).read_bytes())
        except FileNotFoundError:
            raise ConfigError(f"{self.root} holds no demo", hint=f"`pulang demo --out {self.root}` makes one") from None
        return DemoPlan(**{**document, "provinces": tuple(document["provinces"])})


def run_pulang(arguments: Sequence[str], log: Path) -> int:
    """Run one `pulang` command to its end; return its exit code."""
    with log.open("ab") as stream:
        command = [*PULANG, *arguments]
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, check=False).returncode  # noqa: S603


def build(
    root: Path, plan: DemoPlan, progress: Progress, *, run: Run = run_pulang
) -> tuple[DemoFolder, list[DemoClient]]:
    """Make registries, authority and nodes under `root`. Raises ConfigError when a command fails."""
    folder = DemoFolder(root)
    _make_room(root)
    clients = _write_registries(folder, plan, progress)
    plan = DemoPlan(plan.persons, plan.clients, plan.seed, plan.provinces, free_ports(plan.provinces))
    _found_federation(folder, plan, progress, run)
    _import_registries(folder, plan, progress, run)
    (root / MARKER).write_text(json.dumps(asdict(plan)) + "\n")
    return folder, clients


def _make_room(root: Path) -> None:
    if root.exists() and any(root.iterdir()):
        if not (root / MARKER).exists():
            raise ConfigError(f"{root} is not empty, and no demo made it", hint="name another folder with --out")
        shutil.rmtree(root)
    for name in ("registries", "nodes", "logs"):
        (root / name).mkdir(parents=True)


# --- registries and clients ---------------------------------------------------------------------------------------


def _write_registries(folder: DemoFolder, plan: DemoPlan, progress: Progress) -> list[DemoClient]:
    """Write one CSV file per province as its Dinas Sosial would export it; return the clients to ask about."""
    total, done = plan.persons * len(plan.provinces), 0
    started: set[str] = set()

    def keep(part: pl.DataFrame) -> None:
        nonlocal done
        code = part["province"][0]
        table = part.drop("province").rename(HEADINGS)
        days = pl.col(HEADINGS["birth_date"])
        table = table.with_columns(
            pl.concat_str(days.str.slice(8, 2), days.str.slice(5, 2), days.str.slice(0, 4), separator="-")
        )
        with folder.registry(code).open("ab") as stream:
            table.write_csv(stream, include_header=code not in started, separator=";")
        started.add(code)
        done += part.height
        progress("persons made up", done, total)

    recipe = Recipe(total, plan.clients * POOL_PER_CLIENT, "base", plan.seed, provinces=plan.provinces, equal=True)
    made = stream(recipe, keep)
    pool = made.queries.join(made.truth, on="query_id").join(made.errors, on="query_id")
    pool.write_csv(folder.pool)
    return choose_clients(pool, plan)


def choose_clients(pool: pl.DataFrame, plan: DemoPlan) -> list[DemoClient]:
    """Choose clients of every kind, from every province in turn, by their truth alone, never by their answer."""
    rows = pool.to_dicts()
    taken: set[str] = set()
    chosen: list[DemoClient] = []
    for kind, wanted in _wanted(plan.clients):
        fitting = [row for row in rows if kind_of(row) == kind and row["query_id"] not in taken]
        for row in _spread(fitting, wanted, start=len(chosen)):
            taken.add(row["query_id"])
            others = [code for code in plan.provinces if code != row["province"]] or list(plan.provinces)
            chosen.append(
                DemoClient(row["query_id"], kind, row["province"], others[len(chosen) % len(others)], _client(row))
            )
    return sorted(chosen, key=lambda each: each.query_id)


def kind_of(row: Mapping[str, Any]) -> str:
    """Return the kind of a client, from what was done to their description."""
    operations = (row["operations"] or "").split(";")
    if row["province"] is None:
        return "unregistered"
    if "name:old_spelling" in operations:
        return "old spelling"
    if "dob:year_off" in operations:
        return "wrong year"
    return "one word" if " " not in (row["name"] or "") else "other"


def _wanted(clients: int) -> list[tuple[str, int]]:
    """Share the clients out over the kinds, the last kind taking what rounding leaves."""
    counts = [(kind, int(clients * share)) for kind, share in KINDS]
    kind, count = counts[-1]
    return [*counts[:-1], (kind, count + clients - sum(each for _, each in counts))]


def _spread(rows: Sequence[Row], wanted: int, start: int) -> list[Row]:
    """Take rows in their order, a province at a time in turn."""
    by_province: dict[str, list[Row]] = {}
    for row in rows:
        by_province.setdefault(row["province"] or "", []).append(row)
    provinces = sorted(by_province)
    taken: list[Row] = []
    turn = start
    while len(taken) < wanted and any(by_province.values()):
        waiting = by_province[provinces[turn % len(provinces)]]
        if waiting:
            taken.append(waiting.pop(0))
        turn += 1
    return taken


def _client(row: Row) -> Client:
    return Client(
        name=row["name"],
        sex=row["sex"],
        born=row["birth_date"],
        birthplace=row["birthplace"],
        mother_name=row["mother_name"],
    )


# --- the federation ------------------------------------------------------------------------------------------------


def free_ports(provinces: Sequence[str]) -> dict[str, int]:
    """Choose ports below those the system gives to outgoing connections: no such connection can take one meanwhile."""
    ports: dict[str, int] = {}
    start = FIRST_PORT + os.getpid() % PORT_STARTS * len(provinces)
    for port in range(start, LAST_PORT):
        if len(ports) == len(provinces):
            break
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports[provinces[len(ports)]] = port
    return ports


def _found_federation(folder: DemoFolder, plan: DemoPlan, progress: Progress, program: Run) -> None:
    """Give every node its certificate and the signed list of members, by the commands an operator would type."""
    authority, repository = str(folder.authority), str(folder.repository)
    everything, done = len(SIGNERS) * 2 + 4 + 8 * len(plan.provinces), 0
    proposal = str(folder.root / "founding.proposal")
    holder = plan.provinces[0]  # its node signs the timestamps

    def run(code: str, *arguments: str) -> None:
        nonlocal done
        _command(folder, program, code, *arguments)
        done += 1
        progress("certificates and members", done, everything)

    def make(code: str) -> None:
        home = str(folder.home(code).root)
        run(code, "node", "init", "--home", home, "--province", code, "--federation", FEDERATION,
            "--listen", f"127.0.0.1:{plan.ports[code]}")  # fmt: skip
        run(code, "ca", "prepare", "--home", home, "--out", f"{home}/request.csr")

    def join(code: str) -> None:
        home = str(folder.home(code).root)
        run(code, "ca", "install", f"{home}/certificate.pem", "--home", home, "--root", f"{authority}/root.pem")
        run(code, "ca", "activate", "--home", home)
        run(code, "cert", "renew", "--home", home)
        run(code, "federation", "join", "--home", home, "--repository", repository,
            "--root-sha256", folder.root_sha256, "--epoch-secret", f"{authority}/epoch-1.key")  # fmt: skip

    run("authority", "federation", "authority", authority, "--name", FEDERATION)
    for signer in SIGNERS:
        run(signer, "federation", "signer-key", str(folder.root / f"{signer}.key"))
    with _workers() as pool:
        list(pool.map(make, plan.provinces))
        run(holder, "federation", "timestamp-key", "--home", str(folder.home(holder).root))
        key = folder.home(holder).tuf / "timestamp.key"
        signers = [part for each in SIGNERS for part in ("--signer", f"{each}={folder.root / each}.key.pub")]
        run("authority", "federation", "init", proposal, "--name", FEDERATION, *signers, "--threshold", "2",
            "--timestamp-key", f"node {holder}={key}.pub", "--root", f"{authority}/root.pem",
            "--epoch-secret", f"{authority}/epoch-1.key")  # fmt: skip
        for code in plan.provinces:  # the authority is one person at one desk
            home = str(folder.home(code).root)
            run(code, "ca", "issue", "--authority", authority, f"{home}/request.csr", "--province", code,
                "--out", f"{home}/certificate.pem")  # fmt: skip
            run(code, "federation", "propose", "admit", "--repository", repository, "--proposal", proposal,
                "--province", code, "--address", f"127.0.0.1:{plan.ports[code]}",
                "--intermediate", f"{home}/certificate.pem")  # fmt: skip
        for signer in SIGNERS:
            run(signer, "federation", "sign", proposal, "--repository", repository,
                "--key", str(folder.root / f"{signer}.key"), "--yes")  # fmt: skip
        run(holder, "federation", "publish", proposal, "--repository", repository, "--timestamp-key", str(key))
        list(pool.map(join, plan.provinces))


def _import_registries(folder: DemoFolder, plan: DemoPlan, progress: Progress, program: Run) -> None:
    done = 0

    def load(code: str) -> None:
        nonlocal done
        home = str(folder.home(code).root)
        _command(folder, program, code, "registry", "import", str(folder.registry(code)), "--home", home, "--yes")
        done += 1
        progress("registries imported", done, len(plan.provinces))

    with _workers() as pool:
        list(pool.map(load, plan.provinces))


def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1)


def _command(folder: DemoFolder, run: Run, code: str, *arguments: str) -> None:
    """Run one `pulang` command to its end; its words go to the province's log."""
    with folder.log(code).open("a") as log:
        log.write(f"$ pulang {' '.join(arguments)}\n")
    ended = run(arguments, folder.log(code))
    if ended:
        raise ConfigError(
            f"`pulang {' '.join(arguments[:2])}` for {code} ended with exit code {ended}",
            hint=f"what it said is in {folder.log(code)}",
        )


# --- running nodes --------------------------------------------------------------------------------------------------


@contextmanager
def serving(folder: DemoFolder, plan: DemoPlan, progress: Progress) -> Iterator[Mapping[str, int]]:
    """Run every node as a process of its own and yield their ids by province; stop them all at the end.

    Raises PeerUnreachableError when one fails.
    """
    processes: dict[str, subprocess.Popen[bytes]] = {}
    with ExitStack() as stack:
        stack.callback(lambda: _stop(processes.values()))
        marks = {}
        for code in plan.provinces:
            log = stack.enter_context(folder.log(code).open("ab"))
            marks[code] = log.tell()
            processes[code] = subprocess.Popen(  # noqa: S603 - our own command
                [*PULANG, "node", "serve", "--home", str(folder.home(code).root)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        _wait_until_ready(folder, processes, progress)
        yield {code: process.pid for code, process in processes.items()}


def _wait_until_ready(folder: DemoFolder, processes: Mapping[str, subprocess.Popen[bytes]], progress: Progress) -> None:
    deadline = time.monotonic() + READY_S
    waiting = dict(processes)
    while waiting:
        for code, process in list(waiting.items()):
            if process.poll() is not None:
                raise PeerUnreachableError(
                    f"the node of province {code} ended with exit code {process.returncode}",
                    hint=f"what it said is in {folder.log(code)}",
                )
            if listens(folder.home(code)):
                del waiting[code]
                progress("nodes ready", len(processes) - len(waiting), len(processes))
        if time.monotonic() > deadline:
            raise PeerUnreachableError(
                f"{len(waiting)} nodes were not ready after {READY_S:.0f} s", hint=f"look into {folder.root / 'logs'}"
            )
        time.sleep(0.1)


def listens(home: NodeHome) -> bool:
    """Whether a node opened its socket: it does so last, when it can answer."""
    if not home.socket.exists():
        return False
    with socket.socket(socket.AF_UNIX) as probe, socket_address(home.socket) as address:
        return probe.connect_ex(address) == 0


def _stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    for process in running:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# --- asking ---------------------------------------------------------------------------------------------------------


def ask(folder: DemoFolder, asked: DemoClient) -> DemoAnswer:
    """Ask about one client at the node where they were found, as `pulang find` does."""
    request = LocalRequest(
        asked.client, purpose=Purpose.SELF_TEST, case_reference=f"DEMO-{asked.query_id}", timeout_s=QUESTION_S
    )
    started = time.monotonic()
    concluded, failure = None, None
    try:
        for finding in ask_node(folder.home(asked.asked_by), request):
            if isinstance(finding, Concluded):
                concluded = finding
            elif isinstance(finding, Failed):
                failure = finding.message
    except NodeError as error:
        failure = str(error)
    return DemoAnswer(asked, concluded, failure, time.monotonic() - started)


def warm_up(folder: DemoFolder, plan: DemoPlan) -> None:
    """Ask once at every node, so that connections stand before anybody looks at a clock."""
    for code in plan.provinces:
        ask(folder, DemoClient("warm-up", "", None, code, Client(name="Contoh", sex="L", born="1970")))


@dataclass(frozen=True)
class DemoSummary:
    """How the answers stand against the truth.

    home_right: homes found where they are. home_wrong: a home named where it is not. absent_right: registered nowhere,
    and answered so. missed: answered so, but registered. ambiguous_leads: of the ambiguous, the true province first.
    """

    clients: int
    home_right: int
    home_wrong: int
    absent_right: int
    missed: int
    ambiguous: int
    ambiguous_leads: int
    unanswered: int
    median_s: float
    worst_s: float


def summarise(answers: Sequence[DemoAnswer]) -> DemoSummary:
    """Count what became of every client."""
    verdicts = Counter((answer.verdict, answer.asked.province is not None) for answer in answers)
    open_cases = [answer for answer in answers if answer.verdict == "ambiguous"]
    seconds = [answer.seconds for answer in answers]
    return DemoSummary(
        clients=len(answers),
        home_right=verdicts["right", True],
        home_wrong=verdicts["wrong", True] + verdicts["wrong", False],
        absent_right=verdicts["right", False],
        missed=verdicts["missed", True],
        ambiguous=len(open_cases),
        ambiguous_leads=sum(_leads(answer) for answer in open_cases),
        unanswered=sum(answer.verdict in {"incomplete", "failed"} for answer in answers),
        median_s=statistics.median(seconds),
        worst_s=max(seconds),
    )


def _leads(answer: DemoAnswer) -> bool:
    """Whether the truth is the likeliest of all, `none of these` included."""
    if answer.concluded is None:
        return False
    best, share = max(answer.concluded.provinces.items(), key=lambda item: item[1], default=(None, 0.0))
    return (best if share > answer.concluded.none else None) == answer.asked.province
