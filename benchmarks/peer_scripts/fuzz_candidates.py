"""rapidfuzz and a few rules, as a careful clerk would write them. Runs in the peers' environment.

python fuzz_candidates.py JOB.json; benchmarks/peers.py writes the job.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from rapidfuzz import fuzz
from rapidfuzz.process import cdist

ASKED_AT_ONCE = 32
CLOSE = 55  # names less alike than this are not looked at
REREAD = 400  # persons per query whose names are read again, more slowly

# Points added to the likeness of the names, 0 to 100.
OTHER_SEX = -25
YEAR = ((0, 12), (1, 6), (2, 3), (5, -4), (10, -12))  # up to so many years off
YEAR_FAR = -25
SAME_DAY = 12
OTHER_DAY = -4
SAME_PLACE = 10
OTHER_PLACE = -6
MOTHER = 0.4  # of how much the mothers' names are more alike than 60


def load(path):
    """Read a cleaned file; add the name with its words sorted, and the year as a number (0: not known)."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["sorted"] = [" ".join(sorted(name.split())) for name in table["name"]]
    table["year"] = pd.to_numeric(table["birth_year"], errors="coerce").fillna(0).astype(np.int32)
    return table


def points(asked, rows):
    """Return what the other fields add, for the registered rows."""
    total = np.zeros(len(rows["name"]), dtype=np.float64)
    if asked.sex:
        total += np.where((rows["sex"] != "") & (rows["sex"] != asked.sex), OTHER_SEX, 0)
    if asked.year:
        off = np.abs(rows["year"] - asked.year)
        given = np.full(len(off), YEAR_FAR, dtype=np.float64)
        for years, worth in reversed(YEAR):
            given[off <= years] = worth
        total += np.where(rows["year"] == 0, 0, given)
    if asked.birth_day:
        same = rows["birth_day"] == asked.birth_day
        total += np.where(rows["birth_day"] == "", 0, np.where(same, SAME_DAY, OTHER_DAY))
    if asked.birthplace:
        same = rows["birthplace"] == asked.birthplace
        total += np.where(rows["birthplace"] == "", 0, np.where(same, SAME_PLACE, OTHER_PLACE))
    return total


def best(asked, likeness, columns, top):
    """Return the best rows of the registry for a query, and their scores."""
    close = np.flatnonzero(likeness >= CLOSE)
    rows = {name: values[close] for name, values in columns.items()}
    score = likeness[close] + points(asked, rows)
    chosen = np.argsort(-score, kind="stable")[:REREAD]
    whole = cdist([asked.name], rows["name"][chosen], scorer=fuzz.WRatio, dtype=np.uint8)[0]
    score = score[chosen] + (whole.astype(np.float64) - likeness[close][chosen]) / 2
    if asked.mother_name:
        mothers = rows["mother_name"][chosen]
        alike = cdist([asked.mother_name], mothers, scorer=fuzz.WRatio, dtype=np.uint8)[0]
        score += np.where(mothers == "", 0, MOTHER * (alike.astype(np.float64) - 60))
    order = np.argsort(-score, kind="stable")[:top]
    return close[chosen[order]], score[order]


def candidates(folder, out, top):
    """Write the best persons for every query."""
    queries, registry = load(f"{folder}/queries.csv"), load(f"{folder}/registry.csv")
    columns = {
        name: registry[name].to_numpy() for name in ("name", "sex", "year", "birth_day", "birthplace", "mother_name")
    }
    names = registry["sorted"].to_numpy()
    found = []
    for start in range(0, len(queries), ASKED_AT_ONCE):
        part = queries.iloc[start : start + ASKED_AT_ONCE]
        likeness = cdist(part["sorted"].to_numpy(), names, scorer=fuzz.ratio, score_cutoff=CLOSE, dtype=np.uint8)
        for asked, row in zip(part.itertuples(), likeness, strict=True):
            rows, scores = best(asked, row, columns, top)
            found.append(pd.DataFrame({"query_id": asked.query_id, "row": rows, "score": scores}))
    table = pd.concat(found)
    table["record_id"] = registry["record_id"].to_numpy()[table["row"]]
    table["province"] = registry["province"].to_numpy()[table["row"]]
    table[["query_id", "record_id", "province", "score"]].to_csv(out, index=False)


def main():
    """Do the job."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for tag, folder in job["populations"].items():
        candidates(folder, job["out"][tag], job["top"])


if __name__ == "__main__":
    main()
