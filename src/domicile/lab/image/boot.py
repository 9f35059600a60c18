"""What the machine boots from the outside: Xen unpacked, and an initramfs."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

from domicile.errors import HostFailed
from domicile.lab.guests.cpio import Directory, Entry, File, Link, archive
from domicile.lab.image.recipe import INITRAMFS_MODULES

__all__ = ["initramfs", "modules_in_order", "unpacked_xen"]


def unpacked_xen(gzipped: bytes) -> bytes:
    """The multiboot ELF in `xen-*.gz`: QEMU's `-kernel` takes no packed one."""
    return gzip.decompress(gzipped)


def modules_in_order(modules_dep: str, wanted: tuple[str, ...]) -> list[str]:
    """Paths (below `/lib/modules/VERSION/`) of modules and all they depend on, each after its dependencies.

    `modules_dep` is depmod's `modules.dep`: `module: dependency...`, where a dependency further to the right is to be
    loaded earlier.
    """
    dependencies: dict[str, list[str]] = {}
    for line in modules_dep.splitlines():
        path, _, rest = line.partition(":")
        dependencies[path.strip()] = rest.split()
    by_name = {Path(path).name.split(".")[0].replace("-", "_"): path for path in dependencies}

    ordered: list[str] = []
    for name in wanted:
        if name not in by_name:
            raise HostFailed(f"Debian's kernel has no module {name}, which Dom0 boots with")
        for path in (*reversed(dependencies[by_name[name]]), by_name[name]):
            if path not in ordered:
                ordered.append(path)
    return ordered


def initramfs(tree: Path, modules: Path, init: bytes) -> bytes:
    """Dom0's initramfs out of the unpacked tree: busybox, the modules of its disk and `init`."""
    order = modules_in_order((modules / "modules.dep").read_text(), INITRAMFS_MODULES)
    names = [Path(path).name for path in order]
    entries: list[Entry] = [Directory(name) for name in ("bin", "dev", "proc", "sys", "root", "modules")]
    entries += [File(f"modules/{name}", (modules / path).read_bytes()) for name, path in zip(names, order, strict=True)]
    entries.append(File("modules/order", "".join(f"{name}\n" for name in names).encode()))
    entries += _busybox(tree)
    entries.append(File("init", init, executable=True))
    return archive(entries)


def _busybox(tree: Path) -> Iterator[Entry]:
    """Busybox, and a link by name for each command that init uses."""
    yield File("bin/busybox", (tree / "usr/bin/busybox").read_bytes(), executable=True)
    for applet in ("sh", "mount", "insmod", "usleep", "reboot", "switch_root"):
        yield Link(f"bin/{applet}", "busybox")
