"""The house keeps its laws; a broken one is printed with its file and line."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from proto.generate import SOURCES
from tests.architecture.laws import LAWS, PRODUCT, Law, breaches, python_files

ROOT = Path(__file__).parents[2]

# Every field of the contract. A new one is added here by somebody who has asked: can it hold a person's data?
CONTRACT_FIELDS = frozenset(
    """
    answered answered_at attributes birth_date birthplace busy case_reference class_index classes content count counts
    day deadline detail father_name file found handle handles header histograms initial issued_at key_epoch last
    levels match month mother_name name need_more nonce offset operator_pseudonym province provinces purpose reason
    refused regencies registry_generation registry_size related request_sha256 retry_after root_version
    schema_fingerprint sex snapshot_version swapped_day swapped_month text timestamp_version tokens unavailable
    variants weight year_classes years checkpoint consistency_proof cosigned line log_key not_cosigned old_size
    other_size witness_key witnessed_size certificate_ends_at certificate_serial clock key_epochs list_ends_at
    list_version ready title near call district
    """.split()  # noqa: SIM905 - a column of fifty lines says less
)
# The only fields that are text. None holds what a caseworker typed about a client.
TEXT_FIELDS = frozenset({"case_reference", "province", "attributes", "detail", "file"})
LOCK_FILES = ("*.lock", "package-lock.json", "Pipfile.lock", "pdm.lock", "pylock.toml")


def test_the_product_breaks_no_law() -> None:
    found = [str(breach) for path, code in python_files(ROOT) for breach in breaches(path, code)]
    assert not found, "\n".join(found)


def test_there_is_a_product_to_look_at() -> None:
    rooms = {path.split("/")[0] for path, _ in python_files(ROOT)}
    assert rooms == set(PRODUCT)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.text)
def test_every_law_catches_the_snippet_that_breaks_it(law: Law) -> None:
    caught = [breach for breach in breaches(*law.breach) if breach.law == law.text]
    assert caught, law.text
    assert f"{law.breach[0]}:{caught[0].line}: " in str(caught[0])


@pytest.mark.parametrize("law", [law for law in LAWS if law.allowed], ids=lambda law: law.text)
def test_every_law_lets_its_own_room_live(law: Law) -> None:
    room = law.allowed[0]
    path = room if room.endswith(".py") else f"{room}inside.py"
    assert [breach for breach in breaches(path, law.breach[1]) if breach.law == law.text] == []


def test_a_name_is_followed_through_its_alias_and_not_by_its_spelling() -> None:
    assert list(breaches("node/a.py", "from datetime import datetime as d\nd.now()\n"))
    assert list(breaches("node/a.py", "from time import time as t\nt()\n"))
    assert not list(breaches("node/a.py", "class Clock:\n    def now(self): ...\nc = Clock()\nc.now()\n"))
    assert not list(breaches("node/a.py", "import time\ntime.monotonic()\n"))
    assert not list(breaches("node/a.py", "def f(text):\n    '''print(x), import grpc'''\n"))


def test_the_contract_has_no_field_nobody_has_looked_at() -> None:
    fields = set[tuple[str, str]]().union(
        *(contract_fields((ROOT / "proto" / source).read_text(encoding="utf-8")) for source in SOURCES)
    )
    assert {name for _, name in fields} <= CONTRACT_FIELDS
    assert {name for kind, name in fields if kind == "string"} <= TEXT_FIELDS


def test_a_raw_field_in_the_contract_would_be_seen() -> None:
    fields = contract_fields("message M {\n  repeated string full_name = 1;\n  string nik = 2;\n}\n")
    assert fields == {("string", "full_name"), ("string", "nik")}
    assert not {name for _, name in fields} <= CONTRACT_FIELDS


def test_the_wheel_holds_exactly_our_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": list(PRODUCT)}


def test_a_built_wheel_brings_everything_the_code_reads_at_run_time(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("pulang-*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in names} == set(PRODUCT)
    tracked = subprocess.run(["git", "ls-files", *PRODUCT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert set(tracked.stdout.split()) <= names
    assert "node/store/migrations/env.py" in names
    assert not [name for name in names if "/tests/" in name]


def test_no_lock_file_is_committed() -> None:
    tracked = subprocess.run(["git", "ls-files", *LOCK_FILES], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    assert tracked.stdout.split() == []


def contract_fields(source: str) -> set[tuple[str, str]]:
    """Return (type, name) of every message field of a .proto file."""
    code = re.sub(r"//[^\n]*", "", source)
    code = re.sub(r"enum \w+ \{[^}]*\}", "", code)
    return set(re.findall(r"(?:repeated |optional )?([\w.]+) (\w+) = \d+;", code))
