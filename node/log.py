"""The node's own log: one JSON object a line on stderr, never a person's data."""

from __future__ import annotations

import logging
import secrets
import sys
import traceback

import structlog

_log = structlog.get_logger(__name__)


def log_bug(error: Exception, **context: str) -> str:
    """Log a bug by type and place, never by its text, which may hold anything; return the request id it is told by."""
    request = secrets.token_hex(4)
    _log.error("bug", request=request, kind=type(error).__name__, where=place_of(error), **context)
    return request


def place_of(error: Exception) -> str:
    """Return the file and line in which an error was raised."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{where.filename}:{where.lineno}"


def configure_logging(level: int = logging.INFO) -> None:
    """Send log lines of `level` and above to stderr as JSON. Call once, at the start of a command that opens a node."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
