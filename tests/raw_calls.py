"""Calls past our own client, as a stranger or a broken peer would make them; and a peer that breaks the contract."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import grpc

from node.rpc.client import ASK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.federation import Federation, Node


@asynccontextmanager
async def channel_of(federation: Federation, asked: Node, *, as_node: Node | None) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to a node with another node's certificate, or with none."""
    own = (as_node.home.pki / "current.pem").read_bytes() if as_node else None
    credentials = grpc.ssl_channel_credentials(federation.authority.root_pem, own, own)
    options = (
        ("grpc.ssl_target_name_override", f"p{asked.code}.fkd-mpu.test"),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
    )
    async with grpc.aio.secure_channel(asked.address, credentials, options) as channel:
        yield channel


async def call(channel: grpc.aio.Channel, method: str, data: bytes, *, timeout_s: float | None = 20) -> bytes:
    """Call a method with bytes, whatever they are."""
    multicallable: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    return await multicallable(data, timeout=timeout_s)


async def refused_with(
    channel: grpc.aio.Channel, method: str, data: bytes, *, timeout_s: float | None = 20
) -> tuple[grpc.StatusCode, str]:
    """Return the status and the text with which a call is refused; an answer is a failure of the test."""
    try:
        reply = await call(channel, method, data, timeout_s=timeout_s)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError(f"answered with {len(reply)} bytes")


@asynccontextmanager
async def rogue(
    federation: Federation,
    node: Node,
    behave: Callable[[bytes], Awaitable[bytes]],
    *,
    at: str | None = None,
    method: str = ASK,
) -> AsyncIterator[None]:
    """Serve a member's address with its real certificate and anybody's behaviour: bytes in, bytes out."""

    async def serve(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        return await behave(data)

    own = (node.home.pki / "current.pem").read_bytes()
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handlers: dict[str, Any] = {method.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(serve)}
    service = method.rpartition("/")[0].lstrip("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    credentials = grpc.ssl_server_credentials(
        [(own, own)], root_certificates=federation.authority.root_pem, require_client_auth=True
    )
    server.add_secure_port(at or node.address, credentials)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


class Wire:
    """A TCP connection to a node that a test can cut."""

    def __init__(self, target: str) -> None:
        self._target = target.split(":")
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""
        self.connections = 0
        self.cut_at_next_byte = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection(self._target[0], int(self._target[1]))
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._carry(source, sink, (writer, back), asks=source is reader))
            self._tasks.add(task)

    async def _carry(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        *,
        asks: bool,
    ) -> None:
        try:
            while data := await source.read(65536):
                if asks and self.cut_at_next_byte:
                    self.cut_at_next_byte = False
                    return
                sink.write(data)
        except ConnectionError:
            return
        finally:
            for end in ends:
                end.close()
