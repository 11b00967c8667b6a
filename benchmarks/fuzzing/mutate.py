"""Changes to one part of an input that leave its form whole, so that what lies behind the form is reached, too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

WORDS: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2**31, 2**53, 2**63, 2**64, -(2**63), 1e308, -0.0, 0.5, float("inf"), float("nan"),
    "", "0", "a", "\x00", "\ud800", "\u202e", "../../etc/passwd", "'; --", "=1+1", "9" * 400, "1e400", "2026-13-45",
    "2026-03-01T12:00:00", "2026-03-01T12:00:00+00:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z", "00" * 32,
    [], {}, [[]], [{}], {"": None}, [None] * 40,
)  # fmt: skip
NUMBERS: Final = (0, 1, 2, 3, 127, 128, 255, 256, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types: protobuf.dev/programming-guides/encoding
_DEEPEST: Final = 6


# --- JSON ---


def json_value(data: bytes, chance: Random) -> bytes:
    """Change one value of a JSON document; what is none comes back as it is."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return _dumped(_changed(document, chance))


def json_lines(data: bytes, chance: Random) -> bytes:
    """Change a value in one line of a file of JSON lines; or drop, double or move a line."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    place = chance.randrange(len(lines))
    match chance.randrange(6):
        case 0:
            del lines[place]
        case 1:
            lines.insert(chance.randrange(len(lines)), lines[place])
        case 2:
            lines.insert(chance.randrange(len(lines)), lines.pop(place))
        case _:
            lines[place] = json_value(lines[place], chance).rstrip(b"\n") + b"\n"
    return b"".join(lines)


def _dumped(document: Any) -> bytes:
    # As a careless program would write it: NaN and lone surrogates stay in.
    return json.dumps(document).encode()


def _changed(document: Any, chance: Random) -> Any:
    places = list(_places(document))
    if not places:
        return chance.choice(WORDS)
    holder, key = chance.choice(places)
    match chance.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(key, holder[key])
        case 1:
            holder[chance.choice(("x", "format", "signed", "version", str(key) + "x"))] = holder[key]
        case 2:
            other, where = chance.choice(places)
            try:
                holder[key] = json.loads(json.dumps(other[where]))
            except (KeyError, IndexError, ValueError, RecursionError):
                holder[key] = None
        case 3 if isinstance(holder[key], str):
            holder[key] = _changed_text(holder[key], chance)
        case 3 if isinstance(holder[key], int) and not isinstance(holder[key], bool):
            holder[key] += chance.choice((-1, 1, 2**31, -(2**31)))
        case _:
            holder[key] = chance.choice(WORDS)
    return document


def _places(value: Any, depth: int = 0) -> Any:
    """Yield (holder, key) of every value inside."""
    if depth > 2 * _DEEPEST:
        return
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield value, key
        yield from _places(each, depth + 1)


def _changed_text(text: str, chance: Random) -> str:
    if not text:
        return "x"
    place = chance.randrange(len(text))
    letter = chance.choice('0aZ -+:.\n\x00\u00e9\U0001f600=/\\"')
    return chance.choice((text[:place] + text[place + 1 :], text[:place] + letter + text[place:], text[::-1], text * 2))


# --- protobuf's wire format ---


def wire_message(data: bytes, chance: Random) -> bytes:
    """Change one field of a protobuf message, and correct the lengths around it; other bytes come back as they are."""
    fields = _fields(data)
    return data if fields is None else _written(_altered(fields, chance, _DEEPEST))


_Field = tuple[int, int, Any]  # number, wire type, value: int or bytes


def _fields(data: bytes) -> list[_Field] | None:
    """Return a message's fields, None for bytes that are none."""
    fields: list[_Field] = []
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, kind = tag >> 3, tag & 7
        if place < 0 or not number:
            return None
        if kind == _VARINT:
            value, place = _varint(data, place)
            if place < 0:
                return None
            fields.append((number, kind, value))
            continue
        if kind == _BYTES:
            size, place = _varint(data, place)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            return None
        if place < 0 or place + size > len(data):
            return None
        fields.append((number, kind, data[place : place + size]))
        place += size
    return fields


def _altered(fields: list[_Field], chance: Random, depth: int) -> list[_Field]:
    if not fields:
        return [(chance.randrange(1, 8), _VARINT, chance.choice(NUMBERS))]
    place = chance.randrange(len(fields))
    number, kind, value = fields[place]
    inner = _fields(value) if kind == _BYTES and depth and value else None
    if inner and chance.random() < 0.7:
        fields[place] = (number, kind, _written(_altered(inner, chance, depth - 1)))
        return fields
    match chance.randrange(5):
        case 0:
            del fields[place]
        case 1:
            fields.insert(chance.randrange(len(fields) + 1), fields[place])
        case 2:
            fields[place] = (chance.randrange(1, 16), kind, value)
        case _:
            fields[place] = (number, kind, _altered_value(kind, value, chance))
    return fields


def _altered_value(kind: int, value: Any, chance: Random) -> Any:
    if kind == _VARINT:
        return chance.choice((*NUMBERS, (value + 1) % 2**64, value ^ (1 << chance.randrange(64))))
    changed = bytearray(value)
    if changed:
        changed[chance.randrange(len(changed))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    if kind != _BYTES:
        return bytes(changed)
    longer = bytes(value) + chance.randbytes(chance.randrange(1, 40))
    return chance.choice((bytes(changed), bytes(changed), value[: len(value) // 2], b"", longer, value * 2))


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return (number, where it ends), -1 for none."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            return 0, -1
        value |= (data[place] & 0x7F) << shift
        place += 1
        if data[place - 1] < 0x80:
            return value, place
    return 0, -1


def _written(fields: list[_Field]) -> bytes:
    out = bytearray()
    for number, kind, value in fields:
        _write_varint(out, number << 3 | kind)
        if kind == _VARINT:
            _write_varint(out, value)
            continue
        if kind == _BYTES:
            _write_varint(out, len(value))
        out += value
    return bytes(out)


def _write_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def behind(prefix: int, mutate: Callable[[bytes, Random], bytes]) -> Callable[[bytes, Random], bytes]:
    """Return a mutation of what stands behind the first `prefix` bytes."""
    return lambda data, chance: data[:prefix] + mutate(data[prefix:], chance)
