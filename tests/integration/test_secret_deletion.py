"""The end of an epoch's secret, on both kinds of database: gone from the disk, and on record, whenever it is killed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from node.changeover import delete_secrets, leftover_secrets
from node.errors import StoreError
from node.home import NodeHome
from node.pki.membership import Epoch, EpochState, Membership, epoch_check
from tests.postgres import postgres_server
from tests.stores import execute, rows, store, url

if TYPE_CHECKING:
    from pathlib import Path

    from node.store import Store

__all__ = ["postgres_server", "store", "url"]

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
OLD, NEW = bytes(range(32)), bytes(range(32, 64))


class DiesError(Exception):
    """Stands for kill -9: nothing after it happens."""


def directory(*epochs: Epoch) -> Membership:
    active = next(epoch for epoch in epochs if epoch.state is EpochState.ACTIVE)
    return Membership(
        federation="fkd-mpu",
        version=7,
        issued_at=NOW,
        expires_at=NOW + timedelta(days=30),
        key_epoch=active.number,
        epoch_check=active.check,
        members=(),
        epochs=epochs,
    )


RETIRED = directory(Epoch(2, epoch_check(NEW, 2), EpochState.ACTIVE))
OVERLAP = directory(Epoch(1, epoch_check(OLD, 1), EpochState.OLD), Epoch(2, epoch_check(NEW, 2), EpochState.ACTIVE))


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    made = NodeHome(tmp_path / "node")
    made.secrets.mkdir(parents=True)
    for epoch, secret in ((1, OLD), (2, NEW)):
        made.epoch_secret(epoch).write_text(secret.hex())
    made.operator_secret.write_text("ff" * 32)
    return made


def deletions(store: Store) -> list[tuple[str, str, int | None]]:
    entries = [entry for entry in store.audit_entries() if entry.outcome == "secret_deleted"]
    return [(entry.method, entry.peer, entry.key_epoch) for entry in entries]


def test_a_secret_whose_epoch_is_over_is_deleted_and_audited_and_no_other(home: NodeHome, store: Store) -> None:
    assert delete_secrets(home, RETIRED, store, "35", NOW) == (1,)
    assert sorted(path.name for path in home.secrets.iterdir()) == ["epoch-2.key", "operators.key"]
    assert home.epoch_secret(2).read_text() == NEW.hex()
    assert deletions(store) == [("epoch", "35", 1)]
    (entry,) = store.audit_entries()
    assert "version 7" in (entry.reason or "")
    assert entry.nonce is None
    assert delete_secrets(home, RETIRED, store, "35", NOW) == ()
    assert len(deletions(store)) == 1


def test_nothing_is_deleted_while_the_old_epoch_is_valid(home: NodeHome, store: Store) -> None:
    assert delete_secrets(home, OVERLAP, store, "35", NOW) == ()
    assert leftover_secrets(home, OVERLAP) == ()
    assert [path.name for path in leftover_secrets(home, RETIRED)] == ["epoch-1.key"]
    assert deletions(store) == []


def test_the_bytes_are_overwritten_before_the_name_goes(
    home: NodeHome, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with home.epoch_secret(1).open("rb") as opened:  # whoever has it open sees what is on the disk, name or not
        delete_secrets(home, RETIRED, store, "35", NOW)
        assert opened.read() == bytes(64)


def test_while_the_audit_cannot_be_written_the_secret_is_useless_and_its_file_stays(
    home: NodeHome, store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise StoreError("the database has no room left on its disk")

    with monkeypatch.context() as patched:
        patched.setattr(store, "record_events", full)
        with pytest.raises(StoreError):
            delete_secrets(home, RETIRED, store, "35", NOW)
    left = home.secrets / "epoch-1.retired"
    assert left.read_bytes() == bytes(64)
    assert not home.epoch_secret(1).exists()
    assert leftover_secrets(home, RETIRED) == (left,)
    assert delete_secrets(home, RETIRED, store, "35", NOW) == (1,)
    assert not left.exists()
    assert deletions(store) == [("epoch", "35", 1)]


@pytest.mark.parametrize("step", ["overwrite", "record", "unlink"])
def test_killed_at_any_step_the_next_run_does_the_rest(
    home: NodeHome, store: Store, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def die(*_: object, **__: object) -> None:
        raise DiesError

    with monkeypatch.context() as patched:
        match step:
            case "overwrite":
                patched.setattr("node.changeover.overwrite", die)
            case "record":
                patched.setattr(store, "record_events", die)
            case _:
                patched.setattr("pathlib.Path.unlink", die)
        with pytest.raises(DiesError):
            delete_secrets(home, RETIRED, store, "35", NOW)
    # A row never tells of a secret that is still there.
    held = [path for path in home.secrets.iterdir() if OLD.hex() in path.read_text()]
    assert bool(held) == (step == "overwrite")
    assert len(deletions(store)) == (1 if step == "unlink" else 0)
    assert delete_secrets(home, RETIRED, store, "35", NOW) == (1,)
    assert deletions(store)[0] == ("epoch", "35", 1)
    assert sorted(path.name for path in home.secrets.iterdir()) == ["epoch-2.key", "operators.key"]


def test_the_row_can_be_neither_changed_nor_removed(home: NodeHome, store: Store, url: str) -> None:
    delete_secrets(home, RETIRED, store, "35", NOW)
    for statement in ("DELETE FROM audit", "UPDATE audit SET outcome = 'kept'"):
        with pytest.raises(Exception, match="append-only"):
            execute(url, statement)
    assert rows(url, "SELECT outcome, key_epoch FROM audit") == [("secret_deleted", 1)]
