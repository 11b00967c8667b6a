"""The node's own log: one JSON object a line on stderr, never a person's data."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logging() -> None:
    """Send every log line of this process to stderr as JSON. Call once, at the start of a long-running command."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
