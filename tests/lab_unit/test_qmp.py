"""The monitor's protocol, against a QEMU that says what a test wants."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from domicile.errors import HostFailed
from domicile.lab import qmp

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\n'
OK = b'{"return": {}}\n'
Monitor = Callable[..., Path]


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    """`monitor(answer, ...)` listens in a folder with a long name, and gives an answer for each line it hears."""
    threads: list[threading.Thread] = []
    heard: list[bytes] = []

    def serve(listener: socket.socket, answers: tuple[bytes, ...]) -> None:
        with listener:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                connection.sendall(answers[0])
                for answer in answers[1:]:
                    heard.append(lines.readline())
                    connection.sendall(answer)

    def start(*answers: bytes) -> Path:
        folder = tmp_path / ("long" * 30)
        folder.mkdir()
        listener = socket.socket(socket.AF_UNIX)
        here = Path.cwd()
        try:
            os.chdir(folder)
            listener.bind("qmp.sock")
        finally:
            os.chdir(here)
        listener.listen()
        threads.append(threading.Thread(target=serve, args=(listener, answers)))
        threads[-1].start()
        return folder / "qmp.sock"

    yield start
    for thread in threads:
        thread.join(10)


def test_answers_are_found_among_events(monitor: Monitor) -> None:
    path = monitor(GREETING, OK, b'{"event": "STOP", "timestamp": {}}\n{"return": {"status": "paused"}}\n')
    answer = qmp.execute(path, "query-status")
    assert msgspec.json.decode(answer) == {"status": "paused"}


def test_text_of_the_human_monitor(monitor: Monitor) -> None:
    assert qmp.monitor_command(monitor(GREETING, OK, b'{"return": "two\\r\\nlines"}\n'), "info") == "two\r\nlines"


def test_refusals_say_why(monitor: Monitor) -> None:
    path = monitor(GREETING, OK, b'{"error": {"class": "GenericError", "desc": "no such thing"}}\n')
    with pytest.raises(HostFailed, match="QEMU refused set_link: no such thing"):
        qmp.execute(path, "set_link", {"name": "nic", "up": True})


@pytest.mark.parametrize("said", [b"", b"garbage\n", b'{"return": \n', b"[]\n"])
def test_nonsense_and_silence_are_failures(monitor: Monitor, said: bytes) -> None:
    with pytest.raises(HostFailed):
        qmp.execute(monitor(GREETING, OK, said), "stop")


def test_no_qemu_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(HostFailed, match="monitor failed at stop"):
        qmp.execute(tmp_path / "qmp.sock", "stop")
    with pytest.raises(HostFailed, match="monitor failed at stop"):
        qmp.execute(tmp_path / "nowhere" / "qmp.sock", "stop")
