"""`pulang federation propose`: one verb per change; each writes, or adds to, a proposal nobody has signed yet."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from matching.places import province_name
from node.cli.federation_shared import FILE, print_change, published_options
from node.errors import ConfigError, TrustError
from node.files import PUBLIC, read_file, write_atomic
from node.pki import changes
from node.pki.epoch_secrets import check_public_key
from node.pki.membership import EpochState, make_epoch, make_member, make_revocation
from node.pki.proposal import MAX_PROPOSAL_BYTES, MAX_SKIPPED, check_proposal, read_proposal
from node.pki.proposal import propose as make_proposal
from node.pki.register import MAX_REVOCATION_BYTES, read_revocation
from node.pki.repository import MAX_KEY_BYTES, MAX_TARGET_BYTES, read_signer
from node.pki.trust import MAX_CHAIN_PEM_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from node.pki.refresh import Copy
    from node.pki.repository import Contents, Signer

    Change = Callable[[Contents], Contents]

province_option = click.option("--province", required=True, metavar="CODE", help="Kemendagri code, e.g. 35.")


@click.group()
def propose() -> None:
    """Propose a change: write a file that travels from signer to signer."""


def _verb(**settings: Any) -> Callable[[Callable[..., Change]], click.Command]:
    """Make a command of a function that returns the change; the proposal is read, changed, shown and written here."""

    def decorate(function: Callable[..., Change]) -> click.Command:
        @propose.command(**settings)
        @published_options
        @click.option(
            "--proposal",
            "file",
            required=True,
            type=FILE,
            metavar="FILE",
            help="The proposal to write; one that nobody has signed yet is added to.",
        )
        @click.option(
            "--skip",
            type=click.IntRange(0, MAX_SKIPPED),
            default=0,
            metavar="N",
            help="Versions to leave out: of proposals that were given up with signatures on them.",
        )
        @wraps(function)
        def command(published: Copy | None, file: Path, skip: int, **given: Any) -> None:
            _propose(file, published, function(**given), renew_root=bool(given.get("root_too")), skip=skip)

        return command

    return decorate


def _propose(file: Path, published: Copy | None, change: Change, *, renew_root: bool, skip: int) -> None:
    contents, base = None, published
    if file.exists():
        begun = read_proposal(read_file(file, limit=MAX_PROPOSAL_BYTES))
        if begun.is_signed:
            raise TrustError(
                f"{file} is signed already, and nothing can be added to it",
                hint="make a proposal of its own, in another file",
            )
        base = None if begun.is_founding else published
        contents = check_proposal(begun, base)
        skip = max(skip, begun.targets.signed.version - (base.membership.version if base else 0) - 1)
        renew_root = renew_root or begun.root is not None
    elif published is not None:
        contents = published.contents
    if contents is None:
        raise ConfigError(
            "nothing is published here, and there is no proposal to add to",
            hint="`pulang federation init` founds a federation; `join` brings one here",
        )
    proposal = make_proposal(change(contents), base, datetime.now(UTC), renew_root=renew_root, skip=skip)
    write_atomic(file, proposal.to_bytes(), mode=PUBLIC, replace=file.exists())
    print_change(proposal, base)
    click.echo(f"wrote {file}; every signer runs `pulang federation sign {file} --key FILE`")


@_verb()
@province_option
@click.option("--address", required=True, metavar="HOST:PORT", help="Where its node answers.")
@click.option("--name", metavar="NAME", help="Its name; default: the province's.")
@click.option("--intermediate", "files", multiple=True, type=FILE, metavar="FILE", help="Its intermediate, PEM.")
@click.option("--encryption-key", default="", metavar="HEX", help="Public key its epoch secrets are sealed to.")
def admit(province: str, address: str, name: str | None, files: tuple[Path, ...], encryption_key: str) -> Change:
    """Admit a member."""
    if name is None and province_name(province) == province:
        raise ConfigError(f"{province} is not the code of a province we know", hint="if it is right, give its --name")
    if encryption_key:
        check_public_key(encryption_key)
    member = make_member(
        province,
        name or province_name(province),
        address,
        intermediates=_certificates(files),
        encryption_key=encryption_key,
    )
    return lambda contents: changes.with_member(contents, member)


@_verb()
@province_option
def remove(province: str) -> Change:
    """Put a member out. Its node is refused by every other as soon as this is published and heard of."""
    return lambda contents: changes.without_member(contents, province)


@_verb()
@province_option
@click.option("--address", metavar="HOST:PORT", help="Where its node answers from now on.")
@click.option("--name", metavar="NAME", help="Its new name.")
@click.option("--add-intermediate", "add", multiple=True, type=FILE, metavar="FILE", help="A further intermediate.")
@click.option("--remove-intermediate", "gone", multiple=True, type=FILE, metavar="FILE", help="One that ends.")
@click.option("--encryption-key", metavar="HEX", help="Public key its epoch secrets are sealed to.")
def change(
    *,
    province: str,
    address: str | None,
    name: str | None,
    add: tuple[Path, ...],
    gone: tuple[Path, ...],
    encryption_key: str | None,
) -> Change:
    """Change a member's address, name, intermediates or encryption key."""
    new, old = _certificates(add), _certificates(gone)
    if encryption_key:
        check_public_key(encryption_key)

    def apply(contents: Contents) -> Contents:
        member = changes.member_of(contents, province)
        kept = tuple(each for each in member.intermediates if each not in (*old, *new))
        if missing := set(old) - set(member.intermediates):
            raise ConfigError(f"{len(missing)} intermediates to remove are not listed for {province}")
        changed = make_member(
            province,
            name or member.name,
            address or member.address,
            intermediates=(*kept, *new),
            encryption_key=member.encryption_key if encryption_key is None else encryption_key,
        )
        return changes.with_member(contents, changed)

    return apply


@_verb()
@click.option("--add", multiple=True, type=FILE, metavar="FILE", help="A root to trust, PEM.")
@click.option("--remove", "gone", multiple=True, type=FILE, metavar="FILE", help="A root to trust no longer.")
def roots(add: tuple[Path, ...], gone: tuple[Path, ...]) -> Change:
    """Change the certificate roots every node trusts; in between, two stand side by side."""
    new, old = (
        tuple(
            text for file in files for text in changes.root_texts(read_file(file, limit=MAX_CHAIN_PEM_BYTES), str(file))
        )
        for files in (add, gone)
    )
    return lambda contents: changes.with_roots(contents, new, old)


@_verb()
@click.option(
    "--from", "entry", type=FILE, metavar="FILE", help="What `pulang cert revoke` or `pulang ca revoke` has written."
)
@click.option("--issuer-key", metavar="HEX", help="Without a file: SHA-256 of the issuer's public key.")
@click.option("--serial", metavar="HEX", help="Without a file: the certificate's serial number.")
@click.option("--reason", metavar="WORD", help="Without a file: such as key_compromise or superseded.")
def revoke(entry: Path | None, issuer_key: str | None, serial: str | None, reason: str | None) -> Change:
    """Revoke one certificate, leaf or intermediate, whatever its dates say."""
    if entry is not None and not (issuer_key or serial or reason):
        revocation = read_revocation(read_file(entry, limit=MAX_REVOCATION_BYTES))
    elif entry is None and issuer_key and serial and reason:
        revocation = make_revocation(issuer_key, serial, reason, datetime.now(UTC))
    else:
        raise click.UsageError("give --from FILE, or --issuer-key, --serial and --reason")
    return lambda contents: changes.with_revocation(contents, revocation)


@_verb()
@click.option("--number", required=True, type=int, help="The epoch's number.")
@click.option("--check", metavar="HEX", help="Check value of its secret.")
@click.option("--state", type=click.Choice([each.value for each in EpochState]), help="What it is from now on.")
@click.option("--sealed", type=FILE, metavar="DIR", help="Folder of its sealed secrets, one file a member: 35.sealed.")
@click.option("--end", is_flag=True, help="End it instead, and delete its sealed secrets.")
def epoch(number: int, check: str | None, state: str | None, sealed: Path | None, *, end: bool) -> Change:
    """Put an epoch of the linkage key in, change its state, or end it."""
    secrets = {
        f"epoch-{number}/{path.name}": read_file(path, limit=MAX_TARGET_BYTES)
        for path in (sorted(sealed.glob("*.sealed")) if sealed else ())
    }

    def apply(contents: Contents) -> Contents:
        if end:
            return changes.without_epoch(contents, number)
        known = next((each for each in contents.membership.epochs if each.number == number), None)
        value = check or (known and known.check)
        if not value:
            raise ConfigError(f"epoch {number} is new: give the --check value of its secret")
        found = make_epoch(number, value, EpochState(state) if state else (known.state if known else EpochState.NEXT))
        return changes.with_epoch(contents, found, secrets)

    return apply


@_verb()
@click.option("--add", multiple=True, metavar="NAME=FILE", help="A new signer's public key.")
@click.option("--remove", "gone", multiple=True, metavar="NAME", help="A signer that signs no more.")
@click.option("--threshold", type=int, help="How many signers decide from now on.")
def signers(add: tuple[str, ...], gone: tuple[str, ...], threshold: int | None) -> Change:
    """Change who signs: a new signer, a lost key, another threshold. Old and new signers must both agree."""
    new = read_named_keys(add)
    return lambda contents: changes.with_signers(contents, new, gone, threshold)


@_verb()
@click.option("--add", multiple=True, metavar="NAME=FILE", help="A node's timestamp key.")
@click.option("--remove", "gone", multiple=True, metavar="NAME", help="A timestamp key that counts no more.")
def holders(add: tuple[str, ...], gone: tuple[str, ...]) -> Change:
    """Change which nodes sign timestamps; also how a stolen timestamp key is made worthless."""
    new = read_named_keys(add)
    return lambda contents: changes.with_holders(contents, new, gone)


@_verb()
@click.option("--root-too", is_flag=True, help="Also begin the root's year anew.")
def renew(*, root_too: bool) -> Change:  # noqa: ARG001 - read by _verb
    """Change nothing, and begin the list's 30 days anew."""
    return lambda contents: contents


def read_named_keys(pairs: tuple[str, ...]) -> tuple[Signer, ...]:
    """Read `NAME=FILE` pairs. Raises ConfigError."""
    found = []
    for pair in pairs:
        name, separator, path = pair.partition("=")
        if not separator:
            raise ConfigError("a key is given as NAME=FILE", hint="such as 35=jatim.pub")
        found.append(read_signer(name, read_file(Path(path), limit=MAX_KEY_BYTES)))
    return tuple(sorted(found, key=lambda signer: (signer.name, signer.key)))


def _certificates(files: tuple[Path, ...]) -> tuple[str, ...]:
    texts = []
    for file in files:
        pem = read_file(file, limit=MAX_CHAIN_PEM_BYTES)
        texts.append(changes.intermediate_text(pem, str(file)))
    return tuple(texts)
