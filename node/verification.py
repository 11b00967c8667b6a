"""Checks a whole audit log: every row against the tree, the tree against signed heads, those against other people's.

Pure: a view of a log in, findings out. What each check can see is said at its finding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from node import merkle
from node.checkpoint import Note, origin_of, parse_note, parse_signature
from node.errors import LogRowError, TrustError
from node.leaves import commitments, leaf
from node.pki.identity import Identity
from node.pki.logkey import verify_cosignature, verify_log_signature
from node.store import PENDING, AuditEntry, CheckpointRecord, CosignatureRecord, Direction, LogRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

BATCH: Final = 500  # rows whose tree nodes are fetched together
RETAIN: Final = "retain"  # method of the row that says what was erased; `concerns` is the last row it erased


@dataclass(frozen=True, slots=True)
class LogView:
    """One copy of a province's log. nodes, counts: of a live database; an exported file has none.

    counts: rows, tree nodes, erasable halves without a row.
    """

    own: Identity
    rows: Iterable[LogRow]
    checkpoints: Sequence[CheckpointRecord]
    cosignatures: Sequence[CosignatureRecord]
    nodes: Callable[[Sequence[int]], dict[int, bytes]] | None = None
    counts: Callable[[], tuple[int, int, int]] | None = None


@dataclass(frozen=True, slots=True)
class OtherHead:
    """A head of this log that is kept elsewhere. where: in words, for the finding."""

    where: str
    note: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written. row: the first row it can be about, None when it is about no row."""

    row: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found. signed, cosigned: rows that a head that holds stands for, of each witness."""

    rows: int
    root: bytes
    erased: int
    unfinished: int
    signed: int
    cosigned: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify_log(view: LogView, others: Sequence[OtherHead] = ()) -> Verdict:
    """Recompute a log from its rows and compare it with everything that was ever signed about it.

    others: heads kept elsewhere (by witnesses, in another copy, in the file beside the database).
    """
    return _Verification(view, others).run()


class _Verification:
    def __init__(self, view: LogView, others: Sequence[OtherHead]) -> None:
        self._view = view
        self._origin = origin_of(view.own.uri)
        self._findings: list[Finding] = []
        self._nodes: dict[int, bytes] = {}  # the right edge of the tree as recomputed
        self._size = 0
        self._is_gapless = True
        self._is_cut_short = False
        self._pending: set[int] = set()
        self._missing: list[int] = []
        self._erased_up_to = 0
        self._heads = [(each, self._read(each)) for each in self._own_heads(others)]
        self._check_records()
        self._wanted = {note.checkpoint.size for _, note in self._heads if note is not None}
        self._roots: dict[int, bytes] = {}

    def run(self) -> Verdict:
        try:
            for batch in _batches(self._view.rows):
                self._check_rows(batch)
        except LogRowError as error:
            self._is_gapless = False
            self._is_cut_short = True
            self._found(error.number, f"{error}; no row after it was looked at")
        self._check_counts()
        self._check_erased()
        root = merkle.root(self._size, self._nodes.__getitem__) if self._is_gapless else merkle.EMPTY_ROOT
        good = self._check_heads()
        cosigned = self._check_cosignatures(good)
        findings = sorted(self._findings, key=lambda each: (each.row is None, each.row or 0))
        return Verdict(
            rows=self._size,
            root=root,
            erased=len(self._missing),
            unfinished=len(self._pending),
            signed=max(good, default=0),
            cosigned=cosigned,
            findings=tuple(findings),
        )

    def _found(self, row: int | None, text: str) -> None:
        self._findings.append(Finding(row, text))

    def _own_heads(self, others: Sequence[OtherHead]) -> Iterator[OtherHead]:
        for each in self._view.checkpoints:
            yield OtherHead("the log's own checkpoints", each.note)
        yield from others

    def _read(self, head: OtherHead) -> Note | None:
        try:
            note = parse_note(head.note)
        except TrustError:
            self._found(None, f"{head.where}: a checkpoint cannot be read: it was changed")
            return None
        if note.checkpoint.origin != self._origin:
            self._found(None, f"{head.where}: a checkpoint is of another log")
            return None
        keys = {each.log_key for each in self._view.checkpoints}
        for key in keys:
            try:
                verify_log_signature(note, key)
            except TrustError:
                continue
            return note
        size = note.checkpoint.size
        self._found(None, f"{head.where}: the checkpoint of {size} rows is not signed by this log's key")
        return None

    def _check_records(self) -> None:
        """Compare what stands beside a checkpoint with the text that was signed."""
        for record, (_, note) in zip(self._view.checkpoints, self._heads, strict=False):
            if note is None:
                continue
            head = note.checkpoint
            if (head.size, head.root, head.at) != (record.size, record.root, record.at):
                self._found(None, f"the checkpoint of {head.size} rows was changed beside its signed text")

    # --- rows ---

    def _check_rows(self, batch: Sequence[LogRow]) -> None:
        grown: list[tuple[int, int, bytes]] = []  # row, position, hash as recomputed
        for row in batch:
            number = row.entry.number
            assert number is not None
            try:
                if number != self._size + 1:
                    self._check_gap(number)
                self._check_erasable(number, row)
                self._check_outcome(number, row.entry)
                value = leaf(row.entry, number, row.commitments)
            except (TypeError, ValueError, AttributeError, OverflowError):  # a value of a kind that no row has
                raise LogRowError(number) from None
            if self._is_gapless:
                for where, node in merkle.grown(number - 1, value, self._nodes.__getitem__):
                    self._nodes[where] = node
                    grown.append((number, where, node))
            else:
                grown.append((number, merkle.position(0, number - 1), value))
            self._size = max(self._size, number)
            if self._is_gapless and number in self._wanted:
                self._roots[number] = merkle.root(number, self._nodes.__getitem__)
        self._check_nodes(grown)
        if self._is_gapless:
            self._nodes = _right_edge(self._size, self._nodes)

    def _check_gap(self, number: int) -> None:
        expected = self._size + 1
        if number < expected:
            self._found(number, f"row {number} stands after row {self._size}: rows were put in or reordered")
        elif number == expected + 1:
            self._found(expected, f"row {expected} is missing")
        else:
            self._found(expected, f"rows {expected} to {number - 1} are missing")
        self._is_gapless = False

    def _check_erasable(self, number: int, row: LogRow) -> None:
        if row.salts is None:
            self._missing.append(number)
            if row.entry.direction is Direction.OWN:
                self._found(number, f"row {number}: what the node did to its own log is never erased, and is not there")
        elif commitments(row.entry, row.salts) != row.commitments:
            self._found(number, f"row {number}: case, operator, nonce or reason is not what was written")

    def _check_outcome(self, number: int, entry: AuditEntry) -> None:
        if entry.outcome == PENDING:
            self._pending.add(number)
        elif entry.method == RETAIN and entry.concerns is not None:
            self._erased_up_to = max(self._erased_up_to, entry.concerns)
        elif entry.concerns is not None and entry.direction is Direction.ANSWERED:
            if entry.concerns in self._pending:
                self._pending.discard(entry.concerns)
            else:
                self._found(number, f"row {number} is the outcome of row {entry.concerns}, which waits for none")

    def _check_nodes(self, grown: Sequence[tuple[int, int, bytes]]) -> None:
        if self._view.nodes is None:
            return
        stored = self._view.nodes([where for _, where, _ in grown])
        told: set[int] = set()
        for number, where, value in grown:
            if stored.get(where) != value and number not in told:
                told.add(number)
                # Once a leaf differs, every node above it does: only leaves name their row.
                if where % 2 == 0:
                    self._found(number, f"row {number} is not what was written: the tree holds another leaf for it")
                elif not any(each.row is not None and each.row <= number for each in self._findings):
                    self._found(number, f"row {number}: the tree holds another node above it")

    def _check_counts(self) -> None:
        if self._view.counts is None:
            return
        rows, nodes, orphans = self._view.counts()
        expected = 2 * rows - rows.bit_count()  # complete subtrees of a tree of so many leaves
        if nodes != expected:
            self._found(
                rows + 1 if nodes > expected else None, f"the tree has {nodes} nodes, {rows} rows need {expected}"
            )
        if orphans:
            self._found(None, f"{orphans} rows have case, operator and nonce, and no row in the audit")

    def _check_erased(self) -> None:
        early = [number for number in self._missing if number > self._erased_up_to]
        if early:
            self._found(
                early[0],
                f"row {early[0]}: case, operator and nonce are gone, and no retention says that it erased them",
            )

    # --- heads ---

    def _check_heads(self) -> dict[int, bytes]:
        """Compare the heads' roots with the rows; return size -> root of those that hold."""
        good: dict[int, bytes] = {}
        holding: list[tuple[str, int]] = []  # where, rows
        other: list[tuple[str, int]] = []
        for head, note in sorted(
            ((head, note) for head, note in self._heads if note is not None), key=lambda each: each[1].checkpoint.size
        ):
            size, root = note.checkpoint.size, note.checkpoint.root
            if size > self._size and self._is_cut_short:
                continue
            if size > self._size:
                self._found(
                    self._size + 1,
                    f"{head.where}: a signed head has {size} rows, the log has {self._size}: rows {self._size + 1} to "
                    f"{size} are gone",
                )
            elif size not in self._roots:
                continue  # behind a gap, which has been told
            elif self._roots[size] != root:
                other.append((head.where, size))
            else:
                good[size] = root
                holding.append((head.where, size))
        for where, size in other:
            self._found_other_root(where, size, holding)
        return good

    def _found_other_root(self, where: str, size: int, holding: Sequence[tuple[str, int]]) -> None:
        if any(rows >= size for _, rows in holding):
            # Of two signed histories only the other one's earlier heads say how far this one is the same.
            since = max((rows for place, rows in holding if place == where and rows < size), default=0)
            self._found(
                since + 1 if since else None,
                f"{where}: the signed head of {size} rows has another root, though a signed head of this log holds: "
                f"the log's key has signed two histories{f', the same up to row {since}' if since else ''}",
            )
            return
        since = max((rows for _, rows in holding), default=0) + 1
        # A row that is known to be bad says it better than the range.
        bad = [each.row for each in self._findings if each.row is not None and since <= each.row <= size]
        since = min(bad, default=since)
        self._found(
            since,
            f"{where}: the signed head of {size} rows has another root: between rows {since} and {size} this is not "
            "the history that was signed",
        )

    def _check_cosignatures(self, good: dict[int, bytes]) -> dict[str, int]:
        notes = {(each.log_key, each.size): each.note for each in self._view.checkpoints}
        cosigned: dict[str, int] = {}
        for each in self._view.cosignatures:
            note = notes.get((each.log_key, each.size))
            name = origin_of(Identity(self._view.own.federation, each.witness).uri)
            try:
                line = parse_signature(each.line.removesuffix("\n"))
                verify_cosignature(parse_note(note or b""), line, name, each.witness_key)
            except (TrustError, ValueError):
                self._found(
                    None, f"province {each.witness} has cosigned {each.size} rows: its checkpoint is gone or changed"
                )
                continue
            if each.size in good:
                cosigned[each.witness] = max(cosigned.get(each.witness, 0), each.size)
        return cosigned


def _right_edge(size: int, nodes: dict[int, bytes]) -> dict[int, bytes]:
    """Return the nodes that later leaves will be combined with: the roots of the complete subtrees."""
    edge: dict[int, bytes] = {}
    start = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            where = merkle.position(level, start >> level)
            edge[where] = nodes[where]
            start += 1 << level
    return edge


def _batches(rows: Iterable[LogRow]) -> Iterator[list[LogRow]]:
    batch: list[LogRow] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
