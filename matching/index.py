"""The encoded index of one registry: built in a stream, kept as flat files, memory-mapped, searched.

Every field keeps its distinct values once; a person is a row of value numbers. A question is scored against distinct
values only, then one pass over the rows counts evidence classes. Value 0 of every field means "missing". Rows lie in
blocks, a block's persons in the order of their first field's values and field after field: a pass reads only the fields
it looks at, and the levels of the first one, as a rule a name with millions of values, in the order in which they lie.

On disk a generation is one folder: little-endian arrays without headers, their shapes, sizes and SHA-256 in
manifest.json, which is written last. docs/matching.md, "Index", lists the files.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import mmap
import os
import re
import shutil
from array import array
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

import numpy as np

from matching.at_rest import GenerationSeal, SealedWriter, new_salt, open_sealed, sealed_bytes
from matching.encoding import FilterEncoder, date_tokens, filter_words, place_tokens, read_code
from matching.errors import FieldValueError, IndexDamagedError, SchemaError, SchemaMismatchError
from matching.fields import PACKED_DATES, UNREAD, is_blank, packed_dates, parse_registry_date
from matching.import_kernels import UNKNOWN, number_tokens
from matching.kernels import FILTER_WORDS, intern_names, rehash
from matching.rules import NORMALISATION, PERSON_NAME
from matching.schema import TITLE, FieldKind, FieldSpec, LinkageSchema, describe, require_same
from matching.texts import Texts, with_room
from matching.vocabulary import MAX_STORED_TOKENS, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

    from matching.at_rest import AtRestKey
    from matching.keys import FieldKeys
    from matching.rules import Normalisation
    from matching.vocabulary import NameBatch

FORMAT: Final = "pulang-index-5"
MANIFEST: Final = "manifest.json"
MAX_RECORD_ID_BYTES: Final = 255
PLACE_TOKENS: Final = (4, 8, 2)  # keyed tokens kept per place: regencies, related regencies, provinces
FIRST_SLOTS: Final = 1 << 16
MAX_SEEN: Final = 1 << 16  # raw values of places and codes that are remembered, and words of places
BLOCK_PERSONS: Final = 1 << 20  # whose rows lie together; part of FORMAT: who changes it changes that too
SPOT_BYTES: Final = 4096
SPOTS: Final = 16

_FILE_NAME: Final = r"\w{1,80}(\.\w{1,80})?"
_KINDS: Final[dict[str, tuple[str, int | None]]] = {
    "rows": ("<u4", None),
    "bits": ("<u2", 2),
    "bytes": ("|u1", None),
    "counts": ("<i8", None),
    "filters": ("<u8", FILTER_WORDS),
    "near": ("<u8", None),
    "near_tokens": ("<u4", None),
    "calls": ("<u8", None),
    "call_tokens": ("<u4", None),
    "offsets": ("<i8", None),
    "tokens": ("<u4", None),
    "values": ("<u8", 0),
    "weights": ("|u1", None),
}
"""Type and width of an array by the last part of its file's name; width None: one dimension, 0: as the field has it."""

_WIDTHS: Final = {FieldKind.PLACE: sum(PLACE_TOKENS), FieldKind.DATE: 3, FieldKind.CODE: 1}  # tokens per value
_CHECKED_ROWS: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Column:
    """A column of raw strings: its distinct values, and per row which one (int32, -1 = missing, as an empty one is).

    Values may be repeated: where most differ, as names do, looking for equal ones is not worth it.
    """

    values: Sequence[str | None]  # Texts, if there are many
    codes: NDArray[np.int32]

    @classmethod
    def of_rows(cls, values: Sequence[str | None]) -> Column:
        """Return a column with one value per row."""
        return cls(values, np.arange(len(values), dtype=np.int32))


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Some persons of a registry: their record ids, and a column per schema field (an absent one is all missing)."""

    record_ids: Sequence[str]
    columns: Mapping[str, Column]


@dataclass(frozen=True, slots=True)
class RowIssue:
    """What was wrong with a row of a batch; never the value. rejected: the person is not in the index."""

    row: int
    field: str
    reason: str
    rejected: bool


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Persons of a batch, those that were rejected left out: (persons,) numbers of each field's distinct values."""

    record_ids: Texts
    numbers: Mapping[str, NDArray[np.uint32]]
    issues: tuple[RowIssue, ...]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One array file: dtype (numpy, little-endian), shape, SHA-256 of all bytes, and of a few spots for opening.

    Both digests are of the bytes as they lie on the disk.
    """

    dtype: str
    shape: tuple[int, ...]
    sha256: str
    spot: str

    @property
    def size_bytes(self) -> int:
        """Size of the array; of its file too, unless that is sealed."""
        return int(np.dtype(self.dtype).itemsize * int(np.prod(self.shape, dtype=np.int64)))


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a generation is: written last, so a folder without one was never finished.

    salt: of the seal its files lie under, hexadecimal; empty when they lie open.
    """

    schema: str
    fingerprint: str
    epoch: int
    key_check: str
    persons: int
    source_rows: int
    built_at: str
    files: Mapping[str, FileEntry]
    salt: str = ""

    def to_json(self, seal: GenerationSeal | None = None) -> str:
        """Return the manifest file's text; under a seal, with its tag in a last line of its own."""
        body = {
            "format": FORMAT,
            "schema": self.schema,
            "fingerprint": self.fingerprint,
            "epoch": self.epoch,
            "key_check": self.key_check,
            "persons": self.persons,
            "source_rows": self.source_rows,
            "built_at": self.built_at,
            "salt": self.salt,
            "files": {
                name: {"dtype": f.dtype, "shape": list(f.shape), "sha256": f.sha256, "spot": f.spot}
                for name, f in sorted(self.files.items())
            },
        }
        text = json.dumps(body, indent=1) + "\n"
        return text if seal is None else f"{text}{seal.tag(text.encode('ascii'))}\n"

    @classmethod
    def read(cls, directory: Path, at_rest: AtRestKey | None = None) -> Manifest:
        """Read a generation's manifest, and check its tag with the node's key. Raises IndexDamagedError."""
        try:
            text, tag = _without_tag((directory / MANIFEST).read_bytes())
            body: dict[str, Any] = json.loads(text)
            _check_tag(text, tag, body["salt"], at_rest)
            if body["format"] != FORMAT:
                raise IndexDamagedError(file=MANIFEST, reason=_other_format(body["format"]))
            files = {
                name: FileEntry(f["dtype"], tuple(map(int, f["shape"])), f["sha256"], f["spot"])
                for name, f in body["files"].items()
            }
            return cls(
                schema=body["schema"],
                fingerprint=body["fingerprint"],
                epoch=int(body["epoch"]),
                key_check=body["key_check"],
                persons=int(body["persons"]),
                source_rows=int(body["source_rows"]),
                built_at=body["built_at"],
                files=files,
                salt=body["salt"],
            )
        except FileNotFoundError:
            raise IndexDamagedError(file=MANIFEST, reason="missing: this folder is not a finished index") from None
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            raise IndexDamagedError(file=MANIFEST, reason="not a manifest of ours, or torn") from None


def _other_format(found: object) -> str:
    if isinstance(found, str) and re.fullmatch(r"pulang-index-\d{1,4}", found, re.ASCII):
        return f"it is of another version of Pulang, whole but of format {found}; this one reads {FORMAT}"
    return f"format is not {FORMAT}"


def _without_tag(content: bytes) -> tuple[bytes, str]:
    """Split a manifest file into its JSON and the tag in its last line, if it has one."""
    if content.endswith(b"}\n"):
        return content, ""
    text, _, tag = content.removesuffix(b"\n").rpartition(b"\n")
    return text + b"\n", tag.decode("ascii")


def _check_tag(text: bytes, tag: str, salt: str, at_rest: AtRestKey | None) -> None:
    if at_rest is None:
        if salt:
            raise IndexDamagedError(file=MANIFEST, reason="the index is sealed, and no key to it was given")
        return
    if not salt:
        raise IndexDamagedError(file=MANIFEST, reason="the index lies open, and this node seals its own")
    if not hmac.compare_digest(at_rest.generation(bytes.fromhex(salt)).tag(text), tag):
        raise IndexDamagedError(file=MANIFEST, reason="it was changed, or sealed with another node's key")


class _Folder:
    """Where a generation's files are written, sealed or not."""

    def __init__(self, directory: Path, seal: GenerationSeal | None) -> None:
        self.directory = directory
        self.seal = seal

    def array(self, name: str, dtype: str, row_shape: tuple[int, ...] = ()) -> _ArrayFile:
        """Begin an array's file."""
        return _ArrayFile(self, name, dtype, row_shape)


class _ArrayFile:
    """An array written front to back; hashes what comes to lie on the disk."""

    def __init__(self, folder: _Folder, name: str, dtype: str, row_shape: tuple[int, ...]) -> None:
        self.name = name
        self.rows = 0
        self._dtype = np.dtype(dtype)
        self._row_shape = row_shape
        self._path = folder.directory / name
        self._file = _Hashed(open_private(self._path))
        self._sealed = None if folder.seal is None else SealedWriter(self._file.write, folder.seal.cipher(name))

    def append(self, rows: NDArray[Any]) -> None:
        """Write rows; their dtype is converted, their shape must fit."""
        block = np.ascontiguousarray(rows, dtype=self._dtype)
        if block.shape[1:] != self._row_shape:
            raise ValueError(f"{self.name}: rows of shape {block.shape[1:]}, expected {self._row_shape}")
        data = block.tobytes()
        (self._sealed or self._file).write(data)
        self.rows += len(block)

    def close(self) -> FileEntry:
        """Make the file durable and return its manifest entry."""
        if self._sealed is not None:
            self._sealed.finish()
        self._file.make_durable()
        shape = (self.rows, *self._row_shape)
        spot = spot_digest(self._path, self._path.stat().st_size)
        return FileEntry(self._dtype.str, shape, self._file.hexdigest(), spot)

    def abandon(self) -> None:
        """Close without caring for durability."""
        self._file.close()


class _Hashed:
    """A file that hashes what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.hexdigest = self._hash.hexdigest
        self.close = file.close

    def write(self, data: bytes) -> None:
        """Write and hash."""
        self._file.write(data)
        self._hash.update(data)

    def make_durable(self) -> None:
        """Bring everything to the disk and close."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def open_private(path: Path) -> BinaryIO:
    """Open a new file for writing that only its owner may read. Raises FileExistsError."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def spot_digest(path: Path, size: int) -> str:
    """Hash SPOTS evenly spread blocks: finds a foreign or half-written file without reading it whole."""
    digest = hashlib.sha256(str(size).encode("ascii"))
    with path.open("rb") as file:
        for spot in range(SPOTS):
            file.seek(max(0, size - SPOT_BYTES) * spot // (SPOTS - 1))
            digest.update(file.read(SPOT_BYTES))
    return digest.hexdigest()


class _ValueColumn:
    """Shared bookkeeping of one field's distinct values: how many persons hold each."""

    def __init__(self, spec: FieldSpec, folder: _Folder) -> None:
        self.spec = spec
        self._folder = folder
        self._counts = np.zeros(1024, dtype=np.int64)
        self._values = 1

    def count(self, numbers: NDArray[np.uint32]) -> None:
        """Count one batch's use of each value."""
        if self._values > len(self._counts):
            grown = np.zeros(max(self._values, 2 * len(self._counts)), dtype=np.int64)
            grown[: len(self._counts)] = self._counts
            self._counts = grown
        self._counts[: self._values] += np.bincount(numbers, minlength=self._values)

    def _write(self, suffix: str, rows: NDArray[Any]) -> tuple[str, FileEntry]:
        file = self._folder.array(f"{self.spec.name}.{suffix}", rows.dtype.str, rows.shape[1:])
        file.append(rows)
        return file.name, file.close()

    def finish(self) -> dict[str, FileEntry]:
        """Write what is still in memory; return the manifest entries."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Close what is open, keeping nothing."""

    def _write_counts(self) -> tuple[str, FileEntry]:
        return self._write("counts", self._counts[: self._values].astype("<i8"))


class _Postings:
    """Keyed tokens that lead to the tokens they were made of, in the order of those."""

    def __init__(self) -> None:
        self._forms = array("Q")
        self._counts = array("L")

    def add(self, forms: NDArray[np.uint64], counts: NDArray[np.int64]) -> None:
        """Note what leads to the next tokens, and how many of these lead to each."""
        self._forms.frombytes(forms.astype(np.uint64).tobytes())
        self._counts.frombytes(counts.astype(np.uint64).tobytes())

    def sorted(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        """Return all of them in ascending order, and beside them their tokens' numbers."""
        forms = np.array(self._forms, dtype="<u8")
        order = np.argsort(forms, kind="stable")
        return forms[order], np.repeat(np.arange(len(self._counts), dtype="<u4"), np.array(self._counts, int))[order]


class _NameColumn(_ValueColumn):
    """Names: distinct tokens with their filters, distinct names as sets of token numbers."""

    def __init__(
        self, spec: FieldSpec, keys: FieldKeys, folder: _Folder, rules: Normalisation, vocabulary: Vocabulary
    ) -> None:
        super().__init__(spec, folder)
        self._encoder = FilterEncoder(spec, keys, rules)
        self.vocabulary = vocabulary
        self._own = np.zeros(0, dtype=np.uint32)  # by the vocabulary's number of a token
        self._known = 0
        self._filters = bytearray()
        self._weights = bytearray()
        self._near = _Postings()
        self._calls = _Postings()
        self._hashes = np.zeros(FIRST_SLOTS, dtype=np.uint64)
        self._numbers = np.zeros(FIRST_SLOTS, dtype=np.uint32)
        self._offsets = folder.array(f"{spec.name}.offsets", "<i8")
        self._members = folder.array(f"{spec.name}.tokens", "<u4")
        self._offsets.append(np.zeros(2, dtype=np.int64))  # value 0, the missing name, has no tokens
        self._end = 0

    def numbers(self, tokens: NDArray[np.uint32], token_counts: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """Return the numbers of a batch's names, given as in NameBatch; one without tokens is missing."""
        names = len(token_counts)
        lengths = token_counts.astype(np.int64)
        members = np.empty(int(lengths.sum()), dtype=np.uint32)
        fresh_tokens = np.empty(len(members), dtype=np.uint32)
        self._own = with_room(self._own, len(self.vocabulary), UNKNOWN)
        met = number_tokens(tokens, token_counts, self._own, self._known, members, fresh_tokens)
        self._known += met
        if met:
            self._encode(fresh_tokens[:met])
        offsets = np.zeros(names + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        self._make_room(names)
        out = np.zeros(names, dtype=np.uint32)
        fresh = np.zeros(names, dtype=np.int64)
        made = intern_names(offsets, members, self._hashes, self._numbers, self._values, out, fresh)
        if made:
            new = fresh[:made]
            keep = np.zeros(names, dtype=bool)
            keep[new] = True
            self._members.append(members[np.repeat(keep, lengths)])
            self._offsets.append(self._end + np.cumsum(lengths[new]))
            self._end += int(lengths[new].sum())
            self._values += made
        return out

    def _encode(self, tokens: NDArray[np.uint32]) -> None:
        stored = self.vocabulary.describe(tokens)
        self._filters += self._encoder.many(stored).astype("<u8").tobytes()
        self._weights += stored.weights.tobytes()
        self._near.add(*self._encoder.near_many(stored))
        self._calls.add(*self._encoder.calls_many(stored))

    def _make_room(self, names: int) -> None:
        slots = len(self._hashes)
        while 2 * (self._values + names) > slots:
            slots *= 2
        if slots > len(self._hashes):
            hashes, numbers = np.zeros(slots, dtype=np.uint64), np.zeros(slots, dtype=np.uint32)
            rehash(self._hashes, self._numbers, hashes, numbers)
            self._hashes, self._numbers = hashes, numbers

    def finish(self) -> dict[str, FileEntry]:
        """Write what is still in memory; return the manifest entries."""
        filters = np.frombuffer(bytes(self._filters), dtype="<u8").reshape(-1, FILTER_WORDS)
        near, near_tokens = self._near.sorted()
        calls, call_tokens = self._calls.sorted()
        return dict(
            (
                (self._offsets.name, self._offsets.close()),
                (self._members.name, self._members.close()),
                self._write("filters", filters),
                self._write("bits", half_weights(filters)),
                self._write("weights", np.frombuffer(bytes(self._weights), dtype="u1")),
                self._write("near", near),
                self._write("near_tokens", near_tokens),
                self._write("calls", calls),
                self._write("call_tokens", call_tokens),
                self._write_counts(),
            )
        )

    def abandon(self) -> None:
        """Close the files."""
        self._offsets.abandon()
        self._members.abandon()


class _TableColumn(_ValueColumn):
    """Places, dates and sexes: few distinct values, each a row of keyed tokens (places: and a filter)."""

    def __init__(
        self, spec: FieldSpec, keys: FieldKeys, folder: _Folder, rules: Normalisation, vocabulary: Vocabulary | None
    ) -> None:
        super().__init__(spec, folder)
        self._keys = keys
        self._vocabulary = vocabulary
        self._rules = rules
        self._known: dict[Any, int] = {}
        self._seen: dict[str, int] = {}  # raw values
        self._parts: dict[tuple[str, int], int] = {}  # tokens of parts of dates
        self._dates_read: dict[str, int | str] = {}  # dates of no usual form, packed, or why they cannot be read
        self._by_date = np.full(PACKED_DATES if spec.kind is FieldKind.DATE else 0, UNKNOWN, dtype=np.uint32)
        self._by_date[:1] = 0
        self._masks: dict[str, int] = {}  # filters of words of places
        self._unfiltered: dict[int, list[str]] = {}  # texts of new places, by number
        self._encoder = FilterEncoder(spec, keys, rules) if spec.kind is FieldKind.PLACE else None
        self._filters: list[int] = [0]
        width = {FieldKind.PLACE: sum(PLACE_TOKENS), FieldKind.DATE: 3, FieldKind.CODE: 1}[spec.kind]
        self._rows: list[tuple[int, ...]] = [(0,) * width]

    def numbers(self, values: Sequence[str | None]) -> tuple[NDArray[np.uint32], dict[int, str]]:
        """Return the numbers of raw values, 0 for what says nothing; and by position why some could not be read."""
        if self.spec.kind is FieldKind.DATE:
            return self._dates(values)
        numbers = np.zeros(len(values), dtype=np.uint32)
        unreadable: dict[int, str] = {}
        for position, value in enumerate(values):
            if value is None or not value.strip():
                continue
            number = self._seen.get(value)
            if number is None:
                try:
                    number = self._code(value) if self.spec.kind is FieldKind.CODE else self._place(value)
                except FieldValueError as error:
                    unreadable[position] = error.reason
                    continue
                if len(self._seen) == MAX_SEEN:
                    self._seen.clear()
                self._seen[value] = number
            numbers[position] = number
        if self._unfiltered:
            self._filter_texts()
        return numbers, unreadable

    def _new(self, key: object, row: tuple[int, ...], mask: int = 0) -> int:
        self._known[key] = number = self._values
        self._rows.append(row)
        self._filters.append(mask)
        self._values += 1
        return number

    def _dates(self, values: Sequence[str | None]) -> tuple[NDArray[np.uint32], dict[int, str]]:
        read = self._rules.registry_date
        packed = np.full(len(values), UNREAD, dtype=np.int32)
        if read is parse_registry_date:
            texts = values if isinstance(values, Texts) else Texts.of_values(values)
            packed = packed_dates(texts)
            packed[np.diff(texts.ends) == 0] = 0
        unreadable: dict[int, str] = {}
        for position in np.flatnonzero(packed == UNREAD).tolist():
            value = values[position] or ""
            found = self._dates_read.get(value)
            if found is None:
                try:
                    found = 0 if is_blank(value) else read(value).packed
                except FieldValueError as error:
                    found = error.reason
                if len(self._dates_read) == MAX_SEEN:
                    self._dates_read.clear()
                self._dates_read[value] = found
            if isinstance(found, str):
                unreadable[position], found = found, 0
            packed[position] = found
        new, first_met = np.unique(packed[self._by_date[packed] == UNKNOWN], return_index=True)
        new = new[np.argsort(first_met)]  # in order of appearance, as all values are numbered
        self._by_date[new] = np.arange(self._values, self._values + len(new), dtype=np.uint32)
        self._values += len(new)
        self._rows += map(tuple, date_tokens(self._keys, self.spec.name, new, self._parts).tolist())
        return self._by_date[packed], unreadable

    def _code(self, value: str) -> int:
        parsed = read_code(self.spec, value)
        if parsed is None:
            return 0
        found = self._known.get(parsed)
        return (
            found
            if found is not None
            else self._new(parsed, (self._keys.token(self.spec.name, self.spec.rules, parsed),))
        )

    def _place(self, value: str) -> int:
        place = self._rules.place(value)
        if not place.text:
            return 0
        found = self._known.get(place)
        if found is not None:
            return found
        assert self._encoder is not None
        row: list[int] = []
        parts = ((place.regencies, "regency"), (place.related, "regency"), (place.provinces, "province"))
        for (codes, purpose), room in zip(parts, PLACE_TOKENS, strict=True):
            tokens = place_tokens(self._keys, self.spec.name, codes, purpose)[:room].tolist()
            row += tokens + [0] * (room - len(tokens))
        number = self._new(place, tuple(row))
        self._unfiltered[number] = place.text.split()
        return number

    def _filter_texts(self) -> None:
        """Encode the texts of places that are new, all their words together."""
        assert self._encoder is not None
        assert self._vocabulary is not None
        words = [word for word in dict.fromkeys(chain(*self._unfiltered.values())) if word not in self._masks]
        if len(self._masks) + len(words) > MAX_SEEN:
            self._masks.clear()
            words = list(dict.fromkeys(chain(*self._unfiltered.values())))
        tokens = np.array([self._vocabulary.token(word) for word in words], dtype=np.uint32)
        filters = self._encoder.many(self._vocabulary.describe(tokens)).astype("<u8")
        self._masks.update(zip(words, (int.from_bytes(row.tobytes(), "little") for row in filters), strict=True))
        for number, text in self._unfiltered.items():
            for word in text:
                self._filters[number] |= self._masks[word]
        self._unfiltered.clear()

    def finish(self) -> dict[str, FileEntry]:
        """Write the table; return the manifest entries."""
        entries = [self._write("values", np.array(self._rows, dtype="<u8")), self._write_counts()]
        if self._encoder is not None:
            filters = filter_words(self._filters).astype("<u8")
            entries += [self._write("filters", filters), self._write("bits", half_weights(filters))]
        return dict(entries)


def half_weights(filters: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Return (n, 2) uint16: set bits of the spelling half and of the sound half of each filter."""
    bits = np.bitwise_count(filters).astype(np.uint16)
    half = FILTER_WORDS // 2
    return np.stack([bits[:, :half].sum(axis=1), bits[:, half:].sum(axis=1)], axis=1).astype("<u2")


def _name_rules(schema: LinkageSchema) -> set[str]:
    """Return the rules for words that a schema's fields follow."""
    own = {spec.rules for spec in schema.fields if spec.kind is FieldKind.NAME}
    return own | {PERSON_NAME for spec in schema.fields if spec.kind is FieldKind.PLACE}


class IndexBuilder:
    """Streams batches of persons into a new generation folder.

    Memory grows with distinct values, not with persons, beyond a block of them.
    """

    def __init__(
        self,
        directory: Path,
        keys: FieldKeys,
        rules: Normalisation = NORMALISATION,
        *,
        at_rest: AtRestKey | None = None,
    ) -> None:
        directory.mkdir(mode=0o700)
        self._directory = directory
        self._seal = at_rest.generation(new_salt()) if at_rest else None
        folder = _Folder(directory, self._seal)
        self._keys = keys
        self._schema: LinkageSchema = keys.schema
        fields = self._schema.fields
        words = {name: Vocabulary(each) for name, each in rules.names.items() if name in _name_rules(self._schema)}
        self._names = {
            s.name: _NameColumn(s, keys, folder, rules, words[s.rules]) for s in fields if s.kind is FieldKind.NAME
        }
        self._tables = {
            s.name: _TableColumn(s, keys, folder, rules, words.get(PERSON_NAME))
            for s in fields
            if s.kind is not FieldKind.NAME
        }
        self._rows = folder.array("rows", "<u4")
        self._ids = folder.array("record_ids.bytes", "u1")
        self._id_offsets = folder.array("record_ids.offsets", "<i8")
        self._id_offsets.append(np.zeros(1, dtype=np.int64))
        self._persons = 0
        self._waiting: list[tuple[Texts, NDArray[np.uint32]]] = []  # persons of a block that is not full

    def add(self, batch: RecordBatch) -> tuple[RowIssue, ...]:
        """Add persons; return what was wrong, row by row; see `encode`."""
        encoded = self.encode(batch)
        self._append(encoded.record_ids, encoded.numbers)
        return encoded.issues

    def encode(self, batch: RecordBatch) -> EncodedBatch:
        """Encode persons who are not added yet; distinct values that are new get their numbers.

        A person whose name is empty after normalising (and names no mother), or whose record id is empty or longer
        than 255 bytes, is rejected; under a schema that does not begin with a person's name, only a record of which
        nothing is known. A birth date or sex that cannot be read counts as missing.
        """
        size = len(batch.record_ids)
        issues: list[RowIssue] = []
        parsed = {
            name: names.vocabulary.read(batch.columns[name].values)
            for name, names in self._names.items()
            if name in batch.columns
        }
        numbers = {name: self._name_numbers(name, batch, parsed) for name in self._names}
        for name, table in self._tables.items():
            column = batch.columns.get(name)
            if column is None and name == TITLE:
                column = self._titles(batch, parsed)
            numbers[name] = self._table_numbers(table, column, size, issues)
        keep, key = self._findable(batch, parsed, numbers)
        issues += [
            RowIssue(int(row), key, "empty, or nothing is left after normalising", rejected=True)
            for row in np.flatnonzero(~keep)
        ]
        ids = batch.record_ids if isinstance(batch.record_ids, Texts) else Texts.encoded(batch.record_ids)
        lengths = np.diff(ids.ends)
        for row in np.flatnonzero((lengths == 0) | (lengths > MAX_RECORD_ID_BYTES)).tolist():
            reason = "empty" if not lengths[row] else f"longer than {MAX_RECORD_ID_BYTES} bytes"
            if keep[row]:
                issues.append(RowIssue(row, "record_id", reason, rejected=True))
            keep[row] = False
        if not keep.all():
            ids = ids.take(np.flatnonzero(keep))
            numbers = {name: column[keep] for name, column in numbers.items()}
        return EncodedBatch(ids, numbers, tuple(sorted(issues, key=lambda issue: issue.row)))

    def _findable(
        self, batch: RecordBatch, parsed: dict[str, NameBatch], numbers: dict[str, NDArray[np.uint32]]
    ) -> tuple[NDArray[np.bool_], str]:
        """Return which rows a question could find, and what the others lack."""
        first = self._schema.fields[0]
        if first.rules != PERSON_NAME:
            return np.any([column != 0 for column in numbers.values()], axis=0), "record"
        # "By. Ny. X" is a newborn without a name of its own: kept, to be found by its mother's.
        return (numbers[first.name] != 0) | self._names_mother(batch, parsed), first.name

    def _append(self, ids: Texts, numbers: Mapping[str, NDArray[np.uint32]]) -> None:
        for name, column in (*self._names.items(), *self._tables.items()):
            column.count(numbers[name])
        rows = np.stack([numbers[spec.name] for spec in self._schema.fields])
        start = 0
        while start < len(ids):
            stop = min(start + BLOCK_PERSONS - self._persons % BLOCK_PERSONS, len(ids))
            self._waiting.append((ids.part(start, stop), rows[:, start:stop]))
            self._persons += stop - start
            start = stop
            if self._persons % BLOCK_PERSONS == 0:
                self._write_block()

    def _write_block(self) -> None:
        """Write the persons who wait, in the order of their first field's values, equal ones as they came."""
        if not self._waiting:
            return
        ids = Texts.joined([ids for ids, _ in self._waiting])
        rows = np.concatenate([rows for _, rows in self._waiting], axis=1)
        self._waiting.clear()
        order = _ascending(rows[0])
        for numbers in rows:
            self._rows.append(numbers[order])
        ids = ids.take(order)
        self._id_offsets.append(self._ids.rows + ids.ends[1:])
        self._ids.append(ids.data)

    def _name_numbers(self, field: str, batch: RecordBatch, parsed: dict[str, NameBatch]) -> NDArray[np.uint32]:
        own = parsed.get(field)
        size = len(batch.record_ids)
        numbers = np.zeros(size, dtype=np.uint32)
        column = self._names[field]
        if own is not None:
            numbers = _gather(column.numbers(own.tokens, own.lengths), batch.columns[field].codes)
        first = self._schema.fields[0].name
        if field in {"mother_name", "father_name"} and first in parsed:
            # "X bin Y" names the father, "By. Ny. X" the mother, when no column of their own does.
            told = parsed[first].mother if field == "mother_name" else parsed[first].father
            if told:
                implied = np.zeros(len(parsed[first].lengths), dtype=np.uint32)
                implied[list(told)] = column.numbers(*column.vocabulary.matrix(told.values()))
                numbers = np.where(numbers == 0, _gather(implied, batch.columns[first].codes), numbers)
        return numbers

    def _titles(self, batch: RecordBatch, parsed: dict[str, NameBatch]) -> Column | None:
        """Return the titles that stand before the names, when they have no column of their own."""
        first = self._schema.fields[0].name
        if first not in parsed:
            return None
        names, codes = parsed[first], self._names[first].vocabulary.title_codes
        of_name = np.where(names.lengths > 0, names.titles, len(codes))
        # In order of appearance, as all values are numbered.
        first_met = np.full(len(codes) + 1, len(of_name), dtype=np.int64)
        first_met[of_name[::-1]] = np.arange(len(of_name))[::-1]
        order = np.argsort(first_met)[: np.count_nonzero(first_met < len(of_name))]
        place = np.empty(len(first_met), dtype=np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        values = [*codes, None]
        return Column(
            [values[number] for number in order.tolist()], _gather_codes(place[of_name], batch.columns[first].codes)
        )

    def _names_mother(self, batch: RecordBatch, parsed: dict[str, NameBatch]) -> NDArray[np.bool_]:
        first = self._schema.fields[0].name
        if first not in parsed:
            return np.zeros(len(batch.record_ids), dtype=np.bool_)
        told = np.zeros(len(parsed[first].lengths) + 1, dtype=np.bool_)
        told[list(parsed[first].mother)] = True
        return np.asarray(told[batch.columns[first].codes], dtype=np.bool_)

    @staticmethod
    def _table_numbers(
        table: _TableColumn, column: Column | None, size: int, issues: list[RowIssue]
    ) -> NDArray[np.uint32]:
        if column is None:
            return np.zeros(size, dtype=np.uint32)
        numbers, unreadable = table.numbers(column.values)
        if unreadable:
            rows = np.flatnonzero(np.isin(column.codes, list(unreadable)))
            issues += [
                RowIssue(int(row), table.spec.name, unreadable[int(column.codes[row])], rejected=False) for row in rows
            ]
        return _gather(numbers, column.codes)

    def finish(self, now: datetime, source_rows: int) -> Manifest:
        """Write everything durably, the manifest last; return it.

        Raises SchemaError when no person was added: an empty registry would answer "not here" for everyone.
        """
        if self._persons == 0:
            raise SchemaError("no person was added: an empty index is not published")
        self._write_block()
        files: dict[str, FileEntry] = {}
        for column in (*self._names.values(), *self._tables.values()):
            files.update(column.finish())
        for file in (self._rows, self._ids, self._id_offsets):
            files[file.name] = file.close()
        manifest = Manifest(
            schema=self._schema.canonical.decode("ascii"),
            fingerprint=self._schema.fingerprint.hex(),
            epoch=self._keys.epoch,
            key_check=self._keys.check,
            persons=self._persons,
            source_rows=source_rows,
            built_at=now.isoformat(timespec="seconds"),
            files=files,
            salt=self._seal.salt.hex() if self._seal else "",
        )
        with open_private(self._directory / MANIFEST) as out:
            out.write(manifest.to_json(self._seal).encode("ascii"))
            out.flush()
            os.fsync(out.fileno())
        folder = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return manifest

    def abandon(self) -> None:
        """Close and remove the unfinished folder."""
        for file in (self._rows, self._ids, self._id_offsets):
            file.abandon()
        for column in (*self._names.values(), *self._tables.values()):
            column.abandon()
        shutil.rmtree(self._directory, ignore_errors=True)


def _ascending(numbers: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return the order of a block's numbers, equal ones as they stand; faster than a stable sort, and the same."""
    places = np.arange(len(numbers), dtype=np.uint64)
    order = (numbers.astype(np.uint64) << np.uint64(32)) | places
    order.sort()
    return (order & np.uint64(0xFFFFFFFF)).astype(np.int64)


def lay_out(rows: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return rows, (fields, persons), as an index keeps them: block after block, in a block field after field."""
    blocks = range(0, rows.shape[1], BLOCK_PERSONS)
    parts = [rows[:, start : start + BLOCK_PERSONS].reshape(-1) for start in blocks]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint32)


def _gather(numbers: NDArray[np.uint32], codes: NDArray[np.int32]) -> NDArray[np.uint32]:
    """Spread the numbers of distinct values over rows; -1 is missing."""
    out = np.append(numbers, np.uint32(0))[codes]
    return np.asarray(out, dtype=np.uint32)


def _gather_codes(codes: NDArray[np.int32], of_rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """Spread codes of distinct values over rows; -1 stays missing."""
    return np.asarray(np.append(codes, np.int32(-1))[of_rows], dtype=np.int32)


class EncodedIndex:
    """A finished generation, read-only: mapped, or held in memory when it lies sealed. Threads may share it."""

    def __init__(self, manifest: Manifest, arrays: Mapping[str, NDArray[Any]], maps: Sequence[mmap.mmap]) -> None:
        self.manifest = manifest
        self._arrays = arrays
        self._maps = maps

    @classmethod
    def open(
        cls,
        directory: Path,
        fingerprint: bytes,
        epoch: int,
        key_check: str | None = None,
        at_rest: AtRestKey | None = None,
    ) -> Self:
        """Open a generation; check format, schema, epoch, every size and spots of the bytes, or all of them if sealed.

        key_check: of the keys questions come under (FieldKeys.check): an index of another secret would find nobody.
        at_rest: the key it was sealed with; with a key an index that lies open is refused, and the other way round.
        Raises IndexDamagedError naming the file, or SchemaMismatchError.
        """
        manifest = Manifest.read(directory, at_rest)
        require_same((fingerprint, epoch), (_unhex(manifest.fingerprint), manifest.epoch))
        if key_check is not None and manifest.key_check != key_check:
            raise SchemaMismatchError(ours=f"key {key_check[:8]}", theirs=f"key {manifest.key_check[:8]} of that epoch")
        seal = at_rest.generation(bytes.fromhex(manifest.salt)) if at_rest else None
        arrays: dict[str, NDArray[Any]] = {}
        maps: list[mmap.mmap] = []
        for name, entry in manifest.files.items():
            _require_known(name, entry)
            path = directory / name
            if not path.is_file():
                raise IndexDamagedError(file=name, reason="missing")
            expected, found = entry.size_bytes if seal is None else sealed_bytes(entry.size_bytes), path.stat().st_size
            if found != expected:
                raise IndexDamagedError(file=name, reason=f"{found} bytes, the manifest says {expected}")
            arrays[name] = _mapped(path, entry, maps) if seal is None else _unsealed(path, entry, seal)
        _check_shapes(manifest, arrays)
        return cls(manifest, arrays, maps)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory up. Arrays still in use keep theirs alive until they are dropped."""
        self._arrays = {}
        self._maps = ()

    @property
    def size(self) -> int:
        """Persons in the index."""
        return self.manifest.persons

    def array(self, name: str) -> NDArray[Any]:
        """Return one array of the index, as listed in its manifest."""
        return self._arrays[name]

    def blocks(self) -> Iterator[tuple[int, NDArray[np.uint32]]]:
        """Yield the rows block by block: the number of a block's first person, and its rows, (fields, persons)."""
        yield from _blocks(self._arrays["rows"], self.size)

    def numbers(self, rows: NDArray[np.integer[Any]] | None = None) -> NDArray[np.uint32]:
        """Return the value numbers of some persons, or of all, (fields, persons). Raises IndexError."""
        if rows is None and self.size:
            return np.concatenate([block for _, block in self.blocks()], axis=1)
        flat = self._arrays["rows"]
        places = np.zeros(0, dtype=np.int64) if rows is None else rows.astype(np.int64)
        if ((places < 0) | (places >= self.size)).any():
            raise IndexError("there is no such row")
        fields = len(flat) // max(self.size, 1)
        start = places // BLOCK_PERSONS * BLOCK_PERSONS
        length = np.minimum(BLOCK_PERSONS, self.size - start)
        return np.asarray(flat[start * fields + places - start + np.arange(fields)[:, None] * length], dtype=np.uint32)

    def token_places(self, name: str, numbers: NDArray[np.uint32]) -> NDArray[np.integer[Any]]:
        """Return where tokens of these numbers stand in a field's arrays; a selection of persons lacks most of them."""
        selected = self._arrays.get(f"{name}.selected")
        if selected is None:
            return numbers
        places = np.searchsorted(selected, numbers)
        places[places == len(selected)] = 0
        return places[selected[places] == numbers] if len(selected) else places[:0]

    def record_id(self, row: int) -> str:
        """Return the registry's own id of a person. Raises IndexDamagedError for one that is no text."""
        offsets = self._arrays["record_ids.offsets"]
        start, stop = int(offsets[row]), int(offsets[row + 1])
        try:
            return bytes(self._arrays["record_ids.bytes"][start:stop]).decode()
        except UnicodeDecodeError:
            raise IndexDamagedError(file="record_ids.bytes", reason="an id in it is not text") from None

    def verify(self, directory: Path) -> None:
        """Read every byte of every file against its SHA-256. Raises IndexDamagedError naming the first that differs."""
        for name, entry in self.manifest.files.items():
            with (directory / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
                    raise IndexDamagedError(file=name, reason="its bytes are not those the manifest was written for")


def _blocks(flat: NDArray[np.uint32], persons: int) -> Iterator[tuple[int, NDArray[np.uint32]]]:
    fields = len(flat) // max(persons, 1)
    for start in range(0, persons, BLOCK_PERSONS):
        stop = min(start + BLOCK_PERSONS, persons)
        yield start, flat[start * fields : stop * fields].reshape(fields, stop - start)


def _mapped(path: Path, entry: FileEntry, maps: list[mmap.mmap]) -> NDArray[Any]:
    """Map a file that lies open; its map is added to `maps`."""
    if spot_digest(path, entry.size_bytes) != entry.spot:
        raise IndexDamagedError(file=path.name, reason="its bytes are not those the manifest was written for")
    if entry.size_bytes == 0:
        return np.zeros(entry.shape, dtype=entry.dtype)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    maps.append(mapped)
    return np.frombuffer(mapped, dtype=entry.dtype).reshape(entry.shape)


def _unsealed(path: Path, entry: FileEntry, seal: GenerationSeal) -> NDArray[Any]:
    """Read a sealed file into memory."""
    array = np.empty(entry.shape, dtype=entry.dtype)
    with path.open("rb") as file:
        open_sealed(file, seal.cipher(path.name), array.reshape(-1).view(np.uint8), path.name)
    array.flags.writeable = False
    return array


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise IndexDamagedError(file=MANIFEST, reason="the fingerprint is not hexadecimal") from None


def _names_fit(arrays: Mapping[str, NDArray[Any]], name: str) -> bool:
    """Whether a field's names point at tokens that are there, few enough for the kernel, each of some rarity."""
    offsets, members, weights = arrays[f"{name}.offsets"], arrays[f"{name}.tokens"], arrays[f"{name}.weights"]
    within = _divides(offsets, members) and len(offsets) == len(arrays[f"{name}.counts"]) + 1
    few = within and bool((np.diff(offsets) <= MAX_STORED_TOKENS).all())
    weighed = len(weights) == len(arrays[f"{name}.filters"]) and bool((weights > 0).all())
    postings = ((f"{name}.near", f"{name}.near_tokens"), (f"{name}.calls", f"{name}.call_tokens"))
    found = all(_finds(arrays[forms], arrays[owners], len(weights)) for forms, owners in postings)
    return bool(few and weighed and found and (not len(members) or members.max() < len(weights)))


def _finds(forms: NDArray[Any], owners: NDArray[Any], tokens: int) -> bool:
    """Whether sorted keyed tokens lead to tokens that are there."""
    within = len(forms) == len(owners) and (not len(owners) or owners.max() < tokens)
    return bool(within and (forms[1:] >= forms[:-1]).all())


def _divides(offsets: NDArray[Any], members: NDArray[Any]) -> bool:
    return bool(len(offsets) and offsets[0] == 0 and offsets[-1] == len(members) and (np.diff(offsets) >= 0).all())


def _require_known(name: str, entry: FileEntry) -> None:
    """Refuse what is no name of ours, or whose type and shape its name does not stand for: nothing else is mapped."""
    dtype, width = _KINDS.get(name.rpartition(".")[2], ("", None))
    dimensions = 1 if width is None else 2
    if not re.fullmatch(_FILE_NAME, name, re.ASCII):
        raise IndexDamagedError(file=MANIFEST, reason=f"its entry {name[:40]!r} names no file of an index")
    if entry.dtype != dtype or len(entry.shape) != dimensions or min(entry.shape) < 0:
        raise IndexDamagedError(file=MANIFEST, reason=f"its entry {name[:40]!r} is not of an index")
    if width and entry.shape[1] != width:
        raise IndexDamagedError(file=MANIFEST, reason=f"{name[:40]!r} has rows of another width")


def _values_fit(arrays: Mapping[str, NDArray[Any]], field: Mapping[str, Any]) -> bool:
    """Whether a field's table has one row for every value, as wide as its kind has tokens."""
    kind = FieldKind(field["kind"])
    if kind is FieldKind.NAME:
        return _names_fit(arrays, field["name"])
    values, counts = arrays[f"{field['name']}.values"], arrays[f"{field['name']}.counts"]
    texts = arrays.get(f"{field['name']}.filters")
    return (
        values.shape == (len(counts), _WIDTHS[kind])
        and (kind is FieldKind.PLACE) == (texts is not None)
        and (texts is None or len(texts) == len(counts))
    )


def _counts_fit(counts: NDArray[np.int64], persons: int) -> bool:
    return bool((counts >= 0).all() and counts.max(initial=0) <= persons and int(counts.sum()) == persons)


def _bits_fit(filters: NDArray[np.uint64], bits: NDArray[np.uint16]) -> bool:
    return len(filters) == len(bits) and all(
        np.array_equal(half_weights(filters[start : start + _CHECKED_ROWS]), bits[start : start + _CHECKED_ROWS])
        for start in range(0, len(filters), _CHECKED_ROWS)
    )


def _check_shapes(manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse a manifest whose arrays do not belong together: the kernels do not check bounds."""
    try:
        rows = arrays["rows"]
        # Searches take the fields from the model, whose fingerprint is the question's and the manifest's.
        of_schema = hashlib.sha256(manifest.schema.encode()).hexdigest() == manifest.fingerprint
        fields = json.loads(manifest.schema)["fields"]
        ids = arrays["record_ids.offsets"]
        good = of_schema and 0 < manifest.persons == len(ids) - 1 and len(rows) == manifest.persons * len(fields)
        good = good and _divides(ids, arrays["record_ids.bytes"])
        values = np.array([len(arrays[f"{field['name']}.counts"]) for field in fields])
        good = good and all((block.max(axis=1) < values).all() for _, block in _blocks(rows, manifest.persons))
        good = good and all(_counts_fit(arrays[f"{field['name']}.counts"], manifest.persons) for field in fields)
        good = good and all(_values_fit(arrays, field) for field in fields)
        filters = (name.removesuffix(".filters") for name in arrays if name.endswith(".filters"))
        good = good and all(_bits_fit(arrays[f"{name}.filters"], arrays[f"{name}.bits"]) for name in filters)
    except (KeyError, ValueError, TypeError):
        good = False
    if not good:
        described = describe(_unhex(manifest.fingerprint), manifest.epoch)
        raise IndexDamagedError(file=MANIFEST, reason=f"does not describe an index ({described})")
