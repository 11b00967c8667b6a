"""The documents say what is there: every dependency, command, option, setting, exit code and named test."""

from __future__ import annotations

import ast
import dataclasses
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from node import errors
from node.cli.main import cli
from node.config import NodeConfig
from node.findings import Concluded, Failed, Find, Heard, Warned
from node.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])
ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
THREATS = (DOCS / "threat-model.md").read_text(encoding="utf-8")


def sections(page: str, level: int) -> dict[str, str]:
    """Return heading -> text of a page's sections of one level."""
    parts = re.split(rf"^{'#' * level} (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    every = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return {re.split(r"[\[<>=~! ]", name)[0] for name in every}


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, by the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(commands(cli, "pulang"))


def named_tests(page: str) -> set[tuple[str, str]]:
    """Return (file, test) of every test a page names as `folder/test_file.py::test_name`."""
    return set(re.findall(r"`((?:\w+/)+test_\w+\.py)::(test_\w+)`", page))


def threat_rows() -> list[list[str]]:
    """Return the cells of every threat."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in THREATS.splitlines() if line[:3] == "| T"]
    assert len(rows) > 20
    return rows


@pytest.mark.parametrize("package", ["matching", "node"])
def test_every_module_has_its_place_in_the_house(package: str) -> None:
    house = re.split(r"^(\w+)/ ", sections(ARCHITECTURE, 2)["The house"], flags=re.MULTILINE)
    words = set(re.findall(r"\w+", house[house.index(package) + 1]))
    modules = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__"}
    assert sorted(modules - words) == []


def test_every_dependency_has_one_line_that_says_why() -> None:
    listed = sections(ARCHITECTURE, 2)["Dependencies"]
    lines = re.findall(r"^\| `([\w-]+)` \| (.+) \|$", listed, flags=re.MULTILINE)
    assert sorted(name for name, _ in lines) == sorted(dependencies())
    assert all(len(reason) > 10 for _, reason in lines)


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_and_option_is_in_the_operations_manual(words: str) -> None:
    section = sections(OPERATIONS, 3).get(f"`{words}`")
    assert section is not None, f"docs/operations.md has no section ### `{words}`"
    names = [
        name if isinstance(parameter, click.Option) else (parameter.metavar or name.upper())
        for parameter in COMMANDS[words].params
        for name in (parameter.opts if isinstance(parameter, click.Option) else [str(parameter.name)])
    ]
    assert [name for name in names if f"`{name}" not in section] == []


def test_the_operations_manual_has_no_command_that_is_not_there() -> None:
    documented = {heading.strip("`") for heading in sections(OPERATIONS, 3) if heading.startswith("`pulang")}
    assert documented == set(COMMANDS)


def test_every_command_that_a_hint_names_exists() -> None:
    groups = {words.rsplit(" ", 1)[0] for words in COMMANDS} | {"pulang"}
    for path in sorted((ROOT / "node").rglob("*.py")):
        for named in re.findall(r"`(pulang(?: [a-z][a-z-]*)+)", path.read_text(encoding="utf-8")):
            words = named.split()
            known = [" ".join(words[:length]) for length in range(2, len(words) + 1)]
            assert any(each in COMMANDS or (each in groups and each == named) for each in known), f"{path}: {named}"


@pytest.mark.parametrize("setting", NodeConfig.model_fields)
def test_every_setting_of_a_node_is_in_the_operations_manual(setting: str) -> None:
    assert f"| `{setting}` |" in sections(OPERATIONS, 2)["Settings: node.toml"]


def test_every_exit_code_is_in_the_operations_manual_and_no_other() -> None:
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_") and isinstance(value, int)}
    table = re.findall(r"^\| (\d+) \|", sections(OPERATIONS, 2)["Exit codes"], flags=re.MULTILINE)
    assert {int(code) for code in table} == codes


def test_every_key_of_an_answer_for_programs_is_in_the_operations_manual() -> None:
    keys = {field.name for kind in (Concluded, Heard, Find, Warned, Failed) for field in dataclasses.fields(kind)}
    section = sections(OPERATIONS, 3)["`pulang find`"]
    assert [
        key for key in sorted(keys | {"format", "asked_by", "names", "warnings"}) if f"`{key}`" not in section
    ] == []


def test_every_metric_is_in_the_operations_manual_and_no_other() -> None:
    table = sections(OPERATIONS, 2)["Metrics"]
    named = {name.removesuffix("_total") for name in re.findall(r"`(pulang_\w+)", table)}
    assert named == {family.name for family in Metrics().registry.collect()}


def test_every_threat_has_a_control_a_default_a_test_and_what_remains() -> None:
    for row in threat_rows():
        identity, threat, control, default, test, remains = row
        assert all((threat, control, default, remains)), identity
        assert named_tests(test), f"{identity} names no test"
    numbers = [row[0] for row in threat_rows()]
    assert sorted(numbers, key=lambda number: int(number[1:])) == [f"T{number + 1}" for number in range(len(numbers))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    for file, name in named_tests(page.read_text(encoding="utf-8")):
        assert has_test(file, name), f"{page.name} names {file}::{name}, which does not exist"


def test_a_test_that_does_not_exist_would_be_noticed() -> None:
    assert named_tests("see `unit/test_docs.py::test_x`") == {("unit/test_docs.py", "test_x")}
    assert has_test("unit/test_docs.py", "test_a_test_that_does_not_exist_would_be_noticed")
    assert not has_test("unit/test_docs.py", "test_x")
    assert not has_test("unit/test_nothing.py", "test_x")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_it(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_names_targets_that_make_has() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {"demo", "test"} <= named <= targets


def has_test(file: str, name: str) -> bool:
    """Whether tests/`file` defines the function `name`."""
    path = ROOT / "tests" / file
    if not path.exists():
        return False
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name for node in tree.body)
