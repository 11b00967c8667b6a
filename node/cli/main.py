"""The `pulang` command: groups, and how an error becomes one clear line and an exit code."""

from __future__ import annotations

import importlib
import os
import resource
import sys
from typing import Any, Final

import click

from node.cli.terminal import plain
from node.errors import EXIT_FAILED, EXIT_STOPPED, exit_code, hint_of

# Command -> (module:attribute, one line of help). Loaded when called: `pulang --help` must not import numba or gRPC.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "find": ("node.cli.find:find", "Ask every province whether a client is theirs."),
    "case": ("node.cli.case:case", "Cases that were asked about: look, close, reopen."),
    "registry": ("node.cli.registry:registry", "Import the province's registry into an encoded index."),
    "node": ("node.cli.server:node", "Make and run a province's node."),
    "review": ("node.cli.review:review", "Decide about candidates that may be the client or not."),
    "backup": ("node.cli.backup:backup", "Take a node's memory out, check it, put it back."),
    "handle": ("node.cli.handle:handle", "Look up whom a code stands for that another province reads out."),
    "budget": ("node.cli.budget:budget", "What peers have asked of this node, and giving a budget back."),
    "sweep": ("node.cli.sweep:sweep", "Whose questions look like a sweep, and letting them go."),
    "peer": ("node.cli.peer:peer", "How the other provinces' nodes fare, and why one does not answer."),
    "ca": ("node.cli.ca:ca", "Roll the federation's roots and the provinces' intermediates."),
    "cert": ("node.cli.cert:cert", "Renew, request, install, revoke and inspect a node's certificate."),
    "federation": ("node.cli.federation:federation", "Found a federation and keep its members."),
    "audit": ("node.cli.audit:audit", "Check, read and hand over the audit log."),
    "epoch": ("node.cli.epoch:epoch", "Change the linkage key: make it, take it in, look at it."),
    "bench": ("node.cli.bench:bench", "Populations, match benchmarks and speed."),
    "demo": ("node.cli.demo:demo", "Ten provinces on this machine, thirty clients, their homes."),
}


class LazyGroup(click.Group):
    """A group whose subcommands are imported only when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pulang", prog_name="pulang")
def cli() -> None:
    """Find the home province of a person in need, without any raw record leaving its province."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line; every known error leaves as one line with its hint and exit code."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the keys, and what was asked
    try:
        result: Any = cli.main(args=argv, prog_name="pulang", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(EXIT_STOPPED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except Exception as error:  # noqa: BLE001 - the last door: what is not in the table is a bug and says so
        sys.exit(_report(error))
    sys.exit(result if isinstance(result, int) else 0)


def _report(error: Exception) -> int:
    code = exit_code(error)
    if code is None:
        # A bug may carry anything in its text, a name included: say the type and where, never the text.
        from node.log import place_of  # noqa: PLC0415 - commands that log nothing need not load structlog

        click.echo(f"pulang: a bug: {type(error).__name__} at {place_of(error)}", err=True)
        return EXIT_FAILED
    click.echo(plain(f"pulang: {error}"), err=True)
    if hint := hint_of(error):
        click.echo(plain(f"hint: {hint}"), err=True)
    return code


if __name__ == "__main__":
    main()
