"""A second, plain implementation of the encoding and of the kernels: bit by bit, from the standard library alone.

Written from docs/matching.md, not from the code it checks: HKDF from RFC 5869 with hmac, filters as sets of bit
numbers, similarity in integers, name agreement with loops a person can follow.
"""

from __future__ import annotations

import hashlib
import hmac

HALF = 256


def hkdf_sha256(secret: bytes, info: bytes, length: int = 32) -> bytes:
    """RFC 5869 with an empty salt."""
    prk = hmac.new(b"\0" * 32, secret, hashlib.sha256).digest()
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha256).digest()
        out += block
        counter += 1
    return out[:length]


def field_key(secret: bytes, fingerprint: bytes, epoch: int, field: str, purpose: str) -> bytes:
    info = b"pulang/keys/1" + fingerprint + epoch.to_bytes(4, "little") + field.encode() + b"\0" + purpose.encode()
    return hkdf_sha256(secret, info)


def token(key: bytes, value: str) -> int:
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8, key=key).digest(), "little") or 1


def positions(key: bytes, value: str, count: int) -> list[int]:
    digest = hashlib.blake2b(value.encode(), digest_size=4 * count, key=key).digest()
    return [int.from_bytes(digest[4 * i : 4 * i + 4], "little") % HALF for i in range(count)]


def filter_bits(
    spelling_key: bytes, sound_key: bytes, spelling: str, sound: str, wide: str, *, gram: int = 3, whole: int = 6
) -> set[int]:
    """Bit numbers of a token's filter; an initial has a one-letter spelling and no sound."""
    if not sound:
        return set(positions(spelling_key, f"_{spelling}", gram))
    bits: set[int] = set()
    for i in range(len(spelling) + 1):
        bits |= set(positions(spelling_key, f"_{spelling}_"[i : i + 2], gram))
    for i in range(len(sound) + 1):
        bits |= {HALF + p for p in positions(sound_key, "2" + f"_{sound}_"[i : i + 2], gram)}
    bits |= {HALF + p for p in positions(sound_key, "=" + sound, whole)}
    bits |= {HALF + p for p in positions(sound_key, "~" + wide, whole)}
    return bits


def filter_bytes(bits: set[int]) -> bytes:
    """64 bytes: bit i is bit i % 8 of byte i // 8, which is what little-endian 64-bit words come to."""
    out = bytearray(64)
    for i in bits:
        out[i // 8] |= 1 << (i % 8)
    return bytes(out)


def near_forms(token: str) -> set[str]:
    """A token of four letters or more, and it without each of its first sixteen letters."""
    forms = {token} if len(token) >= 4 else set()
    for i, _ in enumerate(token[:16] if forms else ""):
        forms.add(token[:i] + token[i + 1 :])
    return forms


def similarity(
    asked: set[int],
    stored: set[int],
    table: list[list[list[int]]],
    *,
    initial: bool,
    initial_similarity: int,
    near: int = 0,
) -> int:
    """Similarity 0..255 of a question token and a registered token. near: 1 one slip away, 2 called so, else 0."""
    a_spelling = {b for b in asked if b < HALF}
    b_spelling = {b for b in stored if b < HALF}
    if initial or b_spelling == stored:
        smaller = min(len(a_spelling), len(b_spelling))
        return initial_similarity if len(a_spelling & b_spelling) == smaller else 0
    a_sound, b_sound = asked - a_spelling, stored - b_spelling
    spelling = 32 * len(a_spelling & b_spelling) // (len(a_spelling) + len(b_spelling))
    sound = 32 * len(a_sound & b_sound) // (len(a_sound) + len(b_sound))
    return table[near][spelling][sound]


def name_level(
    similarities: list[list[int]], asked_weights: list[int], stored_weights: list[int], cells: list[list[int]]
) -> int:
    """Agreement level of one registered name; similarities[k][j] of question token k and registered token j."""
    if not stored_weights:
        return 0
    free = set(range(len(stored_weights)))
    found = used = 0.0
    for k, weight in enumerate(asked_weights):
        ranked = sorted(free, key=lambda j: (-similarities[k][j], j))
        if ranked and similarities[k][ranked[0]] > 0:
            j = ranked[0]
            free.remove(j)
            found += similarities[k][j] / 255 * weight
            used += similarities[k][j] / 255 * stored_weights[j]
    a = int(32 * found / sum(asked_weights) + 0.001)
    b = int(32 * used / sum(stored_weights) + 0.001)
    return cells[a][b]
