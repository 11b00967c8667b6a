"""What ends when: a line from half of a life on, somebody's turn from two thirds on, unless it is seen to."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from node.deadlines import Calendar, Deadline, Life, deadlines, of_federation, of_node
from node.pki.credentials import install_certificate, request_certificate
from tests.pki_world import DAY, NOW, World, found_world  # noqa: F401 - the fixture
from tests.tuf_world import World as ListWorld
from tests.tuf_world import join

if TYPE_CHECKING:
    from datetime import datetime

SECOND = timedelta(seconds=1)


def thirty_days(**settings: bool) -> Deadline:
    return Deadline("list", NOW, NOW + 30 * DAY, "the signers", "renew it", **settings)


@pytest.mark.parametrize(
    ("at", "life", "warns"),
    [
        (NOW - SECOND, Life.FUTURE, True),
        (NOW, Life.FINE, False),
        (NOW + 15 * DAY, Life.FINE, False),
        (NOW + 15 * DAY + SECOND, Life.HALF, True),
        (NOW + 20 * DAY, Life.HALF, True),
        (NOW + 20 * DAY + SECOND, Life.DUE, True),
        (NOW + 30 * DAY, Life.ENDED, True),
    ],
)
def test_half_of_a_life_is_worth_a_line_and_the_last_third_somebodys_turn(
    at: datetime, life: Life, warns: bool
) -> None:
    assert thirty_days().life(at) is life
    assert (thirty_days().warning(at) is not None) == warns


def test_a_warning_says_when_who_and_how() -> None:
    assert thirty_days().warning(NOW + 16 * DAY) == (
        "list: half of its life is gone, it ends at 2026-07-01 08:00 UTC; the signers: renew it"
    )


@pytest.mark.parametrize("settings", [{"by_itself": True}, {"has_successor": True}])
def test_what_is_seen_to_is_nobodys_turn_at_half(settings: dict[str, bool]) -> None:
    assert thirty_days(**settings).warning(NOW + 16 * DAY) is None


def test_a_successor_under_way_takes_the_hurry_away_and_the_end_stays_the_end() -> None:
    assert thirty_days(has_successor=True).life(NOW + 29 * DAY) is Life.HALF
    assert thirty_days(has_successor=True).life(NOW + 30 * DAY) is Life.ENDED


def test_what_a_node_renews_itself_is_due_only_when_it_did_not(world: World) -> None:
    home = world.renewing("35", NOW)
    certificate, intermediate = of_node(home)
    assert (certificate.what, certificate.by_itself, intermediate.what) == ("certificate", True, "intermediate 1")
    assert certificate.warning(NOW + 4 * DAY) is None
    assert "renewal_failed" in str(certificate.warning(NOW + 5 * DAY))


def test_a_certificate_that_is_carried_is_warned_of_from_half_on(world: World) -> None:
    home = world.home("35")
    chain = world.issue(request_certificate(home), "35", NOW, 30)
    install_certificate(home, chain, NOW, roots_pem=world.authority.root_pem)
    (certificate,) = of_node(home)
    assert not certificate.by_itself
    assert "pulang cert request" in str(certificate.warning(NOW + 16 * DAY))


def test_an_intermediate_with_a_successor_prepared_is_nobodys_hurry(world: World) -> None:
    home = world.renewing("35", NOW)
    late = NOW + 300 * DAY
    assert of_node(home)[1].life(late) is Life.DUE
    world.prepared(home, NOW)
    assert of_node(home)[1].life(late) is Life.HALF


def test_every_role_of_the_list_and_the_longest_root_have_their_day(world: World) -> None:
    world.authority.prepare(NOW + DAY)
    copy = ListWorld.found("33", "35", roots=world.authority.roots).copy
    assert copy is not None
    ends = {each.what: each.ends_at for each in of_federation(copy)}
    assert ends["timestamp"] == NOW + DAY
    assert ends["list of members"] == NOW + 30 * DAY
    assert ends["signers' root"] == NOW + 365 * DAY
    assert ends["certificate root"] == NOW + DAY + timedelta(days=3653)


def test_a_new_folder_has_no_deadlines_and_a_joined_one_has_all(world: World) -> None:
    home = world.home("35")
    assert deadlines(home) == ()
    world.prepared(home).activate(NOW)
    join(home, ListWorld.found("33", "35", roots=world.authority.roots))
    assert {each.what for each in deadlines(home)} == {
        "intermediate 1",
        "list of members",
        "timestamp",
        "signers' root",
        "certificate root",
    }


def test_a_running_node_looks_again_after_a_minute(world: World) -> None:
    home = world.home("35")
    calendar, seconds = Calendar(home), [0.0]
    assert calendar.get(lambda: seconds[0]) == ()
    world.prepared(home).activate(NOW)
    assert calendar.get(lambda: seconds[0]) == ()
    seconds[0] = 60.0
    assert [each.what for each in calendar.get(lambda: seconds[0])] == ["intermediate 1"]
