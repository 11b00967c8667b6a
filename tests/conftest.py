"""Fixtures that several kinds of tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.federation import JOKO, Federation, crowd

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Ten members; the nodes of 33, 35 and 36 run for the whole session, with Joko registered in 33."""
    made = Federation(tmp_path_factory.mktemp("federation"))
    try:
        made.node("33", [*crowd(400, seed=33), JOKO])
        made.node("35", crowd(300, seed=35))
        made.node("36", crowd(200, seed=36))
        for code in ("33", "35", "36"):
            made.nodes[code].launch()
        for code in ("33", "35", "36"):
            made.nodes[code].wait_until_ready()
        yield made
    finally:
        made.stop()
