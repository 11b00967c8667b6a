"""Questions and answers as plain values, made up on the spot; no name was ever behind them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from matching.question import CodeQuery, DateQuery, EncodedQuery, Evidence, NameQuery, PlaceQuery, TokenQuery
from matching.schema import PERSON_SCHEMA
from node.messages import Answered, Handle, Purpose, QuestionHeader

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
EPOCH = 1


def words(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).integers(1, 2**64, size=shape, dtype=np.uint64)


def name(tokens: int = 2, variants: int = 2, near: int = 3) -> NameQuery:
    """The second token is an initial."""
    letter = np.array([[2**9 + 2**40, 0, 2**63, 0, 0, 0, 0, 0]], dtype=np.uint64)
    return NameQuery(
        tuple(
            TokenQuery(letter, 40 + k, initial=True)
            if k == 1
            else TokenQuery(words(k, variants, 8), 40 + k, False, words(k + 20, near), 2**63 + k)
            for k in range(tokens)
        )
    )


def place(regencies: int = 3) -> PlaceQuery:
    return PlaceQuery(words(7, 8), words(8, regencies), words(9, 0), words(10, 1), district=True)


def date(years: int = 11) -> DateQuery:
    return DateQuery(words(11, years), np.arange(years, dtype=np.uint8) % 7, 5, 6, 7, 0)


def query(**changes: Any) -> EncodedQuery:
    values: dict[str, Any] = {
        "name": name(),
        "mother_name": name(1),
        "father_name": None,
        "birthplace": place(),
        "birth_date": date(),
        "sex": CodeQuery(2**63 + 1),
        "title": CodeQuery(5),
    }
    values |= changes
    fingerprint, epoch = values.pop("fingerprint", PERSON_SCHEMA.fingerprint), values.pop("epoch", EPOCH)
    return EncodedQuery(fingerprint, epoch, {field: value for field, value in values.items() if value is not None})


def header(**changes: Any) -> QuestionHeader:
    values: dict[str, Any] = {
        "nonce": b"n" * 16,
        "case_reference": "K-20260301-7f3a9c",
        "purpose": Purpose.RETURN_HOME,
        "operator_pseudonym": b"o" * 16,
        "issued_at": NOW,
        "deadline": NOW + timedelta(seconds=10),
    }
    return QuestionHeader(**(values | changes))


def answered(classes: int = 2, handles: int = 2, size: int = 1000) -> Answered:
    """Classes of 1, 2, 3, ... persons; whoever is in none of them is at the last level of every field."""
    levels = np.array([[level % n for n in PERSON_SCHEMA.levels] for level in range(classes)], dtype=np.uint8)
    levels = levels.reshape(classes, len(PERSON_SCHEMA.fields))
    persons = np.arange(1, classes + 1, dtype=np.int64)
    histograms = tuple(
        np.bincount(levels[:, f], persons, n).astype(np.int64) for f, n in enumerate(PERSON_SCHEMA.levels)
    )
    for histogram in histograms:
        histogram[-1] += size - persons.sum()
    evidence = Evidence(size=size, histograms=histograms, class_levels=levels, class_counts=persons)
    return Answered(evidence, tuple(Handle(bytes([k]) * 16, k % max(1, classes)) for k in range(handles)))
