# ruff: noqa: F811 - fixtures are imported, and asked for by their names
"""A node's memory in a file and back, on both databases: nothing lost, no secret in it, nothing broken accepted."""

from __future__ import annotations

import asyncio
import gzip
import io
import random
import tarfile
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from node.backup import DATABASE, MANIFEST, create_backup, restore_backup, verify_backup
from node.errors import ConfigError, StoreError
from node.home import NodeHome
from node.messages import Answered
from node.pki.refresh import Mirror
from node.store import open_store
from tests.federation import JOKO, Federation, Node, crowd, encoded, header, now, peers_of
from tests.postgres import postgres_server  # noqa: F401 - the fixture
from tests.stores import entry, handle, store, url  # noqa: F401 - the fixtures

if TYPE_CHECKING:
    from pathlib import Path

    from node.store import Store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return Federation(tmp_path_factory.mktemp("federation"))


async def _ask(asker: Node, home: Node) -> object:
    async with peers_of(asker) as peers:
        return await peers.ask(home.member, encoded(asker), header(), deadline_s=20.0)


def test_a_restored_node_answers_and_remembers(made: Federation, tmp_path: Path) -> None:
    own, asker = made.node("33", [*crowd(30, seed=1), JOKO]), made.node("35")
    memory, keys = tmp_path / "memory.tar.gz", tmp_path / "keys.tar.gz"
    with own.running():
        assert isinstance(asyncio.run(_ask(asker, own)), Answered)
        create_backup(own.home, memory, now(), keys_out=keys)  # beside the running node
    before = own.audit()
    own.home.root.rename(tmp_path / "lost")

    restored = restore_backup(memory, own.home, keys=keys)
    assert restored.manifest.province == "33"
    assert own.audit() == before
    assert (memory.stat().st_mode & 0o777, keys.stat().st_mode & 0o777) == (0o600, 0o600)
    own.publish([*crowd(30, seed=1), JOKO])
    with own.running():
        assert isinstance(asyncio.run(_ask(asker, own)), Answered)
    assert [row.number for row in own.audit()][: len(before)] == [row.number for row in before]
    assert len(own.audit()) > len(before)


def test_a_backup_beside_a_node_whose_list_is_renewed_all_the_while_is_of_one_moment(
    made: Federation, tmp_path: Path
) -> None:
    own, over = made.node("36"), threading.Event()

    def renew() -> None:
        while not over.is_set():
            made.publish()
            made.signing.join(own.home)

    renewing = threading.Thread(target=renew)
    renewing.start()
    try:
        for number in range(15):
            create_backup(own.home, tmp_path / f"{number}.tar.gz", now())
    finally:
        over.set()
        renewing.join()
    versions = []
    for number in range(15):
        home = NodeHome(tmp_path / str(number))
        restore_backup(tmp_path / f"{number}.tar.gz", home)
        versions.append(Mirror(home.tuf).load().membership.version)
    assert versions == sorted(versions)
    assert versions[0] < versions[-1]


def test_memory_holds_no_key_and_no_secret(made: Federation, tmp_path: Path) -> None:
    own = made.node("51")
    memory = tmp_path / "memory.tar.gz"
    create_backup(own.home, memory, now())
    content = gzip.decompress(memory.read_bytes())
    secret = own.home.epoch_secret(1).read_bytes().strip()
    assert secret not in content
    assert b"PRIVATE KEY" not in content
    with tarfile.open(memory) as archive:
        names = archive.getnames()
    assert names[0] == MANIFEST
    assert {DATABASE, "node.toml"} <= set(names)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_every_row_comes_back_from_either_database_into_the_other(
    url: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with closing(open_store(url)) as first:
        for number in range(25):
            first.record_answer(entry(number), [handle(number)])
        lines = list(first.dump())
        rows = first.audit_entries()
    if kind == "sqlite":
        _load_and_compare(f"sqlite:///{tmp_path}/other.db", lines, rows)
        return
    with request.getfixturevalue("postgres_server").database() as database:
        _load_and_compare(database, lines, rows)


def _load_and_compare(target: str, lines: list[bytes], rows: object) -> None:
    with closing(open_store(target)) as second:
        assert second.load(lines) == len(lines) - 2
        assert second.audit_entries() == rows
        assert list(second.dump()) == lines
        with pytest.raises(StoreError, match="holds records already"):
            second.load(lines)
        second.record_answer(entry(99))
        numbers = [each.number or 0 for each in second.audit_entries()]
        assert numbers == sorted(set(numbers)), "its counter goes on after the restored rows"


def test_lines_that_are_cut_off_or_changed_are_refused_whole(store: Store, tmp_path: Path) -> None:
    store.record_answer(entry(1), [handle(1)])
    lines = list(store.dump())
    broken = {
        "nothing": [],
        "no end": lines[:-1],
        "a row less": [lines[0], *lines[2:]],
        "a row more": [*lines[:-1], lines[1], lines[-1]],
        "after the end": [*lines, lines[-1]],
        "another version": [lines[0].replace(b'"schema":"', b'"schema":"9'), *lines[1:]],
        "not JSON": [lines[0], b"{", *lines[2:]],
        "half a line": [*lines[:-1], lines[-1][:-1]],
        "unknown column": [lines[0], lines[1].replace(b'"at"', b'"as"'), *lines[2:]],
    }
    for number, (what, content) in enumerate(broken.items()):
        with closing(open_store(f"sqlite:///{tmp_path}/{number}.db")) as other:
            with pytest.raises((ConfigError, StoreError)):
                other.load(content)
            assert other.audit_entries() == (), what


def test_every_damage_to_the_file_is_found(made: Federation, tmp_path: Path) -> None:
    own = made.node("52")
    whole = tmp_path / "whole.tar.gz"
    create_backup(own.home, whole, now())
    assert verify_backup(whole).province == "52"
    content = gzip.decompress(whole.read_bytes())
    chance = random.Random(7)
    path = tmp_path / "broken.tar.gz"
    with tarfile.open(whole) as archive:
        inside = [place for each in archive for place in (each.offset_data, each.offset_data + max(0, each.size - 1))]
    places = [place for place in inside if place < len(content)]
    for place in [*places, *chance.sample(places, min(3, len(places)))]:
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        if changed == content:
            continue
        path.write_bytes(gzip.compress(bytes(changed)))
        with pytest.raises(ConfigError):
            verify_backup(path)
    for length in (0, 1, len(whole.read_bytes()) // 2, len(whole.read_bytes()) - 30):
        path.write_bytes(whole.read_bytes()[:length])
        with pytest.raises(ConfigError):
            verify_backup(path)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil"])
def test_nothing_is_written_outside_the_folder(made: Federation, tmp_path: Path, name: str) -> None:
    own = made.node("53")
    whole = tmp_path / "whole.tar.gz"
    create_backup(own.home, whole, now())
    evil = tmp_path / "evil.tar.gz"
    with tarfile.open(whole) as source, tarfile.open(evil, "w:gz") as target:
        for member in source:
            stream = source.extractfile(member)
            assert stream is not None
            data = stream.read()
            if member.name == MANIFEST:
                data = data.replace(b'"node.toml"', f'"{name}"'.encode())
                member.size = len(data)
            if member.name == "node.toml":
                member.name = name
            target.addfile(member, io.BytesIO(data))
    with pytest.raises(ConfigError):
        restore_backup(evil, NodeHome(tmp_path / "home"))
    assert not (tmp_path / "home").exists()
    assert not (tmp_path / "evil").exists()


def test_an_existing_folder_file_or_database_is_never_overwritten(made: Federation, tmp_path: Path) -> None:
    own = made.node("18")
    memory = tmp_path / "memory.tar.gz"
    create_backup(own.home, memory, now())
    with pytest.raises(ConfigError, match="exists already"):
        create_backup(own.home, memory, now())
    with pytest.raises(ConfigError, match="exists already"):
        restore_backup(memory, own.home)
    full = f"sqlite:///{tmp_path}/full.db"
    with closing(open_store(full)) as taken:
        taken.record_answer(entry(1))
    with pytest.raises(StoreError, match="holds records already"):
        restore_backup(memory, NodeHome(tmp_path / "new"), database_url=full)
    assert not (tmp_path / "new").exists()
    assert list(tmp_path.glob(".new*")) == []
    with pytest.raises(ConfigError, match="not of its keys"):
        restore_backup(memory, NodeHome(tmp_path / "new"), keys=memory)
