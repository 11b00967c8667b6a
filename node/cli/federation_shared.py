"""What the commands of `pulang federation` share: where what is published is read from, and how a change is shown."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from node.cli.options import home_option
from node.cli.terminal import plain
from node.pki.changes import concerns, describe
from node.pki.proposal import check_proposal
from node.pki.refresh import Mirror

if TYPE_CHECKING:
    from collections.abc import Callable

    from node.home import NodeHome
    from node.pki.proposal import Proposal
    from node.pki.refresh import Copy

FILE: Final = click.Path(path_type=Path)


def published_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--home DIR` and `--repository DIR`, handed over as `published: Copy | None`, verified, expired or not."""

    @home_option
    @click.option("--repository", type=FILE, metavar="DIR", help="A repository's folder, instead of the node's copy.")
    @wraps(function)
    def read(home: NodeHome, repository: Path | None, **given: Any) -> Any:
        mirror = Mirror(repository or home.tuf)
        return function(published=mirror.load() if mirror.current.exists() else None, **given)

    return read


def print_change(proposal: Proposal, published: Copy | None) -> None:
    """Show every difference between what is published and what would be."""
    after = check_proposal(proposal, published)
    before = published.contents if published else None
    if before is None:
        click.echo(f"This would found the federation {after.membership.federation}:")
    else:
        click.echo(
            f"This would change {after.membership.federation}, version {before.membership.version}, to version "
            f"{proposal.targets.signed.version}:"
        )
    for line in describe(before, after) or ["= nothing changes; the dates begin anew"]:
        click.echo(plain(line))
    for line in concerns(after):
        click.echo(plain(f"! {line}"))
    root = proposal.root
    click.echo(f"= proposed at {after.membership.issued_at:%Y-%m-%d %H:%M} UTC")
    click.echo(f"= the list would be valid until {proposal.targets.signed.expires:%Y-%m-%d %H:%M} UTC")
    if root is not None:
        click.echo(f"= the root, version {root.signed.version}, until {root.signed.expires:%Y-%m-%d %H:%M} UTC")
