"""Whether a node can answer, and if not, what stands in the way: one probe per cause."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.changeover import probe_epochs
from node.errors import CertificateExpiredError, NodeError
from node.service import NO_REGISTRY

if TYPE_CHECKING:
    from collections.abc import Callable

    from node.runtime import NodeRuntime


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing a node needs; problem: why it is not well, None when it is. note: what is yet to come, and harmless."""

    name: str
    problem: str | None
    note: str | None = None


def probe(runtime: NodeRuntime) -> tuple[Probe, ...]:
    """Look at everything an answer needs. Reads the database: call it off the event loop."""
    checks: dict[str, Callable[[NodeRuntime], str | None]] = {
        "database": _database,
        "disk": _disk,
        "registry": _registry,
        "certificate": _certificate,
        "membership": _membership,
    }
    clock = Probe("clock", runtime.clocks.problem(), runtime.clocks.note_for_admin())
    dates = Probe("dates", None, runtime.calendar.note(runtime.now()))
    return (*(Probe(name, _problem(check, runtime)) for name, check in checks.items()), _epochs(runtime), clock, dates)


def describe_generation(runtime: NodeRuntime) -> str:
    """Return which registry answers, for people to read."""
    current = runtime.generations.current
    return f"{current.name}, {current.index.size:,} persons" if current else NO_REGISTRY


def _problem(check: Callable[[NodeRuntime], str | None], runtime: NodeRuntime) -> str | None:
    try:
        return check(runtime)
    except NodeError as error:
        return str(error)


def _database(runtime: NodeRuntime) -> None:
    runtime.store.ping()


def _disk(runtime: NodeRuntime) -> str | None:
    """Look before the disk is full: an answer whose record no longer fits is a search wasted and a row at risk."""
    least = runtime.config.min_free_mib
    for folder in runtime.disks:
        free = shutil.disk_usage(folder).free >> 20
        if free < least:
            return f"{folder} has {free} MiB free, and `min_free_mib` is {least}: free some space; it goes on by itself"
    return None


def _registry(runtime: NodeRuntime) -> str | None:
    runtime.generations.refresh()
    if runtime.generations.problem is not None:
        return runtime.generations.problem
    return None if runtime.generations.current else NO_REGISTRY


def _epochs(runtime: NodeRuntime) -> Probe:
    try:
        return Probe("epochs", *probe_epochs(runtime))
    except NodeError as error:
        return Probe("epochs", str(error))


def _certificate(runtime: NodeRuntime) -> str | None:
    credentials = runtime.credentials.get()
    if not credentials.not_before <= runtime.now() < credentials.not_after:
        raise CertificateExpiredError("the node's own certificate is past its end, or not yet valid")
    return runtime.credentials.problem


def _membership(runtime: NodeRuntime) -> str | None:
    membership = runtime.membership
    membership.check_validity(runtime.now())
    if membership.by_code(runtime.config.province) is None:
        return f"province {runtime.config.province} is no longer a member"
    return runtime.memberships.problem
