"""What the local door serves beside questions: cases, what the node needs, and how the peers fare."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from node.errors import ConfigError
from node.readiness import describe_generation, probe

if TYPE_CHECKING:
    from node.casebook import CaseBook
    from node.runtime import NodeRuntime


def obey(runtime: NodeRuntime, document: dict[str, Any]) -> dict[str, Any]:
    """Carry out a command and return its reply. Blocks: call it off the event loop.

    Raises ConfigError for a command nobody knows, and whatever the command raises.
    """
    if document.get("command") == "peers":
        return {"peers": {code: asdict(view) for code, view in runtime.peers.breakers().items()}}
    if document.get("command") == "readiness":
        return {"probes": [asdict(each) for each in probe(runtime)], "generation": describe_generation(runtime)}
    return obey_about_cases(runtime.cases, document)


def obey_about_cases(book: CaseBook, document: dict[str, Any]) -> dict[str, Any]:
    """Carry out a command about cases, which needs no running node where it only reads."""
    match document:
        case {"command": "case_list", "closed": bool(closed), **rest} if not rest:
            return book.list(closed=closed)
        case {"command": "case_show", "case": str(case), **rest} if not rest:
            return book.show(case)
        case {"command": "case_close", "case": str(case), "reason": str(reason), **rest} if not rest:
            return book.close(case, reason)
        case {"command": "case_reopen", "case": str(case), **rest} if not rest:
            return book.reopen(case)
        case _:
            raise ConfigError(
                "the command is not one this node knows", hint="node and command line must be of one version"
            )
