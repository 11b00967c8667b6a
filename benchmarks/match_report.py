"""Turns graded matches into figures for metrics.json and into the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.charts import Slice, percent
from benchmarks.grading import EXAMPLES, examples, grade, groups, one_more, outcomes
from benchmarks.report import Example, Report, Series
from matching.evaluation import bootstrap
from matching.places import province_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import polars as pl

    from benchmarks.grading import Graded, Group, OneMore, Truth
    from benchmarks.match import Match
    from matching.evaluation import Interval
    from matching.weights import MatchModel

WORTH_TELLING: Final = 0.005  # a province less probable is not named in an example
OUTCOME_WORDS: Final = {
    "home_found_right": ("home found, and right", "good"),
    "not_registered_right": ("registered nowhere, and said so", "good"),
    "ambiguous_registered": ("ambiguous, registered", "open"),
    "ambiguous_nowhere": ("ambiguous, registered nowhere", "open"),
    "refused_registered": ("could not be asked, registered", "open"),
    "refused_nowhere": ("could not be asked, registered nowhere", "open"),
    "home_found_elsewhere": ("home found, but it is another", "bad"),
    "home_found_nowhere": ("home found, but there is none", "bad"),
    "not_registered_wrong": ("said to be registered nowhere, but registered", "bad"),
}


@dataclass(frozen=True)
class Evaluation:
    """Everything that is known about a run once the truth is."""

    graded: Graded
    threshold: float
    province: Mapping[str, Interval]
    person: Mapping[str, Interval]
    outcomes: Mapping[str, int]
    one_more: OneMore | None
    groups: Mapping[str, Sequence[Group]]


def evaluate(
    matches: Sequence[Match],
    truth: Truth,
    queries: pl.DataFrame,
    registry: pl.DataFrame,
    *,
    errors: pl.DataFrame | None,
    threshold: float,
    ask: Callable[[pl.DataFrame], Iterator[Match]] | None,
) -> Evaluation:
    """Measure a run. ask: answers further queries; None: nobody is asked a second question."""
    graded = grade(matches, truth)
    return Evaluation(
        graded,
        threshold,
        bootstrap(graded.province, threshold),
        bootstrap(graded.person, threshold),
        outcomes(matches, truth),
        None if ask is None else one_more(matches, truth, queries, registry, ask),
        groups(matches, truth, queries, registry, errors),
    )


def metrics_of(found: Evaluation) -> dict[str, Any]:
    """Return what goes into metrics.json."""
    kinds = (("province", found.graded.province, found.province), ("person", found.graded.person, found.person))
    return {
        **{name: asdict(answers.metrics()) for name, answers, _ in kinds},
        "release_threshold": found.threshold,
        "intervals": {
            name: {figure: asdict(interval) for figure, interval in figures.items()} for name, _, figures in kinds
        },
        "outcomes": dict(found.outcomes),
        "one_more_answer": None if found.one_more is None else asdict(found.one_more),
        "groups": {title: [asdict(group) for group in members] for title, members in found.groups.items()},
    }


def report_of(
    found: Evaluation,
    matches: Sequence[Match],
    truth: Truth,
    *,
    model: MatchModel,
    persons: int,
    facts: Mapping[str, str],
) -> Report:
    """Return the report of a run; facts: what was measured, as words."""
    top1, wrong = found.province["top1"], found.province["false_rate"]
    return Report(
        title="Match benchmark",
        lead=(
            f"{len(matches):,} clients, asked of registries with {persons:,} persons. The likeliest province is the "
            f"home of {percent(top1.value)} of those who are registered; {percent(wrong.value)} of all clients would "
            "be given a wrong home."
        ),
        series=(
            Series("province", found.graded.province, found.threshold, found.province),
            Series("person", found.graded.person, found.threshold, found.person),
        ),
        facts=facts,
        outcomes=tuple(
            Slice(words, found.outcomes[name], kind)
            for name, (words, kind) in OUTCOME_WORDS.items()
            if found.outcomes[name]
        ),
        notes=() if found.one_more is None else (one_more_words(found.one_more),),
        groups=found.groups,
        examples=tuple(
            _example(kind, match, truth, model, persons) for kind, match in examples(matches, truth).items()
        ),
    )


def one_more_words(found: OneMore) -> str:
    """Say what one more answer does."""
    asked = (
        ", ".join(f"{count} for {name.replace('_', ' ')}" for name, count in found.asked_for.items()) or "for nothing"
    )
    return (
        f"One more answer: {found.ambiguous} registered clients are ambiguous, and are asked once more ({asked}). "
        f"Answered as their own record has it, {found.right} of them get the right home and {found.wrong} a wrong one; "
        f"{found.open} stay open, the record of {found.unknown} does not hold the answer, and {found.nothing} are "
        "asked nothing more."
    )


def _example(kind: str, match: Match, truth: Truth, model: MatchModel, persons: int) -> Example:
    assert match.posterior is not None
    best = match.posterior.candidates[0]
    home = truth[match.query_id]
    claims = ", ".join(
        f"{province_name(code)} {percent(probability)}"
        for code, probability in list(match.posterior.provinces.items())[:3]
        if probability >= WORTH_TELLING
    )
    lives = "registered nowhere" if home is None else f"at home in {province_name(home[1])}"
    levels = dict(zip(model.schema.field_names, match.best_levels, strict=True))
    return Example(
        EXAMPLES[kind],
        f"Case {match.query_id}, best candidate in {province_name(best.province)}",
        f"Claimed: {claims or 'no province'}; none of them {percent(match.posterior.none)}. The client is {lives}.",
        persons,
        best.field_bits,
        {name: (level, model.schema.field(name).levels - 1) for name, level in levels.items()},
    )
