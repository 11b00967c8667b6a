"""Who may do what for which purpose: one table, and what is not in it is denied."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from node.errors import AccessDeniedError
from node.messages import Purpose


class Method(StrEnum):
    """What a member can call on the federation port."""

    ASK = "ask"
    GET_REGISTRY = "get_registry"
    HEALTH_CHECK = "health_check"
    FETCH_METADATA = "fetch_metadata"
    GET_STANDING = "get_standing"
    COSIGN_CHECKPOINT = "cosign_checkpoint"


# One row per method. None stands for a call that touches no person and therefore needs no purpose.
POLICY: Final[dict[Method, frozenset[Purpose | None]]] = {
    Method.ASK: frozenset({Purpose.RETURN_HOME, Purpose.NOTIFY_FAMILY, Purpose.SELF_TEST}),
    Method.GET_REGISTRY: frozenset({None}),
    Method.HEALTH_CHECK: frozenset({None}),
    Method.FETCH_METADATA: frozenset({None}),
    Method.GET_STANDING: frozenset({None}),
    Method.COSIGN_CHECKPOINT: frozenset({None}),
}


def require_allowed(caller: str, method: Method, purpose: Purpose | None = None) -> None:
    """Raise AccessDeniedError unless the table lets a member call `method` for `purpose`."""
    if purpose not in POLICY.get(method, frozenset()):
        raise AccessDeniedError(f"province {caller} may not call {method} for {purpose or 'no purpose'}")
