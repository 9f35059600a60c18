"""Heals CPUs of a lab that run code which is not there any more.

QEMU's software emulation translates code and has to notice when it changes. In 7.2 (Debian 12's) there is a moment in
which it does not: while one CPU translates a page, another may write to it, and the old code is kept for good; later
versions lock the page. Linux changes its own code as it runs, by way of a breakpoint instruction; a CPU that translated
that one stays in it for ever, and all others wait for it. Seen in one of a dozen boots of Dom0 on a busy computer.

To write the byte again that is there makes QEMU forget what it translated. QEMU's monitor cannot write memory, its
server for gdb can (`docs/system/gdb.rst`; the protocol is in gdb's manual, "Remote Serial Protocol").
"""

from __future__ import annotations

import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from domicile.errors import HostFailed
from domicile.lab import qmp

__all__ = ["heal", "suspects"]

SAMPLES = 40
PAUSE_S = 0.02
OFTEN = 0.25
"""A CPU that is found at one address in so many of the samples may be stuck there: the rest of its time goes into what
the breakpoint leads to."""

GDB_SOCKET = "gdb.sock"
GDB_TIMEOUT_S = 20.0

_CPU = re.compile(r"CPU#(\d+).*?\bRIP=([0-9a-f]+).*?\bHLT=(\d)", re.DOTALL)


def heal(place: Path) -> dict[int, int]:
    """Have QEMU translate the code anew that each CPU of a lab spends its time in; address by CPU.

    Where nothing is wrong it only stops the lab for a moment. Raises `HostFailed` if QEMU does not answer.
    """
    found = suspects([qmp.monitor_command(place / "qmp.sock", "info registers -a") for _ in _paced(SAMPLES)])
    if found:
        with _gdb(place) as gdb:
            for cpu, address in found.items():
                gdb.rewrite(cpu, address)
    return found


def suspects(samples: list[str]) -> dict[int, int]:
    """CPUs that do not halt and are found at one address again and again, in what `info registers -a` printed."""
    seen: dict[int, Counter[int]] = {}
    for text in samples:
        for cpu, address, halted in _CPU.findall(text):
            if halted == "0":
                seen.setdefault(int(cpu), Counter())[int(address, 16)] += 1
    most = {cpu: addresses.most_common(1)[0] for cpu, addresses in seen.items()}
    return {cpu: address for cpu, (address, count) in most.items() if count >= OFTEN * len(samples)}


def _paced(count: int) -> Iterator[int]:
    for number in range(count):
        if number:
            time.sleep(PAUSE_S)
        yield number


@contextmanager
def _gdb(place: Path) -> Iterator[_Gdb]:
    """A connection to QEMU's gdb server, which stops the machine for as long as it is there."""
    monitor = place / "qmp.sock"
    # relative, as QEMU runs in the lab's folder, and a socket's path may be 107 bytes long
    qmp.monitor_command(monitor, f"gdbserver unix:{GDB_SOCKET},server=on,wait=off")
    try:
        with qmp.connect(place / GDB_SOCKET, GDB_TIMEOUT_S) as connection:
            gdb = _Gdb(connection)
            yield gdb
            gdb.ask("D")
    except OSError as error:
        raise HostFailed(f"QEMU's gdb server failed: {error}") from error
    finally:
        qmp.monitor_command(monitor, "gdbserver none")
        qmp.execute(monitor, "cont")
        with suppress(FileNotFoundError):
            (place / GDB_SOCKET).unlink()


class _Gdb:
    """As much of gdb's protocol as is needed: $text#checksum, each acknowledged with a plus sign."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._heard = b""

    def rewrite(self, cpu: int, address: int) -> None:
        """Write the byte at a virtual address, as this CPU sees it, anew; what is not mapped is left alone."""
        self.ask(f"Hg{cpu + 1:x}")
        byte = self.ask(f"m{address:x},1")
        if re.fullmatch(r"[0-9a-f]{2}", byte):
            self.ask(f"M{address:x},1:{byte}")

    def ask(self, text: str) -> str:
        """A request and its answer."""
        payload = text.encode("ascii")
        self._connection.sendall(b"$%s#%02x" % (payload, sum(payload) % 256))
        while True:
            answer = self._packet()
            # "T05thread:01;" and the like tell that the machine stopped, which nobody asked
            if not answer.startswith("T"):
                return answer

    def _packet(self) -> str:
        while not (found := re.search(rb"\$([^#]*)#[0-9a-f]{2}", self._heard)):
            more = self._connection.recv(4096)
            if not more:
                raise OSError("it closed the connection")
            self._heard += more
        self._heard = self._heard[found.end() :]
        self._connection.sendall(b"+")
        return found[1].decode("ascii", "replace")
