"""How events look to a person, a machine and systemd's journal."""

from __future__ import annotations

import io
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domicile.cli.logs import LogFormat, formatter_for, logging_to
from domicile.manager.events import LOGGER, tell

MOMENT = datetime(2026, 11, 23, 15, 4, 5, 678000, tzinfo=UTC).timestamp()


def record(level: int = logging.INFO, **more: object) -> logging.LogRecord:
    found = logging.LogRecord(LOGGER, level, "", 0, "%s", ("vCPU 1 let go",), None)
    found.created = MOMENT
    found.__dict__ |= {"event": "let_go", "domain": "web", "why": "it is idle", "fields": {"vcpu": 1}} | more
    return found


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns() -> None:
    line = formatter_for(LogFormat.TEXT, Terminal()).format(record())
    assert line[2] == line[5] == ":"
    assert line[8:] == "  web             vCPU 1 let go                     it is idle"
    dated = formatter_for(LogFormat.TEXT, io.StringIO()).format(record(logging.WARNING, domain="", why=""))
    assert dated[:4] == "2026"
    assert dated[19:] == "  -               warning: vCPU 1 let go"


def test_what_a_guest_is_called_cannot_steer_a_terminal() -> None:
    line = formatter_for(LogFormat.TEXT, Terminal()).format(record(domain="\x1b[2Jx\n<3>y"))
    assert line.isprintable()


def test_json() -> None:
    line = formatter_for(LogFormat.JSON, io.StringIO()).format(record(logging.ERROR, domain="\x1b\n"))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-11-23T15:04:05.678+00:00",
        "level": "error",
        "event": "let_go",
        "domain": "\x1b\n",
        "what": "vCPU 1 let go",
        "why": "it is idle",
        "fields": {"vcpu": 1},
    }


@pytest.mark.parametrize(("level", "number"), [(logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3)])
def test_the_journal_gets_priorities_and_no_time(tmp_path: Path, level: int, number: int) -> None:
    with (tmp_path / "log").open("w") as file:
        found = os.fstat(file.fileno())
        environment = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        line = formatter_for(LogFormat.TEXT, file, environment).format(record(level))
        assert line.startswith(f"<{number}>web  ")
        assert formatter_for(LogFormat.JSON, file, environment).format(record(level)).startswith(f'<{number}>{{"time"')
        assert formatter_for(LogFormat.TEXT, file, {"JOURNAL_STREAM": "1:2"}).format(record(level))[:2] == "20"


def test_what_is_told_arrives_at_once_and_only_within() -> None:
    stream = io.StringIO()
    with logging_to(stream, LogFormat.JSON):
        tell("hold", "vCPU 0 held", domain="web", cpus=[4, 5])
        assert json.loads(stream.getvalue())["fields"] == {"cpus": [4, 5]}
    tell("hold", "vCPU 0 held")
    assert stream.getvalue().count("\n") == 1


def test_a_reader_that_is_gone_is_no_secret() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with logging_to(Gone(), LogFormat.TEXT), pytest.raises(BrokenPipeError):
        tell("hold", "vCPU 0 held")
