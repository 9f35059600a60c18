"""Healing, against a QEMU that has a fault which a test plays: a CPU at one address until that is written."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from domicile.lab import qmp, stale_code
from domicile.lab.stale_code import heal, suspects

STUCK_AT = 0xFFFFFFFF81108630


def registers(*cpus: tuple[int, int]) -> str:
    """What `info registers -a` prints: address and whether it halts, for each CPU."""
    return "".join(
        f"\nCPU#{cpu}\nRAX=0000000000000000 RBX=0000000000000001\nRIP={address:016x} RFL=00000246 [---Z-P-] CPL=3 II=0 "
        f"A20=1 SMM=0 HLT={halted}\nCR0=80050033\n"
        for cpu, (address, halted) in enumerate(cpus)
    )


class PlayedQemu:
    """A monitor and a gdb server: CPU 1 is stuck until the byte at its address is written, CPU 0 halts."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.memory = {STUCK_AT: 0x66}
        self.stuck = True
        self.running = True
        self.samples = 0
        self.thread: threading.Thread | None = None

    def monitor(self, path: Path, line: str) -> str:
        assert path == self.place / "qmp.sock"
        if line == "info registers -a":
            self.samples += 1
            # every third sample finds it in what the breakpoint leads to
            elsewhere = 0xFFFF82D040200000 + self.samples
            return registers((0xFFFF82D0402F9C06, 1), (elsewhere if self.samples % 3 == 0 else STUCK_AT, 0))
        if line.startswith("gdbserver unix:"):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(self.place / line.removeprefix("gdbserver unix:").partition(",")[0]))
            listener.listen()
            self.running = False
            self.thread = threading.Thread(target=self._serve, args=(listener,))
            self.thread.start()
        else:
            assert line == "gdbserver none"
        return ""

    def execute(self, path: Path, command: str) -> None:
        assert command == "cont"
        self.running = True

    def _serve(self, listener: socket.socket) -> None:
        with listener:
            connection, _ = listener.accept()
        with connection:
            connection.sendall(b"$T02thread:01;#04")
            heard = b""
            while more := connection.recv(4096):
                heard += more
                while found := re.search(rb"\$([^#]*)#([0-9a-f]{2})", heard):
                    heard = heard[found.end() :]
                    assert int(found[2], 16) == sum(found[1]) % 256
                    answer = self._answer(found[1].decode()).encode()
                    connection.sendall(b"+$%s#%02x" % (answer, sum(answer) % 256))

    def _answer(self, text: str) -> str:
        if text[0] == "m":
            address = int(text[1:].partition(",")[0], 16)
            return f"{self.memory[address]:02x}" if address in self.memory else "E14"
        if text[0] == "M":
            where, _, byte = text[1:].partition(":")
            assert self.memory[int(where.partition(",")[0], 16)] == int(byte, 16), "nothing must change"
            self.stuck = False
        return "OK"


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedQemu]:
    played = PlayedQemu(tmp_path)
    monkeypatch.setattr(qmp, "monitor_command", played.monitor)
    monkeypatch.setattr(qmp, "execute", played.execute)
    monkeypatch.setattr(stale_code, "PAUSE_S", 0.0)
    yield played
    if played.thread:
        played.thread.join(10)


def test_the_byte_is_written_again(qemu: PlayedQemu, tmp_path: Path) -> None:
    assert heal(tmp_path) == {1: STUCK_AT}
    assert not qemu.stuck
    assert qemu.running
    assert not (tmp_path / "gdb.sock").exists()


def test_what_is_not_mapped_is_left_alone(qemu: PlayedQemu, tmp_path: Path) -> None:
    qemu.memory = {}
    assert heal(tmp_path) == {1: STUCK_AT}
    assert qemu.stuck
    assert qemu.running


def test_only_a_cpu_that_stays_is_suspect() -> None:
    samples = [registers((4096, 1), (8192, 0), (4096 * n, 0)) for n in range(20)]
    assert suspects(samples) == {1: 8192}
    assert suspects([]) == {}
