"""`pulang federation`: found a federation, change it by signatures of a threshold, take its membership into a node."""

from __future__ import annotations

import json
import secrets
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from node.cli.federation_propose import propose, read_named_keys
from node.cli.federation_shared import FILE, print_change, published_options
from node.cli.options import home_option
from node.config import load_config
from node.deadlines import Life, of_federation
from node.epoch import MAX_SECRET_BYTES, read_epoch_secret
from node.errors import EXIT_DENIED, EXIT_OK, EXIT_RENEW, ConfigError
from node.files import PUBLIC, check_free, make_private_folder, read_file, write_atomic
from node.pki.authority import Authority
from node.pki.changes import DEFAULT_THRESHOLD, certificate_name, concerns, describe, founding, root_texts
from node.pki.credentials import fingerprint
from node.pki.joining import join_federation
from node.pki.membership import epoch_check
from node.pki.proposal import MAX_PROPOSAL_BYTES, check_proposal, publish, read_proposal, sign_proposal, tallies
from node.pki.proposal import propose as make_proposal
from node.pki.refresh import Mirror, stored_copy
from node.pki.repository import fingerprint_of, make_key, read_repository, read_signing_key, root_versions
from node.pki.signed import record_signing
from node.pki.trust import MAX_CHAIN_PEM_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from node.home import NodeHome
    from node.pki.membership import Member
    from node.pki.proposal import Proposal
    from node.pki.refresh import Copy


@click.group()
def federation() -> None:
    """Found a federation, and change it by signatures of a threshold of its signers."""


@federation.command()
@click.argument("folder", type=FILE, metavar="DIR")
@click.option("--name", required=True, metavar="NAME", help="Name of the federation, e.g. fkd-mpu.")
def authority(folder: Path, name: str) -> None:
    """Found the authority of certificates in DIR, which is to be kept offline. An existing one is refused."""
    made = Authority.found(folder, name, datetime.now(UTC))
    click.echo(f"founded the certificate authority of {name} in {folder}: keep this folder offline, with a backup")
    click.echo(f"root.pem  SHA-256 {fingerprint(made.root)}")


@federation.command("signer-key")
@click.argument("file", type=FILE, metavar="FILE")
def signer_key(file: Path) -> None:
    """Make a signer's key: FILE stays with the signer (0600), FILE.pub goes to whoever founds or proposes."""
    signer = make_key(file)
    click.echo(f"wrote {file} (keep it offline, with a backup) and {file}.pub")
    click.echo(f"public key  {signer.key}")


@federation.command("timestamp-key")
@home_option
@click.option("--out", type=FILE, metavar="FILE", help="Also write the public half there.")
def timestamp_key(home: NodeHome, out: Path | None) -> None:
    """Make this node's timestamp key; it signs, while the node runs, that the membership is the newest."""
    make_private_folder(home.tuf)
    key = Mirror(home.tuf).key
    signer = make_key(key)
    public = key.with_name(f"{key.name}.pub")
    if out is not None:
        write_atomic(out, public.read_bytes(), mode=PUBLIC)
    click.echo(f"wrote {key} and {out or public}")
    click.echo(f"public key  {signer.key}")
    click.echo("it counts once the signers have put it in: `federation init`, or `federation propose holders`")


@federation.command()
@click.argument("proposal_file", type=FILE, metavar="PROPOSAL")
@click.option("--name", required=True, metavar="NAME", help="Name of the federation, e.g. fkd-mpu.")
@click.option(
    "--signer", "signers", multiple=True, required=True, metavar="NAME=FILE", help="A signer's public key; for each."
)
@click.option("--threshold", default=DEFAULT_THRESHOLD, show_default=True, help="How many signers decide.")
@click.option(
    "--timestamp-key", "holders", multiple=True, required=True, metavar="NAME=FILE", help="A node's; for each."
)
@click.option("--epoch-secret", required=True, type=FILE, metavar="FILE", help="The first epoch's linkage secret.")
@click.option("--root", "root_file", type=FILE, metavar="FILE", help="root.pem of the certificate authority.")
def init(
    *,
    proposal_file: Path,
    name: str,
    signers: tuple[str, ...],
    threshold: int,
    holders: tuple[str, ...],
    epoch_secret: Path,
    root_file: Path | None,
) -> None:
    """Propose a new federation: write PROPOSAL, for `propose admit`, then `sign` by its signers, then `publish`."""
    check_free(proposal_file)
    now = datetime.now(UTC)
    contents = founding(
        name,
        read_named_keys(signers),
        threshold,
        read_named_keys(holders),
        epoch_check=epoch_check(read_epoch_secret(epoch_secret), 1),
        now=now,
        roots=() if root_file is None else root_texts(read_file(root_file, limit=MAX_CHAIN_PEM_BYTES), str(root_file)),
    )
    proposal = make_proposal(contents, None, now)
    write_atomic(proposal_file, proposal.to_bytes(), mode=PUBLIC)
    print_change(proposal, None)
    click.echo(f"wrote {proposal_file}; next: `pulang federation propose admit --proposal {proposal_file}`, then sign")


federation.add_command(propose)


@federation.command()
@click.argument("proposal_file", type=FILE, metavar="PROPOSAL")
@published_options
@click.option("--key", "key_file", required=True, type=FILE, metavar="FILE", help="Your signer's key.")
@click.option("--yes", is_flag=True, help="Sign without asking.")
@click.option("--even-so", is_flag=True, help="Even if this key has signed another proposal of the same version.")
def sign(proposal_file: Path, published: Copy | None, key_file: Path, *, yes: bool, even_so: bool) -> None:
    """Show what PROPOSAL would change, in words, and add your signature to it.

    What a key has signed is kept beside it (FILE.signed): two lists of one version are not both signed unasked.
    """
    key = read_signing_key(key_file)
    proposal = read_proposal(read_file(proposal_file, limit=MAX_PROPOSAL_BYTES))
    base = None if proposal.is_founding else published
    signed = sign_proposal(proposal, key, base)  # refused before anybody is asked
    print_change(proposal, base)
    if not yes:
        click.confirm("Sign this?", abort=True)
    record_signing(key_file, check_proposal(proposal, base).membership.federation, proposal, even_so=even_so)
    write_atomic(proposal_file, signed.to_bytes(), mode=PUBLIC, replace=True)
    _print_tallies(signed, base)


@federation.command("publish")
@click.argument("proposal_file", type=FILE, metavar="PROPOSAL")
@home_option
@click.option("--repository", type=FILE, metavar="DIR", help="A repository's folder, instead of the node's own copy.")
@click.option("--timestamp-key", "key_file", type=FILE, metavar="FILE", help="Default: the one in that folder.")
def publish_command(proposal_file: Path, home: NodeHome, repository: Path | None, key_file: Path | None) -> None:
    """Publish PROPOSAL once its threshold has signed. Every node has it within seconds of the one that holds it."""
    mirror = Mirror(repository or home.tuf)
    proposal = read_proposal(read_file(proposal_file, limit=MAX_PROPOSAL_BYTES))
    base = mirror.load() if mirror.current.exists() else None
    now = datetime.now(UTC)
    files = publish(proposal, base, read_signing_key(key_file or mirror.key), now)
    first = files[f"{root_versions(files)[0]}.root.json"]
    copy = mirror.install(files, now, root_sha256=None if base else fingerprint_of(first))
    _print_members(copy.membership.members)
    click.echo(
        f"published version {copy.membership.version} of {copy.membership.federation} in {repository or home.tuf}"
    )
    if base is None:
        click.echo(f"root  SHA-256 {fingerprint_of(first)}: every node compares it when it joins")


@federation.command()
@click.argument("path", type=FILE, metavar="PATH")
@click.option("--root-sha256", metavar="HEX", help="SHA-256 the first root must have.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def verify(path: Path, root_sha256: str | None, *, as_json: bool) -> int:
    """Verify a repository's folder, or a founding proposal file, offline.

    Without --root-sha256 a repository is measured by its own first root: that one must still be compared. Exit codes:
    0 it is to be trusted; 20 so it is, and less than a third of some part's life is left; 77 it is not.
    """
    if path.is_file():
        proposal = read_proposal(read_file(path, limit=MAX_PROPOSAL_BYTES))
        if not proposal.is_founding:
            raise ConfigError("a change is verified against what it changes", hint="`pulang federation sign` does so")
        check_proposal(proposal, None)
        if as_json:
            click.echo(json.dumps(_proposal_as_json(proposal)))
            return EXIT_OK
        print_change(proposal, None)
        _print_tallies(proposal, None)
        return EXIT_OK
    files = read_repository(path / "tuf" if (path / "tuf").is_dir() else path)
    first = files[f"{root_versions(files)[0]}.root.json"]
    if root_sha256 is not None and fingerprint_of(first) != root_sha256.lower():
        raise ConfigError(f"the first root has SHA-256 {fingerprint_of(first)}", hint="this is another federation's")
    copy = stored_copy(files, first)
    copy.membership.check_validity(datetime.now(UTC))
    return _show(copy, as_json=as_json)


@federation.command()
@published_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show(published: Copy | None, *, as_json: bool) -> int:
    """Show members, signers, versions and ends of what is published, as far as this node or folder knows.

    From half of a life on, a line says so. Exit codes: 0 nothing to do; 20 less than a third of some part's life is
    left; 77 some part has ended.
    """
    if published is None:
        raise ConfigError("nothing is published here", hint="`pulang federation join`, or name a --repository")
    return _show(published, as_json=as_json)


@federation.command()
@home_option
@click.argument("folder", type=FILE, metavar="DIR")
def export(home: NodeHome, folder: Path) -> None:
    """Write what is published, as this node has it, to a new DIR: for a member that joins. No key goes with it."""
    check_free(folder)
    copy = Mirror(home.tuf).load()
    staging = folder.absolute().with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        for name, data in copy.files.items():
            make_private_folder((staging / name).parent)
            write_atomic(staging / name, data, mode=PUBLIC)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    first = copy.files[f"{root_versions(copy.files)[0]}.root.json"]
    click.echo(f"wrote version {copy.membership.version} of {copy.membership.federation} to {folder}")
    click.echo(f"root  SHA-256 {fingerprint_of(first)}: tell it to the new member by telephone")


@federation.command()
@home_option
@click.option("--repository", required=True, type=FILE, metavar="DIR", help="A copy of the repository, from anybody.")
@click.option("--root-sha256", metavar="HEX", help="SHA-256 of its first root, by telephone; needed the first time.")
@click.option("--epoch-secret", type=FILE, metavar="FILE", help="The epoch's linkage secret; needed once an epoch.")
def join(home: NodeHome, repository: Path, root_sha256: str | None, epoch_secret: Path | None) -> None:
    """Give this node its first trust and the membership. From then on it keeps itself up to date."""
    membership = join_federation(
        home,
        read_repository(repository),
        datetime.now(UTC),
        root_sha256=root_sha256,
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


def _print_tallies(proposal: Any, base: Copy | None) -> None:
    for tally in tallies(proposal, check_proposal(proposal, base), base):
        state = "enough" if tally.is_met else f"not yet: {', '.join(tally.missing)}"
        names = ", ".join(tally.signed) or "nobody"
        click.echo(f"{tally.what}: {len(tally.signed)} of {tally.threshold} needed ({names}); {state}")


def _proposal_as_json(proposal: Proposal) -> dict[str, Any]:
    contents = check_proposal(proposal, None)
    return {
        "federation": contents.membership.federation,
        "change": describe(None, contents),
        "concerns": concerns(contents),
        "tallies": [
            {"what": each.what, "threshold": each.threshold, "signed": each.signed, "missing": each.missing}
            for each in tallies(proposal, contents, None)
        ],
    }


def _show(copy: Copy, *, as_json: bool) -> int:
    now, dates = datetime.now(UTC), of_federation(copy)
    lives = {each.life(now) for each in dates}
    code = EXIT_DENIED if lives & {Life.ENDED, Life.FUTURE} else EXIT_RENEW if Life.DUE in lives else EXIT_OK
    warnings = [text for each in dates if (text := each.warning(now))]
    membership, contents = copy.membership, copy.contents
    first = copy.files[f"{root_versions(copy.files)[0]}.root.json"]
    if as_json:
        document = {
            "federation": membership.federation,
            "root_sha256": fingerprint_of(first),
            "versions": copy.versions,
            "expires_at": copy.expires_at.isoformat(),
            "ends": {role: end.isoformat() for role, end in copy.ends.items()},
            "warnings": warnings,
            "threshold": contents.threshold,
            "signers": {signer.name: signer.key for signer in contents.signers},
            "timestamp_keys": {signer.name: signer.key for signer in contents.holders},
            "members": [{"code": each.code, "name": each.name, "address": each.address} for each in membership.members],
            "revoked": len(membership.revoked),
            "epochs": {str(each.number): each.state for each in membership.epochs},
        }
        click.echo(json.dumps(document, ensure_ascii=False))
        return code
    click.echo(f"federation   {membership.federation}, version {membership.version}")
    click.echo(f"first root   SHA-256 {fingerprint_of(first)}")
    click.echo(f"until        {copy.expires_at:%Y-%m-%d %H:%M} UTC, unless a newer timestamp comes")
    click.echo(
        f"list until   {copy.ends['targets']:%Y-%m-%d %H:%M} UTC; signers' root until {copy.ends['root']:%Y-%m-%d}"
    )
    click.echo(f"signers      {contents.threshold} of {', '.join(signer.name for signer in contents.signers)}")
    click.echo(f"timestamps   {', '.join(signer.name for signer in contents.holders)}")
    for root in membership.roots:
        click.echo(f"cert. root   {certificate_name(root)}")
    _print_members(membership.members)
    for text in warnings:
        click.echo(f"warning      {text}")
    return code
