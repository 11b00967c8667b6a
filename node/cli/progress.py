"""The one look of progress bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import TaskID


def progress_bars() -> Progress:
    """Return progress bars on stderr: what comes out on stdout stays a result."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def steps_shown(progress: Progress) -> Callable[[str, int, int], None]:
    """Return what shows (step, done, of how many), each step with a bar of its own."""
    tasks: dict[str, TaskID] = {}

    def show(step: str, done: int, total: int) -> None:
        if step not in tasks:
            tasks[step] = progress.add_task(step, total=total)
        progress.update(tasks[step], completed=done)

    return show
