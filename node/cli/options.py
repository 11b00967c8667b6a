"""Options that several commands share, so that they read and mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.home import NodeHome

if TYPE_CHECKING:
    from collections.abc import Callable


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
