"""A client read from a file: what is taken, what is refused, and that no error repeats the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from matching.errors import FieldValueError
from matching.question import Client
from node.client_file import MAX_FILE_BYTES, client_document, client_from, parse_client, read_client_file

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "Kunthi Wulandhari"
EVERYTHING = Client(
    name="Djoko Soesilo",
    sex="L",
    born="1958~3",
    birthplace="Kebumen",
    mother_name="Siti Aminah",
    father_name="Karto",
)
TOML = """
name = "Djoko Soesilo"
sex = "L"
born = "1958~3"
birthplace = "Kebumen"
mother = "Siti Aminah"
father = "Karto"
"""
JSON = (
    '{"name":"Djoko Soesilo","sex":"L","born":"1958~3","birthplace":"Kebumen","mother":"Siti Aminah","father":"Karto"}'
)


@pytest.mark.parametrize("text", [TOML, JSON, "\ufeff" + JSON, "\n  " + JSON])
def test_toml_and_json_describe_the_same_client(text: str) -> None:
    assert parse_client(text.encode()) == EVERYTHING


@pytest.mark.parametrize(("written", "born"), [("1958", "1958"), ("1958-03-07", "1958-03-07"), ('"63 th"', "63 th")])
def test_born_may_stand_without_quotes_in_toml(written: str, born: str) -> None:
    assert parse_client(f'name = "A"\nborn = {written}'.encode()).born == born


def test_empty_and_null_values_are_not_known() -> None:
    assert parse_client(b'{"name": "Joko", "mother": "  ", "sex": null}') == Client(name="Joko")


def test_a_client_survives_the_way_to_the_node() -> None:
    assert client_from(client_document(EVERYTHING)) == EVERYTHING
    assert client_from(client_document(Client(name="Joko"))) == Client(name="Joko")


@pytest.mark.parametrize(
    ("data", "field", "reason"),
    [
        (b"", "name", "empty"),
        (b'{"sex": "L"}', "name", "empty"),
        (f'name = "A"\n"{CANARY}" = 1'.encode(), "client", "a field that no client has (number 2)"),
        (f'{{"name": ["{CANARY}"]}}'.encode(), "name", "not text"),
        (b'name = "A"\nborn = true', "born", "not text"),
        (f'name = "{CANARY}\\u0007"'.encode(), "name", "a control character in it"),
        (('name = "' + CANARY * 20 + '"').encode(), "name", "longer than 200 characters"),
        (f'{{"name": "{CANARY}"'.encode(), "client", "not JSON (line 1, column 29)"),
        (f"name = {CANARY}".encode(), "client", "neither TOML nor JSON (line 1, column 8)"),
        (f'{{"name": "A", "name": "{CANARY}"}}'.encode(), "client", "a field that stands twice"),
        (f'name = "{CANARY}"'.encode("utf-16"), "client", "not UTF-8"),
        (b'{"name":' + b"[" * 30_000, "client", "nested too deep"),
        (b"#" * (MAX_FILE_BYTES + 1), "client", f"over {MAX_FILE_BYTES} bytes"),
    ],
)
def test_what_is_no_client_is_refused_without_repeating_it(data: bytes, field: str, reason: str) -> None:
    with pytest.raises(FieldValueError) as caught:
        parse_client(data)
    assert (caught.value.field, caught.value.reason) == (field, reason)
    assert "kunthi" not in str(caught.value).lower()


def test_a_list_is_no_client() -> None:
    with pytest.raises(FieldValueError, match="not one object"):
        client_from([["name", "Joko"]])


def test_a_file_that_is_not_there_is_named_by_its_trouble(tmp_path: Path) -> None:
    with pytest.raises(FieldValueError, match=r"cannot be read \(No such file or directory\)"):
        read_client_file(tmp_path / "nobody.toml")


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.write_text(TOML, encoding="utf-8")
    assert read_client_file(file) == EVERYTHING
