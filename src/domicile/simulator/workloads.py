"""What guests do: the workloads that a scenario can name, each with the source of its figures.

A workload says how much CPU a vCPU wants over time (`demand`) and what it does to memory while it runs. Figures are per
busy vCPU, for one that nothing slows. `source` says what is published, and by whom; everything after "assumed:" in it
is no more than plausible, and so are, of every workload, `dirty_mib_s` and `messages_per_s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["PATTERNS", "WORKLOADS", "Demand", "Workload"]

PATTERNS = ("constant", "on-off", "diurnal")
"""What a demand over time can be; a trace is not among them. Only names here: who reads them needs no compiler."""


@dataclass(frozen=True, slots=True)
class Demand:
    """CPU demand of a vCPU over time.

    `level`: share of a pCPU that it wants (while on, or on average, or as a factor to its trace). `closed`: it waits
    for its own results, so that slowness shows as less work instead of as a queue. On-off: mean `on_s` and `off_s`.
    Diurnal: `amplitude` as a share of the level, highest at `peak_h` o'clock; simulated time starts at midnight.
    A guest that follows a recorded VM takes its demand from there.
    """

    pattern: str = "constant"
    level: float = 1.0
    closed: bool = True
    on_s: float = 1.0
    off_s: float = 1.0
    amplitude: float = 0.5
    peak_h: float = 14.0


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload.

    `memory_bound`: share of its time that is memory latency, all local and idle. `traffic_gbs`: memory traffic of a
    busy vCPU, `read_fraction` of it reads. `cache_mib`: what it would keep in a node's last-level cache. `working_set`:
    share of its memory that it uses at all; `hot_memory` of that gets `hot_accesses` of the accesses. `dirty_mib_s`:
    memory that a busy vCPU writes to for the first time, a second (what a copy of a running guest runs after).
    `messages_per_s`: round trips to each of its peers for each busy vCPU.
    """

    name: str
    source: str
    demand: Demand = field(default_factory=Demand)
    memory_bound: float = 0.4
    traffic_gbs: float = 1.0
    read_fraction: float = 0.67
    cache_mib: float = 0.0
    working_set: float = 1.0
    hot_memory: float = 1.0
    hot_accesses: float = 1.0
    dirty_mib_s: float = 20.0
    messages_per_s: float = 0.0


WORKLOADS: Mapping[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload(
            "idle",
            "assumed: all of it; a guest's timers and daemons",
            Demand(level=0.01, closed=False),
            memory_bound=0.1,
            traffic_gbs=0.2,
            working_set=0.1,
            dirty_mib_s=1.0,
        ),
        Workload(
            "dom0",
            "xentrace of the lab's Dom0, which nobody asks anything: wake-ups of more than 5 ms; assumed: the rest",
            Demand(pattern="on-off", level=1.0, closed=False, on_s=0.019, off_s=1.1),
            memory_bound=0.2,
            traffic_gbs=0.5,
            working_set=0.5,
        ),
        Workload(
            "busy",
            "the lab's tiny guest computes and touches half of its memory (domicile.lab.guests); assumed: the rest",
            Demand(),
            working_set=0.5,
        ),
        Workload(
            "specjbb",
            "SPECjbb2005 saturates its vCPUs; memory_bound so that the 14.6 % of Faggioli (Xen commit ebce2d836c, 2 "
            "VMs) are gained when half the accesses stop being remote, on 2 nodes whose remote latency is 1.6 to 1.95 "
            "times the local one (0.31 to 0.49); assumed: traffic, cache, working set and hot part",
            Demand(),
            memory_bound=0.4,
            traffic_gbs=1.0,
            cache_mib=4.0,
            working_set=0.8,
            hot_memory=0.2,
            hot_accesses=0.7,
            dirty_mib_s=100.0,
        ),
        Workload(
            "stream",
            "McCalpin's STREAM: Triad reads two arrays and writes one, which is read first where stores allocate "
            "(Hager, 'The McCalpin STREAM benchmark'): 3 reads of 4; one core of the presets' Xeons reads 8 to 14 GB/s "
            "and writes 5 to 6 (MCTOP), so 8 together; assumed: that nine tenths of its time is memory",
            Demand(),
            memory_bound=0.9,
            traffic_gbs=8.0,
            read_fraction=0.75,
            dirty_mib_s=2000.0,
        ),
        Workload(
            "sysbench-memory",
            "sysbench --test=memory writes by default; memory_bound so that the 12.9 % of Faggioli (Xen commit "
            "ebce2d836c, 2 VMs) are gained as for specjbb (0.27 to 0.43); what is written is read first, so half are "
            "reads; assumed: traffic and working set",
            Demand(),
            memory_bound=0.36,
            traffic_gbs=0.6,
            read_fraction=0.5,
            working_set=0.1,
            dirty_mib_s=500.0,
        ),
        Workload(
            "kernel-build",
            "assumed: all of it; compilers compute and read files in turn, and mostly find their data in the cache",
            Demand(pattern="on-off", on_s=2.0, off_s=0.2),
            memory_bound=0.15,
            traffic_gbs=0.6,
            cache_mib=2.0,
            working_set=0.5,
            hot_memory=0.2,
            hot_accesses=0.9,
            dirty_mib_s=60.0,
        ),
        Workload(
            "key-value",
            "a cache server, to which requests come whether or not there is CPU for them: 30 gets for a set, strong "
            "locality of keys (Atikoglu et al., 'Workload Analysis of a Large-Scale Key-Value Store', SIGMETRICS "
            "2012); assumed: all figures, among them that a tenth of the memory gets nine tenths of the accesses",
            Demand(level=0.3, closed=False),
            memory_bound=0.5,
            traffic_gbs=1.5,
            read_fraction=0.8,
            working_set=1.0,
            hot_memory=0.1,
            hot_accesses=0.9,
            dirty_mib_s=40.0,
        ),
        Workload(
            "web",
            "the front tier of an auction site that asks the tier behind it, as in RUBiS (Cecchet, Marguerite and "
            "Zwaenepoel, 'Performance and Scalability of EJB Applications', OOPSLA 2002); assumed: all figures",
            Demand(pattern="on-off", level=0.7, closed=False, on_s=0.5, off_s=0.5),
            memory_bound=0.25,
            traffic_gbs=0.7,
            cache_mib=2.0,
            working_set=0.6,
            hot_memory=0.2,
            hot_accesses=0.8,
            messages_per_s=20000.0,
        ),
        Workload(
            "database",
            "the tier behind `web`: fewer bursts, more memory; assumed: all figures",
            Demand(level=0.5, closed=False),
            memory_bound=0.45,
            traffic_gbs=1.5,
            cache_mib=4.0,
            working_set=0.9,
            hot_memory=0.2,
            hot_accesses=0.8,
            dirty_mib_s=60.0,
            messages_per_s=20000.0,
        ),
        Workload(
            "office-hours",
            "load that repeats every day, as enterprise loads do (Gmach, Rolia, Cherkasova and Kemper, 'Workload "
            "Analysis and Demand Prediction of Enterprise Data Center Applications', IISWC 2007); assumed: all "
            "figures, by which it is three times as high from 9 to 17 o'clock as from 22 to 6",
            Demand(pattern="diurnal", level=0.3, closed=False, amplitude=0.6, peak_h=14.0),
            memory_bound=0.3,
            traffic_gbs=0.8,
        ),
    )
}
"""By name."""
