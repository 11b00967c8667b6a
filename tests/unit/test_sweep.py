"""The sweep monitor: each planted pattern is noticed, an honest month is not, and sketches show nobody."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from benchmarks.match import bench_keys, clients
from benchmarks.populations import generate
from matching.encoding import QueryEncoder
from matching.question import Client
from node.sweep import SKETCH, Pattern, Seen, Sketcher, judge

START = datetime(2026, 1, 5, 1, 0, tzinfo=UTC)
TODAY = date(2026, 1, 5)
ENCODER = QueryEncoder(bench_keys())
SKETCHER = Sketcher(b"k" * 32)
GIVEN = "Agus Bambang Dewi Endang Fitri Gunawan Hasan Indah Joko Kartini Lukman Maria Nurul Putri Rahmat Siti Tono Umar"
FAMILY = "Hartono Lestari Saputra Wibowo Rahayu Nainggolan Kusuma Laksana Utami Simbolon Pratama Wijaya Santoso Suryadi"
PLACES = ["Semarang", "Surabaya", "Bandung", "Denpasar", "Kupang", "Serang", "Sleman", "Mataram", "Kebumen", "Malang"]


def person(chance: random.Random) -> Client:
    name = f"{chance.choice(GIVEN.split())} {chance.choice(FAMILY.split())} {chance.choice(FAMILY.split())}"
    mother = f"{chance.choice(GIVEN.split())} {chance.choice(FAMILY.split())}"
    born = f"{chance.randint(1940, 2005)}-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}"
    return Client(name, chance.choice("LP"), born, chance.choice(PLACES), mother)


def ring(
    asked: list[Client], *, every: timedelta = timedelta(minutes=30), found: float = 0.1, operators: int = 3
) -> list[Seen]:
    """Questions one after the other, each under a case of its own."""
    chance = random.Random(7)
    return [
        Seen(
            START + number * every,
            bytes([number % operators]),
            f"K-{number}",
            chance.random() < found,
            SKETCHER.sketch(ENCODER.encode(client, TODAY)),
        )
        for number, client in enumerate(asked)
    ]


def alarms(seen: list[Seen]) -> set[Pattern]:
    """Everything that was alarmed about on the way."""
    return {alarm.pattern for end in range(1, len(seen) + 1) for alarm in judge(seen[:end])}


def strangers(count: int) -> list[Client]:
    chance = random.Random(3)
    return [person(chance) for _ in range(count)]


def test_an_honest_month_with_follow_ups_is_quiet() -> None:
    asked: list[Client] = []
    for _, client in clients(generate(1000, 120, "base", 1).queries):
        asked += [replace(client, born=None, mother_name=None), replace(client, mother_name=None), client]
    assert alarms(ring(asked)) == set()


def test_a_burst_is_noticed() -> None:
    assert Pattern.BURST in alarms(ring(strangers(45), every=timedelta(seconds=5)))


def test_a_day_of_too_many_cases_of_one_operator_is_noticed() -> None:
    assert Pattern.MANY_CASES in alarms(ring(strangers(90), every=timedelta(minutes=12), operators=1))


def test_one_persons_date_walked_through_is_noticed_soon() -> None:
    first = strangers(1)[0]
    walk = [replace(first, born=f"1960-01-{day:02d}") for day in range(1, 12)]
    assert Pattern.ONE_FIELD in alarms(ring(walk))


def test_a_name_in_ever_new_spellings_is_noticed() -> None:
    chance = random.Random(5)
    letters = "abdegiklmnoprstuwy"
    spelt = []
    for _ in range(40):
        at = chance.randint(1, 14)
        spelt.append(f"{'Soekarnoputrawan'[:at]}{chance.choice(letters)}{'Soekarnoputrawan'[at + 1 :]}")
    assert Pattern.NEAR_NAMES in alarms(ring([Client(name) for name in spelt]))


def test_a_name_with_ever_new_dates_and_places_is_noticed() -> None:
    named = [replace(client, name="Siti Aminah", sex="P") for client in strangers(25)]
    assert Pattern.ONE_NAME in alarms(ring(named))


def test_an_alphabet_of_bare_names_is_noticed() -> None:
    names = sorted(f"{first} {last}" for first in GIVEN.split() for last in FAMILY.split())
    chance = random.Random(2)
    some = sorted(chance.sample(names, 100))
    assert {Pattern.ORDERED, Pattern.THIN} & alarms(ring([Client(name) for name in some]))


def test_a_list_that_is_confirmed_is_noticed() -> None:
    assert Pattern.MOSTLY_FOUND in alarms(ring(strangers(100), found=0.95))


def test_people_of_ours_are_counted_whatever_is_asked_in_between() -> None:
    asked = ring(strangers(320), every=timedelta(hours=2), found=0.5)
    assert Pattern.MANY_FOUND not in alarms(asked[-200:]), "a hundred of ours among two hundred"
    assert Pattern.MANY_FOUND in alarms(asked)


def test_namesakes_asked_about_one_after_the_other_are_not_one_client() -> None:
    some = strangers(70)
    namesakes = [replace(some[number], name=some[number // 10].name) for number in range(70)]
    assert Pattern.MOSTLY_FOUND in alarms(ring(namesakes, found=0.95))


def test_what_is_added_or_respelt_is_the_same_clients() -> None:
    asked: list[Client] = []
    for client in strangers(30):
        less = replace(client, mother_name=None)
        asked += [less, replace(less, name=f"{less.name}o"), replace(client, name=f"{less.name}o")]
    assert alarms(ring(asked, found=1.0)) == set(), "thirty clients, not ninety"


def test_only_whoever_took_part_is_named() -> None:
    walk = ring([replace(strangers(1)[0], born=f"1960-01-{day:02d}") for day in range(1, 12)], operators=1)
    other = Seen(START - timedelta(days=1), b"other", "K-other", found=False, sketch=ring(strangers(2))[1].sketch)
    (alarm,) = [alarm for alarm in judge([other, *walk]) if alarm.pattern is Pattern.ONE_FIELD]
    assert alarm.operators == {b"\0"}


def test_the_same_words_have_the_same_content_and_other_keys_other_sketches() -> None:
    client = strangers(1)[0]
    query, again = ENCODER.encode(client, TODAY), ENCODER.encode(client, TODAY)
    assert SKETCHER.content(query) == SKETCHER.content(again)
    assert SKETCHER.content(query) != SKETCHER.content(ENCODER.encode(replace(client, sex=None), TODAY))
    other = Sketcher(b"o" * 32)
    ours, theirs = (np.frombuffer(each.sketch(query), dtype=SKETCH)[0] for each in (SKETCHER, other))
    assert not set(ours["fields"].tolist()) & set(theirs["fields"].tolist()) - {0}
    assert (ours["name"] == theirs["name"]).mean() < 0.5


@pytest.mark.parametrize("count", [0, 1, 2])
def test_little_says_nothing(count: int) -> None:
    assert alarms(ring(strangers(count))) == set()
