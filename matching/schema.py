"""The linkage schema: what two provinces must agree on before any encoding may be compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from matching.errors import SchemaError, SchemaMismatchError

WORD_BITS = 64
NAME_LEVELS: Final = 47
DATE_LEVELS: Final = 23
TITLE: Final = "title"  # the field, its rules and its purpose
MAX_NAME_LETTERS: Final = 64  # of a field: files of an index are called after it
MAX_LEVELS = 64  # a level travels as one byte and indexes small tables; more would only thin the histograms


class FieldKind(StrEnum):
    """How a field is encoded and compared."""

    NAME = "name"  # a personal name: one keyed filter per token
    PLACE = "place"  # a keyed filter of the text, keyed tokens of the regency it resolves to
    DATE = "date"  # keyed tokens of year, month and day
    CODE = "code"  # one keyed token: equal or not


# Agreement levels by kind, level 0 being "missing on either side"; matching/search.py says what each means.
LEVELS: Final[dict[FieldKind, int]] = {
    FieldKind.NAME: NAME_LEVELS,
    FieldKind.PLACE: 9,
    FieldKind.DATE: DATE_LEVELS,
    FieldKind.CODE: 3,
}
# Sets of normalisation rules by kind of field (matching/rules.py).
RULES: Final[dict[FieldKind, tuple[str, ...]]] = {
    FieldKind.NAME: ("id-name", "en-name", "text"),
    FieldKind.PLACE: ("id-place",),
    FieldKind.DATE: ("date",),
    FieldKind.CODE: ("sex", "title", "exact"),
}


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of the schema.

    rules: how its values are normalised; one of RULES[kind].
    levels: number of agreement levels, level 0 being "missing on either side".
    filter_bits: width of the field's keyed filters; half for spelling, half for sound. 0 = no filter.
    gram_positions, token_positions: bits set per q-gram and per whole phonetic token.
    """

    name: str
    kind: FieldKind
    rules: str
    levels: int
    filter_bits: int = 0
    gram_positions: int = 0
    token_positions: int = 0

    def __post_init__(self) -> None:
        """Refuse a field no kernel could serve."""
        if not (self.name.isidentifier() and self.name.isascii() and len(self.name) <= MAX_NAME_LETTERS):
            said = repr(self.name[: MAX_NAME_LETTERS + 1])
            raise SchemaError(f"field name {said} is not an identifier of at most {MAX_NAME_LETTERS} plain letters")
        if self.rules not in RULES[self.kind]:
            raise SchemaError(f"field {self.name}: rules must be one of {', '.join(RULES[self.kind])}")
        if self.levels != LEVELS[self.kind]:
            raise SchemaError(f"field {self.name}: a {self.kind} field has {LEVELS[self.kind]} levels")
        if self.kind in {FieldKind.NAME, FieldKind.PLACE}:
            if self.filter_bits <= 0 or self.filter_bits % (2 * WORD_BITS):
                raise SchemaError(f"field {self.name}: filter_bits must be a positive multiple of {2 * WORD_BITS}")
            if self.gram_positions < 1 or self.token_positions < 1:
                raise SchemaError(f"field {self.name}: positions must be at least 1")
        elif self.filter_bits or self.gram_positions or self.token_positions:
            raise SchemaError(f"field {self.name}: a {self.kind} field has no filter")

    @property
    def filter_words(self) -> int:
        """Width of the field's filters in 64-bit words."""
        return self.filter_bits // WORD_BITS


@dataclass(frozen=True)
class LinkageSchema:
    """Fields in order, with the normalisation they were encoded under.

    rules_version: raised whenever a rule of normalisation or encoding changes what comes out.
    tables: SHA-256 over the shipped tables that rules read; two provinces with other tables would encode unlike.
    """

    name: str
    rules_version: int
    tables: str
    fields: tuple[FieldSpec, ...]

    def __post_init__(self) -> None:
        """Refuse an empty schema or one that names a field twice."""
        names = [spec.name for spec in self.fields]
        if not names or len(set(names)) != len(names):
            raise SchemaError("a schema needs at least one field, each named once")

    @cached_property
    def canonical(self) -> bytes:
        """Canonical form: JSON with sorted keys, no spaces, ASCII. Equal schemas have equal bytes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 of the canonical form, 32 bytes."""
        return hashlib.sha256(self.canonical).digest()

    @classmethod
    def from_json(cls, text: str) -> LinkageSchema:
        """Read a schema from its canonical form, or any JSON with the same content. Raises SchemaError."""
        try:
            body: dict[str, Any] = json.loads(text)
            fields = tuple(FieldSpec(**{**spec, "kind": FieldKind(spec["kind"])}) for spec in body["fields"])
            return cls(body["name"], int(body["rules_version"]), body["tables"], fields)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise SchemaError(f"not a linkage schema: {type(error).__name__}") from None

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the fields, in schema order."""
        return tuple(spec.name for spec in self.fields)

    @property
    def levels(self) -> tuple[int, ...]:
        """Number of agreement levels of each field, in schema order."""
        return tuple(spec.levels for spec in self.fields)

    def field(self, name: str) -> FieldSpec:
        """Return the field called `name`. Raises SchemaError if there is none."""
        for spec in self.fields:
            if spec.name == name:
                return spec
        raise SchemaError(f"schema {self.name} has no field {name!r}")


def require_same(ours: tuple[bytes, int], theirs: tuple[bytes, int]) -> None:
    """Compare (schema fingerprint, key epoch) of two sides; raises SchemaMismatchError naming both when unlike."""
    if ours != theirs:
        raise SchemaMismatchError(ours=describe(*ours), theirs=describe(*theirs))


def describe(fingerprint: bytes, *epochs: int) -> str:
    """Return the words in which errors name a schema and its epochs."""
    return f"schema {fingerprint.hex()[:16]} epoch {' or '.join(map(str, epochs)) or 'none'}"


# Checked by a test against matching/data: whoever changes a table changes the fingerprint, or sees the test fail.
TABLES_SHA256 = "b93d10f435d51f0ce97f1e0244263ce1d0aa70b83a66b80963738dc39855a5c6"


def _person_schema() -> LinkageSchema:
    filters = {"filter_bits": 512, "gram_positions": 3, "token_positions": 6}
    return LinkageSchema(
        name="id-person",
        rules_version=2,
        tables=TABLES_SHA256,
        fields=(
            FieldSpec("name", FieldKind.NAME, "id-name", LEVELS[FieldKind.NAME], **filters),
            FieldSpec("mother_name", FieldKind.NAME, "id-name", LEVELS[FieldKind.NAME], **filters),
            FieldSpec("father_name", FieldKind.NAME, "id-name", LEVELS[FieldKind.NAME], **filters),
            FieldSpec("birthplace", FieldKind.PLACE, "id-place", LEVELS[FieldKind.PLACE], **filters),
            FieldSpec("birth_date", FieldKind.DATE, "date", LEVELS[FieldKind.DATE]),
            FieldSpec("sex", FieldKind.CODE, "sex", LEVELS[FieldKind.CODE]),
            FieldSpec("title", FieldKind.CODE, "title", LEVELS[FieldKind.CODE]),
        ),
    )


PERSON_SCHEMA = _person_schema()
