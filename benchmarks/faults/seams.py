"""Where a node of the campaign can be hurt from inside: it dies at a named point, or its clock is off.

The control file of a node says what is to happen, so that a running node can be armed without a restart.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import node.service
from node.files import write_atomic
from node.rpc.client import Peers
from node.service import AnsweringService
from node.store import Store
from node.store.audit import AuditLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Every write of a question's life, and what is done between them. `send`: the answer is recorded and handed to gRPC.
ASKING: Final = ("record_question", "record_attempt", "ask", "record_outcome")
ANSWERING: Final = ("admit", "search", "record_answer", "send")
KEEPING: Final = ("resolve_interrupted", "add_checkpoint")
PLACES: Final[dict[str, tuple[Any, str]]] = {
    "record_question": (Store, "record_question"),
    "record_attempt": (Store, "record_attempt"),
    "ask": (Peers, "ask"),
    "record_outcome": (Store, "record_outcome"),
    "admit": (Store, "admit"),
    "search": (node.service, "search"),
    "record_answer": (Store, "record_answer"),
    "send": (AnsweringService, "reply"),
    "resolve_interrupted": (Store, "resolve_interrupted"),
    "add_checkpoint": (AuditLog, "add_checkpoint"),
}


@dataclass(frozen=True, slots=True)
class Orders:
    """What a control file says.

    kill: `place:before` or `place:after`, one of PLACES. clock_s: added to the clock. search_s: how much longer a
    search takes: as long as one of a large registry, so that something can happen meanwhile.
    """

    kill: str | None = None
    clock_s: float = 0.0
    search_s: float = 0.0


def write_orders(control: Path, orders: Orders) -> None:
    """Give a node its orders; they count from its next look on."""
    write_atomic(control, json.dumps(asdict(orders)).encode(), replace=True)


def read_orders(control: Path) -> Orders:
    """Return a node's orders; without a file, none."""
    try:
        return Orders(**json.loads(control.read_bytes()))
    except FileNotFoundError:
        return Orders()


def arm(control: Path) -> None:
    """Let this process obey a control file: every place looks into it, and the command line's clock does."""
    for name, (owner, attribute) in PLACES.items():
        setattr(owner, attribute, _deadly(getattr(owner, attribute), name, control))
    # The one place in which a serving node reads the clock; by name, since only the command line may import it.
    command = importlib.import_module("node.cli.server")

    def shifted() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=read_orders(control).clock_s)

    command._now = shifted  # type: ignore[attr-defined]  # noqa: SLF001


def _deadly(function: Callable[..., Any], name: str, control: Path) -> Callable[..., Any]:
    def die_if(when: str) -> None:
        orders = read_orders(control)
        if orders.kill == f"{name}:{when}":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "search" and when == "before":
            time.sleep(orders.search_s)

    @functools.wraps(function)
    async def waited(*args: Any, **kwargs: Any) -> Any:
        die_if("before")
        result = await function(*args, **kwargs)
        die_if("after")
        return result

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        die_if("before")
        result = function(*args, **kwargs)
        die_if("after")
        return result

    return waited if inspect.iscoroutinefunction(function) else called
