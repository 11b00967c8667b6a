"""Questions between real nodes: separate processes, mutual TLS 1.3, real indexes, real databases."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
import socket
import ssl
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from matching.question import Client
from node.errors import PeerError
from node.messages import Answered, Purpose, RefusalReason, Refused, Unavailable
from node.rpc.client import ASK
from node.rpc.wire import write_question
from node.service import OVER_BUDGET
from node.store import Direction, open_store
from proto.pulang.exchange.v1 import exchange_pb2
from tests.federation import JOKO, Federation, crowd, encoded, header, now, peers_of, until
from tests.raw_calls import call, channel_of

if TYPE_CHECKING:
    from tests.federation import Node


async def ask(asker: Node, asked: Node, client: Client | None = None) -> object:
    async with peers_of(asker) as peers:
        query = encoded(asker, client) if client else encoded(asker)
        return await peers.ask(asked.member, query, header(), deadline_s=20)


async def test_the_province_that_knows_the_client_names_a_candidate(federation: Federation) -> None:
    answer = await ask(federation.nodes["35"], federation.nodes["33"])
    assert isinstance(answer, Answered)
    assert answer.evidence.size == 401
    assert answer.handles
    assert answer.handles[0].class_index == 0


async def test_answer_is_audited_and_its_handle_leads_to_the_record(federation: Federation) -> None:
    asker, asked = federation.nodes["35"], federation.nodes["33"]
    question = header(case_reference="K-audit")
    data = write_question(question, encoded(asker))
    async with peers_of(asker) as peers:
        answer = await peers.ask(asked.member, encoded(asker), question, deadline_s=20)
    assert isinstance(answer, Answered)
    (entry,) = [entry for entry in asked.audit() if entry.nonce == question.nonce]
    assert entry.direction is Direction.ANSWERED
    assert (entry.peer, entry.method, entry.purpose, entry.outcome) == ("35", "ask", "return_home", "answered")
    assert entry.case_reference == "K-audit"
    assert entry.request_sha256 == hashlib.sha256(data).digest()
    assert entry.generation == "g000001"
    assert entry.key_epoch == 1
    store = open_store(f"sqlite:///{asked.home.database}")
    best = store.resolve_handle(answer.handles[0].handle, now())
    store.close()
    assert best is not None
    assert best.record_id == JOKO["record_id"]
    assert best.peer == "35"
    assert best.question_nonce == question.nonce


async def test_two_answers_to_one_question_share_no_handle(federation: Federation) -> None:
    asker, asked = federation.nodes["35"], federation.nodes["33"]
    async with peers_of(asker) as peers:
        first = await peers.ask(asked.member, encoded(asker), header(), deadline_s=20)
        second = await peers.ask(asked.member, encoded(asker), header(), deadline_s=20)
    assert isinstance(first, Answered)
    assert isinstance(second, Answered)
    assert not {each.handle for each in first.handles} & {each.handle for each in second.handles}


async def test_the_same_bytes_again_get_the_same_bytes_also_after_a_restart(federation: Federation) -> None:
    asker, asked = federation.nodes["36"], federation.nodes["35"]
    data = write_question(header(case_reference="K-again"), encoded(asker, Client(name="Again", born="1931")))
    async with channel_of(federation, asked, as_node=asker) as channel:
        first = await call(channel, ASK, data)
        assert await call(channel, ASK, data) == first
    asked.stop(signal.SIGKILL)
    asked.start()
    async with channel_of(federation, asked, as_node=asker) as channel:
        assert await call(channel, ASK, data) == first
    outcomes = [entry.outcome for entry in asked.audit() if entry.case_reference == "K-again"]
    assert outcomes == ["answered", "repeated", "repeated"]
    store = open_store(f"sqlite:///{asked.home.database}")
    (case,) = [each for each in store.spent("36") if each.holder == "K-again"]
    store.close()
    assert list(case.by_day.values()) == [1]
    stored = b"".join(path.read_bytes() for path in asked.home.root.glob("node.db*"))
    handles = exchange_pb2.AskResponse.FromString(first).answered.handles
    assert not [each for each in handles if each.handle in stored], "a kept answer lies sealed"


async def test_other_bytes_under_a_used_nonce_are_refused(federation: Federation) -> None:
    asker, asked = federation.nodes["36"], federation.nodes["35"]
    question = header()
    async with peers_of(asker) as peers:
        await peers.ask(asked.member, encoded(asker), question, deadline_s=20)
        other = replace(question, case_reference="K-other")
        answer = await peers.ask(asked.member, encoded(asker), other, deadline_s=20)
    assert isinstance(answer, Refused)
    assert answer.reason is RefusalReason.NONCE_REUSED


async def test_a_question_over_budget_is_refused_with_one_text_and_audited(federation: Federation) -> None:
    asker, asked = federation.nodes["36"], federation.nodes["35"]
    async with peers_of(asker) as peers:
        answers = [
            await peers.ask(
                asked.member,
                encoded(asker, Client(name="Joko Susilo", born=str(1950 + year))),
                header(case_reference="K-over"),
                deadline_s=20,
            )
            for year in range(9)
        ]
    assert [type(answer) for answer in answers] == [Answered] * 8 + [Refused]
    assert answers[-1] == OVER_BUDGET
    audited = [entry for entry in asked.audit() if entry.case_reference == "K-over"]
    assert [entry.outcome for entry in audited] == ["answered"] * 8 + ["refused"]
    assert audited[-1].reason == "budget: the budget of this case is used up"


async def test_answer_has_the_same_size_for_a_known_and_an_unknown_client(federation: Federation) -> None:
    asker, asked = federation.nodes["35"], federation.nodes["33"]
    sizes = set()
    for client in (Client(name="Joko Susilo"), Client(name="Qxwvz Zzyq", born="1911"), Client(name="Wahyuni", sex="P")):
        async with channel_of(federation, asked, as_node=asker) as channel:
            reply = await call(channel, ASK, write_question(header(), encoded(asker, client)))
            sizes.add(len(reply))
    assert len(sizes) == 1
    assert sizes.pop() < 2048


async def test_clock_off_by_six_minutes_is_refused_and_the_refusal_audited(federation: Federation) -> None:
    asker, asked = federation.nodes["35"], federation.nodes["33"]
    good = header()
    off = timedelta(minutes=6)
    late = replace(good, issued_at=good.issued_at - off, deadline=good.deadline - off)
    async with peers_of(asker) as peers:
        answer = await peers.ask(asked.member, encoded(asker), late, deadline_s=20)
    assert isinstance(answer, Refused)
    assert answer.reason is RefusalReason.CLOCK
    (entry,) = [entry for entry in asked.audit() if entry.nonce == late.nonce]
    assert (entry.outcome, entry.reason and entry.reason.split(":")[0]) == ("refused", "clock")


@pytest.mark.parametrize("purpose", list(Purpose))
async def test_every_purpose_of_the_agreement_is_answered(federation: Federation, purpose: Purpose) -> None:
    asker, asked = federation.nodes["36"], federation.nodes["35"]
    async with peers_of(asker) as peers:
        answer = await peers.ask(asked.member, encoded(asker), header(purpose=purpose), deadline_s=20)
    assert isinstance(answer, Answered)


async def test_running_node_reports_serving_and_ready(federation: Federation) -> None:
    asker, asked = federation.nodes["35"], federation.nodes["33"]
    async with peers_of(asker) as peers:
        assert await peers.is_serving(asked.member, deadline_s=10)
    done = asked.run("status")
    assert done.returncode == 0, done.stderr
    assert "ready" in done.stdout
    assert "g000001, 401 persons" in done.stdout


def test_status_for_programs_is_one_json_document_and_nothing_else(federation: Federation) -> None:
    done = federation.nodes["33"].run("status", "--json")
    assert json.loads(done.stdout)["state"] == "ready"


def test_ready_line_names_address_province_generation_and_persons(federation: Federation) -> None:
    node = federation.nodes["33"]
    assert node.ready_line == f"serving province 33 of fkd-mpu.test at {node.address}: g000001, 401 persons\n"


def test_tls_1_2_is_refused_and_1_3_is_spoken(federation: Federation) -> None:
    node = federation.nodes["33"]
    host, port = node.address.split(":")
    asker = federation.nodes["35"]
    versions = {}
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=federation.authority.root_pem.decode())
        context.load_cert_chain(asker.home.pki / "current.pem")
        context.set_alpn_protocols(["h2"])
        context.minimum_version = context.maximum_version = version
        try:
            with (
                socket.create_connection((host, int(port)), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="p33.fkd-mpu.test") as secure,
            ):
                versions[version] = secure.version()
        except ssl.SSLError:
            versions[version] = None
    assert versions == {ssl.TLSVersion.TLSv1_2: None, ssl.TLSVersion.TLSv1_3: "TLSv1.3"}


async def test_node_without_a_registry_serves_and_says_so(federation: Federation) -> None:
    node = federation.node("51")
    with node.running():
        assert "no registry imported yet" in node.ready_line
        answer = await ask(federation.nodes["35"], node)
        assert answer == Unavailable("no registry imported yet")
        async with peers_of(federation.nodes["35"]) as peers:
            assert not await peers.is_serving(node.member, deadline_s=10)
        done = node.run("status")
        assert done.returncode == 69
        assert "registry: no registry imported yet" in done.stdout

        node.publish(crowd(50, seed=51))
        answer = await ask(federation.nodes["35"], node)
        assert isinstance(answer, Answered), "a registry imported while the node runs answers without a restart"
        assert answer.evidence.size == 50


async def test_new_generation_takes_over_between_questions_and_none_is_lost(federation: Federation) -> None:
    asker, node = federation.nodes["35"], federation.node("52", crowd(100, seed=1))
    with node.running():
        for number in (2, 3, 4):
            node.build(crowd(100 * number, seed=number), f"g00000{number}")
        async with peers_of(asker) as peers:
            sizes: list[int] = []
            done = asyncio.Event()

            async def keep_asking() -> None:
                while not done.is_set():
                    answer = await peers.ask(node.member, encoded(asker), header(), deadline_s=20)
                    assert isinstance(answer, Answered)
                    sizes.append(answer.evidence.size)

            askers = [asyncio.create_task(keep_asking()) for _ in range(3)]
            for number in (2, 3, 4):
                seen = len(sizes)
                await until(lambda seen=seen: len(sizes) >= seen + 6)  # type: ignore[misc]
                node.point_at(f"g00000{number}")
            await until(lambda: sizes[-3:] == [400] * 3)
            done.set()
            await asyncio.gather(*askers)
        assert sorted(set(sizes)) == [100, 200, 300, 400]
        # Closed when its last search was done: its memory is given back.
        await until(lambda: node.log.count("generation_closed") == 3)
        assert not re.search(r'"generation": "g000004", "event": "generation_closed"', node.log)


async def test_renewed_certificate_is_shown_to_new_connections_without_a_restart(federation: Federation) -> None:
    node = federation.node("53", crowd(50, seed=53))
    with node.running():
        before = _served_certificate(federation, node)
        federation.certify(node)
        assert _served_certificate(federation, node) != before
        assert isinstance(await ask(federation.nodes["35"], node), Answered)


def _served_certificate(federation: Federation, node: Node) -> bytes:
    host, port = node.address.split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=federation.authority.root_pem.decode())
    context.load_cert_chain(federation.nodes["35"].home.pki / "current.pem")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=f"p{node.code}.fkd-mpu.test") as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    assert shown
    return shown


async def test_sigterm_under_questions_loses_no_accepted_one(federation: Federation) -> None:
    asker, node = federation.nodes["35"], federation.node("18", crowd(5000, seed=18))
    node.start()
    heard: set[bytes] = set()

    async def keep_asking() -> None:
        with suppress(PeerError):
            while True:
                question = header()
                answer = await peers.ask(node.member, encoded(asker), question, deadline_s=20)
                assert isinstance(answer, Answered)
                heard.add(question.nonce)

    async with peers_of(asker) as peers:
        askers = [asyncio.create_task(keep_asking()) for _ in range(4)]
        await until(lambda: len(heard) >= 20)
        assert await asyncio.to_thread(node.stop, signal.SIGTERM) == 0
        await asyncio.gather(*askers)
    audited = {entry.nonce for entry in node.audit() if entry.outcome == "answered"}
    assert heard == audited
    assert not node.home.socket.exists()


def test_log_is_json_lines_without_a_name(federation: Federation) -> None:
    for code in ("33", "35", "36"):
        text = federation.nodes[code].log
        assert [json.loads(line) for line in text.splitlines()]
        for canary in ("Joko", "joko", "Soesilo", "susilo", "Kebumen", "Aminah"):
            assert canary not in text
