"""A loopback wire between two nodes that can be cut, closed in one direction, slowed, corrupted or emptied."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import Literal, Self

    Kind = Literal["refuse", "cut", "half_close", "slow", "corrupt", "swallow"]
    Direction = Literal["there", "back"]

CHUNK_BYTES: Final = 16_384
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST, as a broken network's neighbour does


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a wire does from now on, to open connections too.

    direction: `there` is towards the node that is asked. after_bytes: what still passes in that direction on each
    connection. pause_s, chunk_bytes: of `slow`. `refuse` looks at new connections and cuts those that are open.
    """

    kind: Kind
    direction: Direction = "back"
    after_bytes: int = 0
    pause_s: float = 0.0
    chunk_bytes: int = CHUNK_BYTES


@dataclass(eq=False)
class _Connection:
    """Both ends of one connection.

    passed: bytes in the direction of `trouble` since it began. is_broken: beyond healing. directions: how many still
    carry something.
    """

    caller: socket.socket
    callee: socket.socket
    trouble: Trouble | None = None
    passed: int = 0
    is_broken: bool = False
    directions: int = 2

    def reset(self) -> None:
        """Cut it on both sides."""
        for end in (self.caller, self.callee):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes whoever reads
            end.close()


class Wire:
    """Listens at `address`, carries everything to `target`, until trouble comes. Use as a context."""

    def __init__(self, address: str, target: str) -> None:
        self._address, self._target = _split(address), _split(target)
        self._connections: set[_Connection] = set()
        self._lock = threading.Lock()
        self._trouble: Trouble | None = None
        self._is_open = True

    def __enter__(self) -> Self:
        self._listener = socket.create_server(self._address)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self._cut(broken_only=False)

    def disturb(self, trouble: Trouble) -> None:
        """Begin a trouble."""
        self._trouble = trouble
        if trouble.kind == "refuse":
            self._cut(broken_only=False)

    def heal(self) -> None:
        """End it; connections that lost bytes are cut, the others go on."""
        self._trouble = None
        self._cut(broken_only=True)

    def _cut(self, *, broken_only: bool) -> None:
        with self._lock:
            chosen = [each for each in self._connections if each.is_broken or not broken_only]
        for connection in chosen:
            connection.reset()

    def _accept(self) -> None:
        while self._is_open:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            trouble = self._trouble
            try:
                if trouble is not None and trouble.kind == "refuse":
                    raise ConnectionRefusedError
                callee = socket.create_connection(self._target, timeout=5)
                callee.settimeout(None)
            except OSError:  # nobody listens there: the caller is told in the same way
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                caller.close()
                continue
            for end in (caller, callee):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(caller, callee)
            with self._lock:
                self._connections.add(connection)
            for direction in ("there", "back"):
                threading.Thread(target=self._carry, args=(connection, direction), daemon=True).start()

    def _carry(self, connection: _Connection, direction: Direction) -> None:
        source, sink = connection.caller, connection.callee
        if direction == "back":
            source, sink = sink, source
        try:
            while data := source.recv(CHUNK_BYTES):
                if not self._pass_on(connection, direction, data, sink):
                    break
            else:
                sink.shutdown(socket.SHUT_WR)
                with self._lock:
                    connection.directions -= 1
                    if connection.directions:
                        return  # the other one may still carry an answer
        except OSError:
            pass
        connection.reset()
        with self._lock:
            self._connections.discard(connection)

    def _pass_on(self, connection: _Connection, direction: Direction, data: bytes, sink: socket.socket) -> bool:
        """Carry one piece, or do to it what the trouble says; False: the connection is to be cut."""
        trouble = self._trouble
        if trouble is None or trouble.direction != direction:
            sink.sendall(data)
            return True
        if connection.trouble is not trouble:
            connection.trouble, connection.passed = trouble, 0
        before = connection.passed
        connection.passed += len(data)
        left = max(0, trouble.after_bytes - before)  # of this piece, what is not touched
        if left >= len(data):
            sink.sendall(data)
            return True
        match trouble.kind:
            case "cut":
                sink.sendall(data[:left])
                return False
            case "half_close" | "swallow":
                sink.sendall(data[:left])
                if trouble.kind == "half_close" and not connection.is_broken:
                    sink.shutdown(socket.SHUT_WR)
                connection.is_broken = True
            case "corrupt":
                wrong = bytes([data[left] ^ 0x5A]) if before <= trouble.after_bytes else data[left : left + 1]
                sink.sendall(data[:left] + wrong + data[left + 1 :])
            case "slow":
                for start in range(0, len(data), trouble.chunk_bytes):
                    if self._trouble is trouble:
                        time.sleep(trouble.pause_s)
                    sink.sendall(data[start : start + trouble.chunk_bytes])
            case _:
                sink.sendall(data)
        return True


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
