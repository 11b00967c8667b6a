"""A short form of `pulang bench fuzz`: every parser takes broken inputs without a crash; and what once broke one."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime
from importlib.util import find_spec
from random import Random
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

import pytest
from tuf.api.metadata import Metadata, Targets

from benchmarks.fuzz import NAMES, Fuzzed, _read, fuzz
from benchmarks.fuzzing.mutate import json_lines, json_value, wire_message
from benchmarks.fuzzing.targets import TARGETS
from node.errors import TrustError
from node.pki.repository import parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.fuzzing.target import Target

needs_atheris = pytest.mark.skipif(find_spec("atheris") is None, reason="Atheris is not installed")
RUNS = 150
SLOW = {"metadata": 40, "signed_metadata": 40, "registry": 60, "words": 60}


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    made = {name: make(tmp_path_factory.mktemp(name)) for name, make in TARGETS.items()}
    yield made
    for target in made.values():
        target.close()


def accepts(target: Target, data: bytes) -> bool:
    """Whether a parser takes an input; whatever else it says must be one of its refusals."""
    try:
        target.feed(data)
    except target.refusals:
        return False
    return True


def blindly(data: bytes, chance: Random) -> bytes:
    place = chance.randrange(len(data) + 1)
    match chance.randrange(4):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + chance.randbytes(chance.randrange(1, 9)) + data[place:]
        case 2:
            return data[:place] + data[place + chance.randrange(1, 9) :]
        case _:
            return data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]


def test_every_parser_is_listed() -> None:
    assert list(TARGETS) == list(NAMES)


@pytest.mark.parametrize("parser", NAMES)
def test_no_broken_input_breaks_a_parser(parser: str, targets: dict[str, Target]) -> None:
    target, chance = targets[parser], Random(parser)
    assert sum(accepts(target, seed) for seed in target.seeds), "it would be fuzzed at its door only"
    inputs = list(target.seeds)
    for _ in range(SLOW.get(parser, RUNS)):
        data = target.varied(chance.choice(inputs), chance, lambda known: blindly(known, chance))
        if accepts(target, data):
            inputs.append(data)


# What fuzzing has found, each as (parser, honest bytes, what stands in their place).
FOUND = (
    ("schema", b'"name":"sex"', b'"name":7'),
    ("model", b'"token_table":[[[0', b'"token_table":[[[-1'),
    ("model", b'"name_cells":[[', b'"name_cells":[[],['),
    ("database", b'["audit",', b"[{},"),
    ("database", b"+00:00", b""),
    ("database", b'"2026-03-01T', b'"0001-01-01T00:00:00+23:59"'),
    ("database", b'"K-1"', b'"\\ud800"'),
    ("audit_log", b'"case_reference":"K-1"', b'"case_reference":[1]'),
    ("audit_log", b'"number":1}', b'"number":"1"}'),
    ("audit_log", b'"size":3', b'"size":1e999'),
    ("local_line", b'"case": "K-1"', b'"case": "\\ud800"'),
    ("source", b"/srv/registry.csv", b"\\u0000"),
)


def test_a_key_of_a_kind_the_library_cannot_load_is_refused(targets: dict[str, Target]) -> None:
    of_another_curve = b"MC4CAQAwBQYDK2VvBCIEICGyI22M40whvFT5DTLtsU3RtHjk5HTT9ZKWTDsdwXwG"
    pem = b"-----BEGIN PRIVATE KEY-----\n" + of_another_curve + b"\n-----END PRIVATE KEY-----\n"
    for kind in range(6):
        assert not accepts(targets["key_files"], bytes([kind]) + pem)


@pytest.mark.parametrize(("parser", "honest", "wicked"), FOUND)
def test_what_once_broke_a_parser_is_refused(
    parser: str, honest: bytes, wicked: bytes, targets: dict[str, Target]
) -> None:
    target = targets[parser]
    broken = [seed.replace(honest, wicked) for seed in target.seeds if honest in seed]
    assert broken, "no seed holds what is to be replaced"
    for data in broken:
        accepts(target, data)  # an exported log with a bad row is read, and the row is a finding


@needs_atheris
def test_the_fuzzer_runs_as_often_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.fuzz.RUNS_PER_PROCESS", 1500)
    found = fuzz("requests", 2000, 7, tmp_path)
    log = (tmp_path / "requests.log").read_text(errors="replace")
    assert (found.crashes, found.hangs) == (0, 0), f"{found.artifact}\n{log[-2000:]}"
    assert found.executions >= 2000
    assert log.count("stat::number_of_executed_units") == 2, "two processes, one after the other"


def test_what_the_fuzzer_says_of_a_crash_is_read(tmp_path: Path) -> None:
    said = b"#5 NEW cov: 12 ft: 3\nstat::number_of_executed_units: 41\n"
    (tmp_path / "index-crash-1").write_bytes(b"x")
    crashed = _read("index", 100, CompletedProcess([], 77, b"", said), tmp_path, 1.0)
    assert crashed == Fuzzed("index", 41, 12, 1, 0, 1.0, str(tmp_path / "index-crash-1"))
    assert _read("index", 41, CompletedProcess([], 70, b"", said), tmp_path, 1.0).hangs == 1
    assert _read("index", 41, CompletedProcess([], 0, b"", said), tmp_path, 1.0).crashes == 0


def test_mutations_by_form_keep_the_form(targets: dict[str, Target]) -> None:
    for number in range(200):
        chance = Random(number)
        json.loads(json_value(targets["model"].seeds[0], chance))
        for line in json_lines(targets["audit_log"].seeds[0], chance).splitlines():
            json.loads(line)
        changed = wire_message(targets["question"].seeds[0], chance)
        again = {wire_message(changed, Random(other)) for other in range(8)}
        assert again != {changed}, "it can be taken apart again"


def test_a_certificate_of_a_version_nobody_knows_is_refused(targets: dict[str, Target]) -> None:
    """Found by fuzzing: the library's error for it is no ValueError."""
    for seed in targets["issuers"].seeds:
        issuers = json.loads(seed)
        known = [issuer for issuer in issuers if issuer.get("pem")]
        for issuer in known:
            der = ssl.PEM_cert_to_DER_cert(issuer["pem"])
            issuer["pem"] = ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x0a", 1))
        assert not known or not accepts(targets["issuers"], json.dumps(issuers).encode())


def test_metadata_with_a_number_that_cannot_be_signed_is_refused() -> None:
    """Found by fuzzing: -0.0 is read, and cannot be written again."""
    whole = json.loads(Metadata(Targets(version=1, expires=datetime(2027, 1, 1, tzinfo=UTC))).to_bytes())
    assert parse(json.dumps(whole).encode(), Targets).signed.version == 1
    whole["signed"]["x-pulang-follows"] = -0.0
    with pytest.raises(TrustError):
        parse(json.dumps(whole).encode(), Targets)
