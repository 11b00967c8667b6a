from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from benchmarks.demo import KINDS, DemoAnswer, DemoClient, DemoPlan, choose_clients, kind_of, summarise
from benchmarks.populations import Recipe, stream
from matching.question import Client
from node.findings import Concluded

if TYPE_CHECKING:
    import polars as pl

    from benchmarks.demo import Row

PLAN = DemoPlan(
    persons=1_000, clients=30, seed=1, provinces=("18", "31", "32", "33", "34", "35", "36", "51", "52", "53")
)


def answer(truth: str | None, outcome: str, province: str | None = None, **shares: float) -> DemoAnswer:
    named = {code.removeprefix("p"): share for code, share in shares.items()}
    concluded = Concluded("K-1", outcome, province, None, named, 1 - sum(named.values()), {}, (), (), 100)
    return DemoAnswer(DemoClient("Q1", "other", truth, "31", Client(name="Contoh")), concluded, None, 0.1)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (answer("33", "home_found", "33", p33=0.99), "right"),
        (answer("33", "home_found", "35", p35=0.99), "wrong"),
        (answer(None, "home_found", "35", p35=0.99), "wrong"),
        (answer(None, "not_registered", p33=0.02), "right"),
        (answer("33", "not_registered", p33=0.02), "missed"),
        (answer("33", "ambiguous", p33=0.5), "ambiguous"),
        (answer("33", "incomplete", "33", p33=0.9), "incomplete"),
        (DemoAnswer(answer("33", "ambiguous").asked, None, "the node fell silent", 10.0), "failed"),
    ],
)
def test_an_answer_is_judged_against_the_truth(given: DemoAnswer, verdict: str) -> None:
    assert given.verdict == verdict


def test_the_summary_counts_every_client_once() -> None:
    found = summarise(
        [
            answer("33", "home_found", "33", p33=0.99),
            answer("33", "home_found", "35", p35=0.99),
            answer(None, "home_found", "35", p35=0.99),
            answer(None, "not_registered", p33=0.02),
            answer("33", "not_registered", p33=0.02),
            answer("33", "ambiguous", p33=0.6),
            answer("33", "ambiguous", p35=0.6),
            answer(None, "ambiguous", p35=0.4),
            DemoAnswer(answer("33", "ambiguous").asked, None, "the node fell silent", 10.0),
        ]
    )
    assert (found.home_right, found.home_wrong, found.absent_right, found.missed) == (1, 2, 1, 1)
    assert (found.ambiguous, found.ambiguous_leads, found.unanswered) == (3, 2, 1)
    assert found.worst_s == 10.0
    assert found.clients == 9


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"name": "Djoko Karno", "province": "33", "operations": "name:old_spelling"}, "old spelling"),
        ({"name": "Djoko Karno", "province": None, "operations": "name:old_spelling"}, "unregistered"),
        ({"name": "Joko", "province": "33", "operations": "dob:year_off"}, "wrong year"),
        ({"name": "Joko", "province": "33", "operations": None}, "one word"),
        ({"name": "Joko Karno", "province": "33", "operations": "name:typo"}, "other"),
    ],
)
def test_a_client_is_of_the_kind_its_truth_says(row: Row, kind: str) -> None:
    assert kind_of(row) == kind


@pytest.fixture(scope="module")
def pool() -> pl.DataFrame:
    parts: list[pl.DataFrame] = []
    made = stream(Recipe(10_000, 1_800, "base", 1, equal=True), parts.append)
    return made.queries.join(made.truth, on="query_id").join(made.errors, on="query_id")


def test_thirty_clients_are_of_every_kind_and_from_every_province(pool: pl.DataFrame) -> None:
    chosen = choose_clients(pool, PLAN)
    counts = Counter(client.kind for client in chosen)
    assert counts == {kind: round(30 * share) for kind, share in KINDS}
    assert {client.province for client in chosen} == {*PLAN.provinces, None}
    assert len({client.query_id for client in chosen}) == 30


def test_clients_are_found_away_from_home(pool: pl.DataFrame) -> None:
    assert all(client.asked_by != client.province for client in choose_clients(pool, PLAN))


def test_a_seed_chooses_the_same_clients_again(pool: pl.DataFrame) -> None:
    first = [client.query_id for client in choose_clients(pool, PLAN)]
    assert [client.query_id for client in choose_clients(pool, PLAN)] == first
