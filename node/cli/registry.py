"""`pulang registry`: import a registry into an encoded index, look at the one that answers."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from node.cli.options import home_option
from node.cli.terminal import plain
from node.config import load_config
from node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from node.config import NodeConfig
    from node.home import NodeHome
    from node.importer import ImportReport
    from node.importer import Progress as ImportProgress
    from node.mapping import ColumnMap
    from node.sources import Source

COMPLAINTS_SHOWN = 5
MANY_IGNORED = 0.3  # of the rows in one field: more likely the mapping's fault than the persons'


@click.group()
def registry() -> None:
    """Import the province's registry into an encoded index; names never leave this machine, nor stay in the index."""


@registry.command("import")
@click.argument("source", metavar="SOURCE")
@home_option
@click.option(
    "--mapping",
    "mapping_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Which column means what. Without it: a guess.",
)
@click.option("--yes", is_flag=True, help="Accept the guessed columns without asking.")
@click.option(
    "--write-mapping",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the guess to FILE, import nothing.",
)
@click.option("--header-row", type=click.IntRange(min=1), metavar="N", help="Row of the column names, under a title.")
@click.option("--sheet", metavar="NAME", help="Sheet of a workbook; default: the first.")
@click.option("--table", metavar="NAME", help="Table or view of a database.")
@click.option("--query", metavar="SQL", help="Query of a database.")
@click.option(
    "--max-rejects",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    metavar="SHARE",
    help="Share of rows that may be rejected.",
)
@click.option("--batch", type=click.IntRange(min=1), default=50_000, show_default=True, help="Persons encoded at once.")
def import_(  # noqa: PLR0917 - one parameter per option
    source: str,
    home: NodeHome,
    mapping_file: Path | None,
    yes: bool,
    write_mapping: Path | None,
    header_row: int | None,
    sheet: str | None,
    table: str | None,
    query: str | None,
    max_rejects: float,
    batch: int,
) -> None:
    """Read SOURCE and let it answer in place of what was imported before.

    SOURCE is a CSV (comma, semicolon or tab; UTF-8 or Windows-1252), Excel or Parquet file, or a database:
    postgresql://user@host/name with --table or --query. Its password belongs into ~/.pgpass, not on the command line.
    """
    # Imported here: `pulang registry --help` must not load numba.
    from node import mapping as maps  # noqa: PLC0415
    from node.epoch import import_keys  # noqa: PLC0415
    from node.importer import import_registry  # noqa: PLC0415
    from node.registry_source import remember  # noqa: PLC0415
    from node.sources import open_source  # noqa: PLC0415

    if mapping_file is not None and write_mapping is not None:
        raise click.UsageError("--write-mapping writes the guess: give it or --mapping, not both")
    mapping = maps.load_mapping(mapping_file) if mapping_file is not None else None
    keys = None if write_mapping else import_keys(home, load_config(home))
    header_row = header_row or (mapping.header_row if mapping else None)
    with open_source(source, sheet=sheet, table=table, query=query, header_row=header_row) as opened:
        if mapping is None:
            mapping = maps.guess_mapping(opened.columns, header_row=header_row)
            if keys is not None:
                _confirm(opened, mapping, source, accepted=yes)
        if keys is None:
            assert write_mapping is not None
            maps.write_mapping(write_mapping, mapping)
            click.echo(f"wrote {write_mapping}: look it over, then import with --mapping {write_mapping}")
            return
        started = time.monotonic()
        with _bar() as bar:
            report = import_registry(
                home,
                keys,
                opened,
                mapping,
                datetime.now(UTC),
                max_rejects=max_rejects,
                batch_rows=batch,
                progress=_shown_on(bar),
            )
    remember(
        home,
        source,
        mapping,
        generation=report.generation,
        sheet=sheet,
        table=table,
        query=query,
        header_row=header_row,
        max_rejects=max_rejects,
    )
    _print_report(report, time.monotonic() - started)


def _confirm(source: Source, mapping: ColumnMap, name: str, *, accepted: bool) -> None:
    """Show the guess, and ask; without a person to ask it must have been accepted beforehand."""
    from node.mapping import RECORD_ID  # noqa: PLC0415

    click.echo(plain(f"columns as guessed from their names ({source.kind}):"), err=True)
    table = Table()
    table.add_column("field")
    table.add_column("column")
    for field, column in mapping.columns.items():
        table.add_row(field, plain(column))
    if RECORD_ID not in mapping.columns:
        table.add_row(RECORD_ID, "(none: the row number stands in for it)")
    unused = [column for column in source.columns if column and column not in mapping.columns.values()]
    # A registry's column names are somebody else's words: no markup, nothing that steers the terminal.
    Console(stderr=True, markup=False, highlight=False, emoji=False).print(table)
    click.echo(plain(f"not used: {', '.join(unused) or 'none'}"), err=True)
    if accepted:
        return
    if not sys.stdin.isatty():
        raise ConfigError(
            "no mapping was given, and nobody is here to confirm the guessed columns",
            hint=f"`pulang registry import {_shown(name)} --write-mapping map.toml`, look it over, then import with "
            "--mapping map.toml; or accept the guess with --yes",
        )
    click.confirm("Import with these columns?", abort=True, err=True)


def _shown(source: str) -> str:
    return "URL" if "://" in source else source  # a URL may hold a password


def _bar() -> Progress:
    console = Console(stderr=True)
    return Progress(
        BarColumn(),
        TaskProgressColumn(show_speed=False),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[rejected]:,} rejected"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _shown_on(bar: Progress) -> Callable[[ImportProgress], None]:
    task = bar.add_task("", total=None, rejected=0, rows=0)
    return lambda p: bar.update(task, completed=p.done, total=p.total, rows=p.rows, rejected=p.rejected)


def _print_report(report: ImportReport, seconds: float) -> None:
    click.echo(f"{report.generation} answers from now on: {report.persons:,} persons")
    click.echo(
        f"{report.rows:,} rows read, {report.rejected:,} rejected, {report.ignored:,} values ignored; "
        f"{seconds:.1f} s, {report.rows / seconds:,.0f} rows/s"
    )
    for complaint in report.complaints[:COMPLAINTS_SHOWN]:
        click.echo(f"  {complaint.rows:,} x {complaint.field}: {complaint.reason}")
    for advice in _advice(report):
        click.echo(f"warning: {advice}")
    if report.rejects_file is not None:
        click.echo(f"row numbers and reasons, without values: {report.rejects_file}")
    for note in report.notes:
        click.echo(plain(f"note: {note}"))


def _advice(report: ImportReport) -> Iterator[str]:
    if report.ignored > MANY_IGNORED * report.rows:
        yield (
            f"{report.ignored:,} values in {report.rows:,} rows could not be read; look at the reasons above, and at "
            'date_order ("mdy": the month first) and [sex] in the mapping'
        )


@registry.command()
@home_option
@click.option(
    "--epoch", type=click.IntRange(min=1), metavar="N", help="Only this epoch; default: every one that is due."
)
@click.option("--background", is_flag=True, help="At the lowest priority, as a serving node starts it by itself.")
def reencode(home: NodeHome, epoch: int | None, *, background: bool) -> None:
    """Read the registry again from where it was imported, and encode it into the epochs that have no index of it yet.

    A serving node does this by itself. Questions go on being answered from what is there.
    """
    from node.epoch import Keyring, installed_membership  # noqa: PLC0415
    from node.reencoding import indexes  # noqa: PLC0415
    from node.reencoding import reencode as run  # noqa: PLC0415

    if background:
        os.nice(19)
    keyring = Keyring(home, load_config(home), lambda: installed_membership(home))
    if epoch is not None and epoch not in keyring.keys:
        raise keyring.problems.get(epoch) or ConfigError(
            f"epoch {epoch} is not valid", hint="`pulang epoch status` says which ones are"
        )
    due = [index.epoch for index in indexes(home, keyring.keys) if index.is_due]
    for number in due if epoch is None else [epoch]:
        started = time.monotonic()
        with _bar() as bar:
            report = run(home, keyring.keys[number], datetime.now(UTC), _shown_on(bar))
        click.echo(f"epoch {number}:")
        _print_report(report, time.monotonic() - started)
    if not due and epoch is None:
        click.echo("nothing to do: every valid epoch whose secret is here has an index of the last import")


@registry.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(home: NodeHome, *, as_json: bool) -> None:
    """Show the generation that answers, and that of the other valid epoch if there is one."""
    from matching.schema import PERSON_SCHEMA  # noqa: PLC0415
    from node.publishing import published, unreadable  # noqa: PLC0415

    config = load_config(home)
    found = published(home) if home.generations.is_dir() else {}
    if not found:
        damage = unreadable(home) if home.generations.is_dir() else None
        if damage is not None:
            raise damage
        click.echo(json.dumps({"generation": None}) if as_json else "no registry imported yet")
        return
    asked_in = _valid_epochs(home, config)
    epoch = next((number for number in asked_in if number in found), next(iter(found)))
    name, manifest = found[epoch]
    fits = manifest.fingerprint == PERSON_SCHEMA.fingerprint.hex() and epoch in asked_in
    if as_json:
        facts = {
            "generation": name,
            "persons": manifest.persons,
            "source_rows": manifest.source_rows,
            "built_at": manifest.built_at,
            "schema_fingerprint": manifest.fingerprint,
            "key_epoch": manifest.epoch,
            "usable": fits,
            "epochs": {str(number): each for number, (each, _) in sorted(found.items())},
        }
        click.echo(json.dumps(facts))
        return
    for number in sorted(found, key=lambda number: number != epoch):
        name, manifest = found[number]
        click.echo(f"{name}: {manifest.persons:,} persons of {manifest.source_rows:,} rows")
        click.echo(f"built {manifest.built_at}, schema {manifest.fingerprint[:16]}, key epoch {manifest.epoch}")
    if not fits:
        click.echo(
            f"not usable: this node works with schema {PERSON_SCHEMA.fingerprint.hex()[:16]}, key epoch "
            f"{' or '.join(map(str, asked_in))}; import the registry again"
        )


def _valid_epochs(home: NodeHome, config: NodeConfig) -> tuple[int, ...]:
    """Return the epochs that count here, the active one first."""
    from node.epoch import FIRST_EPOCH, installed_membership  # noqa: PLC0415
    from node.pki.refresh import Mirror  # noqa: PLC0415

    if not Mirror(home.tuf).current.exists():
        return (config.key_epoch or FIRST_EPOCH,)
    membership = installed_membership(home)
    active = membership.active_epoch.number
    return (active, *(epoch.number for epoch in membership.valid_epochs if epoch.number != active))
