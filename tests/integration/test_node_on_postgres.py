"""A node whose memory is PostgreSQL: the same promises as with the embedded database."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from node.store import Direction, open_store
from tests.federation import JOKO, Federation, Node, crowd
from tests.postgres import postgres_server  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres import PostgresServer

pytestmark = pytest.mark.postgres


def find(node: Node) -> subprocess.CompletedProcess[str]:
    client = {"name": "Joko Susilo", "born": "1958", "mother": "Siti Aminah", "birthplace": "Kebumen", "sex": "L"}
    return subprocess.run(
        [sys.executable, "-m", "node.cli.main", "find", "--home", str(node.home.root), "--json", "--from", "-"],
        input=json.dumps(client),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_node_asks_and_answers_on_postgresql_refuses_without_it_and_recovers_alone(
    tmp_path: Path,
    postgres_server: PostgresServer,  # noqa: F811
) -> None:
    with postgres_server.database() as url:
        node = Federation(tmp_path).node("33", [*crowd(50, seed=1), JOKO], database_url=url)
        with node.running():
            assert find(node).returncode == 12  # the other nine are down, and that is never "not registered"

            postgres_server.stop("immediate")
            try:
                refused = find(node)
                assert refused.returncode == 74, refused.stderr
                assert json.loads(refused.stdout)["error"]["kind"] == "StoreError"
                assert "heard" not in json.loads(refused.stdout), "a question that is not on record was asked"
            finally:
                postgres_server.start()

            assert find(node).returncode == 12
        assert not node.home.database.exists()

        store = open_store(url)
        rows = store.audit_entries()
        answered = [row for row in rows if row.direction is Direction.ANSWERED and row.outcome == "answered"]
        store.close()
        assert len(answered) == 2  # its own registry, asked and answered twice
        assert sorted({row.outcome for row in rows if row.direction is Direction.ASKED}) == [
            "answered",
            "sent",
            "unreachable",
        ]
