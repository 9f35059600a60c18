"""A saved state: Dom0 just booted, kept as its memory, QEMU's devices and what it wrote to its disk.

The memory is a file for each node, full of holes, which labs map privately: starting one copies nothing, and labs share
what they do not change. It is what QEMU's `docs/system/vm-templating.rst` describes. The disk is an overlay over the
image's and names it `image.qcow2`, so every lab folder has a link of that name; a lab's own disk is an overlay over it.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from domicile.errors import HostFailed
from domicile.lab import qmp
from domicile.lab.qemu import memory_file

__all__ = ["STATE_DISK", "SavedState", "load_devices", "save_machine"]

STATE_DISK = "state.qcow2"
DEVICES = "devices"
SAVE_TIMEOUT_S = 300
LOAD_TIMEOUT_S = 180


@dataclass(frozen=True, slots=True)
class SavedState:
    """A state in the cache."""

    folder: Path

    def link_into(self, place: Path) -> None:
        """Make a lab's folder one that can start from this state."""
        for file in self.folder.iterdir():
            (place / file.name).symlink_to(file)

    def discard(self) -> None:
        """Remove it: it turned out not to be one."""
        shutil.rmtree(self.folder, ignore_errors=True)


class _Migration(msgspec.Struct):
    """`query-migrate`'s answer."""

    status: str = "none"
    error: str | None = msgspec.field(name="error-desc", default=None)


class _RunState(msgspec.Struct):
    """`query-status`'s answer."""

    status: str


def save_machine(place: Path, nodes: int, into: Path) -> None:
    """Stop the lab in `place` for good and move its memory, devices and disk to the folder `into`.

    Its machine must have been started with `Memory.TO_BE_SAVED`. Raises `HostFailed` if QEMU cannot.
    """
    monitor = place / "qmp.sock"
    qmp.execute(monitor, "stop")
    _leave_memory_out(monitor)
    qmp.execute(monitor, "migrate", {"uri": f"exec:cat > {DEVICES}"})
    _wait_until_saved(monitor)
    # QEMU has written all and let go of its disk; it still has the files open
    (place / DEVICES).rename(into / DEVICES)
    (place / "disk.qcow2").rename(into / STATE_DISK)
    for node in range(nodes):
        (place / memory_file(node)).rename(into / memory_file(node))


def load_devices(place: Path) -> None:
    """Let the QEMU in `place`, started with `Memory.SAVED`, load the state it is waiting for, and run.

    Raises `HostFailed` if it does not: the state is broken, or QEMU is.
    """
    monitor = place / "qmp.sock"
    _leave_memory_out(monitor)
    qmp.execute(monitor, "migrate-incoming", {"uri": f"exec:cat < {DEVICES}"})
    deadline = time.monotonic() + LOAD_TIMEOUT_S
    while _run_state(monitor) == "inmigrate":
        if time.monotonic() > deadline:
            raise HostFailed(f"the saved state was not loaded within {LOAD_TIMEOUT_S} s")
        time.sleep(0.02)
    # it is paused, as it was when it was saved
    qmp.execute(monitor, "cont")


def _leave_memory_out(monitor: Path) -> None:
    """What QEMU saves or loads next is its devices alone: the memory is in files."""
    capability = {"capability": "x-ignore-shared", "state": True}
    qmp.execute(monitor, "migrate-set-capabilities", {"capabilities": [capability]})


def _wait_until_saved(monitor: Path) -> None:
    deadline = time.monotonic() + SAVE_TIMEOUT_S
    while time.monotonic() < deadline:
        now = msgspec.json.decode(qmp.execute(monitor, "query-migrate", timeout_s=60), type=_Migration)
        if now.status == "completed":
            return
        if now.status in ("failed", "cancelled"):
            raise HostFailed(f"the booted machine cannot be saved: {now.error or now.status}")
        time.sleep(0.05)
    raise HostFailed(f"the booted machine was not saved within {SAVE_TIMEOUT_S} s")


def _run_state(monitor: Path) -> str:
    return msgspec.json.decode(qmp.execute(monitor, "query-status", timeout_s=60), type=_RunState).status
