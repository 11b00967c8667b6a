"""`pulang budget`: what the other provinces have asked of this node, and giving a budget back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from matching.places import province_name
from node.budget import MONTH_DAYS, Scope, charged_day, day_of, left
from node.cli.accountable import check_peer, deed, node_store
from node.cli.options import home_option
from node.cli.terminal import plain
from node.errors import ConfigError

if TYPE_CHECKING:
    from node.budget import Budgets
    from node.home import NodeHome
    from node.store import Spending, Throttle


@click.group()
def budget() -> None:
    """See what peers have asked of this node, and give a budget back."""


@budget.command()
@home_option
@click.option("--peer", metavar="CODE", help="Only this province, with its cases.")
@click.option("--json", "as_json", is_flag=True, help="For programs; with every case.")
def show(home: NodeHome, peer: str | None, *, as_json: bool) -> None:
    """Show what is spent and left, today and in 30 days, and who is held back."""
    with node_store(home) as (config, store):
        spent, held = store.spent(peer), store.throttles(peer)
    today = day_of(datetime.now(UTC))
    rows = [_row(each, config.budgets, held, today) for each in spent]
    if as_json:
        click.echo(json.dumps({"budgets": config.budgets.model_dump(), "spent": rows}))
        return
    shown = [row for row in rows if peer is not None or row["scope"] != Scope.CASE]
    if not shown:
        click.echo("nobody has asked anything in the last 30 days")
        return
    click.echo(f"{'province':22} {'counted':10} {'of':34} {'today':>9} {'30 days':>11} {'left':>5}")
    for row in shown:
        who = f"{row['peer']} {province_name(row['peer'])}"
        day, month = f"{row['today']}/{row['per_day']}", f"{row['month']}/{row['per_month']}"
        mark = "  held back" if row["throttled"] else ""
        click.echo(plain(f"{who:22} {row['scope']:10} {row['holder']:34} {day:>9} {month:>11} {row['left']:>5}{mark}"))


@budget.command()
@home_option
@click.argument("peer")
@click.option("--case", metavar="REF", help="Only what was asked under this case.")
@click.option("--operator", metavar="HEX", help="Only what this operator asked, by pseudonym.")
@click.option("--repeats", is_flag=True, help="Only the repeats.")
def release(home: NodeHome, peer: str, case: str | None, operator: str | None, *, repeats: bool) -> None:
    """Set the counters of PEER, a province's code, to nothing; without an option all of them. Audited."""
    check_peer(peer)
    chosen = [
        (scope, holder)
        for scope, holder, wanted in (
            (Scope.CASE, case, case is not None),
            (Scope.OPERATOR, operator, operator is not None),
            (Scope.REPEAT, None, repeats),
        )
        if wanted
    ]
    if len(chosen) > 1:
        raise ConfigError("one of --case, --operator and --repeats at a time")
    scope, holder = chosen[0] if chosen else (None, None)
    with node_store(home) as (_, store):
        reason = "all" if scope is None else f"{scope} {holder or ''}".strip()
        about = f"budget {peer} {reason}".encode()
        given = store.give_back(
            peer, deed(home, "budget_release", peer, "released", about=about, reason=reason), scope=scope, holder=holder
        )
    click.echo(f"gave back {given} questions to {peer} {province_name(peer)} ({reason})")


def _row(each: Spending, budgets: Budgets, held: tuple[Throttle, ...], today: int) -> dict[str, Any]:
    scope = Scope(each.scope)
    mine = [one for one in held if one.peer == each.peer and _is_about(one, scope, each.holder)]
    limits = budgets.of(scope, throttled=bool(mine))
    day = charged_day(today, each.by_day)
    return {
        "peer": each.peer,
        "scope": each.scope,
        "holder": each.holder,
        "today": each.by_day.get(day, 0),
        "per_day": limits.per_day,
        "month": sum(count for one, count in each.by_day.items() if day - MONTH_DAYS < one <= day),
        "per_month": limits.per_month,
        "left": left(limits, each.by_day, today),
        "throttled": [one.pattern for one in mine],
    }


def _is_about(one: Throttle, scope: Scope, holder: str) -> bool:
    if one.operator_pseudonym is None:
        return scope in {Scope.PEER, Scope.OPERATOR}
    return scope is Scope.OPERATOR and holder == one.operator_pseudonym.hex()
