"""Asking other provinces' nodes: one channel per member and credential, every answer checked against its question."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import grpc
from grpc_health.v1 import health_pb2

from matching.schema import PERSON_SCHEMA
from node.breaker import Breaker
from node.errors import (
    CertificateExpiredError,
    PeerBusyError,
    PeerContractError,
    PeerError,
    PeerRestingError,
    PeerTimeoutError,
    PeerUnreachableError,
    TrustError,
)
from node.pki.identity import Identity
from node.pki.trust import server_anchors
from node.rpc.audit import COSIGN, read_reply, write_request
from node.rpc.wire import (
    MAX_RESPONSE_BYTES,
    WireError,
    parse,
    peer_error,
    read_answer,
    read_part,
    read_registry,
    read_standing,
    read_versions,
    write_part_request,
    write_question,
)
from proto.pulang.exchange.v1 import exchange_pb2
from proto.pulang.federation.v1 import federation_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from datetime import datetime

    from matching.question import EncodedQuery
    from node.breaker import BreakerView
    from node.messages import Answer, QuestionHeader
    from node.pki.credentials import Credentials
    from node.pki.membership import Member, Membership
    from node.reload import Reloaded
    from node.standing import Standing, Told
    from node.witness import CosignReply, CosignRequest

MAX_RETRIES: Final = 2
BROKEN: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN})  # what a broken connection ends as
RETRY_DELAY_S: Final = (0.05, 0.25)  # drawn evenly: peers that lost the same node do not come back in step
MAX_QUESTIONS_PER_PEER: Final = 4  # at once: as many as a peer takes of one caller before it says BUSY
MAX_WAITING_PER_PEER: Final = 16  # for one of those: a slow peer must not fill our memory
FAIR_DEADLINE_S: Final = 1.0  # who is given less time and does not answer in it need not be unwell
CANCELLED_LATE_S: Final = 0.1
DRAIN_S: Final = 60.0  # a channel of an old credential lives on as long as its calls may
HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
    ("grpc.enable_http_proxy", 0),  # a node dials its peers itself, whatever the shell that started it had set
    ("grpc.enable_retries", 0),  # retries are ours to decide
    ("grpc.use_local_subchannel_pool", 1),  # a new channel dials anew, and does not wait out an old one's failure
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)

_service = exchange_pb2.DESCRIPTOR.services_by_name["ExchangeService"]
ASK: Final = f"/{_service.full_name}/{_service.methods_by_name['Ask'].name}"
_federation = federation_pb2.DESCRIPTOR.services_by_name["FederationService"]
GET_VERSIONS: Final = f"/{_federation.full_name}/{_federation.methods_by_name['GetVersions'].name}"
GET_METADATA: Final = f"/{_federation.full_name}/{_federation.methods_by_name['GetMetadata'].name}"
GET_STANDING: Final = f"/{_federation.full_name}/{_federation.methods_by_name['GetStanding'].name}"
GET_REGISTRY: Final = f"/{_service.full_name}/{_service.methods_by_name['GetRegistry'].name}"


@dataclass(slots=True)
class _Connection:
    """A channel and what made it. proven: it has carried an answer since it last broke."""

    channel: grpc.aio.Channel
    address: str
    anchors: bytes = field(repr=False)
    credentials: Credentials = field(repr=False)
    proven: bool = False


@dataclass(slots=True)
class _Peer:
    """What is known of how a peer fares, across its connections. waiting: questions that wait for a seat."""

    breaker: Breaker = field(default_factory=Breaker)
    seats: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_QUESTIONS_PER_PEER))
    waiting: int = 0


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
        self._peers: dict[str, _Peer] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self._anchored: Membership | None = None
        self._anchors: dict[str, bytes] = {}  # by code, as `_anchored` lists them

    async def ask(self, member: Member, query: EncodedQuery, header: QuestionHeader, *, deadline_s: float) -> Answer:
        """Put a question to one member and return its checked answer within `deadline_s`.

        Raises a kind of PeerError; TrustError when our own certificate or membership has expired, before dialling.
        """
        data = write_question(header, query)
        ends_at = time.monotonic() + deadline_s
        async with self._seat(member, ends_at):
            reply = await self._call(member, ASK, data, ends_at - time.monotonic())
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

    async def metadata_versions(self, member: Member, *, deadline_s: float) -> Told:
        """Return the versions of metadata a member says it has, and its clock's offset. Raises a kind of PeerError.

        Unlike a question, this may be asked when our membership has expired: it is how a new one comes.
        """
        sent = self._now()
        reply = await self._call(member, GET_VERSIONS, b"", deadline_s, even_if_expired=True)
        try:
            return read_versions(reply, sent, self._now())
        except WireError as error:
            raise PeerContractError(f"{member.name}: its answer breaks the contract: {error}") from None

    async def standing(self, member: Member, *, deadline_s: float) -> Standing:
        """Return how a member sees us. Raises as above."""
        reply = await self._call(member, GET_STANDING, b"", deadline_s, even_if_expired=True)
        try:
            return read_standing(reply)
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

    async def registry_generation(self, member: Member, *, deadline_s: float) -> int | None:
        """Return which generation of its registry a member would answer from, None for none. Raises as `ask` does."""
        reply = await self._call(member, GET_REGISTRY, b"", deadline_s)
        try:
            return read_registry(reply, member.code)
        except WireError as error:
            raise PeerContractError(f"{member.name}: its answer breaks the contract: {error}") from None

    def resting(self) -> frozenset[str]:
        """Return the members that are left alone at this moment: all while our own certificate or list does not count.

        What is put off for that is no failure of theirs, and is asked as soon as it counts again.
        """
        membership = self._membership.get()
        try:
            self._check_own(self._credentials.get(), membership)
        except TrustError:
            return frozenset(member.code for member in membership.members)
        now_s = time.monotonic()
        return frozenset(code for code, peer in self._peers.items() if peer.breaker.rest_s(now_s) > 0)

    def breakers(self) -> Mapping[str, BreakerView]:
        """Return how every member fares that has been called since the start."""
        now_s = time.monotonic()
        return {code: peer.breaker.view(now_s) for code, peer in sorted(self._peers.items())}

    async def cosign(self, member: Member, request: CosignRequest, *, deadline_s: float) -> CosignReply:
        """Ask a member to cosign a head of our audit log. Raises as `ask` does."""
        reply = await self._call(member, COSIGN, write_request(request), deadline_s)
        try:
            return read_reply(reply)
        except WireError as error:
            raise PeerContractError(f"{member.name}: its answer breaks the contract: {error}") from None

    async def close(self) -> None:
        """Close every channel."""
        for task in self._draining:
            task.cancel()
        connections, self._connections = list(self._connections.values()), {}
        await asyncio.gather(*(connection.channel.close() for connection in connections))

    @asynccontextmanager
    async def _seat(self, member: Member, ends_at: float) -> AsyncIterator[None]:
        """Wait for one of a few seats per member. Raises PeerBusyError: too many wait, or there was none in time."""
        peer = self._peers.setdefault(member.code, _Peer())
        if peer.seats.locked() and peer.waiting >= MAX_WAITING_PER_PEER:
            raise PeerBusyError(f"{member.name}: too many of our own questions wait for it")
        peer.waiting += 1
        try:
            async with asyncio.timeout(ends_at - time.monotonic()):
                await peer.seats.acquire()
        except TimeoutError:
            raise PeerBusyError(f"{member.name}: too many of our own questions wait for it") from None
        finally:
            peer.waiting -= 1
        try:
            yield
        finally:
            peer.seats.release()

    async def _call(
        self, member: Member, method: str, data: bytes, deadline_s: float, *, even_if_expired: bool = False
    ) -> bytes:
        """Call a member unless it is left alone; whatever comes of it, its breaker learns it."""
        if (
            even_if_expired
        ):  # small, and how trust comes: neither held back by failed questions nor proof that these work
            return await self._call_with_retries(
                member, method, data, time.monotonic() + deadline_s, even_if_expired=True
            )
        breaker = self._peers.setdefault(member.code, _Peer()).breaker
        ticket = breaker.admit(time.monotonic())
        if ticket is None:
            raise PeerRestingError(f"{member.name}: not dialled: it has failed several times in a row")
        ends_at = time.monotonic() + deadline_s
        try:
            reply = await self._call_with_retries(member, method, data, ends_at)
        except (PeerUnreachableError, PeerTimeoutError) as error:
            if isinstance(error, PeerTimeoutError) and deadline_s < FAIR_DEADLINE_S:
                breaker.abandoned(ticket)
            else:
                breaker.failed(ticket, time.monotonic())
            raise
        except PeerError:
            breaker.succeeded()  # it is there, and has said something
            raise
        except asyncio.CancelledError:
            # The asker's own clock may end the wait a moment before gRPC's does.
            if deadline_s >= FAIR_DEADLINE_S and time.monotonic() >= ends_at - CANCELLED_LATE_S:
                breaker.failed(ticket, time.monotonic())
            else:
                breaker.abandoned(ticket)
            raise
        except BaseException:
            breaker.abandoned(ticket)
            raise
        breaker.succeeded()
        return reply

    async def _call_with_retries(
        self, member: Member, method: str, data: bytes, ends_at: float, *, even_if_expired: bool = False
    ) -> bytes:
        connection = self._connect(member, even_if_expired=even_if_expired)
        # Only a connection that has worked can be said to have broken; a first failure may as well be a refused
        # handshake, and those are never repeated. Any other status is an answer.
        retries = MAX_RETRIES if connection.proven else 0
        while True:
            try:
                call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = connection.channel.unary_unary(method)
                reply = await call(data, timeout=max(0.0, ends_at - time.monotonic()))
            except grpc.aio.AioRpcError as failed:
                error = peer_error(failed.code(), failed.details(), member.code, member.name)
                if isinstance(error, PeerUnreachableError):
                    connection.proven = False
                if not retries or failed.code() not in BROKEN:
                    raise error from None
            else:
                connection.proven = True
                return reply
            retries -= 1
            delay_s = random.uniform(*RETRY_DELAY_S)  # noqa: S311 - spreads load, keeps no secret
            if time.monotonic() + delay_s >= ends_at:
                raise error
            await asyncio.sleep(delay_s)
            connection = self._connect(member, even_if_expired=even_if_expired)

    def _check_own(self, credentials: Credentials, membership: Membership, *, even_if_expired: bool = False) -> None:
        """Raise TrustError where a peer would close the connection without a word: here the reason is known."""
        now = self._now()
        if not credentials.not_before <= now < credentials.not_after:
            raise CertificateExpiredError(
                "our own certificate is past its end, or not yet valid",
                hint="`pulang cert status` shows its dates; then `pulang cert renew`",
            )
        if not even_if_expired:
            membership.check_validity(now)

    def _connect(self, member: Member, *, even_if_expired: bool) -> _Connection:
        """Return the member's channel; a new one when our credentials, its address or intermediates have changed.

        A channel that failed to connect refuses every call until its own pause is over, whether or not the peer is back
        by then. How often a peer is dialled, its breaker decides: so such a channel is replaced, too.
        """
        credentials = self._credentials.get()
        membership = self._membership.get()
        self._check_own(credentials, membership, even_if_expired=even_if_expired)
        anchors = self._anchors_of(membership, member.code)
        known = self._connections.get(member.code)
        made_of = (member.address, anchors)
        is_same = known is not None and known.credentials is credentials
        if known is not None and is_same and (known.address, known.anchors) == made_of and not _has_failed(known):
            return known
        if known is not None:
            self._drain(known)
        expected = Identity(membership.federation, member.code)
        channel = grpc.aio.secure_channel(
            member.address,
            grpc.ssl_channel_credentials(anchors, credentials.key_pem, credentials.chain_pem),
            options=(*OPTIONS, ("grpc.ssl_target_name_override", expected.server_name)),
        )
        fresh = self._connections[member.code] = _Connection(channel, member.address, anchors, credentials)
        return fresh

    def _anchors_of(self, membership: Membership, code: str) -> bytes:
        if membership is not self._anchored:
            self._anchored, self._anchors = membership, {}
        if code not in self._anchors:
            self._anchors[code] = server_anchors(membership, code)
        return self._anchors[code]

    def _drain(self, connection: _Connection) -> None:
        task = asyncio.create_task(connection.channel.close(DRAIN_S))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)


def _has_failed(connection: _Connection) -> bool:
    state = connection.channel.get_state()
    return bool(state is grpc.ChannelConnectivity.TRANSIENT_FAILURE)
