"""The keeper of one lab: QEMU's parent, and what makes sure that nobody is left running.

Run as `python -m domicile.lab.keeper FOLDER`. It leaves the starter's session, takes the folder's `alive` lock (held
for as long as the lab runs: that is what "running" means), starts QEMU in the folder with the arguments in `qemu.json`
and prints "started". Then:

- the starter's pipe (stdin) says "keep": from now on the lab lives without its starter;
- the pipe closes without it (the starter left, crashed or was killed), or SIGTERM comes: QEMU is ended, the folder
  removed;
- QEMU ends by itself: `ended.json` says how, and the folder stays for whoever asks;
- the keeper is killed: the kernel kills QEMU.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import msgspec

from domicile.lab.folder import KEEP, STARTED, Ended
from domicile.lab.processes import dying_with_us

__all__ = ["main"]

QEMU_GRACE_S = 5


class _Stopped(Exception):
    """SIGTERM."""


def _stop(_sign: int, _frame: FrameType | None) -> None:
    raise _Stopped


def main(folder: Path) -> int:
    """Keep the lab in `folder` until it ends; returns the exit status."""
    if os.fork():
        os._exit(0)  # nobody's child: a starter that lives long collects no zombies
    os.setsid()
    os.chdir(folder)
    alive = os.open("alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    Path("keeper.pid").write_text(f"{os.getpid()}\n")
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    argv = msgspec.json.decode(Path("qemu.json").read_bytes(), type=list[str])
    with Path("qemu.log").open("wb") as log:
        qemu = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=dying_with_us(signal.SIGKILL),  # noqa: PLW1509 (this process has one thread)
        )
    try:
        os.write(sys.stdout.fileno(), STARTED)
        if _until_over(qemu):
            status = qemu.wait()
            said = Path("qemu.log").read_text(errors="replace").strip()[-2000:]
            Path("ended.json.new").write_bytes(msgspec.json.encode(Ended(status, said)))
            Path("ended.json.new").rename("ended.json")
            return 0
    except (_Stopped, BrokenPipeError):
        pass
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end(qemu)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _until_over(qemu: subprocess.Popen[bytes]) -> bool:
    """Wait: True when QEMU has ended by itself, False when the starter is gone without having said "keep"."""
    starter = sys.stdin.fileno()
    ended = os.pidfd_open(qemu.pid)
    watched = [starter, ended]
    said = b""
    while True:
        ready, _, _ = select.select(watched, [], [])
        if ended in ready:
            return True
        part = os.read(starter, 64)
        said += part
        if KEEP in said:
            watched = [ended]
        elif not part:
            return False


def _end(qemu: subprocess.Popen[bytes]) -> None:
    qemu.terminate()
    try:
        qemu.wait(timeout=QEMU_GRACE_S)
    except subprocess.TimeoutExpired:
        qemu.kill()
        qemu.wait()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
