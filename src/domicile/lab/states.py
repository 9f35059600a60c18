"""The saved state of a machine: made once by booting it, for each machine and image, and kept in the cache."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from domicile.errors import HostFailed
from domicile.lab import folder
from domicile.lab.cache import cache_folder, ensure_folder, evict, require_space
from domicile.lab.image import Image
from domicile.lab.machine import Machine
from domicile.lab.programs import command_output, require
from domicile.lab.progress import Report
from domicile.lab.qemu import Memory, memory_file, qemu_argv
from domicile.lab.saved import SavedState, save_machine
from domicile.lab.ssh import close_connection, run_in_dom0
from domicile.lab.starting import launch

__all__ = ["ensure_state", "state_key"]

NEED_MIB = 1200
"""Dom0's memory with what Xen uses, before holes are made in it."""

SETTLE = """
set -e
sync
echo 3 >/proc/sys/vm/drop_caches
# what was used and is free again becomes zeros, and so a hole in the saved memory
free=$(awk '/^MemFree:/ { print int($2 / 1024) }' /proc/meminfo)
mount -t tmpfs -o size=100% zeros /mnt
dd if=/dev/zero of=/mnt/zeros bs=1M count=$((free - 48)) status=none
umount /mnt
# what the first commands need is in memory then
xl info -n >/dev/null
xl list >/dev/null
python3 -c 'import ctypes, json, subprocess'
sync
"""


def state_key(image: Image, machine: Machine) -> str:
    """A hash of all that a state fits to: the image, how it is saved, QEMU's version and arguments for the machine."""
    version = command_output([require(["qemu-system-x86_64"])["qemu-system-x86_64"], "--version"], what="asking QEMU")
    arguments = qemu_argv(machine, qemu="qemu", name="any", memory=Memory.SAVED)
    return hashlib.sha256("\n".join([image.key, SETTLE, version, *arguments]).encode()).hexdigest()[:16]


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
    require_space(partial, NEED_MIB, what="saving the booted machine", instead="DOMICILE_LAB_CACHE")
    place = partial / "lab"
    place.mkdir(mode=0o700)
    record = folder.Record(f"saving-{key}", machine_name, machine, image.key, time.time())
    record, pipe = launch(place, record, image, memory=Memory.TO_BE_SAVED, report=report)
    try:
        report("saving the booted machine", 0.99)
        settled = run_in_dom0(place, record.ssh_port, SETTLE, given=b"", timeout_s=300, name=record.name)
        if settled.returncode:
            raise HostFailed(f"Dom0 cannot be made ready to be saved: {settled.stderr.strip()}")
        close_connection(place)
        time.sleep(2)  # sshd's child goes; one that is saved would wait for us in every lab
        save_machine(place, len(machine.nodes), partial)
    finally:
        folder.stop(place, pipe)
    for node in range(len(machine.nodes)):
        _make_holes(partial / memory_file(node))


def _make_holes(file: Path) -> None:
    """Give back what a file takes on the disk for zeros. A copy is many times quicker than holes made in place."""
    copy = file.with_suffix(".copy")
    argv = [require(["cp"])["cp"], "--sparse=always", str(file), str(copy)]
    command_output(argv, what="making holes in the saved memory")
    copy.replace(file)
