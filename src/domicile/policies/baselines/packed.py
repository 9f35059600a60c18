"""Packed: the fewest nodes, and of these the most used.

Source: OpenStack Nova, `[compute] packing_host_numa_cells_allocation_strategy = true` (`numa_fit_instance_to_host`,
nova/virt/hardware.py, 24.0.0 (Xena) and later; doc/source/admin/cpu-topologies.rst): the host's cells are sorted by
available memory, then, stably, by vCPUs in use, so that those more used come first, and the first combination that fits
is taken. A guest cell never has more vCPUs than its host cell has CPUs.

What differs: Nova is told how many cells a guest has (`hw:numa_nodes`), here it is the fewest that have the memory and
a pCPU for each vCPU (the memory alone, where no set has the pCPUs: Nova refuses that). Memory and vCPUs need not fit
in equal parts. Nova's limit on vCPUs by the allocation ratio is left out, and so are PCI devices as a reason to sort.
"""

from __future__ import annotations

from collections.abc import Sequence

from domicile.policies.baselines.sets import first_set
from domicile.policies.baselines.turns import Pick, Turn, in_turn

__all__ = ["place", "sorted_nodes"]


def sorted_nodes(
    nodes: Sequence[int], vcpus: Sequence[float], free_mib: Sequence[int], *, pack: bool
) -> tuple[int, ...]:
    """Nova's order of these nodes: by vCPUs in use, then by memory available; the most used first to `pack`."""
    by_memory = sorted(nodes, key=lambda node: free_mib[node], reverse=not pack)
    return tuple(sorted(by_memory, key=lambda node: vcpus[node], reverse=pack))


def _packed(turn: Turn) -> Pick | None:
    order = sorted_nodes(turn.eligible, turn.vcpus.tolist(), turn.free_mib, pack=True)
    nodes = first_set(turn, order, turn.request.vcpus) or first_set(turn, order)
    return Pick(nodes, "the fewest nodes, and of these the most used") if nodes else None


place = in_turn("packed", _packed)
"""Where packing puts these guests, one after the other."""
