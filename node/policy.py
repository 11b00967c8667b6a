"""Who may do what for which purpose: one table, and what is not in it is denied."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from node.errors import AccessDeniedError
from node.messages import Purpose


class Method(StrEnum):
    """Methods of the federation port, by the path under which they are called."""

    ASK = "/pulang.exchange.v1.ExchangeService/Ask"
    HEALTH_CHECK = "/grpc.health.v1.Health/Check"


# One row per method. None stands for a call that touches no person and therefore needs no purpose.
# Health/Watch has no row: a stream would outlive the check of its caller's identity.
POLICY: Final[dict[Method, frozenset[Purpose | None]]] = {
    Method.ASK: frozenset({Purpose.RETURN_HOME, Purpose.NOTIFY_FAMILY, Purpose.SELF_TEST}),
    Method.HEALTH_CHECK: frozenset({None}),
}


def require_allowed(caller: str, method: str, purpose: Purpose | None = None) -> None:
    """Raise AccessDeniedError unless the table lets a member call `method` for `purpose`."""
    if not any(method == row and purpose in purposes for row, purposes in POLICY.items()):
        raise AccessDeniedError(f"province {caller} may not call {method} for {purpose or 'no purpose'}")
