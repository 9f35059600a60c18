"""What is left of the boot: proximity domains, by which Xen names nodes on its command line."""

import os
from contextlib import suppress
from typing import Any, Dict

from domicile.hosts.xen.dom0.agent.console import Console
from domicile.hosts.xen.dom0.agent.shelf import Shelf
from domicile.hosts.xen.dom0.files import read_text, readable, write

SRAT = os.environ.get("DOMICILE_SRAT", "/sys/firmware/acpi/tables/SRAT")


def boot_log(console: Console, shelf: Shelf) -> Dict[str, Any]:
    """The lines of Xen's console that name proximity domains, kept on file because the ring forgets them, and the
    SRAT, which a PV Dom0 sees."""
    srat = b""
    with suppress(OSError), open(SRAT, "rb") as file:
        srat = file.read()
    path = shelf.path("boot-log")
    kept = read_text(path)
    if not kept:
        kept = "\n".join(line for line in readable(console.text()).split("\n") if " PXM " in line)
        if kept:
            write(path, kept + "\n")
    return {"text": kept, "srat": "".join("%02x" % byte for byte in srat)}
