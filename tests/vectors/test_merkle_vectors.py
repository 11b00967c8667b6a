"""The hash tree answers as others do: Google's Certificate Transparency test values, RFC 9162's example, pymerkle.

The leaves and roots are the ones of certificate-transparency (and now transparency-dev/merkle, testonly), which have
been the common test values of RFC 6962 and RFC 9162 trees since 2013.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from node.merkle import (
    EMPTY_ROOT,
    consistency_proof,
    grown,
    inclusion_proof,
    is_consistent,
    is_included,
    leaf_hash,
    node_hash,
    root,
)

LEAVES = [
    bytes.fromhex(each)
    for each in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
SIZES = 40


def nodes_of(leaves: list[bytes]) -> dict[int, bytes]:
    """Grow a tree leaf by leaf; returns what would be stored."""
    nodes: dict[int, bytes] = {}
    for size, data in enumerate(leaves):
        for position, value in grown(size, leaf_hash(data), nodes.__getitem__):
            assert position not in nodes, "a stored node never changes"
            nodes[position] = value
    return nodes


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_roots_are_certificate_transparencys(size: int) -> None:
    assert root(size, nodes_of(LEAVES[:size]).__getitem__).hex() == ROOTS[size]


def test_proofs_are_those_of_the_rfcs_example() -> None:
    # RFC 9162, section 2.1.5: a tree of 7 leaves, and the nodes of each proof by their letters.
    nodes = nodes_of(LEAVES[:7])
    a, b, c, d, e, f, j = (leaf_hash(data) for data in LEAVES[:7])
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, el = node_hash(g, h), node_hash(i, j)
    read = nodes.__getitem__
    assert inclusion_proof(0, 7, read) == [b, h, el]
    assert inclusion_proof(3, 7, read) == [c, g, el]
    assert inclusion_proof(4, 7, read) == [f, j, k]
    assert inclusion_proof(6, 7, read) == [i, k]
    assert consistency_proof(3, 7, read) == [c, d, g, el]
    assert consistency_proof(4, 7, read) == [el]
    assert consistency_proof(6, 7, read) == [i, j, k]


def test_every_size_up_to_forty_agrees_with_pymerkle_and_proves_itself() -> None:
    leaves = [bytes([number]) * number for number in range(SIZES)]
    reference = InmemoryTree()
    for data in leaves:
        reference.append_entry(data)
    read = nodes_of(leaves).__getitem__
    roots = [root(size, read) for size in range(SIZES + 1)]
    assert roots[1:] == [reference.get_root(size) for size in range(1, SIZES + 1)]
    for size in range(1, SIZES + 1):
        for index in range(size):
            proof = inclusion_proof(index, size, read)
            assert proof == reference.prove_inclusion(index + 1, size).path[1:]
            assert is_included(leaf_hash(leaves[index]), index, size, roots[size], proof)
        for old in range(1, size + 1):
            assert is_consistent(old, size, roots[old], roots[size], consistency_proof(old, size, read))


@settings(deadline=None)
@given(st.data())
def test_a_proof_that_is_not_the_right_one_proves_nothing(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, SIZES))
    old = data.draw(st.integers(1, size - 1))
    read = nodes_of([bytes([number]) for number in range(size)]).__getitem__
    proof = consistency_proof(old, size, read)
    old_root, new_root = root(old, read), root(size, read)
    place = data.draw(st.integers(0, len(proof) - 1))
    other = data.draw(st.binary(min_size=32, max_size=32).filter(lambda each: each != proof[place]))
    wrong = {
        "changed": [*proof[:place], other, *proof[place + 1 :]],
        "short": proof[:place] + proof[place + 1 :],
        "long": [*proof, other],
    }
    for kind, each in wrong.items():
        assert not is_consistent(old, size, old_root, new_root, each), kind
    assert not is_consistent(old, size, other, new_root, proof)
    assert not is_consistent(old, size, old_root, other, proof)
    path = inclusion_proof(old, size, read)
    assert is_included(leaf_hash(bytes([old])), old, size, new_root, path)
    assert not is_included(leaf_hash(bytes([old])), old - 1, size, new_root, path)
    assert not is_included(other, old, size, new_root, path)
    assert not is_included(leaf_hash(bytes([old])), old, size, new_root, [*path, other])


@settings(deadline=None)
@given(st.integers(-3, 20), st.integers(-3, 20), st.lists(st.binary(min_size=32, max_size=32), max_size=6))
def test_no_sizes_and_hashes_make_the_verifiers_fail(old: int, size: int, proof: list[bytes]) -> None:
    assert not is_consistent(old, size, b"o" * 32, b"n" * 32, proof)
    assert not is_included(b"l" * 32, old, size, b"r" * 32, proof)


def test_only_the_empty_tree_is_continued_without_proof() -> None:
    assert is_consistent(0, 5, EMPTY_ROOT, b"n" * 32, [])
    assert not is_consistent(0, 5, b"o" * 32, b"n" * 32, [])
    assert not is_consistent(0, 5, EMPTY_ROOT, b"n" * 32, [b"x" * 32])
