"""A member as another's node meets it: its real credentials, and questions that it asks with them."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from matching.encoding import QueryEncoder
from matching.keys import FieldKeys, load_secret
from matching.schema import PERSON_SCHEMA
from node.messages import NONCE_BYTES, PSEUDONYM_BYTES, Purpose, QuestionHeader
from node.pki.credentials import load_credentials
from node.pki.refresh import Mirror
from node.reload import Reloaded
from node.rpc.client import Peers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from node.home import NodeHome
    from node.pki.membership import Member

EPOCH: Final = 1


@asynccontextmanager
async def peers_of(home: NodeHome) -> AsyncIterator[Peers]:
    """Yield the other members as the node of `home` reaches them."""
    mirror = Mirror(home.tuf)
    peers = Peers(
        credentials=Reloaded("credentials", (home.pki / "current.pem",), lambda: load_credentials(home, now())),
        membership=Reloaded("membership", (mirror.current,), lambda: mirror.load().membership),
        now=now,
    )
    try:
        yield peers
    finally:
        await peers.close()


def member_of(home: NodeHome, code: str) -> Member:
    """Return a member from the list of the node of `home`."""
    member = Mirror(home.tuf).load().membership.by_code(code)
    assert member is not None
    return member


def encoder_of(home: NodeHome) -> QueryEncoder:
    """Return what encodes a client's words with the linkage key of the node of `home`."""
    secret = load_secret(home.epoch_secret(EPOCH).read_text(encoding="ascii"))
    return QueryEncoder(FieldKeys.derive(secret, PERSON_SCHEMA, EPOCH))


def header(deadline_s: float) -> QuestionHeader:
    """Return a fresh question's header, under a case of its own."""
    at = now()
    return QuestionHeader(
        secrets.token_bytes(NONCE_BYTES),
        f"B-{secrets.token_hex(6)}",
        Purpose.RETURN_HOME,
        bytes(PSEUDONYM_BYTES),
        at,
        at + timedelta(seconds=deadline_s),
    )


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
