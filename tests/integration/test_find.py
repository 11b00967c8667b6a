"""`pulang find` as a caseworker runs it: a real command, its own real node, two real provinces beside it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Any

import pytest

from matching.schema import PERSON_SCHEMA
from node.store import Direction
from tests.asking import command, environment, find, three_provinces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.federation import Federation, Node

JOKO = ["--name", "Joko Susilo", "--sex", "L", "--born", "1958~3", "--birthplace", "Kebumen", "--mother", "Siti Aminah"]
JOKO_TOML = 'name = "Joko Susilo"\nsex = "L"\nborn = "1958~3"\nbirthplace = "Kebumen"\nmother = "Siti Aminah"\n'
STRANGER = [
    "--name", "Xaverius Watubella", "--sex", "L", "--born", "1931", "--birthplace", "Merauke",
    "--mother", "Yosefa Gebze",
]  # fmt: skip
KEYS = {
    "format", "case", "outcome", "province", "ask_for", "provinces", "none", "unanswered", "heard", "finds", "ms",
    "again_until", "asked_by", "names", "warnings",
}  # fmt: skip


@pytest.fixture(scope="module")
def provinces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with three_provinces(tmp_path_factory.mktemp("three")) as made:
        yield made


@pytest.fixture
def ours(provinces: Federation) -> Node:
    return provinces.nodes["35"]


def document(stdout: str) -> dict[str, Any]:
    """Read standard output that must be one JSON document and nothing else."""
    read: dict[str, Any] = json.loads(stdout)
    return read


def test_a_client_of_another_province_is_found_and_the_verdict_is_indonesian(ours: Node) -> None:
    asked = find(ours, *JOKO)
    assert asked.returncode == 0, asked.stderr
    assert "PROVINSI ASAL DITEMUKAN: Jawa Tengah" in asked.stdout
    assert "3 dari 3 provinsi menjawab" in asked.stdout
    assert "nama ibu kandung" in asked.stdout
    assert asked.stderr == ""
    assert [line for line in asked.stdout.splitlines() if len(line.rstrip()) > 80] == []
    assert "\x1b" not in asked.stdout


def test_english_is_one_option_away(ours: Node) -> None:
    asked = find(ours, *JOKO, "--lang", "en")
    assert "HOME PROVINCE FOUND: Jawa Tengah" in asked.stdout
    assert "3 of 3 provinces answered" in asked.stdout


def test_json_is_one_document_with_the_documented_keys(ours: Node) -> None:
    asked = find(ours, *JOKO, "--json", "--case", "K-json")
    assert asked.returncode == 0
    read = document(asked.stdout)
    assert set(read) == KEYS
    assert (read["format"], read["case"], read["outcome"]) == ("pulang-find-1", "K-json", "home_found")
    assert (read["province"], read["asked_by"], read["names"]["33"]) == ("33", "35", "Jawa Tengah")
    assert sum(read["provinces"].values()) + read["none"] == pytest.approx(1)
    assert {heard["state"] for heard in read["heard"]} == {"answered"}
    best = read["finds"][0]
    assert (best["province"], best["persons"], len(best["handles"][0])) == ("33", 1, 32)
    assert set(best["bits"]) < set(PERSON_SCHEMA.field_names)


def test_a_client_comes_from_a_file_or_from_standard_input_as_well(ours: Node, tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.write_text(JOKO_TOML, encoding="utf-8")
    by_options, by_file = find(ours, *JOKO, "--json"), find(ours, "--from", str(file), "--json")
    by_stdin = find(ours, "--from", "-", "--json", stdin='{"name": "Joko Susilo", "sex": "L", "born": "1958~3", '
                    '"birthplace": "Kebumen", "mother": "Siti Aminah"}')  # fmt: skip
    shares = [document(each.stdout)["provinces"] for each in (by_options, by_file, by_stdin)]
    assert shares[0] == shares[1] == shares[2]


def test_a_client_of_our_own_is_found_in_our_own_registry(provinces: Federation) -> None:
    asked = find(provinces.nodes["33"], *JOKO)
    assert asked.returncode == 0
    assert "terdaftar di provinsi kita sendiri" in asked.stdout


def test_somebody_registered_nowhere_leaves_by_another_code(ours: Node) -> None:
    asked = find(ours, *STRANGER, "--json")
    assert (asked.returncode, document(asked.stdout)["outcome"]) == (11, "not_registered")


def test_a_name_that_many_bear_asks_for_more(ours: Node) -> None:
    asked = find(ours, "--name", "Slamet Gunawan", "--sex", "L")
    assert asked.returncode == 10
    assert "BELUM PASTI" in asked.stdout
    assert "Tanyakan" in asked.stdout


def test_what_was_asked_and_heard_is_on_both_sides_record_under_one_hash(provinces: Federation, ours: Node) -> None:
    find(ours, *JOKO, "--case", "K-record", "--purpose", "self-test")
    mine = [entry for entry in ours.audit() if entry.case_reference == "K-record"]
    asked = [(entry.peer, entry.outcome) for entry in mine if entry.direction is Direction.ASKED]
    assert sorted(asked) == sorted((code, state) for code in ("33", "35", "36") for state in ("sent", "answered"))
    assert {entry.purpose for entry in mine} == {"self_test"}
    theirs = [entry for entry in provinces.nodes["33"].audit() if entry.case_reference == "K-record"]
    assert len({entry.request_sha256 for entry in mine + theirs}) == 1
    assert len({entry.operator_pseudonym for entry in mine + theirs}) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--name", "Bapak"], 65, "nama: tidak ada yang tersisa setelah gelar dan tanda baca dibuang"),
        (["--name", "Joko", "--born", "31-2-1958"], 65, "lahir: tanggal itu tidak ada di bulan tersebut"),
        (["--name", "Joko", "--born", "1-1-2090"], 65, "lahir: di masa depan"),
        (["--name", "Joko", "--born", "umur 121"], 65, "lahir: umur di atas 120 tahun"),
        (["--name", "Joko", "--sex", "kucing"], 65, "jenis kelamin: bukan L (laki-laki) atau P (perempuan)"),
        (["--from", "/nowhere/at/all"], 65, "keterangan klien: tidak bisa dibaca"),
        (["--sex", "L"], 2, "--name harus diisi"),
        (["--name", "Joko", "--from", "-"], 2, "pilih salah satu"),
        ([], 2, "tidak ada klien"),
        (["--name", "Joko", "--timeout", "0"], 2, "--timeout harus lebih dari 0"),
        (["--name", "Joko", "--timeout", "nan"], 2, "--timeout harus lebih dari 0"),
        (["--name", "Joko", "--case", "Joko Susilo"], 2, "--case: 1 sampai 64 huruf"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_line_and_is_not_sent(
    ours: Node, arguments: list[str], code: int, said: str
) -> None:
    before = len(ours.audit())
    asked = find(ours, *arguments)
    assert asked.returncode == code
    assert said in asked.stderr
    assert asked.stdout == ""
    assert "Traceback" not in asked.stderr
    assert len(ours.audit()) == before


def test_a_failure_is_a_json_document_too(ours: Node) -> None:
    asked = find(ours, "--name", "Joko", "--born", "31-2-1958", "--json")
    read = document(asked.stdout)
    assert read["outcome"] == "failed"
    assert (read["error"]["field"], read["error"]["exit"], asked.returncode) == ("born", 65, 65)


def test_an_unknown_regency_is_warned_of_and_asked_all_the_same(ours: Node) -> None:
    asked = find(ours, "--name", "Joko Susilo", "--birthplace", "Negeri Antah Berantah")
    assert "perhatian: tempat lahir: tidak dikenal sebagai kabupaten atau kota" in asked.stderr
    assert "provinsi menjawab" in asked.stdout


@pytest.mark.parametrize(("language", "words"), [("id", "terlihat di daftar proses"), ("en", "in the process list")])
def test_help_says_in_both_languages_that_a_name_on_the_command_line_can_be_seen(
    ours: Node, language: str, words: str
) -> None:
    shown = " ".join(find(ours, "--help", "--lang", language).stdout.split())  # whichever comes first
    assert words in shown
    assert all(option in shown for option in ("--from", "--case", "--purpose", "--timeout", "--json", "--lang"))


# --- at a terminal --------------------------------------------------------------------------------------------------


class Terminal:
    """A caseworker's terminal, 80 columns wide: types answers, reads the screen."""

    def __init__(self, node: Node, *arguments: str) -> None:
        self.screen = ""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        environ = {**environment(), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        del environ["COLUMNS"]
        self.process = subprocess.Popen(
            command(node, *arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
        )
        os.close(theirs)

    def wait_for(self, text: str) -> None:
        """Read on until the text stands on the screen."""
        ends_at = time.monotonic() + 120
        while text not in self.screen:
            assert time.monotonic() < ends_at, self.screen
            if not self._read():
                break
        assert text in self.screen, self.screen

    def type(self, line: str) -> None:
        os.write(self._ours, line.encode() + b"\n")

    def press_ctrl_d(self) -> None:
        os.write(self._ours, b"\x04")

    def end(self) -> int:
        """Read everything left; return the exit code."""
        while self._read():
            pass
        os.close(self._ours)
        return self.process.wait(60)

    def _read(self) -> bool:
        select.select([self._ours], [], [], 60)
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # Linux says so when the other side has closed
            return False
        self.screen += data.decode(errors="replace")
        return bool(data)


def test_without_arguments_it_asks_shows_what_it_understood_and_sends_when_told(ours: Node) -> None:
    terminal = Terminal(ours)
    for prompt, reply in (
        ("Nama, seperti", ""),
        ("Nama harus diisi", "Joko Susilo"),
        ("Jenis kelamin", "kucing"),
        ("bukan L (laki-laki)", "L"),
        ("Lahir (", "1958~3"),
        ("Tempat lahir (", "Kebumen"),
        ("Nama ibu kandung", "Siti Aminah"),
        ("Nama ayah", ""),
        ("Kirim pertanyaan", "y"),
    ):
        terminal.wait_for(prompt)
        terminal.type(reply)
    code = terminal.end()
    assert code == 0, terminal.screen
    assert "tahun 1955 sampai 1961" in terminal.screen
    assert "Kabupaten Kebumen (Jawa Tengah)" in terminal.screen
    assert "tidak diketahui" in terminal.screen
    assert "ditanya ..." in terminal.screen  # seen live, before the answers
    assert "PROVINSI ASAL DITEMUKAN: Jawa Tengah" in terminal.screen


def test_what_is_not_agreed_to_is_not_sent(ours: Node) -> None:
    before = len(ours.audit())
    terminal = Terminal(ours, "--lang", "en")
    for prompt, reply in (
        ("Name, as", "Joko"), ("Sex (", ""), ("Born (", ""), ("Birthplace (", ""), ("Mother's", ""), ("Father's", ""),
        ("Send the question", "n"),
    ):  # fmt: skip
        terminal.wait_for(prompt)
        terminal.type(reply)
    assert terminal.end() == 130
    assert terminal.screen.rstrip().endswith("Cancelled. Nothing was sent.")
    assert len(ours.audit()) == before


def test_who_leaves_at_a_prompt_is_told_that_nothing_was_sent(ours: Node) -> None:
    terminal = Terminal(ours)
    terminal.wait_for("Nama, seperti")
    terminal.press_ctrl_d()
    assert terminal.end() == 130
    assert terminal.screen.rstrip().endswith("Dibatalkan. Tidak ada yang dikirim.")


def test_a_terminal_with_no_color_is_not_coloured(ours: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = Terminal(ours, *JOKO)
    coloured.end()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal(ours, *JOKO)
    plain.end()
    assert "\x1b[32m" in coloured.screen
    assert "\x1b[32m" not in plain.screen
