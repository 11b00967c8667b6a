from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from benchmarks.demo import PULANG, DemoClient, DemoFolder, DemoPlan, ask, build, serving, summarise
from matching.question import Client
from node.errors import ConfigError
from node.local_client import LocalRequest, NodeNotRunningError, ask_node

if TYPE_CHECKING:
    from pathlib import Path

PLAN = DemoPlan(persons=300, clients=4, seed=1, provinces=("33", "35", "51"))


def nothing(step: str, done: int, total: int) -> None: ...


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoFolder, list[DemoClient]]:
    return build(tmp_path_factory.mktemp("demo") / "made", PLAN, nothing)


def all_stopped(folder: DemoFolder) -> bool:
    for code in PLAN.provinces:
        with pytest.raises(NodeNotRunningError):
            list(ask_node(folder.home(code), LocalRequest(Client(name="Contoh"))))
    return True


def test_three_provinces_are_served_asked_and_stopped(made: tuple[DemoFolder, list[DemoClient]]) -> None:
    folder, clients = made
    with serving(folder, folder.plan(), nothing):
        answers = [ask(folder, client) for client in clients]
    summary = summarise(answers)
    assert [answer.failure for answer in answers] == [None] * 4
    assert summary.unanswered == 0
    assert summary.home_wrong == 0
    assert all_stopped(folder)


def test_a_demo_told_to_end_takes_its_nodes_along(made: tuple[DemoFolder, list[DemoClient]]) -> None:
    folder, _ = made
    served = subprocess.Popen([*PULANG, "demo", "--out", str(folder.root), "--serve"], stdout=subprocess.PIPE)
    assert served.stdout is not None
    with served.stdout as said:
        assert any(line.startswith(b"Ctrl-C stops the nodes") for line in said)
        served.send_signal(signal.SIGTERM)
        assert served.wait(timeout=60) == 0
    assert all_stopped(folder)


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        build(tmp_path, PLAN, nothing)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_serving_a_folder_without_a_demo_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no demo"):
        DemoFolder(tmp_path).plan()
