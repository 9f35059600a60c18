"""From an empty folder to a Dom0 that lets us in."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from domicile.errors import BadInput, HostFailed
from domicile.lab import folder, qmp
from domicile.lab.booting import ended_why, require_alive, wait_for_boot
from domicile.lab.cache import locked
from domicile.lab.image import Image
from domicile.lab.machine import Machine, available_memory_mib
from domicile.lab.programs import RUNNING, command_output, require
from domicile.lab.progress import Report
from domicile.lab.qemu import Memory, qemu_argv
from domicile.lab.saved import STATE_DISK, SavedState, load_devices
from domicile.lab.ssh import CONNECT_TIMEOUT_S, run_in_dom0

__all__ = ["launch", "new_folder", "require_memory", "require_not_running", "wait_for_ssh"]

MONITOR_TIMEOUT_S = 60
GREETING_TIMEOUT_S = 180
QEMU_OWN_MIB = 512
"""What QEMU takes beside the machine's memory: translated code, mostly."""
FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\S+\s+127\.0\.0\.1\s+(\d+)\s")


def require_memory(machine: Machine) -> None:
    """What Xen and Dom0 will certainly use has to be there; guests take more as they touch it. Raises `HostFailed`."""
    available = available_memory_mib()
    need = machine.dom0.memory_mib + QEMU_OWN_MIB
    if available is not None and available < need:
        raise HostFailed(
            f"a lab with {machine.dom0.memory_mib} MiB for Dom0 needs {need} MiB of memory, and {available} MiB "
            f"are free: end other labs (`domicile lab status`) or programs, or give Dom0 less in the machine file"
        )


def require_not_running(name: str) -> None:
    """Raises `BadInput` if a lab of that name runs."""
    if folder.is_running(folder.lab_folder(name)):
        raise BadInput(name, f"a lab of that name is running; `domicile lab down {name}` ends it, or give another name")


def new_folder(name: str) -> Path:
    """An empty folder for a new lab; what is left of an old one of that name is cleared away."""
    place = folder.lab_folder(name)
    with locked(folder.state_folder() / "lock"):
        require_not_running(name)
        if place.exists():
            shutil.rmtree(place)
        place.mkdir(parents=True, mode=0o700)
    return place


def launch(
    place: Path,
    record: folder.Record,
    image: Image,
    *,
    memory: Memory = Memory.ANONYMOUS,
    state: SavedState | None = None,
    plugins: Sequence[str] = (),
    report: Report,
) -> tuple[folder.Record, int]:
    """Start QEMU in an empty folder, from a state or by booting, and wait until Dom0 lets us in.

    Returns the record with the port, and the keeper's pipe. Raises `HostFailed`, naming the log; the folder is gone
    then.
    """
    pipe = None
    try:
        _fill(place, image, state)
        argv = qemu_argv(
            record.machine,
            qemu=require(RUNNING)["qemu-system-x86_64"],
            name=record.name,
            memory=memory if state is None else Memory.SAVED,
            plugins=[_absolute(plugin) for plugin in plugins],
        )
        folder.write_record(place, record)
        pipe = folder.launch(place, argv)
        return _bring_up(place, record, state, report), pipe
    except HostFailed as error:
        log = folder.keep_log(place, record.name)
        folder.stop(place, pipe)
        raise HostFailed(f"{error}; what it said is in {log}") from error
    except BaseException:
        folder.stop(place, pipe)
        raise


def _fill(place: Path, image: Image, state: SavedState | None) -> None:
    """What QEMU wants to find in the folder: links into image and state, an overlay for the disk, the keys."""
    for file in (image.xen, image.kernel, image.initramfs):
        (place / file.name).symlink_to(file)
    (place / "image.qcow2").symlink_to(image.disk)
    if state is not None:
        state.link_into(place)
    for secret in (image.user_key, image.known_hosts):
        shutil.copyfile(secret, place / secret.name)
        (place / secret.name).chmod(0o600)
    base = "image.qcow2" if state is None else STATE_DISK
    overlay = [
        require(["qemu-img"])["qemu-img"],
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        base,
        "disk.qcow2",
    ]
    command_output(overlay, what="making the lab's disk", cwd=place)


def _absolute(plugin: str) -> str:
    """A `-plugin` value with its file's path made absolute: QEMU runs in the lab's folder."""
    path, comma, arguments = plugin.partition(",")
    return str(Path(path).absolute()) + comma + arguments


def _bring_up(place: Path, record: folder.Record, state: SavedState | None, report: Report) -> folder.Record:
    """Wait for QEMU, let it load or boot, find the port and get in; returns the record with the port."""
    _wait_for_monitor(place)
    if state is not None:
        _load(place, state)
    record = msgspec.structs.replace(record, ssh_port=_find_port(place))
    if state is None:
        wait_for_boot(place, 0, report)
    wait_for_ssh(place, record)
    folder.write_record(place, record)
    return record


def _wait_for_monitor(place: Path) -> None:
    deadline = time.monotonic() + MONITOR_TIMEOUT_S
    while True:
        require_alive(place)
        try:
            qmp.execute(place / "qmp.sock", "query-status")
        except HostFailed:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _load(place: Path, state: SavedState) -> None:
    try:
        load_devices(place)
    except HostFailed as error:
        state.discard()
        why = ended_why(place) or str(error)
        raise HostFailed(
            f"the saved state was broken and is removed, the next start makes a new one ({why})"
        ) from error


def _find_port(place: Path) -> int:
    """The port that QEMU took for the way to Dom0's sshd."""
    found = FORWARD.search(qmp.monitor_command(place / "qmp.sock", "info usernet"))
    if not found:
        raise HostFailed("QEMU does not say which port leads to Dom0")
    return int(found[1])


def wait_for_ssh(place: Path, record: folder.Record) -> None:
    """Wait until sshd lets us in, and set the clock: a saved state's stands where it was saved."""
    deadline = time.monotonic() + GREETING_TIMEOUT_S
    while True:
        command = ["date", "-u", "-s", f"@{time.time():.0f}"]
        try:
            done = run_in_dom0(
                place, record.ssh_port, command, given=b"", timeout_s=CONNECT_TIMEOUT_S, name=record.name
            )
        except HostFailed:
            require_alive(place)
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            break
    if done.returncode:
        raise HostFailed(f"Dom0's clock cannot be set: {done.stderr.strip()}")
