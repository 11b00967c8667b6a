"""`pulang federation`: found a federation, keep its list of members, take the list into a node."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from matching.places import province_name
from node.cli.options import authority_option, home_option
from node.config import load_config
from node.epoch import MAX_SECRET_BYTES
from node.errors import ConfigError
from node.files import PUBLIC, check_free, read_file, write_atomic
from node.pki.authority import DEFAULT_MEMBERSHIP_DAYS, Authority
from node.pki.credentials import fingerprint
from node.pki.epoch_secrets import MAX_PUBLIC_KEY_BYTES, check_public_key
from node.pki.joining import join_federation
from node.pki.membership import MAX_ANCHOR_BYTES, MAX_MEMBERSHIP_BYTES, key_id, make_member, read_anchor

if TYPE_CHECKING:
    from node.home import NodeHome
    from node.pki.membership import Member

FILE: Final = click.Path(path_type=Path)


@click.group()
def federation() -> None:
    """Found a federation and keep its members."""


@federation.command()
@click.argument("folder", type=FILE, metavar="DIR")
@click.option("--name", required=True, metavar="NAME", help="Name of the federation, e.g. fkd-mpu.")
def init(folder: Path, name: str) -> None:
    """Found a federation's authority in DIR, which is to be kept offline. An existing one is refused."""
    authority = Authority.found(folder, name, datetime.now(UTC))
    click.echo(f"founded {name} in {folder}: keep this folder offline, with a backup; its keys are the federation")
    click.echo(f"root.pem        SHA-256 {fingerprint(authority.root)}")
    click.echo(f"membership.pub  SHA-256 {key_id(read_anchor(authority.anchor_pem))}")
    click.echo(
        "each member gets root.pem and membership.pub, compares these by telephone, and epoch-1.key by a safe hand"
    )


@federation.command()
@authority_option
@click.option("--province", required=True, metavar="CODE", help="Kemendagri code, e.g. 35.")
@click.option("--address", required=True, metavar="HOST:PORT", help="Where its node answers.")
@click.option("--name", metavar="NAME", help="Its name; default: as it is, or the province's.")
@click.option(
    "--encryption-key",
    type=FILE,
    metavar="FILE",
    help="What `pulang epoch key` wrote on its node; default: as it is.",
)
def admit(authority: Authority, province: str, address: str, name: str | None, encryption_key: Path | None) -> None:
    """Add a member, or change its address or its key. Counts for the others once published."""
    was = next((member for member in authority.members() if member.code == province), None)
    known = was.name if was else province_name(province)
    if name is None and known == province:
        raise ConfigError(f"{province} is not the code of a province we know", hint="if it is right, give its --name")
    key = was.encryption_key if was else ""
    if encryption_key is not None:
        key = read_file(encryption_key, limit=MAX_PUBLIC_KEY_BYTES).decode("ascii", errors="replace").strip()
        check_public_key(key)
    roster = authority.admit(make_member(province, name or known, address, key))
    _print_members(roster.members)


@federation.command()
@authority_option
@click.option("--province", required=True, metavar="CODE", help="Kemendagri code, e.g. 35.")
def remove(authority: Authority, province: str) -> None:
    """Take a member off the list. Counts for the others once published, and joined by each of them."""
    roster = authority.remove(province)
    _print_members(roster.members)


@federation.command()
@authority_option
@click.option("--out", required=True, type=FILE, metavar="FILE", help="Where the signed list goes.")
@click.option("--days", default=DEFAULT_MEMBERSHIP_DAYS, show_default=True, help="How long it is valid.")
@click.option("--replace", is_flag=True, help="Overwrite FILE.")
def publish(authority: Authority, out: Path, days: int, *, replace: bool) -> None:
    """Sign the list of members as a new version. Every node takes it in with `pulang federation join`."""
    if not replace:
        check_free(out)
    membership, envelope = authority.publish(datetime.now(UTC), days=days)
    write_atomic(out, envelope, mode=PUBLIC, replace=replace)
    _print_members(membership.members)
    click.echo(f"wrote {out}: version {membership.version}, until {membership.expires_at:%Y-%m-%d %H:%M} UTC")


@federation.command()
@home_option
@click.option("--membership", "membership_file", required=True, type=FILE, metavar="FILE", help="The signed list.")
@click.option("--anchor", type=FILE, metavar="FILE", help="The authority's membership.pub; needed the first time.")
@click.option("--epoch-secret", type=FILE, metavar="FILE", help="The epoch's linkage secret; needed once an epoch.")
def join(home: NodeHome, membership_file: Path, anchor: Path | None, epoch_secret: Path | None) -> None:
    """Take a signed list of members into this node, after checking it. Again for every newer version."""
    membership = join_federation(
        home,
        read_file(membership_file, limit=MAX_MEMBERSHIP_BYTES),
        datetime.now(UTC),
        anchor_pem=None if anchor is None else read_file(anchor, limit=MAX_ANCHOR_BYTES),
        secret_text=None
        if epoch_secret is None
        else read_file(epoch_secret, limit=MAX_SECRET_BYTES).decode("ascii", errors="replace"),
    )
    config = load_config(home)
    _print_members(membership.members)
    click.echo(
        f"joined {membership.federation}: version {membership.version}, key epoch {membership.key_epoch}, "
        f"until {membership.expires_at:%Y-%m-%d %H:%M} UTC"
    )
    if membership.by_code(config.province) is None:
        click.echo(
            f"warning: province {config.province}, this node's, is not on the list: others will refuse it", err=True
        )
    valid = [epoch.number for epoch in membership.valid_epochs]
    if config.key_epoch is not None and config.key_epoch not in valid:
        click.echo(
            f"warning: {home.config} says key_epoch = {config.key_epoch}, and the list says "
            f"{' and '.join(map(str, valid))}, which counts: take the line out of the file",
            err=True,
        )
    for epoch in membership.valid_epochs:
        if not home.epoch_secret(epoch.number).exists():
            click.echo(
                f"warning: this node has no secret of epoch {epoch.number} ({epoch.state}): `pulang epoch install`",
                err=True,
            )


def _print_members(members: tuple[Member, ...]) -> None:
    for member in members:
        click.echo(f"{member.code}  {member.name:<22} {member.address}")
