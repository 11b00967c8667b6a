"""Reading the description of a client from TOML or JSON, so that no name need stand on a command line."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from matching.errors import FieldValueError
from matching.question import Client

if TYPE_CHECKING:
    from pathlib import Path

# Key in the file and on the command line -> field of the client. One word each, as `pulang find` has them.
KEYS: Final[dict[str, str]] = {
    "name": "name",
    "sex": "sex",
    "born": "born",
    "birthplace": "birthplace",
    "mother": "mother_name",
    "father": "father_name",
}
MAX_FILE_BYTES: Final = 65_536
MAX_VALUE_CHARS: Final = 200  # no written name or place comes near; a pasted page does

CLIENT: Final = "client"  # the field errors name when it is the description as a whole that cannot be used


def read_client_file(path: Path) -> Client:
    """Read a client from a TOML or JSON file. Raises FieldValueError; its text never quotes the file."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _unusable(f"cannot be read ({error.strerror})") from None
    return parse_client(data)


def parse_client(data: bytes) -> Client:
    """Read a client from the bytes of a TOML or JSON document. Raises FieldValueError; its text never quotes them."""
    if len(data) > MAX_FILE_BYTES:
        raise _unusable(f"over {MAX_FILE_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _unusable("not UTF-8") from None
    return client_from(_json(text) if text.lstrip().startswith("{") else _toml(text))


def client_from(document: object) -> Client:
    """Return the client a parsed document describes; empty values count as not known. Raises FieldValueError."""
    if not isinstance(document, dict):
        raise _unusable("not one object with named fields")
    values: dict[str, str] = {}
    for position, (key, value) in enumerate(document.items(), start=1):
        # A key is named by its position: in a file turned inside out, a key may be the person's name.
        if key not in KEYS:
            raise _unusable(f"a field that no client has (number {position})")
        if text := _text(key, value):
            values[KEYS[key]] = text
    if "name" not in values:
        raise FieldValueError(field="name", reason="empty")
    return Client(**values)


def client_document(client: Client) -> dict[str, str]:
    """Return the document that `client_from` reads back into the same client."""
    values = {key: getattr(client, attribute) for key, attribute in KEYS.items()}
    return {key: value for key, value in values.items() if value is not None}


def _text(key: str, value: object) -> str:
    if value is None:
        return ""
    if key == "born" and isinstance(value, (int, date)) and not isinstance(value, bool):
        value = str(value)  # `born = 1958` and `born = 1958-03-01` are what people write in TOML
    if not isinstance(value, str):
        raise FieldValueError(field=KEYS[key], reason="not text")
    value = value.strip()
    if len(value) > MAX_VALUE_CHARS:
        raise FieldValueError(field=KEYS[key], reason=f"longer than {MAX_VALUE_CHARS} characters")
    if not value.isprintable():
        raise FieldValueError(field=KEYS[key], reason="a control character in it")
    return value


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once_each)
    except json.JSONDecodeError as error:
        raise _unusable(f"not JSON (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise _unusable("nested too deep") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _unusable("a field that stands twice")
    return dict(pairs)


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Only the position is taken over: the parser's own words may quote the file.
        where = re.search(r"line \d+, column \d+", str(error))
        raise _unusable(f"neither TOML nor JSON ({where.group() if where else 'at its end'})") from None
    except RecursionError:
        raise _unusable("nested too deep") from None


def _unusable(reason: str) -> FieldValueError:
    return FieldValueError(field=CLIENT, reason=reason)
