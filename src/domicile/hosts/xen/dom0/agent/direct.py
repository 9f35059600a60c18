"""Xen asked without `xl`, by way of its Python bindings and libxenctrl.

Sources: tools/xl/xl_info.c, xl_vcpu.c and xl_cpupool.c, tools/python/xen/lowlevel/xc/xc.c, all of Xen 4.17.
"""

import re
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List, Optional, Tuple

from domicile.hosts.xen.dom0.agent.devices import pci_devices
from domicile.hosts.xen.dom0.agent.id_sets import ids_from, set_text
from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.bindings import (
    BUFFER,
    connect_xs,
    domain_infos,
    domain_rows,
    open_libxenctrl,
    read_store,
    xen_version,
)
from domicile.hosts.xen.dom0.row import Row

SCHEDULERS = {4: "sedf", 5: "credit", 6: "credit2", 7: "arinc653", 8: "rtds", 9: "null"}
LIBXENCTRL_VERSIONS = ["4.%d" % minor for minor in range(5, 22)]
"""The Xen versions in whose tools/include/xenctrl.h the functions used were found, all with one and the same form."""


class Direct:
    """Xen asked without `xl`: the tables that `xl` would print, and the figures that it does not.

    Soft affinity and node affinity are not in the bindings: they are asked of libxenctrl. The functions used take sets
    of bits (and a pair of 16-bit numbers), and are the same in all of LIBXENCTRL_VERSIONS. That they are understood
    right is checked with each vCPU, whose hard affinity the binding tells too.
    """

    def __init__(self, xc: Any) -> None:
        import ctypes  # noqa: PLC0415  (dear to import, and not always needed)

        version = xen_version()
        if version not in LIBXENCTRL_VERSIONS:
            raise ValueError("libxenctrl of Xen %s is not known" % version)
        self.xc = xc
        self.store = connect_xs()
        self.library, self.handle = open_libxenctrl()
        self.library.xc_vcpu_getaffinity.argtypes = [
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_uint32,
        ]
        self.library.xc_vcpu_setaffinity.argtypes = self.library.xc_vcpu_getaffinity.argtypes
        self.library.xc_domain_node_getaffinity.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_char_p]
        if not self.handle:
            raise ValueError("libxenctrl cannot reach Xen")
        self.buffer = ctypes.create_string_buffer
        self.hard, self.soft = self.buffer(BUFFER), self.buffer(BUFFER)

    def read(self, path: str) -> Optional[str]:
        """A value in xenstore, None if it is not there."""
        return read_store(self.store, path)

    def domains(self) -> List[Dict[str, Any]]:
        """All domains, with their names."""
        return domain_infos(self.xc, self.store)

    def rows(self) -> List[Row]:
        """The domains, as `xl list -v` would show them."""
        return domain_rows(self.xc, self.store)

    def cpus(self) -> int:
        """How many ids of pCPUs there are."""
        return len(self.xc.topologyinfo()["cpu_to_core"])

    def nodes_of(self, domid: int) -> int:
        """Node affinity."""
        if self.library.xc_domain_node_getaffinity(self.handle, domid, self.hard) != 0:
            return 0
        return int.from_bytes(self.hard.raw, "little")

    def vcpu(self, domid: int, vcpu: int) -> Tuple[Dict[str, Any], int, int]:
        """What the binding tells, hard affinity, soft affinity."""
        info = self.xc.vcpu_getinfo(domid, vcpu)
        if self.library.xc_vcpu_getaffinity(self.handle, domid, vcpu, self.hard, self.soft, 3) != 0:
            raise OSError("vCPU %d of domain %d is gone" % (vcpu, domid))
        hard, soft = int.from_bytes(self.hard.raw, "little"), int.from_bytes(self.soft.raw, "little")
        if hard != sum(1 << cpu for cpu in info["cpumap"]):
            raise ValueError("libxenctrl is not what it was taken for")
        return info, hard, soft

    def pin(self, domid: int, vcpu: int, hard: str, soft: str) -> None:
        """`xl vcpu-pin`: "-" leaves that kind as it is."""
        flags, sets = 0, []
        for flag, text in ((1, hard), (2, soft)):
            # buffers of their own: of those that are read the library fills no more than Xen has CPUs
            sets.append(self.buffer(BUFFER))
            if text != "-":
                flags |= flag
                sets[-1].raw = ids_from(text).to_bytes(BUFFER, "little")
        if self.library.xc_vcpu_setaffinity(self.handle, domid, vcpu, sets[0], sets[1], flags) != 0:
            raise Problem("failed", "Xen does not take CPUs %s / %s for vCPU %d" % (hard, soft, vcpu))

    def tables(self, claims: Callable[[], Tuple[str, Dict[int, int]]]) -> Dict[str, Any]:
        """`xl list -v -c -n`, `xl vcpu-list`, `xl cpupool-list -c`, `xl cpupool-list`, and what `xl` does not tell."""
        cpus = self.cpus()
        nodes = len(self.xc.numainfo()["node_memsize"])
        pools = {pool["cpupool"]: pool for pool in self.xc.cpupool_getinfo()}
        for number, pool in pools.items():
            pool["name"] = self.read("/local/pool/%d/name" % number) or ("Pool-0" if number == 0 else "(null)")
        infos = self.domains()
        # the binding tells nothing of claims, but only a domain that is being built has one, and that is paused
        claims_table, claimed = claims() if any(info["paused"] for info in infos) else ("", {})
        taken_at = time.time()
        listed = ["Name ID Mem VCPUs State Time(s) UUID Reason-Code Security-Label Cpupool NODE-Affinity"]
        vcpus = ["Name ID VCPU CPU State Time(s) Affinity (Hard / Soft)"]
        times: Dict[int, List[int]] = {}
        weights: Dict[int, Dict[str, int]] = {}
        targets: Dict[int, int] = {}
        starts: Dict[int, float] = {}
        for info in infos:
            domid, pool = info["domid"], pools.get(info["cpupool"], {"name": "(null)", "sched": 0})
            with suppress(Exception):  # no figure there, or none yet
                targets[domid] = self.target_kb(domid)
            with suppress(Exception):
                starts[domid] = self.started_at(domid)
            listed.append(
                "%-40s %5d %5d %5d     %s  %8.1f %s %8s %16s%16s %s"
                % (
                    info["name"],
                    domid,
                    info["mem_kb"] // 1024 + claimed.get(domid, 0),
                    info["online_vcpus"],
                    info["state"],
                    info["cpu_time"] / 1e9,
                    info["uuid"],
                    "-" if info["reason"] is None else "%x" % info["reason"],
                    "-",
                    pool["name"],
                    set_text(self.nodes_of(domid), nodes),
                )
            )
            try:
                found = [self.vcpu(domid, vcpu) for vcpu in range(info["max_vcpu_id"] + 1)]
                parameters = self.parameters(domid, pool["sched"])
            except ValueError:
                raise
            except Exception:  # noqa: S112  (xc.Error: it ended meanwhile, or has no vCPUs yet)
                continue
            times[domid] = [vcpu["cpu_time"] for vcpu, _, _ in found]
            if parameters:
                weights[domid] = parameters
            for number, (vcpu, hard, soft) in enumerate(found):
                state = ("r" if vcpu["running"] else "-") + ("b" if vcpu["blocked"] else "-") + "-"
                vcpus.append(
                    "%-32s %5d %5d %5s   %s %9.1f  %s / %s"
                    % (
                        info["name"],
                        domid,
                        number,
                        vcpu["cpu"] if vcpu["online"] else "-",
                        state if vcpu["online"] else "--p",
                        vcpu["cpu_time"] / 1e9,
                        set_text(hard, cpus),
                        set_text(soft, cpus),
                    )
                )
        return {
            "domains": "\n".join(listed),
            "vcpus": "\n".join(vcpus),
            "cpupools": "\n".join(["Name CPU list"] + [pool_cpus(pool) for pool in pools.values()]),
            "schedulers": "\n".join(
                ["Name CPUs Sched Active Domain count"] + [pool_kind(pool) for pool in pools.values()]
            ),
            "taken_at": taken_at,
            "claims": claims_table,
            "claimed": claimed,
            "measured": {
                "pcpu_idle_ns": [cpu["idletime"] for cpu in self.xc.getcpuinfo(cpus)],
                "vcpu_time_ns": times,
                "weights": weights,
                "target_kb": targets,
                "started_at": starts,
            },
        }

    def target_kb(self, domid: int) -> int:
        """What the balloon driver is to bring the domain to. libxl takes the video memory out of what it writes there
        (libxl_set_memory_target, tools/libs/light/libxl_mem.c), while Xen counts it as the domain's."""
        memory = "/local/domain/%d/memory/" % domid
        return int(self.read(memory + "target") or "") + max(int(self.read(memory + "videoram") or 0), 0)

    def started_at(self, domid: int) -> float:
        """When libxl built the domain, by Dom0's clock (libxl__domain_build, tools/libs/light/libxl_create.c)."""
        return float(self.read((self.read("/local/domain/%d/vm" % domid) or "") + "/start_time") or "")

    def parameters(self, domid: int, scheduler: int) -> Dict[str, int]:
        """Weight and cap, where the scheduler has them: two 16-bit numbers (the cap is credit2's only since 4.10).

        The binding's own function for credit2 always fails in 4.17 (SystemError: Bad dict format).
        """
        name = SCHEDULERS.get(scheduler)
        if name not in ("credit", "credit2"):
            return {}
        pair = self.buffer(64)
        getter = getattr(self.library, "xc_sched_%s_domain_get" % name)
        getter.argtypes = self.library.xc_domain_node_getaffinity.argtypes
        if getter(self.handle, domid, pair) != 0:
            return {}
        return {"weight": int.from_bytes(pair.raw[:2], "little"), "cap": int.from_bytes(pair.raw[2:4], "little")}

    def machine(self) -> str:
        """What `xl info -n` says that does not change while it stays the same."""
        numa = self.xc.numainfo()
        return repr([self.xc.topologyinfo(), numa["node_memsize"], numa["node_to_node_dist"], pci_devices()])

    def refreshed(self, info: str, claimed_mib: int) -> str:
        """An `xl info -n` of the same machine with the memory that is free now."""
        head, numa, tail = info.partition("\nnuma_info ")
        free = self.xc.numainfo()["node_memfree"]
        # claims were asked for a moment ago: what guests being built took out of them since is missing from both
        total = max(self.xc.physinfo()["free_memory"] // 1024 - claimed_mib, 0)
        head = re.sub(r"^(free_memory +: )\d+", lambda row: row.group(1) + str(total), head, flags=re.MULTILINE)
        head = re.sub(
            r"^(outstanding_claims +: )\d+", lambda row: row.group(1) + str(claimed_mib), head, flags=re.MULTILINE
        )

        def row(match: Any) -> str:
            return "%s     %6d" % (match.group(1), free[int(match.group(2))])

        return head + numa + re.sub(r"^( *(\d+): +\d+) +\d+\b", row, tail, flags=re.MULTILINE)


def pool_cpus(pool: Dict[str, Any]) -> str:
    """A row of `xl cpupool-list -c`."""
    return "%-19s%s" % (pool["name"], ",".join(map(str, pool["cpulist"])))


def pool_kind(pool: Dict[str, Any]) -> str:
    """A row of `xl cpupool-list`."""
    form = "%-19s%3d %9s       y       %4d"
    return form % (pool["name"], len(pool["cpulist"]), SCHEDULERS.get(pool["sched"], "unknown"), pool["n_dom"])
