"""What a reviewer is shown: the province's own record of a queued candidate, and whether it is still what it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matching.clerical import Agreement, Review, ReviewDecision
from matching.schema import PERSON_SCHEMA
from node.mapping import RECORD_ID
from node.registry_record import changed_fields, find_record
from node.store import ReviewState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from node.home import NodeHome
    from node.registry_record import RawRecord
    from node.registry_source import RegistrySource
    from node.store import ReviewItem, Store

# What a standing decision says of a pair; a link that was broken turned out to be of two persons.
_SAID = {
    ReviewState.SAME: ReviewDecision.SAME,
    ReviewState.DIFFERENT: ReviewDecision.DIFFERENT,
    ReviewState.UNSURE: ReviewDecision.UNSURE,
    ReviewState.BROKEN: ReviewDecision.DIFFERENT,
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A queued candidate's own record. For one terminal; never logged, never stored.

    record: None when it is gone. several: whether more than one has its id. changed: fields that are not what was
    imported, None when nobody can tell. file_differs: whether the source file was changed since. by_row: whether it was
    found by its row number, for want of an id.
    """

    record: RawRecord | None
    several: bool
    changed: tuple[str, ...] | None
    file_differs: bool
    by_row: bool

    @property
    def somebody_else(self) -> bool:
        """Whether the record may be another person's: found by its row number, and not what it was."""
        return self.by_row and (bool(self.changed) or (self.changed is None and self.file_differs))

    @property
    def decidable(self) -> bool:
        """Whether there is a record to say "same" or "different" of."""
        return self.record is not None and not self.somebody_else


def show(
    home: NodeHome,
    source: RegistrySource,
    item: ReviewItem,
    *,
    now: datetime,
    progress: Callable[[int, int | None], None] = lambda *_: None,
) -> Shown:
    """Read a candidate's record from the source of the last import. Raises ConfigError or ImportRejectedError."""
    with source.open() as opened:
        found = find_record(opened, source.mapping, item.record_id, progress)
    changed = None
    if found:
        changed = changed_fields(home, found[0], generation=item.generation, row=item.row, now=now)
    return Shown(
        record=found[0] if found else None,
        several=len(found) > 1,
        changed=changed,
        file_differs=source.file_differs,
        by_row=RECORD_ID not in source.mapping.columns,
    )


def standing_reviews(store: Store) -> Iterator[Review]:
    """Yield what reviewers' standing decisions say, without whom they are about."""
    for levels, groups, admitted, state in store.reviews.decided(PERSON_SCHEMA.fingerprint):
        yield Review(Agreement.unpack(levels, groups, admitted), _SAID[state])
