"""Devices with traffic: where their DMA goes, and what crosses nodes on its way (roadmap 1d and 1e).

A device that is passed through to a domain reads and writes the domain's own pages. Any other belongs to Dom0, whose
backend serves the domain: the device reads and writes Dom0's buffers (`memory.boot`, where they are is a policy), and
Dom0's vCPUs copy between these and the domain's pages, as netback does with grant copies.

A domain's traffic goes on for as long as it runs, and is no more than what the ways of its DMA carry (the machine's
bandwidth between the device's node and that of the memory), shared in proportion. Half of it are reads. What distance
costs the domain is the performance model's term for devices: `bound` is what it loses when the device is as much
further away as local memory's latency is long.

Left out: the CPU time of backends and interrupts (give Dom0 a busier workload), that interrupts of a device of Dom0
are taken where Dom0 runs (the half of the cost that goes with vCPUs goes with the domain's), and blkback's mapping of
grants, by which a disk reads and writes the domain's pages even through Dom0.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from domicile.performance.machine import Machine
from domicile.simulator.guests import GuestSpec
from domicile.simulator.host_memory import HostMemory
from domicile.topology.model import Topology

__all__ = ["DeviceTraffic", "IoLoad"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class IoLoad:
    """The devices' traffic in an epoch: `gbs` and `remote` (D: what each domain's device moves, the share of it between
    two nodes); for the performance model `dma_gbs` and `dma_share` (R x N) and `copied` (N x N, by Dom0's CPUs)."""

    gbs: Floats
    remote: Floats
    dma_gbs: Floats
    dma_share: Floats
    copied: Floats


class DeviceTraffic:
    """The devices of a simulation's D domains, which have R rows in the performance model."""

    def __init__(self, topology: Topology, guests: Sequence[GuestSpec], domain_of_row: npt.NDArray[np.intp]) -> None:
        node_of = {device.address: device.node for device in topology.devices}
        self._guests = guests
        self._bandwidth = Machine.of(topology).bandwidth_gbs
        self._domain_of_row = domain_of_row
        self._node: dict[int, int] = {}
        for number, guest in enumerate(guests):
            node = None if guest.io is None else node_of.get(guest.io.device)
            if node is not None:
                self._node[number] = topology.node_index[node]
        bound = [0.0 if guest.io is None else guest.io.bound for guest in guests]
        self.bound: Floats = np.array(bound)[domain_of_row]

    def __bool__(self) -> bool:
        """Whether there is a device with traffic."""
        return bool(self._node)

    def load(self, memory: HostMemory, running: Collection[int], busy: Floats) -> IoLoad | None:
        """The traffic of the domains that run (their numbers); `busy` (D x N): vCPUs' worth of time that each had, Dom0
        first. None where there is no device with traffic."""
        doing = [number for number in self._node if number in running]
        if not doing:
            return None
        domains, nodes = busy.shape
        gbs, remote = np.zeros(domains), np.zeros(domains)
        buffers = np.zeros((domains, nodes))
        for number in doing:
            guest = self._guests[number]
            if guest.io is not None:
                gbs[number] = guest.io.gbs
                through = guest.io.device in guest.devices
                buffers[number] = memory.page_share(guest.name) if through else memory.dma_share(guest.io.device)
        gbs *= self._carried(gbs, buffers)
        copied = np.zeros((nodes, nodes))
        copier = busy[0] / max(float(busy[0].sum()), 1e-9)
        for number in doing:
            guest = self._guests[number]
            remote[number] = 1.0 - buffers[number, self._node[number]]
            if guest.io is not None and guest.io.device not in guest.devices:
                both = buffers[number] + memory.page_share(guest.name)
                copied += gbs[number] * copier[:, None] * both[None, :]
        rows = len(self._domain_of_row)
        parts = np.bincount(self._domain_of_row, minlength=domains)
        dma_gbs = np.zeros((rows, nodes))
        for row, number in enumerate(self._domain_of_row.tolist()):
            if number in self._node:
                dma_gbs[row, self._node[number]] = gbs[number] / parts[number]
        return IoLoad(gbs, remote, dma_gbs, buffers[self._domain_of_row], copied)

    def _carried(self, gbs: Floats, buffers: Floats) -> Floats:
        """The share of each domain's traffic that the ways of its DMA carry."""
        wanted = np.zeros_like(self._bandwidth)
        for number, node in self._node.items():
            wanted[node] += gbs[number] * buffers[number]
        carried = np.minimum(self._bandwidth / np.maximum(wanted, 1e-9), 1.0)
        share = np.ones(len(gbs))
        for number, node in self._node.items():
            used = buffers[number] > 0
            if used.any():
                share[number] = carried[node][used].min()
        return share
