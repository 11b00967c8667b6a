"""What a running node tells its monitor: true counts, and nothing about a person."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from prometheus_client import generate_latest

from node.budget import Budgets, Scope
from node.errors import BusyError
from node.metrics import Metrics, serve_metrics
from node.notary import Lag
from node.store import Throttle, open_store
from tests.federation import JOKO, Federation, Node, crowd, encoded, free_port, header, now, peers_of, until
from tests.integration.test_budgets import claim
from tests.stores import NOW, entry, handle

if TYPE_CHECKING:
    from pathlib import Path


def scrape(address: str) -> str:
    with urlopen(f"http://{address}/metrics") as response:
        text: str = response.read().decode()
    return text


async def _ask(asker: Node, home: Node) -> None:
    async with peers_of(asker) as peers:
        await peers.ask(home.member, encoded(asker), header(), deadline_s=20.0)


def test_a_running_node_counts_its_calls_and_says_nothing_of_the_client(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    address = f"127.0.0.1:{free_port()}"
    home = federation.node("33", [*crowd(50, seed=1), JOKO], metrics_listen=address)
    asker = federation.node("35")
    with home.running():
        asyncio.run(_ask(asker, home))
        text = scrape(address)
    assert 'pulang_calls_total{method="ask",peer="35",status="OK"} 1.0' in text
    assert 'pulang_answers_total{outcome="answered",peer="35"} 1.0' in text
    assert 'pulang_answer_seconds_count{phase="searched"} 1.0' in text
    assert "pulang_registry_persons 51.0" in text
    assert float(re.findall(r"^pulang_certificate_seconds_left (\S+)$", text, re.MULTILINE)[0]) > 0
    assert set(re.findall(r'probe="(\w+)"', text)) >= {"database", "registry", "certificate", "membership"}
    assert not re.search("joko|soesilo|susilo|kebumen|KBM|siti", text, re.IGNORECASE)


def test_budgets_throttles_and_the_audits_lag_are_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    with closing(open_store(f"sqlite:///{tmp_path}/node.db")) as store:
        for number in range(3):
            store.admit(claim(str(number)), Budgets())
        store.throttle(Throttle("51", None, "burst", 40, NOW), entry())
        log = Lag(size=9, signed=7, signed_at=NOW - timedelta(seconds=90), cosigned={"34": 5})
        metrics.accounted(store.spent(scope=Scope.PEER), store.throttles(), Budgets(), log, NOW)
    text = generate_latest(metrics.registry).decode()
    assert re.findall(r"^pulang_(?:budget|held|audit)\S* \S+$", text, re.MULTILINE) == [
        'pulang_budget_left{peer="33"} 117.0',
        'pulang_held_back{peer="33"} 0.0',
        'pulang_held_back{peer="51"} 1.0',
        "pulang_audit_unsigned_rows 2.0",
        "pulang_audit_signed_age_seconds 90.0",
        'pulang_audit_uncosigned_rows{witness="34"} 4.0',
    ]


def test_a_serving_node_forgets_what_is_past_its_time_and_counts_the_rest(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    node = Federation(tmp_path).node("33", crowd(50, seed=1), metrics_listen=address)
    long_ago = now() - timedelta(days=30)
    with closing(open_store(f"sqlite:///{node.home.database}")) as store:
        store.admit(claim("a", peer="51", at=now()), Budgets())
        store.record_answer(entry(), [handle(1, expires_at=long_ago)])
        with node.running():
            asyncio.run(until(lambda: store.resolve_handle(bytes([1]) * 16, long_ago - timedelta(days=1)) is None))
            asyncio.run(until(lambda: 'pulang_budget_left{peer="51"} 119.0' in scrape(address)))


def test_a_taken_port_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BusyError, match=f"127.0.0.1:{port}"), serve_metrics(Metrics(), f"127.0.0.1:{port}"):
            pass
