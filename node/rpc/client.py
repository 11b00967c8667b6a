"""Asking other provinces' nodes: one channel per member and credential, every answer checked against its question."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import grpc
from grpc_health.v1 import health_pb2

from matching.schema import PERSON_SCHEMA
from node.errors import CertificateExpiredError, PeerContractError, PeerUnreachableError
from node.pki.identity import Identity
from node.rpc.wire import (
    MAX_RESPONSE_BYTES,
    WireError,
    parse,
    peer_error,
    read_answer,
    read_part,
    read_versions,
    write_part_request,
    write_question,
)
from proto.pulang.exchange.v1 import exchange_pb2
from proto.pulang.federation.v1 import federation_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from matching.question import EncodedQuery
    from node.messages import Answer, QuestionHeader
    from node.pki.credentials import Credentials
    from node.pki.membership import Member, Membership
    from node.pki.repository import Versions
    from node.reload import Reloaded

MAX_RETRIES: Final = 2
RETRY_DELAY_S: Final = (0.05, 0.25)  # drawn evenly: peers that lost the same node do not come back in step
DRAIN_S: Final = 60.0  # a channel of an old credential lives on as long as its calls may
HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
    ("grpc.enable_http_proxy", 0),  # a node dials its peers itself, whatever the shell that started it had set
    ("grpc.enable_retries", 0),  # retries are ours to decide
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),  # a peer that comes back is found again within seconds
)

_service = exchange_pb2.DESCRIPTOR.services_by_name["ExchangeService"]
ASK: Final = f"/{_service.full_name}/{_service.methods_by_name['Ask'].name}"
_federation = federation_pb2.DESCRIPTOR.services_by_name["FederationService"]
GET_VERSIONS: Final = f"/{_federation.full_name}/{_federation.methods_by_name['GetVersions'].name}"
GET_METADATA: Final = f"/{_federation.full_name}/{_federation.methods_by_name['GetMetadata'].name}"


@dataclass(slots=True)
class _Connection:
    """A channel and what made it. proven: it has carried an answer since it last broke."""

    channel: grpc.aio.Channel
    address: str
    credentials: Credentials = field(repr=False)
    proven: bool = False


class Peers:
    """The other members, as this node reaches them."""

    def __init__(
        self,
        *,
        credentials: Reloaded[Credentials],
        membership: Reloaded[Membership],
        now: Callable[[], datetime],
    ) -> None:
        self._credentials = credentials
        self._membership = membership
        self._now = now
        self._connections: dict[str, _Connection] = {}
        self._draining: set[asyncio.Task[None]] = set()

    async def ask(self, member: Member, query: EncodedQuery, header: QuestionHeader, *, deadline_s: float) -> Answer:
        """Put a question to one member and return its checked answer within `deadline_s`.

        Raises a kind of PeerError; TrustError when our own certificate or membership has expired, before dialling.
        """
        data = write_question(header, query)
        reply = await self._call(member, ASK, data, deadline_s)
        try:
            return read_answer(
                reply,
                schema=PERSON_SCHEMA,
                epoch=query.epoch,
                province=member.code,
                request_sha256=hashlib.sha256(data).digest(),
            )
        except WireError as error:
            raise PeerContractError(f"{member.name}: its answer breaks the contract: {error}") from None

    async def is_serving(self, member: Member, *, deadline_s: float) -> bool:
        """Return what a member says about itself: ready, or not. Raises as `ask` does."""
        reply = await self._call(member, HEALTH_CHECK, b"", deadline_s)
        try:
            status = parse(health_pb2.HealthCheckResponse, reply).status
        except WireError as error:
            raise PeerContractError(f"{member.name}: its answer breaks the contract: {error}") from None
        return bool(status == health_pb2.HealthCheckResponse.SERVING)

    async def metadata_versions(self, member: Member, *, deadline_s: float) -> Versions:
        """Return the versions of metadata a member says it has. Raises a kind of PeerError.

        Unlike a question, this may be asked when our membership has expired: it is how a new one comes.
        """
        reply = await self._call(member, GET_VERSIONS, b"", deadline_s, even_if_expired=True)
        try:
            return read_versions(reply)
        except WireError as error:
            raise PeerContractError(f"{member.name}: its answer breaks the contract: {error}") from None

    async def metadata_part(
        self, member: Member, file: str, offset: int, *, deadline_s: float
    ) -> tuple[bytes, bool] | None:
        """Return (part of a metadata file, whether it is the last), None: not there. Raises as above."""
        request = write_part_request(file, offset)
        reply = await self._call(member, GET_METADATA, request, deadline_s, even_if_expired=True)
        try:
            return read_part(reply)
        except WireError as error:
            raise PeerContractError(f"{member.name}: its answer breaks the contract: {error}") from None

    async def close(self) -> None:
        """Close every channel."""
        for task in self._draining:
            task.cancel()
        connections, self._connections = list(self._connections.values()), {}
        await asyncio.gather(*(connection.channel.close() for connection in connections))

    async def _call(
        self, member: Member, method: str, data: bytes, deadline_s: float, *, even_if_expired: bool = False
    ) -> bytes:
        ends_at = time.monotonic() + deadline_s
        connection = self._connect(member, even_if_expired=even_if_expired)
        # Only a connection that has worked can be said to have broken; a first failure may as well be a refused
        # handshake, and those are never repeated. A status other than UNAVAILABLE is an answer.
        retries = MAX_RETRIES if connection.proven else 0
        while True:
            try:
                call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = connection.channel.unary_unary(method)
                reply = await call(data, timeout=max(0.0, ends_at - time.monotonic()))
            except grpc.aio.AioRpcError as failed:
                error = peer_error(failed.code(), failed.details(), member.name)
                if isinstance(error, PeerUnreachableError):
                    connection.proven = False
                if not retries or failed.code() != grpc.StatusCode.UNAVAILABLE:
                    raise error from None
            else:
                connection.proven = True
                return reply
            retries -= 1
            delay_s = random.uniform(*RETRY_DELAY_S)  # noqa: S311 - spreads load, keeps no secret
            if time.monotonic() + delay_s >= ends_at:
                raise error
            await asyncio.sleep(delay_s)

    def _connect(self, member: Member, *, even_if_expired: bool) -> _Connection:
        """Return the member's channel; a new one when our credentials or its address have changed."""
        now = self._now()
        credentials = self._credentials.get()
        membership = self._membership.get()
        # A peer would close the connection without a word: say it here, where the reason is known.
        if not credentials.not_before <= now < credentials.not_after:
            raise CertificateExpiredError(
                "our own certificate is past its end, or not yet valid",
                hint="`pulang cert status` shows its dates; then `pulang cert request`",
            )
        if not even_if_expired:
            membership.check_validity(now)
        known = self._connections.get(member.code)
        if known is not None and known.credentials is credentials and known.address == member.address:
            return known
        if known is not None:
            self._drain(known)
        expected = Identity(membership.federation, member.code)
        channel = grpc.aio.secure_channel(
            member.address,
            grpc.ssl_channel_credentials(credentials.roots_pem, credentials.key_pem, credentials.chain_pem),
            options=(*OPTIONS, ("grpc.ssl_target_name_override", expected.server_name)),
        )
        fresh = self._connections[member.code] = _Connection(channel, member.address, credentials)
        return fresh

    def _drain(self, connection: _Connection) -> None:
        task = asyncio.create_task(connection.channel.close(DRAIN_S))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)
