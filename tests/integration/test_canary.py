"""Nothing a person said about a client, and nothing a registry says of one, is found where it must not be.

Made-up names, places and dates that occur nowhere else are put in at every door, good values and bad ones; then every
file under the nodes' folders and every message that crossed a border is searched for them, in every form in which text
is usually found.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
import pytest

from matching.names import parse_name
from matching.phonetics import token_forms
from matching.question import Client
from node.local_client import socket_address
from node.rpc.client import ASK
from node.rpc.wire import MAX_REQUEST_BYTES, write_question
from proto.pulang.exchange.v1 import exchange_pb2 as pb
from tests.federation import Federation, Node, Person, crowd, encoded, header
from tests.raw_calls import call, channel_of, refused_with, rogue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# No word of them is a name, a place or a word anywhere else in the project.
PERSON: Person = {
    "record_id": "REC-90417",
    "name": "Quirzandro Vextomulya",
    "mother_name": "Zwahningtyas Drublika",
    "father_name": "Pjoxander Grwimbolo",
    "birthplace": "Xylvanggeri",
    "birth_date": "1923-11-29",
    "sex": "L",
}
CLIENT = Client(
    name="Kwirsandro Wextomuljo", sex="L", born="29-11-1923", birthplace="Silwanggeri", mother_name="Zwahning Drublica"
)
BAD_DATE = "31-Zblunuari-1923"
BAD_SEX = "Qwemplar"
BAD_NAME = "Hrozvitkan"  # in places where no name may stand
DATES = ("1923-11-29", "29-11-1923", "29/11/1923", "19231129", "29111923")
MIN_CHARS = 6  # a shorter normalised form would be found by chance


@dataclass
class Borders:
    """What crossed the border between provinces, as bytes."""

    messages: list[bytes] = field(default_factory=list)


def canary_words() -> set[str]:
    """Every planted word, as planted and as the linkage core normalises it."""
    texts = [PERSON[key] for key in ("name", "mother_name", "father_name", "birthplace")]
    texts += [CLIENT.name, CLIENT.birthplace or "", CLIENT.mother_name or "", BAD_NAME]
    words = {word for text in texts for word in text.split()}
    for text in texts:
        for token in parse_name(text).tokens:
            forms = token_forms(token)
            words |= {token, forms.spelling, forms.sound, *forms.alternates}
    words |= {BAD_SEX, "Zblunuari", *DATES}
    return {word for word in words if len(word) >= MIN_CHARS}


def forms_of(word: str) -> set[bytes]:
    """Return the bytes a word leaves behind: in either case, in UTF-8 and UTF-16, as hex and inside base64."""
    plain = {case.encode() for case in (word, word.lower(), word.upper(), word.capitalize())}
    found = plain | {text.decode().encode(f"utf-16-{order}") for text in plain for order in ("le", "be")}
    found |= {text.hex().encode() for text in plain} | {text.hex().upper().encode() for text in plain}
    in_base64 = {base64_inside(text, before) for text in plain for before in range(3)}
    return found | in_base64 | {text.translate(bytes.maketrans(b"+/", b"-_")) for text in in_base64}


def base64_inside(text: bytes, before: int) -> bytes:
    """Return what base64 makes of a text that `before` bytes stand before; characters that neighbours share are cut."""
    whole = base64.b64encode(b"\0" * before + text).rstrip(b"=")
    return whole[(0, 2, 3)[before] : len(whole) - (1 if (before + len(text)) % 3 else 0)]


FORMS = {form: word for word in sorted(canary_words()) for form in forms_of(word)}


def leaks(data: bytes) -> set[str]:
    """Return the planted words that can be found in some bytes."""
    return {word for form, word in FORMS.items() if form in data}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Two nodes; one has the person. Both are stopped before anything is searched."""
    made = Federation(tmp_path_factory.mktemp("canary"))
    try:
        made.node("33")
        made.node("35", crowd(100, seed=5))
        made.node("36")
        import_with_bad_rows(made.nodes["33"], made.root / "registry.csv")
        for code in ("33", "35"):
            made.nodes[code].start()
        yield made
    finally:
        made.stop()


async def test_no_file_and_no_message_holds_what_was_planted(asked: Federation, tmp_path: Path) -> None:
    borders = Borders()

    async def listen_in(data: bytes) -> bytes:
        borders.messages.append(data)
        return b"\xff not an answer " + BAD_NAME.encode()

    own, other = asked.nodes["33"], asked.nodes["35"]
    async with rogue(asked, asked.nodes["36"], listen_in):
        found = await asyncio.to_thread(find, other, client_document())
    assert found.returncode in {0, 10, 12}, found.stderr
    shown = json.loads(found.stdout)
    assert [each["state"] for each in shown["heard"] if each["code"] == "36"] == ["broke_contract"]
    assert borders.messages, "the question did not reach the peer that listened in"

    await provoke_the_port(asked, borders)
    provoke_the_socket(other)
    errors = [provoked.stderr + provoked.stdout for provoked in provoke_the_command(other, tmp_path)]

    for node in (own, other):
        node.stop()
    places = {str(file): file.read_bytes() for node in (own, other) for file in files_of(node)}
    places |= {f"message {number}": data for number, data in enumerate(borders.messages)}
    places |= {f"error {number}": text.encode() for number, text in enumerate(errors)}
    places["output of find"] = (found.stdout + found.stderr).encode()
    assert len(places) > 60, "fewer files than two nodes have"
    assert {place: words for place, data in places.items() if (words := leaks(data))} == {}

    record_id = PERSON["record_id"].encode()
    assert not [place for place, data in places.items() if "message" in place and record_id in data]
    assert record_id not in b"".join(data for place, data in places.items() if place.endswith("/log"))
    assert any(record_id in data for data in places.values()), "the person was not in any index"


def import_with_bad_rows(node: Node, file: Path) -> None:
    """Import the person among others, and rows that are refused for what is planted in them."""
    bad: list[Person] = [
        PERSON | {"record_id": "REC-1", "birth_date": BAD_DATE, "sex": BAD_SEX},
        PERSON | {"record_id": "REC-2", "name": "?!"},
        PERSON | {"record_id": "", "name": BAD_NAME},
        PERSON | {"record_id": "REC-3", "birthplace": f'{BAD_NAME}" {BAD_NAME}'},
    ]
    lines = [";".join(PERSON)]
    lines += [";".join(person.get(key, "") for key in PERSON) for person in [*crowd(150, seed=3), PERSON, *bad]]
    lines.insert(40, f"REC-4;{BAD_NAME};{BAD_NAME}")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    refused = registry_import(node, file, "--max-rejects", "0")
    assert refused.returncode == 65, refused.stderr
    done = registry_import(node, file, "--max-rejects", "0.5")
    assert done.returncode == 0, done.stderr
    assert any(node.home.rejects.iterdir())
    # The guess is shown for confirmation: names of columns, never of persons.
    assert leaks((refused.stdout + refused.stderr + done.stdout + done.stderr).encode()) == set()


def registry_import(node: Node, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["registry", "import", "--home", str(node.home.root), str(file), "--yes", *options]
    return subprocess.run(
        [sys.executable, "-m", "node.cli.main", *command],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def client_document(**changes: str) -> dict[str, str]:
    known = {
        "name": CLIENT.name,
        "sex": CLIENT.sex,
        "born": CLIENT.born,
        "birthplace": CLIENT.birthplace,
        "mother": CLIENT.mother_name,
    }
    return {key: value for key, value in (known | changes).items() if value}


def find(node: Node, document: object) -> subprocess.CompletedProcess[str]:
    """Ask as a caseworker's program does: the client on standard input."""
    return subprocess.run(
        [sys.executable, "-m", "node.cli.main", "find", "--home", str(node.home.root), "--json", "--from", "-"],
        input=document if isinstance(document, str) else json.dumps(document),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


async def provoke_the_port(federation: Federation, borders: Borders) -> None:
    """Send a node what a broken or wicked peer may send, with names in every place where bytes fit."""
    asked, asker = federation.nodes["33"], federation.nodes["35"]
    good = write_question(header(), encoded(asker, CLIENT))
    named = pb.AskRequest.FromString(good)
    named.header.case_reference = f"{BAD_NAME} {CLIENT.name}"
    filtered = pb.AskRequest.FromString(good)
    filtered.match.name.tokens[0].variants[0] = BAD_NAME.encode().ljust(64)[:63]
    async with channel_of(federation, asked, as_node=asker) as channel:
        borders.messages += [good, await call(channel, ASK, good)]
        for broken in (named, filtered):
            borders.messages.append(await call(channel, ASK, broken.SerializeToString()))
        for data in (BAD_NAME.encode() * 9, good[:-7] + BAD_NAME.encode()):
            _, text = await refused_with(channel, ASK, data)
            borders.messages.append(text.encode())
        status, text = await refused_with(channel, f"/{BAD_NAME}/{BAD_NAME}", good)
        assert status in {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED}
        status, _ = await refused_with(channel, ASK, BAD_NAME.encode() * (MAX_REQUEST_BYTES // 8))
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED


def provoke_the_socket(node: Node) -> None:
    """Say to the node's own socket what only another program would say."""
    lines = (
        f"{BAD_NAME}\n",
        json.dumps({"client": {"name": CLIENT.name}, BAD_NAME: 1}) + "\n",
        json.dumps({"client": {BAD_NAME: CLIENT.name}}) + "\n",
        json.dumps({"client": {"name": CLIENT.name}, "case_reference": f"{BAD_NAME} {BAD_NAME}"}) + "\n",
        json.dumps({"client": {"name": CLIENT.name}, "purpose": BAD_NAME}) + "\n",
        json.dumps({"client": {"name": CLIENT.name}})[:-4],
    )
    for line in lines:
        with socket.socket(socket.AF_UNIX) as connection, socket_address(node.home.socket) as address:
            connection.settimeout(60)
            connection.connect(address)
            connection.sendall(line.encode())
            connection.shutdown(socket.SHUT_WR)
            reply = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))  # type: ignore[misc]
            assert b'"event": "error"' in reply
            assert leaks(reply) == set()


def provoke_the_command(node: Node, folder: Path) -> Iterator[subprocess.CompletedProcess[str]]:
    """Give `pulang find` clients that cannot be asked about; every one is refused without repeating it."""
    (folder / "client.toml").write_text(f'name = "{CLIENT.name}"\n{BAD_NAME}\n')
    documents: tuple[object, ...] = (
        client_document(born=BAD_DATE),
        client_document(sex=BAD_SEX),
        client_document(name="?!"),
        client_document(name=CLIENT.name * 20),
        client_document(name=f"{CLIENT.name}\x07"),
        {"name": CLIENT.name, BAD_NAME: "x"},
        {"name": [CLIENT.name]},
        f'{{"name": "{CLIENT.name}", {BAD_NAME}',
        (folder / "client.toml").read_text(),
    )
    for document in documents:
        done = find(node, document)
        assert done.returncode in {65, 78}, (document, done.returncode, done.stderr)
        yield done


def files_of(node: Node) -> Iterator[Path]:
    """Every file of a node's folder: database with its log, index, rejects, log, keys."""
    for file in sorted(node.home.root.rglob("*")):
        if file.is_file() and not file.is_symlink():
            yield file


@pytest.mark.parametrize("word", ["Quirzandro", "vextomulya", "1923-11-29"])
def test_the_search_finds_a_planted_word_in_every_form(word: str) -> None:
    for text in (word, word.upper(), word.lower()):
        raw = f"name={text};".encode()
        hidden = (
            raw,
            raw.decode().encode("utf-16-le"),
            raw.decode().encode("utf-16-be"),
            raw.hex().encode(),
            base64.b64encode(raw),
            base64.b64encode(b"1" + raw),
            base64.b64encode(b"12" + raw),
            pb.Refused(detail=text).SerializeToString(),
        )
        for data in hidden:
            assert leaks(b"\0" + data + b"\0"), (text, data)
    assert leaks(b"an innocent sentence about Sutrisno, 1970-01-01") == set()


def test_an_index_built_with_a_raw_column_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "name.raw").write_bytes(PERSON["name"].upper().encode("utf-16-le"))
    assert leaks((tmp_path / "name.raw").read_bytes())
