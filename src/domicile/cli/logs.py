"""How a service's events look: columns for a person, lines of JSON for a machine, what systemd's journal wants there.

The journal dates lines itself, and takes the priority from "<N>" before them: sd-daemon(3).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO

from domicile.cli.output import plain
from domicile.manager.events import LOGGER

__all__ = ["LogFormat", "formatter_for", "logging_to"]

DOMAIN_WIDTH, WHAT_WIDTH = 14, 32


class LogFormat(StrEnum):
    """What a line of the log is."""

    TEXT = "text"
    JSON = "json"


class TextFormatter(logging.Formatter):
    """When, which domain, what, why: in columns. `dated` gives the day too, None no time at all."""

    def __init__(self, *, dated: bool | None) -> None:
        super().__init__()
        self._form = {None: "", False: "%H:%M:%S  ", True: "%Y-%m-%d %H:%M:%S  "}[dated]

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever is in it."""
        when = datetime.fromtimestamp(record.created).astimezone().strftime(self._form)
        domain, why = str(getattr(record, "domain", "")), str(getattr(record, "why", ""))
        what = record.getMessage() if record.levelno < logging.WARNING else f"{_level(record)}: {record.getMessage()}"
        columns = f"{domain or '-':<{DOMAIN_WIDTH}}  {what:<{WHAT_WIDTH}}  {why}"
        return plain(when + columns).rstrip()


class JsonFormatter(logging.Formatter):
    """An object a line: `time` (ISO 8601, UTC), `level`, `event`, `domain` or null, `what`, `why`, `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of ASCII."""
        return json.dumps(
            {
                "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
                "level": _level(record),
                "event": getattr(record, "event", "log"),
                "domain": getattr(record, "domain", "") or None,
                "what": record.getMessage(),
                "why": getattr(record, "why", ""),
                "fields": getattr(record, "fields", {}),
            }
        )


class JournalFormatter(logging.Formatter):
    """Lines of another formatter with their priority before them."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """syslog(3)'s numbers: 3 error, 4 warning, 6 information, 7 debugging."""
        numbers = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
        priority = next((number for level, number in numbers if record.levelno >= level), 7)
        return f"<{priority}>{self._inner.format(record)}"


class Lines(logging.StreamHandler[TextIO]):
    """Writes at once; a reader that is gone ends whoever tells, as it would without `logging`."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Raise what went wrong."""
        del record
        raise  # noqa: PLE0704 - called while it is handled


def formatter_for(kind: LogFormat, stream: TextIO, environment: Mapping[str, str] = os.environ) -> logging.Formatter:
    """The formatter for lines on this stream: of a person's terminal, systemd's journal, or a file."""
    in_journal = _is_journal(stream, environment)
    inner = (
        JsonFormatter() if kind is LogFormat.JSON else TextFormatter(dated=None if in_journal else not stream.isatty())
    )
    return JournalFormatter(inner) if in_journal else inner


@contextmanager
def logging_to(stream: TextIO, kind: LogFormat) -> Iterator[None]:
    """Within, what the manager tells goes there."""
    handler = Lines(stream)
    handler.setFormatter(formatter_for(kind, stream))
    logger = logging.getLogger(LOGGER)
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


def _level(record: logging.LogRecord) -> str:
    return record.levelname.lower()


def _is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether systemd's journal reads this stream: `JOURNAL_STREAM` has its device and inode (systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"
