"""Reading the description of a client from TOML or JSON, so that no name need stand on a command line."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from matching.question import Client
from node.errors import ConfigError

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

_HINT: Final = f"keys are {', '.join(KEYS)}; only name is required"


def read_client_file(path: Path) -> Client:
    """Read a client from a TOML or JSON file. Raises ConfigError; its text never quotes the file."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"the client file cannot be read: {error.strerror}") from None
    return parse_client(data)


def parse_client(data: bytes) -> Client:
    """Read a client from the bytes of a TOML or JSON document. Raises ConfigError; its text never quotes them."""
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"the client file is over {MAX_FILE_BYTES} bytes: not a client's description", hint=_HINT)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("the client file is not UTF-8", hint="save it as UTF-8 and try again") from None
    return client_from(_json(text) if text.lstrip().startswith("{") else _toml(text))


def client_from(document: object) -> Client:
    """Return the client a parsed document describes; empty values count as not known. Raises ConfigError."""
    if not isinstance(document, dict):
        raise ConfigError("the client must be one object with named fields", hint=_HINT)
    values: dict[str, str] = {}
    for position, (key, value) in enumerate(document.items(), start=1):
        # A key is named by its position: in a file turned inside out, a key may be the person's name.
        if key not in KEYS:
            raise ConfigError(f"field {position} of the client is not one that a client has", hint=_HINT)
        if text := _text(key, value):
            values[KEYS[key]] = text
    if "name" not in values:
        raise ConfigError("the client has no name", hint=_HINT)
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
        raise ConfigError(f"the client's {key} must be text", hint=f'write {key} = "..."')
    value = value.strip()
    if len(value) > MAX_VALUE_CHARS:
        raise ConfigError(f"the client's {key} is longer than {MAX_VALUE_CHARS} characters")
    if not value.isprintable():
        raise ConfigError(f"the client's {key} holds a control character", hint="write it on one line")
    return value


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once_each)
    except json.JSONDecodeError as error:
        raise ConfigError(f"the client file is not JSON: line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ConfigError("the client file is not a client: it is nested too deep", hint=_HINT) from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ConfigError("the client file names a field twice", hint="keep one of the two")
    return dict(pairs)


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Only the position is taken over: the parser's own words may quote the file.
        where = re.search(r"line \d+, column \d+", str(error))
        place = f": {where.group()}" if where else ""
        raise ConfigError(
            f"the client file is neither TOML nor JSON{place}", hint='write lines like name = "..."'
        ) from None
    except RecursionError:
        raise ConfigError("the client file is not a client: it is nested too deep", hint=_HINT) from None
