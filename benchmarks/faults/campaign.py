"""Runs faults one after the other, checks after every step, and counts: broken invariants, and seconds to recover."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from benchmarks.faults.catalogue import FAULTS, Fault, Stage
from benchmarks.faults.invariants import KINDS, LOST, PROMISE, Violation
from benchmarks.faults.world import PROVINCES, SETTLE_S, START_S, until
from node.errors import ConfigError, NodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from benchmarks.faults.world import World

    Progress = Callable[[str, int, int], None]  # fault, runs done, of how many

NAMES: Final = tuple(fault.name for fault in FAULTS)
UPPER: Final = 3  # 0 in n: less than 3/n, at 95 %


@dataclass
class Outcome:
    """What came of one fault. violations: each once, with the number of the run after which it was first seen.

    questions: put by caseworkers. recovered_s: of each run that did. skipped: why it could not be made here.
    """

    name: str
    entry: str
    how: str
    runs: int = 0
    questions: int = 0
    violations: list[tuple[int, Violation]] = field(default_factory=list)
    recovered_s: list[float] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)
    skipped: str | None = None

    @property
    def counts(self) -> Counter[str]:
        """Return how many violations of each kind there were."""
        return Counter(violation.kind for _, violation in self.violations)

    @property
    def median_s(self) -> float | None:
        """Return the median time to recover."""
        return statistics.median(self.recovered_s) if self.recovered_s else None

    @property
    def worst_s(self) -> float | None:
        """Return the longest time to recover."""
        return max(self.recovered_s, default=None)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "fault": self.name,
            "entry": self.entry,
            "injected": self.how,
            "runs": self.runs,
            "questions": self.questions,
            "counts": {kind: self.counts[kind] for kind in KINDS},
            "at_95_percent_below": round(UPPER / self.runs, 4) if self.runs else None,
            "violations": [{"run": run, "kind": each.kind, "text": each.text} for run, each in self.violations],
            "recovered_median_s": self.median_s,
            "recovered_worst_s": self.worst_s,
            "notes": self.notes,
            "skipped": self.skipped,
        }


def choose(names: Iterable[str]) -> tuple[Fault, ...]:
    """Return the faults of these names, in the table's order; of none, all."""
    wanted = set(names)
    return tuple(fault for fault in FAULTS if not wanted or fault.name in wanted)


def run_fault(world: World, fault: Fault, runs: int, progress: Progress = lambda *_: None) -> Generator[Outcome]:
    """Run one fault `runs` times its share; yield the outcome as it stands after each run."""
    outcome = Outcome(fault.name, fault.entry, fault.how, skipped=fault.missing())
    if outcome.skipped:
        yield outcome
        return
    wanted = max(1, math.ceil(runs * fault.share))
    with fault.around(world) if fault.around else nullcontext():
        for number in range(wanted):
            progress(fault.name, number, wanted)
            if number % fault.batch == 0:
                world.renew()
                before = outcome.questions
            try:
                _run(world, fault, _stage(world, fault, number, outcome), outcome)
            except KeyboardInterrupt:
                outcome.runs -= 1  # nobody knows what would have come of it
                raise
            if number % fault.batch == fault.batch - 1 or number == wanted - 1:
                _finish(world, outcome)
            outcome.questions = before + len(world.ledger.asked)
            yield outcome
    progress(fault.name, wanted, wanted)


def run_campaign(
    world: World, faults: Iterable[Fault], runs: int, progress: Progress = lambda *_: None
) -> Generator[Outcome]:
    """Run every fault as `run_fault` does."""
    for fault in faults:
        yield from run_fault(world, fault, runs, progress)


def run_quickly(world: World, faults: Iterable[Fault], progress: Progress = lambda *_: None) -> Generator[Outcome]:
    """Run each fault once in each way, all over the same books, and bring them to their end together: a minute or two.

    Faults that need a node set up anew come afterwards, each by itself.
    """
    chosen = list(faults)
    together = [fault for fault in chosen if fault.around is None and not fault.missing()]
    if together:
        world.renew()
    for number, fault in enumerate(together):
        progress(fault.name, number, len(together))
        outcome = Outcome(fault.name, fault.entry, fault.how)
        for way in range(fault.ways):
            _run(world, fault, _stage(world, fault, way, outcome), outcome)
        yield outcome
    if together:
        end = Outcome(
            "at the end", "", "every question answered, every node restarted", questions=len(world.ledger.asked)
        )
        _finish(world, end)
        yield end
    for fault in chosen:
        if fault not in together:
            *_, outcome = run_fault(world, fault, 1, progress)
            yield outcome


def _stage(world: World, fault: Fault, number: int, outcome: Outcome) -> Stage:
    # Every run has chance of its own, from the seed: --seed S --runs N repeats the first N of them.
    return Stage(world, random.Random(f"{world.seed}/{fault.name}/{number}"), number, outcome.notes)


def _run(world: World, fault: Fault, stage: Stage, outcome: Outcome) -> None:
    """Inject once, check, wait for recovery, check again."""
    outcome.runs += 1
    try:
        until(lambda: all(map(world.is_ready, PROVINCES)), START_S, "the nodes are not ready")
        fault.inject(stage)
    except NodeError as error:  # a node that does not come back, say: the campaign goes on without this run's rest
        stage.promise(kept=False, text=f"the run could not be brought to its end: {error}")
        world.restart_all()
        stage.over()
    _note(outcome, stage.broken)
    _note(outcome, world.violations())
    assert stage.ended_at is not None
    recovered = world.recovered(stage.ended_at)
    if recovered is None:
        text = f"not ready and answering again within {SETTLE_S:.0f} s"
        _note(outcome, [Violation(PROMISE, text)])
        world.restart_all()
    else:
        outcome.recovered_s.append(recovered)
    _note(outcome, world.violations())


def _finish(world: World, outcome: Outcome) -> None:
    """Let every question come to its end, restart every node, and look once more: nothing may be half-done."""
    try:
        until(lambda: not world.open_cases(), SETTLE_S, "questions are still open")
    except ConfigError:
        waiting = world.open_cases()
        _note(outcome, [Violation(LOST, f"{case} is still waited for, {SETTLE_S:.0f} s later") for case in waiting])
    world.restart_all()
    _note(outcome, world.violations(at_rest=True))


def _note(outcome: Outcome, found: Iterable[Violation]) -> None:
    known = {violation for _, violation in outcome.violations}
    outcome.violations += [(outcome.runs, violation) for violation in found if violation not in known]
