"""clkhash + anonlink: one 1024-bit filter a person, every query against every person. Runs in the peers' environment.

python clk_candidates.py JOB.json; benchmarks/peers.py writes the job.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from anonlink.similarities import dice_coefficient_accelerated
from clk_schema import FIELDS, encode

LEAST_DICE = 0.3


def read(path):
    """Return the rows of a cleaned file."""
    with Path(path).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def candidates(folder, out, top):
    """Write the persons most like every query."""
    queries, registry = read(f"{folder}/queries.csv"), read(f"{folder}/registry.csv")
    asked, stored = (encode([[row[f] for f in FIELDS] for row in rows]) for rows in (queries, registry))
    scores, (which, found) = dice_coefficient_accelerated((asked, stored), LEAST_DICE, k=top)
    with Path(out).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("query_id", "record_id", "province", "score"))
        for score, q, r in zip(scores, which, found, strict=True):
            person = registry[r]
            writer.writerow((queries[q]["query_id"], person["record_id"], person["province"], f"{score:.6f}"))


def main():
    """Do the job."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for tag, folder in job["populations"].items():
        candidates(folder, job["out"][tag], job["top"])


if __name__ == "__main__":
    main()
