"""Everything of a node that ends some day: when, who acts before that, and by which command."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from node.errors import NodeError
from node.pki.credentials import current_leaf
from node.pki.intermediate import ProvinceAuthority
from node.pki.refresh import Mirror
from node.pki.repository import ROOT_LIFE, TARGETS_LIFE, TIMESTAMP_LIFE
from node.pki.stages import Stage, find
from node.pki.trust import read_roots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from node.home import NodeHome
    from node.pki.refresh import Copy
    from node.pki.stages import Issuers

WARN_AT: Final = 1 / 2  # of a life: from here on a line says so, and nobody has to hurry
DUE_AT_LEFT: Final = 1 / 3  # of a life: from here on somebody has to act (letters, a ceremony), and exit codes say so
LOOK_AGAIN_S: Final = 60.0


class Life(StrEnum):
    """How far something is on its way to its end."""

    FUTURE = "future"
    FINE = "fine"
    HALF = "half"
    DUE = "due"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Deadline:
    """One thing that ends. by_itself: whether a running node sees to it before it is due. next: a sentence."""

    what: str
    begins_at: datetime
    ends_at: datetime
    who: str
    next: str
    by_itself: bool = False
    has_successor: bool = False
    """Whether what comes after it is under way: then its end is nobody's hurry."""

    def life(self, now: datetime) -> Life:
        """Return how far it is at `now`."""
        if now < self.begins_at:
            return Life.FUTURE
        if now >= self.ends_at:
            return Life.ENDED
        life, left = self.ends_at - self.begins_at, self.ends_at - now
        if left < life * DUE_AT_LEFT and not self.has_successor:
            return Life.DUE
        return Life.HALF if left < life * (1 - WARN_AT) else Life.FINE

    def warning(self, now: datetime) -> str | None:
        """Return what is worth a line at `now`, None while nothing is."""
        life = self.life(now)
        if life is Life.FINE or (life is Life.HALF and (self.by_itself or self.has_successor)):
            return None
        when = f"{self.ends_at:%Y-%m-%d %H:%M} UTC"
        if life is Life.FUTURE:
            return f"{self.what}: not valid before {self.begins_at:%Y-%m-%d %H:%M} UTC; compare this machine's clock"
        said = {Life.HALF: "half of its life is gone", Life.DUE: "less than a third of its life is left"}
        text = (
            f"{self.what}: ended at {when}" if life is Life.ENDED else f"{self.what}: {said[life]}, it ends at {when}"
        )
        return f"{text}; {self.who}: {self.next}"


def deadlines(home: NodeHome) -> tuple[Deadline, ...]:
    """Return what this node's folder holds that ends; what is not there is left out.

    Raises ConfigError, TrustError or StoreError for what is there and cannot be read.
    """
    mirror = Mirror(home.tuf)
    listed = of_federation(mirror.load()) if mirror.current.exists() else ()
    return (*of_node(home), *listed)


def of_federation(copy: Copy) -> tuple[Deadline, ...]:
    """Return what of the federation's signed metadata ends, and the certificate root that lasts longest."""
    ends = copy.ends
    found = [
        Deadline(
            "list of members",
            ends["targets"] - TARGETS_LIFE,
            ends["targets"],
            "the signers",
            "`pulang federation propose renew`, sign, publish",
        ),
        Deadline(
            "timestamp",
            ends["timestamp"] - TIMESTAMP_LIFE,
            ends["timestamp"],
            "a node that holds a timestamp key",
            "see which of them runs: `pulang federation show`, `pulang peer list`",
            by_itself=True,
        ),
        Deadline(
            "signers' root",
            ends["root"] - ROOT_LIFE,
            ends["root"],
            "the signers",
            "`pulang federation propose renew --root-too`, sign, publish",
        ),
    ]
    if copy.membership.roots:
        roots = read_roots("".join(copy.membership.roots).encode(), "the membership")
        last = max(roots, key=lambda root: root.not_valid_after_utc)
        found.append(
            Deadline(
                "certificate root",
                last.not_valid_before_utc,
                last.not_valid_after_utc,
                "the authority, with every province",
                "`pulang ca prepare --authority DIR`, then roll it",
            )
        )
    return tuple(found)


def of_node(home: NodeHome) -> Sequence[Deadline]:
    """Return the node's own certificate and intermediate. Raises ConfigError, TrustError or StoreError."""
    found = []
    issuers = ProvinceAuthority(home).issuers if home.ca.is_dir() else ()
    active = find(issuers, Stage.ACTIVE)
    leaf = current_leaf(home)
    if leaf is not None:
        renews = ("the node", "its log says why it did not renew: `renewal_failed`; `pulang cert renew` tries now")
        carried = ("this province's admin", "`pulang cert request`, and have it issued")
        who, following = carried if active is None else renews
        found.append(
            Deadline("certificate", leaf.not_before, leaf.not_after, who, following, by_itself=active is not None)
        )
    if active is not None and (issuer := of_issuer(issuers, f"intermediate {active.number}", "this province's admin")):
        found.append(issuer)
    return found


def of_issuer(issuers: Issuers, what: str, who: str) -> Deadline | None:
    """Return the end of the issuer that signs, None when none does."""
    active = find(issuers, Stage.ACTIVE)
    if active is None:
        return None
    certificate = active.certificate
    return Deadline(
        what,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        who,
        "`pulang ca prepare`, then roll it",
        has_successor=find(issuers, Stage.REQUESTED, Stage.PREPARED) is not None,
    )


class Calendar:
    """A running node's deadlines, read again every minute."""

    def __init__(self, home: NodeHome) -> None:
        self._home = home
        self._read_at: float | None = None
        self._found: tuple[Deadline, ...] = ()

    def get(self, clock: Callable[[], float] = time.monotonic) -> tuple[Deadline, ...]:
        """Return what could be read last; what cannot be read is other probes' business."""
        if self._read_at is None or clock() - self._read_at >= LOOK_AGAIN_S:
            self._read_at = clock()
            try:
                self._found = deadlines(self._home)
            except NodeError:
                self._found = ()
        return self._found

    def note(self, now: datetime) -> str | None:
        """Return everything worth a line, None when nothing is."""
        return "; ".join(filter(None, (each.warning(now) for each in self.get()))) or None
