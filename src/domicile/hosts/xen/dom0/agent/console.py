"""Xen's console ring, and debug keys, which write to it."""

from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.agent.xen import Xen

DUMP_S = 120.0


class Console:
    """The console, by way of the binding where there is one."""

    def __init__(self, xen: Xen) -> None:
        self.xen = xen

    def text(self) -> bytes:
        """Xen's console ring."""
        if self.xen.xc is not None:
            return bytes(self.xen.xc.readconsolering())
        done = self.xen.xl.run([["dmesg"]], DUMP_S)[0]
        if done.status != 0:
            raise Problem("failed", "xl dmesg failed", done.err)
        return done.out.encode("utf-8", "surrogateescape")

    def press(self, key: str) -> None:
        """Press a debug key."""
        if self.xen.xc is not None:
            self.xen.xc.send_debug_keys(key)
        else:
            self.xen.xl.ask(["debug-keys", key])

    @property
    def written_behind(self) -> bool:
        """Whether Xen may still be writing once the key is pressed: through `xl` it takes long enough."""
        return self.xen.xc is not None
