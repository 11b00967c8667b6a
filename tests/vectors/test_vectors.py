"""The fast code agrees bit for bit with the plain one, and both with answers pinned in known_answers.json."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from matching.encoding import FilterEncoder, filter_words
from matching.index import half_weights
from matching.kernels import name_levels, token_similarity
from matching.keys import PURPOSES, FieldKeys
from matching.phonetics import token_forms, wide_sound
from matching.question import MAX_NEAR
from matching.schema import PERSON_SCHEMA, TABLES_SHA256
from matching.training import INITIAL_SIMILARITY, name_cells, token_table
from tests.vectors import plain

SECRET = bytes.fromhex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
KEYS = FieldKeys.derive(SECRET, PERSON_SCHEMA, 1)
PINNED = json.loads((Path(__file__).parent / "known_answers.json").read_text())
NORMALISATION_TABLES = [
    "name_abbreviations.tsv",
    "name_bigrams.tsv",
    "name_sounds.tsv",
    "name_tokens.tsv",
    "nicknames.tsv",
    "regions.tsv",
    "regions_districts.tsv",
    "regions_names.tsv",
    "regions_splits.tsv",
    "titles.tsv",
]
TOKENS = ["soesilo", "susilo", "djoko", "joko", "muhammad", "aminah", "yanto", "yanti", "s", "w", "abdurrahman", "ni"]


def test_hkdf_answers_as_rfc_5869_does() -> None:
    # RFC 5869, appendix A.3: SHA-256 with zero-length salt and info.
    okm = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    assert plain.hkdf_sha256(b"\x0b" * 22, b"", 42).hex() == okm


def test_every_key_is_the_plain_one() -> None:
    for spec in PERSON_SCHEMA.fields:
        for purpose in PURPOSES[spec.kind]:
            expected = plain.field_key(SECRET, PERSON_SCHEMA.fingerprint, 1, spec.name, purpose)
            assert KEYS.by_purpose[spec.name, purpose] == expected


def test_keys_differ_by_field_purpose_and_epoch() -> None:
    later = FieldKeys.derive(SECRET, PERSON_SCHEMA, 2)
    everything = [*KEYS.by_purpose.values(), *later.by_purpose.values()]
    assert len(set(everything)) == len(everything)


def _plain_bits(field: str, token: str) -> set[int]:
    spelling_key = plain.field_key(SECRET, PERSON_SCHEMA.fingerprint, 1, field, "spelling")
    sound_key = plain.field_key(SECRET, PERSON_SCHEMA.fingerprint, 1, field, "sound")
    if len(token) == 1:
        return plain.filter_bits(spelling_key, sound_key, token, "", "")
    forms = token_forms(token)
    return plain.filter_bits(spelling_key, sound_key, forms.spelling, forms.sound, wide_sound(forms.sound))


@pytest.mark.parametrize("field", ["name", "mother_name"])
@pytest.mark.parametrize("token", TOKENS)
def test_filter_of_a_token_is_the_plain_one(field: str, token: str) -> None:
    mask = FilterEncoder(PERSON_SCHEMA.field(field), KEYS).any(token)
    assert mask.to_bytes(64, "little") == plain.filter_bytes(_plain_bits(field, token))
    assert filter_words([mask]).astype("<u8").tobytes() == plain.filter_bytes(_plain_bits(field, token))


def test_the_fingerprint_covers_the_tables_that_the_rules_read() -> None:
    digest = hashlib.sha256()
    for name in NORMALISATION_TABLES:
        content = (resources.files("matching") / "data" / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    assert digest.hexdigest() == TABLES_SHA256, "a table changed: put this digest into matching/schema.py"


def test_schema_and_encodings_are_the_pinned_ones() -> None:
    """A change here means registries must be encoded anew: raise rules_version, then pin again."""
    assert PERSON_SCHEMA.fingerprint.hex() == PINNED["fingerprint"]
    for token, expected in PINNED["name_filters"].items():
        assert plain.filter_bytes(_plain_bits("name", token)).hex() == expected
    for value, expected in PINNED["year_tokens"].items():
        assert KEYS.token("birth_date", "year", value) == expected


@pytest.mark.parametrize("token", [*TOKENS, "a" * 20, "abdurrahmanhidayatullah"])
def test_near_forms_and_calls_are_the_plain_ones(token: str) -> None:
    encoder = FilterEncoder(PERSON_SCHEMA.field("name"), KEYS)
    keys = {
        purpose: plain.field_key(SECRET, PERSON_SCHEMA.fingerprint, 1, "name", purpose) for purpose in ("near", "call")
    }
    assert encoder.near(token) == sorted(plain.token(keys["near"], form) for form in plain.near_forms(token))
    asked = encoder.asked_near(token)
    assert len(asked) == MAX_NEAR
    assert set(encoder.near(token)) <= set(asked)
    assert encoder.call(token) == plain.token(keys["call"], token)


def test_similarity_kernel_agrees_with_the_plain_one() -> None:
    table = token_table()
    encoder = FilterEncoder(PERSON_SCHEMA.field("name"), KEYS)
    filters = filter_words([encoder.any(token) for token in TOKENS])
    for asked in TOKENS:
        out = np.zeros(len(TOKENS), dtype=np.uint8)
        words = tuple(np.uint64(w) for w in filter_words([encoder.any(asked)])[0])
        near = (np.arange(len(TOKENS)) % 3).astype(np.uint8)
        token_similarity(filters, half_weights(filters), words, len(asked) == 1, near, table, INITIAL_SIMILARITY, out)
        expected = [
            plain.similarity(
                _plain_bits("name", asked),
                _plain_bits("name", stored),
                table.tolist(),
                initial=len(asked) == 1,
                initial_similarity=INITIAL_SIMILARITY,
                near=int(mark),
            )
            for stored, mark in zip(TOKENS, near, strict=True)
        ]
        assert out.tolist() == expected


def test_name_kernel_agrees_with_the_plain_one() -> None:
    rng = np.random.default_rng(7)
    tokens = 40
    cells = name_cells()
    for _ in range(200):
        asked = int(rng.integers(1, 7))
        similarity = (rng.integers(0, 256, (asked, tokens)) * (rng.random((asked, tokens)) < 0.2)).astype(np.uint8)
        weights = rng.integers(1, 90, tokens).astype(np.uint8)
        asked_weights = np.sort(rng.integers(1, 90, asked).astype(np.uint8))[::-1].copy()
        lengths = np.concatenate([[0], rng.integers(1, 9, 30)])
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        members = rng.integers(0, tokens, offsets[-1]).astype(np.uint32)
        out = np.zeros(len(lengths), dtype=np.uint8)
        name_levels(offsets, members, similarity, similarity.max(axis=0), weights, asked_weights, cells, out)
        for name, level in enumerate(out):
            stored = members[offsets[name] : offsets[name + 1]]
            expected = plain.name_level(
                [[int(similarity[k, t]) for t in stored] for k in range(asked)],
                asked_weights.tolist(),
                [int(weights[t]) for t in stored],
                cells.tolist(),
            )
            assert level == expected
