"""Speaking to this province's own running node over its local-only socket.

One question per connection: one line of JSON there, one line of JSON per event back. Not protobuf: a client's raw
values travel here, and no protobuf message may have room for them.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from node import errors
from node.client_file import client_document
from node.errors import AccessDeniedError, ConfigError, PeerContractError, PeerTimeoutError, PeerUnreachableError
from node.findings import Concluded, Failed, Finding, Replied, from_json
from node.messages import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matching.question import Client
    from node.home import NodeHome

DEFAULT_TIMEOUT_S: Final = 10.0
MAX_REQUEST_BYTES: Final = 65_536  # a client is a few hundred bytes
MAX_EVENT_BYTES: Final = 1_048_576
GRACE_S: Final = 15.0  # beyond the question's own deadline: recording and weighing take their moment
_SUN_PATH: Final = 107  # longest path the kernel takes in a socket address


class NoNodeFolderError(ConfigError):
    """The folder holds no node at all."""


class NodeNotRunningError(PeerUnreachableError):
    """No node serves this folder's socket."""


class NodeGoneError(PeerUnreachableError):
    """The node went away before the question's conclusion."""


@dataclass(frozen=True, slots=True)
class LocalRequest:
    """A question as the command line hands it to the node. case_reference None: the node makes one."""

    client: Client = field(repr=False)
    purpose: Purpose = Purpose.RETURN_HOME
    case_reference: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S

    def as_line(self) -> bytes:
        """Return the one line that is sent."""
        document = {
            "client": client_document(self.client),
            "purpose": self.purpose,
            "case_reference": self.case_reference,
            "timeout_s": self.timeout_s,
        }
        return json.dumps(document, ensure_ascii=True).encode("ascii") + b"\n"


def ask_node(home: NodeHome, request: LocalRequest) -> Iterator[Finding]:
    """Put a question to the node of `home`; yield its events, `Concluded` or `Failed` last.

    Raises NoNodeFolderError, NodeNotRunningError, NodeGoneError, AccessDeniedError when its socket is not for this
    user, PeerTimeoutError when it falls silent, PeerContractError when what serves the socket is no such node.
    """
    yield from _exchange(home, request.as_line(), request.timeout_s + GRACE_S)


def call_node(home: NodeHome, command: str, **arguments: str | bool) -> dict[str, Any]:
    """Have the node of `home` carry out a command that is no question; return its reply.

    Raises as ask_node does; and what the node says of a command it cannot carry out, by the class of the error there.
    """
    line = json.dumps({"command": command, **arguments}, ensure_ascii=True).encode("ascii") + b"\n"
    for event in _exchange(home, line, GRACE_S):
        if isinstance(event, Replied):
            return event.document
        if isinstance(event, Failed):
            kind: object = getattr(errors, event.kind, None)
            if isinstance(kind, type) and issubclass(kind, errors.NodeError):
                raise kind(event.message, hint=event.hint)
            raise errors.NodeError(event.message, hint=event.hint)
    raise _gone(home)


def _exchange(home: NodeHome, line: bytes, timeout_s: float) -> Iterator[Finding]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        _connect(connection, home)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before it was read: the reason follows
                connection.sendall(line)
            with connection.makefile("rb") as stream:
                yield from read_events(stream, home)
        except TimeoutError:
            raise PeerTimeoutError(
                "the node accepted the question and fell silent", hint="look at the node's log, then ask again"
            ) from None
        except ConnectionResetError:
            raise _gone(home) from None


def read_events(stream: BinaryIO, home: NodeHome) -> Iterator[Finding]:
    """Yield a node's events from its lines, up to the last. Raises NodeGoneError or PeerContractError."""
    while line := stream.readline(MAX_EVENT_BYTES):
        try:
            finding = from_json(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError):
            if not line.endswith(b"\n") and len(line) < MAX_EVENT_BYTES:
                break  # cut off in the middle of a line
            raise PeerContractError(
                "the node's answer cannot be read",
                hint="node and command line must be of one version; restart the node",
            ) from None
        yield finding
        if isinstance(finding, (Concluded, Replied, Failed)):
            return
    raise _gone(home)


def _connect(connection: socket.socket, home: NodeHome) -> None:
    try:
        with socket_address(home.socket) as address:
            connection.connect(address)
    except PermissionError:
        raise AccessDeniedError(
            "this node's socket is not for this user", hint="ask as the user that runs the node, or as root"
        ) from None
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        if not home.config.exists():
            raise NoNodeFolderError(
                f"{home.root} is not a node's folder: it has no {home.config.name}",
                hint="name the node's folder with --home DIR",
            ) from None
        raise NodeNotRunningError(
            f"no node is running in {home.root}", hint=f"start it: pulang node serve --home {home.root}"
        ) from None
    except OSError as error:
        raise PeerUnreachableError(f"the node's socket cannot be used: {error.strerror}") from None


def _gone(home: NodeHome) -> NodeGoneError:
    return NodeGoneError(
        "the node went away in mid-question; other provinces may have been asked, no answer counts",
        hint=f"start it again (pulang node serve --home {home.root}) and ask again",
    )


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """Yield an address for the socket at `path`, also where the path is longer than a socket address may be."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
