"""Fixtures that several kinds of tests share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.federation import JOKO, Federation, crowd

if TYPE_CHECKING:
    from collections.abc import Iterator


MEMORY: Final = Path("/dev/shm")
LEAST_FREE_BYTES: Final = 2 << 30
TEMP_ROOT: Final = "PYTEST_DEBUG_TEMPROOT"  # pytest's own


def pytest_configure() -> None:
    """Keep the tests' folders in memory where there is room: on a disk, most of a run is waiting for fsync."""
    has_room = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= LEAST_FREE_BYTES
    if has_room and TEMP_ROOT not in os.environ:
        os.environ[TEMP_ROOT] = str(MEMORY)


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
