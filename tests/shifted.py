"""A node whose clock is off: `python -m tests.shifted SECONDS node serve --home DIR`."""

from __future__ import annotations

import sys
from datetime import timedelta

from node.cli import server
from node.cli.main import main

if __name__ == "__main__":
    real, shift = server._now, timedelta(seconds=float(sys.argv[1]))
    server._now = lambda: real() + shift
    main(sys.argv[2:])
