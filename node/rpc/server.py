"""The federation port: who calls is verified on every call, then the call is served or refused."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from matching.schema import PERSON_SCHEMA
from node.errors import AccessDeniedError, BusyError, ConfigError, StoreError, TrustError
from node.lanes import Lanes
from node.log import log_bug
from node.messages import MAX_DEADLINE_S, Refused, Unavailable
from node.pki.trust import shown_certificate, verify_peer
from node.policy import Method, require_allowed
from node.rpc.audit import COSIGN, read_request, write_reply
from node.rpc.client import ASK, GET_METADATA, GET_REGISTRY, GET_STANDING, GET_VERSIONS, HEALTH_CHECK
from node.rpc.wire import (
    MAX_PART_BYTES,
    MAX_REQUEST_BYTES,
    WireError,
    read_part_request,
    read_question,
    status_of,
    write_answer,
    write_registry,
    write_standing,
    write_versions,
)
from node.runtime import make_witness
from node.service import CERTIFICATE_ENDED, NO_AUDIT
from node.standing import Standing
from node.tally import Sparing
from proto.pulang.audit.v1 import audit_pb2, audit_pb2_grpc
from proto.pulang.exchange.v1 import exchange_pb2, exchange_pb2_grpc
from proto.pulang.federation.v1 import federation_pb2, federation_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

    from node.messages import Answer, ReceivedQuestion
    from node.pki.credentials import Credentials
    from node.pki.membership import Member
    from node.runtime import NodeRuntime

METHODS: Final[dict[str, Method]] = {
    ASK: Method.ASK,
    GET_REGISTRY: Method.GET_REGISTRY,
    HEALTH_CHECK: Method.HEALTH_CHECK,
    GET_VERSIONS: Method.FETCH_METADATA,
    GET_METADATA: Method.FETCH_METADATA,
    GET_STANDING: Method.GET_STANDING,
    COSIGN: Method.COSIGN_CHECKPOINT,
}
# Served by the list's last word although it has ended: by these a federation that has closed comes to a new one.
EVEN_IF_ENDED: Final = frozenset({Method.FETCH_METADATA, Method.GET_STANDING})
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.max_concurrent_streams", 16),  # per connection; the service's own limit per caller is lower
    ("grpc.max_connection_age_ms", 5 * 60 * 1000),  # backstop: TLS looks at a certificate once per connection
    ("grpc.max_connection_age_grace_ms", 60 * 1000),
    ("grpc.server_handshake_timeout_ms", 10 * 1000),  # a caller that connects and says nothing is let go
    ("grpc.so_reuseport", 0),  # else a second node could share the port, and half the questions would reach it
)
NOT_ACCEPTED: Final = "the certificate is not accepted here"
CLOSED: Final = "this node takes no calls now"
HELD_S: Final = 0.5  # a refusal beyond those that get a line in the log
MAX_HELD: Final = 256  # such refusals at the same moment: beyond them there is no waiting, and no memory for it
REPLY_KEY: Final = b"pulang reply"  # told apart from the hash that the audit keeps
DRAIN_S: Final = MAX_DEADLINE_S  # a stopping node lets the questions it has accepted end

_Context = grpc.aio.ServicerContext[Any, Any]
_Handler = Any  # grpc.RpcMethodHandler: its stubs know blocking handlers only
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Call:
    """The call being served: its verified caller, and the bytes it came in."""

    member: Member
    request_sha256: bytes
    reply_key: bytes = field(repr=False)
    time_left_s: float


_call: ContextVar[_Call] = ContextVar("call")
_caller: ContextVar[str | None] = ContextVar("caller")  # its province, as soon as its certificate is accepted


class ExchangeServer:
    """Serves the contract and the standard health service with mutual TLS 1.3."""

    def __init__(self, runtime: NodeRuntime) -> None:
        self._runtime = runtime
        self._is_ready = False
        self._health = health.HealthServicer()
        self._server = grpc.aio.server(interceptors=[_Door(runtime)], options=OPTIONS)
        exchange_pb2_grpc.add_ExchangeServiceServicer_to_server(_Exchange(runtime), self._server)  # type: ignore[no-untyped-call]
        federation = _Federation(runtime, lambda: self._is_ready)
        federation_pb2_grpc.add_FederationServiceServicer_to_server(federation, self._server)  # type: ignore[no-untyped-call]
        audit_pb2_grpc.add_AuditServiceServicer_to_server(_Audit(runtime), self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self) -> None:
        """Open the port, not ready yet. Raises BusyError when it cannot be had."""
        address = self._runtime.config.listen
        await self.set_ready(ready=False)
        try:
            self._server.add_secure_port(address, self._server_credentials())
        except RuntimeError:
            raise BusyError(
                f"cannot listen on {address}: the port is taken, or the address is not this machine's",
                hint=f"see who has it with `ss -ltnp`, or change `listen` in {self._runtime.home.config}",
            ) from None
        await self._server.start()

    async def set_ready(self, *, ready: bool) -> None:
        """Tell health checks whether questions can be answered."""
        self._is_ready = ready
        states = health_pb2.HealthCheckResponse
        state = states.SERVING if ready else states.NOT_SERVING
        for service in ("", exchange_pb2.DESCRIPTOR.services_by_name["ExchangeService"].full_name):
            await self._health.set(service, state)

    async def stop(self) -> None:
        """Say NOT_SERVING, take no new calls, let the accepted ones end, close."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(DRAIN_S)

    def _server_credentials(self) -> grpc.ServerCredentials:
        runtime = self._runtime

        def present() -> tuple[Credentials, tuple[str, ...]]:
            return runtime.credentials.get(), runtime.membership.roots

        known = present()

        def newer() -> grpc.ServerCertificateConfiguration | None:
            # Asked at every handshake, so a renewed certificate needs no restart. None: go on with the one you have.
            nonlocal known
            current = present()
            if current[0] is known[0] and current[1] == known[1]:
                return None
            known = current
            return _configuration()

        def _configuration() -> grpc.ServerCertificateConfiguration:
            # The membership's roots, the moment it lists them: who is believed by the list must not fail at the door.
            own, roots = known
            return grpc.ssl_server_certificate_configuration(
                [(own.key_pem, own.chain_pem)], "".join(roots).encode() or own.roots_pem
            )

        return grpc.dynamic_ssl_server_credentials(
            _configuration(),
            newer,  # type: ignore[arg-type]  # its stubs do not know that None means "no change"
            require_client_authentication=True,
        )


class _PutOutError(TrustError):
    """Who asked was put out, or its certificate ended, while it was answered.

    It is told that its call broke off, and not that it was turned away: its question counts, and it must ask in the
    same bytes, or it would count twice.
    """


class _Door(grpc.aio.ServerInterceptor):
    """Stands before every method: identity, deadline, well-formed message, policy; then errors become statuses."""

    def __init__(self, runtime: NodeRuntime) -> None:
        self._runtime = runtime
        self._sparing = Sparing()
        self._lanes = Lanes()
        self._held = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the method's handler; gRPC calls this once per call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        path = handler_call_details.method

        async def guarded(data: bytes, context: _Context) -> Message:
            started = time.monotonic()
            _caller.set(None)
            status = grpc.StatusCode.CANCELLED  # what a call ends with that nobody ends
            try:
                response = await self._serve(path, handler, data, context)
                status = grpc.StatusCode.OK
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                status = _status(error)
                await self._abort(context, path, error)
                raise
            finally:
                method = METHODS.get(path, "other")
                self._runtime.metrics.called(method, _caller.get(), status.name, time.monotonic() - started)
            return response

        # Bytes come in: a parser called by gRPC itself would answer UNKNOWN with the name of a Python type.
        return grpc.unary_unary_rpc_method_handler(guarded, response_serializer=handler.response_serializer)

    async def _serve(self, path: str, handler: _Handler, data: bytes, context: _Context) -> Message:
        method = METHODS.get(path)
        member = self._identify(context, method)
        _caller.set(member.code)
        if method is None:
            raise AccessDeniedError("no member may call this method")
        if method is not Method.ASK:  # a question's purpose stands in its header: the service asks the policy
            require_allowed(member.code, method)
        time_left_s = context.time_remaining()
        if time_left_s is None or time_left_s > MAX_DEADLINE_S:
            raise WireError("deadline", f"is required, at most {MAX_DEADLINE_S:.0f} s")
        try:
            request = handler.request_deserializer(data)
        except Exception:  # noqa: BLE001 - protobuf raises several kinds, and its text would name Python types
            raise WireError("message", "not a message of the contract") from None
        reply_key = hashlib.blake2b(data, digest_size=32, person=REPLY_KEY).digest()
        _call.set(_Call(member, hashlib.sha256(data).digest(), reply_key, time_left_s))
        response: Message
        if method is Method.ASK:  # the service has its own limits, and says BUSY
            response = await handler.unary_unary(request, context)
        else:
            async with self._lanes.of(member.code):
                response = await handler.unary_unary(request, context)
        # A search may take as long as its deadline: who was put out meanwhile gets no answer any more.
        _caller.set(None)
        try:
            _caller.set(self._identify(context, method).code)
        except TrustError as error:
            raise _PutOutError(str(error)) from None
        return response

    def _identify(self, context: _Context, method: Method | None) -> Member:
        """Return the member whose certificate the connection was opened with, judged as of now."""
        peer = context.auth_context()
        if list(peer.get("ssl_tls_version", ())) != [b"TLSv1.3"]:
            raise TrustError("the connection is not TLS 1.3")
        runtime = self._runtime
        try:
            return verify_peer(
                _leaf_pem(context), runtime.membership, runtime.now(), even_if_ended=method in EVEN_IF_ENDED
            )
        except ConfigError as error:  # what is no certificate
            raise TrustError(str(error)) from None

    async def _abort(self, context: _Context, path: str, error: Exception) -> None:
        status = _status(error)
        if status is grpc.StatusCode.INTERNAL:
            await context.abort(status, f"request {log_bug(error, method=path)}")
        # Whose certificate is not accepted hears one text, whatever is wrong with it: the reason is for this node's
        # admin, who finds it in the log by the reference that the caller's admin reads out.
        is_distrust, reference = isinstance(error, TrustError), secrets.token_hex(4)
        if unsaid := self._sparing.new_minute():
            _log.warning("calls_refused_unsaid", count=unsaid)
        if has_line := self._sparing.has_room(_who(context)):
            given = {"reference": reference} if is_distrust else {}
            kind = type(error).__name__
            _log.warning("call_refused", method=path, status=status.name, kind=kind, reason=str(error), **given)
        text = str(error)
        if is_distrust:
            told = NOT_ACCEPTED if status is grpc.StatusCode.UNAUTHENTICATED else CLOSED
            text = f"{told}; reference {reference}" if has_line else told
        if not has_line:
            await self._hold()
        await context.abort(status, text)

    async def _hold(self) -> None:
        """Keep a refusal for a moment when its caller has had many: it calls that much less."""
        if self._held >= MAX_HELD:
            return
        self._held += 1
        try:
            await asyncio.sleep(HELD_S)
        finally:
            self._held -= 1


def _who(context: _Context) -> str:
    """Return what tells one refused caller from another: its certificate, whoever it says that it is."""
    leaf_pem = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
    return hashlib.sha256(leaf_pem).hexdigest()


class _Exchange(exchange_pb2_grpc.ExchangeServiceServicer):
    """The contract's service: wire in, service, wire out."""

    def __init__(self, runtime: NodeRuntime) -> None:
        self._runtime = runtime

    async def Ask(self, request: exchange_pb2.AskRequest, context: _Context) -> exchange_pb2.AskResponse:  # noqa: ARG002, N802
        """Answer one stage of one question."""
        call, runtime = _call.get(), self._runtime
        caller = call.member.code
        if runtime.service.is_full(caller):
            busy = await runtime.service.turn_away(caller, time_left_s=call.time_left_s)
            return _message_of(busy, call, runtime, runtime.membership.active_epoch.number)
        question = read_question(request, call.request_sha256, PERSON_SCHEMA, runtime.keyring.keys)
        question = replace(question, reply_key=call.reply_key)

        def write(answer: Answer) -> bytes:
            response = _message_of(answer, call, runtime, _epoch_of(question, runtime))
            return response.SerializeToString(deterministic=True)

        if not _may_speak(runtime):  # TLS asked once, when the connection began; nothing is read, so nothing is audited
            return exchange_pb2.AskResponse.FromString(write(Unavailable(CERTIFICATE_ENDED)))
        reply = await runtime.service.reply(caller, question, time_left_s=call.time_left_s, write=write)
        return exchange_pb2.AskResponse.FromString(reply)

    async def GetRegistry(  # noqa: N802 - the contract's name
        self,
        request: exchange_pb2.GetRegistryRequest,  # noqa: ARG002
        context: _Context,  # noqa: ARG002
    ) -> exchange_pb2.GetRegistryResponse:
        """Say which registry would answer now."""
        current = self._runtime.generations.current
        return write_registry(self._runtime.config.province, current.number if current else None)


def _may_speak(runtime: NodeRuntime) -> bool:
    """Whether this node's own certificate counts at this moment."""
    credentials = runtime.credentials.get()
    return credentials.not_before <= runtime.now() < credentials.not_after


def _leaf_pem(context: _Context) -> bytes:
    """Return the certificate the connection was opened with. Raises TrustError when there was none."""
    leaf_pem: bytes | None = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
    if leaf_pem is None:
        raise TrustError("the caller shows no certificate")
    return leaf_pem


def _message_of(answer: Answer, call: _Call, runtime: NodeRuntime, epoch: int) -> exchange_pb2.AskResponse:
    """Return the message of an answer to a call."""
    return write_answer(
        answer,
        schema=PERSON_SCHEMA,
        epoch=epoch,
        province=runtime.config.province,
        request_sha256=call.request_sha256,
        now=runtime.now(),
    )


def _epoch_of(question: ReceivedQuestion, runtime: NodeRuntime) -> int:
    """Return the epoch an answer is headed with: the question's, or the federation's active one of a refused one."""
    if isinstance(question.content, Refused):
        return runtime.membership.active_epoch.number
    return question.content.epoch


class _Federation(federation_pb2_grpc.FederationServiceServicer):
    """Hands the node's own verified copy of the membership's metadata to other members; tells them how they stand."""

    def __init__(self, runtime: NodeRuntime, is_ready: Callable[[], bool]) -> None:
        self._runtime = runtime
        self._mirror = runtime.mirror
        self._is_ready = is_ready

    async def GetVersions(  # noqa: N802
        self,
        request: federation_pb2.GetVersionsRequest,  # noqa: ARG002
        context: _Context,  # noqa: ARG002
    ) -> federation_pb2.GetVersionsResponse:
        """Say what there is."""
        return write_versions(await asyncio.to_thread(self._mirror.versions), self._runtime.now())

    async def GetMetadata(  # noqa: N802
        self,
        request: federation_pb2.GetMetadataRequest,
        context: _Context,  # noqa: ARG002
    ) -> federation_pb2.GetMetadataResponse:
        """Return a part of one file."""
        file, offset = read_part_request(request)
        part = await asyncio.to_thread(self._mirror.read, file, offset, MAX_PART_BYTES)
        if part is None:
            return federation_pb2.GetMetadataResponse()
        return federation_pb2.GetMetadataResponse(found=True, content=part[0], last=part[1])

    async def GetStanding(  # noqa: N802
        self,
        request: federation_pb2.GetStandingRequest,  # noqa: ARG002
        context: _Context,
    ) -> federation_pb2.GetStandingResponse:
        """Say how the caller stands here."""
        runtime, membership = self._runtime, self._runtime.membership
        serial, ends_at = shown_certificate(_leaf_pem(context), membership)
        return write_standing(
            Standing(
                serial=serial,
                ends_at=ends_at,
                list_version=membership.version,
                list_ends_at=membership.expires_at,
                schema_fingerprint=PERSON_SCHEMA.fingerprint,
                key_epochs=await asyncio.to_thread(lambda: runtime.generations.epochs),
                is_ready=self._is_ready(),
            )
        )


class _Audit(audit_pb2_grpc.AuditServiceServicer):
    """The audit contract's service: wire in, witness, wire out."""

    def __init__(self, runtime: NodeRuntime) -> None:
        self._witness = make_witness(runtime)

    async def CosignCheckpoint(  # noqa: N802
        self,
        request: audit_pb2.CosignCheckpointRequest,
        context: _Context,
    ) -> audit_pb2.CosignCheckpointResponse:
        """Cosign a head of the caller's audit log, or say why not."""
        province = _call.get().member.code
        wanted = read_request(request)
        try:
            return write_reply(await asyncio.to_thread(self._witness.cosign, province, wanted))
        except StoreError as error:
            _log.error("cosignature_withheld", peer=province, reason=str(error))
            await context.abort(grpc.StatusCode.UNAVAILABLE, NO_AUDIT)
            raise


def _status(error: Exception) -> grpc.StatusCode:
    """Return the status a call ends with; what goes wrong with trust behind the door is this node's own trouble."""
    if isinstance(error, _PutOutError):
        return grpc.StatusCode.CANCELLED
    if isinstance(error, TrustError) and _caller.get() is not None:
        return grpc.StatusCode.FAILED_PRECONDITION
    return status_of(error) or grpc.StatusCode.INTERNAL
