"""Runs `pulang` commands as forks of one process that has loaded the code: a node starts in half a second, not three.

    python -m benchmarks.faults.nursery

Orders come in as lines of JSON on standard input; what was started and how it ended goes out the same way. Every
command is a process of its own, with the command line's own entry; when the orders end, its children are killed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

COMMAND_S: Final = 120.0
_ENTRY: Final = "node.cli.main"
# What most commands need; none of it starts a thread, which would not live on in a fork.
_LOADED: Final = (
    "node.cli.server",
    "node.cli.federation",
    "node.cli.ca",
    "node.cli.cert",
    "node.cli.epoch",
    "node.runtime",
    "node.serve",
    "node.rpc.server",
    "benchmarks.faults.seams",
)


@dataclass(eq=False)
class Child:
    """A process the nursery started. status: as os.waitpid gives it, None while it runs."""

    pid: int
    status: int | None = None
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def is_running(self) -> bool:
        """Whether nobody has told yet that it ended."""
        return not self._ended.is_set()

    def signal(self, number: int) -> None:
        """Send a signal; to one that has ended, nothing."""
        if self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, timeout_s: float = COMMAND_S) -> int:
        """Return its exit code, negative for a signal. Raises TimeoutError."""
        if not self._ended.wait(timeout_s):
            raise TimeoutError(f"process {self.pid} has not ended within {timeout_s:.0f} s")
        assert self.status is not None
        return os.waitstatus_to_exitcode(self.status)

    def ended(self, status: int) -> None:
        """Take note of its end."""
        self.status = status
        self._ended.set()


class Nursery:
    """The other end: starts commands and hears how they end. Use as a context; safe to use from several threads."""

    def __init__(self) -> None:
        self._children: dict[int, Child] = {}
        self._started: dict[int, tuple[threading.Event, list[Child]]] = {}
        self._lock = threading.Lock()
        self._orders = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmarks.faults.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the campaign: it stops the nodes itself
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def start(
        self,
        arguments: Sequence[str],
        log: Path,
        *,
        control: Path | None = None,
        environment: Mapping[str, str] | None = None,
        said: Path | None = None,
    ) -> Child:
        """Start `pulang ARGUMENTS`; its words go to the end of `log`.

        said: where its standard output goes, if not there too. control: see benchmarks/faults/seams.py. environment:
        what is added to it; then the command is loaded anew, so that a library named there comes before all else.
        """
        arrived: list[Child] = []
        told = threading.Event()
        with self._lock:
            self._orders += 1
            self._started[self._orders] = told, arrived
            order = {
                "order": self._orders,
                "arguments": list(arguments),
                "log": str(log),
                "said": str(said or log),
                "control": None if control is None else str(control),
                "environment": None if environment is None else dict(environment),
            }
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        if not told.wait(COMMAND_S) or not arrived:
            raise ConfigError("the process that starts the nodes has ended", hint="see what it said above")
        return arrived[0]

    def run(self, arguments: Sequence[str], log: Path) -> int:
        """Run `pulang ARGUMENTS` to its end; return its exit code."""
        return self.start(arguments, log).wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            with self._lock:
                if "order" in told:
                    child = self._children[told["pid"]] = Child(told["pid"])
                    event, arrived = self._started.pop(told["order"])
                    arrived.append(child)
                    event.set()
                else:  # told after its start: one thread tells both
                    self._children.pop(told["pid"]).ended(told["status"])
        with self._lock:
            for event, _ in self._started.values():
                event.set()
            for child in self._children.values():
                child.ended(signal.SIGKILL)


def main() -> None:
    """Fork a child per order, until the orders end."""
    for name in _LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is loaded is nobody's rubbish: else each child copies it all to look, and looks again as it ends
    alarm, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup)
    children: set[int] = set()
    buffer = b""
    with selectors.DefaultSelector() as selector:
        for source in (0, alarm):
            selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == alarm:
                    os.read(alarm, 4096)
                    _reap(children)
                    continue
                part = os.read(0, 65536)
                if not part:
                    for pid in children:
                        os.kill(pid, signal.SIGKILL)
                    return
                *lines, buffer = (buffer + part).split(b"\n")
                for line in lines:
                    order = json.loads(line)
                    pid = os.fork()
                    if pid == 0:
                        _become(order)
                        return
                    children.add(pid)
                    _tell({"order": order["order"], "pid": pid})


def _reap(children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        children.discard(pid)
        _tell({"pid": pid, "status": status})


def _tell(line: dict[str, Any]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


def _become(order: dict[str, Any]) -> None:
    """Be the command that was ordered, as if it had been typed."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    said, log = (os.open(order[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) for name in ("said", "log"))
    for target, source in ((0, nothing), (1, said), (2, log)):
        os.dup2(source, target)
    if order["environment"] is not None:
        command = [sys.executable, "-P", "-m", _ENTRY, *order["arguments"]]
        os.execve(sys.executable, command, os.environ | order["environment"])  # noqa: S606
    if order["control"] is not None:
        importlib.import_module("benchmarks.faults.seams").arm(Path(order["control"]))
    sys.argv = ["pulang", *order["arguments"]]
    runpy.run_module(_ENTRY, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
