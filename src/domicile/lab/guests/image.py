"""Make the tiny guests' kernel and initramfs, for Dom0's /var/lib/domicile/guests/.

The kernel is Debian's own: consoles, xenbus and the balloon are built into it (Debian 12, config-6.1: HVC_XEN,
XEN_XENBUS_FRONTEND, XEN_BALLOON = y), so the initramfs needs no modules. One kernel and one initramfs serve PV, PVH and
HVM guests. For PV and PVH the kernel is there unpacked too: `xl` would unpack it at each start, which takes most of the
time that a start takes under emulation.
"""

from __future__ import annotations

import shutil
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

from domicile.errors import BadInput, HostFailed
from domicile.lab.guests.compiler import compile_c
from domicile.lab.guests.cpio import Directory, Entry, File, Link, archive
from domicile.lab.guests.kernel import unpacked_kernel

__all__ = ["INITRD_NAME", "KERNEL_NAME", "PACKED_KERNEL_NAME", "build", "find_busybox", "initramfs"]

KERNEL_NAME = "vmlinux"
PACKED_KERNEL_NAME = "vmlinuz"
INITRD_NAME = "initrd.cpio"

APPLETS = (
    "awk",
    "cat",
    "date",
    "dmesg",
    "echo",
    "grep",
    "kill",
    "killall",
    "ls",
    "mkdir",
    "mkfifo",
    "mount",
    "nproc",
    "ps",
    "rm",
    "sh",
    "sleep",
    "uname",
)
"""What init.sh calls, and little enough for somebody at the console."""

COMPILE_OPTIONS = (
    "-O2",
    "-std=gnu11",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-stack-protector",
    "-fcf-protection=none",
    "-fno-pie",
    "-no-pie",
    "-nostdlib",
    "-static",
    "-Wl,--build-id=none",
    "-Wl,-s",
)

# orderly_poweroff() and orderly_reboot() of Linux call these when `xl shutdown` or `xl reboot` asks
POWER = {
    "poweroff": b"#!/bin/sh\nexec /bin/busybox poweroff -f\n",
    "reboot": b"#!/bin/sh\nexec /bin/busybox reboot -f\n",
}


def build(into: Path, kernel: Path, *, busybox: Path | None = None) -> None:
    """Put `vmlinuz`, `vmlinux` and `initrd.cpio` into the folder `into`, which is made if need be.

    `kernel` is a Debian vmlinuz. `busybox` is a static busybox (busybox-static), by default the one of the tree that
    the kernel lies in (`TREE/boot/vmlinuz`), else of this machine. Raises `BadInput` for a busybox that is none,
    `HostFailed` for a kernel that is none, without a busybox or without a C compiler.
    """
    unpacked = unpacked_kernel(kernel.read_bytes())
    content = initramfs(busybox or find_busybox(kernel.absolute().parent.parent))
    into.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kernel, into / PACKED_KERNEL_NAME)
    (into / KERNEL_NAME).write_bytes(unpacked)
    (into / INITRD_NAME).write_bytes(content)


def initramfs(busybox: Path) -> bytes:
    """The guest's whole file system as a cpio archive: the same busybox and compiler give the same bytes."""
    content = busybox.read_bytes()
    if not _is_static_program(content):
        raise BadInput(str(busybox), "no statically linked busybox; Debian's package is busybox-static")
    here = files("domicile.lab.guests")
    with tempfile.TemporaryDirectory(prefix="domicile-guest-") as work, as_file(here / "guest.c") as source:
        program = Path(work) / "domicile-guest"
        compile_c(source, program, COMPILE_OPTIONS)
        guest = program.read_bytes()
    entries: list[Entry] = [Directory(path) for path in ("bin", "dev", "proc", "run", "sbin", "sys")]
    entries.append(File("init", (here / "init.sh").read_bytes(), executable=True))
    entries.append(File("bin/busybox", content, executable=True))
    entries.append(File("bin/domicile-guest", guest, executable=True))
    # a name of its own, so that `killall load` ends the loads and nothing else
    entries.append(Link("bin/load", "domicile-guest"))
    entries.extend(Link(f"bin/{applet}", "busybox") for applet in APPLETS)
    entries.extend(File(f"sbin/{name}", script, executable=True) for name, script in POWER.items())
    return archive(entries)


def find_busybox(tree: Path) -> Path:
    """The static busybox of a Debian tree, else of this machine. Raises `HostFailed` if there is none."""
    for folder in (tree / "usr/bin", tree / "bin", Path("/bin"), Path("/usr/bin"), Path("/usr/local/bin")):
        candidate = folder / "busybox"
        if candidate.is_file() and _is_static_program(candidate.read_bytes()):
            return candidate
    raise HostFailed("no static busybox here, and the lab's guests need one: apt-get install busybox-static")


def _is_static_program(content: bytes) -> bool:
    """Whether these bytes are an x86-64 ELF program that asks for no dynamic linker (ELF: PT_INTERP = 3)."""
    if content[:5] != b"\x7fELF\x02" or content[18:20] != b"\x3e\x00":
        return False
    first = int.from_bytes(content[32:40], "little")
    size, count = (int.from_bytes(content[at : at + 2], "little") for at in (54, 56))
    types = (content[first + size * index :][:4] for index in range(count))
    return all(int.from_bytes(kind, "little") != 3 for kind in types)
