"""How far budgets and the sweep monitor carry: a year of honest questions, and rogue members that try their best.

Everything is the node's own: guard, store, search. The clock alone is made up. One province's registry is asked; the
askers hold the linkage key, as every member does.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.errors_model import slip
from benchmarks.leakage import public_names
from benchmarks.match import bench_keys, build_indexes, clients, open_indexes
from benchmarks.populations import TEN_PROVINCES, generate
from matching.encoding import QueryEncoder
from matching.errors import FieldValueError
from matching.question import Client
from matching.search import search
from matching.weights import load_model
from node.budget import Budgets
from node.errors import QueryBudgetError
from node.guard import Guard
from node.messages import NONCE_BYTES, PSEUDONYM_BYTES, Purpose, QuestionHeader, ReceivedQuestion
from node.store import Admission, AuditEntry, Direction, open_store
from node.sweep import is_strong

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from matching.index import EncodedIndex
    from matching.question import EncodedQuery
    from node.store import Store

ASKED: Final = "33"
MONTH: Final = timedelta(days=30)
START: Final = datetime(2026, 1, 5, 1, 0, tzinfo=UTC)  # a Monday, 08:00 in Jakarta
CLIENTS_A_MONTH: Final = 120
WORKING_DAYS: Final = 22
OPERATORS: Final = (0.5, 0.3, 0.2)  # their shares of a province's questions
HERE: Final = (
    0.5,
    0.3,
    0.2,
    0.15,
    0.1,
    0.1,
    0.05,
    0.05,
    0.02,
)  # share of a peer's clients at home in the asked province
KNOWN_AT_FIRST: Final = 0.6  # chance that a detail is in the first question and not in a follow-up
RESPELT: Final = 0.15  # clients asked about again in another spelling
OWN_CASE: Final = 0.5  # clients whose follow-ups go under a new case reference, because nobody gave one
RAID_EVERY: Final = 44  # working days between days on which forty clients come in at once
RAID: Final = 40
OPEN_SHARE: Final = 0.4  # clients not found, asked about again with every new registry
OPEN_FOR: Final = timedelta(days=90)
NEW_REGISTRY: Final = timedelta(days=7)
CHANGEOVER_DAY: Final = 180  # a new key epoch: every open case is asked about again, in words that are new
AGAIN_PER_DAY: Final = 40
AGAIN_EVERY: Final = timedelta(seconds=30)  # both as node/cases.py has them
LIST_SHARE: Final = 0.9  # of a rogue's list of persons, how many the registry holds
CONFIRM_BITS: Final = 3.0  # a candidate this far above "anybody in the registry" tells a rogue that its guess was right
DETAILS: Final = ("born", "birthplace", "mother_name")


@dataclass(frozen=True)
class Question:
    """One question on its way.

    person: the record it is about, if the registry holds it. epoch: of the linkage key. is_again: asked by the node
    itself, because a registry has changed.
    """

    at: datetime
    operator: int
    case: str
    client: Client = field(repr=False)
    person: str | None = field(default=None, repr=False)
    epoch: int = 1
    is_again: bool = False


@dataclass
class Outcome:
    """What came of one asker's questions.

    confirmed: registered persons of its list whose answer showed a candidate, and a rogue learned by it that they are
    here. minutes, answered_before, confirmed_before: until the first alarm, None without one.
    """

    asker: str
    asked: int = 0
    answered: int = 0
    repeats: int = 0
    refused: int = 0
    confirmed: int = 0
    minutes: float | None = None
    answered_before: int | None = None
    confirmed_before: int | None = None
    alarms: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """What is asked, and who there is to ask about: (client as described, person as registered, record id)."""

    index: EncodedIndex
    here: Sequence[tuple[Client, str | None]]
    elsewhere: Sequence[Client]
    registered: Sequence[tuple[Client, str]]
    encoder: QueryEncoder


@contextmanager
def make_world(persons: int, peers: int, seed: int, folder: Path) -> Iterator[World]:
    """Make the asked registry and the clients of a year."""
    year = CLIENTS_A_MONTH * 12 + RAID * 6
    here = round(sum(HERE[:peers]) * year) + 100
    persons = max(persons, 2 * here)
    home = generate(persons, here, "base", seed, provinces=(ASKED,))
    others = tuple(code for code in TEN_PROVINCES if code != ASKED)
    away = generate(2 * year * peers, year * peers, "base", seed + 1, provinces=others)
    keys = bench_keys()
    (folder / "indexes").mkdir()
    build_indexes(home.registry, folder / "indexes", keys, START)
    truth = dict(zip(home.truth["query_id"], home.truth["record_id"], strict=True))
    with open_indexes(folder / "indexes", keys) as indexes:
        yield World(
            index=indexes[ASKED],
            here=[(client, truth[query]) for query, client in clients(home.queries)],
            elsewhere=[client for _, client in clients(away.queries)],
            registered=[
                (
                    Client(row["name"], row["sex"], row["birth_date"], row["birthplace"], row["mother_name"]),
                    row["record_id"],
                )
                for row in home.registry.sample(min(persons, 4000), seed=seed, shuffle=True).iter_rows(named=True)
            ],
            encoder=QueryEncoder(keys),
        )


# --- honest provinces -------------------------------------------------------------------------------------------------


def honest(world: World, peer: int, seed: int) -> list[Question]:
    """Return a year of one province's questions: first ones, follow-ups, corrected spellings, and re-asks."""
    chance = np.random.Generator(np.random.PCG64([seed, peer]))
    share = HERE[peer]
    at_home = iter(chance.permutation(len(world.here)).tolist())
    away = iter(chance.permutation(len(world.elsewhere)).tolist())
    asked: list[Question] = []
    days = [day for day in range(365) if (START + timedelta(days=day)).weekday() < 5]
    for number, day in enumerate(days):
        count = int(chance.poisson(CLIENTS_A_MONTH / WORKING_DAYS)) + (
            RAID if number % RAID_EVERY == RAID_EVERY - 1 else 0
        )
        for _ in range(count):
            begin = START + timedelta(days=day, minutes=float(chance.uniform(0, 7 * 60)))
            if chance.random() < share:
                client, person = world.here[next(at_home, int(chance.integers(len(world.here))))]
            else:
                client, person = world.elsewhere[next(away, int(chance.integers(len(world.elsewhere))))], None
            asked += _talk(chance, begin, client, person)
    return sorted([*asked, *_changeover(asked)], key=lambda question: question.at)


def _changeover(asked: Sequence[Question]) -> list[Question]:
    """Return what is asked when the linkage key changes: every case of the last days that is still asked about."""
    begin = START + timedelta(days=CHANGEOVER_DAY)
    last: dict[str, Question] = {}
    for question in asked:
        if begin - OPEN_FOR < question.at < begin and question.is_again:
            last[question.case] = question
    return [
        replace(
            question,
            at=begin + timedelta(days=number // AGAIN_PER_DAY) + AGAIN_EVERY * (number % AGAIN_PER_DAY),
            epoch=2,
        )
        for number, question in enumerate(last.values())
    ]


def _talk(chance: np.random.Generator, begin: datetime, client: Client, person: str | None) -> list[Question]:
    operator = int(chance.choice(len(OPERATORS), p=OPERATORS))
    told = [name for name in DETAILS if getattr(client, name)]
    later = [name for name in told if chance.random() > KNOWN_AT_FIRST]
    said = _without(client, later)
    steps = [said]
    for number in range(len(later)):
        said = _without(client, later[number + 1 :])
        steps.append(said)
    if chance.random() < RESPELT:
        steps.append(replace(said, name=slip(chance, said.name)))
    own_case = chance.random() < OWN_CASE
    case = f"K-{chance.integers(1 << 40):x}"
    asked = []
    at = begin
    for number, step in enumerate(steps):
        asked.append(Question(at, operator, f"{case}-{number}" if own_case else case, step, person))
        at += timedelta(minutes=float(chance.uniform(2, 15)))
    if chance.random() < OPEN_SHARE:
        again = START + NEW_REGISTRY * (int((at - START) / NEW_REGISTRY) + 1)
        while again < begin + OPEN_FOR:
            at = again + timedelta(seconds=int(chance.integers(3600)))
            asked.append(Question(at, operator, case, steps[-1], person, is_again=True))
            again += NEW_REGISTRY
    return asked


def _without(client: Client, names: Sequence[str]) -> Client:
    born, birthplace, mother = (None if name in names else getattr(client, name) for name in DETAILS)
    return Client(client.name, client.sex, born, birthplace, mother)


# --- rogues -----------------------------------------------------------------------------------------------------------

Rogue = tuple[str, list[Question]]
Target = tuple[Client, "str | None"]

FAST: Final = timedelta(seconds=20)
A_DAY_16: Final = timedelta(minutes=25)
A_DAY_4: Final = timedelta(minutes=105)


def rogues(world: World, seed: int) -> list[Rogue]:
    """Return what each kind of rogue would ask in a month; far more than any budget."""
    chance = np.random.Generator(np.random.PCG64([seed, 99]))
    known = _list_of_persons(world, chance)
    strangers: list[Target] = [(client, None) for client in world.elsewhere]
    bare: list[Target] = [
        (replace(client, birthplace=None, mother_name=None, born=client.born and client.born[:4]), record)
        for client, record in known
    ]
    namesakes = sorted(bare, key=lambda target: target[0].name or "")
    names = public_names()
    common = sorted(names.spellings[place] for place in np.argsort(-names.share)[:2000])
    rare = [names.spellings[place] for place in np.argsort(names.share)[:4000]]
    first = known[0][0]
    days = ((year, month, day) for year in range(1950, 1990) for month in range(1, 13) for day in (1, 9, 17, 25))
    born = [f"{year}-{month:02d}-{day:02d}" for year, month, day in days]
    chance.shuffle(born)
    spelt = [first.name]
    while len(spelt) < 1500:
        spelt.append(slip(chance, spelt[int(chance.integers(len(spelt)))]))
    place = first.birthplace
    guessed = [
        Client(common[int(chance.integers(len(common)))], "LP"[int(chance.integers(2))], day[:4], place) for day in born
    ]
    both = [replace(first, name=name, born=day) for name, day in zip(spelt, born, strict=False)]
    plans: list[tuple[str, list[Target], timedelta]] = [
        ("confirms a list, as fast as it can", known, FAST),
        ("confirms a list, 16 a day", known, A_DAY_16),
        ("confirms a list, 4 a day", known, A_DAY_4),
        ("the same 16 a day, by name and year alone", bare, A_DAY_16),
        ("the same, namesakes one after the other", namesakes, A_DAY_16),
        ("a list, one in four a stranger, 16 a day", _mixed(known, strangers, 3, 1), A_DAY_16),
        ("a list, every second a stranger", _mixed(known, strangers, 1, 1), A_DAY_16),
        ("a list, two strangers to each", _mixed(known, strangers, 1, 2), A_DAY_16),
        ("a list, four strangers to each", _mixed(known, strangers, 1, 4), A_DAY_16),
        ("three tries at each of a list, as details come", _tried(known), A_DAY_16),
        ("alphabet: names in order, no more", [(Client(name), None) for name in common], A_DAY_16),
        ("alphabet, shuffled, with a place", _shuffled(chance, common, place), A_DAY_16),
        ("common names with a guessed year and a place", [(client, None) for client in guessed], A_DAY_16),
        ("rare names, with a place", [(Client(name, "P", None, place), None) for name in rare], A_DAY_16),
        ("one person, every date of birth", [(replace(first, born=day), None) for day in born], A_DAY_16),
        ("one person, every date, each under another spelling", [(client, None) for client in both], A_DAY_16),
        ("one name, every spelling", [(Client(name, first.sex), None) for name in spelt], A_DAY_16),
    ]
    return [(name, _paced(targets, every)) for name, targets, every in plans]


def _mixed(known: Sequence[Target], strangers: Sequence[Target], of_list: int, of_others: int) -> list[Target]:
    """Return so many of the list, then so many strangers, and so on."""
    ours, others = iter(known), iter(strangers)
    mixed: list[Target] = []
    while True:
        part = [*islice(ours, of_list), *islice(others, of_others)]
        if len(part) < of_list + of_others:
            return mixed
        mixed += part


def _tried(known: Sequence[Target]) -> list[Target]:
    """Return each of the list asked about as a caseworker would: first little, then more."""
    tried: list[Target] = []
    for client, record in known:
        less = replace(client, mother_name=None)
        tried += [(replace(less, birthplace=None), record), (less, record), (client, record)]
    return tried


def _list_of_persons(world: World, chance: np.random.Generator) -> list[tuple[Client, str | None]]:
    """Return an electoral roll, as it were: whole descriptions, most of them of registered persons."""
    strangers = iter(world.elsewhere)
    return [
        (client, record) if chance.random() < LIST_SHARE else (next(strangers), None)
        for client, record in world.registered
    ]


def _shuffled(chance: np.random.Generator, names: Sequence[str], place: str | None) -> list[tuple[Client, str | None]]:
    return [(Client(names[int(n)], "L", None, place), None) for n in chance.permutation(len(names))]


def _paced(targets: Sequence[Target], every: timedelta) -> list[Question]:
    """Spread a month's questions over working hours, each under an operator and a case of its own."""
    asked = []
    at = START
    for number, (client, person) in enumerate(targets):
        if at >= START + MONTH:
            break
        asked.append(Question(at, number, f"K-{number}", client, person))
        at += every
        if at - at.replace(hour=1, minute=0, second=0) >= timedelta(hours=7):  # a working day's end
            at = at.replace(hour=1, minute=0, second=0) + timedelta(days=1)
    return asked


# --- asking -----------------------------------------------------------------------------------------------------------


class Asking:
    """The asked node's guard and registry, with a clock that the questions set."""

    def __init__(self, world: World, store: Store, budgets: Budgets) -> None:
        self._world = world
        self._store = store
        self._model = load_model()
        self._now = START
        self._guard = Guard(store, budgets, hashlib.sha256(b"pulang bench sweep").digest(), ASKED, lambda: self._now)

    def ask_all(
        self, name: str, peer: str, questions: Sequence[Question], step: Callable[[], None], *, forgiving: bool
    ) -> Outcome:
        """Ask one asker's questions. forgiving: a person releases every alarm at once, as after a false one."""
        outcome = Outcome(name)
        confirmed: set[str] = set()
        for number, question in enumerate(questions):
            step()
            self._now = question.at
            received = self._received(question, number)
            if received is None:
                continue
            outcome.asked += 1
            shown = self._answer(peer, received, outcome)
            if shown and question.person is not None:
                confirmed.add(question.person)
            outcome.confirmed = len(confirmed)
            self._look(peer, question, outcome, forgiving=forgiving)
        return outcome

    def _received(self, question: Question, number: int) -> ReceivedQuestion | None:
        try:
            query = self._world.encoder.encode(question.client, question.at.date())
        except FieldValueError:
            return None
        token = hashlib.sha256(f"{question.operator}".encode()).digest()[:PSEUDONYM_BYTES]
        nonce = number.to_bytes(NONCE_BYTES, "big")
        header = QuestionHeader(nonce, question.case, Purpose.RETURN_HOME, token, question.at, question.at)
        query = replace(query, epoch=question.epoch)
        return ReceivedQuestion(hashlib.sha256(nonce).digest(), header, (query.fingerprint, query.epoch), query)

    def _answer(self, peer: str, received: ReceivedQuestion, outcome: Outcome) -> bool:
        try:
            admitted = self._guard.admit(peer, received, self._entry(peer, received))
        except QueryBudgetError:
            outcome.refused += 1
            return False
        outcome.answered += 1
        if admitted.admission is Admission.REPEAT:
            outcome.repeats += 1
            return False
        query: EncodedQuery = received.content  # type: ignore[assignment]
        asked = replace(query, epoch=self._world.index.manifest.epoch)  # there is one index; the guard sees the epoch
        evidence = search(self._world.index, asked, self._model).evidence
        sighting = self._guard.sighting(peer, received, evidence, self._model)
        self._store.record_answer(self._entry(peer, received), sighting=sighting)
        self._guard.watch(peer, received)
        return is_strong(evidence, self._model, asked, above_bits=CONFIRM_BITS)

    def _look(self, peer: str, question: Question, outcome: Outcome, *, forgiving: bool) -> None:
        held = self._store.throttles(peer)
        if held and outcome.minutes is None:
            outcome.minutes = (question.at - START).total_seconds() / 60
            outcome.answered_before = outcome.answered
            outcome.confirmed_before = outcome.confirmed
        if forgiving and held:
            for each in held:
                outcome.alarms[each.pattern] = outcome.alarms.get(each.pattern, 0) + 1
            self._store.release(peer, self._entry(peer, None), by="bench")
        elif held:
            outcome.alarms = {each.pattern: 1 for each in held}

    def _entry(self, peer: str, received: ReceivedQuestion | None) -> AuditEntry:
        digest = received.request_sha256 if received else bytes(32)
        return AuditEntry(self._now, Direction.ANSWERED, peer, "ask", "answered", digest)


def run(
    persons: int, peers: int, seed: int, folder: Path, progress: Callable[[int, int], None] = lambda *_: None
) -> tuple[list[Outcome], list[Outcome]]:
    """Simulate; return the honest provinces' outcomes of a year and the rogues' of a month.

    progress: called with questions done and in all.
    """
    with make_world(persons, peers, seed, folder) as world:
        good = [
            (f"honest province, {HERE[n]:.0%} of its clients at home here", honest(world, n, seed))
            for n in range(peers)
        ]
        bad = [(name, questions[:3000]) for name, questions in rogues(world, seed)]
        total = sum(len(questions) for _, questions in good + bad)
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            progress(done, total)

        store = open_store(f"sqlite:///{folder}/node.db")
        try:
            asking = Asking(world, store, Budgets())
            ours = [asking.ask_all(name, f"h{n}", asked, step, forgiving=True) for n, (name, asked) in enumerate(good)]
            theirs = [
                asking.ask_all(name, f"r{n}", asked, step, forgiving=False) for n, (name, asked) in enumerate(bad)
            ]
        finally:
            store.close()
    return ours, theirs


def quick_folder() -> str | None:
    """Return a folder in memory, where a commit costs no disk; None where there is none."""
    memory = "/dev/shm"  # noqa: S108 - the folder made inside has an unguessable name
    return memory if os.access(memory, os.W_OK) else None


def write(out: Path, ours: Sequence[Outcome], theirs: Sequence[Outcome], facts: dict[str, object]) -> None:
    """Write sweep.json."""
    out.mkdir(parents=True, exist_ok=True)
    body = {**facts, "honest": [asdict(each) for each in ours], "rogue": [asdict(each) for each in theirs]}
    (out / "sweep.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
