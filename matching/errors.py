"""What a caller of the linkage core can decide about: a class per decision, no more."""

from __future__ import annotations


class MatchingError(Exception):
    """Base of every error the linkage core raises on purpose."""


class SchemaError(MatchingError):
    """A linkage schema, a key or a weight table is not usable as given."""


class SchemaMismatchError(MatchingError):
    """Two sides were encoded under different schemas or key epochs; they are never compared."""

    def __init__(self, *, ours: str, theirs: str) -> None:
        super().__init__(f"encodings cannot be compared: ours are {ours}, theirs are {theirs}")
        self.ours = ours
        self.theirs = theirs


class FieldValueError(MatchingError):
    """One field's value cannot be used. Names the field and the reason; never holds the value."""

    def __init__(self, *, field: str, reason: str, row: int | None = None) -> None:
        where = field if row is None else f"row {row}, {field}"
        super().__init__(f"{where}: {reason}")
        self.field = field
        self.reason = reason
        self.row = row


class EstimationError(MatchingError):
    """Weights cannot be estimated from these pairs: there are none, or they do not tell two classes apart."""


class IndexDamagedError(MatchingError):
    """A file of an encoded index is missing, torn or not ours. Names the file."""

    def __init__(self, *, file: str, reason: str) -> None:
        super().__init__(f"index file {file}: {reason}")
        self.file = file
        self.reason = reason
