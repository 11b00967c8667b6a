"""The index keeps what was imported, refuses what is not its own, and never holds a raw value."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from matching.at_rest import AtRestKey
from matching.errors import IndexDamagedError, SchemaError, SchemaMismatchError
from matching.index import FORMAT, MANIFEST, EncodedIndex, IndexBuilder, Manifest, RowIssue, spot_digest
from matching.keys import FieldKeys
from matching.schema import PERSON_SCHEMA
from matching.texts import Texts
from tests.people import KEYS, NOW, SECRET, batch, build, crowd

if TYPE_CHECKING:
    from pathlib import Path


def test_every_person_comes_back_with_its_record_id(tmp_path: Path) -> None:
    rows = crowd(2500)
    index, issues = build(tmp_path / "g", rows)
    assert issues == []
    assert {index.record_id(row) for row in range(index.size)} == {row[0] for row in rows}
    assert index.size == len(rows)


def test_rows_lie_in_blocks_that_are_sorted_by_the_first_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = crowd(700)
    whole, _ = build(tmp_path / "whole", rows)
    of_id = {whole.record_id(row): numbers for row, numbers in enumerate(whole.numbers().T.tolist())}
    monkeypatch.setattr("matching.index.BLOCK_PERSONS", 64)
    index, _ = build(tmp_path / "blocks", rows, size=100)
    came = {row[0]: place for place, row in enumerate(rows)}
    starts = []
    for start, block in index.blocks():
        starts.append(start)
        assert block.shape == (len(PERSON_SCHEMA.fields), min(64, 700 - start))
        ids = [index.record_id(start + place) for place in range(block.shape[1])]
        order = [(int(number), came[record_id]) for number, record_id in zip(block[0], ids, strict=True)]
        assert order == sorted(order)
        assert {place // 64 for _, place in order} == {start // 64}
    assert starts == list(range(0, 700, 64))
    assert {index.record_id(row): numbers for row, numbers in enumerate(index.numbers().T.tolist())} == of_id
    some = np.array([699, 0, 63, 64, 64])
    assert index.numbers(some).T.tolist() == [of_id[index.record_id(row)] for row in some.tolist()]


def test_batches_of_any_size_make_the_same_index(tmp_path: Path) -> None:
    rows = crowd(700)
    one, _ = build(tmp_path / "one", rows, size=700)
    many, _ = build(tmp_path / "many", rows, size=13)
    digests = [{name: entry.sha256 for name, entry in index.manifest.files.items()} for index in (one, many)]
    assert digests[0] == digests[1]


def test_order_of_name_tokens_makes_no_second_name(tmp_path: Path) -> None:
    index, _ = build(
        tmp_path / "g", [("1", "Siti Aminah", None, None, None, None)] * 2 + [("2", "AMINAH SITI") + (None,) * 4]
    )
    assert set(index.numbers()[0]) == {1}
    assert index.array("name.counts").tolist() == [0, 3]


def test_persons_without_a_name_are_rejected_and_odd_values_are_missing(tmp_path: Path) -> None:
    rows = [
        ("1", "Slamet", "L", "1950-02-31", "JEMBER", None),
        ("2", "...", "L", "1950-02-03", "JEMBER", None),
        ("3", None, "L", None, None, None),
        ("4", "Slamet", "banana", "1950", None, None),
        ("", "Slamet", "L", "1950", None, None),
    ]
    index, issues = build(tmp_path / "g", rows)
    assert index.size == 2
    assert {(i.row, i.field, i.rejected) for i in issues} == {
        (0, "birth_date", False),
        (1, "name", True),
        (2, "name", True),
        (3, "sex", False),
        (4, "record_id", True),
    }
    assert all("banana" not in issue.reason and "31" not in issue.reason for issue in issues)
    assert isinstance(issues[0], RowIssue)


def test_father_and_mother_named_inside_the_name_fill_their_own_fields(tmp_path: Path) -> None:
    index, _ = build(tmp_path / "g", [("1", "Ahmad bin Slamet", "L", None, None, None)])
    father = PERSON_SCHEMA.field_names.index("father_name")
    assert index.numbers()[father, 0] == 1


def test_a_newborn_without_a_name_is_kept_under_its_mothers(tmp_path: Path) -> None:
    rows = [("1", "By. Ny. Siti Aminah", "L", None, None, None), ("2", "...", "L", None, None, "Siti Aminah")]
    index, issues = build(tmp_path / "g", rows)
    name, mother = (PERSON_SCHEMA.field_names.index(field) for field in ("name", "mother_name"))
    assert index.numbers()[[name, mother]].tolist() == [[0], [1]]
    assert [issue.row for issue in issues] == [1]


def test_an_empty_registry_is_not_finished(tmp_path: Path) -> None:
    builder = IndexBuilder(tmp_path / "g", KEYS)
    with pytest.raises(SchemaError, match="no person"):
        builder.finish(NOW, 0)
    builder.abandon()
    assert not (tmp_path / "g").exists()


def test_no_file_holds_a_name(tmp_path: Path) -> None:
    build(tmp_path / "g", [("1", "Zyxwvutius Qanary", "L", "1950-02-03", "JEMBER", "Qmother")])
    everything = b"".join(path.read_bytes().lower() for path in (tmp_path / "g").iterdir())
    for piece in (b"zyxwv", b"qanary", b"kanari", b"qmother", b"jember", b"1950"):
        assert piece not in everything


@pytest.mark.parametrize("name", ["rows", "name.filters", "record_ids.bytes", "birth_date.values"])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    build(tmp_path / "g", crowd(200))
    path = tmp_path / "g" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IndexDamagedError, match=name):
        EncodedIndex.open(tmp_path / "g", *KEYS.identity)


def test_a_file_of_another_generation_is_refused(tmp_path: Path) -> None:
    build(tmp_path / "a", crowd(200, seed=1))
    build(tmp_path / "b", crowd(200, seed=2))
    shutil.copy(tmp_path / "b" / "rows", tmp_path / "a" / "rows")
    with pytest.raises(IndexDamagedError, match="rows"):
        EncodedIndex.open(tmp_path / "a", *KEYS.identity)


def test_a_flipped_bit_is_found_by_verify(tmp_path: Path) -> None:
    index, _ = build(tmp_path / "g", crowd(5000))
    index.verify(tmp_path / "g")
    path = tmp_path / "g" / "rows"
    data = bytearray(path.read_bytes())
    data[len(data) // 30] ^= 1
    path.write_bytes(data)
    with pytest.raises(IndexDamagedError, match="rows"):
        index.verify(tmp_path / "g")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}', '{"format": "pulang-index-2"}'])
def test_a_torn_manifest_is_refused(tmp_path: Path, text: str) -> None:
    build(tmp_path / "g", crowd(50))
    (tmp_path / "g" / MANIFEST).write_text(text)
    with pytest.raises(IndexDamagedError, match=MANIFEST):
        EncodedIndex.open(tmp_path / "g", *KEYS.identity)


FOREIGN = ["../rows", "/etc/rows", "", "name." + "x" * 300, "nam\\u00e9.rows", "a\\u0000.rows", "\\ud800.rows"]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_manifest_that_names_no_file_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    build(tmp_path / "g", crowd(50))
    path = tmp_path / "g" / MANIFEST
    path.write_text(path.read_text().replace('"rows"', f'"{name}"'))
    with pytest.raises(IndexDamagedError, match="names no file of an index"):
        EncodedIndex.open(tmp_path / "g", *KEYS.identity)


@pytest.mark.parametrize("left_out", [*PERSON_SCHEMA.field_names, None])
def test_a_manifest_whose_schema_is_not_that_of_its_fingerprint_is_refused(
    tmp_path: Path, left_out: str | None
) -> None:
    """Else a search would look for fields in rows that have fewer: the compiled kernels do not check bounds."""
    build(tmp_path / "g", crowd(50))
    path, rows = tmp_path / "g" / MANIFEST, tmp_path / "g" / "rows"
    manifest = json.loads(path.read_text())
    schema = json.loads(manifest["schema"])
    schema["fields"] = [field for field in schema["fields"] if left_out and field["name"] != left_out]
    manifest["schema"] = json.dumps(schema)
    rows.write_bytes(rows.read_bytes()[: 50 * 4 * len(schema["fields"])])
    manifest["files"]["rows"] |= {"shape": [50 * len(schema["fields"])], "spot": spot_digest(rows, rows.stat().st_size)}
    path.write_text(json.dumps(manifest, indent=1) + "\n")
    with pytest.raises(IndexDamagedError, match="does not describe an index"):
        EncodedIndex.open(tmp_path / "g", *KEYS.identity)


@pytest.mark.parametrize(("key", "value"), [("persons", "1e999"), ("persons", "-1"), ("source_rows", "1e999")])
def test_a_manifest_of_impossible_numbers_is_refused(tmp_path: Path, key: str, value: str) -> None:
    build(tmp_path / "g", crowd(50))
    path = tmp_path / "g" / MANIFEST
    path.write_text(path.read_text().replace(f'"{key}": 50', f'"{key}": {value}'))
    with pytest.raises(IndexDamagedError):
        EncodedIndex.open(tmp_path / "g", *KEYS.identity)


def test_an_index_of_another_version_is_called_that_and_whole(tmp_path: Path) -> None:
    build(tmp_path / "g", crowd(50))
    path = tmp_path / "g" / MANIFEST
    path.write_text(path.read_text().replace(FORMAT, "pulang-index-4"))
    with pytest.raises(
        IndexDamagedError, match=rf"another version of Pulang, whole but of format pulang-index-4.*{FORMAT}"
    ):
        EncodedIndex.open(tmp_path / "g", *KEYS.identity)


def test_rows_that_are_not_there_have_no_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matching.index.BLOCK_PERSONS", 16)
    index, _ = build(tmp_path / "g", crowd(50))
    for row in (-1, 50):
        with pytest.raises(IndexError):
            index.numbers(np.array([row]))


def test_putting_long_ids_in_order_takes_no_more_memory_than_the_ids(tmp_path: Path) -> None:
    ids = Texts.of([f"{number:0200}" for number in range(100_000)])
    places = np.arange(len(ids))[::-1]
    tracemalloc.start()
    try:
        taken = ids.take(places)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken.at(0) == f"{99_999:0200}".encode()
    assert peak < 6 * len(ids.data), "the bytes, and not eight more for each of them"


def test_a_folder_without_manifest_was_never_finished(tmp_path: Path) -> None:
    builder = IndexBuilder(tmp_path / "g", KEYS)
    builder.add(batch(crowd(10)))
    with pytest.raises(IndexDamagedError, match="not a finished index"):
        EncodedIndex.open(tmp_path / "g", *KEYS.identity)
    builder.abandon()


def test_another_epoch_or_schema_is_refused_naming_both(tmp_path: Path) -> None:
    build(tmp_path / "g", crowd(50))
    other = FieldKeys.derive(SECRET, PERSON_SCHEMA, 2)
    with pytest.raises(SchemaMismatchError, match=r"epoch 2.*epoch 1"):
        EncodedIndex.open(tmp_path / "g", *other.identity)


@pytest.mark.parametrize("name", ["rows", "name.tokens", "name.near_tokens", "name.near"])
def test_numbers_that_point_nowhere_are_refused_at_opening(tmp_path: Path, name: str) -> None:
    """The compiled kernels do not check bounds: a changed byte must not become a read outside the index."""
    build(tmp_path / "g", crowd(20_000))
    path = tmp_path / "g" / name
    data = bytearray(path.read_bytes())
    middle = len(data) // 30 // 4 * 4  # between two of the spots that opening hashes
    data[middle : middle + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    with pytest.raises(IndexDamagedError):
        EncodedIndex.open(tmp_path / "g", *KEYS.identity)


def test_an_index_of_another_secret_is_refused_before_it_finds_nobody(tmp_path: Path) -> None:
    other = FieldKeys.derive(SECRET[::-1], PERSON_SCHEMA, 1)
    build(tmp_path / "g", crowd(50), keys=other)
    with pytest.raises(SchemaMismatchError, match="key"):
        EncodedIndex.open(tmp_path / "g", *KEYS.identity, KEYS.check)


def test_a_column_of_unreadable_dates_names_every_row(tmp_path: Path) -> None:
    rows = [(str(i), "Slamet", None, f"1950-13-{i:02}", None, None) for i in range(1, 29)]
    index, issues = build(tmp_path / "g", rows)
    assert index.size == len(rows)
    assert [issue.row for issue in issues] == list(range(28))


def test_manifest_round_trips(tmp_path: Path) -> None:
    index, _ = build(tmp_path / "g", crowd(50))
    assert Manifest.read(tmp_path / "g") == index.manifest


def test_only_the_owner_may_read_an_index(tmp_path: Path) -> None:
    build(tmp_path / "g", crowd(50))
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "g").iterdir()} == {0o600}
    assert (tmp_path / "g").stat().st_mode & 0o777 == 0o700


def test_many_names_outgrow_the_first_interning_table(tmp_path: Path) -> None:
    alphabet = "bcdfghjklmnprst"
    names = [f"{a}a{b}i{c}u{d}an" for a in alphabet for b in alphabet for c in alphabet for d in alphabet[:12]]
    rows = [(str(i), name, None, None, None, None) for i, name in enumerate(names)]
    index, _ = build(tmp_path / "g", rows, size=7000)
    assert len(np.unique(index.numbers()[0])) == len(set(names))
    assert index.array("name.counts").sum() == len(names)


SEAL = AtRestKey(bytes(range(32)))


def sealed(folder: Path, key: AtRestKey = SEAL) -> EncodedIndex:
    return EncodedIndex.open(folder, *KEYS.identity, KEYS.check, at_rest=key)


@pytest.fixture
def sealed_folder(tmp_path: Path) -> Path:
    builder = IndexBuilder(tmp_path / "sealed", KEYS, at_rest=SEAL)
    builder.add(batch(crowd(200)))
    builder.finish(NOW, 200)
    return tmp_path / "sealed"


def test_a_sealed_index_holds_what_an_open_one_does_and_shows_none_of_it(tmp_path: Path, sealed_folder: Path) -> None:
    builder = IndexBuilder(tmp_path / "open", KEYS)
    builder.add(batch(crowd(200)))
    builder.finish(NOW, 200)
    with EncodedIndex.open(tmp_path / "open", *KEYS.identity) as plain, sealed(sealed_folder) as index:
        assert sorted(index.manifest.files) == sorted(plain.manifest.files)
        for name in plain.manifest.files:
            assert np.array_equal(index.array(name), plain.array(name))
            assert not index.array(name).flags.writeable
            lying = (sealed_folder / name).read_bytes()
            block = plain.array(name).tobytes()[:32]
            assert len(block) < 16 or block not in lying
        index.verify(sealed_folder)


def test_every_changed_byte_of_a_sealed_index_is_found(sealed_folder: Path) -> None:
    for path in sorted(sealed_folder.iterdir()):
        whole = path.read_bytes()
        for place in {0, len(whole) // 2, len(whole) - 1} if whole else ():
            changed = bytearray(whole)
            changed[place] ^= 1
            path.write_bytes(changed)
            with pytest.raises(IndexDamagedError):
                sealed(sealed_folder)
        path.write_bytes(whole[:-2] if whole else b"x")
        with pytest.raises(IndexDamagedError):
            sealed(sealed_folder)
        path.write_bytes(whole)
    sealed(sealed_folder).close()


def test_a_sealed_index_needs_its_own_nodes_key_and_an_open_one_is_not_taken_for_it(
    tmp_path: Path, sealed_folder: Path
) -> None:
    with pytest.raises(IndexDamagedError, match="another node's key"):
        sealed(sealed_folder, AtRestKey(bytes(range(1, 33))))
    with pytest.raises(IndexDamagedError, match="no key to it"):
        EncodedIndex.open(sealed_folder, *KEYS.identity)
    builder = IndexBuilder(tmp_path / "open", KEYS)
    builder.add(batch(crowd(200)))
    builder.finish(NOW, 200)
    with pytest.raises(IndexDamagedError, match="lies open"):
        sealed(tmp_path / "open")


def test_files_of_two_sealed_generations_cannot_be_mixed(tmp_path: Path, sealed_folder: Path) -> None:
    builder = IndexBuilder(tmp_path / "other", KEYS, at_rest=SEAL)
    builder.add(batch(crowd(200)))
    builder.finish(NOW, 200)
    (sealed_folder / "rows").write_bytes((tmp_path / "other" / "rows").read_bytes())
    with pytest.raises(IndexDamagedError, match="rows"):
        sealed(sealed_folder)


def test_a_column_of_titles_counts_instead_of_what_the_name_says(tmp_path: Path) -> None:
    place = PERSON_SCHEMA.field_names.index("title")
    rows = [("1", "Slamet", "Haji"), ("2", "H. Slamet", None), ("3", "H. Slamet", "S.Pd")]
    index, _ = build(tmp_path / "g", rows, columns=("record_id", "name", "title"))
    numbers = index.numbers()[place].tolist()
    tokens = [int(index.array("title.values")[number, 0]) for number in numbers]
    assert tokens == [KEYS.token("title", "title", "haji"), 0, KEYS.token("title", "title", "spd")]
