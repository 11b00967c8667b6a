"""The linkage key changes while three real nodes ask each other without a pause: nobody is refused, nobody is wrong."""

from __future__ import annotations

import asyncio
import csv
import json
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from node.changeover import Changeover
from node.epoch import installed_membership
from node.findings import Concluded
from node.local_client import LocalRequest, ask_node
from node.messages import Purpose
from node.pki.epoch_secrets import ensure_sealing_key
from node.pki.epochs import make_epoch, sealed_name, take_in_secret, with_next, with_next_active, without_other
from node.pki.membership import Epoch, EpochState
from node.publishing import published
from node.runtime import open_runtime
from node.store import NO_REQUEST, open_store
from tests.asking import REGISTERED, eventually
from tests.federation import JOKO_AS_SAID, Federation, Node, now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.federation import Person

COLUMNS = ("record_id", "name", "mother_name", "birthplace", "birth_date", "sex")
PULANG = (sys.executable, "-m", "node.cli.main")
PACE_S = 0.1  # between two questions of one asker


def pulang(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PULANG, *words], check=False, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )


def write_registry(path: Path, persons: Sequence[Person]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, COLUMNS)
        rows.writeheader()
        rows.writerows(persons)
    return path


@dataclass
class Changing:
    """A federation whose members have encryption keys, and registries that were imported by the real command."""

    federation: Federation
    nodes: list[Node]
    sealed: dict[str, bytes] = field(default_factory=dict)

    def publish(self, *nodes: Node) -> None:
        """Sign the directory as it stands and let these nodes take it in; by default, all of them."""
        self.federation.publish()
        for node in nodes or self.nodes:
            self.federation.signing.join(node.home)

    def prepare(self, number: int = 2) -> None:
        authority = self.federation.authority
        made, self.sealed = make_epoch(authority.federation, authority.members(), number)
        authority.set_epochs(lambda epochs: with_next(epochs, made))

    def install(self, node: Node, number: int = 2) -> None:
        take_in_secret(node.home, installed_membership(node.home), self.sealed[sealed_name(number, node.code)])

    def activate(self, number: int = 2) -> None:
        self.federation.authority.set_epochs(lambda epochs: with_next_active(epochs, number))

    def retire(self, number: int = 1) -> None:
        self.federation.authority.set_epochs(lambda epochs: without_other(epochs, number))


def make_changing(root: Path, registered: Mapping[str, Sequence[Person]]) -> Changing:
    federation = Federation(root)
    authority = federation.authority
    for code in set(federation.nodes) - set(registered):
        authority.remove(code)
    nodes = [federation.node(code) for code in registered]
    for node in nodes:
        authority.admit(replace(node.member, encryption_key=ensure_sealing_key(node.home).public_hex))
    made = Changing(federation, nodes)
    made.publish()
    for node in nodes:
        source = write_registry(root / f"{node.code}.csv", registered[node.code])
        done = pulang("registry", "import", str(source), "--yes", "--home", str(node.home.root))
        assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[Changing]:
    made = make_changing(tmp_path, REGISTERED)
    with ThreadPoolExecutor(len(made.nodes)) as together:
        try:
            list(together.map(Node.start, made.nodes))
            yield made
        finally:
            list(together.map(Node.stop, [node for node in made.nodes if node.process is not None]))


@dataclass
class Stream:
    """Questions without a pause, from every node, until it is stopped. stage: what is going on meanwhile."""

    nodes: Sequence[Node]
    stage: str = "before"
    heard: list[tuple[str, str, object]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[Stream]:
        threads = [threading.Thread(target=self._ask, args=(node,)) for node in self.nodes]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def let_pass(self, questions: int = 3) -> None:
        """Return when every node has concluded so many more questions."""
        before = self.counts()
        eventually(lambda: all(self.counts()[code] >= before[code] + questions for code in before))

    def counts(self) -> dict[str, int]:
        return {node.code: sum(code == node.code for _, code, _ in list(self.heard)) for node in self.nodes}

    def failures(self) -> list[object]:
        """Every question that did not find Joko in 33, or that somebody did not answer."""
        return [
            (stage, code, end)
            for stage, code, end in self.heard
            if not isinstance(end, Concluded)
            or (end.outcome, end.province) != ("home_found", "33")
            or any(heard.state != "answered" for heard in end.heard)
        ]

    def epochs(self, stage: str, code: str) -> set[int | None]:
        """The epochs a node's questions were answered in during a stage."""
        return {
            heard.epoch
            for when, asker, end in self.heard
            if (when, asker) == (stage, code) and isinstance(end, Concluded)
            for heard in end.heard
        }

    def _ask(self, node: Node) -> None:
        request = LocalRequest(JOKO_AS_SAID, Purpose.SELF_TEST, timeout_s=60.0)
        while not self._over.is_set():
            stage = self.stage
            end: object
            try:
                *_, end = ask_node(node.home, request)
            except Exception as error:  # noqa: BLE001 - whatever a question ends with is looked at by the test
                end = error
            self.heard.append((stage, node.code, end))
            self._over.wait(PACE_S)


def indexed_in(node: Node) -> set[int]:
    return set(published(node.home))


def test_a_changeover_under_load_refuses_nobody_and_one_node_may_be_late(changing: Changing) -> None:
    early, late = changing.nodes[:2], changing.nodes[2]
    with Stream(changing.nodes).running() as stream:
        stream.let_pass()

        stream.stage = "prepared"
        changing.prepare()
        changing.publish()
        for node in early:
            changing.install(node)
        eventually(lambda: all(indexed_in(node) == {1, 2} for node in early))
        stream.let_pass()

        stream.stage = "activated by one"
        changing.activate()
        changing.publish(early[0])
        stream.let_pass()

        stream.stage = "activated by all"
        changing.publish()
        stream.let_pass(10)
        done = pulang("epoch", "status", "--json", "--home", str(late.home.root))
        assert done.returncode == 69
        assert "epoch 2, the active one" in json.loads(done.stdout)["problem"]
        assert "epochs: epoch 2, the active one" in late.run("status").stdout
        stream.let_pass()

        stream.stage = "caught up"
        changing.install(late)
        eventually(lambda: indexed_in(late) == {1, 2})
        stream.let_pass(10)

        stream.stage = "retired by one"
        changing.retire()
        changing.publish(early[0])
        eventually(lambda: not early[0].home.epoch_secret(1).exists())
        stream.let_pass(10)

        stream.stage = "retired by all"
        changing.publish()
        eventually(lambda: not any(node.home.epoch_secret(1).exists() for node in changing.nodes))
        stream.let_pass(10)

    assert stream.failures() == []
    assert len(stream.heard) > 100
    assert stream.epochs("before", early[0].code) == {1}
    assert 2 in stream.epochs("activated by one", early[0].code)
    assert stream.epochs("retired by all", late.code) == {2}
    assert 1 in stream.epochs("activated by all", late.code)  # it asks in what it has
    for node in changing.nodes:
        eventually(lambda home=node.home: list(published(home)) == [2])  # type: ignore[misc]
        assert node.home.current.is_symlink()
        assert not list(node.home.secrets.glob("epoch-1*"))
        done = pulang("epoch", "status", "--json", "--home", str(node.home.root))
        assert done.returncode == 0, done.stdout
        assert json.loads(done.stdout)["to_delete"] == []
        assert done.returncode == 0, node.log
    check_audit(changing)


def check_audit(changing: Changing) -> None:
    """The audits name the epoch of every question, and the end of the old secret."""
    for node in changing.nodes:
        store = open_store(f"sqlite:///{node.home.database}")
        entries = list(store.audit_entries(limit=100_000))
        store.close()
        (deleted,) = [entry for entry in entries if entry.outcome == "secret_deleted"]
        assert (deleted.method, deleted.peer, deleted.key_epoch) == ("epoch", node.code, 1)
        asked = [entry for entry in entries if entry.method == "ask" and entry.request_sha256 != NO_REQUEST]
        assert {entry.key_epoch for entry in asked} == {1, 2}
        refused = [entry for entry in asked if entry.outcome == "refused"]
        assert all(entry.reason for entry in refused)
    late = changing.nodes[2]
    store = open_store(f"sqlite:///{changing.nodes[0].home.database}")
    again = [entry for entry in store.audit_entries(limit=100_000) if entry.outcome == "refused"]
    store.close()
    # Asked in epoch 2, refused there, asked again in epoch 1: both questions are on record, under hashes of their own.
    assert {(entry.peer, entry.key_epoch) for entry in again} == {(late.code, 2)}


@pytest.fixture
def alone(tmp_path: Path) -> Changing:
    """One node whose registry takes some seconds to encode, with epoch 2 prepared."""
    persons = [{"record_id": f"R{n}", "name": f"Siti Nomor{n % 9973}", "birthplace": "Kebumen"} for n in range(60_000)]
    made = make_changing(tmp_path, {"33": persons})
    made.prepare()
    made.publish()
    made.install(made.nodes[0])
    return made


def reencode(node: Node, *more: str) -> list[str]:
    return [*PULANG, "registry", "reencode", "--home", str(node.home.root), *more]


def test_a_reencoding_killed_with_9_leaves_the_old_epoch_answering_and_begins_again(alone: Changing) -> None:
    (node,) = alone.nodes
    process = subprocess.Popen(reencode(node, "--background"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually(lambda: any(node.home.generations.glob(".staging-*/rows")) or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert indexed_in(node) == {1}
    told = pulang("epoch", "status", "--home", str(node.home.root))
    assert told.returncode == 0  # epoch 1 is the active one, and all is there for it
    assert "re-encoding was interrupted" in told.stdout
    done = subprocess.run(reencode(node), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert indexed_in(node) == {1, 2}
    assert not any(node.home.generations.glob(".staging-*"))
    assert not node.home.reencode_record.exists()
    again = subprocess.run(reencode(node), check=False, capture_output=True, text=True)
    assert (again.returncode, again.stdout.startswith("nothing to do")) == (0, True)


def test_a_serving_node_begins_a_killed_reencoding_again_by_itself(
    alone: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    (node,) = alone.nodes
    with node.running():
        assert node.process is not None
        parent = psutil.Process(node.process.pid)
        eventually(lambda: bool(parent.children()) and any(node.home.generations.glob(".staging-*/rows")))
        for child in parent.children():
            assert child.nice() == 19
            child.kill()
        eventually(lambda: indexed_in(node) == {1, 2})
        assert "reencoding_failed" in node.log


def test_an_old_list_that_came_back_with_a_backup_destroys_nothing(tmp_path: Path) -> None:
    """It does not know the new epoch yet: by its word, that epoch's secret would be one whose time is over."""
    alone = make_changing(tmp_path, {"33": [{"record_id": "R1", "name": "Siti"}]})
    (node,) = alone.nodes
    shutil.copytree(node.home.tuf, tmp_path / "yesterday")
    alone.prepare()
    alone.publish()
    alone.install(node)
    assert subprocess.run(reencode(node), check=False).returncode == 0
    shutil.rmtree(node.home.tuf)
    shutil.copytree(tmp_path / "yesterday", node.home.tuf)
    with open_runtime(node.home, now) as runtime:
        assert runtime.membership.expires_at > now()
        asyncio.run(Changeover(runtime).look())
    assert node.home.epoch_secret(2).exists()
    assert indexed_in(node) == {1, 2}


def test_a_registry_that_is_not_there_any_more_is_said_with_what_to_do(alone: Changing, tmp_path: Path) -> None:
    (node,) = alone.nodes
    (tmp_path / "33.csv").unlink()
    done = subprocess.run(reencode(node), check=False, capture_output=True, text=True)
    assert done.returncode == 78
    alone.activate()
    alone.publish()
    told = pulang("epoch", "status", "--json", "--home", str(node.home.root))
    assert told.returncode == 69
    assert "epoch 2, the active one: re-encoding failed: " in json.loads(told.stdout)["problem"]
    assert "33.csv cannot be read" in json.loads(told.stdout)["problem"]
    write_registry(tmp_path / "elsewhere.csv", [{"record_id": "1", "name": "Siti"}])
    by_hand = pulang("registry", "import", str(tmp_path / "elsewhere.csv"), "--yes", "--home", str(node.home.root))
    assert by_hand.returncode == 0, by_hand.stderr
    assert indexed_in(node) == {1, 2}
    assert pulang("epoch", "status", "--home", str(node.home.root)).returncode == 0


def test_a_new_import_is_carried_into_the_other_valid_epoch_too(alone: Changing, tmp_path: Path) -> None:
    (node,) = alone.nodes
    assert subprocess.run(reencode(node), check=False).returncode == 0
    newer = write_registry(
        tmp_path / "newer.csv", [{"record_id": "1", "name": "Siti"}, {"record_id": "2", "name": "Budi"}]
    )
    assert pulang("registry", "import", str(newer), "--yes", "--home", str(node.home.root)).returncode == 0
    found = published(node.home)
    assert {epoch: manifest.persons for epoch, (_, manifest) in found.items()} == {1: 2, 2: 60_000}
    assert subprocess.run(reencode(node), check=False).returncode == 0
    found = published(node.home)
    assert {epoch: manifest.persons for epoch, (_, manifest) in found.items()} == {1: 2, 2: 2}
    assert "nothing to do" in subprocess.run(reencode(node), check=False, capture_output=True, text=True).stdout


def status_of(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pulang("epoch", "status", "--json", "--home", str(node.home.root)).stdout)
    return found


def test_an_epochs_secret_by_commands_from_its_making_to_its_end(tmp_path: Path) -> None:
    made = make_changing(tmp_path, {"33": [{"record_id": "1", "name": "Siti"}]})
    (node,) = made.nodes
    home, out = ("--home", str(node.home.root)), tmp_path / "sealed"

    def run(*words: str) -> str:
        done = pulang(*words)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    assert "encryption key  SHA-256" in run("epoch", "key", *home)
    said = run("epoch", "new", *home, "--out", str(out))
    assert [path.name for path in out.iterdir()] == ["33.sealed"]
    check = said.split("check value ")[1].split()[0]
    made.federation.authority.set_epochs(lambda epochs: with_next(epochs, Epoch(2, check, EpochState.NEXT)))
    made.publish()
    assert [(each["number"], each["state"]) for each in status_of(node)["epochs"]] == [(1, "active"), (2, "next")]
    assert pulang("epoch", "new", *home, "--out", str(tmp_path / "second")).returncode == 78
    assert not (tmp_path / "second").exists()
    assert "this node holds the secret of epoch 2" in run("epoch", "install", *home, str(out / "33.sealed"))
    run("registry", "reencode", *home, "--epoch", "2")
    made.activate()
    made.publish()
    assert "epoch 2 is active" in run("epoch", "status", *home)
    run("epoch", "seal", *home, "--province", "33", "--out", str(tmp_path / "again.sealed"))
    run("epoch", "install", *home, str(tmp_path / "again.sealed"))
    made.retire()
    made.publish()
    assert status_of(node)["to_delete"] == ["epoch-1.key"]
    assert "key epoch 2" in run("registry", "status", *home)


def test_a_key_epoch_in_the_settings_that_contradicts_the_directory_is_refused(tmp_path: Path) -> None:
    made = make_changing(tmp_path, {"33": [{"record_id": "1", "name": "Siti"}]})
    (node,) = made.nodes
    with node.home.config.open("a") as config:
        config.write("key_epoch = 7\n")
    done = node.run("serve")
    assert done.returncode == 78
    assert "says key_epoch = 7, and the directory, version" in done.stderr
    assert "hint: the directory decides" in done.stderr
