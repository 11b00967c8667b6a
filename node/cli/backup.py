"""`pulang backup`: a node's memory in a file, checked, and put back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from node.backup import create_backup, restore_backup, verify_backup
from node.cli.options import home_option

if TYPE_CHECKING:
    from node.backup import Manifest
    from node.home import NodeHome

FILE: Final = click.Path(path_type=Path)


@click.group()
def backup() -> None:
    """Take a node's memory out, check it, put it back."""


@backup.command()
@click.argument("out", type=FILE, metavar="FILE")
@home_option
@click.option("--keys", type=FILE, metavar="FILE2", help="Also write the keys and secrets, to be kept elsewhere.")
def create(out: Path, home: NodeHome, keys: Path | None) -> None:
    """Write database, settings and published trust to FILE (0600), beside a running node or not.

    Indexes are not in it: the registry is imported again. Encrypt both files; never keep them in one place.
    """
    manifest = create_backup(home, out, datetime.now(UTC), keys_out=keys)
    _tell(manifest)
    click.echo(f"wrote {out}, {out.stat().st_size:,} bytes, and read it back")
    if keys is not None:
        click.echo(f"wrote {keys}: with it and an index, a thief has the registry's names. Keep it apart")


@backup.command()
@click.argument("file", type=FILE, metavar="FILE")
def verify(file: Path) -> None:
    """Read FILE to its end and check every file in it."""
    _tell(verify_backup(file))
    click.echo(f"{file} is whole")


@backup.command()
@click.argument("file", type=FILE, metavar="FILE")
@home_option
@click.option("--keys", type=FILE, metavar="FILE2", help="The keys and secrets that were written with it.")
@click.option("--database-url", metavar="URL", help="An empty database, if not the one the settings name.")
def restore(file: Path, home: NodeHome, keys: Path | None, database_url: str | None) -> None:
    """Make the node's folder anew out of FILE. The folder must not exist, and the database must be empty.

    What happened after the backup is not in it: say so in the case files, and see docs/operations.md.
    """
    restored = restore_backup(file, home, keys=keys, database_url=database_url)
    _tell(restored.manifest)
    click.echo(f"restored {home.root}, {restored.rows:,} database rows")
    if keys is None:
        click.echo("next: a new certificate and the epoch's secret, then `pulang registry import`")
    else:
        click.echo("next: `pulang registry import`, then `pulang node serve`")
    if database_url is not None:
        click.echo(f"set `database_url` in {home.config} to the database named here")


def _tell(manifest: Manifest) -> None:
    click.echo(
        f"province {manifest.province} of {manifest.federation}, taken at {manifest.taken_at:%Y-%m-%d %H:%M} UTC, "
        f"{len(manifest.files)} files"
    )
