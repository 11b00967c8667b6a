"""`pulang epoch`: the linkage key of an epoch, from its making to its end."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from node.cli.options import home_option
from node.config import load_config
from node.errors import EXIT_OK, EXIT_UNAVAILABLE, NodeError
from node.files import PUBLIC, check_free, make_private_folder, read_file, sync_folder, write_atomic

if TYPE_CHECKING:
    from node.changeover import EpochReport
    from node.home import NodeHome
    from node.pki.membership import Membership

FILE: Final = click.Path(path_type=Path)


@click.group()
def epoch() -> None:
    """Change the linkage key once a year, or when it leaked, without a question being refused."""


@epoch.command()
@home_option
@click.option("--out", type=FILE, metavar="FILE", help="Where the public key goes, for the directory.")
def key(home: NodeHome, out: Path | None) -> None:
    """Show the public key that epoch secrets are sealed to for this node; make it if there is none."""
    from node.pki.epoch_secrets import ensure_sealing_key  # noqa: PLC0415

    load_config(home)
    if out is not None:
        check_free(out)
    public = ensure_sealing_key(home).public_hex
    if out is not None:
        write_atomic(out, public.encode("ascii") + b"\n", mode=PUBLIC)
        click.echo(f"wrote {out}; the private half stays in {home.sealing_key}")
    click.echo(f"encryption key  SHA-256 {_short(public)}")


@epoch.command()
@home_option
@click.option("--out", required=True, type=FILE, metavar="DIR", help="Folder for the sealed secrets, one per member.")
def new(home: NodeHome, out: Path) -> None:
    """Make the next epoch's secret and seal it to every member of the directory. Counts once signed and published.

    The secret itself is written nowhere: only the members can open what is in DIR. Any signer's node will do.
    """
    from node.pki.epochs import make_epoch, with_next  # noqa: PLC0415

    check_free(out)
    membership = _membership(home)
    number = max(each.number for each in membership.valid_epochs) + 1
    made, sealed = make_epoch(membership.federation, membership.members, number)
    with_next(membership.valid_epochs, made)  # refused before anything is written
    _write_folder(out, {Path(name).name: data for name, data in sealed.items()})
    click.echo(f"epoch {number}  check value {made.check}")
    click.echo(f"wrote {len(sealed)} sealed secrets to {out}")
    click.echo(
        f"next: pulang federation propose epoch --number {number} --check {made.check} --sealed {out}; then sign"
    )


@epoch.command()
@home_option
@click.option("--province", required=True, metavar="CODE", help="The member it is sealed to.")
@click.option("--epoch", "number", type=int, metavar="N", help="Which epoch; default: the active one.")
@click.option("--out", required=True, type=FILE, metavar="FILE", help="Where the sealed secret goes.")
def seal(home: NodeHome, province: str, number: int | None, out: Path) -> None:
    """Seal a secret this node holds to a member that came later, or changed its key. Any member may."""
    from node.pki.epochs import seal_again  # noqa: PLC0415

    check_free(out)
    membership = _membership(home)
    number = number or membership.active_epoch.number
    write_atomic(out, seal_again(home, membership, province, number), mode=PUBLIC)
    click.echo(f"wrote {out}: the secret of epoch {number}, for province {province} alone; any way will do to send it")


@epoch.command()
@home_option
@click.argument("sealed", type=FILE, metavar="FILE")
def install(home: NodeHome, sealed: Path) -> None:
    """Open a sealed secret and keep it, if it is the one the directory means. A serving node then re-encodes."""
    from node.pki.epoch_secrets import MAX_SEALED_BYTES  # noqa: PLC0415
    from node.pki.epochs import take_in_secret  # noqa: PLC0415

    found = take_in_secret(home, _membership(home), read_file(sealed, limit=MAX_SEALED_BYTES))
    click.echo(f"this node holds the secret of epoch {found.number} ({found.state})")
    click.echo("next: a serving node re-encodes by itself; `pulang epoch status` shows how far it is")


@epoch.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(home: NodeHome, *, as_json: bool) -> int:
    """Show each valid epoch, its secret and its index. Exit code 0: all is there for the active one; 69: it is not.

    Also tells when the directory has another encryption key of this province than the node.
    """
    from node.changeover import leftover_secrets, problem_of, report  # noqa: PLC0415
    from node.epoch import derive_keys  # noqa: PLC0415

    membership = _membership(home)
    problems: dict[int, Exception] = {}
    for each in membership.valid_epochs:
        try:
            derive_keys(home, each)
        except NodeError as error:
            problems[each.number] = error
    reports = report(home, membership, problems)
    active = next(each for each in reports if each.state == "active")
    problem = problem_of(reports) or (active.index and f"epoch {active.number}, the active one: {active.index}")
    facts: dict[str, Any] = {
        "federation": membership.federation,
        "version": membership.version,
        "active": active.number,
        "problem": problem,
        "encryption_key": _key_state(home, membership),
        "epochs": [_facts(each) for each in reports],
        "to_delete": [path.name for path in leftover_secrets(home, membership)],
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _print_status(facts)
    return EXIT_OK if problem is None else EXIT_UNAVAILABLE


def _facts(found: EpochReport) -> dict[str, Any]:
    facts = {name: value for name, value in dataclasses.asdict(found).items() if name != "manifest"}
    manifest = found.manifest
    return facts | {"persons": manifest and manifest.persons, "built_at": manifest and manifest.built_at}


def _print_status(facts: dict[str, Any]) -> None:
    click.echo(f"directory    {facts['federation']}, version {facts['version']}: epoch {facts['active']} is active")
    for each in facts["epochs"]:
        secret = each["secret"] or "here"
        index = each["index"] or (
            f"{each['generation']}, {each['persons']:,} persons, built {each['built_at']}"
            + ("" if each["is_fresh"] else "; older than the last import")
        )
        click.echo(f"epoch {each['number']:<6} {each['state']}; secret: {secret}")
        click.echo(f"             index: {index}")
    if facts["encryption_key"] != "as in the directory":
        click.echo(f"key          {facts['encryption_key']}")
    for name in facts["to_delete"]:
        click.echo(f"to delete    {name}: its epoch is over; a serving node deletes it")
    if facts["problem"]:
        click.echo(f"problem      {facts['problem']}")


def _key_state(home: NodeHome, membership: Membership) -> str:
    from node.pki.epoch_secrets import load_sealing_key  # noqa: PLC0415

    member = membership.by_code(load_config(home).province)
    listed = member.encryption_key if member else ""
    if not home.sealing_key.exists():
        return "none yet: `pulang epoch key`"
    if not listed:
        return "not in the directory: secrets cannot be sealed to this node"
    if listed != load_sealing_key(home).public_hex:
        return f"the directory has another one, SHA-256 {_short(listed)}: secrets sealed to it cannot be opened here"
    return "as in the directory"


def _membership(home: NodeHome) -> Membership:
    from node.epoch import installed_membership  # noqa: PLC0415

    membership = installed_membership(home)
    membership.check_validity(datetime.now(UTC))
    return membership


def _write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write all files, or none: a folder that holds half of them would shut the other half out."""
    folder = folder.absolute()
    staging = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    for name, data in files.items():
        make_private_folder((staging / name).parent)
        write_atomic(staging / name, data, mode=PUBLIC)
    staging.rename(folder)
    sync_folder(folder.parent)


def _short(public_hex: str) -> str:
    return hashlib.sha256(bytes.fromhex(public_hex)).hexdigest()
