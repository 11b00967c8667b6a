"""Every fault of the table in the design, as it is made: by signals, by the wire, by files, by certificates, by clocks.

Each injects one fault, asks meanwhile, ends the fault, and says what that fault alone must do (`stage.promise`). What
must hold whatever happens is checked after each, by benchmarks/faults/invariants.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.faults.caller import digest
from benchmarks.faults.invariants import PROMISE, Violation
from benchmarks.faults.postgres import Postgres
from benchmarks.faults.seams import ANSWERING, ASKING, KEEPING, Orders
from benchmarks.faults.wire import Trouble
from benchmarks.faults.world import ASKER, HOME, PROVINCES, THIRD, is_right, now, until
from node.errors import ConfigError, PeerBusyError, PeerContractError, PeerError, PeerTimeoutError
from node.files import write_atomic
from node.findings import ProvinceState
from node.messages import Answered, Busy, RefusalReason, Refused
from node.pki.credentials import install_made
from node.pki.intermediate import ProvinceAuthority
from node.pki.keys import new_key
from node.pki.membership import Member
from node.pki.refresh import Mirror, reader_of
from node.pki.repository import TIMESTAMP, TIMESTAMP_LIFE, copy_in_use, read_signing_key, resign_timestamp
from node.publishing import published
from node.rpc.wire import MAX_REQUEST_BYTES, write_question

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from benchmarks.faults.invariants import Asked
    from benchmarks.faults.world import Planted, World

BATCH: Final = 25  # runs over the same books: they are read whole after every step
SHORT_S: Final = 1.5  # a caseworker's patience with somebody who is silent
DISK_MIB: Final = 24
LEAST_FREE_MIB: Final = 4
NOTICE_S: Final = 20.0  # readiness is looked at every two seconds
GOSSIP_S: Final = 90.0  # a peer whose metadata were refused before is asked ever more rarely
LIFE_S: Final = 4.0  # of a certificate, or a timestamp, that is to end soon
FLOOD: Final = 96
MEMORY_MIB: Final = 64  # what a flood may add once the first has been borne


@dataclass
class Stage:
    """One run of one fault: the world, chance of its own, and what came of it. number: of the run, from 0."""

    world: World
    chance: random.Random
    number: int = 0
    notes: dict[str, float] = field(default_factory=dict)
    """Of this fault's runs so far; may be written."""
    broken: list[Violation] = field(default_factory=list)
    ended_at: float | None = None

    def over(self) -> None:
        """Say that the fault has ended: recovery counts from here."""
        self.ended_at = time.monotonic()

    def promise(self, kept: object, text: str) -> None:
        """Note whether the node does what the fault table says of this fault."""
        if not kept:
            self.broken.append(Violation(PROMISE, text))

    def within(self, condition: Callable[[], bool], timeout_s: float, text: str) -> None:
        """Promise that something comes about within some seconds."""
        try:
            until(condition, timeout_s, text)
        except ConfigError:
            self.promise(kept=False, text=f"{text}: not within {timeout_s:.0f} s")

    def pick(self, *choices: str) -> str:
        """Choose one of several."""
        return self.chance.choice(choices)

    def pause(self, longest_s: float) -> None:
        """Let a random moment pass."""
        time.sleep(self.chance.uniform(0, longest_s))

    def client(self) -> Planted:
        """Choose a client."""
        return self.chance.choice(self.world.clients)

    @contextmanager
    def asking(self, questions: int = 2, *, asker: str = ASKER, timeout_s: float = SHORT_S) -> Iterator[list[Asked]]:
        """Ask while the block runs, and see the questions to their end; the list is filled by then."""
        asked: list[Asked] = []

        def ask(planted: Planted) -> None:
            asked.append(self.world.ask(planted, asker=asker, timeout_s=timeout_s))

        threads = [threading.Thread(target=ask, args=(self.client(),)) for _ in range(questions)]
        for thread in threads:
            thread.start()
        try:
            yield asked
        finally:
            for thread in threads:
                thread.join()


@dataclass(frozen=True)
class Fault:
    """One row. entry: which one of the design's table. share: how many of the runs asked for it gets: dear ones fewer.

    around: what is set up once for all runs, and taken down. missing: why it cannot be made here, None when it can.
    ways: runs until every way of injecting it has come once. batch: runs over the same books.
    """

    name: str
    entry: str
    how: str
    inject: Callable[[Stage], None]
    share: float = 1.0
    around: Callable[[World], AbstractContextManager[None]] | None = None
    missing: Callable[[], str | None] = lambda: None
    ways: int = 1
    batch: int = BATCH


# --- peers: processes --------------------------------------------------------------------------------------------


def _killed(stage: Stage) -> None:
    victim = stage.pick(HOME, THIRD)
    with stage.asking():
        stage.pause(0.12)
        stage.world.kill(victim)
    stage.over()
    stage.world.start(victim)


def _asker_killed(stage: Stage) -> None:
    with stage.asking(3):
        stage.pause(0.15)
        stage.world.kill(ASKER)
    stage.over()
    stage.world.start(ASKER)


def _down(stage: Stage) -> None:
    victim = stage.pick(HOME, THIRD)
    stage.world.kill(victim, signal.SIGTERM)
    asked = stage.world.ask(stage.client(), timeout_s=SHORT_S)
    stage.promise(_is_incomplete(asked, victim), f"{victim} is down, and the answer is not incomplete")
    stage.over()
    stage.world.start(victim)


def _stopped(stage: Stage) -> None:
    victim = stage.pick(HOME, THIRD)
    with stage.asking():
        stage.pause(0.08)
        stage.world.signal(victim, signal.SIGSTOP)
    stage.world.signal(victim, signal.SIGCONT)
    stage.over()


def _partial(stage: Stage) -> None:
    """Nobody but the asker answers at first; then one after the other."""
    first, second = stage.chance.sample([HOME, THIRD], 2)
    for victim in (first, second):
        stage.world.signal(victim, signal.SIGSTOP)
    asked = stage.world.ask(stage.client(), timeout_s=1.0)
    stage.promise(_is_incomplete(asked, first, second), "two are silent, and the answer is not incomplete")
    stage.world.signal(first, signal.SIGCONT)
    stage.pause(1.0)
    stage.world.ask(stage.client(), timeout_s=1.0)
    stage.world.signal(second, signal.SIGCONT)
    stage.over()


# --- peers: the wire ---------------------------------------------------------------------------------------------


def _wire(make: Callable[[random.Random], Trouble]) -> Callable[[Stage], None]:
    def inject(stage: Stage) -> None:
        victim = stage.pick(HOME, THIRD)
        wire = stage.world.wires[victim]
        if stage.chance.random() < 0.5:  # half of the runs meet a handshake, the others an open connection
            wire.disturb(Trouble("refuse"))
            wire.heal()
        wire.disturb(make(stage.chance))
        with stage.asking():
            pass
        wire.heal()
        stage.over()

    return inject


def _somewhere(chance: random.Random) -> int:
    """Draw how many bytes still pass: within a handshake, a question or an answer, at their edges too."""
    return int(chance.choice([0, chance.randint(0, 4500), chance.randint(0, 12_000)]))


def _cut(chance: random.Random) -> Trouble:
    return Trouble("cut", chance.choice(["there", "back"]), _somewhere(chance))


def _half_closed(chance: random.Random) -> Trouble:
    return Trouble("half_close", chance.choice(["there", "back"]), _somewhere(chance))


def _slow(chance: random.Random) -> Trouble:
    size, pause_s = chance.choice([(64, 0.02), (256, 0.1), (1024, 0.5), (16_384, 1.0)])
    return Trouble("slow", chance.choice(["there", "back"]), 0, pause_s, size)


def _corrupt(chance: random.Random) -> Trouble:
    return Trouble("corrupt", chance.choice(["there", "back"]), _somewhere(chance))


def _swallowed(chance: random.Random) -> Trouble:  # noqa: ARG001 - as the others
    return Trouble("swallow", "back", 0)


def _cut_in_search(stage: Stage) -> None:
    """Break the connection while the registry is searched: the same bytes come again before there is an answer."""
    world, victim = stage.world, stage.pick(HOME, THIRD)
    world.orders(victim, Orders(search_s=0.6))
    with stage.asking(2, timeout_s=3.0):
        time.sleep(0.1)
        stage.pause(0.4)
        world.wires[victim].disturb(Trouble("refuse"))
        world.wires[victim].heal()
    world.orders(victim, Orders())
    stage.over()


# --- kill -9 at a write ------------------------------------------------------------------------------------------


_WHEN: Final = ("before", "after")
_TWICE: Final = ("ask", "record_outcome")  # in a first question, and in asking again


def _asker_dies_at(place: str) -> Callable[[Stage], None]:
    def inject(stage: Stage) -> None:
        world, point = stage.world, f"{place}:{_WHEN[stage.number % 2]}"
        again = place == "record_attempt" or (place in _TWICE and stage.number // 2 % 2)
        if again:  # in asking again, not in the first question
            world.wires[THIRD].disturb(Trouble("refuse"))
            world.ask(stage.client(), timeout_s=SHORT_S)
            world.orders(ASKER, Orders(kill=point))
            world.wires[THIRD].heal()
        else:
            world.orders(ASKER, Orders(kill=point))
            world.ask(stage.client(), timeout_s=SHORT_S)
        stage.promise(world.wait_for_death(ASKER), f"{ASKER} never came to {point}")
        stage.over()
        world.start(ASKER)

    return inject


def _answerer_dies_at(place: str) -> Callable[[Stage], None]:
    def inject(stage: Stage) -> None:
        world, point = stage.world, f"{place}:{_WHEN[stage.number % 2]}"
        world.orders(HOME, Orders(kill=point))
        world.ask(stage.client(), timeout_s=SHORT_S)
        stage.promise(world.wait_for_death(HOME), f"{HOME} never came to {point}")
        stage.over()
        world.start(HOME)

    return inject


def _keeper_dies_at(place: str) -> Callable[[Stage], None]:
    def inject(stage: Stage) -> None:
        """Die in mid-search, and once more while that is tidied up at the next start."""
        world, point = stage.world, f"{place}:{_WHEN[stage.number % 2]}"
        world.orders(HOME, Orders(kill="search:before"))
        world.ask(stage.client(), timeout_s=SHORT_S)
        world.wait_for_death(HOME)
        world.launch(HOME, Orders(kill=point))
        stage.promise(world.wait_for_death(HOME), f"{HOME} never came to {point}")
        stage.over()
        world.start(HOME)

    return inject


# --- disk and database -------------------------------------------------------------------------------------------


@contextmanager
def _small_disks(world: World) -> Iterator[None]:
    """Give asker and home a database on a small file system of its own."""
    folders = {code: world.root / f"disk-{code}" for code in (HOME, ASKER)}
    mounted: list[Path] = []
    try:
        for code, folder in folders.items():
            folder.mkdir(exist_ok=True)
            _mount(folder)
            mounted.append(folder)
            world.database(code, f"sqlite:///{folder}/node.db", min_free_mib=LEAST_FREE_MIB)
        yield
    finally:
        for code in folders:
            world.database(code, None, min_free_mib=256)
        for folder in mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)  # noqa: S603, S607


def _mount(folder: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "none", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True)  # noqa: S603
    if done.returncode:
        raise ConfigError("a small disk cannot be mounted")


def _no_mount() -> str | None:
    return None if os.geteuid() == 0 and shutil.which("mount") else "mounting a small disk needs root"


def _disk_low(stage: Stage) -> None:
    world, victim = stage.world, stage.pick(HOME, ASKER)
    folder = world.root / f"disk-{victim}"
    ballast = _fill(folder, leave=LEAST_FREE_MIB << 19)
    stage.within(lambda: not world.is_ready(victim), NOTICE_S, f"{victim} is ready with a nearly full disk")
    asked = world.ask(stage.client(), timeout_s=SHORT_S)
    stage.promise(_is_incomplete(asked, victim), f"the disk of {victim} is nearly full, and it answers")
    _admin_reads(stage, victim, folder)
    ballast.unlink()
    stage.over()


def _disk_full(stage: Stage) -> None:
    world, victim = stage.world, stage.pick(HOME, ASKER)
    folder = world.root / f"disk-{victim}"
    with stage.asking(2):
        stage.pause(0.05)
        ballast = _fill(folder, leave=0)
    with stage.asking(2):
        pass
    _admin_reads(stage, victim, folder)
    if stage.chance.random() < 0.5:  # a node that is killed now may not come up before there is room
        world.kill(victim, stage.chance.choice([signal.SIGKILL, signal.SIGTERM]))
        _fill(folder, leave=0)
        _admin_reads(stage, victim, folder)
        world.launch(victim)
        with suppress(ConfigError):
            world.wait_until_serving(victim)
    ballast.unlink()
    stage.over()
    if not world.is_running(victim):
        world.start(victim)


def _fill(folder: Path, *, leave: int) -> Path:
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while (free := shutil.disk_usage(folder).free) > leave:
            file.write(bytes(min(1 << 16, max(512, free - leave))))
    return ballast


def _admin_reads(stage: Stage, victim: str, folder: Path) -> None:
    """Look as an admin would, at a disk that takes no more."""
    world = stage.world
    case = next(asked.case for asked in reversed(world.ledger.asked) if asked.was_accepted)
    shown = [("case", "show", case)] if victim == ASKER else []
    for words in (
        ("audit", "status"), ("audit", "show"), ("audit", "verify"), ("case", "list"), *shown, ("budget", "show"),
        ("node", "status"),
    ):  # fmt: skip
        mark = len(world.log(victim))
        code = world.pulang(victim, *words)
        said = world.log(victim)[mark:]
        if words == ("node", "status"):
            stage.promise(str(folder) in said, f"`node status` does not name the full disk: exit code {code}")
        else:
            stage.promise(code == 0, f"`{' '.join(words)}` ends with {code} on a full disk")


def _database_gone(stage: Stage) -> None:
    world, victim = stage.world, stage.pick(HOME, ASKER)
    database = world.home(victim).database
    aside = database.with_suffix(".aside")
    with stage.asking(2):
        stage.pause(0.05)
        database.rename(aside)
    world.ask(stage.client(), timeout_s=SHORT_S)
    aside.rename(database)
    stage.over()


_HOLD: Final = """
import sqlite3, sys, time
with sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None) as shell:
    shell.execute("BEGIN IMMEDIATE")
    print("held", flush=True)
    sys.stdin.read()
    shell.execute("ROLLBACK")
"""


def _database_locked(stage: Stage) -> None:
    """Hold the database as a forgotten shell would, for longer than a writer waits."""
    world, victim = stage.world, stage.pick(HOME, ASKER)
    command = [sys.executable, "-c", _HOLD, str(world.home(victim).database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:  # noqa: S603
        assert shell.stdout is not None
        shell.stdout.readline()
        with stage.asking(2, timeout_s=8.0):
            pass
    stage.over()


@contextmanager
def _on_postgres(world: World) -> Iterator[None]:
    with Postgres() as server:
        world.notes["postgres"] = server
        try:
            for code in (HOME, ASKER):
                world.database(code, server.create(f"node{code}"))
            yield
        finally:
            for code in (HOME, ASKER):
                world.database(code, None)


def _postgres_stopped(stage: Stage) -> None:
    server = stage.world.notes["postgres"]
    with stage.asking(2):
        stage.pause(0.1)
        server.stop()
    stage.world.ask(stage.client(), timeout_s=SHORT_S)
    stage.over()
    server.start()


# --- registries --------------------------------------------------------------------------------------------------


def _import(world: World, code: str) -> Sequence[str]:
    home = str(world.home(code).root)
    return ("registry", "import", str(world.folder.registry(code)), "--home", home, "--yes")


def _imported(stage: Stage) -> None:
    world, victim = stage.world, stage.pick(HOME, THIRD)
    importing = world.nursery.start(_import(world, victim), world.folder.log(victim))
    while importing.is_running:
        with stage.asking(2, timeout_s=5.0) as asked:
            pass
        stage.promise(all(map(is_right, asked)), f"a question failed while {victim} imported")
    stage.promise(importing.wait() == 0, f"the import of {victim} failed")
    stage.over()


def _import_killed(stage: Stage) -> None:
    world, victim = stage.world, stage.pick(HOME, THIRD)
    importing = world.nursery.start(_import(world, victim), world.folder.log(victim))
    with stage.asking(2, timeout_s=5.0) as asked:
        stage.pause(0.9)
        importing.signal(signal.SIGKILL)
    importing.wait()
    stage.promise(all(map(is_right, asked)), f"a question failed while an import of {victim} was killed")
    stage.over()
    if stage.chance.random() < 0.5:
        stage.promise(world.nursery.run(_import(world, victim), world.folder.log(victim)) == 0, "the next import fails")


def _torn(stage: Stage) -> None:
    """Publish a generation of which a part never reached the disk."""
    world, victim = stage.world, stage.pick(HOME, THIRD)
    generations = world.home(victim).generations
    name = world.home(victim).current.readlink().name
    torn = generations / f"g{int(name[1:]) + 1:06d}"
    shutil.copytree(generations / name, torn)
    part = stage.chance.choice(sorted(path for path in torn.rglob("*") if path.is_file() and path.stat().st_size))
    with part.open("r+b") as file:
        file.truncate(stage.chance.randrange(part.stat().st_size))
    link = generations / ".current-torn"
    link.symlink_to(torn.name)
    link.replace(world.home(victim).current)
    with stage.asking(2, timeout_s=5.0) as asked:
        pass
    stage.promise(all(map(is_right, asked)), f"a torn generation of {victim} cost an answer")
    stage.within(lambda: not world.is_ready(victim), NOTICE_S, f"{victim} is ready with a torn generation")
    stage.promise(world.nursery.run(_import(world, victim), world.folder.log(victim)) == 0, "the next import fails")
    stage.over()


@contextmanager
def _sealable(world: World) -> Iterator[None]:
    """Put every node's encryption key into the directory, so that epoch secrets can be sealed to it."""
    steps = []
    for code in PROVINCES:
        key = world.root / f"{code}.sealing.pub"
        world.pulang(code, "epoch", "key", "--out", str(key))
        steps.append(("change", "--province", code, "--encryption-key", key.read_text(encoding="ascii").strip()))
    world.publish("sealable", *steps)
    yield


def _reencoded(stage: Stage) -> None:
    """Change the linkage key from end to end, with questions all the while; kill a re-encoding on its way."""
    world = stage.world
    old = max(published(world.home(HOME)))
    new = old + 1
    sealed = world.root / f"sealed-{new}"
    mark = len(world.log(HOME))
    world.pulang(HOME, "epoch", "new", "--out", str(sealed))
    check = re.findall(r"check value ([0-9a-f]{32})", world.log(HOME)[mark:])[-1]
    over = threading.Event()
    wrong: list[str] = []

    def ask_on() -> None:
        while not over.is_set():
            asked = world.ask(stage.client(), timeout_s=20.0)
            if not is_right(asked):
                wrong.append(asked.case)
            over.wait(0.3)

    asking = threading.Thread(target=ask_on)
    asking.start()
    try:
        world.publish("next", ("epoch", "--number", str(new), "--check", check, "--sealed", str(sealed)))
        victim = stage.pick(*PROVINCES)
        _kill_reencoding(stage, victim)
        stage.within(
            lambda: all(new in published(world.home(code)) for code in PROVINCES), 120, f"epoch {new} has no index"
        )
        world.publish("active", ("epoch", "--number", str(new), "--state", "active"))
        time.sleep(2 * 1.2)  # until all have heard of it
        world.publish("over", ("epoch", "--number", str(old), "--end"))
        gone = [world.home(code).epoch_secret(old) for code in PROVINCES]
        stage.within(lambda: not any(path.exists() for path in gone), 60, f"the secret of epoch {old} is still there")
    finally:
        over.set()
        asking.join()
    stage.promise(not wrong, f"{len(wrong)} questions failed during the changeover")
    stage.over()


def _kill_reencoding(stage: Stage, victim: str) -> None:
    record = stage.world.home(victim).reencode_record
    with suppress(ConfigError):
        until(record.exists, 20, "no re-encoding")
        stage.pause(0.4)
        with suppress(OSError, ValueError):
            os.kill(int(json.loads(record.read_bytes())["pid"]), signal.SIGKILL)


# --- certificates and membership ---------------------------------------------------------------------------------


def _certificate_ends(stage: Stage) -> None:
    """Let a leaf end while the province's intermediate cannot be had, and bring that back."""
    world, victim = stage.world, stage.pick(HOME, THIRD)
    home = world.home(victim)
    authority, key = ProvinceAuthority(home), new_key()
    ends_at = now() + timedelta(seconds=LIFE_S)
    chain = authority.sign(key.public_key(), ends_at, now())
    aside = home.ca.with_name("ca-aside")
    home.ca.rename(aside)
    install_made(home, key, chain, now())
    world.ask(stage.client(), timeout_s=SHORT_S)
    until(lambda: now() > ends_at, LIFE_S + 5, "time stands still")
    stage.within(lambda: not world.is_ready(victim), NOTICE_S, f"{victim} is ready without a valid certificate")
    asked = world.ask(stage.client(), timeout_s=SHORT_S)
    stage.promise(_is_incomplete(asked, victim), f"{victim} is believed beyond its certificate's end")
    theirs = world.ask(stage.client(), asker=victim, timeout_s=SHORT_S)
    stage.promise(_is_incomplete(theirs), f"{victim} asks beyond its certificate's end")
    aside.rename(home.ca)
    stage.over()


def _reload_fails(stage: Stage) -> None:
    world, victim = stage.world, stage.pick(HOME, ASKER)
    current = world.home(victim).pki / "current.pem"
    good = current.read_bytes()
    bad = stage.chance.choice([b"", good[: len(good) // 2], good[: -len(good) // 4], bytes(len(good)), b"-----BEGIN"])
    mark = len(world.log(victim))
    write_atomic(current, bad, replace=True)
    with stage.asking(2, timeout_s=5.0) as asked:
        pass
    stage.promise(all(map(is_right, asked)), f"a failed reload of {victim} cost an answer")
    stage.within(lambda: not world.is_ready(victim), NOTICE_S, f"{victim} is ready with a certificate it cannot read")
    stage.within(lambda: "reload_failed" in world.log(victim)[mark:], NOTICE_S, "no alarm in the log")
    write_atomic(current, good, replace=True)
    stage.over()


def _revoked(stage: Stage) -> None:
    """Put a member out, give a node its old files and database back, and let the member in again."""
    world, home = stage.world, stage.world.home(HOME)
    member = Member(HOME, "home", world.config(HOME).listen)
    query = world.caller.encoded(stage.client().client)

    def answers() -> bool:
        header = world.caller.header(f"R-{secrets.token_hex(4)}")
        world.ledger.raw.add(digest(header, query))
        try:
            return isinstance(world.caller.ask(member, query, header), Answered)
        except PeerError:
            return False

    stage.promise(answers(), "a member is refused before it is put out")
    saved = world.root / "saved"
    shutil.rmtree(saved, ignore_errors=True)
    shutil.copytree(home.tuf, saved / "tuf", symlinks=True)
    seen = Mirror(home.tuf).seen
    if seen.exists():
        shutil.copy(seen, saved / "seen")
    entry = Mirror(home.tuf).load().membership.by_code(THIRD)
    assert entry is not None
    world.publish("out", ("remove", "--province", THIRD))
    began = time.monotonic()
    stage.within(lambda: not answers(), 60, f"{THIRD} is still answered on its open connection")
    stage.notes["refused_s"] = max(stage.notes.get("refused_s", 0.0), time.monotonic() - began)
    stage.within(lambda: _version(world, ASKER) == _version(world, HOME), 60, f"{ASKER} has not heard of it")
    world.kill(HOME)
    for path in (home.tuf, seen):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    shutil.copytree(saved / "tuf", home.tuf, symlinks=True)
    if (saved / "seen").exists():
        shutil.copy(saved / "seen", seen)
    world.start(HOME)
    stage.promise(not answers(), f"old files have brought {THIRD} back")
    intermediate = world.root / "third.pem"
    intermediate.write_text("".join(entry.intermediates), encoding="ascii")
    key = ("--encryption-key", entry.encryption_key) if entry.encryption_key else ()
    world.publish(
        "in",
        ("admit", "--province", THIRD, "--address", entry.address, "--intermediate", str(intermediate), *key),
    )
    stage.within(
        lambda: len({_version(world, code) for code in PROVINCES}) == 1, 60, "not everybody has heard that it is back"
    )
    stage.over()


def _version(world: World, code: str) -> int:
    return Mirror(world.home(code).tuf).load().membership.version


def _forged(stage: Stage) -> None:
    """Let one node serve metadata that nobody signed, as if they were the newest."""
    world = stage.world
    path = copy_in_use(world.home(THIRD).tuf) / TIMESTAMP
    good = path.read_bytes()
    document = json.loads(good)
    document["signed"]["version"] += stage.chance.choice([1, 1000, 2**40])
    if stage.chance.random() < 0.5:
        document["signed"]["meta"]["snapshot.json"]["version"] += 1
    marks = {code: len(world.log(code)) for code in (HOME, ASKER)}
    before = _version(world, ASKER)
    path.write_text(json.dumps(document))
    stage.within(
        lambda: all("membership_refused" in world.log(code)[mark:] for code, mark in marks.items()),
        GOSSIP_S, "nobody has refused the forged metadata",
    )  # fmt: skip
    with stage.asking(2, timeout_s=5.0) as asked:
        pass
    stage.promise(all(map(is_right, asked)), "forged metadata cost an answer")
    stage.promise(_version(world, ASKER) == before, "forged metadata were taken")
    path.write_bytes(good)
    stage.over()


def _membership_ends(stage: Stage) -> None:
    """Let every timestamp end, with nobody to sign a new one; then let the holder have its key back."""
    world = stage.world
    mirror = Mirror(world.home(HOME).tuf)
    key, aside = read_signing_key(mirror.key), world.root / "timestamp-key-aside"
    mirror.key.rename(aside)
    copy = mirror.load()
    soon = now() - TIMESTAMP_LIFE + timedelta(seconds=LIFE_S)
    files = {**copy.files, TIMESTAMP: resign_timestamp(copy.files, key, soon)}
    for code in PROVINCES:
        Mirror(world.home(code).tuf).take(reader_of(files), now())
    ends_at = Mirror(world.home(HOME).tuf).load().expires_at
    until(lambda: now() > ends_at, LIFE_S + 5, "time stands still")
    asked = world.ask(stage.client(), timeout_s=SHORT_S)
    stage.promise(_is_incomplete(asked, HOME, THIRD), "questions are answered on an expired membership")
    aside.rename(mirror.key)
    stage.over()


# --- clocks ------------------------------------------------------------------------------------------------------


def _clock(*shifts_s: float) -> Callable[[Stage], None]:
    def inject(stage: Stage) -> None:
        world, victim = stage.world, stage.pick(HOME, ASKER)
        world.orders(victim, Orders(clock_s=stage.chance.choice(shifts_s)))
        with stage.asking(2) as asked:
            pass
        others = [code for code in PROVINCES if code not in (ASKER, victim)] if victim == ASKER else [victim]
        stage.promise(
            all(_is_incomplete(each, *others) for each in asked),
            f"the clock of {victim} is far off, and it is believed",
        )
        world.orders(victim, Orders())
        if (
            victim == ASKER
        ):  # what it put off by its wrong clock, it puts off by that much longer: a person need not wait
            for case in world.open_cases():
                world.pulang(ASKER, "case", "reopen", case)
        stage.over()

    return inject


def _clock_steps(stage: Stage) -> None:
    """Move a clock to and fro in mid-question, by less than is refused, as a bad time server does."""
    world, victim = stage.world, stage.pick(HOME, ASKER)
    with stage.asking(3, timeout_s=5.0) as asked:
        for _ in range(4):
            world.orders(victim, Orders(clock_s=stage.chance.uniform(-140, 140)))
            stage.pause(0.05)
    world.orders(victim, Orders())
    stage.promise(all(map(is_right, asked)), "a clock that is off by less than 300 s cost an answer")
    stage.over()


def _faketime() -> str | None:
    """Return the library that shifts a whole process's clock, TLS included, where the machine has it."""
    return next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


def _no_faketime() -> str | None:
    return None if _faketime() else "libfaketime is not installed"


def _whole_clock(stage: Stage) -> None:
    """Shift everything a process knows of the time, its TLS included."""
    world, victim = stage.world, stage.pick(HOME, THIRD)
    shift_s = stage.chance.choice([400, 3600, -400])
    world.kill(victim, signal.SIGTERM)
    preload = {"LD_PRELOAD": _faketime() or "", "FAKETIME": f"{shift_s:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    world.launch(victim, environment=preload)
    with suppress(ConfigError):  # 400 s behind, its certificate may not have begun: it says so and ends
        world.wait_until_serving(victim)
    asked = world.ask(stage.client(), timeout_s=3.0)
    stage.promise(_is_incomplete(asked, victim), f"the clock of {victim} is {shift_s} s off, and it is believed")
    if world.is_running(victim):
        world.kill(victim, signal.SIGTERM)
    world.start(victim)
    stage.over()


# --- rogues ------------------------------------------------------------------------------------------------------


def _replayed(stage: Stage) -> None:
    world, caller = stage.world, stage.world.caller
    member = Member(HOME, "home", world.config(HOME).listen)
    query, other = (caller.encoded(planted.client) for planted in stage.chance.sample(world.clients, 2))
    header = caller.header(f"R-{secrets.token_hex(4)}")
    world.ledger.raw |= {digest(header, query), digest(header, other)}
    first = caller.ask(member, query, header)
    stage.promise(isinstance(first, Answered), f"a question is not answered: {type(first).__name__}")
    stage.promise(_same(first, caller.ask(member, query, header)), "the same bytes have another answer")
    stage.promise(_refused(caller.ask(member, other, header), RefusalReason.NONCE_REUSED), "a nonce counts twice")
    if stage.chance.random() < 0.5:
        world.kill(HOME, stage.chance.choice([signal.SIGKILL, signal.SIGTERM]))
        world.start(HOME)
    stage.promise(_same(first, caller.ask(member, query, header)), "after a restart, another answer")
    old = caller.header(f"R-{secrets.token_hex(4)}", age_s=stage.chance.uniform(310, 4000))
    world.ledger.raw.add(digest(old, query))
    stage.promise(_refused(caller.ask(member, query, old), RefusalReason.CLOCK), "an old question is answered")
    stage.over()


def _flooded(stage: Stage) -> None:
    world, caller = stage.world, stage.world.caller
    member = Member(HOME, "home", world.config(HOME).listen)
    query = caller.encoded(stage.client().client)
    headers = [caller.header(f"F-{secrets.token_hex(4)}") for _ in range(FLOOD)]
    world.ledger.raw |= {digest(header, query) for header in headers}
    with stage.asking(3, timeout_s=5.0) as asked:
        ends = caller.ask_all(member, query, headers)
    stage.promise(all(map(is_right, asked)), "a flood cost somebody else an answer")
    odd = {
        type(end).__name__ for end in ends if not isinstance(end, Answered | Busy | PeerBusyError | PeerTimeoutError)
    }
    stage.promise(not odd, f"a flooder is told {', '.join(sorted(odd))}")
    memory = _memory_mib(world.pid(HOME))
    most = stage.notes.setdefault("memory_mib", memory) + MEMORY_MIB
    stage.promise(memory <= most, f"{HOME} has {memory:.0f} MiB after a flood, at most {most:.0f} were meant")
    stage.over()


def _memory_mib(pid: int) -> float:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123 - not a file of ours
        return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)


def _malformed(stage: Stage) -> None:
    world, caller, chance = stage.world, stage.world.caller, stage.chance
    member = Member(HOME, "home", world.config(HOME).listen)
    whole = write_question(caller.header(f"M-{secrets.token_hex(4)}"), caller.encoded(stage.client().client))
    place = chance.randrange(len(whole))
    broken = [
        whole[:place],
        whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :],
        chance.randbytes(chance.randint(1, 4000)),
        b"\xa3\x06" * 600 + b"\xa4\x06" * 600,
        bytes(MAX_REQUEST_BYTES + 1),
    ]
    with stage.asking(1, timeout_s=5.0) as asked:
        for data in broken:
            world.ledger.raw.add(hashlib.sha256(data).digest())
            try:
                caller.send(member, data)
            except PeerContractError:
                continue  # INVALID_ARGUMENT or RESOURCE_EXHAUSTED
            except PeerError as error:
                stage.promise(kept=False, text=f"broken bytes end as {type(error).__name__}")
    stage.promise(all(map(is_right, asked)), "broken messages cost somebody else an answer")
    stage.over()


def _is_incomplete(asked: Asked, *silent: str) -> bool:
    """Whether a question ended as incomplete, and these provinces gave no answer."""
    concluded = asked.concluded
    if concluded is None or concluded.outcome != "incomplete":
        return False
    states = {each.code: each.state for each in concluded.heard}
    return all(states[code] is not ProvinceState.ANSWERED for code in silent)


def _refused(answer: object, reason: RefusalReason) -> bool:
    return isinstance(answer, Refused) and answer.reason is reason


def _same(first: object, second: object) -> bool:
    """Whether two answers are one: their handles are fresh for every answer."""
    if not isinstance(first, Answered) or not isinstance(second, Answered):
        return False
    return [each.handle for each in first.handles] == [each.handle for each in second.handles]


_PEER: Final = "peer down, slow"
_KILL: Final = "kill -9 at any write"
_DISK: Final = "disk full"

FAULTS: Final[tuple[Fault, ...]] = (
    Fault("peer-killed", _PEER, "SIGKILL at a random moment of two questions", _killed),
    Fault("peer-down", _PEER, "SIGTERM, then a question", _down),
    Fault("peer-stopped", _PEER, "SIGSTOP at a random moment, SIGCONT after 1.5 s", _stopped),
    Fault("wire-cut", _PEER, "RST after 0 to 12,000 bytes, either direction", _wire(_cut)),
    Fault("wire-half-closed", _PEER, "FIN in one direction after 0 to 12,000 bytes", _wire(_half_closed)),
    Fault("wire-slow", _PEER, "64 bytes/20 ms to 16 KiB/1 s, either direction", _wire(_slow)),
    Fault("wire-corrupt", _PEER, "one byte changed, either direction", _wire(_corrupt)),
    Fault("answers-lost", "partial answers", "questions pass, no byte comes back", _wire(_swallowed)),
    Fault("wire-cut-in-search", "partial answers", "RST while a search takes 0.6 s", _cut_in_search),
    Fault("answers-late", "partial answers", "both peers SIGSTOP, then one after the other back", _partial),
    *(
        Fault(f"asker-dies-{place}", _KILL, f"SIGKILL right before or after {place}", _asker_dies_at(place),
              ways=4 if place in _TWICE else 2)
        for place in ASKING
    ),
    Fault("asker-killed", _KILL, "SIGKILL at a random moment of three questions", _asker_killed),
    *(
        Fault(f"answerer-dies-{place}", _KILL, f"SIGKILL right before or after {place}", _answerer_dies_at(place),
              ways=2)
        for place in ANSWERING
    ),
    *(
        Fault(f"start-dies-{place}", _KILL, f"and again at the next start, at {place}", _keeper_dies_at(place),
              ways=2)
        for place in KEEPING
    ),
    Fault("import-killed", _KILL, "SIGKILL of `registry import` at a random moment", _import_killed, share=0.5),
    Fault("generation-torn", _KILL, "a published index with one file cut short", _torn, share=0.5),
    Fault("disk-low", _DISK, f"tmpfs of {DISK_MIB} MiB, filled to 2 MiB", _disk_low, 0.5, _small_disks, _no_mount),
    Fault("disk-full", _DISK, f"tmpfs of {DISK_MIB} MiB, filled to 0", _disk_full, 0.5, _small_disks, _no_mount),
    Fault("database-gone", _DISK, "node.db renamed away for one question", _database_gone),
    Fault("database-locked", _DISK, "BEGIN IMMEDIATE held for 8 s by a shell", _database_locked, share=0.2),
    Fault(
        "postgres-stopped", _DISK, "pg_ctl stop -m immediate in mid-question", _postgres_stopped, 0.5, _on_postgres,
        Postgres.missing,
    ),
    Fault("registry-imported", _PEER, "`registry import` under questions", _imported, share=0.5),
    Fault("registry-reencoded", _PEER, "key epoch changed, re-encoding killed", _reencoded, 0.1, _sealable,
          batch=2),  # under another key all clients are new to the sweep monitor, and more than forty of them an alarm
    Fault("certificate-ended", "own certificate expiring or expired", "a leaf of 4 s, its issuer away",
          _certificate_ends, share=0.2),
    Fault("reload-failed", "failed credential reload", "current.pem half-written or empty", _reload_fails, share=0.5),
    Fault("member-revoked", "revoked member", "put out; old files and database back; let in", _revoked, share=0.2),
    Fault("membership-forged", "stale, forged, rolled-back manifest", "a member serves unsigned news", _forged,
          share=0.2),
    Fault("membership-ended", "stale, forged, rolled-back manifest", "every timestamp ends, its key away",
          _membership_ends, share=0.2),
    Fault("clock-ahead", "clock skew", "one node's `now` 310 s to 2 h ahead", _clock(310, 600, 7200)),
    Fault("clock-behind", "clock skew", "one node's `now` 310 s to 2 h behind", _clock(-310, -600, -7200)),
    Fault("clock-whole", "clock skew", "libfaketime: one process 400 s or 1 h off, TLS too", _whole_clock, 0.3,
          missing=_no_faketime),
    Fault("clock-steps", "clock skew", "one node's `now` to and fro within 140 s", _clock_steps),
    Fault("replay", "replay", "same bytes, same nonce, old bytes, over a restart", _replayed),
    Fault("flood", "flood", f"{FLOOD} questions of one member at once", _flooded, share=0.5),
    Fault("malformed", "malformed, oversized, deep messages", "cut, flipped, random, 600 deep, 256 KiB + 1",
          _malformed),
)  # fmt: skip
