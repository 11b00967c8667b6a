"""The parsers that face a peer or a file: how each is fed, what it may refuse with, and honest inputs to begin from.

A parser may return, or raise one of the errors it documents. Anything else that leaves it is a crash.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from matching.encoding import encode_client
from matching.errors import FieldValueError, IndexDamagedError, SchemaError, SchemaMismatchError
from matching.index import MANIFEST, Column, EncodedIndex, IndexBuilder, RecordBatch, spot_digest
from matching.keys import FieldKeys
from matching.question import HANDLE_BYTES, Client
from matching.schema import PERSON_SCHEMA, LinkageSchema
from matching.search import search
from matching.weights import load_model
from node.backup import verify_backup
from node.client_file import parse_client
from node.config import make_config, write_config
from node.errors import NodeError
from node.home import NodeHome
from node.local import parse_inquiry, parse_request
from node.mapping import guess_mapping, load_mapping, write_mapping
from node.messages import NONCE_BYTES, PSEUDONYM_BYTES, Answered, Handle, Purpose, QuestionHeader
from node.pki.authority import Authority
from node.pki.credentials import request_certificate
from node.pki.intermediate import ProvinceAuthority
from node.pki.trust import read_certificates, verify_chain
from node.rpc.wire import WireError, parse_question, read_answer, write_answer, write_question
from node.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
EPOCH: Final = 1
SOME_ROWS: Final = 50


@dataclass(frozen=True)
class Target:
    """One parser. feed: gives it one input. refusals: the errors it documents. seeds: inputs it accepts."""

    feed: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: Sequence[bytes]


def question(folder: Path) -> Target:  # noqa: ARG001 - every target is made the same way
    """Read a question's bytes, as a peer sends them."""

    def feed(data: bytes) -> object:
        return parse_question(data, PERSON_SCHEMA, (EPOCH,))

    return Target(feed, (WireError,), [_question(client) for client in _clients()])


def answer(folder: Path) -> Target:
    """Read an answer's bytes, as a peer that was asked sends them."""
    sent = hashlib.sha256(b"a question").digest()

    def feed(data: bytes) -> object:
        return read_answer(data, schema=PERSON_SCHEMA, epoch=EPOCH, province="33", request_sha256=sent)

    index, model = _index(folder / "index"), load_model()
    seeds = []
    for client in _clients():
        found = search(index, encode_client(client, _keys(), NOW.date()), model)
        handles = tuple(Handle(bytes(HANDLE_BYTES), index_) for index_, _ in found.candidates)
        message = write_answer(
            Answered(found.evidence, handles),
            schema=PERSON_SCHEMA,
            epoch=EPOCH,
            province="33",
            request_sha256=sent,
            now=NOW,
        )
        seeds.append(message.SerializeToString())
    return Target(feed, (WireError,), seeds)


def index(folder: Path) -> Target:
    """Open and search an index of which one file was changed and its digest in the manifest corrected.

    The first byte says which file, the next four where, the rest is written there.
    """
    _index(folder / "index").close()
    place = folder / "index"
    names = sorted(path.name for path in place.iterdir())
    query, model = encode_client(_clients()[0], _keys(), NOW.date()), load_model()
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
            with EncodedIndex.open(place, PERSON_SCHEMA.fingerprint, EPOCH, _keys().check) as opened:
                return [opened.record_id(row) for _, row in search(opened, query, model).candidates]
        finally:
            _put(place / name, before)
            _put(place / MANIFEST, whole[MANIFEST])

    seeds = [bytes([number, 0, 0, 0, 0]) + whole[name][:64] for number, name in enumerate(names)]
    return Target(feed, (IndexDamagedError, SchemaMismatchError), seeds)


def registry(folder: Path) -> Target:
    """Read a registry file: CSV, or whatever its first bytes claim."""
    path = folder / "registry.csv"

    def feed(data: bytes) -> object:
        path.write_bytes(data)
        with open_source(str(path)) as source:
            return sum(len(batch.frame) for batch in source.batches(source.columns[:4], SOME_ROWS))

    seeds = [
        b"nik,nama,tgl lahir\n1,SUHARTO,1950-01-02\n",
        b'id;nama;ibu\r\n7;"A;B";X\r\n8;C\r\n',
        "id\tnama\n1\tD\u00edana\n".encode("latin-1"),
        b'\xef\xbb\xbfid,nama\n1,"two\nlines"\n',
        b"PAR1",
        b"PK\x03\x04",
    ]
    return Target(feed, (NodeError,), seeds)


def mapping(folder: Path) -> Target:
    """Read a mapping file."""
    path = folder / "map.toml"

    def feed(data: bytes) -> object:
        path.write_bytes(data)
        return load_mapping(path)

    honest = folder / "honest.toml"
    write_mapping(honest, guess_mapping(["nik", "nama", "tgl lahir", "jk", "nama ibu"]))
    seeds = [honest.read_bytes(), b'[sex_codes]\nmale = ["1"]\n']
    return Target(feed, (NodeError,), seeds)


def client_file(folder: Path) -> Target:  # noqa: ARG001
    """Read a client's file, JSON or TOML."""
    seeds = [b'{"name": "Joko", "born": "1958~3"}', b'name = "Joko"\nsex = "L"\n', b"[]", b"\xef\xbb\xbf{}"]
    return Target(parse_client, (FieldValueError, NodeError), seeds)


def local_line(folder: Path) -> Target:  # noqa: ARG001
    """Read a line at the node's local socket."""
    document = {"client": {"name": "Joko", "sex": "L"}, "purpose": "return_home", "timeout_s": 20}
    seeds = [
        json.dumps(document).encode(),
        b'{"client": {}, "timeout_s": 1e400}',
        b"[[[[",
        b'{"case_reference": "K-1"}',
    ]
    return Target(
        lambda data: parse_inquiry(parse_request(data), bytes(PSEUDONYM_BYTES)), (FieldValueError, NodeError), seeds
    )


def certificates(folder: Path) -> Target:
    """Read and verify a chain of certificates in PEM."""
    chain, root = _chain(folder)

    def feed(data: bytes) -> object:
        return verify_chain(read_certificates(data, "the chain"), read_certificates(root, "the root"))

    return Target(feed, (NodeError,), [chain, root, chain + root, b"-----BEGIN CERTIFICATE-----\n"])


def schema(folder: Path) -> Target:  # noqa: ARG001
    """Read a linkage schema as JSON."""

    def feed(data: bytes) -> object:
        return LinkageSchema.from_json(data.decode("utf-8", errors="surrogateescape"))

    return Target(feed, (SchemaError,), [PERSON_SCHEMA.canonical, b"{}", b"[1]"])


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


def _clients() -> list[Client]:
    return [
        Client(
            name="Contoh Nama",
            sex="L",
            born="1970-02-03",
            birthplace="Kebumen",
            mother_name="Siti Contoh",
            father_name="Made Contoh",
        ),
        Client(name="M. Contoh bin Nama", born="1958~3"),
        Client(name="Nama"),
    ]


def _keys() -> FieldKeys:
    return FieldKeys.derive(bytes(range(32)), PERSON_SCHEMA, EPOCH)


def _question(client: Client) -> bytes:
    header = QuestionHeader(
        nonce=bytes(NONCE_BYTES),
        case_reference="K-1",
        purpose=Purpose.SELF_TEST,
        operator_pseudonym=bytes(PSEUDONYM_BYTES),
        issued_at=NOW,
        deadline=NOW + timedelta(seconds=20),
    )
    return write_question(header, encode_client(client, _keys(), NOW.date()))


def _index(folder: Path) -> EncodedIndex:
    builder = IndexBuilder(folder, _keys())
    columns = {}
    for name in PERSON_SCHEMA.field_names:
        values: list[str | None] = [_value(name, number) for number in range(SOME_ROWS)]
        columns[name] = Column(values, np.arange(SOME_ROWS, dtype=np.int32))
    builder.add(RecordBatch([f"R{number}" for number in range(SOME_ROWS)], columns))
    builder.finish(NOW, SOME_ROWS)
    return EncodedIndex.open(folder, PERSON_SCHEMA.fingerprint, EPOCH, _keys().check)


def _value(field: str, number: int) -> str:
    names = ("Contoh", "Nama", "Siti", "Made", "Joko")
    values: dict[str, str] = {
        "sex": "LP"[number % 2],
        "birth_date": f"{1950 + number}-02-03",
        "birthplace": ("Kebumen", "Denpasar", "Kupang")[number % 3],
    }
    return values.get(field, f"{names[number % 5]} {names[number // 5 % 5]}")


def _put(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # never into a file that is mapped
    path.write_bytes(content)


def _corrected(manifest: bytes, path: Path) -> bytes:
    """Return the manifest as an attacker who can write files would leave it: the digest fits the changed file."""
    body: Any = json.loads(manifest)
    body["files"][path.name]["spot"] = spot_digest(path, path.stat().st_size)
    return json.dumps(body).encode()


def _chain(folder: Path) -> tuple[bytes, bytes]:
    """Return a node's leaf and intermediate, and their root, PEM."""
    authority = Authority.found(folder / "authority", "fuzz.test", NOW)
    home = NodeHome(folder / "node")
    write_config(home, make_config(federation="fuzz.test", province="33"))
    own = ProvinceAuthority(home)
    own.install(authority.issue_intermediate(own.prepare(NOW), "33", NOW), NOW, roots_pem=authority.root_pem)
    own.activate(NOW)
    return own.issue(request_certificate(home), NOW), authority.root_pem


TARGETS: Final[dict[str, Callable[[Path], Target]]] = {
    each.__name__: each
    for each in (
        question,
        answer,
        local_line,
        client_file,
        certificates,
        schema,
        mapping,
        backup,
        registry,
        index,
    )
}
