"""Questions that outlive faults, with real nodes: peers that are down, mute or busy. Kills: see test_campaign.py."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from node.local_client import call_node
from node.store import Direction
from tests.asking import REGISTERED, environment, eventually, find, three_provinces
from tests.faults.test_find_faults import JOKO, down, mute
from tests.federation import crowd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

    from tests.federation import Federation, Node


@pytest.fixture(scope="module")
def provinces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with three_provinces(tmp_path_factory.mktemp("three")) as made:
        yield made


@pytest.fixture
def ours(provinces: Federation) -> Node:
    return provinces.nodes["35"]


def case_command(node: Node, *arguments: str) -> CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node.cli.main", "case", *arguments, "--home", str(node.home.root)],
        check=False, capture_output=True, text=True, timeout=120, env=environment(), stdin=subprocess.DEVNULL,
    )  # fmt: skip


def shown(node: Node, case: str) -> dict[str, Any]:
    return call_node(node.home, "case_show", case=case)


def until_outcome(node: Node, case: str, outcome: str = "home_found") -> dict[str, Any]:
    eventually(lambda: shown(node, case)["outcome"] == outcome)
    return shown(node, case)


def audited(node: Node, direction: Direction, case: str, outcome: str, peer: str) -> list[bytes | None]:
    """Return the nonces of a node's audit rows about a case."""
    return [
        entry.nonce
        for entry in node.audit()
        if (entry.direction, entry.case_reference, entry.outcome, entry.peer) == (direction, case, outcome, peer)
    ]


def check_books(provinces: Federation, ours: Node, case: str) -> None:
    """Nothing lost, nothing doubled: every try is on record before it is sent, and every nonce was answered once."""
    ((_, found),) = Counter(each["case"] for each in call_node(ours.home, "case_list", closed=True)["cases"]
                            if each["case"] == case).items()  # fmt: skip
    assert found == 1
    for province in shown(ours, case)["provinces"]:
        code = province["code"]
        sent = audited(ours, Direction.ASKED, case, "sent", code)
        assert province["attempts"] == len(sent)
        if code != ours.code:
            answered = audited(provinces.nodes[code], Direction.ANSWERED, case, "answered", ours.code)
            assert set(answered) <= set(sent)
            assert province["answered_at"] is None or answered


def test_a_peer_that_was_down_is_asked_again_and_the_case_tells_it(provinces: Federation, ours: Node) -> None:
    with down(provinces.nodes["36"]):
        asked = find(ours, *JOKO, "--case", "K-down")
        assert asked.returncode == 12
        assert "Simpul menanyakannya lagi sendiri sampai" in asked.stdout
        assert "lihat: pulang case show K-down" in " ".join(asked.stdout.split())
        listed = case_command(ours, "list")
        assert "K-down" in listed.stdout
        assert "belum lengkap" in listed.stdout
    until_outcome(ours, "K-down")
    check_books(provinces, ours, "K-down")


def test_what_is_shown_of_a_case_is_the_amended_answer_also_while_the_node_is_stopped(
    provinces: Federation, ours: Node
) -> None:
    with down(provinces.nodes["36"]):
        find(ours, *JOKO, "--case", "K-show")
    eventually(lambda: json.loads(case_command(ours, "list", "--json").stdout)["cases"][0]["outcome"] == "home_found")
    assert "BARU" in case_command(ours, "list").stdout
    told = case_command(ours, "show", "K-show")
    assert told.returncode == 0
    for words in ("PROVINSI ASAL DITEMUKAN: Jawa Tengah", "Riwayat", "hasil pertama: belum lengkap", "Banten menjawab"):
        assert words in told.stdout
    assert "BARU" not in case_command(ours, "list").stdout
    with down(ours):
        again = case_command(ours, "show", "K-show", "--json")
        assert json.loads(again.stdout)["result"]["province"] == "33"
        closing = case_command(ours, "close", "K-show", "--reason", "found")
        assert closing.returncode == 69
    assert case_command(ours, "show", "K-nobody").returncode == 65


def test_a_closed_case_is_left_alone_and_a_reopened_one_is_asked_at_once(provinces: Federation, ours: Node) -> None:
    with down(provinces.nodes["36"]):
        find(ours, *JOKO, "--case", "K-closed")
        assert case_command(ours, "close", "K-closed", "--reason", "left").returncode == 0
        attempts = shown(ours, "K-closed")["provinces"]
    time.sleep(12)  # the next try would have been due
    assert shown(ours, "K-closed")["provinces"] == attempts
    assert case_command(ours, "close", "K-closed", "--reason", "left").returncode == 65
    assert case_command(ours, "reopen", "K-closed").returncode == 0
    until_outcome(ours, "K-closed")


def test_a_mute_peer_is_left_alone_after_a_few_failures_and_found_again(provinces: Federation, ours: Node) -> None:
    with mute(provinces.nodes["36"]):
        for number in range(4):
            find(ours, *JOKO, "--timeout", "1.5", "--case", f"K-mute-{number}")
        peers = json.loads(ours.run("status", "--json").stdout)["peers"]
        assert peers["36"]["state"] in {"open", "half_open"}
        assert peers["36"]["failures"] >= 3
        assert peers["33"]["state"] == "closed"
        # Nobody waits for it meanwhile, and nobody takes its rest for an answer.
        asked = find(ours, *JOKO, "--timeout", "30", "--json")
        assert json.loads(asked.stdout)["outcome"] == "incomplete"
    for number in range(4):
        until_outcome(ours, f"K-mute-{number}")
        check_books(provinces, ours, f"K-mute-{number}")
    assert json.loads(ours.run("status", "--json").stdout)["peers"]["36"]["state"] == "closed"


def test_a_new_registry_is_asked_about_an_open_case_by_itself(provinces: Federation, ours: Node) -> None:
    banten = provinces.nodes["36"]
    client = ["--name", "Xaverius Watubella", "--sex", "L", "--born", "1931-05-06", "--birthplace", "Merauke",
              "--mother", "Yosefa Gebze"]  # fmt: skip
    assert find(ours, *client, "--case", "K-new").returncode in {10, 11}
    person = {
        "record_id": "B-77", "name": "Xaverius Watubella", "mother_name": "Yosefa Gebze", "birthplace": "Merauke",
        "birth_date": "1931-05-06", "sex": "L",
    }  # fmt: skip
    banten.publish([*REGISTERED["36"], *crowd(30, seed=7), person], "g000002")
    find(ours, *JOKO)  # any answer says that the registry has changed
    told = until_outcome(ours, "K-new")
    assert told["province"] == "36"
    assert [event["event"] for event in told["history"]][-2:] == ["renewed", "amended"]
    check_books(provinces, ours, "K-new")
