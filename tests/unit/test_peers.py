from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import peers
from benchmarks.match import QUERY_COLUMNS, REGISTRY_COLUMNS, Match
from node.errors import ConfigError


def queries(*names: str) -> pl.DataFrame:
    rows = [(f"Q{i}", name, "L", "1970-03-21", "Kab. Tegal", None) for i, name in enumerate(names)]
    return pl.DataFrame(rows, schema=QUERY_COLUMNS, orient="row")


def candidates(*rows: tuple[str, str, float]) -> pl.DataFrame:
    return pl.DataFrame(
        [(q, "r", p, s) for q, p, s in rows], ["query_id", "record_id", "province", "score"], orient="row"
    )


def test_a_peer_gets_names_without_titles_and_dates_without_default_days() -> None:
    row = ("1", "35", "H. SUPARDI, S.PD", "L", "1960-07-01", "KAB. TULANG BAWANG", "Hj. Siti-Aminah")
    table = pl.DataFrame([row], schema=REGISTRY_COLUMNS, orient="row")
    assert peers.clean(table, ("record_id", "province")).row(0) == (
        "1", "35", "supardi", "L", "1960", "", "tulang bawang", "siti aminah",
    )  # fmt: skip
    assert peers.clean(queries("Adi"), ("query_id",)).row(0) == ("Q0", "adi", "L", "1970", "0321", "tegal", "")


def test_many_good_candidates_outweigh_the_best_one_unless_only_the_best_counts() -> None:
    found = candidates(("Q0", "33", 9.9), ("Q0", "33", 9.9), ("Q0", "35", 10.0), ("Q1", "51", 1.0))
    asked = peers.clean(queries("a", "b", "c"), ("query_id",))
    assert peers.best_provinces(found, asked, 1.0).provinces == ["33", "51", ""]
    assert peers.best_provinces(found, asked, 1000.0).provinces == ["35", "51", ""]


def test_a_calibration_recovers_the_probabilities_scores_were_drawn_from() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(0, 2, 4000)
    likely = 1 / (1 + np.exp(-(scores - 1)))
    found = candidates(*((f"Q{i}", "33", score) for i, score in enumerate(scores)))
    asked = peers.clean(queries(*(["a"] * 4000)), ("query_id",))
    truth = {f"Q{i}": "33" for i in np.flatnonzero(rng.random(4000) < likely)}
    provinces, probability = peers.fit(found, asked, truth).answers(found, asked)
    assert set(provinces) == {"33"}
    assert np.abs(probability - likely).max() < 0.05


def test_a_query_without_candidates_claims_nothing() -> None:
    found = candidates(*((f"Q{i}", "33", float(i)) for i in range(20)))
    asked = peers.clean(queries(*(["a"] * 21)), ("query_id",))
    calibration = peers.fit(found, asked, {f"Q{i}": "33" for i in range(10, 20)}, posterior=True)
    provinces, probability = calibration.answers(found, asked)
    assert provinces[20] == ""
    assert probability[20] == 0


def test_peers_learn_from_every_profile_with_ids_of_their_own() -> None:
    sample = peers.training_sample(60, 9, seed=5)
    assert set(sample.truth) == set(sample.queries["query_id"])
    assert sample.registry["record_id"].n_unique() == sample.registry.height == 60
    assert {query.split("-")[0] for query in sample.truth} == {"low", "base", "high"}
    named = {home[0] for home in sample.truth.values() if home is not None}
    assert named <= set(sample.registry["record_id"])


# A stand-in for a peer's program, run by the real runner: the first three persons, all equally good, for everybody.
PROGRAM = """
import csv, json, sys
job = json.load(open(sys.argv[1]))
for tag, folder in job["populations"].items():
    rows = list(csv.DictReader(open(folder + "/registry.csv")))[:3]
    out = open(job["out"][tag], "w")
    out.write("query_id,record_id,province,score\\n")
    for q in csv.DictReader(open(folder + "/queries.csv")):
        for row in rows:
            out.write(f"{q['query_id']},{row['record_id']},{row['province']},1.0\\n")
"""


def test_a_peers_answers_are_measured_and_written_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setattr(peers, "SCRIPTS", tmp_path)
    monkeypatch.setattr(peers, "PEERS", {"stub": "program.py"})
    monkeypatch.setattr(peers, "peer_python", lambda progress: Path(sys.executable))
    sample = peers.training_sample(60, 9, seed=5)
    ours = [Match(query, None, "refused", ()) for query in sample.queries["query_id"]]
    rows = peers.compare(sample, sample, ours, our_seconds=1.0, out_dir=tmp_path / "out")
    assert [row.name for row in rows] == ["pulang", "stub", "stub, our posterior"]
    assert rows[1].error_ratio == pytest.approx(1 / (1 - rows[1].metrics.best_f1))
    with (tmp_path / "out" / "stub" / "provinces.csv").open() as stream:
        shares: dict[str, float] = {}
        for row in csv.DictReader(stream):
            shares[row["query_id"]] = shares.get(row["query_id"], 0.0) + float(row["probability"])
    assert shares == {query: pytest.approx(1.0) for query in sample.truth}


def test_a_peer_that_fails_is_named_with_what_it_said_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "program.py").write_text("raise SystemExit('no memory left')\n")
    monkeypatch.setattr(peers, "SCRIPTS", tmp_path)
    with pytest.raises(ConfigError, match=r"program\.py ended with exit code 1: no memory left"):
        peers.run_script(Path(sys.executable), "program.py", tmp_path / "job.json", tmp_path / "log")
