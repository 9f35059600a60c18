"""vCPUs that share a core while other cores are idle, and could be had.

credit2 looks for an idle core when a vCPU wakes up, and leaves who runs where it is (`runq_tickle`,
xen/common/sched/credit2.c, 4.17): two that never sleep and once came to share a core share it for ever, each at little
more than half of its speed. A vCPU whose affinity is set looks for a place anew, also where nothing changes by it
(`vcpu_set_affinity`, xen/common/sched/core.c, 4.17).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from domicile.policies.scheduling.watch import Vcpu, Watch
from domicile.state.model import Snapshot
from domicile.topology.model import by_core

__all__ = ["sharing_needlessly"]

MOST = 8
"""vCPUs that look for another place in a round."""


def sharing_needlessly(
    snapshot: Snapshot, watch: Watch, cells: Iterable[frozenset[int]], movable: Collection[Vcpu]
) -> frozenset[Vcpu]:
    """Of `movable`, one vCPU of each core on which several never sleep, as many as there are cores in the same cell on
    which nobody runs; `MOST` at once. `watch` has this snapshot folded in."""
    if not movable or not watch.steady:
        return frozenset()
    runs = {vcpu.pcpu for domain in snapshot.domains for vcpu in domain.vcpus if vcpu.running}
    steady = {
        vcpu.pcpu: (domain.uuid, vcpu.id)
        for domain in snapshot.domains
        for vcpu in domain.vcpus
        if (domain.uuid, vcpu.id) in watch.steady
    }
    cores = by_core(snapshot.topology.cpus)
    found: list[Vcpu] = []
    for cell in cells:
        whole = [cpus for cpus in cores if cell.issuperset(cpus)]
        idle = sum(runs.isdisjoint(cpus) for cpus in whole)
        for cpus in whole:
            sharing = [steady[cpu] for cpu in cpus if cpu in steady]
            ours = [each for each in sharing if each in movable]
            if idle and len(sharing) > 1 and ours:
                found.append(ours[-1])
                idle -= 1
    return frozenset(found[:MOST])
