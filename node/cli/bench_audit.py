"""`pulang bench audit`: what the audit log adds to an answer."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click

from node.cli.progress import progress_bars


@click.command("audit")
@click.option("--rows", type=click.IntRange(min=0), default=20_000, show_default=True, help="In the log beforehand.")
@click.option("--answers", type=click.IntRange(min=10), default=500, show_default=True, help="Measured.")
def audit_command(rows: int, answers: int) -> None:
    """Measure an answer's two audit commits in SQLite, in turn with two commits of one plain row each.

    Only the ratio means something on a machine that does other work.
    """
    from benchmarks.audit_speed import measure  # noqa: PLC0415 - not needed for --help
    from benchmarks.machine import machine  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="pulang-bench-") as temporary, progress_bars() as progress:
        task = progress.add_task("answers", total=answers)
        found = measure(
            Path(temporary), datetime.now(UTC), rows=rows, answers=answers, step=lambda: progress.advance(task)
        )
    click.echo(f"machine: {machine()}; {found.rows:,} rows in the log; {answers:,} answers")
    click.echo(f"audited answer   {found.audited_ms.median:.2f} ms median, {found.audited_ms.high:.2f} ms at most")
    click.echo(f"two bare commits {found.bare_ms.median:.2f} ms median, {found.bare_ms.high:.2f} ms at most")
    click.echo(f"ratio            {found.ratio:.1f}")
    click.echo(f"root of the log  {found.root_ms:.2f} ms")
