"""The node's local-only socket, a real one: who may ask, what is refused, what comes back."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from matching.question import Client
from node.client_file import client_document
from node.errors import ConfigError, PeerContractError, StoreError
from node.findings import Accepted, Concluded, Failed, Finding, Heard, Warned
from node.home import NodeHome
from node.local import LocalServer, OperatorPseudonyms, load_pseudonyms
from node.local_client import (
    MAX_REQUEST_BYTES,
    LocalRequest,
    NodeGoneError,
    NodeNotRunningError,
    ask_node,
    socket_address,
)
from node.messages import Answered, Purpose
from tests.asking import World, build_registries, failing, mute
from tests.federation import JOKO_AS_SAID

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Mapping
    from pathlib import Path

    from matching.index import EncodedIndex
    from node.query import Desk, Question

PSEUDONYMS = OperatorPseudonyms(b"k" * 32)
QUESTION: dict[str, Any] = {
    "client": client_document(JOKO_AS_SAID),
    "purpose": "self_test",
    "case_reference": "K-7",
    "timeout_s": 20,
}


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, EncodedIndex]]:
    built = build_registries(tmp_path_factory.mktemp("registries"))
    yield built
    for index in built.values():
        index.close()


@pytest.fixture
def world(registries: dict[str, EncodedIndex]) -> World:
    return World(registries)


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    made = NodeHome(tmp_path / "home")
    made.root.mkdir(mode=0o700)
    made.config.touch()
    return made


@asynccontextmanager
async def serving(home: NodeHome, desk: Desk) -> AsyncIterator[LocalServer]:
    server = LocalServer(home.socket, desk, PSEUDONYMS, dict)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def ask(home: NodeHome, request: LocalRequest | None = None) -> list[Finding]:
    """Ask as the command line does: from outside the node's event loop."""
    return await asyncio.to_thread(lambda: list(ask_node(home, request or LocalRequest(JOKO_AS_SAID, timeout_s=20))))


async def answer_to(home: NodeHome, line: bytes) -> dict[str, Any]:
    """Send bytes as they are; return the one event that comes back."""
    reader, writer = await asyncio.open_unix_connection(str(home.socket))
    writer.write(line)
    writer.write_eof()
    (event,) = (await reader.read()).splitlines()
    writer.close()
    document: dict[str, Any] = json.loads(event)
    return document


async def test_events_arrive_in_order_and_the_home_is_found(home: NodeHome, world: World) -> None:
    async with serving(home, world.desk()):
        events = await ask(home)
    assert [type(event) for event in events] == [Accepted, Heard, Heard, Heard, Concluded]
    concluded = events[-1]
    assert isinstance(concluded, Concluded)
    assert (concluded.outcome, concluded.province) == ("home_found", "33")


async def test_events_arrive_while_others_are_still_awaited(
    home: NodeHome, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.local.STOP_S", 0.2)
    world.faults["36"] = mute
    async with serving(home, world.desk()):
        reader, writer = await asyncio.open_unix_connection(str(home.socket))
        writer.write(LocalRequest(JOKO_AS_SAID, timeout_s=20).as_line())
        lines = [json.loads(await reader.readline()) for _ in range(3)]  # Banten is still thinking
        writer.close()
    assert [line["event"] for line in lines] == ["accepted", "province", "province"]


async def test_purpose_case_and_operator_reach_the_question(home: NodeHome, world: World) -> None:
    async with serving(home, world.desk()):
        await ask(home, LocalRequest(JOKO_AS_SAID, Purpose.NOTIFY_FAMILY, "K-ours", 20))
    header = world.asked[0][1].header
    assert (header.purpose, header.case_reference) == (Purpose.NOTIFY_FAMILY, "K-ours")
    assert header.operator_pseudonym == PSEUDONYMS.of(os.geteuid())


async def test_a_client_that_cannot_be_asked_about_is_an_error_that_names_the_field(
    home: NodeHome, world: World
) -> None:
    async with serving(home, world.desk()):
        events = await ask(home, LocalRequest(replace(JOKO_AS_SAID, born="31-2-1958"), timeout_s=20))
    assert events == [
        Failed(
            "FieldValueError",
            "born: no such day in that month",
            None,
            65,
            field="born",
            reason="no such day in that month",
        )
    ]
    assert world.asked == []


async def test_a_warning_comes_before_the_question_is_sent(home: NodeHome, world: World) -> None:
    async with serving(home, world.desk()):
        events = await ask(home, LocalRequest(replace(JOKO_AS_SAID, birthplace="Antah Berantah Sekali"), timeout_s=20))
    assert events[0] == Warned("birthplace", "unknown_place")
    assert isinstance(events[1], Accepted)


async def test_a_database_that_cannot_record_leaves_by_its_exit_code(home: NodeHome, world: World) -> None:
    async def full(question: Question, provinces: Collection[str]) -> None:
        raise StoreError("the disk is full", hint="make room")

    async with serving(home, world.desk(opened=full)):
        events = await ask(home)
    assert events == [Failed("StoreError", "the disk is full", "make room", 74)]


async def test_a_bug_is_told_by_its_id_alone(home: NodeHome, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    async def bug(question: Question, provinces: Collection[str]) -> None:
        raise KeyError("Joko Susilo")

    async with serving(home, world.desk(opened=bug)):
        (event,) = await ask(home)
    assert isinstance(event, Failed)
    assert (event.kind, event.exit) == ("bug", 1)
    logged = capsys.readouterr()
    request = event.message.removeprefix("the node failed: request ")
    assert request in logged.out + logged.err
    assert "Joko" not in event.message + logged.out + logged.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"not json\n", "the question is not JSON"),
        (b"\xff\xfe\n", "the question is not JSON"),
        (b'{"a":' * 10_000 + b"\n", "the question is not JSON"),
        (b"[]\n", "the question is not one this node knows"),
        (json.dumps({**QUESTION, "nik": "3305"}).encode() + b"\n", "the question is not one this node knows"),
        (json.dumps(QUESTION).encode(), "the question did not arrive whole"),
        (b"", "the question did not arrive whole"),
        (b"x" * (MAX_REQUEST_BYTES + 10) + b"\n", f"the question is over {MAX_REQUEST_BYTES} bytes"),
        (json.dumps({**QUESTION, "timeout_s": 0}).encode() + b"\n", "the timeout must be above 0"),
        (json.dumps({**QUESTION, "timeout_s": 61}).encode() + b"\n", "the timeout must be above 0"),
        (json.dumps({**QUESTION, "timeout_s": float("nan")}).encode() + b"\n", "the timeout is not a number"),
        (json.dumps({**QUESTION, "timeout_s": True}).encode() + b"\n", "the timeout is not a number"),
        (json.dumps({**QUESTION, "case_reference": "Joko S"}).encode() + b"\n", "the case reference must be"),
        (json.dumps({**QUESTION, "case_reference": "x\n"}).encode() + b"\n", "the case reference must be"),
        (json.dumps({**QUESTION, "purpose": "curiosity"}).encode() + b"\n", "the purpose must be one of"),
        (json.dumps({**QUESTION, "client": {"name": 7}}).encode() + b"\n", "name: not text"),
        (json.dumps({**QUESTION, "client": None}).encode() + b"\n", "client: not one object"),
    ],
)
async def test_a_line_that_is_no_question_gets_one_clear_error(
    home: NodeHome, world: World, line: bytes, message: str
) -> None:
    async with serving(home, world.desk()):
        event = await answer_to(home, line)
        assert event["event"] == "error"
        assert event["message"].startswith(message)
        assert isinstance((await ask(home))[-1], Concluded)  # and the node goes on
    assert "Joko S" not in event["message"]


async def test_socket_is_for_its_owner_alone(home: NodeHome, world: World) -> None:
    async with serving(home, world.desk()):
        assert stat.S_IMODE(home.socket.stat().st_mode) == 0o600
    assert not home.socket.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_another_user_is_refused_even_if_the_files_let_them_in(home: NodeHome, world: World) -> None:
    async with serving(home, world.desk()):
        home.socket.chmod(0o666)
        home.root.chmod(0o711)
        script = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from matching.question import Client\n"
            "from node.home import NodeHome\n"
            "from node.local_client import LocalRequest, ask_node\n"
            "os.chdir(sys.argv[1]); os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "event, = ask_node(NodeHome(Path('.')), LocalRequest(Client(name='Joko')))\n"
            "print(event.kind, event.exit)\n"
        )
        asked = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", script, str(home.root)],
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert asked.stdout == "AccessDeniedError 77\n"
    assert world.asked == []


async def test_a_question_too_long_is_told_so_though_it_was_never_read(home: NodeHome, world: World) -> None:
    async with serving(home, world.desk()):
        (event,) = await ask(home, LocalRequest(Client(name="J" * MAX_REQUEST_BYTES * 4)))
    assert isinstance(event, Failed)
    assert event.message == f"the question is over {MAX_REQUEST_BYTES} bytes"


async def test_a_folder_open_to_others_is_not_served(home: NodeHome, world: World) -> None:
    home.root.chmod(0o750)
    with pytest.raises(ConfigError, match="is open to other users"):
        await LocalServer(home.socket, world.desk(), PSEUDONYMS, dict).start()


async def test_a_socket_left_by_a_killed_node_is_replaced(home: NodeHome, world: World) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home.socket))
    async with serving(home, world.desk()):
        assert isinstance((await ask(home))[-1], Concluded)


async def test_a_file_in_the_sockets_place_is_not_removed(home: NodeHome, world: World) -> None:
    home.socket.write_text("precious", encoding="ascii")
    with pytest.raises(ConfigError, match="it is not a socket"):
        await LocalServer(home.socket, world.desk(), PSEUDONYMS, dict).start()
    assert home.socket.read_text(encoding="ascii") == "precious"


async def test_a_folder_deeper_than_a_socket_address_may_be_long_works(tmp_path: Path, world: World) -> None:
    deep = NodeHome(tmp_path / ("x" * 100) / ("y" * 100))
    deep.root.mkdir(mode=0o700, parents=True)
    deep.config.touch()
    async with serving(deep, world.desk()):
        assert isinstance((await ask(deep))[-1], Concluded)


def test_an_address_is_the_path_where_that_fits(tmp_path: Path) -> None:
    with socket_address(tmp_path / "s") as address:
        assert address == str(tmp_path / "s")


async def test_a_question_goes_on_to_its_record_when_the_asker_has_gone(home: NodeHome, world: World) -> None:
    closed = asyncio.Event()
    release = asyncio.Event()

    async def waiting(_: float) -> Any:
        await release.wait()
        raise StoreError("gone")

    async def close(question: Question, concluded: Concluded, answers: Mapping[str, Answered]) -> None:
        closed.set()

    world.faults["36"] = waiting
    async with serving(home, world.desk(closed=close)):
        reader, writer = await asyncio.open_unix_connection(str(home.socket))
        writer.write(LocalRequest(JOKO_AS_SAID, timeout_s=20).as_line())
        await reader.readline()
        writer.close()
        await writer.wait_closed()
        release.set()
        async with asyncio.timeout(20):
            await closed.wait()


async def test_a_stopping_node_hangs_up_on_what_does_not_end_and_the_asker_is_told(
    home: NodeHome, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.local.STOP_S", 0.2)
    world.faults["36"] = mute
    async with serving(home, world.desk()):
        asking = asyncio.create_task(ask(home))
        await world.until_asked(1)
    with pytest.raises(NodeGoneError, match="went away in mid-question"):
        await asking


async def test_a_fifth_question_waits_for_a_seat_and_then_is_told_to_come_again(
    home: NodeHome, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.local.SEAT_S", 0.2)
    monkeypatch.setattr("node.local.STOP_S", 0.2)
    world.faults["36"] = mute
    async with serving(home, world.desk()):
        seated = [asyncio.create_task(ask(home)) for _ in range(4)]
        await world.until_asked(4)
        (event,) = await ask(home)
    assert isinstance(event, Failed)
    assert (event.kind, event.exit) == ("BusyError", 75)
    await asyncio.gather(*seated, return_exceptions=True)


def test_no_node_there_says_how_to_start_one(home: NodeHome) -> None:
    with pytest.raises(NodeNotRunningError) as caught:
        list(ask_node(home, LocalRequest(JOKO_AS_SAID)))
    assert caught.value.hint == f"start it: pulang node serve --home {home.root}"


def test_a_folder_that_is_no_nodes_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a node's folder"):
        list(ask_node(NodeHome(tmp_path / "nowhere"), LocalRequest(JOKO_AS_SAID)))


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"", NodeGoneError),
        (b'{"event":"accep', NodeGoneError),
        (b"hello\n", PeerContractError),
        (b"[]\n", PeerContractError),
        (b'{"event":"surprise"}\n', PeerContractError),
        (b'{"event":"warning","field":"name"}\n', PeerContractError),
        (b'{"event":"province","code":"33","state":"asleep","ms":1}\n', PeerContractError),
    ],
)
def test_what_is_no_node_behind_the_socket_is_not_believed(
    home: NodeHome, reply: bytes, error: type[Exception]
) -> None:
    script = (
        "import socket, sys\n"
        "listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1]); listener.listen()\n"
        "print('ready', flush=True)\n"
        "connection, _ = listener.accept(); connection.recv(100000)\n"
        f"connection.sendall({reply!r})\n"
    )
    command = [sys.executable, "-I", "-S", "-c", script, str(home.socket)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as impostor:
        assert impostor.stdout is not None
        impostor.stdout.readline()
        with pytest.raises(error):
            list(ask_node(home, LocalRequest(JOKO_AS_SAID)))


def test_pseudonyms_are_lasting_per_node_and_differ_between_users(home: NodeHome, tmp_path: Path) -> None:
    other = NodeHome(tmp_path / "other")
    ours = load_pseudonyms(home)
    assert ours.of(0) == load_pseudonyms(home).of(0)
    assert ours.of(0) != ours.of(65534)
    assert ours.of(0) != load_pseudonyms(other).of(0)
    assert len(ours.of(0)) == 16
    assert ours.of(4_000_000) != ours.of(4_000_001)  # users without a name
    assert stat.S_IMODE(home.operator_secret.stat().st_mode) == 0o600
    assert ours.key.hex() not in repr(ours)


def test_a_spoilt_pseudonym_key_is_refused(home: NodeHome) -> None:
    load_pseudonyms(home)
    home.operator_secret.write_text("short", encoding="ascii")
    with pytest.raises(ConfigError, match="is not 32 bytes"):
        load_pseudonyms(home)


async def test_a_province_that_fails_reaches_the_command_line_as_its_state(home: NodeHome, world: World) -> None:
    world.faults["36"] = failing(StoreError("the audit cannot be written"))
    async with serving(home, world.desk()):
        events = await ask(home)
    states = {event.code: event.state for event in events if isinstance(event, Heard)}
    assert states == {"33": "answered", "35": "answered", "36": "unavailable"}
