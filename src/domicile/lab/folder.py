"""The folder of one lab: what is in it, whether it runs, and how it is started and ended.

qemu.json       QEMU's arguments         alive        held locked by the keeper while the lab runs
lab.json        what `Record` says       keeper.pid   the keeper's process id
xen, vmlinux, initrd.img, base.qcow2     links into the image (and the saved state)
disk.qcow2      what this lab wrote      user_key, known_hosts   the way in
console.log     what Xen and Dom0 said   qemu.log, ended.json    what QEMU said, how it ended
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import platformdirs

from domicile.errors import BadInput, HostFailed
from domicile.lab.machine import Machine

__all__ = [
    "KEEP",
    "STARTED",
    "Ended",
    "Record",
    "check_name",
    "ended",
    "is_running",
    "keep_log",
    "lab_folder",
    "lab_folders",
    "launch",
    "read_record",
    "state_folder",
    "stop",
    "write_record",
]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
KEPT_LOGS = 20
KEEP = b"keep\n"
STARTED = b"started\n"
END_TIMEOUT_S = 20


class Ended(msgspec.Struct):
    """`ended.json`: how QEMU ended, and the last of what it said."""

    status: int
    said: str


class Record(msgspec.Struct, frozen=True):
    """`lab.json`: what others need to know of a lab. `ssh_port` is 0 until Dom0 can be reached."""

    name: str
    machine_name: str
    machine: Machine
    image: str
    started_at: float
    ssh_port: int = 0


def state_folder() -> Path:
    """Where labs keep their folders: `DOMICILE_LAB_STATE`, else `lab` in the user's state folder."""
    named = os.environ.get("DOMICILE_LAB_STATE")
    return Path(named).absolute() if named else Path(platformdirs.user_state_dir("domicile")) / "lab"


def check_name(name: str) -> str:
    """The name, if a lab can be called that; raises `BadInput`."""
    if not NAME.fullmatch(name):
        raise BadInput(
            name, "no lab can be called that: up to 48 letters, digits, '.', '_' and '-', no '.' or '-' first"
        )
    return name


def lab_folder(name: str) -> Path:
    """The folder of the lab of that name, running or not; raises `BadInput` if none can be called that."""
    return state_folder() / "labs" / check_name(name)


def lab_folders() -> list[Path]:
    """The folders of all labs, running or not, by name."""
    return sorted(path.parent for path in (state_folder() / "labs").glob("*/lab.json"))


def read_record(folder: Path) -> Record | None:
    """What is known of the lab in a folder, None if there is none (or it is being removed just now)."""
    try:
        return msgspec.json.decode((folder / "lab.json").read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


def write_record(folder: Path, record: Record) -> None:
    """Write `lab.json`, whole or not at all."""
    new = folder / "lab.json.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    new.rename(folder / "lab.json")


def is_running(folder: Path) -> bool:
    """Whether a keeper holds the folder's lock."""
    try:
        lock = os.open(folder / "alive", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def ended(folder: Path) -> Ended | None:
    """How QEMU ended by itself, None if it has not."""
    try:
        return msgspec.json.decode((folder / "ended.json").read_bytes(), type=Ended)
    except FileNotFoundError:
        return None


def launch(folder: Path, argv: Sequence[str]) -> int:
    """Start a keeper for the folder, with QEMU; returns the pipe to it, which ends the lab when it is closed.

    Raises `HostFailed` if the keeper does not come up.
    """
    (folder / "qemu.json").write_bytes(msgspec.json.encode(list(argv)))
    reading, writing = os.pipe()
    try:
        with (folder / "keeper.log").open("wb") as log:
            starter = subprocess.Popen(
                [sys.executable, "-m", "domicile.lab.keeper", str(folder)],
                stdin=reading,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        with starter:
            said = starter.stdout.readline() if starter.stdout else b""
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    if said != STARTED:
        os.close(writing)
        lines = (folder / "keeper.log").read_text(errors="replace").strip().splitlines() or ["no message"]
        raise HostFailed(f"the lab's keeper did not come up: {lines[-1]}")
    return writing


def stop(folder: Path, pipe: int | None) -> None:
    """End a lab and remove its folder, by its keeper's pipe where we have it. One that has ended already is no error.

    Raises `HostFailed` if its keeper does not go.
    """
    if pipe is not None:
        os.close(pipe)
    elif is_running(folder):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it is going already
            os.kill(int((folder / "keeper.pid").read_text()), signal.SIGTERM)
    deadline = time.monotonic() + END_TIMEOUT_S
    while is_running(folder):
        if time.monotonic() > deadline:
            raise HostFailed(f"the keeper of the lab in {folder} does not end; its process id is in keeper.pid there")
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def keep_log(folder: Path, name: str) -> Path:
    """Put a failed lab's console log where it stays; returns its new place. The oldest of many are removed."""
    logs = state_folder() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    target = logs / f"{name}-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    with target.open("wb") as log:
        for part in ("console.log", "qemu.log"):
            try:
                log.write((folder / part).read_bytes())
            except FileNotFoundError:
                continue
    for old in sorted(logs.glob("*.log"), key=lambda path: path.stat().st_mtime)[:-KEPT_LOGS]:
        old.unlink(missing_ok=True)
    return target
