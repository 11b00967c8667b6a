"""A federation's whole life by the commands people type: founded, grown, renewed, rolled, rid of a member."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from benchmarks.roll import CLIENTS, Load, roll_intermediates, roll_leaves, roll_root
from benchmarks.town import SIGNERS, write_registries

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.town import Town
    from matching.question import Client

FOUNDERS: Final = ("33", "35", "51")
FOURTH: Final = "36"
_HEX: Final = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{8,}\b")


def shortened(show: Callable[[str], None]) -> Callable[[str], None]:
    """Return a `show` that leaves out most of every long hexadecimal number: people compare the rest by telephone."""
    return lambda line: show(_HEX.sub(r"\1...", line))


def live(town: Town, *, persons: int, seed: int, tell: Callable[[str], None]) -> Load:
    """Live it, telling each chapter's title. Returns what every call of the two rolls came to.

    Raises ConfigError or PeerUnreachableError when a command or a node does not do what the story says.
    """
    try:
        return _live(town, persons=persons, seed=seed, tell=tell)
    finally:
        town.stop()


def _live(town: Town, *, persons: int, seed: int, tell: Callable[[str], None]) -> Load:
    tell("three provinces found a federation; any two of three signers decide")
    town.found(FOUNDERS)
    clients = write_registries(town.root / "registries", (*FOUNDERS, FOURTH), persons, seed)[:CLIENTS]
    for code in FOUNDERS:
        town.import_registry(code)
        town.start(code)
    _find(town, clients[0])
    tell("a fourth is admitted: one signature is not enough, two are")
    _admit_fourth(town)
    tell("certificates are renewed while every node asks every other; nothing is restarted")
    load = Load(town, clients, "leaves")
    with load.running():
        load.settle("leaves")
        roll_leaves(town)
        load.settle("leaves")
    _count(town, load)
    town.run("33", "peer", "diagnose", "35", "--home", "33")
    tell("the intermediates roll while every node asks every other")
    load.phase = "intermediates"
    with load.running():
        load.settle("intermediates")
        roll_intermediates(town)
        load.settle("intermediates")
    _count(town, load)
    tell("a leaf has leaked: it is revoked, refused, and replaced")
    _revoke_leaf(town)
    tell("the fourth is put out, and its next call is refused")
    _put_out_fourth(town)
    tell("the root rolls while every node asks every other")
    load.phase = "root"
    with load.running():
        load.settle("root")
        roll_root(town)
        load.settle("root")
    _count(town, load)
    town.run("35", "node", "calendar", "--home", "35")
    town.run("33", "peer", "list", "--home", "33")
    return load


def _find(town: Town, client: Client) -> None:
    words = ["find", "--home", "35", "--purpose", "self-test", "--lang", "en", "--name", client.name]
    for option, value in (("--born", client.born), ("--birthplace", client.birthplace)):
        words += [option, value] if value else []
    town.run("35", *words, ends=(0, 10, 11))


def _admit_fourth(town: Town) -> None:
    town.make_node(FOURTH)
    town.admit(FOURTH, "admit-36", "--home", town.holder)
    one, other = SIGNERS[:2]
    town.run(one, "federation", "sign", "admit-36", "--home", town.holder, "--key", f"{one}.key", "--yes")
    publish = ("federation", "publish", "admit-36", "--home", town.holder)
    town.run(town.holder, *publish, ends=(77,))
    town.run(other, "federation", "sign", "admit-36", "--home", town.holder, "--key", f"{other}.key", "--yes")
    town.run(town.holder, *publish)
    town.run(town.holder, "federation", "export", "--home", town.holder, "for-36")
    town.join(FOURTH, "for-36")
    town.import_registry(FOURTH)
    town.start(FOURTH)
    town.until_heard()
    town.run(FOURTH, "peer", "list", "--home", FOURTH)


def _revoke_leaf(town: Town) -> None:
    town.stop("51")  # a thief has the key: what follows is the thief, not the node, which would renew by itself
    serial = json.loads(town.run("51", "cert", "status", "--home", "51", "--json"))["serial"]
    town.run(
        "51", "cert", "revoke", "--home", "51", "--serial", serial, "--reason", "key_compromise", "--out", "51.revoked"
    )
    town.propose("revoke-51", "revoke", "--from", "51.revoked")
    town.publish("revoke-51")
    town.until_heard()
    town.run("51", "peer", "diagnose", "33", "--home", "51", ends=(77,))
    _reason(town, "33")
    town.run("51", "cert", "renew", "--home", "51")
    town.start("51")
    town.until_heard()
    town.run("51", "peer", "diagnose", "33", "--home", "51")


def _put_out_fourth(town: Town) -> None:
    town.propose("remove-36", "remove", "--province", FOURTH)
    issued = json.loads(town.run("authority", "ca", "status", "--authority", "authority", "--json"))["intermediates"]
    for number, each in enumerate(each for each in issued if each["province"] == FOURTH):
        entry = f"36-{number}.revoked"
        town.run(
            "authority", "cert", "revoke", "--authority", "authority", "--serial", each["serial"],
            "--reason", "cessation_of_operation", "--out", entry,
        )  # fmt: skip
        town.propose("remove-36", "revoke", "--from", entry)
    town.publish("remove-36")
    town.until_heard({*town.processes} - {FOURTH})
    town.run(FOURTH, "peer", "diagnose", "35", "--home", FOURTH, ends=(77,))
    _reason(town, "35")
    town.stop(FOURTH)
    town.forget(FOURTH)


def _reason(town: Town, code: str) -> None:
    """Show what the node that refused has in its log."""
    town.show(f"{code}$ grep call_refused {code}.log | tail -n 1")
    lines = [line for line in (town.root / f"{code}.log").read_text().splitlines() if '"call_refused"' in line]
    town.show(lines[-1])


def _count(town: Town, load: Load) -> None:
    counts = {state: count for (phase, state), count in load.counts.items() if phase == load.phase}
    total, failed = sum(counts.values()), sum(count for state, count in counts.items() if state != "answered")
    town.show(f"# {total:,} calls meanwhile, {failed} not answered")
    for line in load.failures:
        town.show(f"# {line}")
