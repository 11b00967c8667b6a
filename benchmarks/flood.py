"""A member that floods another's node with well-formed questions, as fast as they are answered or refused.

    python -m benchmarks.flood HOME VICTIM CLIENTS OUT

Runs until SIGTERM, then writes to OUT, in JSON, what came of its calls. It is made of the node's own clients, several
of them: one lets only four questions out at once.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from matching.encoding import encode_client
from matching.keys import FieldKeys, load_secret
from matching.question import Client
from matching.schema import PERSON_SCHEMA
from node.errors import PeerError
from node.home import NodeHome
from node.messages import NONCE_BYTES, PSEUDONYM_BYTES, Purpose, QuestionHeader
from node.pki.credentials import load_credentials
from node.pki.refresh import Mirror
from node.reload import Reloaded
from node.rpc.client import MAX_QUESTIONS_PER_PEER, Peers

if TYPE_CHECKING:
    from collections.abc import Mapping

EPOCH: Final = 1
DEADLINE_S: Final = 20.0


async def flood(home: NodeHome, victim: str, clients: int) -> Mapping[str, int]:
    """Flood until SIGTERM; return the calls by what came of them."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    counted: Counter[str] = Counter()
    secret = load_secret(home.epoch_secret(EPOCH).read_text(encoding="ascii"))
    client = Client(name="Contoh Nama", sex="L", born="1970-02-03", birthplace="Kebumen", mother_name="Contoh")
    query = encode_client(client, FieldKeys.derive(secret, PERSON_SCHEMA, EPOCH), _now().date())
    mirror = Mirror(home.tuf)
    every = [
        Peers(
            credentials=Reloaded("credentials", (home.pki / "current.pem",), lambda: load_credentials(home, _now())),
            membership=Reloaded("membership", (mirror.current,), lambda: mirror.load().membership),
            now=_now,
        )
        for _ in range(clients)
    ]
    member = mirror.load().membership.by_code(victim)
    assert member is not None

    async def pour(peers: Peers) -> None:
        while not stopping.is_set():
            now = _now()
            header = QuestionHeader(
                secrets.token_bytes(NONCE_BYTES),
                f"F-{secrets.token_hex(4)}",
                Purpose.RETURN_HOME,
                bytes(PSEUDONYM_BYTES),
                now,
                now + timedelta(seconds=DEADLINE_S),
            )
            try:
                answer = await peers.ask(member, query, header, deadline_s=DEADLINE_S)
                counted[type(answer).__name__] += 1
            except PeerError as error:
                counted[type(error).__name__] += 1
                await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(pour(peers)) for peers in every for _ in range(MAX_QUESTIONS_PER_PEER)]
    await stopping.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(peers.close() for peers in every))
    return counted


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    found = asyncio.run(flood(NodeHome(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])))
    Path(sys.argv[4]).write_text(json.dumps(found), encoding="utf-8")
