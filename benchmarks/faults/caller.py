"""Calls past a node's own caseworkers, with its certificate: about its health, and as a rogue would make them."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from matching.encoding import encode_client
from matching.keys import FieldKeys, load_secret
from matching.places import province_name
from matching.schema import PERSON_SCHEMA
from node.messages import NONCE_BYTES, PSEUDONYM_BYTES, Purpose, QuestionHeader
from node.pki.credentials import load_credentials
from node.pki.membership import Member
from node.pki.refresh import Mirror
from node.reload import Reloaded
from node.rpc.client import ASK, Peers
from node.rpc.wire import write_question

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from datetime import datetime
    from typing import Self

    from matching.question import Client, EncodedQuery
    from node.home import NodeHome
    from node.messages import Answer

DEADLINE_S: Final = 10.0


class Caller:
    """Speaks to nodes as the node of `home` would, from an event loop of its own. Use as a context.

    several: how many clients it is: one of ours lets only a few questions out at once.
    """

    def __init__(self, home: NodeHome, now: Callable[[], datetime], *, several: int = 1) -> None:
        self._home, self._now, self._several = home, now, several
        self._loop = asyncio.new_event_loop()
        self._peers: list[Peers] = []

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in this caller's loop; return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def is_ready(self, code: str, address: str) -> bool:
        """Return what a node says of itself. Raises PeerError when it says nothing."""
        member = Member(code, province_name(code), address)
        return bool(self.run(self._peers[0].is_serving(member, deadline_s=DEADLINE_S)))

    def ask(self, member: Member, query: EncodedQuery, header: QuestionHeader) -> Answer:
        """Put a question; repeated with the same header, it is the same bytes. Raises a kind of PeerError."""
        answer: Answer = self.run(self._peers[0].ask(member, query, header, deadline_s=DEADLINE_S))
        return answer

    def ask_all(
        self, member: Member, query: EncodedQuery, headers: Sequence[QuestionHeader]
    ) -> list[Answer | BaseException]:
        """Put many questions at once, over every client; what each came to, an error included."""

        async def flood() -> list[Answer | BaseException]:
            calls = [
                self._peers[place % self._several].ask(member, query, header, deadline_s=DEADLINE_S)
                for place, header in enumerate(headers)
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

        found: list[Answer | BaseException] = self.run(flood())
        return found

    def send(self, member: Member, data: bytes) -> bytes:
        """Send any bytes as a question. Raises a kind of PeerError."""
        # Past what our own client would let out: that is the point.
        reply: bytes = self.run(self._peers[0]._call(member, ASK, data, DEADLINE_S))  # noqa: SLF001
        return reply

    def encoded(self, client: Client) -> EncodedQuery:
        """Encode a client in the epoch that questions are asked in."""
        epoch = Mirror(self._home.tuf).load().membership.active_epoch.number
        secret = load_secret(self._home.epoch_secret(epoch).read_text(encoding="ascii"))
        return encode_client(client, FieldKeys.derive(secret, PERSON_SCHEMA, epoch), self._now().date())

    def header(self, case: str, *, age_s: float = 0.0) -> QuestionHeader:
        """Return the header of a fresh question, issued some seconds ago."""
        issued_at = self._now() - timedelta(seconds=age_s)
        return QuestionHeader(
            nonce=secrets.token_bytes(NONCE_BYTES),
            case_reference=case,
            purpose=Purpose.SELF_TEST,
            operator_pseudonym=hashlib.sha256(b"rogue").digest()[:PSEUDONYM_BYTES],
            issued_at=issued_at,
            deadline=issued_at + timedelta(seconds=DEADLINE_S),
        )

    async def _open(self) -> None:
        home, now, mirror = self._home, self._now, Mirror(self._home.tuf)
        files = (home.pki / "current.pem", home.pki / "root.pem")
        credentials = Reloaded("credentials", files, lambda: load_credentials(home, now()))
        membership = Reloaded("membership", (mirror.current,), lambda: mirror.load().membership)
        self._peers = [Peers(credentials=credentials, membership=membership, now=now) for _ in range(self._several)]

    async def _close(self) -> None:
        await asyncio.gather(*(each.close() for each in self._peers))


def digest(header: QuestionHeader, query: EncodedQuery) -> bytes:
    """Return the hash of a question's bytes, as both audits name it."""
    return hashlib.sha256(write_question(header, query)).digest()
