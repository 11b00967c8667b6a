# ruff: noqa: F811 - fixtures are imported, and asked for by their names
"""A reviewer at a real terminal: from a peer's question to a decision, and nothing of the person stays anywhere."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from matching.clerical import Zone, read_reviews
from matching.encoding import encode_client
from matching.schema import PERSON_SCHEMA
from matching.weights import load_model
from node.budget import Budgets
from node.generation import Generations
from node.guard import Guard
from node.messages import Answered, Purpose, ReceivedQuestion
from node.service import AnsweringService
from node.store import open_store
from tests.federation import header, now
from tests.integration.test_canary import CLIENT, PERSON, leaks
from tests.postgres import postgres_server  # noqa: F401 - the fixture
from tests.registries import HEADER, PEOPLE, Desk, csv_text, make_desk
from tests.stores import rows, url  # noqa: F401 - fixtures among them

if TYPE_CHECKING:
    from pathlib import Path

WAIT_S = 120.0
COLUMNS = ("record_id", "", "name", "sex", "birthplace", "birth_date", "mother_name")
PLANTED = tuple(PERSON.get(key, "") for key in COLUMNS)


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=WAIT_S, stdin=subprocess.DEVNULL
    )


class Registry:
    """A province whose registry was imported by the real command, and holds the planted person."""

    def __init__(self, root: Path, url: str) -> None:
        self.desk: Desk = make_desk(root / "node")
        self.home = self.desk.home
        self.url = url
        with self.home.config.open("a") as settings:
            settings.write(f'database_url = "{url}"\n')
        self.file = root / "registry.csv"
        self.write([*PEOPLE, PLANTED])
        done = self.pulang("registry", "import", str(self.file), "--yes")
        assert done.returncode == 0, done.stderr

    def write(self, people: list[tuple[str, ...]]) -> None:
        self.file.write_text(csv_text(people, header=HEADER), encoding="utf-8")

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "node.cli.main", *words, "--home", str(self.home.root)]

    def pulang(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run(self.command(*words))

    def at_a_terminal(self, *words: str, typed: str) -> tuple[int, str]:
        """Run a command with a terminal of its own; types when it asks. Returns exit code and what was shown."""
        process, terminal = pty.fork()
        if process == 0:
            os.environ |= {"TERM": "xterm", "COLUMNS": "160", "LINES": "50"}
            command = self.command(*words)
            os.execv(command[0], command)
        shown, pending, ends = b"", typed, time.monotonic() + WAIT_S
        while time.monotonic() < ends:
            ready, _, _ = select.select([terminal], [], [], 1.0)
            if not ready:
                continue
            try:
                data = os.read(terminal, 65536)
            except OSError:  # its other end is closed
                break
            if not data:
                break
            shown += data
            if pending and re.search(rb"(lewati|skip)[^\n]*: ?$", shown):
                os.write(terminal, pending.encode())
                pending = ""
        _, status = os.waitpid(process, 0)
        os.close(terminal)
        return os.waitstatus_to_exitcode(status), shown.decode()

    async def ask(self, **changes: Any) -> None:
        """Let a peer ask about the planted person; whoever is found is for a person to decide."""
        store = open_store(self.url)
        generations = Generations(self.home, lambda: {1: self.desk.keys})
        generations.open()
        service = AnsweringService(
            generations=generations,
            model=load_model(),
            store=store,
            guard=Guard(store, Budgets(), b"k" * 32, "35", now),
            now=now,
            threads=1,
            zone=Zone(-64, 64),
        )
        try:
            content = encode_client(CLIENT, self.desk.keys, now().date())
            asked = ReceivedQuestion(bytes(32), header(**changes), self.desk.keys.identity, content)
            assert isinstance(await service.answer("35", asked, time_left_s=60), Answered)
        finally:
            service.close()
            generations.close()
            store.close()

    def planted_item(self) -> int:
        found = rows(self.url, f"SELECT number FROM review_items WHERE record_id = '{PERSON['record_id']}'")
        return int(found[0][0])

    def left_behind(self) -> bytes:
        """Every byte of the node's folder and of its database."""
        files = b"\0".join(path.read_bytes() for path in self.home.root.rglob("*") if path.is_file())
        tables = ("audit", "handles", "review_items", "review_events")
        return files + b"\0".join(repr(rows(self.url, f"SELECT * FROM {table}")).encode() for table in tables)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path, f"sqlite:///{tmp_path}/node.db")


async def test_the_record_is_on_the_terminal_and_nowhere_else(tmp_path: Path, url: str) -> None:
    registry = Registry(tmp_path, url)
    await registry.ask()
    item = registry.planted_item()
    code, shown = registry.at_a_terminal("review", "next", "--operator", "Zunaidi", "--item", str(item), typed="s\r")
    assert code == 0, shown
    for value in (PERSON["name"], PERSON["mother_name"], PERSON["birthplace"], PERSON["birth_date"]):
        assert value in shown
    assert "nama ibu kandung" in shown
    assert "(kosong)" not in shown
    assert "TIDAK ADA LAGI" not in shown
    assert "BERUBAH" not in shown
    assert "\x1b[?1049h" in shown, "the other screen, which leaves no scrollback"
    assert not re.search(r"\d[.,]\d|bit\b|%", shown.split("\x1b[?1049h")[1].split("\x1b[?1049l")[0]), (
        "no figure of any kind"
    )
    assert shown.rstrip().endswith(f"Data {item}: orang yang sama")
    left = registry.left_behind()
    assert leaks(left) == set()
    assert b"Zunaidi" not in left
    with closing(open_store(registry.url)) as store:
        assert [str(event) for _, event, _ in store.reviews.history(item)] == ["viewed", "same"]
        assert [row.outcome for row in store.audit_entries() if row.method == "review"] == ["viewed", "same"]


async def test_a_record_is_not_shown_into_a_pipe(registry: Registry) -> None:
    await registry.ask()
    refused = registry.pulang("review", "next", "--operator", "ani")
    assert refused.returncode == 78
    assert "terminal only" in refused.stderr
    assert rows(registry.url, "SELECT * FROM review_events") == []
    assert leaks((refused.stdout + refused.stderr).encode()) == set()


async def test_a_record_that_is_gone_or_changed_is_said_and_one_that_is_gone_is_not_decided(registry: Registry) -> None:
    await registry.ask()
    item = str(registry.planted_item())
    changed = [*PEOPLE, tuple("LAIN SEKALI" if value == PERSON["name"] else value for value in PLANTED)]
    registry.write(changed)
    _, shown = registry.at_a_terminal("review", "next", "--operator", "ani", "--item", item, typed="\r")
    assert "SUDAH BERUBAH sejak diimpor: nama." in shown
    assert "Berkas sumber sudah diubah" in shown
    registry.write(list(PEOPLE))
    code, shown = registry.at_a_terminal("review", "next", "--operator", "ani", "--item", item, typed="s\rt\r")
    assert code == 0
    assert "TIDAK ADA LAGI" in shown
    assert "Tidak dipahami" in shown, "`same` is not taken for an answer"
    assert shown.rstrip().endswith("tidak yakin")
    registry.file.unlink()
    await registry.ask(case_reference="K-2")
    code, shown = registry.at_a_terminal("review", "next", "--operator", "ani", typed="")
    assert code == 78
    assert "cannot be read" in shown
    assert rows(
        registry.url, "SELECT count(*) FROM review_items WHERE leased_to IS NOT NULL AND state = 'waiting'"
    ) == [(0,)]


async def test_decisions_are_listed_undone_and_exported_without_whom_they_are_about(
    registry: Registry, tmp_path: Path
) -> None:
    await registry.ask()
    item = str(registry.planted_item())
    code, _ = registry.at_a_terminal("review", "next", "--operator", "ani", "--item", item, typed="\r")
    assert code == 0
    assert registry.pulang("review", "decide", item, "--operator", "ani").returncode == 2
    assert registry.pulang("review", "decide", item, "--operator", "budi", "--same").returncode == 75
    assert registry.pulang("review", "decide", item, "--operator", "ani", "--same").returncode == 0
    assert registry.pulang("review", "undo", item, "--operator", "budi").returncode == 77
    assert registry.pulang("review", "break", item, "--operator", "budi").stdout == f"Data {item}: hubungan diputus\n"
    restored = registry.pulang("review", "restore", item, "--operator", "budi", "--lang", "en")
    assert restored.stdout == f"Item {item}: the same person\n"
    listed = json.loads(registry.pulang("review", "list", "--json").stdout)
    assert {each["item"]: each["state"] for each in listed}[int(item)] == "same"
    assert "orang yang sama" in registry.pulang("review", "list", "--state", "same").stdout
    out = tmp_path / "reviews.json"
    assert registry.pulang("review", "export", "--out", str(out)).stdout == f"{out}: 1 same, 0 different, 0 unsure\n"
    (review,) = read_reviews(out.read_text(), PERSON_SCHEMA)
    assert (review.decision, review.count) == ("same", 1)
    assert PERSON["record_id"] not in out.read_text()
    assert registry.pulang("review", "undo", item, "--operator", "ani").stdout == f"Data {item}: menunggu\n"
    few = run(
        [sys.executable, "-m", "node.cli.main", "bench", "train", "--out", str(tmp_path / "m"), "--reviews", str(out)]
    )
    assert few.returncode == 65
    assert "1 reviews say `same`" in few.stderr


async def test_a_test_of_the_line_queues_nobody(registry: Registry) -> None:
    await registry.ask(purpose=Purpose.SELF_TEST)
    assert rows(registry.url, "SELECT * FROM review_items") == []
