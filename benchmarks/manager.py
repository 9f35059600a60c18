"""What the manager itself takes: `domicile run` on a host of 8 nodes and 200 domains, a round every 5 s.

The host answers as a Dom0's agent does (tables as text, JSON), and the manager decodes, folds, decides and journals as
always; what the agent takes in Dom0 is not in it.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.timing import Found, peak_mib
from domicile.hosts.protocol import no_progress
from domicile.hosts.xen.boot_log import BootLog
from domicile.hosts.xen.host import XenHost
from domicile.local.supervisor import Supervisor
from domicile.manager.balance import LOOKS, Balancer
from domicile.manager.daemon import Daemon, calm_collector
from domicile.manager.journal import Journal
from domicile.manager.signals import Told
from domicile.state.mandate import Mandate
from domicile.state.request import Intent

__all__ = ["TITLE", "measure"]

TITLE = "the manager's own use, 200 domains on 8 nodes"
NODES, CPUS_PER_NODE, DOMAINS, VCPUS, NODE_MIB = 8, 16, 200, 4, 131072
INTERVAL_S, ROUNDS = 5.0, 24
PAGES = 1024 * 256


class TableChannel:
    """A Dom0 whose guests run where they are at home, but for one in twenty vCPUs, which are elsewhere for a while."""

    via = "a benchmark"
    measures = True
    lease_s = 1e6

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.own_s = 0.0
        """CPU time that went into being a Dom0."""
        self.chance = random.Random(7)
        self.home = [number % NODES for number in range(DOMAINS)]
        self.hard: dict[tuple[str, int], str] = {}
        self.soft: dict[str, str] = {}

    def snapshot(self, memory_map: str) -> Any:
        del memory_map
        begun = cpu_s()
        line = json.dumps(self._raw())
        self.own_s += cpu_s() - begun
        # what comes over the line is text: JSON, as the agent sends it
        return json.loads(line)

    def boot_log(self) -> BootLog:
        return BootLog("", b"")

    def hold(self, name: str, uuid: str, vcpu: int, before: str, held: str) -> None:
        del name, before
        self.hard[uuid, vcpu] = held

    def let_go(self, uuid: str, vcpu: int) -> None:
        self.hard.pop((uuid, vcpu), None)

    def set_affinity(self, name: str, vcpu: int, hard: str, soft: str) -> None:
        del vcpu, hard
        self.soft[name] = soft

    def manage(self, who: str) -> None: ...

    def set_memory(self, name: str, uuid: str, target_mib: int) -> None:
        raise NotImplementedError

    def move(self, order: dict[str, Any]) -> None:
        raise NotImplementedError

    def end_move(self, token: str) -> None:
        raise NotImplementedError

    def halt(self, why: str | None) -> None: ...

    def reserve(self, token: str, expected_generation: str, reservation: dict[str, Any]) -> None: ...

    def release(self, token: str) -> None: ...

    def create(self, name: str, uuid: str, config: str, limit_s: float) -> None: ...

    def unpause(self, name: str) -> None: ...

    def destroy(self, name: str, uuid: str) -> None: ...

    def beat(self) -> None: ...

    def close(self) -> None: ...

    def _raw(self) -> dict[str, Any]:
        """What the agent answers."""
        domains = ["Name ID Mem VCPUs State Time(s) UUID Reason-Code Security-Label Cpupool NODE-Affinity"]
        vcpus = ["Name ID VCPU CPU State Time(s) Affinity (Hard / Soft)"]
        times, dump = {}, ["(XEN) 'u' pressed -> dumping numa info (now = 1)"]
        dump += [f"(XEN) NODE{node} start->0 size->{NODE_MIB * 256} free->1000000" for node in range(NODES)]
        dump.append("(XEN) Memory location of each domain:")
        for number, home in enumerate(self.home, start=1):
            uuid, name = f"00000000-0000-4000-8000-{number:012d}", f"guest{number}"
            busy_s = self.now_s * (0.1 + 0.3 * (number % 3 == 0))
            domains.append(f"{name} {number} 1024 {VCPUS} -b---- {busy_s:.1f} {uuid} - - Pool-0 {home}")
            first = home * CPUS_PER_NODE
            times[number] = [round(busy_s * 1e9 / VCPUS)] * VCPUS
            for vcpu in range(VCPUS):
                held = self.hard.get((uuid, vcpu))
                away = held is None and self.chance.random() < 0.05
                cpu = self.chance.randrange(NODES * CPUS_PER_NODE) if away else first + (number + vcpu) % CPUS_PER_NODE
                soft = self.soft.get(name, f"{first}-{first + CPUS_PER_NODE - 1}")
                vcpus.append(f"{name} {number} {vcpu} {cpu} -b- {busy_s:.1f} {held or 'all'} / {soft}")
            dump.append(f"(XEN) Domain {number} (total: {PAGES}):")
            dump += [f"(XEN)     Node {node}: {PAGES if node == home else 0}" for node in range(NODES)]
        cpus = NODES * CPUS_PER_NODE
        return {
            "taken_at": self.now_s,
            "host_id": "benchmark",
            "generation": "1-0",
            "reservations": [],
            "domains": "\n".join(domains),
            "vcpus": "\n".join(vcpus),
            "cpupools": f"Name               CPU list\nPool-0             {','.join(map(str, range(cpus)))}",
            "info": INFO,
            "configs": {number: {"type": "pvh", "max_memkb": 1 << 20} for number in range(1, DOMAINS + 1)},
            "measured": {"pcpu_idle_ns": [round(self.now_s * 5e8)] * cpus, "vcpu_time_ns": times},
            "memory_map": {"age_s": 1.0, "duration_s": 0.1, "text": "\n".join(dump)},
        }


def _info() -> str:
    lines = ["release : 6.1", f"nr_cpus : {NODES * CPUS_PER_NODE}", f"nr_nodes : {NODES}", "virt_caps : pv hvm hap"]
    lines += [f"total_memory : {NODES * NODE_MIB}", "free_memory : 700000", "outstanding_claims : 0"]
    lines += ["cpu_topology :", "cpu: core socket node"]
    for node in range(NODES):
        lines += [f"{node * CPUS_PER_NODE + cpu}: {cpu // 2} {node} {node}" for cpu in range(CPUS_PER_NODE)]
    lines += ["numa_info :", "node: memsize memfree distances"]
    for node in range(NODES):
        distances = ",".join("10" if node == other else "20" for other in range(NODES))
        lines.append(f"{node}: {NODE_MIB} 90000 {distances}")
    lines += ["xen_major : 4", "xen_minor : 17", "xen_version : 4.17.7", "xen_scheduler : credit2"]
    return "\n".join(lines) + "\n"


INFO = _info()


class QuickHost(XenHost):
    """The host as the manager has it; waiting takes none of our time. `marks`: CPU time used when each wait began."""

    def __init__(self) -> None:
        self.dom0 = TableChannel()
        self.marks: list[float] = []
        super().__init__("xen:///", "benchmark", self.dom0)

    def wait(self, seconds: float, progress: Callable[[float], None] = no_progress) -> None:
        self.marks.append(cpu_s() - self.dom0.own_s)
        self.dom0.now_s += seconds
        progress(seconds)


def cpu_s() -> float:
    """CPU time of this process, whoever else is on the machine: user and system (getrusage(2))."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure() -> Found:
    """Rounds in a process of their own."""
    made = subprocess.run([sys.executable, "-m", "benchmarks.manager"], stdout=subprocess.PIPE, check=True, text=True)
    round_s, worst_s, mib = map(float, made.stdout.split())
    share = round_s / INTERVAL_S
    table = Table("what", "figure", title=TITLE)
    table.add_row("CPU time of a round, mean", f"{1e3 * round_s:.0f} ms")
    table.add_row("of the longest", f"{1e3 * worst_s:.0f} ms")
    table.add_row("peak memory", f"{mib:.0f} MiB")
    rows = [
        ("one CPU that domicile run takes, 200 domains, every 5 s", f"{share:.2%}", "under 1 %"),
        ("its memory", f"{mib:.0f} MiB", "under 150 MiB"),
    ]
    return Found(rows=rows, tables=[table])


def main() -> None:
    """The rounds; prints CPU seconds of a round (mean, longest) and the peak of memory in MiB."""
    mandate = Mandate(interval_s=INTERVAL_S)
    with (
        tempfile.TemporaryDirectory() as folder,
        Journal(Path(folder) / "journal.sqlite", "benchmark") as journal,
        QuickHost() as host,
    ):
        calm_collector()
        Daemon(
            Balancer(host, journal, Intent(mandate=mandate)),
            "a benchmark",
            lambda: Intent(mandate=mandate),
            Told(),
            Supervisor(),
        ).run(ROUNDS)
        begun = host.marks[::LOOKS]
    taken = [after - before for before, after in pairwise(begun)]
    steady = taken[2:]
    print(sum(steady) / len(steady), max(steady), peak_mib())


if __name__ == "__main__":
    main()
