"""`pulang audit` as people run it: on a real node's folder, by the command line."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from node.cli.main import main
from node.config import make_config, write_config
from node.home import NodeHome
from node.notary import Notary
from node.pki.logkey import load_log_key
from node.store import PENDING, open_store
from tests.federation import now
from tests.stores import WRITER, entry, execute, handle

if TYPE_CHECKING:
    from pathlib import Path

CASE = "K-20260301-abc"


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    """A node's folder whose log is signed: three cases asked by 33, one by 51, and one question of our own."""
    made = NodeHome(tmp_path / "node")
    write_config(made, make_config(federation="fkd-mpu", province="35"))
    with closing(open_store(f"sqlite:///{made.database}")) as store:
        for number, (peer, case) in enumerate((("33", CASE), ("33", "K-2"), ("33", CASE), ("51", "K-4"))):
            nonce = bytes([number]) * 16
            one = entry(number, at=now(), peer=peer, case_reference=case, nonce=nonce, reason="=1+1")
            pending = store.record_pending(replace(one, outcome=PENDING))
            given = replace(handle(number, expires_at=now() + timedelta(days=1)), question_nonce=nonce, peer=peer)
            store.record_answer(replace(one, concerns=pending, handles_given=1), [given])
        notary(made, store).sign()
    return made


def notary(home: NodeHome, store: Any) -> Notary:
    async def nobody(*_: object) -> Any:
        raise AssertionError

    return Notary(
        home=home,
        store=store,
        key=load_log_key(home.log_key, "spiffe://fkd-mpu/province/35/audit"),
        province="35",
        members=lambda: ["35"],
        name_of=lambda code: f"spiffe://fkd-mpu/province/{code}/audit",
        ask=nobody,
        before=lambda: None,
        now=now,
    )


def pulang(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        main(["audit", *map(str, words)])
    assert isinstance(left.value.code, int)
    out, err = capsys.readouterr()
    return left.value.code, out + err


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_verify_says_whole_and_after_one_edit_names_the_row(home: NodeHome, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = pulang(capsys, "verify", "--home", home.root)
    assert (code, "the log is whole" in text) == (0, True)
    execute(f"sqlite:///{home.database}", "DROP TRIGGER audit_no_update")
    execute(f"sqlite:///{home.database}", "UPDATE audit SET peer = '52' WHERE number = 4")
    code, text = pulang(capsys, "verify", "--home", home.root)
    assert (code, "first bad row: 4" in text) == (77, True)
    code, text = pulang(capsys, "verify", "--home", home.root, "--json")
    verdict = json.loads(text[: text.index("\n")])
    assert (code, verdict["whole"], verdict["first_bad_row"]) == (77, False, 4)


def test_the_signed_head_beside_the_database_tells_when_its_end_is_cut_off(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    assert home.audit_checkpoint.read_text().splitlines()[1] == "8"
    url = f"sqlite:///{home.database}"
    for table in ("audit", "audit_nodes", "audit_checkpoints"):
        execute(url, f"DROP TRIGGER {table}_no_delete")
    for statement in (
        "DELETE FROM audit WHERE number > 4",
        "DELETE FROM audit_erasable WHERE number > 4",
        "DELETE FROM audit_nodes WHERE position > 6",
    ):
        execute(url, statement)
    code, text = pulang(capsys, "verify", "--home", home.root)
    assert (code, "first bad row: 5" in text) == (77, True)


def test_an_exported_log_is_verified_without_the_node(
    home: NodeHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "log.jsonl"
    assert pulang(capsys, "export", "log", "--home", home.root, "--out", out)[0] == 0
    checksum = (tmp_path / "log.jsonl.sha256").read_text()
    assert checksum == f"{hashlib.sha256(out.read_bytes()).hexdigest()}  log.jsonl\n"
    checked = subprocess.run(["sha256sum", "--check", "--quiet", "log.jsonl.sha256"], cwd=tmp_path, check=False)
    assert checked.returncode == 0
    assert pulang(capsys, "verify", "--home", tmp_path / "nowhere", "--file", out)[0] == 0
    out.write_bytes(out.read_bytes().replace(b'"peer":"51"', b'"peer":"52"', 1))
    code, text = pulang(capsys, "verify", "--home", tmp_path / "nowhere", "--file", out)
    assert code == 77, text


def test_the_trail_of_one_case_holds_its_questions_and_no_other(
    home: NodeHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "trail.jsonl"
    assert pulang(capsys, "export", "case", "--case", CASE, "--home", home.root, "--out", out)[0] == 0
    trail = [(row["peer"], row["case_reference"], row["outcome"]) for row in lines(out)]
    assert trail == [("33", CASE, "answered")] * 2


def test_the_breach_list_names_whom_a_province_was_told_of_in_a_window(
    home: NodeHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "breach.jsonl"
    since = (now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S")
    common = ("--home", home.root, "--peer", "33")
    assert pulang(capsys, "export", "breach", *common, "--since", since, "--out", out)[0] == 0
    assert [(row["case_reference"], row["record_ids"]) for row in lines(out)] == [
        (CASE, ["R-0"]),
        ("K-2", ["R-1"]),
        (CASE, ["R-2"]),
    ]
    assert pulang(capsys, "export", "breach", *common, "--until", since, "--out", tmp_path / "none.jsonl")[0] == 0
    assert lines(tmp_path / "none.jsonl") == []


def test_the_record_of_processing_as_csv_has_its_columns_and_no_formula(
    home: NodeHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "processing.csv"
    assert pulang(capsys, "export", "processing", "--format", "csv", "--home", home.root, "--out", out)[0] == 0
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["outcome"] for row in rows] == ["answered"] * 4
    assert "case_reference" not in rows[0]
    trail = tmp_path / "case.csv"
    wanted = ("case", "--case", CASE, "--format", "csv")
    assert pulang(capsys, "export", *wanted, "--home", home.root, "--out", trail)[0] == 0
    with trail.open(newline="") as stream:
        assert {row["reason"] for row in csv.DictReader(stream)} == {"'=1+1"}


@pytest.mark.parametrize(
    "words",
    [("case",), ("breach",), ("processing", "--case", "K"), ("log", "--format", "csv"), ("log", "--peer", "33")],
)
def test_an_export_that_does_not_say_what_of_is_refused(
    home: NodeHome, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert pulang(capsys, "export", *words, "--home", home.root, "--out", tmp_path / "x")[0] == 2
    assert not (tmp_path / "x").exists()


def test_show_filters_by_case_and_province(home: NodeHome, capsys: pytest.CaptureFixture[str]) -> None:
    shown = pulang(capsys, "show", "--home", home.root, "--case", CASE, "--json")[1].splitlines()
    assert {json.loads(line)["case_reference"] for line in shown} == {CASE}
    assert len(shown) == 4
    shown = pulang(capsys, "show", "--home", home.root, "--peer", "51")[1].splitlines()
    assert len(shown) == 2
    assert "K-4" in shown[0]
    assert pulang(capsys, "show", "--home", home.root, "--case", "K-none")[1] == "no rows\n"


def test_retention_is_a_dry_run_until_told_and_the_log_stays_whole(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(open_store(f"sqlite:///{home.database}")) as store:
        store.record_answer(entry(9, at=now() - timedelta(days=40), case_reference="K-old"))
    dry = pulang(capsys, "retain", "--home", home.root, "--older-than", 30, "--json")[1]
    assert json.loads(dry)["rows"] == 1
    assert "K-old" in pulang(capsys, "show", "--home", home.root)[1]
    assert pulang(capsys, "retain", "--home", home.root, "--older-than", 30, "--erase")[0] == 0
    shown = pulang(capsys, "show", "--home", home.root)[1]
    assert "K-old" not in shown
    assert CASE in shown
    assert shown.splitlines()[-1].split()[5] == "erased"
    code, text = pulang(capsys, "verify", "--home", home.root)
    assert (code, "1 erased by retention" in text) == (0, True)


def test_status_tells_the_lag(home: NodeHome, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(open_store(f"sqlite:///{home.database}")) as store:
        store.record_answer(entry(9))
    status = json.loads(pulang(capsys, "status", "--home", home.root, "--json")[1])
    assert (status["rows"], status["signed"], status["cosigned"]) == (9, 8, {})
    assert "lag 1" in pulang(capsys, "status", "--home", home.root)[1]


def test_two_processes_append_at_once_and_the_log_is_whole(home: NodeHome, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{home.database}"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, name, "40"], stdout=subprocess.DEVNULL) for name in "ab"
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    code, text = pulang(capsys, "verify", "--home", home.root, "--json")
    assert (code, json.loads(text[: text.index("\n")])["rows"]) == (0, 8 + 80)


def test_the_benchmark_measures_both_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "audit", "--rows", "0", "--answers", "10"])
    assert "ratio" in capsys.readouterr().out
