"""`pulang peer`: the same silence has many causes, and each is told by its own line and its own hint."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from node.diagnosis import State, diagnose
from node.errors import NotAMemberError, PeerUnreachableError
from node.pki.credentials import load_credentials
from node.pki.doorstep import resolve
from node.pki.intermediate import ProvinceAuthority
from node.pki.register import Reason
from tests.asking import environment
from tests.federation import Federation, crowd, now
from tests.raw_calls import rogue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from node.diagnosis import Step
    from tests.federation import Node

NAMES = ["our certificate", "our list", "name", "port", "TLS", "our certificate there", "call", "their view of us"]


def pulang(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node.cli.main", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(),
        stdin=subprocess.DEVNULL,
    )


async def look(node: Node, code: str) -> dict[str, Step]:
    return {step.name: step for step in await diagnose(node.home, code, now, deadline_s=2)}


def failed(steps: dict[str, Step]) -> list[str]:
    """The steps that failed, each with a hint; and nothing that depends on them was pretended to be known."""
    found = [step for step in steps.values() if step.state is State.FAILED]
    assert all(step.hint for step in found), found
    return [step.name for step in found]


@contextmanager
def listening(address: str, say: bytes | None) -> Iterator[None]:
    """Something that takes the port and says one thing, or nothing at all."""
    host, port = address.split(":")
    with socket.create_server((host, int(port))) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    if say is not None:
                        connection.recv(100)
                        connection.sendall(say)
                    else:
                        held.append(connection.dup())

        held: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


def test_list_shows_everybody_and_says_by_its_exit_code_that_somebody_is_missing(federation: Federation) -> None:
    home = str(federation.nodes["35"].home.root)
    shown = pulang("peer", "list", "--home", home)
    assert shown.returncode == 69
    assert "33  Jawa Tengah           ready" in shown.stdout
    assert "51  Bali                  no connection" in shown.stdout
    assert "hint: pulang peer diagnose 51" in shown.stdout
    peers = {
        each["code"]: each for each in json.loads(pulang("peer", "list", "--json", "--home", home).stdout)["peers"]
    }
    assert set(peers) == set(federation.nodes) - {"35"}
    assert peers["33"]["state"] == "ready"
    assert abs(peers["33"]["clock_offset_s"]) < 5
    ends_at = load_credentials(federation.nodes["35"].home, now()).not_after
    assert peers["33"]["certificate_ends_at"] == ends_at.isoformat()
    assert (peers["51"]["state"], peers["51"]["ms"]) == ("no connection", None)


def test_where_nothing_is_wrong_every_step_is_well(federation: Federation) -> None:
    home = str(federation.nodes["35"].home.root)
    done = pulang("peer", "diagnose", "33", "--home", home, "--json")
    assert done.returncode == 0, done.stdout
    steps = {each["name"]: each for each in json.loads(done.stdout)["steps"]}
    assert set(NAMES) < set(steps)
    assert {each["state"] for each in steps.values()} == {"well"}
    serial = ProvinceAuthority(federation.nodes["35"].home).register.issued()[-1].serial
    assert steps["their view of us"]["facts"]["serial"] == serial
    assert "nothing stands in the way" in pulang("peer", "diagnose", "33", "--home", home).stdout


async def test_who_is_not_in_the_list_is_said_to_be_so(federation: Federation) -> None:
    with pytest.raises(NotAMemberError, match="province 94 is not in this node's list"):
        await diagnose(federation.nodes["35"].home, "94", now)


async def test_our_own_expired_certificate_is_the_cause_and_theirs_is_looked_at_all_the_same(
    federation: Federation,
) -> None:
    node = federation.node("32")
    federation.certify(node, at=now() - timedelta(days=3), days=1)
    steps = await look(node, "33")
    assert failed(steps) == ["our certificate"]
    assert "pulang cert renew" in str(steps["our certificate"].hint)
    assert steps["TLS"].state is State.WELL
    assert [steps[name].state for name in NAMES[5:]] == [State.SKIPPED] * 3
    done = pulang("peer", "diagnose", "33", "--home", str(node.home.root))
    assert done.returncode == 77
    assert "it is stopped by: our certificate" in done.stdout


async def test_our_own_missing_certificate_is_the_cause(federation: Federation) -> None:
    node = federation.node("31")
    (node.home.pki / "current.pem").unlink()
    steps = await look(node, "33")
    assert failed(steps) == ["our certificate"]
    assert steps["TLS"].state is State.WELL
    federation.certify(node)


async def test_a_closed_port_is_told_from_a_mute_one_and_from_one_that_speaks_no_tls(federation: Federation) -> None:
    asker, lampung = federation.nodes["35"], federation.nodes["18"]
    closed = await look(asker, "18")
    assert failed(closed) == ["port"]
    assert "nobody listens" in closed["port"].detail
    with listening(lampung.address, None):
        mute = await look(asker, "18")
    with listening(lampung.address, b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        other = await look(asker, "18")
    assert failed(mute) == failed(other) == ["TLS"]
    assert "says nothing" in mute["TLS"].detail
    assert "does not speak TLS" in other["TLS"].detail
    assert len({step.hint for step in (closed["port"], mute["TLS"], other["TLS"])}) == 3


def test_a_name_that_leads_nowhere_is_said_to_be_one() -> None:
    with pytest.raises(PeerUnreachableError, match=r"the name no-such-node\.invalid leads nowhere"):
        resolve("no-such-node.invalid", 7035)


async def never(data: bytes) -> bytes:
    raise AssertionError("nobody may call")


async def test_their_expired_certificate_is_told_from_another_provinces(federation: Federation) -> None:
    asker, late, lampung = federation.nodes["35"], federation.node("52"), federation.nodes["18"]
    federation.certify(late, at=now() - timedelta(days=3), days=1)
    async with rogue(federation, late, never):
        expired = await look(asker, "52")
    federation.certify(late)
    async with rogue(federation, federation.node("53"), never, at=lampung.address):
        wrong = await look(asker, "18")
    assert failed(expired) == failed(wrong) == ["TLS"]
    assert "expired at" in expired["TLS"].detail
    assert wrong["TLS"].detail == "province 53 answers there"


async def test_a_node_of_another_root_refuses_us_and_is_refused(federation: Federation, tmp_path: Path) -> None:
    foreign = Federation(tmp_path)
    async with rogue(foreign, foreign.node("18"), never, at=federation.nodes["18"].address):
        steps = await look(federation.nodes["35"], "18")
    assert failed(steps) == ["TLS", "our certificate there"]
    assert "not issued by an intermediate that the membership lists" in steps["TLS"].detail
    assert "does not accept a certificate's root or dates" in steps["our certificate there"].detail


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A federation whose newest list only 33 has: without 51, and with the leaf of 52 revoked."""
    made = Federation(tmp_path_factory.mktemp("apart"))
    asked = made.node("33", crowd(50, seed=1))
    for code in ("51", "52"):
        made.node(code)
    own = ProvinceAuthority(made.nodes["52"].home)
    taken_back = own.revoke_leaf(own.register.issued()[-1].serial, Reason.KEY_COMPROMISE, now())
    made.authority.remove("51")
    made.signing.publish(replace(made.authority.publish(now()), revoked=(taken_back,)))
    made.signing.join(asked.home)
    with asked.running():
        yield made


@pytest.mark.parametrize("code", ["51", "52"])
async def test_who_does_not_accept_us_says_no_more_than_a_reference(apart: Federation, code: str) -> None:
    steps = await look(apart.nodes[code], "33")
    assert failed(steps) == ["call"]  # by our own list all is well
    assert "the certificate is not accepted here; reference" in steps["call"].detail
    assert steps["call"].is_distrust
    assert steps["their view of us"].state is State.SKIPPED


async def test_our_own_newer_list_names_the_reason(apart: Federation) -> None:
    reasons = {}
    for code in ("51", "52"):
        apart.signing.join(apart.nodes[code].home)
        steps = await look(apart.nodes[code], "33")
        assert failed(steps) == ["our certificate", "call"]
        reasons[code] = steps["our certificate"].detail
    assert "is not a member" in reasons["51"]
    assert "was revoked" in reasons["52"]


async def test_an_older_list_is_noticed_on_both_sides(apart: Federation) -> None:
    node = apart.node("36")  # has the newest that there is
    assert (await look(node, "33"))["list"].state is State.WELL
    apart.publish()
    apart.signing.join(node.home)
    steps: Sequence[Step] = tuple((await look(node, "33")).values())
    (differs,) = [step for step in steps if step.state is State.WARNING]
    assert differs.name == "list"
    assert "older than ours" in differs.detail
