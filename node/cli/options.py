"""Options that several commands share, so that they read and mean the same everywhere."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.texts import LANGUAGES, Texts
from node.home import NodeHome

if TYPE_CHECKING:
    from collections.abc import Callable

    from node.pki.authority import Authority
    from node.pki.membership import Membership


def home_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--home DIR`, handed over as `home: NodeHome`."""
    return click.option(
        "--home",
        metavar="DIR",
        envvar="PULANG_HOME",
        default="~/.pulang",
        show_default=True,
        show_envvar=True,
        callback=_as_home,
        help="The node's folder.",
    )(function)


def _as_home(context: click.Context, parameter: click.Parameter, value: str) -> NodeHome:  # noqa: ARG001 - click's
    return NodeHome(Path(value).expanduser().absolute())


def language_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--lang id|en`, handed over as `texts: Texts`."""
    return click.option(
        "--lang",
        "texts",
        type=click.Choice(LANGUAGES),
        default=LANGUAGES[0],
        envvar="PULANG_LANG",
        show_default=True,
        show_envvar=True,
        callback=lambda _context, _parameter, value: Texts(value),
        help="Language: id or en.",
    )(function)


def authority_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--authority DIR`, handed over as `authority: Authority`, opened."""
    return click.option(
        "--authority", required=True, metavar="DIR", callback=_as_authority, help="The authority's folder."
    )(function)


def issuer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--authority DIR` and `--home DIR`, of which exactly one is given: `authority` or `home`, the other None.

    No default and no environment: who rolls a root must not roll a province's intermediate by a forgotten option.
    """

    @functools.wraps(function)
    def checked(authority: Authority | None, home: NodeHome | None, **more: Any) -> Any:
        if (authority is None) == (home is None):
            raise click.UsageError("give --authority DIR for the federation, or --home DIR for a province")
        return function(authority, home, **more)

    with_home = click.option(
        "--home",
        metavar="DIR",
        callback=lambda context, parameter, value: None if value is None else _as_home(context, parameter, value),
        help="The folder of a province's node.",
    )(checked)
    return click.option(
        "--authority",
        metavar="DIR",
        callback=lambda context, parameter, value: None if value is None else _as_authority(context, parameter, value),
        help="The federation authority's folder.",
    )(with_home)


def listed(home: NodeHome) -> Membership | None:
    """Return the list of members in a node's folder, verified, expired or not; None where it has not joined."""
    from node.pki.refresh import Mirror  # noqa: PLC0415 - python-tuf is slow to load, and most commands need none

    mirror = Mirror(home.tuf)
    return mirror.load().membership if mirror.current.exists() else None


def _as_authority(context: click.Context, parameter: click.Parameter, value: str) -> Authority:  # noqa: ARG001 - click's
    from node.pki.authority import Authority  # noqa: PLC0415 - most commands need no authority, and it is slow to load

    return Authority(Path(value).expanduser())
