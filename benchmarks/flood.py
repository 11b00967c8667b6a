"""A member that floods another's node with well-formed questions, as fast as they are answered or refused.

    python -m benchmarks.flood HOME VICTIM CLIENTS OUT

Runs until SIGTERM, then writes to OUT, in JSON, what came of its calls. It is made of the node's own clients, several
of them: one lets only four questions out at once.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.member import encoder_of, header, member_of, now, peers_of
from matching.question import Client
from node.errors import PeerError
from node.home import NodeHome
from node.rpc.client import MAX_QUESTIONS_PER_PEER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from node.rpc.client import Peers

DEADLINE_S: Final = 20.0
PAUSE_S: Final = 0.1  # after a call that reached nobody


async def flood(home: NodeHome, victim: str, clients: int) -> Mapping[str, int]:
    """Flood until SIGTERM; return the calls by what came of them."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    counted: Counter[str] = Counter()
    client = Client(name="Contoh Nama", sex="L", born="1970-02-03", birthplace="Kebumen", mother_name="Contoh")
    query = encoder_of(home).encode(client, now().date())
    member = member_of(home, victim)

    async def pour(peers: Peers) -> None:
        while not stopping.is_set():
            try:
                answer = await peers.ask(member, query, header(DEADLINE_S), deadline_s=DEADLINE_S)
                counted[type(answer).__name__] += 1
            except PeerError as error:
                counted[type(error).__name__] += 1
                await asyncio.sleep(PAUSE_S)

    async with AsyncExitStack() as stack:
        every = [await stack.enter_async_context(peers_of(home)) for _ in range(clients)]
        tasks = [asyncio.create_task(pour(peers)) for peers in every for _ in range(MAX_QUESTIONS_PER_PEER)]
        await stopping.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return counted


if __name__ == "__main__":
    found = asyncio.run(flood(NodeHome(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])))
    Path(sys.argv[4]).write_text(json.dumps(found), encoding="utf-8")
