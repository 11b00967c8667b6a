"""What a person mistypes, or a file brings along, is neither repeated in an error nor obeyed by the terminal."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from node.cli.main import main
from tests.registries import make_desk

if TYPE_CHECKING:
    from pathlib import Path

STEERING = "\x1b]0;owned\x07\x1b[2J\x9b2J"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run a command; return its exit code and all it wrote."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(str(ended.value.code)), out + err


@pytest.mark.parametrize("language", ["id", "en"])
@pytest.mark.parametrize(
    ("arguments", "tells"),
    [
        (["--name", "Siti", "Aminah"], "--name"),
        (["Aminah"], "--name"),
        (["--name", "Siti", "--timeout", "Aminah"], "--timeout"),
        (["--name", "Siti", "--purpose", "Aminah"], "return-home"),
        (["--name", "Siti", "--case", "Siti Aminah"], "--case"),
        (["--name", "Siti", "--from", "Aminah"], "--from"),
    ],
)
def test_a_mistyped_question_is_not_repeated(
    capsys: pytest.CaptureFixture[str], arguments: list[str], tells: str, language: str
) -> None:
    code, text = said(capsys, "find", "--lang", language, *arguments)
    assert code == 2
    assert tells in text
    assert "Siti" not in text
    assert "Aminah" not in text


@pytest.mark.parametrize("header", [f"nama,jk,{STEERING}", f"{STEERING}a,b"])
def test_column_names_do_not_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], header: str
) -> None:
    desk = make_desk(tmp_path / "node")
    (tmp_path / "r.csv").write_text(f"{header}\nSiti,P,x\n")
    code, text = said(capsys, "registry", "import", str(tmp_path / "r.csv"), "--home", str(desk.home.root))
    assert code == 78
    assert "owned" in text
    assert not set(text) & {"\x1b", "\x07", "\x9b"}


def test_column_names_are_not_read_as_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = make_desk(tmp_path / "node")
    (tmp_path / "r.csv").write_text("nama,[/],[red]tgl lahir[/red]\nSiti,x,y\n")
    (tmp_path / "map.csv").write_text("[/nama],nama\nSiti,x\n")
    for name in ("r.csv", "map.csv"):
        code, text = said(capsys, "registry", "import", str(tmp_path / name), "--home", str(desk.home.root))
        assert code == 78
        assert "[/" in text


def test_no_command_leaves_its_memory_in_a_core_dump() -> None:
    # In a process of its own, that may dump: what a command forbids itself cannot be allowed again.
    program = "import sys, resource as r; from node.cli.main import main\ntry: main(sys.argv[1:])\n"
    program += "finally: print(r.getrlimit(r.RLIMIT_CORE))"
    done = subprocess.run([sys.executable, "-c", program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "(0, 0)"
