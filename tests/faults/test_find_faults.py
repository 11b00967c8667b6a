"""Asking when something breaks: a peer that is mute or gone, our node killed in mid-question, its database away."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from node.local_client import socket_address
from node.store import Direction
from tests.asking import command, environment, eventually, find, three_provinces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.store import AuditEntry
    from tests.federation import Federation, Node

JOKO = ["--name", "Joko Susilo", "--sex", "L", "--born", "1958~3", "--birthplace", "Kebumen", "--mother", "Siti Aminah"]


@pytest.fixture(scope="module")
def provinces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with three_provinces(tmp_path_factory.mktemp("three")) as made:
        yield made


@pytest.fixture
def ours(provinces: Federation) -> Node:
    return provinces.nodes["35"]


@contextmanager
def mute(node: Node) -> Iterator[None]:
    """Stop a node's process as it stands: its connections stay open and nothing comes from them."""
    assert node.process is not None
    node.process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.signal(signal.SIGCONT)


@contextmanager
def down(node: Node) -> Iterator[None]:
    node.stop()
    try:
        yield
    finally:
        node.start()


def mine(node: Node, case: str) -> list[AuditEntry]:
    """Return what a node has on record as the asker of a case."""
    return [entry for entry in node.audit() if entry.case_reference == case and entry.direction is Direction.ASKED]


def until_sent(node: Node, case: str) -> None:
    eventually(lambda: len(mine(node, case)) >= 3)


def is_found(node: Node) -> bool:
    return find(node, *JOKO).returncode == 0


def states(read: dict[str, Any]) -> dict[str, str]:
    return {heard["code"]: heard["state"] for heard in read["heard"]}


def test_a_mute_province_makes_it_incomplete_by_name_and_the_rest_is_shown(provinces: Federation, ours: Node) -> None:
    with mute(provinces.nodes["36"]):
        asked = find(ours, *JOKO, "--timeout", "3")
    assert asked.returncode == 12
    assert "BELUM LENGKAP" in asked.stdout
    assert "Belum menjawab: Banten (tidak menjawab tepat waktu)" in asked.stdout
    assert "Sementara ini: Jawa Tengah" in asked.stdout
    assert "TIDAK TERDAFTAR" not in asked.stdout


def test_a_province_that_is_down_makes_it_incomplete_and_is_asked_again_when_back(
    provinces: Federation, ours: Node
) -> None:
    with down(provinces.nodes["36"]):
        asked = find(ours, *JOKO, "--json")
        read = json.loads(asked.stdout)
    assert (asked.returncode, read["outcome"]) == (12, "incomplete")
    assert states(read) == {"33": "answered", "35": "answered", "36": "unreachable"}
    assert read["unanswered"]["36"] > 0
    eventually(lambda: is_found(ours))  # its channel tries again within seconds


def test_the_home_being_silent_is_never_told_as_not_registered(provinces: Federation, ours: Node) -> None:
    with mute(provinces.nodes["33"]):
        asked = find(ours, *JOKO, "--timeout", "3", "--json")
    read = json.loads(asked.stdout)
    assert (asked.returncode, read["outcome"], read["province"]) == (12, "incomplete", None)
    assert states(read)["33"] == "timed_out"


def test_our_own_registry_missing_is_incomplete_too(provinces: Federation, ours: Node) -> None:
    ours.stop()
    pointed_at = ours.home.current.readlink()
    ours.home.current.unlink()
    try:
        with ours.running():
            read = json.loads(find(ours, *JOKO, "--json").stdout)
    finally:
        ours.home.current.symlink_to(pointed_at)
        ours.start()
    assert read["outcome"] == "incomplete"
    (own,) = [heard for heard in read["heard"] if heard["code"] == "35"]
    assert (own["state"], own["detail"]) == ("unavailable", "no registry imported yet")


def test_no_node_running_says_how_to_start_it_and_leaves_by_69(ours: Node) -> None:
    with down(ours):
        asked = find(ours, *JOKO)
        as_document = json.loads(find(ours, *JOKO, "--json").stdout)
    assert asked.returncode == 69
    assert asked.stderr == (
        f"pulang: simpul provinsi ini tidak berjalan di {ours.home.root}\n"
        f"petunjuk: jalankan: pulang node serve --home {ours.home.root}\n"
    )
    assert (as_document["outcome"], as_document["error"]["kind"]) == ("failed", "NodeNotRunningError")


def test_our_node_killed_in_mid_question_is_told_as_gone_and_the_question_stays_on_record(
    provinces: Federation, ours: Node
) -> None:
    with mute(provinces.nodes["36"]):
        asking = subprocess.Popen(
            command(ours, *JOKO, "--timeout", "50", "--case", "K-killed"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        until_sent(ours, "K-killed")
        ours.stop(signal.SIGKILL)
        stdout, stderr = asking.communicate(timeout=60)
    assert asking.returncode == 69
    assert "simpul berhenti di tengah pertanyaan" in stderr
    assert "PROVINSI ASAL" not in stdout
    assert ours.home.socket.exists()  # the killed node could not tidy up
    assert {entry.outcome for entry in mine(ours, "K-killed")} == {"sent"}
    ours.start()  # and whoever has not answered is asked again
    eventually(lambda: is_found(ours))


def test_an_impatient_caseworker_leaves_and_the_question_is_recorded_to_its_end(
    provinces: Federation, ours: Node
) -> None:
    with mute(provinces.nodes["36"]):
        asking = subprocess.Popen(
            command(ours, *JOKO, "--timeout", "4", "--case", "K-left"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        until_sent(ours, "K-left")
        asking.send_signal(signal.SIGINT)
        assert asking.wait(60) == 130
        eventually(lambda: any(entry.outcome == "timed_out" for entry in mine(ours, "K-left")))
    assert len(mine(ours, "K-left")) == 6


def test_a_database_that_is_gone_stops_the_question_before_it_is_sent(provinces: Federation, ours: Node) -> None:
    aside = ours.home.database.with_suffix(".aside")
    before = len(provinces.nodes["33"].audit())
    ours.home.database.rename(aside)
    try:
        asked = find(ours, *JOKO)
    finally:
        aside.rename(ours.home.database)
    assert asked.returncode == 74
    assert "simpul tidak bisa mencatat pertanyaan" in asked.stderr
    assert len(provinces.nodes["33"].audit()) == before
    eventually(lambda: is_found(ours))


def test_rubbish_at_the_socket_leaves_the_node_answering(ours: Node) -> None:
    for rubbish in (b"", b"\0" * 100, b"{" * 70_000, os.urandom(200_000)):
        with socket.socket(socket.AF_UNIX) as connection, socket_address(ours.home.socket) as address:
            connection.connect(address)
            try:
                connection.sendall(rubbish)
            except (BrokenPipeError, ConnectionResetError):
                continue  # refused while we were still writing
    eventually(lambda: is_found(ours))
