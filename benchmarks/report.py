"""The report of a match benchmark: one HTML file that loads nothing, in pictures and in figures."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.charts import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axis, Bar, Plot, Slice, Step, bars, percent, stacked
from benchmarks.charts import waterfall as draw_waterfall
from matching.evaluation import PRECISION_WANTED, curve, reliability

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from benchmarks.grading import Group
    from matching.evaluation import Answers, Interval

PAGE: Final = Path(__file__).parent / "data" / "report.html"  # style and script around %TITLE% and %BODY%
LABELS: Final = {
    "top1": ("likeliest answer is right", "of the registered"),
    "best_f1": ("best F1", "over all thresholds"),
    "recall_at_precision": (f"recall at {PRECISION_WANTED:.0%} precision", "of the registered"),
    "calibration_error": ("expected calibration error", "claimed against true"),
    "precision": ("precision at the release threshold", "of the answers named"),
    "recall": ("recall at the release threshold", "of the registered"),
    "false_rate": ("wrong answers at the release threshold", "of all clients"),
}
LISTED_THRESHOLDS: Final = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
LOWEST_THRESHOLD: Final = 0.5  # below it, an answer is more likely wrong than right
# Thresholds that the chooser knows: fine where it matters, near 1.
GRID: Final = np.unique(np.concatenate([np.arange(0.0, 0.99, 0.01), np.arange(0.99, 1.0005, 0.001)]).round(4))
COST_WRONG, COST_UNFOUND = 20, 1  # where the sliders stand at first
COST_TOP: Final = 1.5  # top of the chooser's picture, in costs of naming nobody


@dataclass(frozen=True)
class Series:
    """One kind of answer: what it is called, all answers, where they are named, and the figures with intervals."""

    label: str
    answers: Answers
    threshold: float
    figures: Mapping[str, Interval]


@dataclass(frozen=True)
class Example:
    """One answer explained, without a value of anybody: a case number and encoded levels.

    persons: how many could have been meant. field_bits: weight per field. levels: (level, highest level) per field.
    """

    title: str
    case: str
    words: str
    persons: int
    field_bits: Mapping[str, float]
    levels: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Report:
    """Everything the page shows. outcomes: parts of all clients; notes: sentences under them."""

    title: str
    lead: str
    series: tuple[Series, ...]
    facts: Mapping[str, str]
    outcomes: tuple[Slice, ...] = ()
    notes: tuple[str, ...] = ()
    groups: Mapping[str, Sequence[Group]] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()


def render(report: Report) -> str:
    """Return the page."""
    first = report.series[0]
    parts = (
        f"<header><h1>{escape(report.title)}</h1><p class='lead'>{escape(report.lead)}</p></header>",
        _figures(report.series),
        _outcomes(report),
        _section("Precision and recall", _precision_recall(report.series), PRECISION_RECALL_WORDS),
        _section("Does a probability mean what it says?", _calibration(report.series), CALIBRATION_WORDS),
        _section("Wrong answers, by threshold", _false_answers(report.series), FALSE_WORDS, _thresholds(first)),
        _chooser(first),
        _groups(report.groups),
        _examples(report.examples),
        _facts(report.facts),
    )
    page = PAGE.read_text(encoding="utf-8")
    return page.replace("%TITLE%", escape(report.title)).replace("%BODY%", "\n".join(filter(None, parts)))


def _section(title: str, picture: str, words: str, more: str = "") -> str:
    return (
        f"<section><h2>{escape(title)}</h2>"
        f"<figure>{picture}<figcaption>{escape(words)}</figcaption></figure>{more}</section>"
    )


# --- figures --------------------------------------------------------------------------------------------------------


def _figures(series: Sequence[Series]) -> str:
    heads = "".join(
        f"<th scope='col'>{escape(each.label)}<br><span>released from {percent(each.threshold, 0)}</span></th>"
        for each in series
    )
    rows = []
    for name, (label, base) in LABELS.items():
        cells = "".join(f"<td>{_interval(each.figures[name])}</td>" for each in series)
        rows.append(f"<tr><th scope='row'>{escape(label)}<br><span>{escape(base)}</span></th>{cells}</tr>")
    return (
        "<section><h2>The figures</h2><table class='figures'><thead><tr><td></td>"
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "<p class='small'>In brackets: 95 % intervals, from clients drawn again a thousand times; where that shows no "
        "spread at all, Wilson's.</p></section>"
    )


def _interval(found: Interval) -> str:
    return (
        f"<b>{percent(found.value)}</b> <span class='nowrap'>({100 * found.low:.1f} to {100 * found.high:.1f})</span>"
    )


def _outcomes(report: Report) -> str:
    if not report.outcomes:
        return ""
    total = max(1, sum(each.count for each in report.outcomes))
    listed = "; ".join(f"{each.label}: {each.count}" for each in report.outcomes)
    picture = stacked("outcomes", "What the caseworkers are told", listed, report.outcomes)
    rows = "".join(
        f"<tr><td><i class='chip {each.kind}'></i></td><th scope='row'>{escape(each.label)}</th>"
        f"<td class='n'>{each.count:,}</td><td class='n'>{percent(each.count / total)}</td></tr>"
        for each in report.outcomes
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    return (
        f"<section><h2>What the caseworkers are told</h2><figure>{picture}</figure>"
        f"<table class='outcomes'><tbody>{rows}</tbody></table>{notes}</section>"
    )


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><th scope='row'>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in facts.items())
    return f"<section><h2>What was measured</h2><table class='facts'><tbody>{rows}</tbody></table></section>"


# --- pictures -------------------------------------------------------------------------------------------------------

PRECISION_RECALL_WORDS: Final = (
    "Each point of a line is a threshold: of the answers named there, how many are right (precision), and how many of "
    "the registered they are (recall). Marks stand at the release thresholds; dashed: the precision wanted."
)
CALIBRATION_WORDS: Final = (
    "Clients by the probability claimed for their likeliest answer, in tenths. On the dashed line, what is claimed "
    "with 80 % is right eight times of ten. Upright strokes are 95 % intervals; a number says how many clients a "
    "circle stands for."
)
FALSE_WORDS: Final = "Of all clients, how many would be given a wrong answer if all above the threshold were named."
_TENTHS: Final = tuple(float(tick) for tick in np.arange(0, 1.01, 0.2))


def _precision_recall(series: Sequence[Series]) -> str:
    curves = [curve(each.answers) for each in series]
    lowest = min((float(found.precision.min()) for found in curves if len(found.precision)), default=0.9)
    low = min(0.9, math.floor(10 * lowest) / 10)
    step = 0.02 if low >= 0.9 else 0.1
    plot = Plot(
        "pr",
        "Precision and recall",
        "; ".join(
            f"{each.label}: precision {percent(each.figures['precision'].value)}, "
            f"recall {percent(each.figures['recall'].value)} at the release threshold"
            for each in series
        ),
        Axis(0.0, 1.0, _TENTHS, "recall"),
        Axis(low, 1.0, tuple(low + step * i for i in range(round((1 - low) / step) + 1)), "precision"),
    )
    plot.guide(y=PRECISION_WANTED)
    for i, (each, found) in enumerate(zip(series, curves, strict=True)):
        start = [0.0] * min(1, len(found.recall))  # a curve begins at the left edge, if there is one
        plot.line([*start, *found.recall], [*found.precision[:1], *found.precision], f"s{i}")
        plot.mark(each.figures["recall"].value, each.figures["precision"].value, i)
    plot.legend(
        [
            f"{each.label}: {percent(each.figures['recall'].value)} found, "
            f"{percent(each.figures['precision'].value)} of the named are right"
            for each in series
        ],
        y=0.06 * len(series) + 0.02,
    )
    return plot.svg


def _calibration(series: Sequence[Series]) -> str:
    plot = Plot(
        "calibration",
        "Claimed probability against the share that was right",
        "; ".join(
            f"{each.label}: expected calibration error {percent(each.figures['calibration_error'].value)}"
            for each in series
        ),
        Axis(0.0, 1.0, _TENTHS, "probability claimed"),
        Axis(0.0, 1.0, _TENTHS, "share that was right"),
        height=460,
    )
    plot.line([0, 1], [0, 1], "guide")
    for i, each in enumerate(series):
        for tenth in reliability(each.answers):
            plot.whisker(tenth.claimed, tenth.right.low, tenth.right.high, i)
            plot.mark(tenth.claimed, tenth.right.value, i, f"{tenth.clients:,}" if i == 0 else "")
    plot.legend([each.label for each in series])
    return plot.svg


def _false_answers(series: Sequence[Series]) -> str:
    grid = [float(threshold) for threshold in GRID if threshold >= LOWEST_THRESHOLD]
    lines = [[_named(each.answers, threshold)[1] for threshold in grid] for each in series]
    high = 0.02 * max(1, math.ceil(max(map(max, lines)) / 0.02))
    plot = Plot(
        "false",
        "Wrong answers, by threshold",
        "; ".join(
            f"{each.label}: {percent(each.figures['false_rate'].value)} at {percent(each.threshold, 0)}"
            for each in series
        ),
        Axis(LOWEST_THRESHOLD, 1.0, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0), "threshold"),
        Axis(0.0, high, tuple(high * i / 4 for i in range(5)), "clients given a wrong answer", digits=1),
        height=320,
    )
    plot.guide(x=series[0].threshold)
    for i, (each, line) in enumerate(zip(series, lines, strict=True)):
        plot.line(grid, line, f"s{i}")
        plot.mark(each.threshold, each.figures["false_rate"].value, i)
    plot.legend(
        [
            f"{each.label}: {percent(each.figures['false_rate'].value, 2)} at {percent(each.threshold, 0)}"
            for each in series
        ],
        y=0.08 * len(series) + 0.04,
    )
    return plot.svg


def _named(answers: Answers, threshold: float) -> tuple[float, float]:
    """Return which shares of all clients are given a right and a wrong answer at a threshold."""
    named = (answers.probability >= threshold) & (answers.probability > 0)
    right = int((named & answers.right).sum())
    clients = max(len(named), 1)
    return right / clients, (int(named.sum()) - right) / clients


def _thresholds(series: Series) -> str:
    rows = []
    homes = max(int(series.answers.registered.sum()), 1) / max(len(series.answers.registered), 1)
    for threshold in LISTED_THRESHOLDS:
        right, wrong = _named(series.answers, threshold)
        precision = right / (right + wrong) if right + wrong else 1.0
        cells = (percent(threshold), percent(precision), percent(right / homes), percent(wrong, 2))
        rows.append("<tr>" + "".join(f"<td class='n'>{cell}</td>" for cell in cells) + "</tr>")
    heads = "".join(f"<th scope='col'>{head}</th>" for head in ("threshold", "precision", "recall", "wrong answers"))
    return (
        f"<details><summary>{escape(series.label)} in figures</summary>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></details>"
    )


def _groups(groups: Mapping[str, Sequence[Group]]) -> str:
    parts = []
    for number, (title, members) in enumerate(groups.items()):
        if not members:
            continue
        rows = [
            Bar(each.label, f"{each.clients:,} clients", each.found.value, each.found.low, each.found.high, each.top1)
            for each in members
        ]
        listed = "; ".join(f"{each.label}: {percent(each.found.value, 0)} of {each.clients}" for each in members)
        picture = bars(f"group-{number}", title, listed, rows)
        parts.append(f"<h3>{escape(title[0].upper() + title[1:])}</h3><figure>{picture}</figure>")
    if not parts:
        return ""
    return (
        "<section class='long'><h2>Who is found</h2><p>Registered clients whose home is named, and rightly, at the "
        "release threshold; thin lines are 95 % intervals. The upright stroke is the share whose likeliest province is "
        f"their home, named or not.</p>{''.join(parts)}</section>"
    )


def _examples(examples: Sequence[Example]) -> str:
    parts = []
    for number, each in enumerate(examples):
        steps = [Step(f"one of {each.persons:,}", "", -math.log2(each.persons))]
        for name, bits in each.field_bits.items():
            level, highest = each.levels.get(name, (0, 0))
            note = f"level {level} of {highest}" if level else "missing"
            steps.append(Step(name.replace("_", " "), note, bits))
        words = ", ".join(f"{step.label} {step.bits:+.1f} bits" for step in steps)
        picture = draw_waterfall(f"example-{number}", each.title, words, steps, "0 is even odds")
        parts.append(
            f"<figure><h3>{escape(each.title)}</h3><p class='small'>{escape(each.case)}. {escape(each.words)}</p>"
            f"{picture}</figure>"
        )
    if not parts:
        return ""
    return (
        "<section class='long'><h2>Answers explained</h2><p>How the weight of the best candidate comes about, in bits: "
        "it starts as low as there are persons who could be meant, every field raises or lowers it, and at 0 it is as "
        "likely the client as all other persons together. Only case numbers and encoded levels are shown, the higher "
        f"the closer; no name or birth date is in this file.</p>{''.join(parts)}</section>"
    )


# --- threshold chooser ----------------------------------------------------------------------------------------------


def expected_costs(
    right: NDArray[np.float64], wrong: NDArray[np.float64], registered: float, cost_wrong: float, cost_unfound: float
) -> NDArray[np.float64]:
    """Return what every threshold costs, 1 being the cost of naming nobody.

    right, wrong: shares of all clients who get such an answer; registered: share of clients who have a home. Who is
    registered and given a wrong one is unfound, too.
    """
    nobody = cost_unfound * max(registered, 1e-12)
    return np.asarray((cost_wrong * wrong + cost_unfound * (registered - right)) / nobody)


def _chooser(series: Series) -> str:
    shares = np.array([_named(series.answers, float(threshold)) for threshold in GRID])
    registered = float(series.answers.registered.mean()) if len(series.answers.registered) else 0.0
    costs = expected_costs(shares[:, 0], shares[:, 1], registered, COST_WRONG, COST_UNFOUND)
    best = int(costs.argmin())
    plot = Plot(
        "cost",
        "Expected cost, by threshold",
        f"cheapest at {percent(GRID[best])} when a wrong answer costs {COST_WRONG} times as much as none",
        Axis(0.0, 1.0, _TENTHS, "threshold"),
        Axis(0.0, COST_TOP, (0.0, 0.5, 1.0, 1.5), "cost, as share of naming nobody"),
        height=300,
    )
    plot.guide(y=1.0, label="naming nobody")
    plot.guide(x=series.threshold)
    plot.line([float(threshold) for threshold in GRID], [float(cost) for cost in costs], "s0", name="cost-line")
    plot.mark(float(GRID[best]), float(costs[best]), 0, name="cost-best")
    data = {
        "thresholds": [float(threshold) for threshold in GRID],
        "right": [round(float(value), 6) for value in shares[:, 0]],
        "wrong": [round(float(value), 6) for value in shares[:, 1]],
        "registered": round(registered, 6),
        "top": COST_TOP,
        "box": [LEFT, WIDTH - RIGHT, TOP, 300 - BOTTOM],
    }
    words = chooser_words(float(GRID[best]), float(shares[best, 0]), float(shares[best, 1]), registered)
    sliders = "".join(
        f"<label>{label}<input type='range' id='{name}' min='1' max='{top}' value='{start}'>"
        f"<output id='{name}-shown' for='{name}'>{start}</output></label>"
        for label, name, top, start in (
            ("cost of a wrong answer", "cost-wrong", 200, COST_WRONG),
            ("cost of an unfound one", "cost-unfound", 20, COST_UNFOUND),
        )
    )
    return (
        f"<section><h2>Choosing a threshold: {escape(series.label)}</h2><div class='sliders'>{sliders}</div>"
        f"<figure>{plot.svg}<figcaption><b id='cost-words' aria-live='polite'>{escape(words)}</b> Dashed upright: the "
        "release threshold in use. A client who is registered and given a wrong answer counts as unfound, too."
        f"</figcaption></figure><script type='application/json' id='cost-data'>{json.dumps(data)}</script></section>"
    )


def chooser_words(threshold: float, right: float, wrong: float, registered: float) -> str:
    """Say what the cheapest threshold gives; the page's script says the same words."""
    return (
        f"Cheapest: {100 * threshold:.1f} %. Of 1,000 clients, {1000 * right:.0f} get the right answer, "
        f"{1000 * wrong:.1f} a wrong one; {1000 * (registered - right):.0f} of the registered are not found."
    )
