"""Names the machine a figure was measured on: a figure without one says nothing."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def machine() -> str:
    """Return processor, cores this process may use, how busy they are, and Python, in one line."""
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return f"{_processor()}, {cores} cores, load {load:.1f}, Python {platform.python_version()}"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        found = None
    return found.group(1) if found else platform.machine()
