"""Every parser that faces a peer or a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.fuzzing import calls, files, records, trust

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.fuzzing.target import Target

TARGETS: Final[dict[str, Callable[[Path], Target]]] = {
    each.__name__: each
    for each in (
        calls.question,
        calls.answer,
        calls.requests,
        calls.replies,
        trust.metadata,
        trust.signed_metadata,
        trust.directory,
        trust.proposal,
        trust.certificates,
        trust.caller,
        trust.request,
        trust.credentials,
        trust.issuers,
        trust.register,
        trust.revocation,
        trust.sealed_secret,
        trust.key_files,
        records.checkpoint,
        records.audit_log,
        records.heads,
        records.database,
        records.handle,
        files.local_line,
        files.local_events,
        files.client_file,
        files.words,
        files.persons,
        files.registry,
        files.workbook,
        files.mapping,
        files.source,
        files.settings,
        files.schema,
        files.model,
        files.reviews,
        files.backup,
        files.index,
    )
}
