"""The supervisor's socket, played by a real one."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from domicile.errors import BadInput
from domicile.local.supervisor import Supervisor


def listening(address: str) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    found.bind(address)
    found.settimeout(5.0)
    return found


def test_what_is_said(tmp_path: Path) -> None:
    with listening(str(tmp_path / "notify")) as heard:
        supervisor = Supervisor.of({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        supervisor.reloading()
        supervisor.ready()
        supervisor.status("well")
        supervisor.status("well")
        supervisor.alive()
        supervisor.stopping()
        reloading, _, since = heard.recv(4096).decode().partition("\nMONOTONIC_USEC=")
        assert reloading == "RELOADING=1"
        assert before <= int(since) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert [heard.recv(4096) for _ in range(3)] == [b"READY=1", b"STATUS=well", b"STOPPING=1"]


def test_an_address_without_a_file() -> None:
    name = f"domicile-test-{os.getpid()}"
    with listening(f"\0{name}") as heard:
        Supervisor.of({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert heard.recv(4096) == b"READY=1"


def test_signs_of_life_are_as_many_as_it_takes(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with listening(address) as heard:
        for pid, beats in ((os.getpid(), True), (1, False)):
            environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000", "WATCHDOG_PID": str(pid)}
            supervisor = Supervisor.of(environment)
            supervisor.alive()
            supervisor.alive()
            time.sleep(0.12)
            supervisor.alive()
            supervisor.ready()
            assert [heard.recv(4096) for _ in range(2 * beats + 1)] == [b"WATCHDOG=1"] * (2 * beats) + [b"READY=1"]


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, "NOTIFY_SOCKET: is not set"),
        ({"NOTIFY_SOCKET": ""}, "NOTIFY_SOCKET: is not set"),
        ({"NOTIFY_SOCKET": "vsock:2:1"}, "NOTIFY_SOCKET: names no Unix socket ('vsock:2:1')"),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}, "WATCHDOG_USEC: is no number"),
    ],
)
def test_an_environment_that_names_none(environment: dict[str, str], problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        Supervisor.of(environment)
    assert str(caught.value).startswith(problem)


def test_nobody_listens(tmp_path: Path) -> None:
    Supervisor().ready()
    Supervisor.of({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
