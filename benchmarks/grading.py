"""Grades matches against the truth: answers, outcomes, groups of clients, and what one more answer would do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from matching.evaluation import Answers, Interval, share
from matching.names import parse_name
from matching.posterior import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from benchmarks.match import Match

    Truth = Mapping[str, tuple[str, str] | None]

MIN_GROUP: Final = 10  # clients; of fewer a share says next to nothing
FREQUENCIES: Final = ((1, "1"), (5, "2 to 5"), (20, "6 to 20"), (100, "21 to 100"), (None, "more than 100"))
WORDS: Final = ("1", "2", "3", "4 or more")
SAID: Final = ("sex", "birth_date", "birthplace", "mother_name")
ANSWERABLE: Final = ("birth_date", "birthplace", "mother_name", "sex")


@dataclass(frozen=True)
class Graded:
    """The likeliest province of every query, and its likeliest record."""

    province: Answers
    person: Answers


def grade(matches: Sequence[Match], truth: Truth) -> Graded:
    """Compare matches with the truth; a query that could not be asked claims nothing."""
    homes = [truth[match.query_id] for match in matches]
    registered = np.array([home is not None for home in homes], dtype=np.bool_)
    provinces: list[tuple[float, bool]] = []
    persons: list[tuple[float, bool]] = []
    for match, home in zip(matches, homes, strict=True):
        best = _likeliest(match)
        provinces.append((0.0, False) if best is None else (best[1], home is not None and home[1] == best[0]))
        top = match.records[0] if match.records else None
        persons.append((0.0, False) if top is None else (top[2], home == top[:2]))
    return Graded(_answers(provinces, registered), _answers(persons, registered))


def _likeliest(match: Match) -> tuple[str, float] | None:
    if match.posterior is None or not match.posterior.provinces:
        return None
    return max(match.posterior.provinces.items(), key=lambda item: item[1])


def _answers(rows: Sequence[tuple[float, bool]], registered: np.typing.NDArray[np.bool_]) -> Answers:
    return Answers(
        np.array([claimed for claimed, _ in rows], dtype=np.float64),
        np.array([right for _, right in rows], dtype=np.bool_),
        registered,
    )


# --- what a caseworker is told --------------------------------------------------------------------------------------

OUTCOMES: Final = (
    "home_found_right",
    "home_found_elsewhere",  # registered, but not in the province that was named
    "home_found_nowhere",  # a home was named for a client who has none
    "ambiguous_registered",
    "ambiguous_nowhere",
    "not_registered_right",
    "not_registered_wrong",
    "refused_registered",
    "refused_nowhere",
)


def outcome(match: Match, home: tuple[str, str] | None) -> str:
    """Return which of OUTCOMES a match is."""
    where = "nowhere" if home is None else "registered"
    if match.decision is None:
        return f"refused_{where}"
    if match.decision.outcome is Outcome.HOME_FOUND:
        if home is None:
            return "home_found_nowhere"
        return "home_found_right" if match.decision.province == home[1] else "home_found_elsewhere"
    if match.decision.outcome is Outcome.NOT_REGISTERED:
        return "not_registered_right" if home is None else "not_registered_wrong"
    return f"ambiguous_{where}"


def outcomes(matches: Iterable[Match], truth: Truth) -> dict[str, int]:
    """Count every outcome."""
    found = Counter(outcome(match, truth[match.query_id]) for match in matches)
    return {name: found[name] for name in OUTCOMES}


@dataclass(frozen=True)
class OneMore:
    """What one more answer does for clients who are registered, and of whom the first answer was *ambiguous*.

    asked_for: how often which field was asked for; nothing: clients of whom nothing more is asked. unknown: their own
    record does not hold the answer. right, wrong, open: what the second question gives for the rest.
    """

    ambiguous: int
    asked_for: dict[str, int]
    nothing: int
    unknown: int
    right: int
    wrong: int
    open: int


def one_more(
    matches: Sequence[Match],
    truth: Truth,
    queries: pl.DataFrame,
    registry: pl.DataFrame,
    ask: Callable[[pl.DataFrame], Iterator[Match]],
) -> OneMore:
    """Fill the field that each ambiguous answer asks for from the client's own record, and ask again.

    The best case: the client answers just as the registry has it. ask: answers queries, as the first time.
    """
    wanted = {
        match.query_id: match.decision.ask_for
        for match in matches
        if match.decision is not None and outcome(match, truth[match.query_id]) == "ambiguous_registered"
    }
    asked = {query: name for query, name in wanted.items() if name in ANSWERABLE}
    homes = pl.DataFrame(
        [(query, *home) for query in asked if (home := truth[query]) is not None],
        schema=["query_id", "record_id", "province"],
        orient="row",
        schema_overrides=dict.fromkeys(("query_id", "record_id", "province"), pl.String),
    )
    known = homes.join(registry, on=["record_id", "province"], how="left").unique("query_id", keep="first")
    answers = {row["query_id"]: row[asked[row["query_id"]]] for row in known.iter_rows(named=True)}
    answered = {query: value for query, value in answers.items() if value is not None}
    fuller = queries.filter(pl.col("query_id").is_in(list(answered))).with_columns(
        pl.when(pl.col("query_id").replace_strict(asked, default=None, return_dtype=pl.String) == name)
        .then(pl.col("query_id").replace_strict(answered, default=None, return_dtype=pl.String))
        .otherwise(pl.col(name))
        .alias(name)
        for name in ANSWERABLE
    )
    second = Counter(outcome(match, truth[match.query_id]) for match in ask(fuller)) if fuller.height else Counter()
    right, wrong = second["home_found_right"], second["home_found_elsewhere"] + second["not_registered_wrong"]
    return OneMore(
        ambiguous=len(wanted),
        asked_for=dict(sorted(Counter(asked.values()).items())),
        nothing=len(wanted) - len(asked),
        unknown=len(asked) - len(answered),
        right=right,
        wrong=wrong,
        open=second.total() - right - wrong,
    )


# --- groups of clients ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Registered clients who have something in common.

    found: share whose home is named, and rightly. top1: share whose likeliest province is their home.
    """

    label: str
    clients: int
    found: Interval
    top1: float


def groups(
    matches: Sequence[Match],
    truth: Truth,
    queries: pl.DataFrame,
    registry: pl.DataFrame,
    errors: pl.DataFrame | None,
) -> dict[str, list[Group]]:
    """Return how well registered clients are found, by what may make it hard.

    errors: query_id and operations (`field:operation` joined by `;`), what the population's maker did to each client.
    """
    rows = []
    for match in matches:
        home = truth[match.query_id]
        if home is not None:
            best = _likeliest(match)
            right = outcome(match, home) == "home_found_right"
            rows.append((match.query_id, *home, right, best is not None and best[0] == home[1]))
    clients = pl.DataFrame(
        rows, schema=["query_id", "record_id", "province", "found", "top1"], orient="row", infer_schema_length=None
    )
    if not clients.height:
        return {}
    crowds = registry.group_by(pl.col("name").str.strip_chars().str.to_uppercase().alias("key")).len("bearers")
    records = registry.unique(["record_id", "province"], keep="first").select(
        "record_id",
        "province",
        pl.col("name").str.strip_chars().str.to_uppercase().alias("key"),
        pl.col("birth_date").str.extract(r"^(\d{3})\d").alias("decade"),
    )
    table = (
        clients.join(records, on=["record_id", "province"], how="left")
        .join(crowds, on="key", how="left")
        .join(queries, on="query_id", how="left")
    )
    words = [WORDS[min(max(len(parse_name(name or "").tokens), 1), 4) - 1] for name in table["name"]]
    table = table.with_columns(
        pl.Series("words", words),
        pl.sum_horizontal(pl.col(name).is_not_null().cast(pl.Int32) for name in SAID).cast(pl.String).alias("said"),
        pl.col("bearers").map_elements(_frequency, return_dtype=pl.String).alias("frequency"),
        (pl.col("decade") + "0 to " + pl.col("decade") + "9").fill_null("not known").alias("cohort"),
    )
    found = {
        "persons registered under the same name": _by(table, "frequency", [label for _, label in FREQUENCIES]),
        "birth cohort, as registered": _by(table, "cohort"),
        "words in the name, as given": _by(table, "words", WORDS),
        "facts given besides the name (of four)": _by(table, "said"),
    }
    if errors is not None:
        told = errors.with_columns(pl.col("operations").fill_null("nothing wrong").str.split(";")).explode("operations")
        kinds = _by(table.join(told, on="query_id", how="inner"), "operations")
        found["what is wrong with the description"] = sorted(kinds, key=lambda group: group.found.value)
    return found


def _frequency(bearers: int) -> str:
    return next(label for limit, label in FREQUENCIES if limit is None or bearers <= limit)


def _by(table: pl.DataFrame, column: str, order: Sequence[str] = ()) -> list[Group]:
    """Return the groups of at least MIN_GROUP clients, in the order given or by label."""
    counted = table.group_by(column).agg(pl.len(), pl.col("found").sum(), pl.col("top1").mean().alias("first"))
    ranks = {label: rank for rank, label in enumerate(order)}
    made = [
        Group(label.replace("_", " ").replace(":", ": "), clients, share(found, clients), first)
        for label, clients, found, first in counted.drop_nulls().iter_rows()
        if clients >= MIN_GROUP
    ]
    return sorted(made, key=lambda group: (ranks.get(group.label, len(ranks)), group.label))


# --- examples -------------------------------------------------------------------------------------------------------

EXAMPLES: Final = {
    "home_found_right": "Found, and right",
    "ambiguous_registered": "Ambiguous: the client is registered, the answer does not say where",
    "home_found_elsewhere": "Found, and wrong: the client is registered in another province",
    "home_found_nowhere": "Found, and wrong: the client is registered nowhere",
    "not_registered_wrong": "Said to be registered nowhere, and wrong",
}


def examples(matches: Iterable[Match], truth: Truth) -> dict[str, Match]:
    """Choose one match for each kind of outcome worth explaining: of those with most facts, the first."""
    chosen: dict[str, Match] = {}
    for match in matches:
        kind = outcome(match, truth[match.query_id])
        if kind in EXAMPLES and match.posterior is not None and match.posterior.candidates:
            held = chosen.get(kind)
            if held is None or _facts(match) > _facts(held):
                chosen[kind] = match
    return {kind: chosen[kind] for kind in EXAMPLES if kind in chosen}


def _facts(match: Match) -> int:
    best = match.posterior.candidates[0] if match.posterior is not None else None
    return 0 if best is None else sum(1 for bits in best.field_bits.values() if bits)
