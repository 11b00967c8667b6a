"""Status commands as a timer meets them: exit codes and JSON on the last day, after it, and after a revocation."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from node.cli.main import main
from node.pki.membership import Member
from node.pki.register import Reason
from node.pki.renewal import renew
from tests.listing import ListedAuthority
from tests.pki_world import DAY, World
from tests.tuf_world import World as ListWorld
from tests.tuf_world import join

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from node.home import NodeHome
    from node.pki.repository import Contents

NOW = datetime.now(UTC).replace(microsecond=0)  # the commands have only the real clock


class Ran(NamedTuple):
    code: int
    shown: str

    @property
    def document(self) -> Any:
        return json.loads(self.shown)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def command(*words: object) -> Ran:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        assert isinstance(left.value.code, int)
        return Ran(left.value.code, capsys.readouterr().out)

    return command


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, ListedAuthority.found(tmp_path / "authority", "fkd-mpu", NOW - 60 * DAY))


def node(
    world: World, *, leaf_age: timedelta = timedelta(), list_age: timedelta = timedelta(), revoked: bool = False
) -> NodeHome:
    """A node of province 35 in a list that is so old, with a certificate that is so old, or was revoked."""
    home = world.home("35")
    own = world.prepared(home, NOW - 30 * DAY)
    own.activate(NOW - 30 * DAY)
    renew(home, NOW - leaf_age)
    member = Member("35", "Jawa Timur", "127.0.0.1:7035", (str(own.issuers[-1].pem),))
    taken_back = (own.revoke_leaf(own.register.issued()[-1].serial, Reason.KEY_COMPROMISE, NOW),) if revoked else ()

    def with_member(contents: Contents) -> Contents:
        members = (*contents.membership.members, member)
        return replace(contents, membership=replace(contents.membership, members=members, revoked=taken_back))

    listed = ListWorld.found("33", now=NOW - list_age, roots=world.authority.roots)
    listed.change(with_member)
    join(home, listed, NOW - list_age)
    return home


@pytest.mark.parametrize(
    ("leaf_age", "list_age", "code"),
    [(0, 0, 0), (5, 0, 20), (8, 0, 77), (0, 0.8, 20), (0, 2, 77), (0, 31, 77)],
)
def test_the_calendars_exit_code_is_the_worst_there_is(
    world: World, run: Callable[..., Ran], leaf_age: float, list_age: float, code: int
) -> None:
    home = node(world, leaf_age=leaf_age * DAY, list_age=list_age * DAY)
    ran = run("node", "calendar", "--home", home.root, "--json")
    assert ran.code == code
    ends = [each["ends_at"] for each in ran.document["deadlines"]]
    assert ends == sorted(ends)
    warned = [each for each in ran.document["deadlines"] if each["warning"]]
    shown = run("node", "calendar", "--home", home.root)
    assert shown.code == code
    assert shown.shown.count("warning  ") == len(warned)
    assert bool(warned) == (code != 0)


def test_half_of_a_lists_life_is_a_line_and_no_alarm(world: World, run: Callable[..., Ran]) -> None:
    home = node(world, list_age=16 * DAY)
    ran = run("federation", "show", "--home", home.root, "--json")
    assert ran.document["warnings"][0].startswith("list of members: half of its life is gone")
    # Its timestamp is long over: that is the alarm.
    assert (ran.code, len(ran.document["warnings"])) == (77, 2)
    assert set(ran.document["ends"]) == {"root", "timestamp", "snapshot", "targets"}


@pytest.mark.parametrize(("age_days", "code"), [(0, 0), (5, 20), (8, 77)])
def test_cert_status_tells_a_timer_what_it_tells_a_person(
    world: World, run: Callable[..., Ran], age_days: int, code: int
) -> None:
    home = node(world, leaf_age=age_days * DAY)
    ran = run("cert", "status", "--home", home.root, "--json")
    assert (ran.code, bool(ran.document["warnings"])) == (code, code != 0)
    assert ran.document["refused"] is None
    assert ("warning" in run("cert", "status", "--home", home.root).shown) == (code != 0)


def test_a_certificate_that_others_refuse_is_not_called_valid(world: World, run: Callable[..., Ran]) -> None:
    home = node(world, revoked=True)
    ran = run("cert", "status", "--home", home.root, "--json")
    assert (ran.code, ran.document["state"]) == (77, "refused")
    assert "was revoked" in ran.document["refused"]
    assert "refused      the certificate of province 35" in run("cert", "status", "--home", home.root).shown
    renew(home, NOW)
    assert run("cert", "status", "--home", home.root).code == 0


def test_ca_status_warns_from_half_on_and_alarms_in_the_last_third(world: World, run: Callable[..., Ran]) -> None:
    codes = {}
    for days in (365, 50, 31):  # of an intermediate that is 30 days old
        folder = World(world.folder / f"of-{days}", world.authority)
        home = folder.home("33")
        folder.prepared(home, NOW - 30 * DAY, days=days).activate(NOW - 30 * DAY)
        ran = run("ca", "status", "--home", home.root, "--json")
        codes[days] = (ran.code, len(ran.document["warnings"]))
    assert codes == {365: (0, 0), 50: (0, 1), 31: (20, 1)}
