"""The command line of certificates and membership: a whole life; a refusal is a line, a hint, an exit code."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

from node.cli.main import main
from node.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path


class Ran(NamedTuple):
    code: int
    out: str
    err: str


class Shell:
    """Runs `pulang ...` in a folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def run(self, line: str) -> Ran:
        with pytest.raises(SystemExit) as left:
            main(line.split())
        out, err = self._capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Ran(left.value.code, out, err)

    def ok(self, line: str) -> str:
        ran = self.run(line)
        assert ran.code == 0, ran
        return ran.out

    def refused(self, line: str, code: int, why: str) -> None:
        """One line that says why, one that says what next, the documented exit code, and no traceback."""
        ran = self.run(line)
        assert ran.code == code, ran
        said, _, hint = ran.err.rstrip("\n").partition("\n")
        assert said.startswith("pulang: ")
        assert re.search(why, said), said
        assert hint.startswith("hint: ")
        assert "\n" not in hint


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path, capsys)


@pytest.fixture
def founded(shell: Shell) -> Shell:
    """An authority and a node of province 35 whose request is written."""
    shell.ok("federation authority authority --name fkd-mpu")
    shell.ok("node init --home n35 --province 35")
    shell.ok("cert request --home n35 --out 35.csr")
    return shell


@pytest.fixture
def signed(founded: Shell) -> Shell:
    """The federation is published: province 35 is its member, two of three signers decide."""
    for number in "123":
        founded.ok(f"federation signer-key s{number}.key")
    founded.ok("federation timestamp-key --home n35")
    founded.ok(INIT)
    founded.ok(f"{PROPOSE} admit --repository repository --proposal founding --province 35 --address 127.0.0.1:7035")
    sign_and_publish(founded, "founding")
    return founded


def sign_and_publish(shell: Shell, proposal: str, *numbers: str) -> str:
    for number in numbers or ("1", "2"):
        shell.ok(f"federation sign {proposal} --repository repository --key s{number}.key --yes")
    return shell.ok(f"federation publish {proposal} --repository repository --timestamp-key n35/tuf/timestamp.key")


def join_line(shell: Shell) -> str:
    fingerprint = hashlib.sha256((shell.folder / "repository" / "root.json").read_bytes()).hexdigest()
    return (
        f"federation join --home n35 --repository repository --root-sha256 {fingerprint} "
        "--epoch-secret authority/epoch-1.key"
    )


ISSUE = "cert issue --authority authority --province 35 35.csr --out 35.crt"
INSTALL = "cert install --home n35 35.crt --root authority/root.pem"
PROPOSE = "federation propose"
INIT = (
    "federation init founding --name fkd-mpu --threshold 2 --signer Jatim=s1.key.pub --signer Bali=s2.key.pub "
    "--signer DIY=s3.key.pub --timestamp-key n35=n35/tuf/timestamp.key.pub --epoch-secret authority/epoch-1.key "
    "--root authority/root.pem"
)


def test_a_node_comes_into_a_federation(signed: Shell) -> None:
    signed.ok(ISSUE)
    signed.ok(INSTALL)
    assert "35  Jawa Timur             127.0.0.1:7035" in signed.ok(join_line(signed))
    status = json.loads(signed.ok("cert status --home n35 --json"))
    assert (status["state"], status["province"], status["pending"]) == ("valid", "35", False)
    assert 29.9 < status["days_left"] <= 30
    assert "province 35 of fkd-mpu: valid" in signed.ok("cert status --home n35")


def test_no_command_prints_a_secret(signed: Shell) -> None:
    shown = signed.ok(ISSUE) + signed.ok(INSTALL) + signed.ok("cert status --home n35 --json")
    shown += signed.ok(join_line(signed)) + signed.ok("federation show --home n35 --json")
    secret = (signed.folder / "authority" / "epoch-1.key").read_text().strip()
    assert secret not in shown
    for path in (signed.folder / "repository").rglob("*"):
        assert not path.is_file() or secret not in path.read_text()
    assert "PRIVATE" not in shown


def test_the_exit_code_of_status_tells_a_timer_what_to_do(founded: Shell) -> None:
    absent = founded.run("cert status --home n35 --json")
    assert (absent.code, json.loads(absent.out)["state"], json.loads(absent.out)["pending"]) == (78, "absent", True)
    founded.ok(ISSUE + " --days 1")
    founded.ok(INSTALL)
    assert founded.run("cert status --home n35").code == 0


def test_an_authority_is_not_founded_twice(founded: Shell) -> None:
    founded.refused("federation authority authority --name fkd-mpu", 78, "holds an authority already")


def test_another_provinces_request_is_refused(founded: Shell) -> None:
    founded.refused(ISSUE.replace("province 35", "province 33"), 77, "request is of province 35 .* of province 33")
    assert not (founded.folder / "35.crt").exists()


def test_a_request_issued_before_is_refused(founded: Shell) -> None:
    founded.ok(ISSUE)
    founded.refused(ISSUE.replace("35.crt", "again.crt"), 77, "in the register already")


def test_no_output_file_is_overwritten_and_nothing_is_registered_for_it(founded: Shell) -> None:
    (founded.folder / "35.crt").write_text("something dear")
    founded.refused(ISSUE, 78, r"35\.crt exists already")
    assert (founded.folder / "35.crt").read_text() == "something dear"
    assert len((founded.folder / "authority" / "issued.jsonl").read_text().splitlines()) == 1
    founded.refused("cert request --home n35 --discard --out 35.csr", 78, r"35\.csr exists already")


def test_garbage_instead_of_a_request_is_refused(founded: Shell) -> None:
    (founded.folder / "35.csr").write_bytes(b"\x00\xff garbage")
    founded.refused(ISSUE, 78, "not a whole PEM certificate request")


def test_a_missing_request_is_refused(founded: Shell) -> None:
    (founded.folder / "35.csr").unlink()
    assert founded.run(ISSUE).code == 78


def test_half_a_certificate_is_not_installed(founded: Shell) -> None:
    founded.ok(ISSUE)
    path = founded.folder / "35.crt"
    write_atomic(path, path.read_bytes()[:200], replace=True)
    founded.refused(INSTALL, 78, "not a whole PEM certificate")


def test_a_foreign_root_is_refused(founded: Shell) -> None:
    founded.ok(ISSUE)
    founded.ok("federation authority other --name fkd-mpu")
    founded.refused(INSTALL.replace("authority/root.pem", "other/root.pem"), 77, "not issued by this federation's root")


def test_a_certificate_on_another_provinces_node_is_refused(founded: Shell) -> None:
    founded.ok(ISSUE)
    founded.ok("node init --home n33 --province 33")
    founded.refused(INSTALL.replace("n35", "n33"), 77, "of province 35 of fkd-mpu, and this node is province 33")


def test_a_list_that_was_edited_is_refused(signed: Shell) -> None:
    (path,) = (signed.folder / "repository").glob("copy-*/targets/*.members.json")
    path.write_text(path.read_text().replace("127.0.0.1", "127.0.0.9"))
    signed.refused(join_line(signed), 77, r"members\.json: its length or hash")


def test_a_removed_member_hears_it_from_its_own_node(signed: Shell) -> None:
    signed.ok(join_line(signed))
    signed.ok(f"{PROPOSE} admit --repository repository --proposal change --province 33 --address 127.0.0.1:7033")
    signed.ok(f"{PROPOSE} remove --repository repository --proposal change --province 35")
    sign_and_publish(signed, "change")
    ran = signed.run("federation join --home n35 --repository repository")
    assert ran.code == 0
    assert "warning: province 35, this node's, is not on the list" in ran.err


def test_a_folder_that_is_no_authority_is_refused(founded: Shell) -> None:
    founded.refused(ISSUE.replace("--authority authority", "--authority n35"), 78, "holds no authority")


def test_a_code_of_no_province_is_not_admitted_unnamed(signed: Shell) -> None:
    admit = f"{PROPOSE} admit --repository repository --proposal change --province 99 --address localhost:7099"
    signed.refused(admit, 78, "99 is not the code of a province")
    signed.ok(f"{admit} --name Baru")


def test_a_member_without_a_port_is_refused(signed: Shell) -> None:
    ran = signed.run(f"{PROPOSE} admit --repository repository --proposal change --province 36 --address localhost")
    assert ran.code == 78
    assert "address" in ran.err
