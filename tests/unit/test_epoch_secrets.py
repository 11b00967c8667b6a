"""Epoch secrets: sealed for one province and one use, opened there alone, taken in if the directory knows them."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite

from node.config import make_config, write_config
from node.errors import ConfigError, TrustError
from node.home import NodeHome
from node.pki.epoch_secrets import check_public_key, ensure_sealing_key, load_sealing_key, read_sealed, seal
from node.pki.epochs import (
    make_epoch,
    seal_again,
    sealed_name,
    take_in_secret,
    with_next,
    with_next_active,
    without_other,
)
from node.pki.membership import Epoch, EpochState, Member, Membership, epoch_check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
FEDERATION = "fkd-mpu.test"
FIRST = bytes(range(32))


def make_home(folder: Path, province: str, federation: str = FEDERATION) -> NodeHome:
    home = NodeHome(folder)
    write_config(home, make_config(province=province, federation=federation))
    return home


@pytest.fixture
def homes(tmp_path: Path) -> dict[str, NodeHome]:
    return {code: make_home(tmp_path / code, code) for code in ("33", "35")}


def directory(homes: dict[str, NodeHome], *epochs: Epoch) -> Membership:
    members = tuple(
        Member(code, code, f"{code}.example:7035", encryption_key=ensure_sealing_key(home).public_hex)
        for code, home in homes.items()
    )
    stage = epochs or (Epoch(1, epoch_check(FIRST, 1), EpochState.ACTIVE),)
    active = next(epoch for epoch in stage if epoch.state is EpochState.ACTIVE)
    return Membership(
        federation=FEDERATION,
        version=1,
        issued_at=NOW,
        expires_at=NOW + timedelta(days=30),
        key_epoch=active.number,
        epoch_check=active.check,
        members=members,
        epochs=stage,
    )


@pytest.fixture
def prepared(homes: dict[str, NodeHome]) -> tuple[Membership, dict[str, bytes]]:
    """A directory in which epoch 2 is the next, and its secret, sealed for both members."""
    before = directory(homes)
    new, sealed = make_epoch(FEDERATION, before.members, 2)
    return directory(homes, *with_next(before.epochs, new)), sealed


def test_every_member_opens_the_same_secret_and_the_files_hold_it_nowhere(
    homes: dict[str, NodeHome], prepared: tuple[Membership, dict[str, bytes]]
) -> None:
    membership, sealed = prepared
    for code, home in homes.items():
        assert take_in_secret(home, membership, sealed[sealed_name(2, code)]).number == 2
    secrets = {home.epoch_secret(2).read_text() for home in homes.values()}
    assert len(secrets) == 1
    (secret,) = secrets
    assert len(bytes.fromhex(secret)) == 32
    assert all(secret.strip().encode() not in data and bytes.fromhex(secret) not in data for data in sealed.values())
    assert {home.epoch_secret(2).stat().st_mode & 0o777 for home in homes.values()} == {0o600}


def test_taking_a_secret_in_twice_changes_nothing(
    homes: dict[str, NodeHome], prepared: tuple[Membership, dict[str, bytes]]
) -> None:
    membership, sealed = prepared
    take_in_secret(homes["33"], membership, sealed[sealed_name(2, "33")])
    stamp = homes["33"].epoch_secret(2).stat().st_mtime_ns
    take_in_secret(homes["33"], membership, sealed[sealed_name(2, "33")])
    assert homes["33"].epoch_secret(2).stat().st_mtime_ns == stamp


def changed(**changes: object) -> Callable[[bytes], bytes]:
    return lambda sealed: json.dumps(json.loads(sealed) | changes).encode()


def bit_flipped(sealed: bytes) -> bytes:
    body = json.loads(sealed)
    text = body["sealed"]
    middle = len(text) // 2
    return json.dumps(
        body | {"sealed": text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]}
    ).encode()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (changed(province="35"), "sealed for province 35"),
        (changed(federation="another"), "of another"),
        (changed(epoch=1), "was not sealed to this node's key, or was changed"),
        (changed(epoch=7), "epoch 7 is not valid"),
        (changed(sealed="AAAA"), "was not sealed to this node's key, or was changed"),
        (changed(format="pulang-sealed-2"), "not a sealed epoch secret"),
        (changed(more=1), "not a sealed epoch secret"),
        (changed(sealed="A" * 20_000), "not a sealed epoch secret"),
        (bit_flipped, "was not sealed to this node's key, or was changed"),
        (lambda sealed: sealed[: len(sealed) // 2], "not a sealed epoch secret"),
        (lambda _: b"", "not a sealed epoch secret"),
    ],
)
def test_a_sealed_secret_that_was_changed_anywhere_is_refused(
    homes: dict[str, NodeHome],
    prepared: tuple[Membership, dict[str, bytes]],
    damage: Callable[[bytes], bytes],
    words: str,
) -> None:
    membership, sealed = prepared
    with pytest.raises(TrustError, match=words):
        take_in_secret(homes["33"], membership, damage(sealed[sealed_name(2, "33")]))
    assert not homes["33"].epoch_secret(2).exists()


def test_another_provinces_file_is_refused_even_when_its_name_is_changed(
    homes: dict[str, NodeHome], prepared: tuple[Membership, dict[str, bytes]]
) -> None:
    membership, sealed = prepared
    with pytest.raises(TrustError, match="was not sealed to this node's key"):
        take_in_secret(homes["33"], membership, changed(province="33")(sealed[sealed_name(2, "35")]))


def test_a_secret_sealed_for_another_epoch_or_federation_of_the_same_node_does_not_open(
    homes: dict[str, NodeHome], prepared: tuple[Membership, dict[str, bytes]]
) -> None:
    membership, _ = prepared
    key = ensure_sealing_key(homes["33"]).public_hex
    for named in ({"federation": "another", "epoch": 2}, {"federation": FEDERATION, "epoch": 1}):
        sealed = seal(FIRST, key, province="33", **named)  # type: ignore[arg-type]
        with pytest.raises(TrustError, match="was not sealed"):
            take_in_secret(homes["33"], membership, changed(federation=FEDERATION, epoch=2)(sealed))


def test_a_wrong_secret_in_a_right_seal_is_found_out_by_the_check_value(
    homes: dict[str, NodeHome], prepared: tuple[Membership, dict[str, bytes]]
) -> None:
    membership, _ = prepared
    key = ensure_sealing_key(homes["33"]).public_hex
    forged = seal(FIRST, key, federation=FEDERATION, province="33", epoch=2)
    with pytest.raises(TrustError, match="not the secret of epoch 2 that the directory means"):
        take_in_secret(homes["33"], membership, forged)
    assert not homes["33"].epoch_secret(2).exists()


def test_any_member_that_holds_a_secret_can_seal_it_for_one_that_came_later(
    homes: dict[str, NodeHome], prepared: tuple[Membership, dict[str, bytes]], tmp_path: Path
) -> None:
    membership, sealed = prepared
    take_in_secret(homes["33"], membership, sealed[sealed_name(2, "33")])
    homes["18"] = make_home(tmp_path / "18", "18")
    grown = directory(homes, *membership.epochs)
    again = seal_again(homes["33"], grown, "18", 2)
    assert take_in_secret(homes["18"], grown, again).number == 2
    assert homes["18"].epoch_secret(2).read_text() == homes["33"].epoch_secret(2).read_text()
    with pytest.raises(ConfigError, match="no encryption key of province 51"):
        seal_again(homes["33"], grown, "51", 2)
    with pytest.raises(TrustError, match="epoch 3 is not valid"):
        seal_again(homes["33"], grown, "18", 3)
    homes["33"].epoch_secret(2).write_text(FIRST.hex())
    with pytest.raises(TrustError, match="is not the secret of epoch 2"):
        seal_again(homes["33"], grown, "18", 2)


def test_an_epoch_is_not_made_while_a_member_would_be_shut_out(homes: dict[str, NodeHome]) -> None:
    members = directory(homes).members
    for key in ("", "ab" * 1215):
        with pytest.raises(ConfigError, match="no usable encryption key is in the directory for 35"):
            make_epoch(FEDERATION, (members[0], replace(members[1], encryption_key=key)), 2)
    with pytest.raises(ConfigError, match="for anybody"):
        make_epoch(FEDERATION, (), 2)


def test_the_sealing_key_is_private_whole_and_the_same_after_a_restart(homes: dict[str, NodeHome]) -> None:
    home = homes["33"]
    key = ensure_sealing_key(home)
    assert home.sealing_key.stat().st_mode & 0o777 == 0o600
    assert load_sealing_key(home).public_hex == ensure_sealing_key(home).public_hex == key.public_hex
    assert len(bytes.fromhex(key.public_hex)) == 1184 + 32
    home.sealing_key.chmod(0o644)
    with pytest.raises(TrustError, match="can be read or written by others"):
        load_sealing_key(home)
    home.sealing_key.chmod(0o600)
    home.sealing_key.write_text(home.sealing_key.read_text()[:100])
    with pytest.raises(ConfigError, match="not a whole sealing key"):
        load_sealing_key(home)
    home.sealing_key.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_sealing_key(home)


@pytest.mark.parametrize(
    "change", [lambda _: "", lambda key: key[:-2], lambda key: key[:-64] + "00" * 32, lambda _: "zz"]
)
def test_a_public_key_that_nothing_can_be_sealed_to_is_refused(
    homes: dict[str, NodeHome], change: Callable[[str], str]
) -> None:
    with pytest.raises(ConfigError, match="not a whole public key"):
        check_public_key(change(ensure_sealing_key(homes["33"]).public_hex))


def test_a_seal_opens_by_its_own_library_call_with_the_documented_info(homes: dict[str, NodeHome]) -> None:
    """The file's form is the one that is documented: another program could open it."""
    key = ensure_sealing_key(homes["33"])
    raw = bytes.fromhex(homes["33"].sealing_key.read_text())
    found = read_sealed(seal(FIRST, key.public_hex, federation=FEDERATION, province="33", epoch=2))
    private = MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(raw[:64]), X25519PrivateKey.from_private_bytes(raw[64:])
    )
    info = b"pulang/sealed-epoch-secret/1\0fkd-mpu.test\x0033\x002"
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    assert suite.decrypt(base64.b64decode(found.sealed), private, info) == FIRST


def test_stages_follow_each_other_and_no_other_way() -> None:
    one = (Epoch(1, "a" * 32, EpochState.ACTIVE),)
    new = Epoch(2, "b" * 32, EpochState.NEXT)
    preparing = with_next(one, new)
    assert [(epoch.number, epoch.state) for epoch in preparing] == [(1, "active"), (2, "next")]
    changing = with_next_active(preparing, 2)
    assert [(epoch.number, epoch.state) for epoch in changing] == [(1, "old"), (2, "active")]
    assert [(epoch.number, epoch.state) for epoch in without_other(changing, 1)] == [(2, "active")]
    assert without_other(preparing, 2) == one  # given up before it began
    refused: tuple[Callable[[], object], ...] = (
        lambda: with_next(changing, Epoch(3, "c" * 32, EpochState.NEXT)),
        lambda: with_next(one, Epoch(1, "c" * 32, EpochState.NEXT)),
        lambda: with_next_active(one, 2),
        lambda: with_next_active(changing, 2),
        lambda: without_other(preparing, 1),
        lambda: without_other(changing, 2),
        lambda: without_other(changing, 9),
    )
    for wrong in refused:
        with pytest.raises(ConfigError):
            wrong()


@pytest.mark.parametrize(
    "states", [("next", "active"), ("active", "active"), ("active", "old"), ("old", "active", "next")], ids="-".join
)
def test_a_directory_with_epochs_of_no_stage_is_refused(homes: dict[str, NodeHome], states: tuple[str, ...]) -> None:
    epochs = tuple(Epoch(number + 1, "a" * 32, EpochState(state)) for number, state in enumerate(states))
    with pytest.raises(ValueError, match="the active one, alone"):
        directory(homes, *epochs)


def test_a_directory_whose_key_epoch_contradicts_its_epochs_is_refused(homes: dict[str, NodeHome]) -> None:
    with pytest.raises(ValueError, match="not those of the active epoch"):
        replace(directory(homes), key_epoch=2)
