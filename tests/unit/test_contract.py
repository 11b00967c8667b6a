"""The contract's files: lint-clean, and the code beside them is the code they generate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import proto
from proto.generate import ENDINGS, SOURCES

ROOT = Path(proto.__file__).parent


def test_generated_code_is_what_the_contract_generates_byte_for_byte(tmp_path: Path) -> None:
    # A process of its own: protoc, and the parsing it brings, must not share this one's descriptor pool.
    subprocess.run([sys.executable, "-m", "proto.generate", str(tmp_path)], check=True)
    for source in SOURCES:
        for ending in ENDINGS:
            name = source.replace(".proto", ending)
            assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes(), f"{name}: run python -m proto.generate"


def test_contract_passes_buf_lint() -> None:
    buf = Path(sys.executable).with_name("buf")
    done = subprocess.run([buf, "lint", ROOT], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_buf_lint_would_complain(tmp_path: Path) -> None:
    # Guards the test above: a linter that finds no files finds no faults either.
    broken = (ROOT / SOURCES[0]).read_text(encoding="utf-8").replace("PURPOSE_SELF_TEST", "SELF_TEST")
    (tmp_path / SOURCES[0]).parent.mkdir(parents=True)
    (tmp_path / SOURCES[0]).write_text(broken, encoding="utf-8")
    (tmp_path / "buf.yaml").write_bytes((ROOT / "buf.yaml").read_bytes())
    buf = Path(sys.executable).with_name("buf")
    done = subprocess.run([buf, "lint", tmp_path], check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert 'should be prefixed with "PURPOSE_"' in done.stdout
