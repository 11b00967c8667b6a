"""The hash tree over the audit log: RFC 9162's hashes and proofs, over stored nodes so that an append costs O(log n).

Complete subtrees never change once they are full, so each is stored once, under its in-order position: leaf i at 2i,
the root of the 2^level leaves from `index * 2^level` on at `index * 2^(level + 1) + 2^level - 1` (the numbering of
RFC 9420, appendix C). What is not a complete subtree is computed from those that are.
Source: RFC 9162, sections 2.1.1 to 2.1.4.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    ReadNode = Callable[[int], bytes]

HASH_BYTES: Final = 32
MAX_PROOF_HASHES: Final = 64  # a consistency proof between trees of up to 2^63 leaves
EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf's data; the prefix keeps a leaf from being passed off as an inner node."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def position(level: int, index: int) -> int:
    """Return where the root of the index-th complete subtree of 2^level leaves is stored."""
    return (index << (level + 1)) + (1 << level) - 1


def grown(size: int, leaf: bytes, read: ReadNode) -> Iterator[tuple[int, bytes]]:
    """Yield (position, hash) of every node a tree of `size` leaves gains by one more: the leaf, then its parents."""
    level, index, value = 0, size, leaf
    yield position(level, index), value
    while index & 1:
        value = node_hash(read(position(level, index - 1)), value)
        level, index = level + 1, index >> 1
        yield position(level, index), value


def root(size: int, read: ReadNode) -> bytes:
    """Return the root of the first `size` leaves."""
    return _range_root(0, size, read) if size else EMPTY_ROOT


def consistency_proof(old_size: int, size: int, read: ReadNode) -> list[bytes]:
    """Return RFC 9162's proof that the tree of `size` leaves continues the one of `old_size`; 1 <= old_size <= size."""
    proof: list[bytes] = []
    start, end, is_whole = 0, size, True
    while old_size != end:
        split = start + _left_width(end - start)
        if old_size <= split:
            proof.append(_range_root(split, end, read))
            end = split
        else:
            proof.append(_range_root(start, split, read))
            start, is_whole = split, False
    if not is_whole:  # a subtree that begins at leaf 0 is the old tree itself, and its root is known
        proof.append(_range_root(start, end, read))
    return proof[::-1]


def inclusion_proof(index: int, size: int, read: ReadNode) -> list[bytes]:
    """Return RFC 9162's audit path of leaf `index`, counted from 0, in the tree of `size` leaves."""
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        split = start + _left_width(end - start)
        if index < split:
            proof.append(_range_root(split, end, read))
            end = split
        else:
            proof.append(_range_root(start, split, read))
            start = split
    return proof[::-1]


def is_consistent(old_size: int, size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that the second tree continues the first. Source: RFC 9162, section 2.1.4.2."""
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    if old_size == size:
        return not proof and old_root == new_root
    if not 0 < old_size < size or not proof:
        return False
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    fn, sn = old_size - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for each in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(each, fr), node_hash(each, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, each)
        fn, sn = fn >> 1, sn >> 1
    return fr == old_root and sr == new_root and sn == 0


def is_included(leaf: bytes, index: int, size: int, tree_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that a leaf's hash stands at `index`. Source: RFC 9162, section 2.1.3.2."""
    if not 0 <= index < size:
        return False
    fn, sn, value = index, size - 1, leaf
    for each in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            value = node_hash(each, value)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            value = node_hash(value, each)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and value == tree_root


def _left_width(width: int) -> int:
    """Return the leaves under the left child of a tree of `width` leaves: the largest power of two below it."""
    return 1 << ((width - 1).bit_length() - 1)


def _range_root(start: int, end: int, read: ReadNode) -> bytes:
    """Return the root over leaves [start, end), which is a subtree of some tree: only its right edge is incomplete."""
    width = end - start
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return read(position(level, start >> level))
    split = start + _left_width(width)
    return node_hash(_range_root(start, split, read), _range_root(split, end, read))
