"""What Xen and xenstore tell the mover, and the little that is asked of them without `xl`."""

from typing import List

from domicile.hosts.xen.dom0.bindings import (
    BUFFER,
    connect_xc,
    connect_xs,
    domain_rows,
    find_bindings,
    open_libxenctrl,
)
from domicile.hosts.xen.dom0.mover.stop import Stop
from domicile.hosts.xen.dom0.row import Row


class Xen:
    """Xen by way of its bindings, without which nothing is moved."""

    def __init__(self) -> None:
        find_bindings()
        self.xc = connect_xc()
        self.xs = connect_xs()

    def rows(self, uuid: str) -> List[Row]:
        """The living domains of this UUID: two of them while one is being received."""
        return [row for row in domain_rows(self.xc, self.xs) if row.uuid == uuid and not row.dying]

    def resume(self, domid: int) -> None:
        """Let a domain run on that was suspended and not saved (libxl__domain_resume: cooperatively)."""
        self.xc.domain_resume(domid, 1)
        self.xs.resume_domain(domid)

    def set_nodes(self, domid: int, nodes: List[int]) -> None:
        """Where its new memory is to come from: what is there already stays."""
        import ctypes  # noqa: PLC0415

        library, handle = open_libxenctrl()
        if not handle:
            raise Stop("failed", "libxenctrl cannot reach Xen")
        library.xc_domain_node_setaffinity.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_char_p]
        bits = sum(1 << node for node in nodes).to_bytes(BUFFER, "little")
        status = library.xc_domain_node_setaffinity(handle, domid, ctypes.create_string_buffer(bits, BUFFER))
        library.xc_interface_close(handle)
        if status != 0:
            raise Stop("failed", "Xen does not take the nodes %s" % nodes)
