"""Files and lines that people, other programs and older versions of ours hand to a node."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.fuzzing.mutate import json_value
from benchmarks.fuzzing.target import EPOCH, FEDERATION, NOW, PROVINCE, Target, clients, keys
from matching.clerical import Agreement, Review, ReviewDecision, read_reviews, write_reviews
from matching.encoding import encode_client
from matching.errors import FieldValueError, IndexDamagedError, SchemaError, SchemaMismatchError
from matching.index import MANIFEST, Column, EncodedIndex, IndexBuilder, RecordBatch, spot_digest
from matching.question import Client
from matching.schema import PERSON_SCHEMA, LinkageSchema
from matching.search import search
from matching.weights import MatchModel, load_model
from node.backup import verify_backup
from node.client_file import parse_client
from node.config import load_config, make_config, write_config
from node.errors import NodeError
from node.files import PRIVATE
from node.findings import Accepted, Concluded, Failed, Find, Heard, ProvinceState, Replied, as_json
from node.home import NodeHome
from node.local import parse_inquiry, parse_request
from node.local_client import read_events
from node.local_commands import obey_about_cases
from node.mapping import guess_mapping, load_mapping, write_mapping
from node.messages import PSEUDONYM_BYTES
from node.registry_source import recall, remember
from node.runtime import open_casebook
from node.sources import open_source
from node.store import open_store

if TYPE_CHECKING:
    from pathlib import Path

SOME_ROWS: Final = 50
BATCHES_PER_IMPORT: Final = 200
SOME_COLUMNS: Final = 4


def registry(folder: Path) -> Target:
    """Read a registry file: CSV, or whatever its first bytes claim."""
    seeds = [
        b"nik,nama,tgl lahir\n1,SUHARTO,1950-01-02\n",
        b'id;nama;ibu\r\n7;"A;B";X\r\n8;C\r\n',
        "id\tnama\n1\tD\u00edana\n".encode("latin-1"),
        b'\xef\xbb\xbfid,nama\n1,"two\nlines"\n',
        b"PAR1",
        b"PK\x03\x04",
    ]
    return Target(lambda data: _rows_of(folder / "registry.csv", data), (NodeError,), seeds)


def workbook(folder: Path) -> Target:
    """Read a workbook of which one part was changed. The first byte says which; its checksum is right again."""
    import polars as pl  # noqa: PLC0415 - only two targets need it

    honest = io.BytesIO()
    pl.DataFrame({"nik": ["1", "2"], "nama": ["SUHARTO", "SITI"], "tgl lahir": ["1950-01-02", None]}).write_excel(
        honest
    )
    with zipfile.ZipFile(honest) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    names = sorted(parts)

    def feed(data: bytes) -> object:
        changed = dict(parts)
        if data:
            changed[names[data[0] % len(names)]] = data[1:]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in changed.items():
                archive.writestr(name, content)
        return _rows_of(folder / "registry.xlsx", packed.getvalue())

    return Target(feed, (NodeError,), [bytes([place]) + parts[name] for place, name in enumerate(names)])


def _rows_of(path: Path, data: bytes) -> int:
    path.write_bytes(data)
    with open_source(str(path)) as source:
        wanted = tuple(dict.fromkeys(source.columns))[:SOME_COLUMNS]
        return sum(len(batch.frame) for batch in source.batches(wanted, SOME_ROWS))


def mapping(folder: Path) -> Target:
    """Read a mapping file."""
    path = folder / "map.toml"

    def feed(data: bytes) -> object:
        path.write_bytes(data)
        return load_mapping(path)

    honest = folder / "honest.toml"
    write_mapping(honest, guess_mapping(["nik", "nama", "tgl lahir", "jk", "nama ibu"]))
    return Target(feed, (NodeError,), [honest.read_bytes(), b'[sex_codes]\nmale = ["1"]\n'])


def source(folder: Path) -> Target:
    """Read what a node has noted of where its registry came from."""
    home = NodeHome(folder / "node")
    write_config(home, make_config(federation=FEDERATION, province=PROVINCE))
    remember(home, "/srv/registry.csv", guess_mapping(["nik", "nama", "tgl lahir"]), generation="g000001")
    honest = home.registry_source.read_bytes()

    def feed(data: bytes) -> object:
        write_private(home.registry_source, data)
        return recall(home).file_differs

    return Target(feed, (NodeError,), [honest], json_value)


def settings(folder: Path) -> Target:
    """Read node.toml."""
    home = NodeHome(folder / "node")
    write_config(home, make_config(federation=FEDERATION, province=PROVINCE, budgets={"peer_per_day": 7}))
    honest = home.config.read_bytes()

    def feed(data: bytes) -> object:
        home.config.write_bytes(data)
        return load_config(home)

    return Target(feed, (NodeError,), [honest])


def client_file(folder: Path) -> Target:  # noqa: ARG001 - every target is made the same way
    """Read a client's file, JSON or TOML."""
    seeds = [b'{"name": "Joko", "born": "1958~3"}', b'name = "Joko"\nsex = "L"\n', b"[]", b"\xef\xbb\xbf{}"]
    return Target(parse_client, (FieldValueError, NodeError), seeds, json_value)


def words(folder: Path) -> Target:  # noqa: ARG001
    """Encode what a caseworker says of a client; fields end with a zero byte."""
    own = keys()

    def feed(data: bytes) -> object:
        said = data.decode("utf-8", errors="surrogateescape").split("\0")
        name, *more = (*said, "", "", "", "", "")[:6]
        return encode_client(Client(name, *(each or None for each in more)), own, NOW.date())

    fields = ("name", "sex", "born", "birthplace", "mother_name", "father_name")
    seeds = ["\0".join(getattr(client, field) or "" for field in fields).encode() for client in clients()]
    return Target(feed, (FieldValueError,), seeds)


def persons(folder: Path) -> Target:
    """Encode registered persons, a line each; fields end with a zero byte. What cannot be used is said, not thrown.

    An import goes on over BATCHES_PER_IMPORT inputs: to begin one takes longer than to read a few lines.
    """
    own = keys()
    imports: list[tuple[IndexBuilder, int]] = []

    def feed(data: bytes) -> object:
        lines = data.decode("utf-8", errors="replace").split("\n")[:SOME_ROWS]
        width = 1 + len(PERSON_SCHEMA.field_names)
        rows = [(*line.split("\0"), *[""] * width)[:width] for line in lines]
        columns = {}
        for place, name in enumerate(PERSON_SCHEMA.field_names, start=1):
            values: list[str | None] = [row[place] or None for row in rows]
            columns[name] = Column(values, np.arange(len(rows), dtype=np.int32))
        builder, left = imports.pop() if imports else (IndexBuilder(folder / "index", own), BATCHES_PER_IMPORT)
        goes_on = False
        try:
            result = builder.add(RecordBatch([row[0] or "r" for row in rows], columns))
            goes_on = left > 1
        finally:
            if goes_on:
                imports.append((builder, left - 1))
            else:
                builder.abandon()
        return result

    def close() -> None:
        for builder, _ in imports:
            builder.abandon()

    honest = [
        f"R{number}\0" + "\0".join(_value(name, number) for name in PERSON_SCHEMA.field_names) for number in (0, 1)
    ]
    return Target(
        feed,
        (FieldValueError,),
        ["\n".join(honest).encode(), b"R1\0M. Contoh\0L\0003-02-1970\0\0\0"],
        close=close,
    )


def local_line(folder: Path) -> Target:
    """Read a line at the node's local socket, and carry out what is a command about cases."""
    home = NodeHome(folder / "node")
    config = make_config(federation=FEDERATION, province=PROVINCE)
    write_config(home, config)
    book = open_casebook(home, config, open_store(config.store_url(home)), lambda: NOW)

    def feed(data: bytes) -> object:
        document = parse_request(data)
        if "command" in document:
            return obey_about_cases(book, document)
        return parse_inquiry(document, bytes(PSEUDONYM_BYTES))

    document = {"client": {"name": "Joko", "sex": "L"}, "purpose": "return_home", "timeout_s": 20}
    seeds = [
        json.dumps(document).encode(),
        b'{"client": {}, "timeout_s": 1e400}',
        b"[[[[",
        b'{"case_reference": "K-1"}',
        b'{"command": "case_list", "closed": true}',
        b'{"command": "case_show", "case": "K-1"}',
        b'{"command": "case_close", "case": "K-1", "reason": "found"}',
    ]
    return Target(feed, (FieldValueError, NodeError), seeds, json_value)


def local_events(folder: Path) -> Target:
    """Read what a node says to its own command line."""
    home = NodeHome(folder / "node")
    heard = Heard(PROVINCE, ProvinceState.ANSWERED, 12, attributes=("sex",), epoch=1)
    find = Find(PROVINCE, 2, 0.9, ("00ff",), {"name": 7.5, "sex": None})
    told = (
        Accepted("K-1", "35", {"33": "Jawa Tengah"}, 10.0),
        heard,
        Concluded("K-1", "home_found", PROVINCE, None, {"33": 0.9}, 0.1, {}, (heard,), (find,), 40),
        Replied({"cases": []}),
        Failed("ConfigError", "no", None, 65),
    )

    def feed(data: bytes) -> object:
        return list(read_events(io.BytesIO(data), home))

    seeds = [json.dumps(as_json(each)).encode() + b"\n" for each in told]
    return Target(feed, (NodeError,), seeds, lambda data, chance: json_value(data, chance) + b"\n")


def schema(folder: Path) -> Target:  # noqa: ARG001
    """Read a linkage schema as JSON."""

    def feed(data: bytes) -> object:
        return LinkageSchema.from_json(data.decode("utf-8", errors="surrogateescape"))

    return Target(feed, (SchemaError,), [PERSON_SCHEMA.canonical, b"{}", b"[1]"], json_value)


def model(folder: Path) -> Target:  # noqa: ARG001
    """Read a table of weights."""

    def feed(data: bytes) -> object:
        return MatchModel.from_json(data.decode("utf-8", errors="surrogateescape"), PERSON_SCHEMA)

    return Target(feed, (SchemaError,), [load_model().to_json().encode()], json_value)


def reviews(folder: Path) -> Target:  # noqa: ARG001
    """Read the decisions that `pulang review export` writes for training."""

    def feed(data: bytes) -> object:
        return read_reviews(data.decode("ascii", errors="replace"), PERSON_SCHEMA)

    nothing = len(PERSON_SCHEMA.fields) - 1
    agreement = Agreement((1, *(0,) * nothing), ("2", *("",) * nothing), (6, *(0,) * nothing))
    honest = write_reviews([Review(agreement, each, 3) for each in ReviewDecision], PERSON_SCHEMA)
    return Target(feed, (SchemaError,), [honest.encode()], json_value)


def backup(folder: Path) -> Target:
    """Read a backup's archive, before it is compressed."""
    path = folder / "backup.tar.gz"
    manifest: dict[str, Any] = {"format": "pulang-backup-1", "kind": "memory", "federation": "f", "province": "33"}
    manifest |= {"taken_at": NOW.isoformat(), "files": {"node.toml": hashlib.sha256(b"x").hexdigest()}}
    seed = io.BytesIO()
    with tarfile.open(fileobj=seed, mode="w") as archive:
        for name, content in (("manifest.json", json.dumps(manifest).encode()), ("node.toml", b"x")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

    def feed(data: bytes) -> object:
        path.write_bytes(gzip.compress(data, 1))
        return verify_backup(path)

    return Target(feed, (NodeError,), [seed.getvalue(), b""])


def index(folder: Path) -> Target:
    """Open and search an index of which one file was changed and its digest in the manifest corrected.

    The first byte says which file, the next four where, the rest is written there.
    """
    small_index(folder / "index").close()
    place = folder / "index"
    names = sorted(path.name for path in place.iterdir())
    query, weights = encode_client(clients()[0], keys(), NOW.date()), load_model()
    whole = {name: (place / name).read_bytes() for name in names}

    def feed(data: bytes) -> object:
        if len(data) < 6:
            return None
        name = names[data[0] % len(names)]
        before = whole[name]
        at = int.from_bytes(data[1:5], "little") % (len(before) + 1)
        changed = before[:at] + data[5:] + before[at + len(data) - 5 :]
        try:
            _put(place / name, changed)
            if name != MANIFEST:
                _put(place / MANIFEST, _corrected(whole[MANIFEST], place / name))
            with EncodedIndex.open(place, PERSON_SCHEMA.fingerprint, EPOCH, keys().check) as opened:
                return [opened.record_id(row) for _, row in search(opened, query, weights).candidates]
        finally:
            _put(place / name, before)
            _put(place / MANIFEST, whole[MANIFEST])

    seeds = [bytes([number, 0, 0, 0, 0]) + whole[name][:64] for number, name in enumerate(names)]
    return Target(feed, (IndexDamagedError, SchemaMismatchError), seeds)


def small_index(folder: Path) -> EncodedIndex:
    """Build and open an index of a few made-up persons."""
    builder = IndexBuilder(folder, keys())
    columns = {}
    for name in PERSON_SCHEMA.field_names:
        values: list[str | None] = [_value(name, number) for number in range(SOME_ROWS)]
        columns[name] = Column(values, np.arange(SOME_ROWS, dtype=np.int32))
    builder.add(RecordBatch([f"R{number}" for number in range(SOME_ROWS)], columns))
    builder.finish(NOW, SOME_ROWS)
    return EncodedIndex.open(folder, PERSON_SCHEMA.fingerprint, EPOCH, keys().check)


def _value(field: str, number: int) -> str:
    names = ("Contoh", "Nama", "Siti", "Made", "Joko")
    values: dict[str, str] = {
        "sex": "LP"[number % 2],
        "birth_date": f"{1950 + number}-02-03",
        "title": ("Haji", "")[number % 2],
        "birthplace": ("Kebumen", "Denpasar", "Kupang")[number % 3],
    }
    return values.get(field, f"{names[number % 5]} {names[number // 5 % 5]}")


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read."""
    if not path.exists():
        path.touch(mode=PRIVATE)
    path.write_bytes(content)


def _put(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # never into a file that is mapped
    path.write_bytes(content)


def _corrected(manifest: bytes, path: Path) -> bytes:
    """Return the manifest as an attacker who can write files would leave it: the digest fits the changed file."""
    body: Any = json.loads(manifest)
    body["files"][path.name]["spot"] = spot_digest(path, path.stat().st_size)
    return json.dumps(body).encode()
