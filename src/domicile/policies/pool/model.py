"""A pool of hosts, and the guests that are to find a place in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from domicile.performance.curves import Floats
from domicile.performance.machine import Machine

__all__ = ["PoolGuest", "PoolHost", "PoolPlan", "Refusal"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PoolHost:
    """A host of the pool: its machine, and for each of the N nodes, in the order of the topology, what is free (MiB),
    how many vCPUs are busy there, and how many domains they belong to. Memory of these domains is where they run."""

    name: str
    machine: Machine
    free_mib: tuple[int, ...]
    load_vcpus: tuple[float, ...]
    domains: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PoolGuest:
    """A guest: `demand_vcpus` is how many of its vCPUs want to run at once, `need_mib` its memory with overhead."""

    name: str
    demand_vcpus: float
    need_mib: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a guest (by its number) is nowhere: the most memory that one host had free for it then, and which host."""

    guest: int
    most_mib: int
    host: int


@dataclass(frozen=True, slots=True, eq=False)
class PoolPlan:
    """Where G guests are to live, in their order.

    `host`: G, the number of the host, -1 for none. `memory_mib`: G x (most nodes of a host), memory on each of its
    nodes by index. `member`: the same shape, which nodes are in the guest's set: its vCPUs' soft affinity. `objective`:
    G, what it added to the sum of the slowdowns on its host when it came. `slowdown`: G, its own predicted slowdown
    once all are there; both nan where it is nowhere. `weighed`: how many hosts were weighed in full.
    """

    host: Integers
    member: npt.NDArray[np.bool_]
    memory_mib: Integers
    objective: Floats
    slowdown: Floats
    refusals: tuple[Refusal, ...]
    weighed: int
