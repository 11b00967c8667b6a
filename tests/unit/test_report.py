"""The report says what was measured, loads nothing, and holds nobody's data."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from benchmarks import grading, match
from benchmarks.charts import Axis, Plot, Step, waterfall
from benchmarks.match_report import evaluate, metrics_of, one_more_words, report_of
from benchmarks.populations import TODAY, Population, generate
from benchmarks.report import GRID, Example, Report, Series, chooser_words, expected_costs, render
from matching.evaluation import Answers, bootstrap, share
from matching.posterior import Outcome
from matching.weights import load_model

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
PROVINCES = ("33", "35", "51")
VOID = {"meta", "input", "br", "path", "rect", "circle"}


class Page(HTMLParser):
    """Reads a page: which tags stand in it, what each carries, what is left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def population() -> Population:
    return generate(2500, 60, "high", seed=6, provinces=PROVINCES)


@pytest.fixture(scope="module")
def federation(population: Population, tmp_path_factory: pytest.TempPathFactory) -> Iterator[match.Federation]:
    folder, keys = tmp_path_factory.mktemp("indexes"), match.bench_keys()
    match.build_indexes(population.registry, folder, keys, NOW)
    with match.open_indexes(folder, keys) as indexes:
        yield match.Federation(indexes, match.for_provinces(load_model(), PROVINCES), keys, TODAY)


@pytest.fixture(scope="module")
def truth(population: Population) -> dict[str, tuple[str, str] | None]:
    rows = population.truth.select(match.TRUTH_COLUMNS).iter_rows()
    return {query: (record, province) if record else None for query, record, province in rows}


@pytest.fixture(scope="module")
def matches(population: Population, federation: match.Federation) -> list[match.Match]:
    return list(match.match_all(population.queries, federation, threads=2))


@pytest.fixture(scope="module")
def report(
    population: Population,
    federation: match.Federation,
    truth: dict[str, tuple[str, str] | None],
    matches: list[match.Match],
) -> Report:
    found = evaluate(
        matches,
        truth,
        population.queries,
        population.registry,
        errors=population.errors,
        threshold=0.95,
        ask=lambda more: match.match_all(more, federation, 2),
    )
    json.dumps(metrics_of(found))
    return report_of(found, matches, truth, model=federation.model, persons=2500, facts={"seed": "6"})


def small(title: str = "A run", **parts: object) -> Report:
    rng = np.random.default_rng(3)
    right = rng.random(200) < 0.7
    answers = Answers(np.where(right, rng.uniform(0.5, 1, 200), rng.uniform(0, 0.9, 200)), right, np.ones(200, bool))
    series = (Series("province", answers, 0.8, bootstrap(answers, 0.8, resamples=20)),)
    return replace(Report(title, "In short.", series, {"machine": "one"}), **parts)  # type: ignore[arg-type]


def test_the_page_is_whole_and_every_picture_has_words(report: Report) -> None:
    page = Page(render(report))
    assert page.open == []
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) >= 8
    ids = {attributes["id"] for _, attributes in page.tags if attributes.get("id")}
    for picture in pictures:
        assert set((picture["aria-labelledby"] or "none").split()) <= ids


def test_the_page_asks_the_network_for_nothing(report: Report) -> None:
    text = render(report)
    assert not re.search(r"https?:|//\w|@import|url\(|<link|\ssrc=|\shref=", text)
    assert "default-src 'none'" in text


def test_the_page_holds_no_name_and_no_birth_date(population: Population, report: Report) -> None:
    text = render(report).lower()
    shown = set(re.findall(r"[a-z]+", text))
    for frame in (population.registry, population.queries):
        for name in ("name", "mother_name"):
            assert not shown & {word.lower() for v in frame[name].drop_nulls() for word in v.split() if len(word) > 6}
        assert not {date for date in frame["birth_date"].drop_nulls() if len(date) == 10 and date in text}


def test_words_in_a_report_are_words_not_markup() -> None:
    kinds = {"<u>kind": [grading.Group("<s>typo", 20, share(10, 20), 0.5)]}
    text = render(small("<script>alert(1)</script>", facts={"a<b": "<i>"}, groups=kinds))
    assert not [piece for piece in ("<script>alert", "<i>", "<u>", "<s>") if piece in text.lower()]
    assert "&lt;s&gt;typo" in text


def test_the_intervals_and_outcomes_of_a_run_are_all_told(report: Report) -> None:
    text = render(report)
    for each in report.series:
        assert f"{100 * each.figures['top1'].value:.1f} %" in text
    assert sum(each.count for each in report.outcomes) == 60
    assert report.notes[0] in text


def test_a_threshold_costs_what_its_mistakes_cost() -> None:
    # Of ten clients eight have a home: five right and one wrong at 20 is 20 + 3 of the 8 that naming nobody costs.
    found = expected_costs(np.array([0.5, 0.0]), np.array([0.1, 0.0]), 0.8, cost_wrong=20, cost_unfound=1)
    assert found.tolist() == pytest.approx([(2 + 0.3) / 0.8, 1.0])


def test_the_chooser_starts_at_the_cheapest_threshold() -> None:
    text = render(small())
    data = json.loads(text.split("id='cost-data'>")[1].split("</script>")[0])
    costs = expected_costs(np.array(data["right"]), np.array(data["wrong"]), data["registered"], 20, 1)
    best = int(costs.argmin())
    assert data["thresholds"] == GRID.tolist()
    words = chooser_words(GRID[best], data["right"][best], data["wrong"][best], data["registered"])
    assert words in text


def test_an_example_shows_levels_and_adds_up() -> None:
    shown = Example("Found", "Case Q1", "Right.", 1024, {"name": 12.0, "sex": 1.0}, {"name": (31, 33), "sex": (0, 2)})
    text = render(small(examples=(shown,)))
    for piece in ("level 31 of 33", "missing", "-10.0", "+12.0", "+3.0"):
        assert piece in text


def test_nobody_asked_is_a_page_too() -> None:
    nobody = Answers(np.zeros(0), np.zeros(0, bool), np.zeros(0, bool))
    empty = small(series=(Series("province", nobody, 0.95, bootstrap(nobody, 0.95)),))
    assert Page(render(empty)).open == []


def test_a_point_outside_an_axis_stays_in_the_picture() -> None:
    axis = Axis(0.5, 1.0, (0.5, 1.0), "share")
    plot = Plot("p", "P", "Words", axis, axis)
    assert plot.at(0.2, 2.0) == plot.at(0.5, 1.0)
    assert plot.at(0.5, 0.5)[0] < plot.at(1.0, 0.5)[0]


def test_a_waterfall_of_one_step_is_drawn() -> None:
    assert waterfall("w", "W", "Words", [Step("name", "", 3.0)], "").count("<rect") == 2


# --- grading --------------------------------------------------------------------------------------------------------


def test_every_client_has_one_outcome(matches: list[match.Match], truth: dict[str, tuple[str, str] | None]) -> None:
    found = grading.outcomes(matches, truth)
    assert sum(found.values()) == len(matches)
    registered = sum(home is not None for home in truth.values())
    mine = ("home_found_right", "home_found_elsewhere", "ambiguous_registered", "not_registered_wrong")
    assert sum(found[name] for name in mine) + found["refused_registered"] == registered


def test_a_home_that_is_another_is_not_right(
    matches: list[match.Match], truth: dict[str, tuple[str, str] | None]
) -> None:
    named = next(m for m in matches if m.decision is not None and m.decision.outcome is Outcome.HOME_FOUND)
    assert named.decision is not None
    home = (named.records[0][0], named.decision.province or "")
    assert grading.outcome(named, home) == "home_found_right"
    assert grading.outcome(named, ("X", "99")) == "home_found_elsewhere"
    assert grading.outcome(named, None) == "home_found_nowhere"


def test_the_right_person_is_the_record_itself_not_its_province(matches: list[match.Match]) -> None:
    named = next(m for m in matches if m.records)
    record, province, _ = named.records[0]
    assert grading.grade([named], {named.query_id: (record, province)}).person.right.tolist() == [True]
    assert grading.grade([named], {named.query_id: ("another", province)}).person.right.tolist() == [False]


def test_one_more_answer_finds_more_homes(
    population: Population,
    federation: match.Federation,
    truth: dict[str, tuple[str, str] | None],
    matches: list[match.Match],
) -> None:
    asked: list[pl.DataFrame] = []

    def ask(more: pl.DataFrame) -> Iterator[match.Match]:
        asked.append(more)
        return match.match_all(more, federation, 2)

    found = grading.one_more(matches, truth, population.queries, population.registry, ask)
    assert found.ambiguous == grading.outcomes(matches, truth)["ambiguous_registered"] > 0
    assert found.right > 0
    assert found.ambiguous == found.nothing + found.unknown + found.right + found.wrong + found.open
    # Each was told exactly one thing more, and that is what its own record has.
    before = population.queries.filter(pl.col("query_id").is_in(asked[0]["query_id"].to_list()))
    changed = [asked[0][name].ne_missing(before[name]).to_list() for name in grading.ANSWERABLE]
    assert {sum(flags) for flags in zip(*changed, strict=True)} == {1}
    assert one_more_words(found).count(str(found.ambiguous)) >= 1


def test_groups_count_every_registered_client_once(
    population: Population, truth: dict[str, tuple[str, str] | None], matches: list[match.Match]
) -> None:
    found = grading.groups(matches, truth, population.queries, population.registry, population.errors)
    registered = sum(home is not None for home in truth.values())
    for title, members in found.items():
        if title != "what is wrong with the description":  # several things may be wrong with one
            assert sum(group.clients for group in members) <= registered
        assert all(group.clients >= grading.MIN_GROUP for group in members)
    facts = found["facts given besides the name (of four)"]
    assert [group.label for group in facts] == sorted(group.label for group in facts)
