"""Where the domains' memory is, for the engine: MiB by node, hot and cold parts, and the shares of accesses."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from domicile.errors import NotEnoughMemory
from domicile.simulator.guests import GuestSpec, access_shares
from domicile.topology.model import Topology

__all__ = ["HostMemory"]

Floats = npt.NDArray[np.float64]


class HostMemory:
    """The memory of a host of N nodes (in the order of the topology)."""

    def __init__(self, topology: Topology) -> None:
        self._free = np.array([node.memory_mib for node in topology.nodes], dtype=np.float64)
        self._names = list(topology.node_ids)
        self._held: dict[str, Floats] = {}
        self._specs: dict[str, GuestSpec] = {}

    @property
    def free_mib(self) -> Floats:
        """Free memory of each node (N)."""
        return self._free.copy()

    def create(self, spec: GuestSpec, nodes: Collection[int]) -> None:
        """Take a new domain's memory from these nodes (rows), in turn, then silently from the others.

        Raises `NotEnoughMemory`.
        """
        if spec.memory_mib > self._free.sum():
            raise NotEnoughMemory(spec.name, spec.memory_mib, int(self._free.sum()))
        held = np.zeros_like(self._free)
        left = float(spec.memory_mib)
        for group in (sorted(nodes), [node for node in range(len(self._free)) if node not in nodes]):
            while left > 1e-9 and (some := [node for node in group if self._free[node] > 1e-9]):
                share = min(left / len(some), *(self._free[node] for node in some))
                for node in some:
                    held[node] += share
                    self._free[node] -= share
                    left -= share
        self._held[spec.name], self._specs[spec.name] = held, spec

    def destroy(self, name: str) -> None:
        """Give a domain's memory back."""
        self._free += self._held.pop(name)
        del self._specs[name]

    def held_mib(self, name: str) -> Floats:
        """A domain's memory on each node (N)."""
        return self._held[name]

    def by_node(self, name: str) -> Mapping[int, float]:
        """A domain's memory in MiB by node id, nodes without any left out."""
        return {self._names[node]: float(mib) for node, mib in enumerate(self._held[name]) if mib > 0}

    def accesses(self, name: str) -> Floats:
        """The share of a domain's accesses that goes to each node (N)."""
        workload, held = self._specs[name].workload, self._held[name]
        used = held * workload.working_set
        return access_shares(workload, used * workload.hot_memory, used * (1.0 - workload.hot_memory))
