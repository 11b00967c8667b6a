"""Every rule can be left out, and what is then lost is seen."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from benchmarks import ablation
from benchmarks.match import QUERY_COLUMNS, REGISTRY_COLUMNS, bench_keys, for_provinces
from benchmarks.populations import TODAY, generate, write
from matching.names import parse_name
from matching.phonetics import READINGS, SOUND_RULES, SPELLING_RULES
from matching.rules import NAME_RULES
from matching.weights import load_model
from node.cli.main import cli
from node.errors import ConfigError
from tests.people import NOW, crowd

GOLD = Path(__file__).parents[1] / "data"
RULES = {(rule.number, rule.name): rule for rule in ablation.rules()}
Home = tuple[str | None, ...]  # name, sex, date, place, mother: of a person, or as a client says it


def sample(*pairs: tuple[Home, Home]) -> ablation.Sample:
    """Two registries: province 35 of a crowd, 33 of the homes; one client per home."""
    strangers = [("35-" + str(row[0]), "35", *row[1:]) for row in crowd(400)]
    homes = [(f"33-{number}", "33", *home) for number, (home, _) in enumerate(pairs)]
    asked = [(f"Q{number}", *client) for number, (_, client) in enumerate(pairs)]
    texts = dict.fromkeys(REGISTRY_COLUMNS, pl.String)
    return ablation.Sample(
        pl.DataFrame([*strangers, *homes], schema=texts, orient="row"),
        pl.DataFrame(asked, schema=dict.fromkeys(QUERY_COLUMNS, pl.String), orient="row"),
        {f"Q{number}": "33" for number in range(len(pairs))},
    )


def claims(found: ablation.Sample, *rules: ablation.Rule) -> list[float]:
    """Return the mean claim for the right province under each rule."""
    model = for_provinces(load_model(), ("33", "35"))
    with ablation.Bench(found, model, bench_keys(), NOW, TODAY) as bench:
        answers = [bench.answers(rule, threads=1) for rule in rules]
    return [float(np.mean(each.probability * each.right)) for each in answers]


EVERYTHING = ablation.Rule("", "", asked_only=True)
PLAIN = (None, None, None, None)


def born(date: str) -> Home:
    return ("SLAMET", "L", date, None, None)


def from_place(place: str) -> Home:
    return ("SLAMET", None, None, place, None)


def test_every_rule_of_the_names_and_sounds_has_a_row() -> None:
    names = [name for name, _ in (*SPELLING_RULES, *SOUND_RULES)] + [name for name, _, _ in READINGS]
    assert set(names) <= {name for _, name in RULES}
    assert {number for number, _ in RULES} >= {"1", "2", "3", "4", "5", "6", "7", "8", "9", "11", "dates", "places"}
    assert len(RULES) == len(ablation.rules())


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("brackets", "Joko (Bejo)"),
        ("second_names", "Joko alias Bejo"),
        ("comma", "Joko, Kebumen"),
        ("titles", "H. Joko Susilo"),
        ("degrees", "Joko Susilo S.Pd"),
        ("patronyms", "Ahmad bin Slamet"),
        ("compounds", "Nurhayati"),
        ("run_together", "Budisantoso"),
        ("articles", "Al Fatih"),
        ("spelled_letters", "S R I Wahyuni"),
        ("abbreviations", "Abd Rahman"),
        ("muhammad", "Mochammad Joko"),
    ],
)
def test_a_name_reads_otherwise_without_its_part(part: str, name: str) -> None:
    assert parse_name(name, without=frozenset({part})) != parse_name(name)


@pytest.mark.parametrize(
    ("rule", "home", "client"),
    [
        (("6", "reforms"), ("TJOKROSOEDJONO", *PLAIN), ("Cokrosujono", *PLAIN)),
        (("8", "labials"), ("VITRIFAVI", *PLAIN), ("Pitripapi", *PLAIN)),
        (("4", "initials"), ("ZULKARNAEN SIREGAR", *PLAIN), ("Z. Siregar", *PLAIN)),
        (("dates", "default dates"), born("1950-07-01"), born("1950-03-20")),
        (("dates", "day and month swapped"), born("1950-04-03"), born("1950-03-04")),
        (("dates", "near years"), born("1950-04-03"), born("1951")),
        (("places", "regencies"), from_place("GOMBONG"), from_place("Kebumen")),
        (("places", "related regencies"), from_place("TANGERANG SELATAN"), from_place("Kab. Tangerang")),
    ],
)
def test_without_a_rule_its_client_is_harder_to_place(rule: tuple[str, str], home: Home, client: Home) -> None:
    with_all, without = claims(sample((home, client)), EVERYTHING, RULES[rule])
    assert without < with_all


def test_the_gold_list_shows_what_a_rule_brings_together() -> None:
    gold = ablation.Gold([("soekarno", "sukarno"), ("joko", "djoko")], [("yanto", "yanti")], "here")
    assert gold.measure(NAME_RULES["id-name"]) == (1.0, 0.0)
    assert gold.measure(RULES["6", "reforms"].rules.names["id-name"])[0] < 1
    assert math.isnan(ablation.Gold(gold.variants, (), "here").measure(NAME_RULES["id-name"])[1])


def test_a_folder_without_a_gold_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no gold list"):
        ablation.read_gold(tmp_path)
    assert len(ablation.read_gold(None).variants) > 1000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ablation")
    write(generate(1500, 60, "base", seed=8, provinces=("33", "51")), folder)
    return folder


def run(files: Path, out: Path, *options: str) -> str:
    paths = [part for name in ("registry", "queries", "truth") for part in (f"--{name}", str(files / f"{name}.csv"))]
    arguments = ["bench", "ablate", *paths, "--out", str(out), "--persons", "1000", "--clients", "40", *options]
    return CliRunner().invoke(cli, arguments, catch_exceptions=False).output


def test_the_table_has_the_chosen_rules_the_dearest_first(files: Path, tmp_path: Path) -> None:
    output = run(files, tmp_path, "--gold", str(GOLD), "--rule", "6-9", "--rule", "muhammad", "--rule", "10")
    found = json.loads((tmp_path / "ablation.json").read_text())
    assert (found["persons"], found["clients"]) == (1000, 40)
    assert {rule["name"] for rule in found["rules"]} == {"all of them", "muhammad"}
    assert [rule["best_f1"]["value"] for rule in found["rules"]] == sorted(
        (rule["best_f1"]["value"] for rule in found["rules"]), reverse=True
    )
    everything = next(rule for rule in found["rules"] if rule["name"] == "all of them")
    assert everything["gold_recall"] > 0.5
    assert found["skeleton"]["with"]["completeness"] >= found["skeleton"]["without"]["completeness"]
    assert "lost without" in output


def test_a_rule_nobody_knows_is_refused(files: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no rule has that number or name"):
        run(files, tmp_path, "--rule", "no such rule")
