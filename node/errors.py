"""What a caller of the node can decide about: a class per decision; and how each leaves by the command line.

Three tables translate errors, once each, at the door: error -> exit code (here), error -> gRPC status and gRPC
status -> PeerError (node/rpc/wire.py). What is in no table is a bug.
"""

from __future__ import annotations

from typing import Final

from matching.errors import EstimationError, FieldValueError, IndexDamagedError, SchemaError, SchemaMismatchError


class NodeError(Exception):
    """Base of the node's errors. The text says what and why; `hint` says what to do next. Never a person's data."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(NodeError):
    """The node's configuration, folder or command line cannot be used as it is."""


class ImportRejectedError(NodeError):
    """A registry import stopped before publishing; the old generation still answers."""


class BusyError(NodeError):
    """Another process holds what is needed (a second import, a second server); try again later."""


class StoreError(NodeError):
    """The node's database is gone, locked or not ours."""


class LogRowError(StoreError):
    """A row of the audit log holds what no node has written. number: which."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"row {number} of the audit log cannot be read: it was changed", hint="`pulang audit verify` says more"
        )
        self.number = number


class OutcomeLostError(StoreError):
    """The provinces were asked, and what they said could not be recorded: it is not shown either."""


class TrustError(NodeError):
    """A certificate, signature or membership file is not to be trusted. Kinds below."""


class CertificateExpiredError(TrustError):
    """A certificate is past its end, or not yet valid."""


class CertificateRevokedError(TrustError):
    """A certificate, or the intermediate above it, was taken back before its end."""


class NotAMemberError(TrustError):
    """The certificate names a province that is not in the membership."""


class MembershipEndedError(TrustError):
    """The list of members this node goes by does not count now: past its end, of the future, or older than seen."""


class AccessDeniedError(NodeError):
    """The policy table does not allow this caller this method for this purpose."""


class CaseError(NodeError):
    """There is no such case, or it is not in a state in which this can be done to it."""


class QueryBudgetError(NodeError):
    """The caller has asked more than its budget allows."""


class PeerError(NodeError):
    """A peer could not be asked. Kinds below; none of them ever means "not registered there"."""


class PeerUnreachableError(PeerError):
    """No connection. The host is down, or it refused our certificate (gRPC cannot tell)."""


class PeerRestingError(PeerUnreachableError):
    """The peer failed several times in a row and is left alone for a moment: nothing was sent."""


class PeerTimeoutError(PeerError):
    """The peer did not answer before the deadline."""


class PeerRefusedError(PeerError):
    """The peer understood and refused."""


class PeerBusyError(PeerError):
    """The peer asks to be asked again later."""


class PeerContractError(PeerError):
    """The peer's answer breaks the contract, or was made under another schema or epoch."""


EXIT_OK: Final = 0  # done; of `pulang find`: home found
EXIT_FAILED: Final = 1  # a bug; the request id is in the log
EXIT_USAGE: Final = 2  # the command line cannot be understood
EXIT_AMBIGUOUS: Final = 10  # find: several homes are possible; the answer names the next question to ask
EXIT_NOT_REGISTERED: Final = 11  # find: every province answered, and none of them has the client
EXIT_INCOMPLETE: Final = 12  # find: some provinces did not answer
EXIT_RENEW: Final = 20  # cert status: valid, and less than a third of its life is left
EXIT_DATA: Final = 65  # input data are wrong
EXIT_UNAVAILABLE: Final = 69  # a node or a peer cannot be reached
EXIT_STORE: Final = 74  # database or index files cannot be used
EXIT_BUSY: Final = 75  # another process holds what is needed; try again later
EXIT_DENIED: Final = 77  # not allowed, or not trusted
EXIT_CONFIG: Final = 78  # configuration is missing or wrong
EXIT_STOPPED: Final = 130  # stopped with Ctrl-C, or by answering no

# Most specific first: the first class an error is an instance of decides.
EXIT_CODES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (FieldValueError, EXIT_DATA),
    (EstimationError, EXIT_DATA),
    (ImportRejectedError, EXIT_DATA),
    (IndexDamagedError, EXIT_STORE),
    (StoreError, EXIT_STORE),
    (SchemaMismatchError, EXIT_CONFIG),
    (SchemaError, EXIT_CONFIG),
    (BusyError, EXIT_BUSY),
    (TrustError, EXIT_DENIED),
    (AccessDeniedError, EXIT_DENIED),
    (CaseError, EXIT_DATA),
    (QueryBudgetError, EXIT_DENIED),
    (PeerError, EXIT_UNAVAILABLE),
    (ConfigError, EXIT_CONFIG),
)


# What to do about the linkage core's errors, which know of no commands; a NodeError carries its own hint.
HINTS: Final[dict[type[Exception], str]] = {
    IndexDamagedError: "import the registry again: `pulang registry import`",
    SchemaMismatchError: "one version of Pulang and one key epoch for everybody; then import the registry again",
}


def hint_of(error: Exception) -> str | None:
    """Return what to do next, None where there is nothing to say."""
    return error.hint if isinstance(error, NodeError) else HINTS.get(type(error))


def exit_code(error: Exception) -> int | None:
    """Return the exit code of an error in the table, None for one that is a bug."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), None)
