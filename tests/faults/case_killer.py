"""Serves a node that kills itself (SIGKILL) at one point of a question's life: python case_killer.py HOME POINT.

POINT: function:before or function:after, one of POINTS; the kill comes at its first call that asks somebody else.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from typing import Any

from node.cli.main import main
from node.rpc.client import Peers
from node.store import Store

PLACES: dict[str, Any] = {
    "record_question": Store,
    "record_attempt": Store,
    "record_outcome": Store,
    "ask": Peers,
}
POINTS = [f"{name}:{when}" for name in PLACES for when in ("before", "after")]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    name, when = point.split(":")
    place = PLACES[name]
    original = getattr(place, name)

    @functools.wraps(original)
    async def killed_asking(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            die()
        answer = await original(*args, **kwargs)
        die()
        return answer

    @functools.wraps(original)
    def killed(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            die()
        done = original(*args, **kwargs)
        die()
        return done

    setattr(place, name, killed_asking if name == "ask" else killed)


if __name__ == "__main__":
    arm(sys.argv[2])
    main(["node", "serve", "--home", sys.argv[1]])
