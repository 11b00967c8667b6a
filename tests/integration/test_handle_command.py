"""A handle comes home by telephone: opened once, for its province and its case, and audited whatever happens."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from node.config import make_config, write_config
from node.home import NodeHome
from node.store import HandleRecord, Throttle, open_store
from tests.federation import now
from tests.stores import entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from node.store import Store

CODE = "a7" * 16


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    made = NodeHome(tmp_path / "node")
    write_config(made, make_config(federation="fkd-mpu.test", province="33"))
    return made


@pytest.fixture
def store(home: NodeHome) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{home.database}")
    yield opened
    opened.close()


def give_out(store: Store, *, days: int = 7) -> None:
    issued = now() - timedelta(days=1)
    expires = now() + timedelta(days=days)
    record = HandleRecord(
        bytes.fromhex(CODE), b"n" * 16, "35", "KBM-0001", "g000001", issued, expires, case_reference="K-1"
    )
    store.record_answer(entry(at=issued), [record])


def pulang(home: NodeHome, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node.cli.main", *words, "--home", str(home.root)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def opened(home: NodeHome, code: str = CODE, peer: str = "35", case: str = "K-1") -> subprocess.CompletedProcess[str]:
    return pulang(home, "handle", "open", code, "--peer", peer, "--case", case)


def test_a_code_opens_once_for_its_province_and_case(home: NodeHome, store: Store) -> None:
    give_out(store)
    spaced = " ".join(CODE[at : at + 4] for at in range(0, 32, 4)).upper()
    first = opened(home, spaced)
    assert first.returncode == 0, first.stderr
    assert "KBM-0001" in first.stdout
    second = opened(home)
    assert second.returncode == 77
    assert "was opened on" in second.stderr
    assert "KBM-0001" not in second.stdout + second.stderr
    audited = [each for each in store.audit_entries() if each.method == "handle_open"]
    assert [(each.outcome, each.reason, each.peer, each.case_reference) for each in audited] == [
        ("opened", None, "35", "K-1"),
        ("refused", "opened_before", "35", "K-1"),
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"peer": "36"}, "wrong_peer"), ({"case": "K-2"}, "wrong_case"), ({"code": "b8" * 16}, "unknown")],
)
def test_a_wrong_word_is_refused_and_leaves_the_code_unopened(
    home: NodeHome, store: Store, changes: dict[str, str], reason: str
) -> None:
    give_out(store)
    refused = opened(home, **changes)
    assert refused.returncode == 77
    assert "KBM-0001" not in refused.stdout + refused.stderr
    assert "hint:" in refused.stderr
    assert store.audit_entries()[-1].reason == reason
    assert opened(home).returncode == 0


def test_an_expired_code_is_refused(home: NodeHome, store: Store) -> None:
    give_out(store, days=-1)
    refused = opened(home)
    assert refused.returncode == 77
    assert "expired on" in refused.stderr


def test_what_is_no_code_is_refused_before_anything_is_read(home: NodeHome) -> None:
    assert opened(home, "zz").returncode == 78
    assert opened(home, peer="javatengah").returncode == 78
    assert opened(home, case="two words").returncode == 78


def test_who_is_held_back_is_listed_and_released_by_a_person(home: NodeHome, store: Store) -> None:
    store.throttle(Throttle("35", None, "burst", 41, now()), entry())
    listed = json.loads(pulang(home, "sweep", "list", "--json").stdout)
    assert [(each["peer"], each["pattern"]) for each in listed["held_back"]] == [("35", "burst")]
    released = pulang(home, "sweep", "release", "35")
    assert released.returncode == 0, released.stderr
    assert store.throttles() == ()
    assert store.audit_entries()[-1].method == "sweep_release"
    assert pulang(home, "sweep", "release", "35").returncode == 78


def test_budgets_are_shown_and_given_back(home: NodeHome, store: Store) -> None:
    from node.budget import Budgets  # noqa: PLC0415
    from tests.integration.test_budgets import claim  # noqa: PLC0415

    store.admit(claim("a", peer="35", case_reference="K-1", at=now()), Budgets())
    rows = json.loads(pulang(home, "budget", "show", "--json").stdout)["spent"]
    assert {(row["scope"], row["today"]) for row in rows} == {("peer", 1), ("operator", 1), ("case", 1)}
    assert "Jawa Timur" in pulang(home, "budget", "show").stdout
    assert pulang(home, "budget", "release", "35").returncode == 0
    assert store.spent() == ()
    assert store.audit_entries()[-1].method == "budget_release"
