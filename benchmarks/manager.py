"""What the manager itself takes: `domicile run` on a host of 8 nodes and 200 domains, a round every 5 s.

The host answers as a Dom0's agent does (tables as text, JSON), and the manager decodes, folds, decides and journals as
always; what the agent takes in Dom0 is not in it.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.table import Table

from benchmarks.memory import peak_mib
from benchmarks.timing import Found
from domicile.hosts.actions import Action, Hold, LetGo, SetAffinity
from domicile.hosts.protocol import Capabilities, no_progress
from domicile.hosts.xen.assemble import assemble
from domicile.hosts.xen.cpu_list import format_list
from domicile.hosts.xen.raw import decode_raw
from domicile.manager.balance import LOOKS, Balancer
from domicile.manager.journal import Journal
from domicile.state.model import MemoryMapAge, Snapshot

__all__ = ["TITLE", "measure"]

TITLE = "the manager's own use, 200 domains on 8 nodes"
NODES, CPUS_PER_NODE, DOMAINS, VCPUS, NODE_MIB = 8, 16, 200, 4, 131072
INTERVAL_S, ROUNDS = 5.0, 24
PAGES = 1024 * 256


class TableHost:
    """A Dom0 whose guests run where they are at home, but for one in twenty vCPUs, which are elsewhere for a while."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.own_s = 0.0
        """CPU time that went into being a host."""
        self.chance = random.Random(7)
        self.home = [number % NODES for number in range(DOMAINS)]
        self.hard: dict[tuple[str, int], str] = {}
        self.soft: dict[str, str] = {}

    uri = "xen:///"

    def capabilities(self) -> Capabilities:
        return Capabilities(via="a benchmark", memory_map=True, node_affinity=True, pcpu_idle=True)

    def proximity_domains(self) -> dict[int, int]:
        return {}

    def snapshot(self, memory_map: MemoryMapAge = MemoryMapAge.NONE) -> Snapshot:
        del memory_map
        begun = time.process_time()
        line = json.dumps(self._raw())
        self.own_s += time.process_time() - begun
        # what comes over the line is text: JSON, as the agent sends it
        return assemble(decode_raw(json.loads(line), "benchmark"), "benchmark")

    def perform(self, action: Action) -> None:
        match action:
            case Hold():
                self.hard[action.uuid, action.vcpu] = format_list(action.cpus)
            case LetGo():
                self.hard.pop((action.uuid, action.vcpu), None)
            case SetAffinity() if action.soft is not None:
                self.soft[action.domain] = format_list(action.soft)
            case _:
                pass

    def wait(self, seconds: float, progress: Callable[[float], None] = no_progress) -> None:
        self.now_s += seconds
        progress(seconds)

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

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
            "cpupools": f"Name CPU list\nPool-0 {','.join(map(str, range(cpus)))}",
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
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.sqlite", "benchmark") as journal:
        host = TableHost()
        balancer = Balancer(host, journal)
        taken = []
        for _ in range(ROUNDS):
            begun = time.process_time() - host.own_s
            balancer.carry_out(balancer.decide(balancer.watch_for(INTERVAL_S, INTERVAL_S / LOOKS)))
            taken.append(time.process_time() - host.own_s - begun)
    steady = taken[2:]
    print(sum(steady) / len(steady), max(steady), peak_mib())


if __name__ == "__main__":
    main()
