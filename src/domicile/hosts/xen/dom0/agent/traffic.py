"""Memory traffic of domains, on processors that count it (Intel's Memory Bandwidth Monitoring, from Broadwell on).

Xen gives a domain a number (RMID) by which each socket counts what its vCPUs read and write; it has only so many, and a
domain has none before somebody asks for it (`xl psr-cmt-attach`). Xen has to be booted with `psr=cmt`.

Sources: tools/libs/ctrl/xc_psr.c and docs/misc/xl-psr.pandoc of Xen 4.17 (the functions are the same since 4.6); Intel
SDM volume 3B, "Memory Bandwidth Monitoring": counters of 24 bits or more, in units that CPUID tells.

AMD's from Zen 2 on say by the same bits that they count, and Xen does not ask who made them (xen/arch/x86/psr.c, 4.17).
They count for each last-level cache (AMD64 Architecture Programmer's Manual, volume 2, "Platform Quality of Service"),
and a socket has several; Dom0 is not told which CPUs share one: a part would pass for all, so none is counted.
"""

import ctypes
from typing import Any, Dict, Iterable, List, Optional, Tuple

from domicile.hosts.xen.dom0.agent.direct import Direct

TOTAL = 1
"""XC_PSR_CMT_TOTAL_MEM_COUNT: what goes to the socket's own memory and to that of others."""
TELLS_TOTAL = 2
"""The bit of the event mask that stands for it."""
WRAPS = 1 << 24

Counter = Tuple[int, int, int]
"""A domain, its number, and a CPU of the socket."""

BY_SOCKET = "GenuineIntel"
"""Whose processors count so that one CPU of a socket tells what all of it did."""


def made_by(cpuinfo: str = "/proc/cpuinfo") -> str:
    """Who made the processors, as CPUID tells; "" if it is not said."""
    with open(cpuinfo, encoding="ascii", errors="replace") as lines:
        return next((line.split()[-1] for line in lines if line.startswith("vendor_id")), "")


class Traffic:
    """Counts, for as long as the process lives: bytes by domain since it was first seen to be counted."""

    def __init__(self, direct: Direct, maker: str) -> None:
        self.library, self.handle = direct.library, ctypes.c_void_p(direct.handle)
        self.numbers, self.unit = 0, 0
        self.cpus: List[int] = []
        self.seen: Dict[Counter, int] = {}
        self.bytes: Dict[int, int] = {}
        if maker == BY_SOCKET and self.ask("get_l3_event_mask") & TELLS_TOTAL:
            self.numbers = self.ask("get_total_rmid")
            self.unit = self.ask("get_l3_upscaling_factor")
            sockets = direct.xc.topologyinfo()["cpu_to_socket"]
            # any CPU of each socket; one that is offline has none
            self.cpus = sorted({socket: cpu for cpu, socket in enumerate(sockets) if socket is not None}.values())

    def read(self, domids: Iterable[int], begin: bool) -> Dict[int, int]:
        """Bytes by domain, of those that are counted. `begin`: begin with the others, as far as there are numbers."""
        if not self.unit:
            return {}
        numbers = {domid: self.ask("get_domain_rmid", domid) for domid in domids}
        if begin:
            free = max(self.numbers - sum(number > 0 for number in numbers.values()), 0)
            for domid in [domid for domid, number in numbers.items() if not number][:free]:
                self.call("attach", ctypes.c_uint32(domid))
                numbers[domid] = self.ask("get_domain_rmid", domid)
        seen, before = self.seen, self.bytes
        self.seen, self.bytes = {}, {}
        for domid, number in numbers.items():
            if number:
                units = sum(self.since(seen, (domid, number, cpu)) for cpu in self.cpus)
                self.bytes[domid] = before.get(domid, 0) + units * self.unit
        return self.bytes

    def since(self, seen: Dict[Counter, int], counter: Counter) -> int:
        """Units counted since the last look, 0 at the first."""
        now, was = self.count(counter[1], counter[2]), seen.get(counter)
        last = was if now is None else now
        if last is None:
            return 0
        self.seen[counter] = last
        if was is None:
            return 0
        # those of more than 24 bits hardly ever wrap
        return last - was if last >= was else (last - was) % WRAPS

    def count(self, number: int, cpu: int) -> Optional[int]:
        """A counter as it is; None where the hardware cannot tell at the moment."""
        found = ctypes.c_uint64()
        which = [ctypes.c_uint32(each) for each in (number, cpu, TOTAL)]
        return None if self.call("get_data", *which, ctypes.byref(found), None) else found.value

    def ask(self, what: str, *domids: int) -> int:
        """A number that Xen tells; 0 where it does not."""
        found = ctypes.c_uint32()
        failed = self.call(what, *[ctypes.c_uint32(domid) for domid in domids], ctypes.byref(found))
        return 0 if failed else found.value

    def call(self, what: str, *arguments: Any) -> int:
        """A function of libxenctrl, 0 if it worked. One that is not there does not."""
        function = getattr(self.library, "xc_psr_cmt_" + what, None)
        return -1 if function is None else int(function(self.handle, *arguments))
