"""Held vCPUs that are to look for a pCPU anew: they are held once more, with the same CPUs.

A vCPU whose affinity is set looks for a place anew, also where nothing changes by it (`vcpu_set_affinity`,
xen/common/sched/core.c, 4.17). Two kinds of vCPUs do not find one by themselves:

- Who shares a core. credit2 looks for an idle core when a vCPU wakes up, and leaves who runs where it is
  (`runq_tickle`, xen/common/sched/credit2.c, 4.17): two that never sleep and once came to share a core share it for
  ever, each at little more than half of its speed.
- Who is forgotten. A runnable vCPU has stood in the queue for minutes beside idle pCPUs, none of which was told of it
  (seen once, on Xen 4.17 under emulation).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice

from domicile.policies.scheduling.watch import Vcpu, Watch
from domicile.state.model import Snapshot
from domicile.topology.model import by_core

__all__ = ["looking_anew"]

MOST = 8
"""vCPUs that look for another place in a round."""

FORGOTTEN = "it waits, and others there are idle: it is to look for a pCPU anew"
SHARING = "it shares a core, and others there are idle: it is to look for one anew"


def looking_anew(
    snapshot: Snapshot, watch: Watch, cells: Iterable[frozenset[int]], movable: Collection[Vcpu]
) -> Mapping[Vcpu, str]:
    """Of `movable`, who is to look for a pCPU anew, and why: `MOST` at once. `watch` has this snapshot folded in."""
    if not movable or not (watch.steady or watch.starved):
        return {}
    cells, runs = tuple(cells), {vcpu.pcpu for domain in snapshot.domains for vcpu in domain.vcpus if vcpu.running}
    forgotten = _forgotten(_at(snapshot, watch.starved), cells, runs, movable)
    sharing = _sharing(snapshot, _at(snapshot, watch.steady), cells, runs, movable)
    found = [(each, FORGOTTEN) for each in forgotten] + [(each, SHARING) for each in sharing]
    return dict(islice(found, MOST))


def _at(snapshot: Snapshot, some: Collection[Vcpu]) -> list[tuple[int | None, Vcpu]]:
    """Where these vCPUs are."""
    return [
        (vcpu.pcpu, (domain.uuid, vcpu.id))
        for domain in snapshot.domains
        for vcpu in domain.vcpus
        if (domain.uuid, vcpu.id) in some
    ]


def _forgotten(
    starved: Iterable[tuple[int | None, Vcpu]],
    cells: Iterable[frozenset[int]],
    runs: Collection[int | None],
    movable: Collection[Vcpu],
) -> Iterator[Vcpu]:
    """As many of those that did not get to run as there are pCPUs in their cell on which nobody runs."""
    for cell in cells:
        idle = sum(cpu not in runs for cpu in cell)
        yield from [vcpu for cpu, vcpu in starved if cpu in cell and vcpu in movable][:idle]


def _sharing(
    snapshot: Snapshot,
    steady: Iterable[tuple[int | None, Vcpu]],
    cells: Iterable[frozenset[int]],
    runs: Collection[int | None],
    movable: Collection[Vcpu],
) -> Iterator[Vcpu]:
    """One vCPU of each core on which several never sleep, as many as there are cores in the same cell on which nobody
    runs."""
    on = dict(steady)
    cores = by_core(snapshot.topology.cpus)
    for cell in cells:
        whole = [cpus for cpus in cores if cell.issuperset(cpus)]
        idle = sum(not any(cpu in runs for cpu in cpus) for cpus in whole)
        for cpus in whole:
            sharing = [on[cpu] for cpu in cpus if cpu in on]
            ours = [each for each in sharing if each in movable]
            if idle and len(sharing) > 1 and ours:
                yield ours[-1]
                idle -= 1
