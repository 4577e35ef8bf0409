"""Where the service's events are written: standard error, so that standard output is results alone."""

import logging
import sys

import structlog


def log_to_stderr(least: int = logging.INFO) -> None:
    """Write events to standard error: for people on a terminal, as JSON otherwise.

    Args:
        least: the level of the least events that are written, as `logging` numbers them.
    """
    is_terminal = sys.stderr.isatty()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(least),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
