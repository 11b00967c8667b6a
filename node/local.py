"""The running node's local-only door: a Unix socket at which this province's own caseworkers ask."""

from __future__ import annotations

import asyncio
import hmac
import json
import math
import os
import pwd
import re
import socket
import stat
import struct
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from matching.errors import FieldValueError
from node.client_file import client_from
from node.errors import EXIT_FAILED, AccessDeniedError, BusyError, ConfigError, exit_code, hint_of
from node.findings import Failed, Finding, Replied, as_json
from node.local_client import DEFAULT_TIMEOUT_S, MAX_REQUEST_BYTES, socket_address
from node.local_commands import obey
from node.local_key import load_local_key
from node.log import log_bug
from node.messages import CASE_REFERENCE_PATTERN, MAX_DEADLINE_S, PSEUDONYM_BYTES, Purpose
from node.query import Inquiry, find_home
from node.service import MAX_QUESTIONS_PER_CALLER

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

    from node.home import NodeHome
    from node.query import Desk
    from node.runtime import NodeRuntime

SEAT_S: Final = 5.0  # a question takes less than a second; whoever waits longer is told to come again
READ_S: Final = 10.0  # the command line sends its line at once; whoever takes longer is not it
STOP_S: Final = 5.0  # a stopping node gives its running questions this long
_LISTEN: Final = 16
_ONE_VERSION: Final = "node and command line must be of one version"
_PEERCRED: Final = struct.Struct("3i")  # pid, uid, gid


@dataclass(frozen=True, slots=True)
class OperatorPseudonyms:
    """Turns a local user into the pseudonym other provinces see: always the same one, and nobody there knows whose."""

    key: bytes = field(repr=False)

    def of(self, uid: int) -> bytes:
        """Return the pseudonym of a user id, PSEUDONYM_BYTES."""
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = f"uid:{uid}"
        return self.named(name)

    def named(self, name: str) -> bytes:
        """Return the pseudonym of an operator's name, PSEUDONYM_BYTES."""
        return hmac.digest(self.key, f"pulang operator:{name}".encode(), "sha256")[:PSEUDONYM_BYTES]


async def serve_local(runtime: NodeRuntime, desk: Desk) -> LocalServer:
    """Open the door of a running node; `close` it before the runtime. Raises ConfigError or TrustError."""
    server = LocalServer(
        runtime.home.socket, desk, load_pseudonyms(runtime.home), lambda document: obey(runtime, document)
    )
    await server.start()
    return server


def load_pseudonyms(home: NodeHome) -> OperatorPseudonyms:
    """Return the node's pseudonyms; their key is made when the first question needs it."""
    return OperatorPseudonyms(load_local_key(home.operator_secret, lost="operators get new pseudonyms"))


class LocalServer:
    """Serves the socket; one question per connection, its events streamed back."""

    def __init__(
        self,
        path: Path,
        desk: Desk,
        pseudonyms: OperatorPseudonyms,
        obey: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        self._path = path
        self._obey = obey
        self._desk = desk
        self._pseudonyms = pseudonyms
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._seats = asyncio.Semaphore(MAX_QUESTIONS_PER_CALLER)

    async def start(self) -> None:
        """Open the socket. Raises ConfigError if others could reach it."""
        listener = _listen(self._path)
        self._inode = self._path.stat().st_ino
        self._server = await asyncio.start_unix_server(self._connected, sock=listener, limit=MAX_REQUEST_BYTES)

    async def close(self) -> None:
        """Take no more questions, let the running ones end within STOP_S, then hang up on the rest."""
        if self._server is None:
            return
        self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Only our own: a successor may have put its socket there already.
        if self._path.exists() and self._path.stat().st_ino == self._inode:
            self._path.unlink()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with aclosing(self._findings(reader, writer)) as findings:
                async for finding in findings:
                    _tell(writer, finding)
        except Exception as error:  # noqa: BLE001 - the door: known errors are told, a bug by its id alone
            _tell(writer, _failed(error))
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _findings(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncGenerator[Finding]:
        uid = _require_owner(writer)
        document = parse_request(await _read_line(reader))
        if "command" in document:
            yield Replied(await asyncio.to_thread(self._obey, document))
            return
        inquiry = parse_inquiry(document, self._pseudonyms.of(uid))
        async with self._seat(), aclosing(find_home(inquiry, self._desk)) as findings:
            async for finding in findings:
                yield finding

    @asynccontextmanager
    async def _seat(self) -> AsyncIterator[None]:
        """Wait a moment for one of as many seats as a peer gives us: a question more would only be told `busy`."""
        try:
            async with asyncio.timeout(SEAT_S):
                await self._seats.acquire()
        except TimeoutError:
            raise BusyError(
                f"{MAX_QUESTIONS_PER_CALLER} other questions are being asked", hint="try again in a moment"
            ) from None
        try:
            yield
        finally:
            self._seats.release()


def _tell(writer: asyncio.StreamWriter, finding: Finding) -> None:
    # A question that has been sent goes on when the command line has gone, so that its outcome is recorded.
    if not writer.transport.is_closing():
        writer.write(json.dumps(as_json(finding), ensure_ascii=True).encode("ascii") + b"\n")


def _failed(error: Exception) -> Failed:
    code = exit_code(error)
    if code is None:
        request = log_bug(error)
        return Failed("bug", f"the node failed: request {request}", "look for this id in the node's log", EXIT_FAILED)
    kind = type(error).__name__
    if isinstance(error, FieldValueError):
        return Failed(kind, str(error), None, code, field=error.field, reason=error.reason)
    return Failed(kind, str(error), hint_of(error), code)


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(READ_S):
            return await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        raise ConfigError(f"the question is over {MAX_REQUEST_BYTES} bytes") from None
    except (asyncio.IncompleteReadError, TimeoutError):
        raise ConfigError("the question did not arrive whole") from None


def parse_request(line: bytes) -> dict[str, Any]:
    """Read a request line. Raises ConfigError; its text never quotes the line."""
    try:
        document: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigError("the question is not JSON") from None
    if not isinstance(document, dict):
        raise ConfigError("the question is not one this node knows", hint=_ONE_VERSION)
    return document


def parse_inquiry(document: dict[str, Any], pseudonym: bytes) -> Inquiry:
    """Check a question's values. Raises ConfigError; its text never quotes them."""
    if document.keys() - {"client", "purpose", "case_reference", "timeout_s"}:
        raise ConfigError("the question is not one this node knows", hint=_ONE_VERSION)
    timeout_s = document.get("timeout_s", DEFAULT_TIMEOUT_S)
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or not math.isfinite(timeout_s):
        raise ConfigError("the timeout is not a number of seconds")
    if not 0 < timeout_s <= MAX_DEADLINE_S:
        raise ConfigError(f"the timeout must be above 0 and at most {MAX_DEADLINE_S:.0f} seconds")
    case = document.get("case_reference")
    if case is not None and not (isinstance(case, str) and re.fullmatch(CASE_REFERENCE_PATTERN, case)):
        raise ConfigError("the case reference must be 1 to 64 of A-Z a-z 0-9 . _ -")
    try:
        purpose = Purpose(document.get("purpose", Purpose.RETURN_HOME))
    except ValueError:
        raise ConfigError(f"the purpose must be one of {', '.join(Purpose)}") from None
    return Inquiry(client_from(document.get("client")), purpose, pseudonym, float(timeout_s), case)


def _require_owner(writer: asyncio.StreamWriter) -> int:
    """Return the user at the other end. Raises AccessDeniedError unless it is the node's own user, or root."""
    # The kernel says who connected; nothing the other end writes can change it.
    raw = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    uid: int = _PEERCRED.unpack(raw)[1]
    if uid not in (0, os.geteuid()):
        raise AccessDeniedError(
            "this node answers the user it runs as, and root", hint="ask as the user that runs the node"
        )
    return uid


def _listen(path: Path) -> socket.socket:
    folder = path.parent
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        # The folder guards the socket between bind and chmod, and the keys beside it at any time.
        raise ConfigError(f"{folder} is open to other users (mode {mode:04o})", hint=f"chmod 700 {folder}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _remove_stale(path)
        with socket_address(path) as address:
            listener.bind(address)
        path.chmod(0o600)
        listener.listen(_LISTEN)
        listener.setblocking(False)  # noqa: FBT003 - the socket module's own
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket a killed node left behind: the lock on the folder says that no other node serves it."""
    if not path.exists():
        return
    if not path.is_socket():
        raise ConfigError(f"{path} is in the way: it is not a socket", hint="move it away and start again")
    path.unlink()
