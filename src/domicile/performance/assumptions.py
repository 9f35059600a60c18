"""The constants of the performance model, each with its source; none is hidden elsewhere, and all can be changed."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT", "Assumptions"]


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the model takes for granted where the host does not tell.

    `local_latency_ns`: idle latency of local memory, and what distance 10 stands for; measured servers have 78 to 107
    ns (Broadwell, Cascade Lake, Genoa with Intel MLC). Latency is taken to be proportional to SLIT distance.

    `memory_bound`: the share of a domain's time that grows with memory latency. From Faggioli's table (Xen commit
    ebce2d836c, 2 VMs on 2 nodes): SPECjbb2005 gains 14.6 % and sysbench memory 12.9 % when half the accesses stop
    being remote; on 2-node Xeons, whose remote latency is 1.6 to 1.95 times the local one, that is 0.3 to 0.5.

    `smt_yield`: what a core's second busy thread adds to its throughput. Marr et al., "Hyper-Threading Technology
    Architecture and Microarchitecture", Intel Technology Journal 6(1), 2002: 16 to 28 % on server loads.

    `displaced`: what a vCPU loses that runs on another node because its own has no pCPU left: remote memory at about
    distance 20, and cold caches. An assumption.

    `company`: what a node full of other domains' vCPUs costs even where there are cores for all (shared caches, clock
    that falls with the number of busy cores, moments when more are busy than on average). It is an assumption; its
    job is that of two nodes with room the emptier is better.

    `traffic_gbs`: memory traffic of one busy vCPU. An assumption: data-centre loads use a small part of the peak
    (Kanev et al., "Profiling a warehouse-scale computer", ISCA 2015).

    `core_bandwidth_gbs`: a node's memory bandwidth for each of its cores where nobody measured: 3.3 to 4.3 on Ivy
    Bridge, Haswell-EX, Broadwell and Cascade Lake. Between nodes it is taken to be inversely proportional to distance
    (measured: 0.45 to 0.53 of the local one on 2-node Xeons, whose SLIT says 20 or 21).

    `pressure_linear`, `pressure_bend`: latency under load grows by `linear * u + bend * u ** 6` of idle latency, until
    it ends at the peak (utilisation u = 1): fitted to Cascade Lake's measured curve, Broadwell's is then predicted to
    5 % (`loaded`). `lines_per_core`: cache lines that a core which streams keeps on the way, which is what latency at
    the peak comes from: 13 to 20 on 17 Xeons, Kunpeng 920 and Graviton 3, 5 to 6 on Zen 2 and an Atom. `saturated`:
    latency at the peak over idle latency where the number of cores is not known: 1.4 to 3.6 on 25 machines, this is the
    median. `saturated_most`: the most that it is taken to be where cores are known, as no machine had more.

    `read_fraction`: share of reads in memory traffic where nobody tells. An assumption.

    `write_cost`: how much more of a memory controller's peak a written byte takes than a read one, peaks being
    measured with reads (Intel MLC's mixes of reads and writes: 0.25 on Cascade Lake, 0.4 on Haswell, 0.5 on Broadwell
    and Ice Lake, 0.7 on Ivy Bridge and some Skylakes; on Genoa writes come on top instead).

    `cache_mib_per_core`: last-level cache, where the topology does not tell: 1.4 to 2.75 MiB on the machines measured.
    `cache_power`: misses grow with this power of the cache that is missing (Hartstein et al., "Cache miss behavior: is
    it square root of 2?", Computing Frontiers 2006: 0.5, 0.3 to 0.7 by load).

    `message_lines`: how often one round trip between domains waits for a cache line of the other's node. From
    ipc-bench's pipes on a 48-core Opteron under Xen with vCPUs pinned: 4.0 us more across packages than within a die,
    whose memory is 76 ns nearer.

    `own_share`: share of its accesses that a vCPU of a guest which sees its nodes (`vnuma=`) keeps within its own
    virtual node; the rest goes to all memory of the guest. An assumption: first touch leaves shared data, page cache
    and what was touched before a thread moved.

    `dom0_vcpu_demand`: how busy a vCPU of Dom0 is where the host does not tell. `vcpu_demand`: the same for other
    domains.

    `device_weight`: slowdown of a domain whose device is as much further away as local memory's latency is long.
    `backend_weight`: the same for a domain whose network and disks Dom0 serves, half of it by the distance to Dom0's
    vCPUs (they copy or map its buffers, and its event channels lead there), half by that to the device behind the
    backend (DMA to and from its memory). An assumption, a fifth of `device_weight`: how much of a guest's time is I/O
    is not known, and a device that is passed through says that it matters.
    `near_weight`: the same for a domain whose peers of a group (weight 1) are that much further away. `wish_weight`:
    what it counts, in slowdown, when a group's wish (together, apart; weight 1) is not met at all.

    `split_weight`: what it counts when a guest that one node has a core for each vCPU of gets several nodes. It is no
    slowdown of today's: vCPUs that find no pCPU at home can be lent to another node for as long as that has room, but
    memory that is divided stays so, and comes back only by a migration that a busy guest hardly can be given. Measured
    in simulation with guests that come and go (docs/gain.md).
    """

    local_latency_ns: float = 80.0
    memory_bound: float = 0.4
    smt_yield: float = 0.25
    displaced: float = 0.6
    company: float = 0.1
    traffic_gbs: float = 1.0
    core_bandwidth_gbs: float = 4.0
    pressure_linear: float = 0.49
    pressure_bend: float = 0.47
    lines_per_core: float = 17.0
    saturated: float = 2.2
    saturated_most: float = 3.6
    read_fraction: float = 0.75
    write_cost: float = 0.45
    cache_mib_per_core: float = 2.0
    cache_power: float = 0.5
    message_lines: float = 53.0
    own_share: float = 0.9
    dom0_vcpu_demand: float = 0.1
    vcpu_demand: float = 1.0
    device_weight: float = 0.5
    backend_weight: float = 0.1
    near_weight: float = 0.3
    wish_weight: float = 4.0
    split_weight: float = 1.0


DEFAULT = Assumptions()
