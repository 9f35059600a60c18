"""Saved states: Dom0 just booted, kept as QEMU's migration stream beside what it wrote to its disk.

One for each machine and image. Any number of labs start from it side by side, each with an overlay of its own over the
state's disk, which is itself an overlay over the image's: so a state's disk names its base `image.qcow2`, and every lab
folder has a link of that name.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from domicile.errors import HostFailed
from domicile.lab import folder, qmp
from domicile.lab.cache import cache_folder, ensure_folder, evict, require_space
from domicile.lab.image import Image
from domicile.lab.machine import Machine
from domicile.lab.programs import command_output, require
from domicile.lab.progress import Report
from domicile.lab.qemu import qemu_argv

if TYPE_CHECKING:
    from domicile.lab.lab import Lab

__all__ = ["DISK", "INCOMING", "SavedState", "ensure_state", "make_overlay"]

DISK = "state.qcow2"
MEMORY = "memory.zst"
INCOMING = f"exec:zstd -dcq < {MEMORY}"
NEED_MIB = 700
SAVE_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class SavedState:
    """A state in the cache."""

    folder: Path

    def link_into(self, place: Path) -> None:
        """Make a lab's folder one that can start from this state."""
        (place / DISK).symlink_to(self.folder / DISK)
        (place / MEMORY).symlink_to(self.folder / MEMORY)


class _Migration(msgspec.Struct):
    """`query-migrate`'s answer."""

    status: str = "none"
    error: str | None = msgspec.field(name="error-desc", default=None)


def make_overlay(place: Path, base: str) -> None:
    """`disk.qcow2` in the folder, over a file of that folder."""
    qemu_img = require(["qemu-img"])["qemu-img"]
    argv = [qemu_img, "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, "disk.qcow2"]
    command_output(argv, what="making the lab's disk", cwd=place)


def state_key(image: Image, machine: Machine) -> str:
    """A hash of all that a state fits to: the image, QEMU's version, and QEMU's arguments for the machine."""
    version = command_output([require(["qemu-system-x86_64"])["qemu-system-x86_64"], "--version"], what="asking QEMU")
    arguments = qemu_argv(machine, qemu="qemu", name="any", incoming=INCOMING)
    return hashlib.sha256("\n".join([image.key, version, *arguments]).encode()).hexdigest()[:16]


def ensure_state(image: Image, machine: Machine, machine_name: str, report: Report) -> SavedState:
    """The saved state of a machine, made by booting it once if there is none. Raises `HostFailed` if it cannot be."""
    key = state_key(image, machine)
    made = ensure_folder(
        cache_folder() / "states" / key,
        lambda partial: _make_state(partial, key, image, machine, machine_name, report),
        waiting=lambda: report("waiting for another boot of this machine", 0.0),
    )
    evict({made, image.folder})
    return SavedState(made)


def _make_state(partial: Path, key: str, image: Image, machine: Machine, machine_name: str, report: Report) -> None:
    from domicile.lab.lab import Lab  # noqa: PLC0415 (a lab starts from a state, and a state is made in a lab)

    require_space(partial, NEED_MIB, what="saving the booted machine", instead="DOMICILE_LAB_CACHE")
    place = partial / "lab"
    place.mkdir(mode=0o700)
    record = folder.Record(f"saving-{key}", machine_name, machine, image.key, time.time())
    with Lab.launch(place, record, image, state=None, report=report) as lab:
        report("saving the booted machine", 0.99)
        settle(lab)
        monitor = place / "qmp.sock"
        qmp.execute(monitor, "stop")
        qmp.execute(monitor, "migrate", {"uri": f"exec:zstd -q -3 -T0 > ../{MEMORY}"})
        _wait_for_migration(monitor)
        shutil.copyfile(place / "disk.qcow2", partial / DISK)
    shutil.rmtree(place, ignore_errors=True)


def settle(lab: Lab) -> None:
    """Make Dom0 small and still: caches dropped, everything on the disk."""
    done = lab.run("sync; echo 3 >/proc/sys/vm/drop_caches; echo 1 >/proc/sys/vm/compact_memory; sync")
    if done.returncode:
        raise HostFailed(f"Dom0 does not settle to be saved: {done.stderr.strip()}")


def _wait_for_migration(monitor: Path) -> None:
    deadline = time.monotonic() + SAVE_TIMEOUT_S
    while time.monotonic() < deadline:
        now = msgspec.json.decode(qmp.execute(monitor, "query-migrate", timeout_s=60), type=_Migration)
        if now.status == "completed":
            return
        if now.status in ("failed", "cancelled"):
            raise HostFailed(f"the booted machine cannot be saved: {now.error or now.status}")
        time.sleep(0.1)
    raise HostFailed(f"the booted machine was not saved within {SAVE_TIMEOUT_S} s")
