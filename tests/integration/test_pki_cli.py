"""The command line of certificates and membership: a whole life; a refusal is a line, a hint, an exit code."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from node.cli.main import main
from node.files import write_atomic
from node.pki.identity import Identity
from tests.pki_world import request_for

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
    shell.ok("ca prepare --home n35 --out 35.csr")
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


ISSUE = "ca issue --authority authority --province 35 35.csr --out 35.crt"
INSTALL = "ca install --home n35 35.crt --root authority/root.pem"
ACTIVATE = "ca activate --home n35"
RENEW = "cert renew --home n35"
PROPOSE = "federation propose"
INIT = (
    "federation init founding --name fkd-mpu --threshold 2 --signer Jatim=s1.key.pub --signer Bali=s2.key.pub "
    "--signer DIY=s3.key.pub --timestamp-key n35=n35/tuf/timestamp.key.pub --epoch-secret authority/epoch-1.key "
    "--root authority/root.pem"
)


def test_a_node_comes_into_a_federation(signed: Shell) -> None:
    for line in (ISSUE, INSTALL, ACTIVATE, RENEW):
        signed.ok(line)
    assert "35  Jawa Timur             127.0.0.1:7035" in signed.ok(join_line(signed))
    shown = signed.run("cert status --home n35")
    assert shown.code == 77
    assert "refused      the certificate of province 35 of fkd-mpu was not issued by an intermediate that" in shown.out
    signed.ok(f"{PROPOSE} change --repository repository --proposal it --province 35 --add-intermediate 35.crt")
    sign_and_publish(signed, "it")
    signed.ok("federation join --home n35 --repository repository")
    status = json.loads(signed.ok("cert status --home n35 --json"))
    assert (status["state"], status["province"], status["pending"]) == ("valid", "35", False)
    assert 6.9 < status["days_left"] <= 7
    assert "province 35 of fkd-mpu: valid" in signed.ok("cert status --home n35")


def test_no_command_prints_a_secret(signed: Shell) -> None:
    shown = "".join(signed.ok(line) for line in (ISSUE, INSTALL, ACTIVATE, RENEW))
    shown += signed.ok("cert status --home n35 --json") + signed.ok("ca status --authority authority --json")
    shown += signed.ok(join_line(signed)) + signed.ok("federation show --home n35 --json")
    secret = (signed.folder / "authority" / "epoch-1.key").read_text().strip()
    assert secret not in shown
    for path in (signed.folder / "repository").rglob("*"):
        assert not path.is_file() or secret not in path.read_text()
    assert "PRIVATE" not in shown


def test_the_exit_code_of_status_tells_a_timer_what_to_do(founded: Shell) -> None:
    absent = founded.run("cert status --home n35 --json")
    assert (absent.code, json.loads(absent.out)["state"], json.loads(absent.out)["pending"]) == (78, "absent", False)
    founded.ok(ISSUE + " --days 1")
    founded.ok(INSTALL)
    founded.ok(ACTIVATE)
    founded.ok(RENEW)
    assert founded.run("cert status --home n35").code == 0


def test_an_authority_is_not_founded_twice(founded: Shell) -> None:
    founded.refused("federation authority authority --name fkd-mpu", 78, "holds an authority already")


def test_another_provinces_request_is_refused(founded: Shell) -> None:
    founded.refused(ISSUE.replace("province 35", "province 33"), 77, "request is of province 35 .* of province 33")
    assert not (founded.folder / "35.crt").exists()


def test_who_makes_a_request_and_who_grants_it_are_shown_the_same_key(founded: Shell) -> None:
    """A thief on the way could put a request of its own in its place: it is as good as the true one but for its key."""
    founded.ok("node init --home thief --province 35")
    founded.ok("ca prepare --home thief --out stolen.csr")
    told = shown_key(founded.ok("ca prepare --home n35 --out same.csr"))
    assert shown_key(founded.ok(ISSUE)) == told
    assert shown_key(founded.ok(ISSUE.replace("35.csr", "stolen.csr").replace("35.crt", "stolen.crt"))) != told
    for line in (INSTALL, ACTIVATE, "node init --home served --province 35"):
        founded.ok(line)
    told = shown_key(founded.ok("cert request --home served --out served.csr"))
    assert shown_key(founded.ok("cert issue --home n35 served.csr --out served.crt")) == told


def test_signers_are_shown_the_certificate_that_the_province_has_taken_in(signed: Shell) -> None:
    signed.ok(ISSUE)
    taken = re.search("SHA-256 [0-9a-f]{64}", signed.ok(INSTALL))
    assert taken is not None
    line = f"{PROPOSE} change --repository repository --proposal it --province 35 --add-intermediate 35.crt"
    assert f"+ intermediate certificate of 35 {taken.group()}, until" in signed.ok(line)


def shown_key(said: str) -> str:
    (key,) = re.findall(r"^its key     SHA-256 ([0-9a-f]{64}):", said, re.MULTILINE)
    return str(key)


def test_a_request_issued_before_gives_the_same_certificate_again(founded: Shell) -> None:
    founded.ok(ISSUE)
    founded.ok(ISSUE.replace("35.crt", "again.crt"))
    assert (founded.folder / "again.crt").read_bytes() == (founded.folder / "35.crt").read_bytes()


def test_no_output_file_is_overwritten_and_nothing_is_registered_for_it(founded: Shell) -> None:
    (founded.folder / "35.crt").write_text("something dear")
    founded.refused(ISSUE, 78, r"35\.crt exists already")
    assert (founded.folder / "35.crt").read_text() == "something dear"
    assert len((founded.folder / "authority" / "issued.jsonl").read_text().splitlines()) == 1
    founded.refused("ca prepare --home n35 --discard --out 35.csr", 78, r"35\.csr exists already")


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (rsa.generate_private_key(public_exponent=65537, key_size=1024), "not of the kind P-256"),
        (rsa.generate_private_key(public_exponent=65537, key_size=4096), "not of the kind P-256"),
        (ec.generate_private_key(ec.SECP192R1()), "not of the kind P-256"),
        (ec.generate_private_key(ec.SECP384R1()), "not of the kind P-256"),
    ],
    ids=["rsa-1024", "rsa-4096", "p-192", "p-384"],
)
def test_a_request_with_a_weak_or_another_kind_of_key_is_refused(founded: Shell, key: object, why: str) -> None:
    (founded.folder / "35.csr").write_bytes(request_for(Identity("fkd-mpu", "35"), key=key))
    founded.refused(ISSUE, 77, why)
    assert not (founded.folder / "35.crt").exists()


def test_a_reused_key_is_refused_for_another_intermediate_and_for_another_leaf(founded: Shell) -> None:
    for line in (ISSUE, INSTALL, ACTIVATE):
        founded.ok(line)
    founded.ok("node init --home served --province 35")
    founded.ok("cert request --home served --out served.csr")
    founded.ok("cert issue --home n35 served.csr --out served.crt")
    founded.ok("ca prepare --authority authority")
    founded.ok("ca activate --authority authority")
    founded.refused(ISSUE.replace("35.crt", "again.crt"), 77, "the request's key is in the register already")
    founded.ok("ca prepare --home n35 --out 2.csr")
    founded.ok("ca issue --authority authority --province 35 2.csr --out 2.crt")
    founded.ok("ca taint --authority authority")
    (founded.folder / "n35" / "pki" / "root.pem").write_bytes((founded.folder / "authority" / "root.pem").read_bytes())
    founded.ok("ca install --home n35 2.crt")
    founded.ok(ACTIVATE)
    founded.refused("cert issue --home n35 served.csr --out again.crt", 77, "the request's key is in the register")


def test_a_revoked_certificate_is_not_given_out_again_for_its_request(founded: Shell) -> None:
    founded.ok(ISSUE)
    issued = json.loads(founded.ok("ca status --authority authority --json"))["intermediates"]
    founded.ok(f"cert revoke --authority authority --serial {issued[0]['serial']} --reason ca_compromise")
    founded.refused(ISSUE.replace("35.crt", "again.crt"), 77, "the request's key is in the register already")
    founded.ok("ca prepare --home n35 --discard --out 2.csr")
    founded.ok("ca issue --authority authority --province 35 2.csr --out 2.crt")
    founded.ok("ca install --home n35 2.crt --root authority/root.pem")
    founded.ok(ACTIVATE)
    founded.ok("node init --home served --province 35")
    founded.ok("cert request --home served --out served.csr")
    founded.ok("cert issue --home n35 served.csr --out served.crt")
    entry = json.loads((founded.folder / "n35" / "ca" / "issued.jsonl").read_text())
    founded.ok(f"cert revoke --home n35 --serial {entry['serial']} --reason key_compromise")
    founded.refused("cert issue --home n35 served.csr --out again.crt", 77, "the request's key is in the register")


def test_nothing_is_issued_beyond_its_issuers_life(founded: Shell) -> None:
    founded.refused(f"{ISSUE} --days 732", 78, "issued for 1 to 731 days, not 732")
    founded.ok(f"{ISSUE} --days 30")
    founded.ok(INSTALL)
    founded.ok(ACTIVATE)
    founded.ok("node init --home served --province 35")
    founded.ok("cert request --home served --out served.csr")
    founded.refused("cert issue --home n35 served.csr --out served.crt --days 60", 77, "would outlive its issuer")
    founded.refused("cert issue --home n35 served.csr --out served.crt --days 91", 78, "issued for 1 to 90 days")
    assert not (founded.folder / "n35" / "ca" / "issued.jsonl").exists()  # nothing was even registered


def test_garbage_instead_of_a_request_is_refused(founded: Shell) -> None:
    (founded.folder / "35.csr").write_bytes(b"\x00\xff garbage")
    founded.refused(ISSUE, 78, "not a whole PEM certificate request")


def test_a_missing_request_is_refused(founded: Shell) -> None:
    (founded.folder / "35.csr").unlink()
    assert founded.run(ISSUE).code == 78


def test_half_an_intermediate_is_not_installed(founded: Shell) -> None:
    founded.ok(ISSUE)
    path = founded.folder / "35.crt"
    write_atomic(path, path.read_bytes()[:200], replace=True)
    founded.refused(INSTALL, 78, "not a whole PEM certificate")


def test_a_foreign_root_is_refused(founded: Shell) -> None:
    founded.ok(ISSUE)
    founded.ok("federation authority other --name fkd-mpu")
    founded.refused(INSTALL.replace("authority/root.pem", "other/root.pem"), 77, "not issued by this federation's root")


def test_an_intermediate_on_another_provinces_node_is_refused(founded: Shell) -> None:
    founded.ok(ISSUE)
    founded.ok("node init --home n33 --province 33")
    founded.refused(INSTALL.replace("n35", "n33"), 77, "not constrained to the names of province 33")


def test_a_province_that_keeps_its_intermediate_elsewhere_carries_requests_to_it(founded: Shell) -> None:
    founded.ok(ISSUE)
    founded.ok(INSTALL)
    founded.ok(ACTIVATE)  # n35 is the folder that is kept apart
    founded.ok("node init --home served --province 35")
    founded.ok("cert request --home served --out served.csr")
    founded.ok("cert issue --home n35 served.csr --out served.crt --days 60")
    shown = founded.ok("cert install --home served served.crt --root authority/root.pem")
    assert "59.9 days" in shown or "60.0 days" in shown
    founded.refused("cert renew --home served", 78, "has no intermediate to renew with")


def test_an_intermediate_rolls_by_the_verbs_and_refuses_them_out_of_order(founded: Shell) -> None:
    def stages() -> list[str]:
        shown = json.loads(founded.run("ca status --home n35 --json").out)
        return [issuer["stage"] for issuer in shown["issuers"]]

    founded.refused(ACTIVATE, 77, "has no certificate yet")
    founded.ok(ISSUE)
    founded.ok(INSTALL)
    founded.ok(ACTIVATE)
    founded.ok(RENEW)
    founded.refused("ca taint --home n35", 77, "no old one to taint")
    founded.ok("ca prepare --home n35 --out 2.csr")
    founded.ok("ca issue --authority authority --province 35 2.csr --out 2.crt")
    founded.ok("ca install --home n35 2.crt")
    assert stages() == ["active", "prepared"]
    founded.refused("ca revoke --home n35", 77, "nothing is tainted")
    founded.ok(ACTIVATE)
    assert stages() == ["old", "active"]
    founded.refused("ca prepare --home n35 --out 3.csr", 77, "number 1 is old .* never three at a time")
    founded.refused("ca revoke --home n35", 77, "old and not tainted")
    founded.ok("ca taint --home n35")
    founded.refused("ca revoke --home n35", 77, "this node's certificate hangs on the tainted intermediate")
    founded.ok(RENEW)  # due at once, because its intermediate is tainted
    entry = json.loads(founded.ok("ca revoke --home n35 --reason key_compromise"))
    assert stages() == ["revoked", "active"]
    assert entry["reason"] == "key_compromise"
    first = founded.ok("ca status --authority authority")
    assert entry["serial"] in first


def test_an_intermediate_is_not_activated_before_this_nodes_list_has_it(signed: Shell) -> None:
    for line in (ISSUE, INSTALL, ACTIVATE, RENEW):
        signed.ok(line)
    signed.ok(f"{PROPOSE} change --repository repository --proposal first --province 35 --add-intermediate 35.crt")
    sign_and_publish(signed, "first")
    signed.ok(join_line(signed))
    signed.ok("ca prepare --home n35 --out 2.csr")
    signed.ok("ca issue --authority authority --province 35 2.csr --out 2.crt")
    signed.ok("ca install --home n35 2.crt")
    signed.refused(ACTIVATE, 77, "number 2 is not in the list of members, version 2, yet")
    add = f"{PROPOSE} change --repository repository --proposal second --province 35 --add-intermediate"
    (signed.folder / "both.crt").write_bytes(
        b"".join((signed.folder / f"{name}.crt").read_bytes() for name in ("35", "2"))
    )
    signed.refused(f"{add} both.crt", 77, "more than one certificate")
    signed.ok(f"{add} 2.crt")
    sign_and_publish(signed, "second")
    signed.ok("federation join --home n35 --repository repository")
    signed.ok(ACTIVATE)


def test_a_root_rolls_by_the_verbs_and_cuts_nobody_off_unasked(founded: Shell) -> None:
    founded.ok(ISSUE)
    founded.ok("ca prepare --authority authority")
    founded.ok("ca prepare --authority authority")  # again: the same one
    assert (founded.folder / "authority" / "root.pem").read_text().count("BEGIN CERTIFICATE") == 2
    founded.ok("ca activate --authority authority")
    founded.ok("ca taint --authority authority")
    founded.refused("ca revoke --authority authority", 77, "provinces 35 hang on the tainted root")
    founded.ok("ca prepare --home n35 --discard --out 2.csr")
    founded.ok("ca issue --authority authority --province 35 2.csr --out 2.crt")
    founded.ok("ca revoke --authority authority")
    assert (founded.folder / "authority" / "root.pem").read_text().count("BEGIN CERTIFICATE") == 1
    assert not (founded.folder / "authority" / "roots" / "1.key").exists()


def test_an_intermediate_under_a_root_that_was_just_published_is_taken_in(signed: Shell) -> None:
    for line in (ISSUE, INSTALL, ACTIVATE, RENEW):
        signed.ok(line)
    signed.ok(join_line(signed))
    signed.ok("ca prepare --authority authority")
    signed.ok("ca activate --authority authority")
    signed.ok("ca prepare --home n35 --out 2.csr")
    signed.ok("ca issue --authority authority --province 35 2.csr --out 2.crt")
    signed.refused("ca install --home n35 2.crt", 77, "not issued by this federation's root")
    signed.ok(f"{PROPOSE} roots --repository repository --proposal both --add authority/root.pem")
    sign_and_publish(signed, "both")
    signed.ok("federation join --home n35 --repository repository")
    signed.ok("ca install --home n35 2.crt")


def test_a_leaf_is_taken_back_and_the_node_gets_another(founded: Shell) -> None:
    for line in (ISSUE, INSTALL, ACTIVATE, RENEW):
        founded.ok(line)
    serial = json.loads(founded.ok("cert status --home n35 --json"))["serial"]
    founded.ok(f"cert revoke --home n35 --serial {serial} --reason key_compromise --out gone.json")
    entry = json.loads((founded.folder / "gone.json").read_text())
    assert (entry["serial"], entry["reason"]) == (serial, "key_compromise")
    assert json.loads(founded.ok(f"cert revoke --home n35 --serial {serial}")) == entry  # again: the same
    founded.refused("cert revoke --home n35 --serial 1234", 78, "no certificate in .* has this serial number")
    founded.ok(RENEW)
    assert json.loads(founded.ok("cert status --home n35 --json"))["serial"] != serial


def test_a_revocation_travels_as_its_file_and_signers_see_whose_it_is(signed: Shell) -> None:
    for line in (ISSUE, INSTALL, ACTIVATE, RENEW):
        signed.ok(line)
    signed.ok(f"{PROPOSE} change --repository repository --proposal it --province 35 --add-intermediate 35.crt")
    sign_and_publish(signed, "it")
    signed.ok(join_line(signed))
    serial = json.loads(signed.ok("cert status --home n35 --json"))["serial"]
    signed.ok(f"cert revoke --home n35 --serial {serial} --reason key_compromise --out gone")
    shown = signed.ok(f"{PROPOSE} revoke --repository repository --proposal out --from gone")
    assert f"+ revoked certificate {serial}, a node's of province 35: key_compromise" in shown
    sign_and_publish(signed, "out")
    signed.ok("federation join --home n35 --repository repository")
    assert signed.run("cert status --home n35").code == 77
    both = f"{PROPOSE} revoke --repository repository --proposal more --from gone --serial 1f"
    assert signed.run(both).code == signed.run(both.partition(" --from")[0]).code == 2
    (signed.folder / "gone").write_text("{}")
    signed.refused(f"{PROPOSE} revoke --repository repository --proposal more --from gone", 78, "not a revocation")


def test_a_renewal_before_its_time_is_done_only_when_forced(founded: Shell) -> None:
    for line in (ISSUE, INSTALL, ACTIVATE, RENEW):
        founded.ok(line)
    before = (founded.folder / "n35" / "pki" / "current.pem").read_bytes()
    assert "not due yet" in founded.ok(RENEW)
    assert (founded.folder / "n35" / "pki" / "current.pem").read_bytes() == before
    founded.ok(f"{RENEW} --force")
    assert (founded.folder / "n35" / "pki" / "previous.pem").read_bytes() == before


@pytest.mark.parametrize("more", ["", " --authority authority --home n35"])
def test_a_verb_of_ca_wants_one_folder_and_not_two(founded: Shell, more: str) -> None:
    ran = founded.run(f"ca status{more}")
    assert ran.code == 2
    assert "--authority DIR" in ran.err


def test_a_list_that_was_edited_is_refused(signed: Shell) -> None:
    (path,) = (signed.folder / "repository").glob("copy-*/targets/*.members.json")
    path.write_text(path.read_text().replace("127.0.0.1", "127.0.0.9"))
    signed.refused(join_line(signed), 77, r"members\.json: its length or hash")


def test_a_member_that_comes_later_joins_by_what_any_node_exports_and_gets_no_key(signed: Shell) -> None:
    signed.ok(join_line(signed))
    shown = signed.ok("federation export --home n35 for-33")
    fingerprint = hashlib.sha256((signed.folder / "repository" / "root.json").read_bytes()).hexdigest()
    assert fingerprint in shown
    exported = [path for path in (signed.folder / "for-33").rglob("*") if path.is_file()]
    assert not [path for path in exported if path.suffix == ".key" or b"PRIVATE" in path.read_bytes()]
    signed.ok("node init --home n33 --province 33")
    signed.ok(
        f"federation join --home n33 --repository for-33 --root-sha256 {fingerprint} "
        "--epoch-secret authority/epoch-1.key"
    )
    signed.refused("federation export --home n35 for-33", 78, "for-33 exists already")


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


def test_a_signer_is_held_from_signing_two_lists_of_one_version(signed: Shell) -> None:
    admit = f"{PROPOSE} admit --repository repository --province 33 --address 127.0.0.1:7033"
    signed.ok(f"{admit} --proposal one")
    signed.ok("federation sign one --repository repository --key s1.key --yes")
    signed.ok("federation sign one --repository repository --key s1.key --yes")  # the same again
    signed.ok(f"{admit} --name Other --proposal two")
    sign = "federation sign two --repository repository --key s1.key --yes"
    signed.refused(sign, 77, "this key has signed another list of version 2")
    signed.ok(f"{admit} --name Other --proposal three --skip 1")
    assert "version 1, to version 3:" in signed.ok(sign.replace("two", "three"))
    signed.ok(f"{sign} --even-so")


def test_a_code_of_no_province_is_not_admitted_unnamed(signed: Shell) -> None:
    admit = f"{PROPOSE} admit --repository repository --proposal change --province 99 --address localhost:7099"
    signed.refused(admit, 78, "99 is not the code of a province")
    signed.ok(f"{admit} --name Baru")


def test_an_encryption_key_that_is_none_is_refused_before_anybody_signs_it(signed: Shell) -> None:
    line = f"{PROPOSE} change --repository repository --proposal it --province 35 --encryption-key"
    for key in ("abc", "ab" * 1215, "zz" * 1216):
        signed.refused(f"{line} {key}", 78, "the encryption key is not a whole public key")
    assert not (signed.folder / "it").exists()
    own = re.search("SHA-256 [0-9a-f]{64}", signed.ok("epoch key --home n35 --out 35.pub"))
    shown = signed.ok(f"{line} {(signed.folder / '35.pub').read_text()}")
    assert own is not None
    assert f"~ encryption key of 35: {own.group()}" in shown


def test_a_member_without_a_port_is_refused(signed: Shell) -> None:
    ran = signed.run(f"{PROPOSE} admit --repository repository --proposal change --province 36 --address localhost")
    assert ran.code == 78
    assert "address" in ran.err
