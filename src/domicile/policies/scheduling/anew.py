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

__all__ = ["looking_anew"]

MOST = 8
"""vCPUs that look for another place in a round."""

FORGOTTEN = "it waits, and others there are idle: it is to look for a pCPU anew"
SHARING = "it shares a core, and others there are idle: it is to look for one anew"


def looking_anew(
    snapshot: Snapshot,
    watch: Watch,
    cells: Iterable[frozenset[int]],
    cores: Collection[Collection[int]],
    movable: Collection[Vcpu],
) -> Mapping[Vcpu, str]:
    """Of `movable`, who is to look for a pCPU anew, and why: `MOST` at once. `watch` has this snapshot folded in;
    `cores`: CPU ids, core by core."""
    if not movable or not (watch.steady or watch.starved):
        return {}
    cells, runs = tuple(cells), set[int | None]()
    steady, starved = dict[int | None, Vcpu](), list[tuple[int | None, Vcpu]]()
    for domain in snapshot.domains:
        for vcpu in domain.vcpus:
            key = domain.uuid, vcpu.id
            if vcpu.running:
                runs.add(vcpu.pcpu)
            if key in watch.steady:
                steady[vcpu.pcpu] = key
            elif key in watch.starved:
                starved.append((vcpu.pcpu, key))
    forgotten = _forgotten(starved, cells, runs, movable)
    sharing = _sharing(cores, steady, cells, runs, movable)
    found = [(each, FORGOTTEN) for each in forgotten] + [(each, SHARING) for each in sharing]
    return dict(islice(found, MOST))


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
    cores: Collection[Collection[int]],
    on: Mapping[int | None, Vcpu],
    cells: Iterable[frozenset[int]],
    runs: Collection[int | None],
    movable: Collection[Vcpu],
) -> Iterator[Vcpu]:
    """One vCPU of each core on which several never sleep, as many as there are cores in the same cell on which nobody
    runs. `on`: who never sleeps, by pCPU."""
    for cell in cells:
        whole = [cpus for cpus in cores if cell.issuperset(cpus)]
        idle = sum(not any(cpu in runs for cpu in cpus) for cpus in whole)
        for cpus in whole:
            sharing = [on[cpu] for cpu in cpus if cpu in on]
            ours = [each for each in sharing if each in movable]
            if idle and len(sharing) > 1 and ours:
                yield ours[-1]
                idle -= 1
