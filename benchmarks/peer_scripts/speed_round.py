"""One timed round of a peer on one core. Runs in the peers' environment, a fresh process each time.

python speed_round.py JOB.json, where the job names a task, a core, its inputs, and `out` for the seconds it took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from anonlink.similarities import dice_coefficient_accelerated
from bitarray import bitarray
from clk_candidates import read
from clk_schema import FIELDS
from clk_schema import encode as clks
from rapidfuzz import fuzz
from rapidfuzz.process import cdist


def encode(job):
    """Time clkhash on the rows of a CSV file, reading left out."""
    rows = [[row[f] for f in FIELDS] for row in read(job["registry"])]
    started = time.process_time()
    clks(rows)
    return time.process_time() - started


def compare(job):
    """Time anonlink on arrays of filters; write the pairs it finds."""

    def filters(path):
        made = []
        for row in np.load(path):
            made.append(bitarray(endian="little"))
            made[-1].frombytes(row.tobytes())
        return made

    asked, stored = filters(job["questions"]), filters(job["stored"])
    started = time.process_time()
    _, (which, rows) = dice_coefficient_accelerated((asked, stored), job["threshold"], k=job["top"])
    seconds = time.process_time() - started
    np.save(job["pairs"], np.column_stack([which, rows]))
    return seconds


def likeness(job):
    """Time rapidfuzz on every pair of two lists of names."""
    asked, stored = json.loads(Path(job["names"]).read_text(encoding="utf-8"))
    started = time.process_time()
    cdist(asked, stored, scorer=fuzz.token_sort_ratio, dtype=np.uint8, workers=1)
    return time.process_time() - started


def main():
    """Do the job."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.sched_setaffinity(0, {job["core"]})
    seconds = {"encode": encode, "compare": compare, "likeness": likeness}[job["task"]](job)
    Path(job["out"]).write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
