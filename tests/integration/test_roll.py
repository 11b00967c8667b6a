"""The short forms of `pulang bench life` and `revoke`: real nodes, every step by its command, nobody is dropped."""

from __future__ import annotations

import contextlib
import io
import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import roll
from benchmarks.life import live
from benchmarks.roll import WAYS, measure_revocations
from benchmarks.town import Town
from node.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

POLL_S = 0.3


class QuickTown(Town):
    """Runs commands in this process: most of a command's second is spent on loading it."""

    def execute(self, words: Sequence[str]) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.root),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as left,
        ):
            main(list(words))
        assert isinstance(left.value.code, int)
        return left.value.code, out.getvalue(), err.getvalue()


def test_through_a_federations_whole_life_no_call_fails_while_certificates_roll(tmp_path: Path) -> None:
    said: list[str] = []
    load = live(QuickTown(tmp_path, said.append, POLL_S), persons=100, seed=1, tell=said.append)
    told = "\n".join(said)
    assert load.failures == [], told
    assert {phase for phase, _ in load.counts} >= {"leaves", "intermediates", "root"}
    assert "pulang: 1 of 2 signers have signed; not yet: Bali, Banten" in told
    assert "published version 2 of fkd-mpu" in told
    reasons = [json.loads(line)["kind"] for line in said if line.startswith("{") and "call_refused" in line]
    assert reasons == ["CertificateRevokedError", "NotAMemberError"]
    assert told.count("it is stopped by: call") == 2


def test_whoever_is_put_out_in_whatever_way_is_out_and_an_old_backup_does_not_let_it_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roll, "QUIET_S", 0.5)
    monkeypatch.setattr(roll, "WATCH_S", 2.0)
    town = QuickTown(tmp_path, lambda _: None, POLL_S)
    found, (restored,) = measure_revocations(town, persons=100, rounds=3, restores=1, seed=1, others=("35",))
    assert {(each.how, each.province) for each in found} == {(how, code) for how in WAYS for code in ("33", "35")}
    assert restored.accepted == 0
    assert restored.calls > 1
