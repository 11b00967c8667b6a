"""Why a peer does not answer: one step after the other, from our own certificate to its word about us."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from matching.schema import PERSON_SCHEMA
from node.clock import REFUSE_S, WARN_S
from node.config import load_config
from node.errors import MembershipEndedError, NodeError, NotAMemberError, PeerRefusedError, TrustError
from node.pki.credentials import current_pem, leaf_pem, load_credentials
from node.pki.doorstep import knock, reach, resolve
from node.pki.refresh import Mirror
from node.pki.trust import verify_peer
from node.reload import Reloaded
from node.rpc.client import Peers

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from node.home import NodeHome
    from node.pki.membership import Member, Membership
    from node.standing import Standing, Told

DEADLINE_S: Final = 5.0  # of each step
REFUSED_HINT: Final = (
    "its admin finds the reason in its log, as `call_refused` under this reference; its list may be newer than ours, "
    "and in it we are out or our certificate is revoked"
)


class State(StrEnum):
    """How a step went. SKIPPED: it would have needed one that failed."""

    WELL = "well"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at. hint: what to do, None where nothing is. facts: for programs."""

    name: str
    state: State
    detail: str
    hint: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    error: NodeError | None = None

    @property
    def is_distrust(self) -> bool:
        """Whether it failed over trust, at either end, and not over the network."""
        return isinstance(self.error, (TrustError, PeerRefusedError))


@dataclass(frozen=True, slots=True)
class PeerView:
    """A member as it answers now. failure: why not, None when it did."""

    member: Member
    ms: float | None = None
    told: Told | None = None
    standing: Standing | None = None
    failure: NodeError | None = None

    @property
    def state(self) -> str:
        """`ready`, `not ready`, or the kind of failure in two words."""
        if self.failure is not None:
            return {
                "PeerUnreachableError": "no connection",
                "PeerTimeoutError": "no answer",
                "PeerRefusedError": "refuses us",
            }.get(type(self.failure).__name__, "cannot be asked")
        return "ready" if self.standing is not None and self.standing.is_ready else "not ready"


def open_peers(home: NodeHome, now: Callable[[], datetime]) -> Peers:
    """Return the other provinces as this folder's node reaches them, whether it runs or not.

    Raises ConfigError, TrustError or CertificateExpiredError when its own certificate or list cannot be used.
    """
    mirror = Mirror(home.tuf)
    return Peers(
        credentials=Reloaded("credentials", (current_pem(home),), lambda: load_credentials(home, now())),
        membership=Reloaded("membership", (mirror.current,), lambda: mirror.load().membership),
        now=now,
    )


async def view(peers: Peers, member: Member, *, deadline_s: float = DEADLINE_S) -> PeerView:
    """Ask a member how it is and how it sees us. Raises nothing that is in the tables."""
    try:
        standing = await peers.standing(member, deadline_s=deadline_s)
        started = time.monotonic()  # the connection stands: what follows is one round trip
        told = await peers.metadata_versions(member, deadline_s=deadline_s)
        took_s = time.monotonic() - started
    except NodeError as error:
        return PeerView(member, failure=error)
    return PeerView(member, round(took_s * 1000, 1), told, standing)


async def view_all(home: NodeHome, now: Callable[[], datetime], *, deadline_s: float = DEADLINE_S) -> list[PeerView]:
    """Ask every other member at the same time. Raises as open_peers does."""
    membership, own = Mirror(home.tuf).load().membership, load_config(home).province
    peers = open_peers(home, now)
    try:
        others = [member for member in membership.members if member.code != own]
        return list(await asyncio.gather(*(view(peers, member, deadline_s=deadline_s) for member in others)))
    finally:
        await peers.close()


async def diagnose(
    home: NodeHome, code: str, now: Callable[[], datetime], *, deadline_s: float = DEADLINE_S
) -> tuple[Step, ...]:
    """Look at everything that stands between this node and a member, in the order in which a call meets it.

    deadline_s: of each step. Raises ConfigError or TrustError when there is no list to find the member in,
    NotAMemberError when it is not there.
    """
    membership = Mirror(home.tuf).load().membership
    member = membership.by_code(code)
    if member is None:
        raise NotAMemberError(
            f"province {code} is not in this node's list, version {membership.version}",
            hint="`pulang federation show` lists the members; a new one is admitted by the signers",
        )
    ours, is_usable = _our_certificate(home, membership, now())
    steps = [ours, _our_list(membership, now())]
    own = current_pem(home) if is_usable else None
    steps += await asyncio.to_thread(_at_the_door, member, membership, own, now(), deadline_s)
    if not is_usable or any(each.state is State.FAILED for each in steps[2:]):
        return (*steps, _skipped("call"), _skipped("their view of us"))
    peers = open_peers(home, now)
    try:
        found = await view(peers, member, deadline_s=deadline_s)
    finally:
        await peers.close()
    return (*steps, *_answers(found, membership))


def _our_certificate(home: NodeHome, membership: Membership, now: datetime) -> tuple[Step, bool]:
    """Judge our own certificate as the peer would; and whether it can be shown at all."""
    name = "our certificate"
    try:
        credentials = load_credentials(home, now)
    except NodeError as error:
        return _failed(name, error), False
    facts = {"ends_at": credentials.not_after.isoformat()}
    try:
        verify_peer(leaf_pem(credentials), membership, now)
    except MembershipEndedError:
        pass  # the next step's business
    except NodeError as error:
        return _failed(name, error, facts), True
    return Step(
        name, State.WELL, f"counts by our list, until {credentials.not_after:%Y-%m-%d %H:%M} UTC", facts=facts
    ), True


def _our_list(membership: Membership, now: datetime) -> Step:
    facts = {"version": membership.version, "ends_at": membership.expires_at.isoformat()}
    try:
        membership.check_validity(now)
    except NodeError as error:
        return _failed("our list", error, facts)
    detail = f"version {membership.version}, until {membership.expires_at:%Y-%m-%d %H:%M} UTC"
    return Step("our list", State.WELL, detail, facts=facts)


def _at_the_door(
    member: Member, membership: Membership, own: Path | None, now: datetime, deadline_s: float
) -> list[Step]:
    """Find the address, the port, the certificate that is shown there, and whether `own` is let in. Blocks."""
    host, _, port = member.address.rpartition(":")
    host = host.strip("[]")
    steps: list[Step] = []
    names = ("name", "port", "TLS", "our certificate there")
    try:
        addresses = resolve(host, int(port))
        steps.append(Step("name", State.WELL, f"{host} is {', '.join(addresses)}", facts={"addresses": addresses}))
        started = time.monotonic()
        with reach(host, int(port), deadline_s) as connection:
            ms = round((time.monotonic() - started) * 1000, 1)
            steps.append(Step("port", State.WELL, f"{member.address} is open, {ms} ms", facts={"ms": ms}))
            door = knock(connection, member, membership, own, now)
    except NodeError as error:
        failed = _failed(names[len(steps)], error)
        return [*steps, failed, *map(_skipped, names[len(steps) + 1 :])]
    shown = {"serial": door.shown.serial, "ends_at": door.shown.not_after.isoformat()}
    if door.shown.problem is None or isinstance(door.shown.problem, MembershipEndedError):
        until = f"{door.shown.not_after:%Y-%m-%d %H:%M} UTC"
        steps.append(Step("TLS", State.WELL, f"its certificate counts by our list, until {until}", facts=shown))
    else:
        steps.append(_failed("TLS", door.shown.problem, shown))
    if own is None:
        steps.append(_skipped(names[3]))
    elif door.refused is not None:
        steps.append(_failed(names[3], door.refused))
    else:
        steps.append(Step(names[3], State.WELL, "the handshake lets it in"))
    return steps


def _answers(found: PeerView, membership: Membership) -> list[Step]:
    if found.failure is not None:
        failed = _failed("call", found.failure)
        if isinstance(found.failure, PeerRefusedError):
            failed = replace(failed, hint=REFUSED_HINT)
        return [failed, _skipped("their view of us")]
    assert found.told is not None
    assert found.standing is not None
    call = Step("call", State.WELL, f"answers, round trip {found.ms} ms", facts={"ms": found.ms})
    return [call, _clock(found.told), _versions(found.told, found.standing, membership), *_standing(found, membership)]


def _clock(told: Told) -> Step:
    if told.offset is None:
        return Step("clock", State.SKIPPED, "it does not tell its clock")
    facts = {"offset_s": round(told.offset.seconds, 3), "within_s": round(told.offset.within_s, 3)}
    detail = f"its clock is {told.offset}" if abs(told.offset.seconds) >= 1 else "its clock is ours to a second"
    hint = "`pulang peer list` shows whose clock stands alone; that machine's admin sets it (NTP)"
    if told.offset.is_beyond(REFUSE_S):
        return Step("clock", State.FAILED, f"{detail}: over {REFUSE_S:.0f} s questions are refused", hint, facts)
    if told.offset.is_beyond(WARN_S):
        return Step("clock", State.WARNING, detail, hint, facts)
    return Step("clock", State.WELL, detail, facts=facts)


def _versions(told: Told, standing: Standing, membership: Membership) -> Step:
    facts = {**told.versions._asdict(), "list": standing.list_version, "our_list": membership.version}
    detail = f"list version {standing.list_version}, timestamp {told.versions.timestamp}"
    if standing.list_version == membership.version:
        return Step("list", State.WELL, f"{detail}, as here", facts=facts)
    side, who = ("older", "it") if standing.list_version < membership.version else ("newer", "this node")
    hint = f"{who} should have the newest within a minute: look at the log for membership_refused"
    return Step("list", State.WARNING, f"{detail}: {side} than ours, {membership.version}", hint, facts)


def _standing(found: PeerView, membership: Membership) -> list[Step]:
    standing = found.standing
    assert standing is not None
    same_schema = standing.schema_fingerprint == PERSON_SCHEMA.fingerprint
    active = membership.active_epoch.number
    facts: dict[str, Any] = {
        "schema": standing.schema_fingerprint.hex(),
        "key_epochs": sorted(standing.key_epochs),
        "active": active,
        "ready": standing.is_ready,
    }
    if not same_schema:
        registry = Step(
            "registry",
            State.FAILED,
            "it encodes by another linkage schema",
            "one version of Pulang for everybody",
            facts,
        )
    elif not standing.is_ready:
        registry = Step("registry", State.WARNING, "it is not ready", "its `pulang node status` names the cause", facts)
    elif active not in standing.key_epochs:
        hint = "its `pulang epoch status` says what is missing"
        registry = Step("registry", State.WARNING, f"it has no index of key epoch {active}", hint, facts)
    else:
        registry = Step("registry", State.WELL, f"ready, same linkage schema, key epoch {active}", facts=facts)
    seen = {"serial": standing.serial, "ends_at": standing.ends_at.isoformat()}
    detail = f"our certificate {standing.serial[:16]}... counts there until {standing.ends_at:%Y-%m-%d %H:%M} UTC"
    return [registry, Step("their view of us", State.WELL, detail, facts=seen)]


def _failed(name: str, error: NodeError, facts: dict[str, Any] | None = None) -> Step:
    return Step(name, State.FAILED, str(error), error.hint, facts or {}, error)


def _skipped(name: str) -> Step:
    return Step(name, State.SKIPPED, "not looked at: something before it failed")
