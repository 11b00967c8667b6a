"""Bulk linkage finds what a plain loop finds, loses little behind its blocks, and says what it lost."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from benchmarks import link as bench
from benchmarks.match import REGISTRY_COLUMNS, bench_keys
from benchmarks.populations import TODAY, generate
from matching.blocking import BlockEncoder, Blocks
from matching.encoding import encode_client
from matching.errors import SchemaError, SchemaMismatchError
from matching.keys import FieldKeys
from matching.link import LinkBatch, LinkRecord, link, one_to_one, select
from matching.question import Client
from matching.schema import PERSON_SCHEMA, FieldKind, FieldSpec, LinkageSchema
from matching.search import field_levels, pruning_order
from matching.weights import load_model
from node.cli.main import cli
from node.errors import ConfigError
from tests.people import KEYS, NOW, SECRET, build, crowd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODEL = load_model()
DJOKO = Client("Djoko Soesilo", "L", "1958", "Kebumen", "Siti Aminah")
JOKO = ("HOME", "JOKO SUSILO", "L", "1958-04-03", "KEBUMEN", "SITI AMINAH")


def record(client: Client = DJOKO, *, record_id: str = "A1", keys: FieldKeys = KEYS) -> LinkRecord:
    return LinkRecord(record_id, encode_client(client, keys, TODAY))


# --- Links


def test_weights_are_those_of_a_plain_loop_over_every_pair(tmp_path: Path) -> None:
    index, _ = build(tmp_path / "g", [*crowd(600), JOKO])
    query = record().query
    levels = [field_levels(index, query, MODEL, name) for name in PERSON_SCHEMA.field_names]
    histograms = [
        np.bincount(level, weights=index.array(f"{spec.name}.counts"), minlength=spec.levels).astype(np.int64)
        for spec, level in zip(PERSON_SCHEMA.fields, levels, strict=True)
    ]
    bits = MODEL.bits(query, histograms, discounted=True)
    rows = index.numbers().T
    plain = [sum(float(bits[f, levels[f][row[f]]]) for f in range(len(levels))) for row in rows]
    found = next(link([record()], index, MODEL, threshold_bits=0.0))
    expected = sorted((row for row, weight in enumerate(plain) if weight >= 0), key=lambda row: (-plain[row], row))
    assert found.rows.tolist() == expected
    assert found.bits == pytest.approx([plain[row] for row in expected], abs=1e-3)
    assert found.compared == index.size


def test_blocks_of_any_size_give_the_same_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = []
    for size in (1 << 20, 64):
        monkeypatch.setattr("matching.index.BLOCK_PERSONS", size)
        index, _ = build(tmp_path / str(size), [*crowd(600), JOKO])
        found = next(link([record()], index, MODEL, threshold_bits=-20.0))
        ids = [index.record_id(row) for row in found.rows.tolist()]
        links.append(sorted(zip(ids, found.bits.tolist(), strict=True)))
        part = select(index, PERSON_SCHEMA, np.arange(index.size))
        assert part.numbers().shape == (len(PERSON_SCHEMA.fields), index.size)
    assert links[0] == links[1]
    assert len(links[0]) > 1


def test_the_right_person_comes_first_and_is_likely(tmp_path: Path) -> None:
    index, _ = build(tmp_path / "g", [*crowd(3000), JOKO])
    found = next(link([record()], index, MODEL, top_k=3))
    assert index.record_id(int(found.rows[0])) == "HOME"
    assert found.probability[0] > 0.9
    assert (found.probability[1:] < 0.1).all()


def test_probabilities_of_one_record_sum_to_less_than_one(tmp_path: Path) -> None:
    index, _ = build(tmp_path / "g", [*crowd(3000), JOKO, JOKO])
    found = next(link([record()], index, MODEL, top_k=3000))
    assert 0.9 < found.probability.sum() < 1
    assert found.probability[0] == found.probability[1] <= 0.5


def test_links_come_in_batches_that_number_every_record(tmp_path: Path) -> None:
    index, _ = build(tmp_path / "g", [*crowd(100), JOKO])
    batches = list(link([record(record_id=f"A{i}") for i in range(600)], index, MODEL, top_k=1, threads=2))
    assert [batch.done for batch in batches] == [256, 256, 88]
    assert np.concatenate([batch.records for batch in batches]).tolist() == list(range(600))
    assert [each for batch in batches for each in batch.record_ids] == [f"A{i}" for i in range(600)]


def test_records_are_encoded_no_faster_than_they_are_linked(tmp_path: Path) -> None:
    """What is not yet linked is not yet held: memory does not grow with the file."""
    index, _ = build(tmp_path / "g", crowd(100))
    taken = 0

    def records() -> Iterator[LinkRecord]:
        nonlocal taken
        for i in range(5000):
            taken += 1
            yield record(record_id=str(i))

    next(link(records(), index, MODEL, top_k=1))
    assert taken <= 256


def test_another_epoch_is_refused(tmp_path: Path) -> None:
    index, _ = build(tmp_path / "g", crowd(100))
    later = FieldKeys.derive(SECRET, PERSON_SCHEMA, 2)
    with pytest.raises(SchemaMismatchError):
        next(link([record(keys=later)], index, MODEL, top_k=1))


def test_a_link_without_any_limit_is_refused(tmp_path: Path) -> None:
    index, _ = build(tmp_path / "g", crowd(100))
    with pytest.raises(ValueError, match="threshold"):
        next(link([record()], index, MODEL))


def test_one_to_one_gives_the_best_link_first_and_uses_nobody_twice() -> None:
    def batch(start: int, links: list[tuple[int, int, float]]) -> LinkBatch:
        records, rows, bits = zip(*links, strict=True)
        ids = tuple(f"A{number}" for number in records)
        weights = np.array(bits, np.float32)
        return LinkBatch(
            np.array(records), ids, np.array(rows, np.uint32), weights, weights.astype(np.float64), len(links), 7
        )

    found = one_to_one([batch(0, [(0, 5, 20.0), (0, 6, 19.0)]), batch(1, [(1, 5, 30.0), (1, 6, 10.0), (2, 6, 5.0)])])
    assert list(zip(found.record_ids, found.rows.tolist(), strict=True)) == [("A0", 6), ("A1", 5)]
    assert (found.done, found.compared) == (5, 14)
    assert one_to_one([]).record_ids == ()


def test_a_selection_of_rows_has_the_levels_they_had(tmp_path: Path) -> None:
    index, _ = build(tmp_path / "g", [*crowd(500), JOKO, ("X", "SITI", None, None, None, None)])
    chosen = np.array([500, 3, 77, 501, 3], dtype=np.uint32)
    part = select(index, PERSON_SCHEMA, chosen)
    for f, name in enumerate(PERSON_SCHEMA.field_names):
        whole = field_levels(index, record().query, MODEL, name)[index.numbers(chosen)[f]]
        assert field_levels(part, record().query, MODEL, name)[part.numbers()[f]].tolist() == whole.tolist()
    assert select(index, PERSON_SCHEMA, chosen[:0]).size == 0


def test_fields_that_tell_soonest_come_first_and_of_nobody_any_order_serves() -> None:
    bits = np.array([[0, 1], [-5, 9], [-1, 2]], dtype=np.float32)
    histograms = [np.array([9, 1]), np.array([9, 1]), np.array([10, 0])]
    order, rest = pruning_order(bits, histograms)
    assert order.tolist() == [1, 0, 2], "the last has no better level than the usual one"
    assert rest.tolist() == [0, -1, 0]
    order, rest = pruning_order(bits, [np.zeros(2, dtype=np.int64)] * 3)
    assert sorted(order.tolist()) == [0, 1, 2]
    assert rest.tolist() == [0, 0, 0]


# --- Blocks


def keys_meet(stored: dict[str, str | None], asked: dict[str, str | None]) -> bool:
    encoder = BlockEncoder(KEYS)
    return bool(set(encoder.stored(stored)) & set(encoder.asked(asked, TODAY)))


PERSON = {"name": "JOKO SUSILO", "birth_date": "1958-04-03", "birthplace": "KEBUMEN", "mother_name": "SITI AMINAH"}


@pytest.mark.parametrize(
    "asked",
    [
        {"name": "Djoko Soesilo"},  # both tokens, in other spelling
        {"name": "Susilo", "birth_date": "1960"},  # a token dropped, a year two off
        {"name": "Jokko", "birthplace": "Kebumen"},
        {"name": "Susilo", "mother_name": "Aminah"},
        {"name": "Bejo", "birth_date": "1958-04-03"},  # another name, the same day
        {"name": "Bejo", "birth_date": "1958", "birthplace": "Kebumen"},
        {"name": "Susilo"},  # nothing else is known: the name alone must do
    ],
)
def test_two_records_of_one_person_share_a_block(asked: dict[str, str | None]) -> None:
    assert keys_meet(dict(PERSON), asked)


@pytest.mark.parametrize(
    "asked",
    [
        {"name": "Bejo"},
        {"name": "Joko Wibowo", "birth_date": "1990-01-20", "birthplace": "Ende", "mother_name": "Maria"},
        {"name": "Bejo", "birthplace": "Kebumen"},
        {"name": ""},
        {"name": "J. S."},
    ],
)
def test_records_of_strangers_share_none(asked: dict[str, str | None]) -> None:
    assert not keys_meet(dict(PERSON), asked)


def test_blocks_mean_nothing_under_another_key() -> None:
    other = BlockEncoder(FieldKeys.derive(SECRET[::-1], PERSON_SCHEMA, 1))
    assert not set(BlockEncoder(KEYS).stored(PERSON)) & set(other.stored(PERSON))


def test_candidates_are_the_rows_that_share_a_key() -> None:
    rng = np.random.default_rng(3)
    stored = [rng.integers(1, 60, rng.integers(0, 6)).tolist() for _ in range(300)]
    blocks = Blocks.build(stored)
    for _ in range(50):
        asked = rng.integers(1, 70, 4).tolist()
        assert blocks.candidates(asked).tolist() == [row for row, keys in enumerate(stored) if set(keys) & set(asked)]
    assert blocks.candidates([]).tolist() == []


def test_a_schema_without_a_name_has_no_phonetic_blocks() -> None:
    schema = LinkageSchema("codes", 1, "", (FieldSpec("nik", FieldKind.CODE, "exact", 3),))
    with pytest.raises(SchemaError, match="no name"):
        BlockEncoder(FieldKeys.derive(SECRET, schema, 1))


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "nam\N{LATIN SMALL LETTER E WITH ACUTE}", "../name"])
def test_a_field_whose_name_no_file_could_bear_is_refused(name: str) -> None:
    with pytest.raises(SchemaError, match="at most 64"):
        FieldSpec(name, FieldKind.CODE, "exact", 3)


# --- The command, on a population of known truth


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("link")
    population = generate(3000, 120, "base", seed=6, provinces=("33", "35", "51"))
    population.registry.select(REGISTRY_COLUMNS).write_csv(folder / "b.csv")
    asked = population.queries.rename({"query_id": "record_id"}).with_columns(province=pl.lit(None, pl.String))
    asked.select(REGISTRY_COLUMNS).write_csv(folder / "a.csv")
    homes = population.truth.drop_nulls()
    homes.select(record_id_a="query_id", record_id_b="record_id").write_csv(folder / "truth.csv")
    return folder


def run(folder: Path, *options: str) -> str:
    arguments = ["bench", "link", str(folder / "a.csv"), str(folder / "b.csv"), "--out", str(folder / "links.csv")]
    result = CliRunner().invoke(cli, [*arguments, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def figure(output: str, label: str) -> list[float]:
    line = next(line for line in output.splitlines() if line.startswith(label))
    numbers = re.findall(r"[\d,.]+", line.removeprefix(label))
    return [float(number.replace(",", "")) for number in numbers if number.strip(",.")]


def test_blocking_spares_nearly_all_pairs_and_loses_few_true_ones(files: Path) -> None:
    output = run(files, "--truth", str(files / "truth.csv"), "--one-to-one")
    assert figure(output, "reduction ratio")[0] > 0.98
    assert figure(output, "pairs completeness")[0] > 0.95
    precision, recall, _ = figure(output, "precision, recall, F1")
    assert precision > 0.9
    assert recall > 0.8
    with (files / "links.csv").open(encoding="utf-8") as stream:
        links = list(csv.DictReader(stream))
    assert tuple(links[0]) == bench.LINK_COLUMNS
    for column in ("record_id_a", "record_id_b"):
        assert len({each[column] for each in links}) == len(links)


def test_a_full_scan_compares_every_pair(files: Path) -> None:
    output = run(files, "--truth", str(files / "truth.csv"), "--blocking", "none", "--top-k", "2")
    assert figure(output, "reduction ratio") == [0.0]
    assert figure(output, "pairs completeness")[0] == 1.0
    assert 120 < figure(output, "links  ")[0] <= 2 * 120  # a pair far under the floor is no link, however few there are


def test_without_a_truth_completeness_is_measured_against_a_full_scan(files: Path) -> None:
    output = run(files)
    assert "likely links of 120 records in a full scan, seed 1" in output
    assert 0.9 < figure(output, "pairs completeness")[0] <= 1.0


def test_an_interrupted_run_keeps_what_it_has(files: Path, tmp_path: Path) -> None:
    index, _ = build(tmp_path / "g", crowd(100))

    def stopped() -> Iterator[LinkBatch]:
        yield from link([record(record_id=f"A{i}") for i in range(256)], index, MODEL, top_k=1)
        raise KeyboardInterrupt

    for single in (False, True):
        found = bench.write_links(tmp_path / "links.csv", stopped(), index, single=single)
        assert found.done == 256
        assert len((tmp_path / "links.csv").read_text().splitlines()) == 1 + len(found.pairs)


def test_rows_that_cannot_be_used_are_counted_and_lose_only_what_cannot_be_read(tmp_path: Path) -> None:
    rows = [
        ("A1", None, "Joko", "L", "1958-02-31", None, None),
        ("A2", None, "...", "banana", None, None, None),
        ("A3", None, "Siti", "P", "1958", "Kebumen", None),
    ]
    encoder = bench.RecordEncoder(bench_keys(), TODAY, phonetic=True)
    found = list(encoder.records(pl.DataFrame(rows, schema=REGISTRY_COLUMNS, orient="row")))
    assert [each.record_id for each in found] == ["A1", "A3"]
    assert "birth_date" not in found[0].query.fields
    assert sum(encoder.issues.values()) == 3
    assert not any("banana" in issue or "31" in issue for issue in encoder.issues)


def test_rejected_rows_of_b_do_not_shift_the_blocks(tmp_path: Path) -> None:
    rows = [
        ("B1", "33", "...", *[None] * 4),
        ("B2", "33", "JOKO SUSILO", *[None] * 4),
        ("B3", "33", "SLAMET", *[None] * 4),
    ]
    table = pl.DataFrame(rows, schema=dict.fromkeys(REGISTRY_COLUMNS, pl.String), orient="row")
    made = bench.build(table, tmp_path / "b", bench_keys(), NOW, phonetic=True)
    assert made.blocks is not None
    candidates = made.blocks.candidates(BlockEncoder(bench_keys()).asked({"name": "Slamet"}, TODAY))
    assert [made.index.record_id(int(row)) for row in candidates] == ["B3"]
    assert sum(made.issues.values()) == 1


def test_ids_that_repeat_and_truths_about_strangers_are_refused(tmp_path: Path, files: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("record_id,province,name,sex,birth_date,birthplace,mother_name\n1,,A,,,,\n1,,B,,,,\n,,C,,,,\n")
    with pytest.raises(ConfigError, match="1 rows have no record_id, 1 repeat"):
        bench.read_records(path)
    truth = tmp_path / "truth.csv"
    truth.write_text("record_id_a,record_id_b\nQ000001,nobody\nstranger,nobody\n")
    with pytest.raises(ConfigError, match="1 unknown records of A, 2 of B"):
        bench.read_pairs(truth, bench.read_records(files / "a.csv"), bench.read_records(files / "b.csv"))
